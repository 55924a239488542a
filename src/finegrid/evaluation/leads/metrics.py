"""Scores of forecasts at one lead time: sums for each initial time, and what is made of their mean.

With f the forecast, o the truth and c the climate at the valid time, <.> the area mean, and (t) an initial time:

    rmse      sqrt(mean of (f - o)^2)
    bias      mean of f - o
    acc       mean over t of <(f - c)(o - c)> / sqrt(<(f - c)^2> <(o - c)^2>), the anomaly correlation
    activity  sqrt(mean over t of <(f - c - <f - c>)^2>): how much is going on in the forecast; a smooth one has less
    activity-ratio  the same over that of the truth in the same cells and times: 1 for weather, below it for means
    sedi      [ln F - ln H - ln(1 - F) + ln(1 - H)] / [ln F + ln H + ln(1 - F) + ln(1 - H)], H the part of the events
              that was forecast and F the part of the others that was: the symmetric extremal dependence index, which
              does not vanish as events become rare (Ferro and Stephenson 2011, doi:10.1175/WAF-D-10-05030.1). It is
              not known where H or F is 0 or 1, as for a forecast that never says yes, but for the perfect one
    quantile  mean of (o - q)(p - [o < q]), q the p-quantile of the members: least for the right quantile

rmse, bias and acc are of the mean of the members, activity and sedi of each member. An event is a value above a
threshold in its cell.

Source: Ben Bouallègue et al., The rise of data-driven weather forecasting, BAMS 2024, doi:10.1175/BAMS-D-23-0162.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, Totals, ratio

# Rounding of a rate of one or zero.
_RATE = 1e-12


@dataclass(frozen=True)
class LeadBlock:
    """Forecasts of one variable at one lead, with what is known at their valid times.

    Attributes:
        forecast: (member, init, y, x).
        truth: (init, y, x), NaN where nothing is known.
        climate: (init, y, x).
        threshold: of the event in each cell (y, x).
        area: of each cell (y, x).
        level: p of the quantile score.
    """

    forecast: Array
    truth: Array
    climate: Array
    threshold: Array
    area: Array
    level: float

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Where there is a truth (init, y, x)."""
        return np.isfinite(self.truth)

    @cached_property
    def mean(self) -> Array:
        """Mean of the members (init, y, x)."""
        return np.asarray(self.forecast.mean(axis=0))

    @property
    def missing(self) -> int:
        """Number of values with a truth and no forecast."""
        return int((self.known & ~np.isfinite(self.mean)).sum())

    def area_means(self, values: Array) -> Array:
        """Means (..., init) over the known cells of values (..., init, y, x)."""
        weights = self.known * self.area
        return ratio((np.where(self.known, values, 0.0) * weights).sum((-2, -1)), weights.sum((-2, -1)))


@dataclass(frozen=True)
class LeadMetric:
    """A score of forecasts at one lead.

    Attributes:
        name: as in LEAD_METRICS.
        title: for people.
        totals: sums of each initial time.
        finish: from mean statistics (statistic, ...) to scores (...).
        best: the score of a perfect forecast; NaN where no value is better than another.
        in_units: whether the score has the units of the variable.
        proportional: whether half the best score is as far from it as twice.
    """

    name: str
    title: str
    totals: Callable[[LeadBlock], Totals]
    finish: Callable[[Array], Array]
    best: float = 0.0
    in_units: bool = False
    proportional: bool = False

    def distance(self, scores: Array) -> Array:
        """How far scores are from the best one: the smaller the better."""
        if self.proportional:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(np.abs(np.log(scores / self.best)))
        return np.asarray(np.abs(scores - self.best))


def _square_error(block: LeadBlock) -> Totals:
    return Totals.of(((block.mean - block.truth) ** 2)[None], block.area)


def _error(block: LeadBlock) -> Totals:
    return Totals.of((block.mean - block.truth)[None], block.area)


def _anomaly_correlation(block: LeadBlock) -> Totals:
    forecast, truth = block.mean - block.climate, block.truth - block.climate
    both, *squares = (block.area_means(each) for each in (forecast * truth, forecast**2, truth**2))
    return _by_init(ratio(both, np.sqrt(squares[0] * squares[1]))[None])


def _activity(block: LeadBlock) -> Totals:
    return _by_init(_spatial_variance(block, block.forecast).mean(axis=0)[None])


def _activities(block: LeadBlock) -> Totals:
    theirs = _spatial_variance(block, block.forecast).mean(axis=0)
    return _by_init(np.stack([theirs, _spatial_variance(block, block.truth)]))


def _spatial_variance(block: LeadBlock, fields: Array) -> Array:
    """Variance over the area (..., init) of the anomalies of fields (..., init, y, x)."""
    anomaly = fields - block.climate
    return np.asarray(block.area_means((anomaly - block.area_means(anomaly)[..., None, None]) ** 2))


def _contingency(block: LeadBlock) -> Totals:
    """Events that were forecast, others that were, and how many of both there are."""
    event = block.truth > block.threshold
    said = (block.forecast > block.threshold).mean(axis=0)
    statistics = np.stack([said * event, said * ~event, event.astype(np.float64), (~event).astype(np.float64)])
    return Totals.of(np.where(block.known & np.isfinite(block.threshold), statistics, np.nan), block.area)


def _pinball(block: LeadBlock) -> Totals:
    quantile = np.quantile(block.forecast, block.level, axis=0)
    below = block.truth - quantile
    return Totals.of((below * (block.level - (below < 0)))[None], block.area)


def _by_init(statistics: Array) -> Totals:
    """Totals of statistics (statistic, init) that are of whole fields."""
    known = np.isfinite(statistics).all(axis=0)
    return Totals(np.where(known, statistics, 0.0), np.asarray(known, dtype=np.float64))


def _first(means: Array) -> Array:
    return np.asarray(means[0])


def _root(means: Array) -> Array:
    return np.asarray(np.sqrt(means[0]))


def _root_of_ratio(means: Array) -> Array:
    return np.sqrt(ratio(means[0], means[1]))


def _dependence(means: Array) -> Array:
    hits, alarms = (ratio(means[index], means[index + 2]) for index in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ln_f, ln_h, ln_not_f, ln_not_h = (np.log(each) for each in (alarms, hits, 1 - alarms, 1 - hits))
        index = (ln_f - ln_h - ln_not_f + ln_not_h) / (ln_f + ln_h + ln_not_f + ln_not_h)
    # Its limit is one or minus one wherever no event or no other value was forecast, whatever else was.
    return np.where((hits > 1 - _RATE) & (alarms < _RATE), 1.0, np.where(np.isfinite(index), index, np.nan))


LEAD_METRICS: dict[str, LeadMetric] = {
    metric.name: metric
    for metric in (
        LeadMetric("rmse", "RMSE", _square_error, _root, in_units=True),
        LeadMetric("bias", "bias", _error, _first, in_units=True),
        LeadMetric("acc", "anomaly correlation", _anomaly_correlation, _first, best=1.0),
        LeadMetric("activity", "activity", _activity, _root, best=np.nan, in_units=True),
        LeadMetric(
            "activity-ratio", "activity over the truth's", _activities, _root_of_ratio, best=1.0, proportional=True
        ),
        LeadMetric("sedi", "SEDI", _contingency, _dependence, best=1.0),
        LeadMetric("quantile", "quantile score", _pinball, _first, in_units=True),
    )
}
