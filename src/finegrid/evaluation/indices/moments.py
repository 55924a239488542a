"""Mean, spread and shape of the distribution of all values of a cell.

    mean    <x>                                              difference; for rain relative, in %
    sd      sqrt(sum (x - <x>)^2 / (n - 1))                  ratio
    skew    <(x - <x>)^3> / <(x - <x>)^2>^1.5                difference
    p02     quantile 0.02                                    difference; not for rain, where it is zero
    p98     quantile 0.98                                    difference; for rain relative, in %

Quantiles are linear between order statistics (type 7, the usual one of NumPy and R).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import (
    DIFFERENCE,
    RATIO,
    RELATIVE,
    Cells,
    Index,
    Kind,
    mean_of_known,
)


def column_quantile(values: Array, level: float) -> Array:
    """Quantile (column,) of the known values (n, column); NaN without any."""
    ranked = np.sort(values, axis=0)  # NaN last
    count = np.isfinite(ranked).sum(axis=0)
    place = level * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below, above = (np.take_along_axis(ranked, index[None], axis=0)[0] for index in (low, high))
    return np.asarray(below + (place - low) * (above - below))


def _mean(cells: Cells) -> Array:
    return mean_of_known(cells.columns, axis=0)[None]


def _centred_power(values: Array, power: int) -> Array:
    # Products: raising to a power is ten times slower.
    centred = values - mean_of_known(values, axis=0)
    return mean_of_known(np.multiply.reduce([centred] * power), axis=0)


def _deviation(cells: Cells) -> Array:
    values = cells.columns
    count = np.isfinite(values).sum(axis=0).astype(np.float64)
    return np.asarray(np.sqrt(_centred_power(values, 2) * ratio(count, count - 1.0))[None])


def _skewness(cells: Cells) -> Array:
    return ratio(_centred_power(cells.columns, 3), _centred_power(cells.columns, 2) ** 1.5)[None]


def _quantile(cells: Cells, level: float) -> Array:
    return column_quantile(cells.columns, level)[None]


def _not_rain(kind: Kind) -> bool:
    return not kind.is_rain


MEAN = Index("mean", "mean", _mean, DIFFERENCE, rain_comparison=RELATIVE)
DEVIATION = Index("sd", "standard deviation", _deviation, RATIO)
SKEWNESS = Index("skew", "skewness", _skewness, DIFFERENCE, units="1")
P02 = Index(
    "p02",
    "2nd percentile",
    partial(_quantile, level=0.02),
    DIFFERENCE,
    applies=_not_rain,
    needs="a variable other than precipitation",
)
P98 = Index("p98", "98th percentile", partial(_quantile, level=0.98), DIFFERENCE, rain_comparison=RELATIVE)
