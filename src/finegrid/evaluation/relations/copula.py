"""Do two variables depend on each other as in truth, whatever their own distributions are?

    copula-distance    sqrt(1/400 sum_ij (C_p(i/20, j/20) - C_t(i/20, j/20))^2),    i, j = 1, ..., 20

C(u, v) is the share, by area, of cases in which x is among its lowest part u and y among its lowest part v: the
empirical copula, that of independent variables being u v. Those of the members and of the truth are taken of their own
ranks, so that a bias or a wrong variance of one variable does not enter. The sum is the statistic of Cramer and von
Mises on a grid of ranks. Cells, times and members are pooled, at most about a million cases of each, evenly spread.

Ranks of equal values, such as those of dry days, are drawn by lot: within them the two variables count as independent.

Sources: Deheuvels 1979; Remillard and Scaillet 2009, doi:10.1016/j.jmva.2008.05.005.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.relations.base import Relation, RelationScore, Together, every

CLASSES = 20
_NAME = "copula-distance"


def copula(pair: Array, weights: Array) -> Array:
    """Empirical copula (20, 20) of two variables (2, case) with weights (case,)."""
    x, y = (_twentieth(values, weights, seed) for seed, values in enumerate(pair))
    shares = np.bincount(CLASSES * x + y, weights, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return np.asarray(shares.cumsum(axis=0).cumsum(axis=1) / weights.sum())


def rank_dependence(values: Array) -> float:
    """Spearman's correlation of a copula (20, 20): 12 times the integral of C - u v, from the grid's corners."""
    corners = np.pad(values, ((1, 0), (1, 0)))
    inner = (corners[1:, 1:] + corners[1:, :-1] + corners[:-1, 1:] + corners[:-1, :-1]) / 4
    return float(12 * (inner.mean() - 0.25))


def _copulas(fields: Together) -> Iterator[RelationScore]:
    for pair in combinations(fields.names, 2):
        (predicted, predicted_weights), (truth, weights) = _sampled(fields, pair)
        if not _varied(predicted) or not _varied(truth):
            note = "one of the two is constant: it has no ranks"
            yield RelationScore(_NAME, pair, np.nan, 0.0, np.nan, np.nan, note=note)
            continue
        ours, theirs = copula(predicted, predicted_weights), copula(truth, weights)
        distance = float(np.sqrt(((ours - theirs) ** 2).mean()))
        yield RelationScore(_NAME, pair, distance, 0.0, rank_dependence(ours), rank_dependence(theirs))


def _sampled(fields: Together, pair: tuple[str, str]) -> list[tuple[Array, Array]]:
    """Cases (2, case) and their weights (case,) of the members and of the truth, evenly spread over all."""
    steps = [every(field.size) for field in (fields.prediction[pair[0]], fields.truth[pair[0]])]
    found: list[list[tuple[Array, Array]]] = [[], []]
    for cases in fields.blocks(*pair):
        for kept, values, step in zip(found, (cases.prediction, cases.truth), steps, strict=True):
            weights = np.broadcast_to(cases.weights, values.shape[1:]).ravel()
            chosen = np.flatnonzero(weights)[::step]
            kept.append((values.reshape(2, -1)[:, chosen], weights[chosen]))
    parts = [tuple(zip(*kept, strict=True)) for kept in found]
    return [(np.concatenate(values, axis=1), np.concatenate(weights)) for values, weights in parts]


def _varied(pair: Array) -> bool:
    return pair.shape[1] > 1 and bool((pair.max(axis=1) > pair.min(axis=1)).all())


def _twentieth(values: Array, weights: Array, seed: int) -> NDArray[np.int64]:
    """The twentieth of all cases, by weight, in which each is; lots decide between equal ones."""
    order = np.lexsort((np.random.default_rng(seed).random(len(values)), values))
    middle = weights[order].cumsum() - weights[order] / 2
    found = np.empty(len(values), np.int64)
    found[order] = np.minimum(middle / weights.sum() * CLASSES, CLASSES - 1)
    return found


COPULA_DISTANCE = Relation(_NAME, "distance of copulas", _copulas)
