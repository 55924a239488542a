"""The one kernel of calibration: weighted quantiles of scores, with a place kept for the case that is to come.

Of n scores s_i with weights w_i, and the weight w of the next case, which may lie anywhere,

    upper(p) = the least s with  sum of w_i over s_i <= s  >=  p (W + w),        W = sum of w_i
    lower(p) = the largest s with  sum of w_i over s_i >= s  >=  (1 - p) (W + w)

so that the next score lies at or below upper(p) with a chance of at least p, and at or above lower(p) with at least
1 - p, whatever its distribution, where all cases can change places. With equal weights upper(p) is the score number
ceil(p (n + 1)); where that is more than n there is no such bound and upper(p) is infinite.

Scores of many groups (regions, seasons, cells, or the windows of a stream) are sorted at once and searched at once.

Sources: Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005; Tibshirani et al., "Conformal
prediction under covariate shift", NeurIPS 2019 (weights); Romano, Patterson and Candès, NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.int64]

# Shares of mass that differ by less are one.
_EQUAL = 1e-9


@dataclass(frozen=True, eq=False)
class Pool:
    """Scores of groups, sorted in each.

    Attributes:
        scores: of all groups, one group after the other (case,).
        shares: mass of the scores of a group up to each one, over the whole mass with that of the next case (case,).
        starts: where each group begins, and the end (group + 1,).
    """

    scores: Array
    shares: Array
    starts: Places

    @classmethod
    def of(
        cls,
        scores: NDArray[Any],
        groups: NDArray[Any] | None = None,
        count: int = 1,
        *,
        weights: NDArray[Any] | None = None,
        own: NDArray[Any] | float | None = None,
    ) -> Self:
        """Sort scores of any shape.

        Args:
            scores: NaN where there is none.
            groups: number of the group of each, from 0; below 0 for none; None is one group.
            count: number of groups.
            weights: of each; None weighs them alike. Scores without weight are left out.
            own: weight of the next case of each group; None is the largest weight of the group, or 1.
        """
        flat = np.asarray(scores, dtype=np.float64).ravel()
        group = np.zeros(flat.size, np.int64) if groups is None else np.broadcast_to(groups, np.shape(scores)).ravel()
        weight = np.ones(flat.size) if weights is None else np.broadcast_to(weights, np.shape(scores)).ravel()
        kept = np.isfinite(flat) & (group >= 0) & (weight > 0)
        flat, group, weight = flat[kept], group[kept].astype(np.int64), weight[kept].astype(np.float64)
        order = np.lexsort((flat, group))
        flat, group, weight = flat[order], group[order], weight[order]
        starts = np.searchsorted(group, np.arange(count + 1))
        next_one = _own(weight, starts) if own is None else np.broadcast_to(np.asarray(own, np.float64), (count,))
        return cls(flat, _shares(weight, group, starts, next_one), starts)

    @property
    def counts(self) -> Places:
        """Scores in each group (group,)."""
        return np.diff(self.starts)

    def upper(self, level: NDArray[Any] | float) -> Array:
        """Upper quantiles of each group (group,), infinite where the scores are too few."""
        return self._found(np.asarray(level, dtype=np.float64))

    def lower(self, level: NDArray[Any] | float) -> Array:
        """Lower quantiles of each group (group,), infinite where the scores are too few."""
        mirrored = Pool(-self.scores[::-1], self._mirrored(), self.starts[-1] - self.starts[::-1])
        return -mirrored._found(1 - np.asarray(level, dtype=np.float64), back=True)

    def between(self, level: NDArray[Any] | float) -> Array:
        """Quantiles of each group (group,), linear in the mass between two scores; the outermost ones stand beyond."""
        count = len(self.counts)
        wanted = np.broadcast_to(np.asarray(level, dtype=np.float64), (count,))
        first, last = self.starts[:-1], self.starts[1:] - 1
        line = self.shares + np.repeat(np.arange(count), self.counts)
        above = np.clip(np.searchsorted(line, np.arange(count) + wanted), first, np.maximum(last, first))
        below = np.maximum(above - 1, first)
        shares, scores = (np.append(each, np.nan) for each in (self.shares, self.scores))
        gap = shares[above] - shares[below]
        part = np.clip((wanted - shares[below]) / np.where(gap > 0, gap, 1.0), 0.0, 1.0)
        result = scores[below] + np.where(gap > 0, part, 0.0) * (scores[above] - scores[below])
        return np.where(self.counts > 0, result, np.nan)

    def _mirrored(self) -> Array:
        """Mass of the scores at or above each one, in the order from the last to the first (case,)."""
        before = np.concatenate([[0.0], self.shares[:-1]])
        before[self.starts[:-1][self.counts > 0]] = 0.0
        ends = self.shares[np.maximum(self.starts[1:] - 1, 0)] if len(self.shares) else np.zeros(len(self.counts))
        return np.asarray((np.repeat(ends, self.counts) - before)[::-1])

    def _found(self, level: Array, *, back: bool = False) -> Array:
        count = len(self.counts)
        numbers = np.arange(count)
        wanted = np.broadcast_to(level, (count,))
        wanted = wanted[::-1] if back else wanted
        # Each group has its own unit of a line along which all are searched at once.
        line = self.shares + np.repeat(numbers, self.counts)
        place = np.searchsorted(line, numbers + wanted - _EQUAL)
        inside = place < self.starts[1:]
        padded = np.append(self.scores, np.inf)
        result = padded[np.where(inside, np.maximum(place, self.starts[:-1]), -1)]
        return result[::-1] if back else result

    def thinned(self, most: int) -> Pool:
        """The same with at most so many scores a group, at even shares of its mass; the outermost ones stay."""
        if not (self.counts > most).any():
            return self
        kept = [
            np.unique(np.linspace(start, stop - 1, min(most, stop - start)).round().astype(np.int64))
            for start, stop in zip(self.starts, self.starts[1:], strict=False)
        ]
        chosen = np.concatenate(kept) if kept else np.zeros(0, np.int64)
        starts = np.concatenate([[0], np.cumsum([len(each) for each in kept])])
        return Pool(self.scores[chosen], self.shares[chosen], starts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it for a model file."""
        return {"scores": self.scores, "shares": self.shares, "starts": self.starts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        return cls(arrays["scores"], arrays["shares"], arrays["starts"])


def needed(level: float) -> int:
    """The least number of equally weighted scores that have an upper quantile at a level."""
    return int(np.ceil(level / (1 - level) - _EQUAL))


def _own(weight: Array, starts: Places) -> Array:
    """The largest weight of each group; 1 where it is empty."""
    full = np.diff(starts) > 0
    own = np.ones(len(full))
    if full.any():
        own[full] = np.maximum.reduceat(weight, starts[:-1][full])
    return own


def _shares(weight: Array, group: Places, starts: Places, own: Array) -> Array:
    total = np.concatenate([[0.0], np.cumsum(weight)])
    before, whole = total[starts[:-1]], total[starts[1:]] - total[starts[:-1]] + own
    return np.asarray((total[1:] - before[group]) / whole[group])
