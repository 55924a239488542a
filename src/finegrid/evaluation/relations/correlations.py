"""Do two variables go together in time, in each cell, as they do in truth?

    cross-correlation    sqrt(<(r_p - r_t)^2>),    r Pearson's correlation of x and y over the times in a cell
    rank-correlation     the same of Spearman's, the correlation of their ranks

<.> is the mean over cells by area. The members and times of a cell are pooled: a correlation between two variables is
one of their whole variation, most of which the mean of the members has lost. Values that are equal share their mean
rank. Cells with fewer than three known times, or in which one of the variables is constant, have no correlation and
are left out.

Ranks need all times of a cell at once: fields are read in blocks of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.relations.base import Relation, RelationScore, Together

# Values read at once: 64 MB as float64.
_VALUES_AT_ONCE = 1 << 23
_LEAST_CASES = 3


def correlations(pair: Array) -> Array:
    """Pearson's correlation (y, x) of two fields (2, case, y, x), NaN where unknown."""
    known = np.isfinite(pair).all(axis=0)
    count = known.sum(axis=0)
    filled = np.where(known, pair, 0.0)
    anomalies = np.where(known, filled - ratio(filled.sum(axis=1), count[None])[:, None], 0.0)
    product, (x, y) = (anomalies[0] * anomalies[1]).sum(axis=0), (anomalies**2).sum(axis=1)
    # What is left of a constant is rounding.
    least = (1e-12 * np.abs(filled).max(axis=1)) ** 2 * count
    varied = ((x > least[0]) & (y > least[1])) & (count >= _LEAST_CASES)
    return np.where(varied, ratio(product, np.sqrt(x * y)), np.nan)


def rank_correlations(pair: Array) -> Array:
    """Spearman's correlation (y, x) of two fields (2, case, y, x), NaN where unknown in both."""
    unknown = np.isnan(pair)
    return correlations(np.where(unknown, np.nan, rankdata(np.where(unknown, np.inf, pair), axis=1)))


def _measure(name: str, correlation: Callable[[Array], Array], fields: Together) -> Iterator[RelationScore]:
    for pair in combinations(fields.names, 2):
        found = [
            [correlation(each.reshape(2, -1, *each.shape[-2:])) for each in (cases.prediction, cases.truth)]
            for cases in fields.rows(*pair, values=_VALUES_AT_ONCE)
        ]
        predicted, observed = np.concatenate(found, axis=1)
        area = np.where(np.isfinite(predicted - observed), fields.area, 0.0)
        if area.any():
            share = area / area.sum()
            ours, theirs = (float((share * np.nan_to_num(each)).sum()) for each in (predicted, observed))
            error = float(np.sqrt((share * np.nan_to_num(predicted - observed) ** 2).sum()))
            yield RelationScore(name, pair, error, 0.0, ours, theirs)
        else:
            note = "one of the two is constant, or known at fewer than three times, in every cell"
            yield RelationScore(name, pair, np.nan, 0.0, np.nan, np.nan, note=note)


def _pearson(fields: Together) -> Iterator[RelationScore]:
    return _measure("cross-correlation", correlations, fields)


def _spearman(fields: Together) -> Iterator[RelationScore]:
    return _measure("rank-correlation", rank_correlations, fields)


CROSS_CORRELATION = Relation("cross-correlation", "error of the correlation", _pearson)
RANK_CORRELATION = Relation("rank-correlation", "error of the rank correlation", _spearman)
