"""Generalised linear models with random generation: every member is weather that could have been.

Given the large-scale situation z, a fine value has a distribution (`families`). A member is drawn from it by a field of
ranks u(t, i) between 0 and 1,

    y(t, i) = F^-1( u(t, i) | z(t) )

and that field is the one of a training day: the ranks that the truth of that day had in its own distributions
(`ranks`). So fine cells are wet together as they are in nature, whatever the distribution of each.

Sources: Chandler and Wheater, Water Resources Research 38(10), 1192, 2002; ranks of past days as a template for space
and time: Clark et al. (Schaake shuffle), J. Hydrometeorology 5, 2004.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.predictors import steps_since_epoch
from finegrid.data.progress import bar
from finegrid.data.splits import Indices, folds
from finegrid.downscalers.base import State
from finegrid.downscalers.families import (
    FAMILIES,
    LEAST,
    Family,
    Numbers,
    fitted,
    named,
    penalties_for,
    pieces,
    suiting,
)
from finegrid.downscalers.features import Features, Prepared
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.plan import part
from finegrid.downscalers.ranks import Ranks
from finegrid.downscalers.regression import Regression, Table

_FOLDS = 3


@dataclass(kw_only=True)
class GeneralisedLinear(Regression):
    """Logistic occurrence and gamma amounts for rain, gamma for what is positive, normal for all else.

    Args:
        family: distribution by variable, where the one that suits its values is not wanted.
        penalties: candidates for the penalty on squares of the weights.
        wet: threshold of a wet day, in the units of the variable; None is 0.1 mm a day.
        persistence: consecutive times that take the ranks of consecutive training times.
        noise: "training" for ranks of training days, "independent" for cells that know nothing of each other.
    """

    name: ClassVar[str] = "glm"
    usual_members: ClassVar[int] = 20
    features: Table = field(
        default_factory=lambda: {"name": "components", "counts": (30, 90), "shapes": ("sqrt", "log")}
    )
    start: str | Sequence[str] = field(default="mean", init=False)
    frames: Sequence[int] = (-1, 0, 1)
    family: Mapping[str, str] = field(default_factory=dict)
    penalties: Sequence[float] = (3.0, 10.0, 30.0, 100.0)
    wet: float | None = None
    persistence: int = 4
    noise: str = "training"
    _penalties: tuple[tuple[float, ...], ...] | None = field(default=None, init=False, repr=False)
    _families: tuple[Family, ...] = field(default=(), init=False, repr=False)
    _numbers: tuple[Numbers, ...] = field(default=(), init=False, repr=False)
    _few: tuple[int, ...] = field(default=(), init=False, repr=False)
    _ranks: Ranks | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.noise not in ("training", "independent"):
            raise InputError(f"got noise: {self.noise}; expected training or independent; change downscaler.noise")

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        everything = matched.at(fit_block)
        self._start = "mean"
        if not self._families:
            self._families = tuple(self._family(everything, index) for index in range(len(self.domain.outputs)))
        if self._features is None or self._penalties is None:
            self._features, self._penalties = self._chosen(everything, how)
        seen = self._features(everything.coarse)
        targets = self._separate(self._targets(everything, "mean", shared=seen.local is None))
        plan = zip(self._families, targets, self._penalties, strict=True)
        found = (fitted(family, seen, each, penalties) for family, each, penalties in plan)
        self._numbers = tuple(_as_saved(numbers) for numbers in found)
        seldom = [(numbers.get("few", torch.zeros(())) > 0) for numbers in self._numbers]
        self._few = tuple(int((a & torch.isfinite(b).any(1)).sum()) for a, b in zip(seldom, targets, strict=True))
        if self.noise == "training":
            self._ranks = self._ranked(seen, targets, everything.coarse.time)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        seen = self._known_features()(coarse)
        means = [
            torch.cat([family.mean(z, own).float() for z, own in pieces(seen, numbers)])
            for family, numbers in zip(self._families, self._numbers, strict=True)
        ]
        return self._together(means, coarse, seen)

    def _members(self, coarse: xr.Dataset, members: int, seed: int) -> Tensor:
        seen, given = self._known_features()(coarse), self.conservation.given(coarse)
        drawn = []
        for member in range(members):
            fine = self._together(self._drawn(seen, coarse.time, member, seed), coarse, seen)
            drawn.append(self.conservation.project(fine, given))
        return torch.stack(drawn)

    def _drawn(self, seen: Prepared, time: xr.DataArray, member: int, seed: int) -> list[Tensor]:
        """One member of each variable (cell, time, target)."""
        found = []
        ranks = None if self._ranks is None else self._ranks(time, member=member, seed=seed)
        for output, (family, numbers) in enumerate(zip(self._families, self._numbers, strict=True)):
            chances = self._independent(time, output, member, seed) if ranks is None else ranks[:, output]
            every, start, parts = torch.from_numpy(chances).permute(1, 0, 2).double(), 0, []
            for z, own in pieces(seen, numbers):
                parts.append(family.quantile(z, every[start : start + len(z)], own).float())
                start += len(z)
            found.append(torch.cat(parts))
        return found

    def _independent(self, time: xr.DataArray, output: int, member: int, seed: int) -> np.ndarray:
        """Ranks (time, cell, target) without any pattern, by time stamp."""
        cells, targets = self._numbers[output]["mean"].shape[:2]
        steps = steps_since_epoch(time, self.domain.step_seconds) % 2**32
        draws = [np.random.default_rng([seed, member, output, int(step)]).random((cells, targets)) for step in steps]
        return np.stack(draws)

    def _family(self, matched: Pair, index: int) -> Family:
        name, domain = self.domain.outputs[index], self.domain
        units, step = domain.inputs.units[name], domain.step_seconds
        if name in self.family:
            return named(self.family[name], FAMILIES, units, step, self.wet)
        values = torch.from_numpy(np.asarray(matched.fine[name].values))
        return suiting(values, self.domain.limits(name), units, step, self.wet)

    def _chosen(self, matched: Pair, how: Fitting) -> tuple[Features, tuple[tuple[float, ...], ...]]:
        """Features, and penalties of each variable, with the least score on blocks of time that were left out."""
        variants = [each.fit(matched.coarse, self.domain) for each in self._planned().variants()]
        blocks, candidates = [torch.as_tensor(each) for each in folds(len(matched.coarse.time), _FOLDS)], self.penalties
        if len(variants) * len(candidates) == 1 or len(blocks) < 2:
            return variants[0], tuple(tuple(candidates[:1]) * len(family.parts) for family in self._families)
        found = []
        with bar(f"choosing for {self.name}", len(variants), show=how.progress) as step:
            for features in variants:
                seen = features(matched.coarse)
                targets = self._separate(self._targets(matched, "mean", shared=seen.local is None))
                pairs = zip(self._families, targets, strict=True)
                found.append([penalties_for(family, seen, each, tuple(candidates), blocks) for family, each in pairs])
                step()
        scores = np.array([[sum(losses) for _, losses in each] for each in found])
        best = int((scores / np.maximum(scores.min(axis=0), 1e-12)).sum(axis=1).argmin())
        return variants[best], tuple(penalties for penalties, _ in found[best])

    def _ranked(self, seen: Prepared, targets: Sequence[Tensor], time: xr.DataArray) -> Ranks:
        """Ranks (time, output, cell, target) of the training truth in its own distributions."""
        generator, every = torch.Generator().manual_seed(0), []
        for family, numbers, each in zip(self._families, self._numbers, targets, strict=True):
            # One number a day: a dry region is as dry everywhere, and does not become a speckle of showers.
            uniform = torch.rand(1, each.shape[1], 1, generator=generator, dtype=torch.float64).expand(each.shape)
            start, parts = 0, []
            for z, own in pieces(seen, numbers):
                rows = slice(start, start + len(z))
                parts.append(family.chance(z, each[rows].double(), own, uniform[rows]).float())
                start += len(z)
            chances = torch.cat(parts)
            every.append(torch.where(torch.isfinite(each), chances, torch.nan).permute(1, 0, 2))
        stacked = torch.stack(every, dim=1).numpy()
        return Ranks.of(stacked, time, length=self.persistence, step_seconds=self.domain.step_seconds, seed=0)

    def _separate(self, targets: Tensor) -> list[Tensor]:
        """Targets of each variable (cell, time, target) from (time, output * target, cell)."""
        split = targets.reshape(len(targets), len(self.domain.outputs), -1, targets.shape[2])
        return list(split.permute(1, 3, 0, 2))

    def _together(self, values: Sequence[Tensor], coarse: xr.Dataset, seen: Prepared) -> Tensor:
        """Fine fields (time, output, H, W) from values of each variable (cell, time, target)."""
        stacked = torch.stack(list(values)).permute(2, 0, 3, 1).flatten(1, 2)
        return self._placed(stacked, coarse, "mean", shared=seen.local is None)

    def _learnt(self) -> State:
        plain, tensors = super()._learnt()
        for index, numbers in enumerate(self._numbers):
            tensors |= {f"family/{index}/{key}": each.float() for key, each in numbers.items()}
        if self._ranks is not None:
            tensors |= self._ranks.tensors()
        families = [{"name": each.name, "threshold": getattr(each, "threshold", None)} for each in self._families]
        return {
            **plain,
            "families": families,
            "penalties": [list(each) for each in self._penalties or ()],
            "few": list(self._few),
        }, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super()._remember(plain, tensors)
        self._penalties, self._few = tuple(tuple(each) for each in plain["penalties"]), tuple(plain["few"])
        self._families = tuple(
            FAMILIES[each["name"]](*(() if each["threshold"] is None else (each["threshold"],)))
            for each in plain["families"]
        )
        self._numbers = tuple(_as_saved(part(tensors, f"family/{index}/")) for index in range(len(self._families)))
        length, step = self.persistence, self.domain.step_seconds
        self._ranks = Ranks.from_tensors(tensors, length=length, step_seconds=step) if "ranks" in tensors else None

    def _notes(self) -> list[str]:
        few = dict(zip(self.domain.outputs, self._few, strict=False))
        return [
            f"{count} cells have fewer than {LEAST} values of {name} to learn amounts from; there these do not "
            "depend on the weather, and vary as in the other cells"
            for name, count in few.items()
            if count
        ]

    def _summary(self) -> dict[str, Any]:
        if self._penalties is None:
            return {}
        named_families = dict(zip(self.domain.outputs, (each.name for each in self._families), strict=True))
        return {
            **super()._summary(),
            "distribution": named_families,
            "penalty": [list(each) for each in self._penalties],
        }


def _as_saved(numbers: Numbers) -> Numbers:
    """Numbers with the precision of a model file, so that a saved model is the same model."""
    return {key: each.float().double() for key, each in numbers.items()}
