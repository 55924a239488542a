"""Errors cell by cell, and how well patterns go together. All but `negatives` judge the mean over members.

    rmse         sqrt(<(p - t)^2>)
    mae          <|p - t|>
    bias         <p - t>
    correlation  (<pt> - <p><t>) / sqrt((<p^2> - <p>^2) (<t^2> - <t>^2)), over space and time together
    negatives    share of members' values below zero, where below zero is nonsense

<.> is the mean over times and cells, weighted by area.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.reference import Reference


def first(means: Array) -> Array:
    """The only statistic as it is."""
    return np.asarray(means[0])


def square_error(block: Block) -> Array:
    """Squared error of the ensemble mean (1, time, y, x)."""
    return np.asarray((block.mean - block.truth)[None] ** 2)


def _absolute_error(block: Block) -> Array:
    return np.asarray(np.abs(block.mean - block.truth)[None])


def _error(block: Block) -> Array:
    return np.asarray((block.mean - block.truth)[None])


def _moments(block: Block) -> Array:
    # Shifted by a value within the truth's range: correlation does not mind, and squares lose no digits.
    shift = (block.reference.lowest + block.reference.highest) / 2
    p, t = block.mean - shift, block.truth - shift
    return np.stack([p, t, p * p, t * t, p * t])


def _centred(means: Array) -> Array:
    p, t, pp, tt, pt = means
    return ratio(pt - p * t, np.sqrt(np.maximum(pp - p * p, 0) * np.maximum(tt - t * t, 0)))


def _below_zero(block: Block) -> Array:
    share = (block.prediction < 0).mean(axis=0)
    return np.where(block.known, share, np.nan)[None]


def never_negative(reference: Reference) -> bool:
    """Variables without values below zero."""
    return reference.never_negative


RMSE = Metric("rmse", "RMSE", square_error, lambda means: np.sqrt(means[0]), in_units=True, cellwise=True, asks=())
MAE = Metric("mae", "mean abs. error", _absolute_error, first, in_units=True, cellwise=True, asks=())
BIAS = Metric("bias", "bias", _error, first, in_units=True, cellwise=True, asks=())
CORRELATION = Metric("correlation", "correlation", _moments, _centred, best=1.0, cellwise=True)
NEGATIVES = Metric("negatives", "negative values", _below_zero, first, applies=never_negative, cellwise=True)
