"""What a downscaler is: coarse Dataset in, fine ensemble Dataset out, in the user's own names.

A variant says how it learns from a pair (`_learn`) and what it makes of coarse fields (`_fields`); everything that
must hold for all of them is here: names, units, grids and times are checked and brought back, missing coarse cells
stay missing, the constraint is applied in physical units and last, and long records pass through in blocks of times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones.blocks import repeated
from finegrid.backbones.manner import Manner
from finegrid.bridge import to_dataset, to_tensor
from finegrid.conventions import check_values, restore
from finegrid.conventions.errors import provenance
from finegrid.data.adjustments import Adjustment
from finegrid.data.climatology import Climatology
from finegrid.data.joining import along_time
from finegrid.data.pairs import Pair, pair
from finegrid.data.splits import Indices
from finegrid.data.working import Workers, alone
from finegrid.downscalers.adjusting import adjusted, remembered, state_of
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.fitting import Fitting, not_fitted, teachable, time_blocks, whole_or_nothing
from finegrid.downscalers.members import check_members
from finegrid.downscalers.sources import adopted, remembered_climatology, state_of_climatology
from finegrid.downscalers.store import digest, save
from finegrid.downscalers.strength import learn_strength
from finegrid.downscalers.windows import Seen, seen_by

State = tuple[dict[str, Any], dict[str, Tensor]]

_BLOCK_VALUES = 1 << 23  # fine values in a block of times: 32 MiB of float32


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
    _climatology: Climatology | None = field(default=None, init=False, repr=False)
    _manner: Manner = field(default=Manner(), init=False, repr=False)

    name: ClassVar[str]
    learns: ClassVar[bool] = True
    validates: ClassVar[bool] = False
    usual_members: ClassVar[int] = 1
    """Size of the ensemble by which it is judged; one where nothing is random."""

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
            fine: fine fields (time, y, x) in any names; of members their mean is learnt.
            static: fields without time on any grid, such as elevation.
            validate: part of the times, the last ones, or the times themselves, that choose when to stop; 0 for none.
            folder: where long fits keep their log and checkpoints.
            resume: go on from a checkpoint in `folder`.
            progress: show a progress bar.

        Raises:
            InputError: when the two do not fit together; says how to mend it.
        """
        self.__dict__ = vars(type(self)(**self.options))  # what it learnt before is of another pair
        matched = teachable(self._paired(coarse, fine))
        fit_block, validate_block = time_blocks(matched.coarse.time, validate if self.validates else 0.0)
        self._adjustment, matched = adjusted(self.adjust, matched, fit_block, progress=progress)
        self._settle(matched.at(fit_block))
        self._climatology = Climatology.of(matched.at(fit_block).coarse)
        how = Fitting(static, None if folder is None else Path(folder), resume, progress)
        with whole_or_nothing(self):
            self._learn(matched, fit_block, validate_block, how)
        learn_strength(self, matched, fit_block, validate_block)
        return self

    def predict(
        self, coarse: xr.Dataset, *, members: int = 1, seed: int = 0, reference: xr.Dataset | None = None
    ) -> xr.Dataset:
        """Fine fields (member, time, y, x) in the fine file's names, units and order.

        Args:
            coarse: coarse fields as in training; their times need not be.
            members: size of the ensemble; more than one where the downscaler is `random`.
            seed: of the randomness.
            reference: where `coarse` is from another source than the training fields, that source in a period whose
                climate should be that of training.

        Raises:
            InputError: when the fields do not suit the model, or there are not so many members; says how to mend it.
        """
        blocks = self.predict_blocks(coarse, members=members, seed=seed, reference=reference)
        return along_time(list(blocks), self.domain.names.time)

    def predict_blocks(
        self, coarse: xr.Dataset, *, members: int = 1, seed: int = 0, reference: xr.Dataset | None = None
    ) -> Iterator[xr.Dataset]:
        """The same in consecutive blocks of times, for records that do not fit in memory."""
        source = provenance(coarse, otherwise="the coarse input")
        given = self.read(coarse, source=source, reference=reference)
        return self.blocks(given, members=members, seed=seed, source=source)

    def blocks(
        self,
        given: xr.Dataset,
        *,
        members: int = 1,
        seed: int = 0,
        times: slice = slice(None),
        source: str = "input",
        workers: Workers = alone,
    ) -> Iterator[xr.Dataset]:
        """Fine fields of what `read` gave, in consecutive blocks of some of its times, made by `workers`."""
        check_members(members, self.name, random=self.random)
        wanted, steps = range(given.sizes["time"])[times], self.times_at_once(members)
        seen = seen_by(given, wanted, steps=steps, reach=self._reach)
        return workers(Seen.read, partial(self.block, members=members, seed=seed, source=source), seen)

    def block(self, seen: Seen, *, members: int = 1, seed: int = 0, source: str = "input") -> xr.Dataset:
        """Fine fields of one window of what `read` gave: of its times, or of those inside that are asked for."""
        fields, window, domain = seen.fields.load(), seen.window, self.domain
        check_values(fields, source=source, part=window.part)
        fine = self._known(self._members(fields, members, seed), fields)[:, window.inner]
        return restore(domain.described(to_dataset(fine, domain.layout, fields.time[window.inner])), domain.names)

    def times_at_once(self, members: int) -> int:
        """How many times `blocks` predicts together."""
        return max(1, min(2048, _BLOCK_VALUES // (self.domain.grid.size * len(self.domain.outputs) * members)))

    def read(self, coarse: xr.Dataset, *, source: str = "input", reference: xr.Dataset | None = None) -> xr.Dataset:
        """Coarse fields as the downscaler works with them: on its cells, in its units, adjusted; lazily."""
        fields = self.domain.inputs.read(coarse, source=source)
        if reference is not None:
            own = self.domain.inputs, self._climatology
            return adopted(fields, reference, *own, adjusts=self._adjustment is not None)
        return fields if self._adjustment is None else self._adjustment(fields)

    def notes(self) -> list[str]:
        """What a person should know of the fit, in sentences: what was too little, or was left alone."""
        return [*([] if self._adjustment is None else self._adjustment.notes()), *self._notes()]

    def notes_on(self, coarse: xr.Dataset) -> list[str]:
        """The same of a prediction from these coarse fields, such as values beyond those of training; reads them."""
        adjust = self._adjustment
        return [*(adjust.notes_on(self.domain.inputs.read(coarse)) if adjust else []), *self._notes_on(coarse)]

    def fields(self, coarse: xr.Dataset) -> Tensor:
        """Constrained fine fields (time, output, H, W) of standard coarse fields, in physical units."""
        return self.conservation.project(self._fields(coarse), self.conservation.given(coarse))

    def answering(self, manner: Manner) -> Self:
        """The same downscaler, its networks (if any) answering in this manner."""
        self._manner = manner
        return self

    @property
    def random(self) -> bool:
        """Whether members differ; where they do not, there is one answer only."""
        return self.usual_members > 1

    @property
    def domain(self) -> Domain:
        """Where and what it was fitted for.

        Raises:
            InputError: before `fit`.
        """
        if self._domain is None:
            raise not_fitted(self)
        return self._domain

    @property
    def conservation(self) -> Conservation:
        """The constraint with the grids and numbers that it needs."""
        if self._conservation is None:
            raise not_fitted(self)
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
        told = {**self.domain.summary(), **self._summary(), **({"notes": notes} if (notes := self.notes()) else {})}
        return {"downscaler": self.name, "options": self.options, **told}

    def remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Become the downscaler of which these are the `state` in its model file and its tensors."""
        self._domain = Domain.from_dict(plain["domain"])
        self._conservation = Conservation.from_dict(plain["conservation"], self._domain)
        self._adjustment = remembered(self.adjust, plain, tensors)
        self._climatology = remembered_climatology(tensors)
        self._remember(plain, tensors)
        return self

    def _described(self) -> State:
        plain, tensors = self._learnt()
        state = {"domain": self.domain.to_dict(), "conservation": self.conservation.to_dict(), **plain}
        facts, numbers = state_of(self._adjustment)
        numbers |= state_of_climatology(self._climatology)
        return {"downscaler": self.name, "options": self.options, "state": {**state, **facts}}, {**tensors, **numbers}

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

    def _notes(self) -> list[str]:
        return []

    def _notes_on(self, coarse: xr.Dataset) -> list[str]:
        return []

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

    def _paired(self, coarse: xr.Dataset, fine: xr.Dataset) -> Pair:
        """What is learnt from."""
        return pair(coarse, fine, variables=self.variables, predictors=self.predictors, reach=self.surroundings)

    @property
    def surroundings(self) -> float | None:
        """Degrees around the fine domain within which it sees the coarse file's own cells; None for none."""
        return None

    def _settle(self, matched: Pair) -> None:
        """Fix the domain and the constraint, before anything is learnt."""
        self._domain = Domain.of(matched)
        self._conservation = Conservation.of(self.constraint, matched, self._domain)
