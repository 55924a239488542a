"""The one way in which scores are averaged, weighted and kept free of missing cells.

A statistic is a value per point: a squared error in a cell, the power of a wavenumber. What is kept of it,
block by block of time, are sums over the points of each time,

    S_k(t) = sum_i w_i s_k(t, i)        W(t) = sum_i w_i,

over the points where every statistic is known. A mean over any set of times, the bootstrap's included, is
then sum_t S_k / sum_t W, and nothing larger than the number of times has to stay in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Totals:
    """Statistics summed over the points of each time.

    Attributes:
        sums: weighted sums (statistic, time); with `extreme` the largest values instead.
        weights: sums of the weights (time,).
        extreme: whether the largest value counts and not the mean.
    """

    sums: Array
    weights: Array
    extreme: bool = False

    @classmethod
    def of(cls, statistics: Array, weights: Array, *, extreme: bool = False) -> Totals:
        """Totals of statistics (statistic, time, *points) with weights (*points); NaN is left out."""
        points = tuple(range(1, statistics.ndim - 1))
        known = np.isfinite(statistics).all(axis=0)
        weight = np.where(known, weights, 0.0)
        if extreme:
            sums = np.where(known, statistics, -np.inf).max(axis=tuple(axis + 1 for axis in points))
        else:
            sums = (np.where(known, statistics, 0.0) * weight).sum(axis=tuple(axis + 1 for axis in points))
        return cls(sums, weight.sum(axis=points), extreme)

    @classmethod
    def joined(cls, parts: Sequence[Totals]) -> Totals:
        """Totals of consecutive blocks of time as one."""
        sums = np.concatenate([part.sums for part in parts], axis=1)
        return cls(sums, np.concatenate([part.weights for part in parts]), parts[0].extreme)

    def mean(self) -> Array:
        """Weighted means (statistic,) over times and points, or the largest values; NaN without any."""
        if not self.weights.sum() > 0:
            return np.full(len(self.sums), np.nan)
        if self.extreme:
            return np.asarray(self.sums[:, self.weights > 0].max(axis=1))
        return np.asarray(self.sums.sum(axis=1) / self.weights.sum())

    def per_time(self) -> Array:
        """Weighted means (statistic, time) over the points of each time; NaN where nothing is known."""
        if self.extreme:
            return np.where(self.weights > 0, self.sums, np.nan)
        return ratio(self.sums, self.weights)


def ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient, NaN where the denominator is not positive."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
