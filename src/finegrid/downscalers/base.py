"""What a downscaler is: coarse Dataset in, fine ensemble Dataset out, in the user's own names.

A variant says how it learns from a pair (`_learn`) and what it makes of coarse fields (`_fields`); everything that
must hold for all of them is here: names, units, grids and times are checked and brought back, missing coarse cells
stay missing, the constraint is applied in physical units and last, and long records pass through in blocks of times.

Files open lazily, so `predict_blocks` keeps memory bounded however long the record is.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones.blocks import repeated
from finegrid.bridge import Layout, to_dataset, to_tensor
from finegrid.conventions import InputError, check_values, restore
from finegrid.conventions.errors import provenance
from finegrid.data.adjustment import Adjustment, adjustment
from finegrid.data.pairs import Pair, pair
from finegrid.data.splits import Indices, check_training_times, folds
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.fitting import Fitting, teachable, time_blocks
from finegrid.downscalers.store import digest, save

State = tuple[dict[str, Any], dict[str, Tensor]]

_ADJUST = "adjust/"
# Blocks of times that are left out in turn where a relaxed constraint learns its strength.
_FOLDS = 6
# Fine values in a block of times: 32 MiB of float32, small beside any network's own memory.
_BLOCK_VALUES = 1 << 23


@dataclass(kw_only=True)
class Downscaler(ABC):
    """Options that all downscalers share.

    Args:
        variables: fine names to predict, mapped to coarse names where these differ; None is all that both files have.
        predictors: further coarse variables to learn from.
        constraint: name of a constraint, or `{name: ..., **arguments}`.
        adjust: name of a bias adjustment of the coarse fields, or `{name: ..., **arguments}`; None for none.
    """

    variables: Mapping[str, str] | Sequence[str] | None = None
    predictors: Sequence[str] = ()
    constraint: str | Mapping[str, Any] = "none"
    adjust: str | Mapping[str, Any] | None = None
    _domain: Domain | None = field(default=None, init=False, repr=False)
    _conservation: Conservation | None = field(default=None, init=False, repr=False)
    _adjustment: Adjustment | None = field(default=None, init=False, repr=False)

    name: ClassVar[str]
    learns: ClassVar[bool] = True
    validates: ClassVar[bool] = False

    def fit(
        self,
        coarse: xr.Dataset,
        fine: xr.Dataset,
        *,
        static: xr.Dataset | Sequence[xr.Dataset] | None = None,
        validate: float | xr.DataArray = 0.1,
        folder: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> Self:
        """Learn from coarse and fine fields of the same times.

        Args:
            coarse: coarse fields (time, y, x) in any names.
            fine: fine fields (time, y, x) in any names.
            static: fields without time on any grid, such as elevation.
            validate: part of the times, the last ones, or the times themselves, that choose when to stop; 0 for none.
            folder: where long fits keep their log and checkpoints.
            resume: go on from a checkpoint in `folder`.
            progress: show a progress bar.

        Raises:
            InputError: when the two do not fit together; says how to mend it.
        """
        self.__dict__ = vars(type(self)(**self.options))  # what it learnt before is of another pair
        matched = teachable(pair(coarse, fine, variables=self.variables, predictors=self.predictors))
        check_training_times(np.arange(len(matched.coarse.time)), matched.coarse.time)
        fit_block, validate_block = time_blocks(matched.coarse.time, validate if self.validates else 0.0)
        self._adjustment = adjustment(self.adjust)
        if self._adjustment is not None:
            matched = replace(matched, coarse=self._adjustment.fit(matched.at(fit_block))(matched.coarse))
        self._settle(matched.at(fit_block))
        how = Fitting(static, None if folder is None else Path(folder), resume, progress)
        self._learn(matched, fit_block, validate_block, how)
        if self.conservation.learns:
            self._learn_strength(matched, fit_block, validate_block)
        return self

    def predict(self, coarse: xr.Dataset, *, members: int = 1, seed: int = 0) -> xr.Dataset:
        """Fine fields (member, time, y, x) in the fine file's names, units and order.

        Args:
            coarse: coarse fields as in training; their times need not be.
            members: size of the ensemble; a downscaler without randomness gives equal members.
            seed: of the randomness.
        """
        blocks = list(self.predict_blocks(coarse, members=members, seed=seed))
        return xr.concat(
            blocks,
            dim=self.domain.names.time,
            data_vars="minimal",
            coords="minimal",
            join="override",
            compat="override",
            combine_attrs="override",
        )

    def predict_blocks(self, coarse: xr.Dataset, *, members: int = 1, seed: int = 0) -> Iterator[xr.Dataset]:
        """The same in consecutive blocks of times, for records that do not fit in memory."""
        if members < 1:
            raise InputError(f"got members={members}; expected at least 1; set --members 1")
        domain, source = self.domain, provenance(coarse, otherwise="the coarse input")
        given = self.read(coarse, source=source)
        for block, inner in self._windows(given.time, members):
            fields = given.isel(time=block).load()
            check_values(fields, source=source, part=fields.sizes["time"] < given.sizes["time"])
            fine = self._known(self._members(fields, members, seed), fields)[:, inner]
            time = fields.time[inner]
            dataset = to_dataset(fine, self._bare_layout(), time)
            yield restore(domain.described(dataset), domain.names)

    def read(self, coarse: xr.Dataset, *, source: str = "input") -> xr.Dataset:
        """Coarse fields as the downscaler works with them: on its cells, in its units, adjusted; lazily."""
        fields = self.domain.inputs.read(coarse, source=source)
        return fields if self._adjustment is None else self._adjustment(fields)

    def fields(self, coarse: xr.Dataset) -> Tensor:
        """Constrained fine fields (time, output, H, W) of standard coarse fields, in physical units."""
        return self.conservation.project(self._fields(coarse), self.conservation.given(coarse))

    def out_of_fold(self, matched: Pair, blocks: Sequence[Indices]) -> Tensor:
        """Fine fields of every block by a copy that learnt from the other blocks: honest on the training times."""
        count = len(matched.coarse.time)
        result = torch.empty(count, len(matched.variables), *matched.grid.shape)
        for block in blocks:
            others = np.setdiff1d(np.arange(count), block)
            apprentice = copy.copy(self)
            apprentice._learn(matched.at(others), np.arange(len(others)), np.arange(0), Fitting())
            result[torch.as_tensor(block)] = apprentice.fields(matched.coarse.isel(time=block))
        return result

    @property
    def domain(self) -> Domain:
        """Where and what it was fitted for.

        Raises:
            InputError: before `fit`.
        """
        if self._domain is None:
            raise InputError(f"this {type(self).__name__} has not learnt anything; call fit(coarse, fine) first")
        return self._domain

    @property
    def conservation(self) -> Conservation:
        """The constraint with the grids and numbers that it needs."""
        if self._conservation is None:
            raise InputError(f"this {type(self).__name__} has not learnt anything; call fit(coarse, fine) first")
        return self._conservation

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def save(self, folder: str | Path) -> None:
        """Write the model folder: weights as safetensors, everything else as JSON."""
        save(*self._described(), Path(folder))

    @property
    def digest(self) -> str:
        """SHA-256 of everything that a prediction depends on."""
        return digest(*self._described())

    def info(self) -> dict[str, Any]:
        """What a person wants to know about the model, as plain values."""
        return {"downscaler": self.name, "options": self.options, **self.domain.summary(), **self._summary()}

    def remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Become the downscaler of which these are the `state` in its model file and its tensors."""
        self._domain = Domain.from_dict(plain["domain"])
        self._conservation = Conservation.from_dict(plain["conservation"], self._domain)
        self._adjustment = adjustment(self.adjust)
        if self._adjustment is not None:
            self._adjustment.numbers = {
                name.removeprefix(_ADJUST): each.numpy() for name, each in tensors.items() if name.startswith(_ADJUST)
            }
        self._remember(plain, tensors)
        return self

    def _described(self) -> State:
        plain, tensors = self._learnt()
        state = {"domain": self.domain.to_dict(), "conservation": self.conservation.to_dict(), **plain}
        if self._adjustment is not None:
            learnt = self._adjustment.numbers
            tensors = {**tensors, **{f"{_ADJUST}{name}": torch.from_numpy(each) for name, each in learnt.items()}}
        return {"downscaler": self.name, "options": self.options, "state": state}, tensors

    @abstractmethod
    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        """Learn from the times of `fit_block`; `validate_block` may be empty."""

    @abstractmethod
    def _fields(self, coarse: xr.Dataset) -> Tensor:
        """Fine fields (time, output, H, W) before the constraint."""

    def _learnt(self) -> State:
        return {}, {}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take back what `_learnt` gave."""
        return

    def _summary(self) -> dict[str, Any]:
        return {}

    def _members(self, coarse: xr.Dataset, members: int, seed: int) -> Tensor:
        """Constrained fine fields (member, time, output, H, W)."""
        single = self.fields(coarse)
        return single[None].expand(members, *single.shape)

    def _known(self, fine: Tensor, coarse: xr.Dataset) -> Tensor:
        """The fields without the fine cells of missing coarse cells, of which nobody knows anything."""
        known = torch.isfinite(to_tensor(coarse, self.domain.outputs))
        return fine if known.all() else torch.where(repeated(known, self.domain.factor), fine, torch.nan)

    @property
    def _reach(self) -> int:
        """Neighbouring time steps on either side that a prediction looks at."""
        return 0

    def _settle(self, matched: Pair) -> None:
        """Fix the domain and the constraint, before anything is learnt."""
        self._domain = Domain.of(matched)
        self._conservation = Conservation.of(self.constraint, matched, self._domain)

    def _learn_strength(self, matched: Pair, fit_block: Indices, validate_block: Indices) -> None:
        """How strong a relaxed constraint should be, on times that the raw fields have not learnt from."""
        if self.validates and not len(validate_block):
            raise InputError(
                "a constraint of learned strength needs validation times; expected some; set validate=0.1 or "
                "data.split.validate, or give the strength: {name: relaxed, strength: 0.5}"
            )
        if self.validates:
            part = matched.at(validate_block)
            raw = self.fields(part.coarse)
        else:
            part = matched.at(fit_block)
            raw = self.out_of_fold(part, folds(len(fit_block), _FOLDS)) if self.learns else self.fields(part.coarse)
        truth = to_tensor(part.fine, self.domain.outputs)
        weight = torch.as_tensor(self.domain.grid.weights.copy())
        self.conservation.learn(raw, self.conservation.given(part.coarse), truth, weight)

    def _bare_layout(self) -> Layout:
        """The channels and grids of the domain, without features."""
        domain = self.domain
        return Layout(
            outputs=domain.outputs,
            inputs=domain.inputs.channels,
            units=domain.inputs.units,
            grid=domain.grid,
            coarse_grid=domain.inputs.grid,
            factor=domain.factor,
        )

    def _windows(self, time: xr.DataArray, members: int) -> Iterator[tuple[slice, slice]]:
        """Blocks of times with the neighbours that a prediction needs, and which part of each is the block itself."""
        cells = self.domain.grid.size * len(self.domain.outputs) * members
        size = max(1, min(512, _BLOCK_VALUES // cells))
        for start in range(0, len(time), size):
            stop = min(start + size, len(time))
            first, last = max(0, start - self._reach), min(len(time), stop + self._reach)
            yield slice(first, last), slice(start - first, stop - first)
