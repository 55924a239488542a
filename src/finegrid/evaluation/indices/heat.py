"""How many days a year it stays hot.

    heat-wave    days in spells of three days or more above the truth's 90th percentile, a year    difference in days

The threshold is one number for each cell, over all days of the year, of the truth: a prediction that is too warm has
too many such days. Spells end with the year, at a gap and at a missing day. Years are those of `years`.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import DIFFERENCE, Cells, Index, temperature_by_day
from finegrid.evaluation.indices.extremes import days_so_far
from finegrid.evaluation.indices.moments import column_quantile
from finegrid.evaluation.indices.years import follows_in_year, mean_over_years, total

_HOT = 0.9
_LEAST_DAYS = 3


def _threshold(cells: Cells) -> Array:
    """The truth's percentile in each column (member x cell,)."""
    truth = cells.values if cells.truth is None else cells.truth
    limit = column_quantile(truth.reshape(-1, truth.shape[-1]), _HOT)
    return np.tile(limit, cells.values.shape[1])


def _days_of_heat_waves(cells: Cells) -> Array:
    values, follows = cells.columns, follows_in_year(cells.clock)
    lasted = days_so_far(values > _threshold(cells), follows)
    # The third day of a spell counts for the first three, every later one for itself.
    days = np.where(lasted == _LEAST_DAYS, _LEAST_DAYS, lasted > _LEAST_DAYS).astype(np.float64)
    return mean_over_years(total(np.where(np.isfinite(values), days, np.nan), cells.clock))


HEAT_WAVE = Index(
    "heat-wave",
    "days of heat waves a year",
    _days_of_heat_waves,
    DIFFERENCE,
    units="day",
    applies=temperature_by_day,
    needs="a temperature with one value a day or more",
)
