"""Weights times values, with gaps: what an operator does to plain arrays (..., y, x).

Where sources are missing the remaining weights are scaled up,

    y(t) = sum_valid P(t, s) f(s) / sum_valid P(t, s),        P = max(W, 0)

with the positive weights only, since what is left of a stencil with negative weights may sum to nearly nothing. A
target cell whose valid part is below `min_valid`, or nothing, is missing. Sums are in float64 whatever the values are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from finegrid.grids.geometry import Array

# Values in work at once: few enough to stay in the processor's cache, where SciPy is two to three times faster.
_AT_ONCE = 100_000


@dataclass(frozen=True, eq=False)
class Weights:
    """A matrix (target cells, source cells) that is applied to fields with gaps."""

    matrix: sparse.csr_array

    @cached_property
    def positive(self) -> sparse.csr_array:
        """The weights above zero; the matrix itself where there are no others."""
        signed = bool((self.matrix.data < 0).any())
        return sparse.csr_array(self.matrix.maximum(0)) if signed else self.matrix

    @cached_property
    def covered(self) -> Array:
        """Sum of the positive weights of every target cell, (target cells, 1)."""
        return np.asarray(self.positive.sum(axis=1))[:, None]

    @cached_property
    def _void(self) -> NDArray[np.bool_]:
        return self.covered[:, 0] <= 0

    def times(self, values: NDArray[Any], min_valid: float) -> Array:
        """Means (times, target cells) of values (times, source cells)."""
        result = np.empty((len(values), self.matrix.shape[0]))
        step = max(1, _AT_ONCE // max(1, values.shape[1]))
        for start in range(0, len(values), step):
            result[start : start + step] = self._times(values[start : start + step], min_valid).T
        return result

    def _times(self, values: NDArray[Any], min_valid: float) -> Array:
        result = np.asarray(self.matrix @ values.T)
        # Missing values leave their mark on the result, which is mostly smaller.
        untouched = not np.isnan(result).any()
        result[self._void] = np.nan
        if untouched:
            return result
        missing = np.isnan(values)
        filled = np.where(missing, 0.0, values).T
        # The sea is missing at all times alike: then one column of weights will do.
        gaps = missing[:1].T if (missing == missing[0]).all() else missing.T
        valid = self.positive @ (~gaps).astype(np.float64)
        mean = ratio(self.positive @ filled, valid, self.covered, min_valid)
        if self.positive is self.matrix:
            return mean
        touched = abs(self.matrix) @ gaps.astype(np.float64) > 0
        return np.where(touched, mean, result)


def block_mean(values: NDArray[Any], weights: Array, factor: tuple[int, int], min_valid: float) -> Array:
    """Means (..., y, x) over blocks of `factor` cells, by the weights of the cells; the same sum, by reshaping."""
    total = _block_sum(weights, factor)
    missing = np.isnan(values)
    if not missing.any():
        return ratio(_block_sum(weights * values, factor), total, total, min_valid)
    valid = _block_sum(weights * ~missing, factor)
    return ratio(_block_sum(weights * np.where(missing, 0.0, values), factor), valid, total, min_valid)


def ratio(total: Array, valid: Array, covered: Array, min_valid: float) -> Array:
    """Sums over valid weights; missing where these are nothing, or too small a part of the covered ones."""
    enough = (valid > 0) & (valid >= (min_valid - 1e-9) * covered)
    return np.where(enough, total / np.where(enough, valid, 1.0), np.nan)


def _block_sum(values: Array, factor: tuple[int, int]) -> Array:
    (*lead, ny, nx), (rows, columns) = values.shape, factor
    return np.asarray(values.reshape(*lead, ny // rows, rows, nx // columns, columns).sum(axis=-3).sum(axis=-1))
