"""How long it stays wet or dry: lengths of runs of days with at least 1 mm, or with less.

    wet-spell, wet-spell-90   median and 90th percentile of the lengths of wet spells    difference in days
    dry-spell, dry-spell-90   the same of dry spells                                     difference in days

A missing day and a gap in the record (from one winter to the next) end a spell. What the ends of a season cut off stays
cut off; truth and prediction have the same ends.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import DIFFERENCE, Cells, Index, rain_by_day
from finegrid.evaluation.indices.rain import WET, reaching

Mask = NDArray[np.bool_]


def lengths(state: Mask, follows: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lengths of runs of true in every column of `state` (time, column), and the column of each run.

    A run also ends where a time does not follow the one before it, `follows` (time,).
    """
    goes_on = state[1:] & state[:-1] & follows[1:, None]
    first, last = state.copy(), state.copy()
    first[1:] &= ~goes_on
    last[:-1] &= ~goes_on
    # Column by column both have the starts and ends of the same runs, in the same order.
    column, start = np.nonzero(first.T)
    _, end = np.nonzero(last.T)
    return end - start + 1, column


def grouped_quantile(values: NDArray[np.intp], group: NDArray[np.intp], groups: int, level: float) -> Array:
    """Quantile (groups,) of the values of each group, linear between order statistics; NaN for an empty group."""
    count = np.bincount(group, minlength=groups)
    result = np.full(groups, np.nan)
    if not len(values):
        return result
    ranked = values[np.lexsort((values, group))].astype(np.float64)
    start, place = count.cumsum() - count, level * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below, above = (ranked[np.minimum(start + each, len(ranked) - 1)] for each in (low, high))
    return np.where(count > 0, below + (place - low) * (above - below), np.nan)


def _spell(cells: Cells, *, wet: bool, level: float) -> Array:
    found, column = lengths(reaching(cells.columns, WET) == float(wet), cells.clock.follows)
    return grouped_quantile(found, column, cells.columns.shape[1], level)[None]


def _index(name: str, title: str, *, wet: bool, level: float) -> Index:
    return Index(
        name,
        title,
        partial(_spell, wet=wet, level=level),
        DIFFERENCE,
        units="day",
        applies=rain_by_day,
        needs="precipitation with one value a day or more",
    )


WET_SPELL = _index("wet-spell", "wet spells, median", wet=True, level=0.5)
WET_SPELL_90 = _index("wet-spell-90", "wet spells, 90th percentile", wet=True, level=0.9)
DRY_SPELL = _index("dry-spell", "dry spells, median", wet=False, level=0.5)
DRY_SPELL_90 = _index("dry-spell-90", "dry spells, 90th percentile", wet=False, level=0.9)
