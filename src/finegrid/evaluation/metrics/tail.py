"""Are there as heavy extremes as in truth?

    high-quantile    q(members) / q(truth),    q the 99.9th percentile over all cells and times, weighted by area

The values of all members are pooled: what counts is that extremes exist, not that each falls on its day (this is what
a blurred field lacks, and what a mean over members lacks by right). One is best. A ratio needs a natural zero, so the
metric is for variables that cannot be negative, such as rain.

Percentiles do not add up over blocks of time, but how often a threshold is exceeded does. Thresholds lie densely
around a first estimate of the truth's percentile (`reference.tail`) and more widely up to a twentieth and twenty times
of it; between them the logarithm of the exceedance is interpolated, which is exact for an exponential tail. Beyond
the last one the ratio is infinite.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, Totals, ratio
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.pointwise import never_negative
from finegrid.evaluation.metrics.reference import EXCEEDED

_SIDE = np.linspace(-1, 1, 81)
_THRESHOLDS = np.concatenate([[0.0], np.exp(3 * _SIDE * np.abs(_SIDE))])
"""Relative to the estimate: steps of 0.2 % around it, of 5 % at one and a half times of it."""
# Between the last threshold that is exceeded and one that is not, exceedance is taken to fall to this part.
_LEAST = 0.05


def exceedances(block: Block) -> Totals:
    """Sums of the weights (2 * threshold, time) of what exceeds each threshold: of the truth, and of the members."""
    known = block.known & np.isfinite(block.mean)
    weights = np.where(known, block.reference.grid.area, 0.0)
    thresholds = _THRESHOLDS * block.reference.tail
    if not np.isfinite(block.reference.tail):
        return Totals(np.zeros((2 * len(thresholds), len(known))), np.zeros(len(known)))
    members = [_exceeding(member, weights, thresholds) for member in block.prediction]
    sums = np.concatenate([_exceeding(block.truth, weights, thresholds), np.mean(members, axis=0)])
    return Totals(sums, weights.sum(axis=(1, 2)))


def _exceeding(values: Array, weights: Array, thresholds: Array) -> Array:
    """Weight (threshold, time) of the values (time, y, x) above each threshold."""
    classes = len(thresholds) + 1
    passed = np.searchsorted(thresholds, values, side="left") + classes * np.arange(len(values))[:, None, None]
    found = np.bincount(passed.ravel(), weights.ravel(), minlength=classes * len(values)).reshape(-1, classes)
    return np.asarray(found[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].T)


def _members_over_truth(means: Array) -> Array:
    truth, members = np.split(means, 2)
    return ratio(_quantile(members), _quantile(truth))


def _quantile(exceeded: Array) -> Array:
    """Where exceedance (threshold, ...) falls below `EXCEEDED`, relative to the estimate; infinite if it never does."""
    under = exceeded < EXCEEDED
    after = under.argmax(axis=0)
    before = np.maximum(after - 1, 0)
    logs = np.log(np.maximum(exceeded, _LEAST * EXCEEDED))
    high, low = (np.take_along_axis(logs, index[None], axis=0)[0] for index in (before, after))
    part = ratio(high - np.log(EXCEEDED), high - low)
    found = _THRESHOLDS[before] + np.where(after > 0, part, 0.0) * (_THRESHOLDS[after] - _THRESHOLDS[before])
    found = np.where(under.any(axis=0), found, np.inf)
    return np.where(np.isnan(exceeded).any(axis=0), np.nan, found)


def _per_point(block: Block) -> Array:
    raise ValueError("exceedances are too many to be kept for each point; ask for their totals")


HIGH_QUANTILE = Metric(
    "high-quantile",
    "99.9th percentile",
    _per_point,
    _members_over_truth,
    best=1.0,
    applies=never_negative,
    proportional=True,
    summed=exceedances,
)
