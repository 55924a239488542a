"""Extremes of each year, averaged over the years: the indices of ETCCDI for daily rain and temperature.

    rx1day    largest amount of a day                             relative, in %
    rx5day    largest amount of five days in a row                relative, in %
    cdd       longest dry spell (days with less than 1 mm)        difference in days
    cwd       longest wet spell (days with at least 1 mm)         difference in days
    txx       highest value, of a daily maximum TXx               difference
    tnn       lowest value, of a daily minimum TNn                difference

Years are those of `years`: a record of winters has winters. Five days belong to the year of the last of them. A spell
ends with its year, at a gap and at a missing day. Where less than four fifths of a year is known it does not count.

Source: Zhang et al. 2011, doi:10.1002/wcc.147.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import (
    DIFFERENCE,
    RELATIVE,
    Cells,
    Index,
    rain_by_day,
    temperature_by_day,
)
from finegrid.evaluation.indices.rain import WET, reaching
from finegrid.evaluation.indices.years import follows_in_year, largest, mean_over_years

_RAIN = "precipitation with one value a day or more"
_WARMTH = "a temperature with one value a day or more"
_DAYS_IN_A_ROW = 5


def running_sum(values: Array, follows: NDArray[np.bool_], length: int) -> Array:
    """Sums (time, column) over each time and those before it, `length` in a row; NaN where they are not all known."""
    result = values.copy()
    unbroken = np.ones(len(values), dtype=bool)
    for back in range(1, length):
        # The time `back - 1` steps ago has to follow the one before it.
        unbroken[back - 1 :] &= follows[: len(values) - back + 1]
        result[back:] += values[:-back]
    result[: length - 1] = np.nan
    return np.where(unbroken[:, None], result, np.nan)


def days_so_far(state: NDArray[np.bool_], follows: NDArray[np.bool_]) -> NDArray[np.intp]:
    """How long a run of true has lasted at each time (time, column), zero where it is false.

    A run also ends where a time does not follow the one before it, `follows` (time,).
    """
    step = np.arange(1, len(state) + 1)[:, None]
    begins = state.copy()
    begins[1:] &= ~(state[:-1] & follows[1:, None])
    return np.where(state, step - np.maximum.accumulate(np.where(begins, step, 0), axis=0) + 1, 0)


def _wettest_day(cells: Cells) -> Array:
    return mean_over_years(largest(cells.columns, cells.clock))


def _wettest_days(cells: Cells) -> Array:
    sums = running_sum(cells.columns, cells.clock.follows, _DAYS_IN_A_ROW)
    return mean_over_years(largest(sums, cells.clock, of=cells.columns))


def _longest_spell(cells: Cells, *, wet: bool) -> Array:
    state = reaching(cells.columns, WET) == float(wet)
    lasted = days_so_far(state, follows_in_year(cells.clock)).astype(np.float64)
    return mean_over_years(largest(np.where(np.isfinite(cells.columns), lasted, np.nan), cells.clock))


def _longest_dry_spell(cells: Cells) -> Array:
    return _longest_spell(cells, wet=False)


def _longest_wet_spell(cells: Cells) -> Array:
    return _longest_spell(cells, wet=True)


def _highest(cells: Cells) -> Array:
    return mean_over_years(largest(cells.columns, cells.clock))


def _lowest(cells: Cells) -> Array:
    return -mean_over_years(largest(-cells.columns, cells.clock))


RX1DAY = Index("rx1day", "Rx1day, wettest day of a year", _wettest_day, RELATIVE, applies=rain_by_day, needs=_RAIN)
RX5DAY = Index(
    "rx5day", "Rx5day, wettest five days", _wettest_days, RELATIVE, units="mm", applies=rain_by_day, needs=_RAIN
)
CDD = Index(
    "cdd", "CDD, longest dry spell", _longest_dry_spell, DIFFERENCE, units="day", applies=rain_by_day, needs=_RAIN
)
CWD = Index(
    "cwd", "CWD, longest wet spell", _longest_wet_spell, DIFFERENCE, units="day", applies=rain_by_day, needs=_RAIN
)
TXX = Index("txx", "TXx, highest of a year", _highest, DIFFERENCE, applies=temperature_by_day, needs=_WARMTH)
TNN = Index("tnn", "TNn, lowest of a year", _lowest, DIFFERENCE, applies=temperature_by_day, needs=_WARMTH)
