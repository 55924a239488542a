"""Ranks, quantiles and the look-up of factors, for many columns at once.

Arrays are (value, column): a column is a cell, a row a time of one group. xsdba does the same column by column; these
give its numbers, ties and all. Searches are binary, in all columns side by side, as NumPy has none that does so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from finegrid.data.adjustments.base import Values

Counts = NDArray[np.int64]


def nodes_of(count: int) -> Values:
    """The middles of so many equal parts of [0, 1]: the quantiles that are looked at."""
    return (np.arange(count) + 0.5) / count


def below(nodes: NDArray[Any], values: Values, *, equal: bool = False) -> Counts:
    """How many nodes of its column are below each value, or equal.

    Args:
        nodes: sorted (node, column), missing ones last; or (node,), the same for all columns.
        values: (value, column); of a missing value the count is 0.
        equal: count equal nodes as well.
    """
    if nodes.ndim == 1:
        return np.searchsorted(nodes, values, side="right" if equal else "left")
    count = len(nodes)
    result = np.zeros(values.shape, dtype=np.int64)
    compared = np.less_equal if equal else np.less
    step = 1 << (count.bit_length() - 1)
    while step:
        probe = result + step
        found = np.take_along_axis(nodes, np.minimum(probe, count) - 1, axis=0)
        np.copyto(result, probe, where=(probe <= count) & compared(found, values))
        step >>= 1
    return result


def looked_up(values: Values, nodes: Values, factors: NDArray[Any], way: str) -> Values:
    """Factors at values: of the nearest node, or linear between nodes; constant beyond the outermost ones.

    Args:
        values: (value, column).
        nodes: sorted (node, column) or (node,); equal ones may occur.
        factors: (node, column).
        way: "nearest" or "linear". Halfway, nearest takes the lower node, as SciPy and xsdba do.
    """
    if way == "nearest":
        halves = nodes / 2
        place = below(halves[1:] + halves[:-1], values)
        return np.take_along_axis(factors, place, axis=0).astype(np.float64)
    last = len(nodes) - 1
    place = np.clip(below(nodes, values, equal=True) - 1, 0, max(last - 1, 0))
    after = np.minimum(place + 1, last)
    left, right = (
        nodes[each] if nodes.ndim == 1 else np.take_along_axis(nodes, each, axis=0) for each in (place, after)
    )
    low, high = (np.take_along_axis(factors, each, axis=0).astype(np.float64) for each in (place, after))
    width = right - left
    part = np.divide(values - left, width, out=(values >= right).astype(np.float64), where=width > 0)
    return low + np.clip(part, 0.0, 1.0) * (high - low)


def percent_ranks(values: Values, sample: Values) -> Values:
    """Ranks of values within a sample that they belong to, from 0 (the lowest) to 1; equal ones share their mean rank.

    Args:
        values: (value, column).
        sample: (value, column), in any order; missing ones do not count. The same array where it is the values.
    """
    if values is sample:
        return ordered_ranks(values)
    ordered = np.sort(sample, axis=0)
    count = np.maximum(np.isfinite(ordered).sum(axis=0), 1)
    ends = np.stack([ordered[0], np.take_along_axis(ordered, count[None] - 1, axis=0)[0]])
    lowest, highest = (_mean_rank(ordered, ends) / count)[:, None]
    return _stretched(_mean_rank(ordered, values) / count, lowest, highest)


def ordered_ranks(values: Values, noise: Values | None = None) -> Values:
    """Ranks from 0 to 1 of values among themselves; noise in [0, 1) says who of equals is first, if it is given."""
    known = np.isfinite(values)
    ranks = rankdata(np.where(known, values, np.inf), axis=0)
    if noise is not None:
        ranks = rankdata(ranks + 0.25 * noise, axis=0)
    ranks = np.where(known, ranks, np.nan) / np.maximum(known.sum(axis=0), 1)
    return _stretched(ranks, np.fmin.reduce(ranks, axis=0), np.fmax.reduce(ranks, axis=0))


def completed(factors: Values, neutral: float) -> Values:
    """Factors (node, ...) where those that are no number take the next one above, or else below, or are neutral."""
    known, count = np.isfinite(factors), len(factors)
    if known.all():
        return factors
    places = np.arange(count).reshape(-1, *[1] * (factors.ndim - 1))
    above = np.minimum.accumulate(np.where(known, places, count)[::-1], axis=0)[::-1]
    under = np.maximum.accumulate(np.where(known, places, -1), axis=0)
    source = np.where(above < count, above, under)
    filled = np.take_along_axis(factors, np.maximum(source, 0), axis=0)
    return np.where(source >= 0, filled, neutral)


def _mean_rank(ordered: Values, values: Values) -> Values:
    ranks = (below(ordered, values) + below(ordered, values, equal=True) + 1) / 2
    return np.where(np.isfinite(values), ranks, np.nan)


def _stretched(ranks: Values, lowest: Values, highest: Values) -> Values:
    """Ranks as parts of 1 so that the lowest is 0; in the middle where all are equal."""
    span = highest - lowest
    stretched = np.divide(highest * (ranks - lowest), span, out=np.full_like(ranks, 0.5), where=span > 0)
    return np.where(np.isfinite(ranks), stretched, np.nan)
