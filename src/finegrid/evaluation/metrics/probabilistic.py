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

# Points that are ranked at once: their members stay in the cache of a processor.
_AT_ONCE = 4096


def fair_crps(block: Block) -> Array:
    """Fair CRPS of each point (1, time, y, x)."""
    members = len(block.prediction)
    if members == 1:
        return np.asarray(np.abs(block.prediction[0] - block.truth)[None])
    flat, truth = block.prediction.reshape(members, -1), block.truth.ravel()
    parts = [_of_points(flat[:, start : start + _AT_ONCE], truth[start : start + _AT_ONCE]) for start in _starts(truth)]
    return np.concatenate(parts).reshape(1, *block.truth.shape)


def _starts(truth: Array) -> range:
    return range(0, max(1, truth.size), _AT_ONCE)


def _of_points(members: Array, truth: Array) -> Array:
    """Fair CRPS of some points (point,) from their members (member, point)."""
    ranked, count = np.array(members.T, order="C"), len(members)
    ranked.sort(axis=-1)
    apart = ranked @ (2.0 * np.arange(1, count + 1) - count - 1)
    ranked -= truth[:, None]
    return np.asarray(np.abs(ranked, out=ranked).mean(axis=-1) - apart / (count * (count - 1)))


CRPS = Metric("crps", "CRPS", fair_crps, first, in_units=True)
