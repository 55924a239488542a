"""Intervals that hold what they promise, whatever the model: scores of calibration cases, and their quantile.

    split        s = |y - mean|,             mean -+ Q
    normalised   s = |y - mean| / d,         mean -+ d Q,      d^2 = sigma^2 + (f e)^2 as in `crude`
    cqr          s = max(l - y, y - h),      [l - Q, h + Q],   l and h the quantiles (1 -+ level) / 2 of the members
    mondrian     split in groups of regions and seasons

with Q the score number ceil(level (n + 1)) of the n calibration cases of a group.

Sources: Papadopoulos et al., "Inductive confidence machines for regression", ECML 2002; Lei et al., "Distribution-free
predictive inference for regression", JASA 113, 2018; Romano, Patterson and Candès, "Conformalized quantile
regression", NeurIPS 2019; Vovk et al., "Mondrian confidence machine", 2003.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finegrid.calibration.base import Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.crude import Standardised
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.members import quantiles
from finegrid.calibration.pooled import Pooled, Scored
from finegrid.conventions import InputError

_MARGINAL = "marginal: the interval holds the truth of a case that can change places with those of calibration"
_SAME = 1e-6


@dataclass(kw_only=True)
class Split(Scored):
    """Intervals about the mean, as wide in all cases of a group."""

    name: ClassVar[str] = "split"
    guarantee: ClassVar[str] = _MARGINAL

    def _evidence(self, some: Cases) -> Evidence:
        return {"error": np.abs(some.known - some.mean)}

    def _learn(self, notes: Notes) -> Learnt:
        return self._kept(notes.evidence["error"], notes)

    def _brought(self, some: Cases, learnt: Learnt, scores: Array) -> Array:
        return np.asarray(some.mean + scores)

    def _either(self, learnt: Learnt, level: float) -> Array:
        # Errors on both sides are alike: half of what is outside an interval lies above it.
        if level == 0.5:
            return np.zeros(len(learnt["starts"]) - 1)
        return np.asarray(np.sign(level - 0.5) * self._upper(learnt, abs(2 * level - 1)))

    def _between(self, learnt: Learnt, level: float) -> Array:
        return np.asarray(np.sign(level - 0.5) * super()._between(learnt, abs(2 * level - 1)))


@dataclass(kw_only=True)
class Mondrian(Split):
    """The same in groups: regions and seasons by default."""

    groups: Sequence[str] = ("region", "season")

    name: ClassVar[str] = "mondrian"
    guarantee: ClassVar[str] = f"in every group, {_MARGINAL}"


@dataclass(kw_only=True)
class Normalised(Standardised, Split):
    """Intervals in units of the spread."""

    name: ClassVar[str] = "normalised"

    def _evidence(self, some: Cases) -> Evidence:
        evidence = super()._evidence(some)
        return {**evidence, "error": np.abs(evidence["error"])}


@dataclass(kw_only=True)
class QuantileBands(Pooled):
    """Quantiles of the members, moved outwards or inwards by as much as they were wrong.

    Args:
        levels: of the intervals that can be asked for.
    """

    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95)

    name: ClassVar[str] = "cqr"
    guarantee: ClassVar[str] = _MARGINAL
    least_members: ClassVar[int] = 2
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise InputError(f"got levels: {list(self.levels)}; expected numbers between 0 and 1, such as 0.9")

    def _evidence(self, some: Cases) -> Evidence:
        bands = [quantiles(some.members, _ends(level)) for level in self.levels]
        return {"score": np.stack([np.maximum(low - some.known, some.known - high) for low, high in bands])}

    def _learn(self, notes: Notes) -> Learnt:
        learnt: Learnt = {}
        for number, scores in enumerate(notes.evidence["score"]):
            learnt |= self._kept(scores, notes, f"{number}/")
        return learnt

    def _interval(self, some: Cases, learnt: Learnt, place: Places, level: float) -> Array:
        number = next((number for number, each in enumerate(self.levels) if abs(each - level) < _SAME), None)
        if number is None:
            raise InputError(
                f"got an interval of {100 * level:g} %; expected one of those that 'cqr' was fitted for: "
                f"{', '.join(f'{100 * each:g} %' for each in self.levels)}; fit it with levels: [{level:g}]"
            )
        low, high = quantiles(some.members, _ends(level))
        width = self._upper(learnt, level, f"{number}/")[place]
        # Bands that would cross are a single value.
        middle = (low + high) / 2
        return np.stack([np.minimum(low - width, middle), np.maximum(high + width, middle)])

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        bands = [self._interval(some, learnt, place, abs(2 * level - 1)) for level in levels]
        return np.stack([band[int(level > 0.5)] for band, level in zip(bands, levels, strict=True)])


def _ends(level: float) -> Array:
    return np.array([(1 - level) / 2, (1 + level) / 2])
