"""How far cells lie from what is usual for them: a bias that weather hides in means over the domain shows itself here.

    z(t, c) = (x(t, c) - m(c)) / s(c)       m, s: mean and deviation of cell c over the training times of its month
    anomaly      mean of z(t, .) over the cells
    departure    square root of the mean of z(t, .)^2

Cells of the sea, or behind a ridge, hardly vary: what is little for others is much for them. A month with fewer than
240 training times takes m and s from all of them, and of a record with fewer there are none. Training times are
standardised by other times than their own tenth of the record, as new input is. Where dates mean nothing, times are
patches of many places, and a cell is no place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.guard.traits import ANOMALIES, Floats, Places
from finegrid.evaluation.guard.usual import FOLDS

# Neighbouring times resemble each other: means of fewer are so far off that any new time seems strange beside them.
ENOUGH = 240


def climate(samples: Floats, months: Places, number: int) -> Array:
    """Mean and deviation (2, variable, month, cell) of values (variable, row, cell); NaN where nothing varies.

    Args:
        samples: values of training times.
        months: of each row.
        number: of months.
    """
    return _moments(_sums(samples, months, number), months, number)


def anomalies(samples: Floats, usual: NDArray[np.floating], months: Places) -> Array:
    """The traits (row, variable, kind) of values (variable, row, cell) beside a `climate` of the same cells."""
    z = (samples - usual[0][:, months]) / usual[1][:, months]
    known = np.isfinite(z)
    count, filled = known.sum(axis=-1).astype(np.float64), np.where(known, z, 0.0).astype(np.float64)
    kinds = [ratio(filled.sum(axis=-1), count), np.sqrt(ratio((filled**2).sum(axis=-1), count))]
    return np.stack(kinds, axis=-1).swapaxes(0, 1)


def held_out(samples: Floats, months: Places, number: int) -> Array:
    """The traits (row, variable, kind) of training times, each tenth beside the climate of the others."""
    whole, result = _sums(samples, months, number), np.empty((len(months), len(samples), len(ANOMALIES)))
    for fold in np.array_split(np.arange(len(months)), FOLDS):
        rest = whole - _sums(samples[:, fold], months[fold], number)
        result[fold] = anomalies(samples[:, fold], _moments(rest, np.delete(months, fold), number), months[fold])
    return result


def _sums(samples: Floats, months: Places, number: int) -> Array:
    """Number, sum and sum of squares (3, variable, month, cell) of the known values."""
    known, chosen = np.isfinite(samples), np.eye(number)[:, months]
    filled = np.where(known, samples, 0.0).astype(np.float64)
    return np.stack([chosen @ each for each in (known.astype(np.float64), filled, filled**2)])


def _moments(sums: Array, months: Places, number: int) -> Array:
    enough = np.bincount(months, minlength=number) >= ENOUGH
    whole = sums.sum(axis=2, keepdims=True) if len(months) >= ENOUGH else np.zeros_like(sums)
    count, total, squares = np.where(enough[:, None], sums, whole)
    mean = ratio(total, count)
    deviation = np.sqrt(np.maximum(ratio(squares, count) - mean**2, 0.0))
    # Rounding leaves a little of what does not vary at all.
    return np.stack([mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, np.nan)])
