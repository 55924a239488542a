"""Chances of an event, the value being above a threshold, as the share k / M of the M members that are above it.

    brier               <(k / M - o)^2 - k (M - k) / (M^2 (M - 1))>        o is 1 where the truth is above, else 0
    brier-reliability   sum_k n_k (k / M - o_k)^2                          0 where chances come true
    brier-resolution    sum_k n_k (o_k - o')^2 / (o' (1 - o'))             1 where all events are told from the rest
    roc-area            sum_k h_k (sum_(j < k) f_j + f_k / 2)              1/2 is no better than lots

n_k is the share, by area, of the cases with k members above, o_k how often the event happens in them, o' how often it
does in all; h_k and f_k are the shares of events and of non-events with k members above.

The second part of `brier` is the variance of a share of M draws: without it few members would be worse than many of the
same kind (Ferro 2014, doi:10.1002/qj.2270). A single forecast is a plain yes or no: its score is how often it is
wrong. Murphy's decomposition (1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2) is of the members as they are,

    <(k / M - o)^2> = reliability - resolution + uncertainty,    uncertainty = o' (1 - o'),

exactly, since all cases of a class have the same chance. All three are in `decomposition`; the metric of
resolution is a part of the uncertainty, which is the most that it can be. Both grow with the number of classes on few
cases: compare ensembles of one size.

The area under the curve of hit rate over false alarm rate is the chance that an event had more members above than
a non-event, ties counting half (Mason and Graham 2002, doi:10.1256/003590002320603584). It asks nothing of the
chances but their order. Where the event never happens, or always, there is nothing to be told apart: resolution and
area are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, Totals, ratio
from finegrid.evaluation.metrics.base import Block, Metric, blocks
from finegrid.evaluation.metrics.classes import sums_by_class
from finegrid.evaluation.metrics.pointwise import first
from finegrid.evaluation.metrics.reference import Reference


@dataclass(frozen=True)
class Decomposition:
    """Murphy's parts of the Brier score of an event.

    Attributes:
        threshold: the event is above it.
        brier: of the members as they are: reliability - resolution + uncertainty.
        reliability: how far chances are from how often they come true.
        resolution: how much the forecast knows beyond how often the event happens.
        uncertainty: Brier score of always saying how often it happens.
    """

    threshold: float
    brier: float
    reliability: float
    resolution: float
    uncertainty: float


def fair_brier(block: Block) -> Array:
    """Fair Brier score of each point (1, time, y, x)."""
    members, threshold = len(block.prediction), block.reference.threshold
    chance = (block.prediction > threshold).mean(axis=0)
    score = (chance - (block.truth > threshold)) ** 2
    if members > 1:
        score = score - chance * (1 - chance) / (members - 1)
    return np.where(_known(block), score, np.nan)[None]


def cases_by_class(block: Block) -> Totals:
    """Sums of the areas of events, then of non-events (2 * class, time), with 0, ..., M members above."""
    return block.once(_cases_by_class)


def _cases_by_class(block: Block) -> Totals:
    members, threshold = len(block.prediction), block.reference.threshold
    above = (block.prediction > threshold).sum(axis=0)
    weights, happened = np.where(_known(block), block.reference.grid.area, 0.0), block.truth > threshold
    sums = [sums_by_class(above, np.where(some, weights, 0.0), members + 1) for some in (happened, ~happened)]
    return Totals(np.concatenate(sums), weights.sum(axis=(1, 2)))


def decomposition(prediction: xr.DataArray, truth: xr.DataArray, *, threshold: float | None = None) -> Decomposition:
    """Murphy's decomposition of the Brier score of a harmonised prediction on the grid and times of the truth.

    Args:
        prediction: (time, y, x), or with members.
        truth: (time, y, x).
        threshold: the event is above it; by default the 95th percentile of the truth.
    """
    reference = Reference.of(truth, threshold=threshold)
    if "member" not in prediction.dims:
        prediction = prediction.expand_dims("member")
    parts = [cases_by_class(block) for block in blocks(prediction, truth, reference, None)]
    found = [float(each[0]) for each in _decomposed(Totals.joined(parts).mean()[:, None])]
    return Decomposition(reference.threshold, found[0] - found[1] + found[2], *found)


def _known(block: Block) -> NDArray[np.bool_]:
    return np.asarray(block.known & np.isfinite(block.mean))


def _decomposed(means: Array) -> tuple[Array, Array, Array]:
    """Reliability, resolution and uncertainty (...) of means of cases by class (2 * class, ...)."""
    events, others = np.split(means, 2)
    cases, chance = events + others, np.linspace(0, 1, len(events)).reshape(-1, *[1] * (events.ndim - 1))
    often, base = np.where(cases > 0, ratio(events, cases), 0.0), events.sum(axis=0)
    reliability, resolution = (cases * (often - chance) ** 2).sum(axis=0), (cases * (often - base) ** 2).sum(axis=0)
    # Not base (1 - base), which rounding keeps from zero where the event always happens.
    return np.asarray(reliability), np.asarray(resolution), np.asarray(base * others.sum(axis=0))


def _reliability(means: Array) -> Array:
    return _decomposed(means)[0]


def _resolution(means: Array) -> Array:
    _, resolution, uncertainty = _decomposed(means)
    return ratio(resolution, uncertainty)


def _area(means: Array) -> Array:
    events, others = np.split(means, 2)
    fewer = np.cumsum(others, axis=0) - others / 2
    return ratio((events * fewer).sum(axis=0), events.sum(axis=0) * others.sum(axis=0))


def _per_point(block: Block) -> Array:
    raise ValueError("classes of chances are of many cases; ask for their totals")


BRIER = Metric("brier", "Brier score", fair_brier, first, cellwise=True, asks=("threshold",))
RELIABILITY = Metric("brier-reliability", "Brier reliability", _per_point, _reliability, summed=cases_by_class)
RESOLUTION = Metric("brier-resolution", "Brier resolution", _per_point, _resolution, best=1.0, summed=cases_by_class)
ROC_AREA = Metric("roc-area", "ROC area", _per_point, _area, best=1.0, summed=cases_by_class)
