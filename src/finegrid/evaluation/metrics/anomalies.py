"""Departures from the climate: do their patterns go together, and are they as large as the true ones?

    p' = p - c,    t' = t - c,    c the truth's mean over all times in each cell (`reference.climate`)

    acc       mean over times of <(p' - <p'>) (t' - <t'>)> / sqrt(<(p' - <p'>)^2> <(t' - <t'>)^2>)
    activity  sd(p') / sd(t'),    sd over space and time together

<.> is the mean over the cells of one time, weighted by area. `acc` is the centred anomaly correlation of the WMO
(Manual on the Global Data-processing and Forecasting System, WMO-No. 485, appendix 2.2.34); it judges the mean over
members, and leaves out times at which one of the fields has no pattern. `activity` pools the members, as a mean over
them is quiet by right: below one a prediction is too smooth or too near to the climate.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights, rounding
from finegrid.evaluation.metrics.reference import Reference


def anomalies(fields: Array, reference: Reference) -> Array:
    """Fields (..., y, x) less the truth's mean over the times in each cell.

    Raises:
        ValueError: when the climate is not known.
    """
    if reference.climate is None:
        raise ValueError("anomalies need the mean over the times")
    return _noticeable(fields - reference.climate, reference)


def _noticeable(departures: Array, reference: Reference) -> Array:
    # What is left of a constant after its mean is taken off has no pattern.
    return np.where(np.abs(departures) <= rounding(reference), 0.0, departures)


def _anomaly_correlation(block: Block) -> Array:
    weights = np.where(block.known & np.isfinite(block.mean), block.reference.grid.area, 0.0)
    p, t = (_centred(each, weights, block.reference) for each in (block.mean, block.truth))
    covariance, pp, tt = ((weights * each).sum(axis=(1, 2)) for each in (p * t, p * p, t * t))
    return ratio(covariance, np.sqrt(pp * tt))[None, :, None]


def _centred(fields: Array, weights: Array, reference: Reference) -> Array:
    """Anomalies less their mean over the cells of each time (time, y, x); zero where there is no weight."""
    departures = np.where(weights > 0, anomalies(fields, reference), 0.0)
    means = ratio((weights * departures).sum(axis=(1, 2)), weights.sum(axis=(1, 2)))
    return _noticeable(np.where(weights > 0, departures - means[:, None, None], 0.0), reference)


def _moments(block: Block) -> Array:
    p, t = anomalies(block.prediction, block.reference), anomalies(block.truth, block.reference)
    return np.stack([p.mean(axis=0), (p * p).mean(axis=0), t, t * t])


def _members_over_truth(means: Array) -> Array:
    p, pp, t, tt = means
    return np.sqrt(ratio(np.maximum(pp - p * p, 0), np.maximum(tt - t * t, 0)))


ACC = Metric("acc", "anomaly correlation", _anomaly_correlation, lambda means: means[0], 1.0, weights=equal_weights)
ACTIVITY = Metric(
    "activity", "activity of anomalies", _moments, _members_over_truth, best=1.0, proportional=True, cellwise=True
)
