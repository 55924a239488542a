"""The linear trend of a record, group by group: what detrended quantile mapping takes off and puts back.

trend(t) = a + b t     least squares over the times of the group; of means over the window, by day of the year
"""

from __future__ import annotations

import numpy as np

from finegrid.data.adjustments.base import Values
from finegrid.data.adjustments.groups import Places, Times


def trend_of(values: Values, times: Times, *, positive: bool = False) -> Values:
    """The straight line through the values of each group (time, cell); missing values do not count.

    Args:
        values: (time, cell).
        times: their groups.
        positive: of amounts, the mean of the group stands where its line is not above zero.
    """
    smooth = values if times.window == 1 else _running_means(values, times.days, times.window // 2)
    result = np.full_like(values, np.nan)
    for _, members in times.groups:
        result[members] = _line(smooth[members], times.days[members].astype(np.float64), positive)
    return result


def _line(values: Values, days: Values, positive: bool) -> Values:
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    middle = (known * days[:, None]).sum(axis=0) / count
    apart = np.where(known, days[:, None] - middle, 0.0)
    variance = (apart**2).sum(axis=0)
    slope = np.divide((apart * np.where(known, values - mean, 0.0)).sum(axis=0), variance,
                      out=np.zeros_like(mean), where=variance > 0)  # fmt: skip
    line = mean + slope * (days[:, None] - middle)
    return np.asarray(np.where(positive & (line <= 0).any(axis=0), mean, line))


def _running_means(values: Values, days: Places, half: int) -> Values:
    """Means over the days around each time; missing ones do not count."""
    known = np.isfinite(values)
    start, stop = np.searchsorted(days, days - half), np.searchsorted(days, days + half, side="right")
    sums, counts = (
        np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(each, axis=0, dtype=np.float64)])
        for each in (np.where(known, values, 0.0), known)
    )
    number = counts[stop] - counts[start]
    means = np.divide(sums[stop] - sums[start], number, out=np.full_like(values, np.nan), where=number > 0)
    return np.asarray(means)
