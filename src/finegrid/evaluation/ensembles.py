"""What a report draws of an ensemble: some members, the histogram of the truth's ranks, and spread against error.

The band of the histogram is where 95 % of the bars of a flat one would be. It is found with the same draws of blocks of
times as every other interval: how far each bar moves between draws, put around 1 / (M + 1). Neighbouring cells and
times that resemble each other make it as wide as it has to be.

Spread and error are shown for classes of times, from those of which the ensemble is surest to those of which it is
least: a good ensemble knows when it does not know. Both are as in the metric (`metrics.ensembles`), so that they are
equal where the ensemble is honest.

Between the j-th lowest and the j-th highest of M members the truth of an honest ensemble lies with the chance

    (M + 1 - 2 j) / (M + 1),      and lies so often as the ranks j ... M - j do together

so that the histogram of ranks says how often every such interval holds the truth. Ties are drawn as in the histogram.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, Totals, ratio
from finegrid.evaluation.intervals import Draws, interval
from finegrid.evaluation.metrics.ensembles import RANK, SPREAD_SKILL
from finegrid.evaluation.metrics.reading import loaded
from finegrid.evaluation.tally import Tally

SHOWN = 3
"""Number of members that are drawn."""
_CLASSES = 10
_LEAST_IN_CLASS = 5
_BAND = (0.025, 0.975)


@dataclass(frozen=True)
class Nested:
    """Intervals between members, the widest first.

    Attributes:
        promised: chance of each (interval,).
        inside: share of the truth inside (interval,).
        bounds: 95 % interval of that share (2, interval); NaN with too few times.
    """

    promised: Array
    inside: Array
    bounds: Array


@dataclass(frozen=True)
class Ensemble:
    """One variable of an ensemble.

    Attributes:
        members: the first members (member, y, x) at the time shown.
        ranks: how often so many members lie below the truth (M + 1,).
        band: ends of the 95 % band of a flat histogram (2, M + 1); NaN with too few times.
        spread: of each time (time,), the times of least spread first.
        error: of the same times (time,).
        classes: spread and error of classes of times (2, class), likewise.
        nested: intervals between members, and how often the truth is inside.
    """

    members: Array
    ranks: Array
    band: Array
    spread: Array
    error: Array
    classes: Array
    nested: Nested

    @property
    def outside(self) -> int | None:
        """Number of ranks outside the band; None without a band."""
        if np.isnan(self.band).any():
            return None
        return int(((self.ranks < self.band[0]) | (self.ranks > self.band[1])).sum())


def ensemble_of(prediction: xr.DataArray, tally: Tally, draws: Draws | None, index: int) -> Ensemble | None:
    """The ensemble of a prediction (member, time, y, x), `index` the time shown.

    None for a single prediction, and where ranks and spread were not asked for.
    """
    if prediction.sizes["member"] < 2 or not {RANK.name, SPREAD_SKILL.name} <= tally.parts.keys():
        return None
    shown = loaded(prediction.isel(member=slice(SHOWN)), slice(index, index + 1))[:, 0]
    ranked = tally.totals(RANK.name)
    ranks, sampled = ranked.mean(), None if draws is None else draws.means(ranked)
    totals = tally.totals(SPREAD_SKILL.name)
    squares, weights = totals.per_time(), totals.weights
    order = np.argsort(squares[0])
    order = order[np.isfinite(squares[0][order])]
    spread, error = np.sqrt(squares[:, order])
    classes = _classes(squares[:, order], weights[order])
    return Ensemble(shown, ranks, _band(ranks, sampled), spread, error, classes, _nested(ranked, ranks, sampled, draws))


def _band(ranks: Array, sampled: Array | None) -> Array:
    if sampled is None:
        return np.full((2, len(ranks)), np.nan)
    away = sampled - ranks[:, None]
    return np.asarray(np.maximum(1 / len(ranks) + np.nanquantile(away, _BAND, axis=1), 0.0))


def _nested(ranked: Totals, ranks: Array, sampled: Array | None, draws: Draws | None) -> Nested:
    count = len(ranks)
    lowest = np.arange(1, (count - 1) // 2 + 1)
    promised, inside = (count - 2 * lowest) / count, _inside(ranks, lowest)
    if sampled is None or draws is None:
        return Nested(promised, inside, np.full((2, len(lowest)), np.nan))
    without = _inside(draws.without(ranked), lowest)
    ends = [
        interval(each, widening=draws.widening(others))
        for each, others in zip(_inside(sampled, lowest), without, strict=True)
    ]
    return Nested(promised, inside, np.clip(np.transpose(ends), 0.0, 1.0))


def _inside(ranks: Array, lowest: NDArray[np.intp]) -> Array:
    """How often the truth lies between the members of these numbers from below and from above (interval, ...)."""
    below = np.concatenate([np.zeros_like(ranks[:1]), np.cumsum(ranks, axis=0)])
    return np.asarray(below[len(ranks) - lowest] - below[lowest])


def _classes(squares: Array, weights: Array) -> Array:
    """Roots of the mean squares (2, class) of classes of times (2, time) in their order."""
    count = max(1, min(_CLASSES, len(weights) // _LEAST_IN_CLASS))
    parts = np.array_split(np.arange(len(weights)), count)
    means = [ratio((squares[:, part] * weights[part]).sum(axis=1), weights[part].sum()) for part in parts]
    return np.asarray(np.sqrt(np.stack(means, axis=1)))
