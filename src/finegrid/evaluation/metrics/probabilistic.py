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


def fair_crps(block: Block) -> Array:
    """Fair CRPS of each point (1, time, y, x)."""
    members = len(block.prediction)
    error = np.abs(block.prediction - block.truth).mean(axis=0)
    if members == 1:
        return np.asarray(error[None])
    ranked = np.sort(block.prediction, axis=0)
    rank = 2.0 * np.arange(1, members + 1) - members - 1
    return np.asarray((error - np.tensordot(rank, ranked, axes=1) / (members * (members - 1)))[None])


CRPS = Metric("crps", "CRPS", fair_crps, first, in_units=True)
