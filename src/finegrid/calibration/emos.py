"""A normal distribution whose mean and variance follow those of the members: EMOS, or non-homogeneous regression.

    y ~ N(a + b mean, c^2 + d^2 sigma^2)

with a, b, c and d of each group such that the mean CRPS of the calibration cases is least. A variable that cannot be
negative is taken by its square root and the distribution cut off at zero, with all of its lower part there:

    CRPS = s ( A(z) + A(-z) - A(l) ),   A(x) = x P(x)^2 + 2 P(x) p(x) - P(sqrt(2) x) / sqrt(pi)

with z = (y - m) / s, l = -m / s (the term is left out where nothing is cut off), P the normal distribution function
and p its density. Departures of a group from all groups together cost as much as they do in `shrink` cases.

Sources: Gneiting, Raftery, Westveld and Goldman, "Calibrated probabilistic forecasting using ensemble model output
statistics and minimum CRPS estimation", Monthly Weather Review 133, 2005, doi:10.1175/MWR2904.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array, Places

_ITERATIONS = 200
_LEAST = 1e-4
_AMOUNT = (0.0, np.inf)


@dataclass(kw_only=True)
class EMOS(Calibrator):
    """A regression for mean and spread."""

    name: ClassVar[str] = "emos"
    guarantee: ClassVar[str] = "none: as good as its distribution"
    least_members: ClassVar[int] = 2

    def _evidence(self, some: Cases) -> Evidence:
        mean, deviation = _moments(some)
        return {"mean": mean, "deviation": deviation, "truth": _root(some.known, some)}

    def _learn(self, notes: Notes) -> Learnt:
        kept = (notes.places >= 0) & np.isfinite(notes.evidence["mean"]) & np.isfinite(notes.evidence["truth"])
        columns = [notes.evidence[key][kept] for key in ("mean", "deviation", "truth")]
        scale = max(float(np.std(columns[2] - columns[0])), _LEAST)
        mean, deviation, truth = (each / scale for each in columns)
        of_all = _Fit(mean, deviation, truth, np.zeros(len(mean), np.int64), 1, censored=notes.limits == _AMOUNT)
        common = of_all.found(np.array([[0.0, 1.0, 0.3, 1.0]]), 0.0)
        count = notes.groups.count
        each = replace(of_all, place=notes.places[kept], count=count)
        numbers = common if count == 1 else each.found(np.repeat(common, count, axis=0), self.shrink)
        return {"numbers": numbers, "scale": np.array([scale])}

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        mean, deviation = _moments(some)
        a, b, c, d = np.moveaxis(learnt["numbers"], -1, 0)[:, place]
        scale = float(learnt["scale"][0])
        spread = np.sqrt((scale * c) ** 2 + (d * deviation) ** 2)
        values = scale * a + b * mean + spread * ndtri(levels).reshape(-1, *[1] * mean.ndim)
        return np.maximum(values, 0.0) ** 2 if some.limits == _AMOUNT else np.asarray(values)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Cases of groups, and the numbers (group, 4) for which their mean CRPS is least."""

    mean: Array
    deviation: Array
    truth: Array
    place: Places
    count: int
    censored: bool

    def found(self, start: Array, shrink: float) -> Array:
        """The least from a start (group, 4), from which each departure costs as much as it does in so many cases."""

        def loss(numbers: Array) -> tuple[float, Array]:
            value, slope = self._loss(numbers.reshape(start.shape))
            away = numbers.reshape(start.shape) - start
            return value + shrink / 2 * float((away**2).sum()), (slope + shrink * away).ravel()

        result = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
        return np.asarray(result.x.reshape(start.shape))

    def _loss(self, numbers: Array) -> tuple[float, Array]:
        a, b, c, d = numbers[self.place].T
        spread = np.sqrt(c**2 + (d * self.deviation) ** 2 + _LEAST**2)
        score, of_mean, of_spread = crps_normal(a + b * self.mean, spread, self.truth, censored=self.censored)
        slopes = (of_mean, of_mean * self.mean, of_spread * c / spread, of_spread * d * self.deviation**2 / spread)
        return float(score.sum()), np.stack([np.bincount(self.place, each, self.count) for each in slopes], axis=-1)


def crps_normal(mean: Array, spread: Array, truth: Array, *, censored: bool) -> tuple[Array, Array, Array]:
    """CRPS of normal distributions and its slopes along their mean and spread.

    Args:
        mean: of each case.
        spread: deviation of each.
        truth: likewise; not below zero where `censored`.
        censored: whether what is below zero is zero.
    """
    away = (truth - mean) / spread
    slope = 2 * ndtr(away) - 1
    shape = _area(away) + _area(-away)
    of_mean, of_spread = -slope, shape - slope * away
    if censored:
        edge = -mean / spread
        below = ndtr(edge)
        shape = shape - _area(edge)
        of_mean, of_spread = of_mean + below**2, shape - slope * away + below**2 * edge
    return spread * shape, of_mean, of_spread


def _area(edge: Array) -> Array:
    """Integral of the squared normal distribution function up to an edge."""
    below = ndtr(edge)
    density = np.exp(-(edge**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(edge * below**2 + 2 * below * density - ndtr(np.sqrt(2) * edge) / np.sqrt(np.pi))


def _moments(some: Cases) -> tuple[Array, Array]:
    members = _root(some.members.astype(np.float64), some)
    return members.mean(axis=0), members.std(axis=0, ddof=1)


def _root(values: Array, some: Cases) -> Array:
    return np.sqrt(np.maximum(values, 0.0)) if some.limits == _AMOUNT else values
