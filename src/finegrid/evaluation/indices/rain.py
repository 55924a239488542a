"""How often it rains and how much: indices of daily precipitation. A wet day has at least 1 mm.

    r01         part of the days that are wet                      difference in points (% of days)
    sdii        mean over wet days                                 relative, in %
    r20         part of the days with at least 20 mm               difference in points (% of days)
    r98p        98th percentile of wet days (P98Wet of VALUE)      relative, in %
    r98p-mean   mean over wet days above it (P98WetAmount)         relative, in %

Amounts are compared with the thresholds less 1e-4 mm, so that 1 mm which was packed or converted is still 1 mm.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import POINTS, RELATIVE, Cells, Index, mean_of_known, rain_by_day
from finegrid.evaluation.indices.moments import column_quantile

WET, HEAVY = 1.0, 20.0
_ROUNDING = 1e-4
_NEEDS = "precipitation with one value a day or more"


def reaching(values: Array, threshold: float) -> Array:
    """One where a value reaches the threshold, zero where it does not, NaN where it is missing."""
    return np.where(np.isfinite(values), values >= threshold - _ROUNDING, np.nan)


def wet_amounts(values: Array) -> Array:
    """Values of wet days, the others missing."""
    return np.where(reaching(values, WET) == 1, values, np.nan)


def _wet_part(cells: Cells) -> Array:
    return 100 * mean_of_known(reaching(cells.columns, WET), axis=0)[None]


def _heavy_part(cells: Cells) -> Array:
    return 100 * mean_of_known(reaching(cells.columns, HEAVY), axis=0)[None]


def _intensity(cells: Cells) -> Array:
    return mean_of_known(wet_amounts(cells.columns), axis=0)[None]


def _wet_extreme(cells: Cells) -> Array:
    return column_quantile(wet_amounts(cells.columns), 0.98)[None]


def _beyond_extreme(cells: Cells) -> Array:
    amounts = wet_amounts(cells.columns)
    beyond = amounts > column_quantile(amounts, 0.98)
    return ratio(np.where(beyond, amounts, 0.0).sum(axis=0), beyond.sum(axis=0).astype(np.float64))[None]


R01 = Index("r01", "R01, wet days", _wet_part, POINTS, units="%", applies=rain_by_day, needs=_NEEDS)
SDII = Index("sdii", "SDII, rain of wet days", _intensity, RELATIVE, applies=rain_by_day, needs=_NEEDS)
R20 = Index("r20", "R20, days of 20 mm", _heavy_part, POINTS, units="%", applies=rain_by_day, needs=_NEEDS)
R98P = Index("r98p", "R98p, extreme wet days", _wet_extreme, RELATIVE, applies=rain_by_day, needs=_NEEDS)
R98P_MEAN = Index("r98p-mean", "mean beyond R98p", _beyond_extreme, RELATIVE, applies=rain_by_day, needs=_NEEDS)
