"""Years of a record, or its seasons where months are missing: the blocks of which extremes are taken.

A record of all months has the years of the calendar. One of winters alone (December to February) has winters: years
that begin after the longest run of months that never occur. A year counts in a cell where at least four fifths of what
its months hold is known, so that the half years at the ends of a record are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import Clock, mean_of_known

_MONTHS = 12
_MONTH_DAYS = 365.25 / _MONTHS
_KNOWN = 0.8


def times_of_a_year(clock: Clock) -> float:
    """Number of times that the months of the record have in a year."""
    return len(np.unique(clock.month)) * _MONTH_DAYS / clock.step_days


def year_starts(clock: Clock) -> NDArray[np.intp]:
    """Numbers of the first time of each year (year,)."""
    year = clock.year + (clock.month >= _first_month(clock.month))
    return np.flatnonzero(np.concatenate([[True], year[1:] != year[:-1]]))


def follows_in_year(clock: Clock) -> NDArray[np.bool_]:
    """Whether a time is one step after the one before it in the same year (time,)."""
    follows = clock.follows.copy()
    follows[year_starts(clock)] = False
    return follows


def whole_years(known: NDArray[np.bool_], clock: Clock) -> NDArray[np.bool_]:
    """Where enough of a year is known (year, column), from which values are (time, column)."""
    count = np.add.reduceat(known, year_starts(clock), axis=0, dtype=np.int64)
    return np.asarray(count >= _KNOWN * times_of_a_year(clock))


def largest(values: Array, clock: Clock, *, of: Array | None = None) -> Array:
    """Largest known value of each year (year, column) of values (time, column); NaN in a year known in part.

    Of sums over several times, `of` is what they are made of, by which a year is known.
    """
    found = _reduced(np.maximum.reduceat, values, clock, -np.inf, values if of is None else of)
    return np.where(found > -np.inf, found, np.nan)


def total(values: Array, clock: Clock) -> Array:
    """Sum of the known values of each year (year, column); NaN in a year known in part."""
    return _reduced(np.add.reduceat, values, clock, 0.0, values)


def mean_over_years(values: Array) -> Array:
    """Mean (1, column) over the years that count of (year, column); NaN without any."""
    return mean_of_known(values, axis=0)[None]


def _reduced(reduce: Callable[..., Array], values: Array, clock: Clock, empty: float, counted: Array) -> Array:
    found = reduce(np.where(np.isfinite(values), values, empty), year_starts(clock), axis=0)
    return np.where(whole_years(np.isfinite(counted), clock), found, np.nan)


def _first_month(month: NDArray[np.intp]) -> int:
    """The month with which a year of these months begins."""
    there = np.isin(np.arange(1, _MONTHS + 1), month)
    if there.all():
        return 1
    # Twice around the year: the longest run of absent months may go over its end.
    absent = np.concatenate([~there, ~there])
    steps = np.arange(1, 2 * _MONTHS + 1)
    run = steps - np.maximum.accumulate(np.where(absent, 0, steps))
    return int(run.argmax() + 1) % _MONTHS + 1
