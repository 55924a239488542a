"""What the season and the hour alone let one expect: the climate that anomalies are taken from.

    c(s, t) = mean of the record over the times with the calendar month and the hour of t

The mean of the whole record where that month and hour never occur in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio

_HOURS = 24


@dataclass(frozen=True, eq=False)
class Climate:
    """Means by month and hour.

    Attributes:
        labels: months and hours as one number, ascending (label,).
        means: of each (label, y, x).
        whole: of the whole record (y, x).
    """

    labels: NDArray[np.int64]
    means: Array
    whole: Array

    @classmethod
    def of(cls, record: xr.DataArray) -> Climate:
        """The climate of a record (time, y, x); missing values are left out."""
        labels, which = np.unique(_label(record.indexes["time"]), return_inverse=True)
        values = np.asarray(record.transpose("time", "y", "x").values, dtype=np.float64)
        member = (which == np.arange(len(labels))[:, None]).astype(np.float64)
        known = np.isfinite(values)
        flat = np.where(known, values, 0.0).reshape(len(values), -1)
        counts = member @ known.reshape(len(values), -1)
        sums = member @ flat
        shape = (len(labels), *values.shape[1:])
        whole = ratio(sums.sum(axis=0), counts.sum(axis=0)).reshape(shape[1:])
        return cls(labels, ratio(sums, counts).reshape(shape), whole)

    def at(self, times: pd.Index) -> Array:
        """The climate (len(times), y, x) at any times."""
        wanted = _label(times)
        index = np.clip(np.searchsorted(self.labels, wanted), 0, len(self.labels) - 1)
        there = (self.labels[index] == wanted)[:, None, None]
        values = np.where(there, self.means[index], self.whole)
        return np.where(np.isfinite(values), values, self.whole)


def _label(times: pd.Index) -> NDArray[np.int64]:
    return np.asarray(times.month, dtype=np.int64) * _HOURS + np.asarray(times.hour, dtype=np.int64)
