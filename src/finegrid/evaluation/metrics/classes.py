"""Sums over the cells of each time by class, for metrics whose cases fall into classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array


def sums_by_class(classes: NDArray[np.int64], weights: Array, count: int) -> Array:
    """Sums (class, time) of weights (time, y, x) by class (time, y, x) in 0, ..., count - 1."""
    times = len(classes)
    numbered = classes + count * np.arange(times)[:, None, None]
    sums = np.bincount(numbered.ravel(), weights.ravel(), minlength=count * times)
    return np.asarray(sums.reshape(times, count).T, dtype=np.float64)
