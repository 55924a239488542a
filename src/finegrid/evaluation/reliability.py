"""Whether an ensemble's chances come true, and what its CRPS is made of.

    PIT            share of cases whose truth lies in each twentieth of the predicted distribution
    quantiles      for levels p = 0.05 ... 0.95: how often the truth is at or below the value with the chance p
    event          the truth is above a threshold: how often it is, where that was predicted with a chance
    CRPS           = reliability - resolution + uncertainty

With M members x_1 <= ... <= x_M, the distance g_i between x_i and x_(i+1) and the mean o_i of how much of it is above
the truth, p_i = i / M,

    reliability    sum_i g_i (o_i - p_i)^2              zero where chances come true
    resolution     uncertainty - sum_i g_i o_i (1 - o_i)    how much the forecast knows beyond the climate
    uncertainty    CRPS of the climate of the truth itself

Beyond the outermost members o is how often the truth is there, and g how far on the average.

All are means weighted by area. This CRPS is that of the members as they are, a little larger than the fair one.

Source: Hersbach, "Decomposition of the continuous ranked probability score for ensemble prediction systems", Weather
and Forecasting 15, 2000, doi:10.1175/1520-0434(2000)015<0559:DOTCRP>2.0.CO;2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.cases import Cases, cases, matched
from finegrid.calibration.members import chances
from finegrid.evaluation.averaging import Array, ratio
from finegrid.grids import Grid

LEVELS = np.round(np.arange(0.05, 1.0, 0.05), 2)
_BINS, _EVENT, _MOST = 20, 0.9, 20_000


@dataclass(frozen=True, eq=False)
class Reliability:
    """One variable of an ensemble.

    Attributes:
        pit: share of cases in each twentieth (bin,).
        quantiles: share of cases at or below each level (level,).
        threshold: of the event.
        predicted: mean predicted chance of the event in each class (class,).
        happened: how often it came true (class,).
        cases: number of cases in each class (class,).
        crps: of the members as they are.
        reliability: part of it.
        resolution: part of it.
        uncertainty: part of it.
    """

    pit: Array
    quantiles: Array
    threshold: float
    predicted: Array
    happened: Array
    cases: NDArray[np.int64]
    crps: float
    reliability: float
    resolution: float
    uncertainty: float


def reliability(ensemble: xr.Dataset, observed: xr.Dataset) -> dict[str, Reliability]:
    """Judge members (member, time, y, x), at least two, by what came true (time, y, x).

    The event is above the 90th percentile of the truth.
    """
    given, truth = matched(ensemble, observed)
    weights = Grid.of(truth).area
    found = {}
    for name in map(str, given.data_vars):
        values = truth[name].values
        threshold = float(np.quantile(values[np.isfinite(values)], _EVENT))
        tally = _Tally.empty(given.sizes["member"], threshold)
        for some in cases(given, truth, name):
            tally.add(some, weights)
        found[name] = tally.found(_climate(values, weights))
    return found


@dataclass
class _Tally:
    """Weighted sums over blocks."""

    threshold: float
    mass: float
    pit: Array
    quantiles: Array
    event: Array
    counts: NDArray[np.int64]
    below: Array
    above: Array
    outside: Array

    @classmethod
    def empty(cls, members: int, threshold: float) -> _Tally:
        event, counts = np.zeros((3, members + 1)), np.zeros(members + 1, np.int64)
        zeros = np.zeros(members + 1)
        return cls(
            threshold, 0.0, np.zeros(_BINS), np.zeros(len(LEVELS)), event, counts, zeros, zeros.copy(), np.zeros(2)
        )

    def add(self, some: Cases, weights: Array) -> None:
        truth, members = some.known, some.members.astype(np.float64)
        known = np.isfinite(truth) & np.isfinite(members).all(axis=0)
        weight = np.broadcast_to(weights, truth.shape)[known]
        chance = chances(some.members, truth, some.random(0))[known]
        self.mass += weight.sum()
        self.pit += np.bincount(np.minimum((chance * _BINS).astype(int), _BINS - 1), weight, _BINS)
        self.quantiles += (weight * (chance <= LEVELS[:, None])).sum(axis=1)
        over = (members > self.threshold).sum(axis=0)[known]
        came = (truth > self.threshold)[known]
        for row, values in enumerate((weight, weight * over / len(members), weight * came)):
            self.event[row] += np.bincount(over, values, len(members) + 1)
        self.counts += np.bincount(over, minlength=len(members) + 1)
        self._distances(np.sort(members, axis=0)[:, known], truth[known], weight)

    def _distances(self, ranked: Array, truth: Array, weight: Array) -> None:
        """Sums of how far the distance between members lies below and above the truth."""
        inner = np.diff(ranked, axis=0)
        below = np.clip(truth - ranked[:-1], 0.0, inner)
        self.below[1:-1] += (weight * below).sum(axis=1)
        self.above[1:-1] += (weight * (inner - below)).sum(axis=1)
        self.above[0] += (weight * np.maximum(ranked[0] - truth, 0.0)).sum()
        self.below[-1] += (weight * np.maximum(truth - ranked[-1], 0.0)).sum()
        self.outside += (weight * (truth < ranked[0])).sum(), (weight * (truth > ranked[-1])).sum()

    def found(self, uncertainty: float) -> Reliability:
        """Everything, from the sums."""
        mass, chance = max(self.mass, 1e-300), np.arange(len(self.below)) / (len(self.below) - 1)
        below, above = self.below / mass, self.above / mass
        share = np.nan_to_num(ratio(above, below + above))
        distance = below + above
        # Beyond the outermost members: how often the truth is there, and how far on the average.
        share[0], share[-1] = self.outside[0] / mass, 1 - self.outside[1] / mass
        distance[0] = np.nan_to_num(ratio(above[:1], share[:1]))[0]
        distance[-1] = np.nan_to_num(ratio(below[-1:], 1 - share[-1:]))[0]
        wrong = float((distance * (share - chance) ** 2).sum())
        potential = float((distance * share * (1 - share)).sum())
        predicted, happened = (ratio(self.event[row], self.event[0]) for row in (1, 2))
        used = self.counts > 0
        return Reliability(
            self.pit / mass,
            self.quantiles / mass,
            self.threshold,
            predicted[used],
            happened[used],
            self.counts[used],
            wrong + potential,
            wrong,
            uncertainty - potential,
            uncertainty,
        )


def _climate(values: NDArray[np.float32], weights: Array) -> float:
    """CRPS of the climate: half the mean distance of two cases of the truth, of at most so many of them."""
    known = np.isfinite(values)
    flat = values[known].astype(np.float64)
    weight = np.broadcast_to(weights, values.shape)[known]
    if len(flat) > _MOST:
        chosen = np.random.default_rng(0).choice(len(flat), _MOST, replace=False, p=weight / weight.sum())
        flat, weight = flat[chosen], np.ones(_MOST)
    order = np.argsort(flat)
    flat, weight = flat[order], weight[order] / weight.sum()
    share = np.cumsum(weight)
    # Half the mean distance is the integral of F (1 - F).
    return float((share[:-1] * (1 - share[:-1]) * np.diff(flat)).sum())
