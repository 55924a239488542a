"""The annual cycle of a cell: how large it is and when it is highest.

With m(k) the mean of calendar month k over all years,

    cycle        max m - min m over the months that there are           difference; for rain relative, in %
    cycle-phase  day of the year at which the first harmonic of m is highest      difference, at most half a year

The phase needs all twelve months. VALUE takes the cycle from a moving mean over 30 days. Calendar months mean the same
in every calendar; a peak between two of them lies up to 3 % of the range higher. A month is a twelfth of a year here.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import CIRCULAR, DIFFERENCE, RELATIVE, Cells, Index, Kind, mean_of_known

_MONTHS = 12
_YEAR = 365.25


def _monthly(cells: Cells) -> Array:
    """Means (month, column) of the calendar months that there are."""
    months = np.unique(cells.clock.month)
    return np.stack([mean_of_known(cells.columns[cells.clock.month == month], axis=0) for month in months])


def _range(cells: Cells) -> Array:
    # A column that lacks a whole month has no cycle: its range would be too small.
    monthly = _monthly(cells)
    return np.asarray((monthly.max(axis=0) - monthly.min(axis=0))[None])


def _harmonic(cells: Cells) -> Array:
    """Cosine and sine part (2, column) of the monthly means."""
    angle = 2 * np.pi * (np.arange(_MONTHS) + 0.5) / _MONTHS
    return np.stack([np.cos(angle), np.sin(angle)]) @ _monthly(cells) / (_MONTHS / 2)


def _day(parts: Array) -> Array:
    """Day of the year (...), 0 to 365.25, of the maximum of a harmonic (2, ...)."""
    return np.asarray(np.arctan2(parts[1], parts[0]) / (2 * np.pi) * _YEAR % _YEAR)


def _some_months(kind: Kind) -> bool:
    return kind.months > 1


def _all_months(kind: Kind) -> bool:
    return kind.months == _MONTHS


CYCLE = Index(
    "cycle",
    "annual cycle, range",
    _range,
    DIFFERENCE,
    rain_comparison=RELATIVE,
    applies=_some_months,
    needs="two calendar months or more",
)
CYCLE_PHASE = Index(
    "cycle-phase",
    "annual cycle, phase",
    _harmonic,
    CIRCULAR,
    units="day",
    finish=_day,
    applies=_all_months,
    needs="all twelve calendar months",
)
