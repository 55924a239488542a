"""What a report draws of an ensemble: some members, the histogram of the truth's ranks, and spread against error.

The band of the histogram is where 95 % of the bars of a flat one would be. It is found with the same draws of blocks of
times as every other interval: how far each bar moves between draws, put around 1 / (M + 1). Neighbouring cells and
times that resemble each other make it as wide as it has to be.

Spread and error are shown for classes of times, from those of which the ensemble is surest to those of which it is
least: a good ensemble knows when it does not know. Both are as in the metric (`metrics.ensembles`), so that they are
equal where the ensemble is honest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.metrics.base import loaded
from finegrid.evaluation.metrics.ensembles import RANK, SPREAD_SKILL
from finegrid.evaluation.tally import Tally

SHOWN = 3
"""Number of members that are drawn."""
_CLASSES = 10
_LEAST_IN_CLASS = 5
_BAND = (0.025, 0.975)


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
    """

    members: Array
    ranks: Array
    band: Array
    spread: Array
    error: Array
    classes: Array

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
    ranks = tally.totals(RANK.name).mean()
    totals = tally.totals(SPREAD_SKILL.name)
    squares, weights = totals.per_time(), totals.weights
    order = np.argsort(squares[0])
    order = order[np.isfinite(squares[0][order])]
    spread, error = np.sqrt(squares[:, order])
    return Ensemble(shown, ranks, _band(tally, draws), spread, error, _classes(squares[:, order], weights[order]))


def _band(tally: Tally, draws: Draws | None) -> Array:
    totals = tally.totals(RANK.name)
    flat = 1 / len(totals.sums)
    if draws is None:
        return np.full((2, len(totals.sums)), np.nan)
    away = draws.means(totals) - totals.mean()[:, None]
    return np.asarray(np.maximum(flat + np.nanquantile(away, _BAND, axis=1), 0.0))


def _classes(squares: Array, weights: Array) -> Array:
    """Roots of the mean squares (2, class) of classes of times (2, time) in their order."""
    count = max(1, min(_CLASSES, len(weights) // _LEAST_IN_CLASS))
    parts = np.array_split(np.arange(len(weights)), count)
    means = [ratio((squares[:, part] * weights[part]).sum(axis=1), weights[part].sum()) for part in parts]
    return np.asarray(np.sqrt(np.stack(means, axis=1)))
