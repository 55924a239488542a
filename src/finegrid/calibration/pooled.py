"""Calibrators that keep the scores of their calibration cases, and ask them for quantiles.

A score says how far off a prediction was, in units in which cases are alike; a quantile of the scores of a group is
brought back into the units of each new case. Groups without a case take those of all.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.base import Calibrator, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array, Places, Pool, needed
from finegrid.calibration.members import in_order_of
from finegrid.conventions import InputError

# Scores that all groups keep together, and a group at least; of more cases, scores at as many even shares.
_MOST, _LEAST = 2_000_000, 400
# Scores that stand for all groups where a group leans on them.
_COMMON = 199


@dataclass(kw_only=True)
class Pooled(Calibrator):
    """What they share: the scores of groups."""

    def _kept(self, scores: NDArray[np.float64], notes: Notes, prefix: str = "") -> Learnt:
        """Scores of groups for the model file, each leaning on those of all with the weight of so many cases."""
        common = _common(scores)
        places, count = notes.places, notes.groups.count
        pool = Pool.of(scores, places, count)
        if self.shrink and count > 1:
            every = np.concatenate([scores.ravel(), np.tile(common, count)])
            of_group = np.concatenate([places.ravel(), np.repeat(np.arange(count), len(common))])
            lent = np.full(count * len(common), self.shrink / max(1, len(common)))
            pool = Pool.of(every, of_group, count, weights=np.concatenate([np.ones(scores.size), lent]), own=1.0)
        arrays = pool.thinned(max(_LEAST, _MOST // count)).arrays() | {"common": common}
        return {f"{prefix}{key}": each for key, each in arrays.items()}

    def _pools(self, learnt: Learnt, prefix: str = "") -> tuple[Pool, Pool]:
        """The scores of groups, and of all."""
        own = {key.removeprefix(prefix): each for key, each in learnt.items() if key.startswith(prefix)}
        return Pool.from_arrays(own), Pool.of(own["common"])

    def _upper(self, learnt: Learnt, level: float, prefix: str = "") -> Array:
        """The bound of each group (group,) below which the next score is with a chance.

        Raises:
            InputError: where a group has too few scores; says how many it needs.
        """
        pool, common = self._pools(learnt, prefix)
        found = np.where(pool.counts > 0, pool.upper(level), common.upper(level))
        _check(pool, found, level)
        return found

    def _lower(self, learnt: Learnt, level: float, prefix: str = "") -> Array:
        """The bound of each group above which the next score is with a chance of one minus the level."""
        pool, common = self._pools(learnt, prefix)
        found = np.where(pool.counts > 0, pool.lower(level), common.lower(level))
        _check(pool, found, 1 - level)
        return found

    def _either(self, learnt: Learnt, level: float) -> Array:
        """The cautious bound at a chance: the upper one above a half, the lower one below."""
        return self._upper(learnt, level) if level >= 0.5 else self._lower(learnt, level)

    def _between(self, learnt: Learnt, level: float) -> Array:
        """The score at a chance (group,), linear between scores; the outermost ones stand for what is beyond."""
        pool, common = self._pools(learnt)
        return np.where(pool.counts > 0, pool.between(level), common.between(level))


@dataclass(kw_only=True)
class Scored(Pooled):
    """Those whose scores at all chances are values at all chances."""

    @abstractmethod
    def _brought(self, some: Cases, learnt: Learnt, scores: Array) -> Array:
        """Values (level, time, y, x) with these scores (level, time, y, x)."""

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        return self._brought(some, learnt, np.stack([self._either(learnt, level) for level in levels])[:, place])

    def _members(self, some: Cases, learnt: Learnt, place: Places) -> Array:
        chances = np.arange(1, some.count + 1) / (some.count + 1)
        scores = np.stack([self._between(learnt, level) for level in chances])[:, place]
        return in_order_of(self._brought(some, learnt, scores), some.members)


def _common(scores: NDArray[np.float64]) -> Array:
    """Scores at even shares of all of them."""
    known = np.sort(scores[np.isfinite(scores)])
    if len(known) <= _COMMON:
        return known
    return np.asarray(np.quantile(known, (np.arange(_COMMON) + 0.5) / _COMMON))


def _check(pool: Pool, found: Array, level: float) -> None:
    short = ~np.isfinite(found)
    if short.any():
        raise InputError(
            f"got {pool.counts[short].min()} calibration cases in the smallest group; expected at least "
            f"{needed(level)}, without which no bound holds with a chance of {level:g}; calibrate on more times, use "
            "fewer groups, set shrink, or ask for a lower level"
        )
