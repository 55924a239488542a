"""How good an ensemble is as a forecast of a distribution.

    crps    <|x - t|> - <|x - x'|> / 2    (x, x' two different members, t the truth; in the variable's units)

With M members x_1 <= ... <= x_M this is the fair estimator, which M does not bias (Ferro 2014, doi:10.1002/qj.2270):

    1/M sum_i |x_i - t| - 1/(M (M - 1)) sum_i (2 i - M - 1) x_i

One member has no second one: its score is the absolute error, so that a single forecast stands in the same column.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.pointwise import first
from finegrid.evaluation.metrics.reading import Stored

# Points that are ranked at once: their members stay in the cache of a processor.
_AT_ONCE = 1024
# Values between the rows of what is ranked at once: rows of 2^n values would all lie in the same lines of the cache.
_BETWEEN = 16


def fair_crps(block: Block) -> Array:
    """Fair CRPS of each point (1, time, y, x)."""
    return crps_of(block.stored, block.truth)[None]


def crps_of(members: Stored, truth: Array) -> Array:
    """Fair CRPS (...) of members (member, ...) against a truth (...).

    Members are ranked in their own precision, in which nothing is lost, and summed in double precision.
    """
    count = len(members)
    if count == 1:
        return np.asarray(np.abs(members[0] - truth))
    flat, true, scores = members.reshape(count, -1), truth.ravel(), np.empty(truth.size)
    rows, ranked = np.empty((count, _AT_ONCE + _BETWEEN), flat.dtype), np.empty((_AT_ONCE, count), flat.dtype)
    for start in range(0, truth.size, _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, truth.size))
        points = part.stop - start
        rows[:, :points] = flat[:, part]
        ranked[:points] = rows[:, :points].T
        scores[part] = _of_points(ranked[:points], true[part])
    return scores.reshape(truth.shape)


def _of_points(members: Stored, truth: Array) -> Array:
    """Fair CRPS of some points (point,) from their members (point, member), which are put in order."""
    count = members.shape[1]
    members.sort(axis=-1)
    # About the truth, which the sum of differences does not mind: so it loses no digits.
    errors = members.astype(np.float64)
    errors -= truth[:, None]
    apart = errors @ (2.0 * np.arange(1, count + 1) - count - 1)
    return np.asarray(np.abs(errors, out=errors) @ np.full(count, 1 / count) - apart / (count * (count - 1)))


CRPS = Metric("crps", "CRPS", fair_crps, first, in_units=True, cellwise=True, asks=())
