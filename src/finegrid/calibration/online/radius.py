"""Intervals mean -+ q whose radius q follows the truth by the pinball loss.

    s       = |y - mean|                                     score
    l(q)    = max(b (s - q), (b - 1) (s - q))                pinball loss at the level b, least at the b-quantile of s
    l'(q)   = (1 - b) - [s > q]                              subgradient: -b when the truth lies outside, 1 - b inside
    D       = sqrt(3) max s   over the calibration cases     scale of a group

At one time the loss of a group is the mean of those of its cells. Every level has a radius of its own, which begins at
the quantile of all calibration scores.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.base import Learnt, Notes
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.online.arrivals import Arrivals
from finegrid.calibration.online.base import Online
from finegrid.conventions import InputError

_SAME = 1e-6


@dataclass(kw_only=True)
class Radius(Online):
    """What calibrators with a radius per level and group share.

    Args:
        levels: of the intervals that can be asked for.
    """

    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise InputError(f"got levels: {list(self.levels)}; expected numbers between 0 and 1, such as 0.9")

    @abstractmethod
    def _from(self, radius: Array) -> Learnt:
        """The state that begins with these radii (level, group)."""

    @abstractmethod
    def _moved(self, learnt: Learnt, arrived: Arrivals) -> None:
        """Learn from the scores of one time, in place."""

    @property
    def _column(self) -> Array:
        return np.asarray(self.levels, dtype=np.float64)[:, None]

    def _begun(self, notes: Notes) -> Learnt:
        scores = np.abs(notes.evidence["residual"])
        known = scores[np.isfinite(scores)]
        if not known.size:
            raise InputError("got no case with both a prediction and a truth; expected some; calibrate on other times")
        radius = np.repeat(np.quantile(known, self.levels)[:, None], notes.groups.count, axis=1)
        return {
            "scale": np.sqrt(3) * _largest(scores, notes.places, notes.groups.count),
            "radius": radius,
        } | self._from(radius)

    def _offsets(self, learnt: Learnt, chances: Array) -> Array:
        offsets = np.zeros((len(chances), learnt["radius"].shape[1]))
        for offset, chance in zip(offsets, chances, strict=True):
            if abs(chance - 0.5) > _SAME:
                offset += np.sign(chance - 0.5) * learnt["radius"][self._number(abs(2 * chance - 1))]
        return offsets

    def _step(self, learnt: Learnt, residual: Array, place: Places) -> None:
        arrived = Arrivals.of(np.abs(residual), place, learnt["radius"].shape[1])
        if len(arrived.seen):
            self._moved(learnt, arrived)

    def _number(self, level: float) -> int:
        number = next((number for number, each in enumerate(self.levels) if abs(each - level) < _SAME), None)
        if number is None:
            raise InputError(
                f"got an interval of {100 * level:g} %; expected one of those that '{self.name}' was fitted for: "
                f"{', '.join(f'{100 * each:g} %' for each in self.levels)}; fit it with levels: [{level:g}]"
            )
        return number

    def _loss_and_slope(self, arrived: Arrivals, radius: Array) -> tuple[Array, Array]:
        """The pinball loss of radii (..., level, group) and its subgradient; 0 of groups without a case."""
        beyond = arrived.scores - arrived.spread(radius)
        loss = arrived.means(np.maximum(self._column * beyond, (self._column - 1) * beyond))
        slope = ((1 - self._column) - arrived.means(beyond > 0)) * arrived.marked()
        return loss, slope


def stepped(radius: Array, slope: Array, squares: Array, rate: Array) -> Array:
    """Radii after a scale-free step down the slope: q - rate slope / sqrt(squares), at least 0."""
    return np.maximum(radius - rate * slope / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0)


def _largest(scores: Array, places: Places, count: int) -> NDArray[Any]:
    """The largest score of each group; that of all where it has none above 0."""
    kept = np.isfinite(scores) & (places >= 0)
    largest = np.zeros(count)
    np.maximum.at(largest, places[kept], scores[kept])
    whole = largest.max(initial=0.0)
    return np.where(largest > 0, largest, whole if whole > 0 else 1.0)
