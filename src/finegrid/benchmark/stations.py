"""Forecasts at weather stations: persistence, a regression on the station's own past, and one on its neighbours' too.

    persistence    y(s, t) = x(s, t)
    ridge          y(s, t) = sum over lags l and stations k in N(s) of b(s, l, k) x(k, t - l)

with x and y standardised per station, by least squares with a penalty on b, for every station on its own. N(s) = {s} is
the regression on the own past. With neighbours, N(s) holds the stations that are `nearest` on the sphere and beside
them those whose values now are most `correlated` (in absolute value) with what s measures later: weather that is on its
way to s.

This is the plainest model on a graph of stations: one linear layer over fixed edges, without the learnt edges of a
graph network. Missing values count as the station's mean in the inputs, and not at all in the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from finegrid.conventions import InputError

Array = NDArray[np.float64]

# Features of a block of times in memory.
_BLOCK_BYTES = 64_000_000
# The last part of the training times, on which the penalty is chosen.
_HELD_BACK = 0.2


@dataclass(frozen=True, eq=False)
class _Moments:
    """Mean and deviation of every station (point,)."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array) -> _Moments:
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0.0).sum(axis=0) / count
        deviation = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / count)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    def standard(self, values: Array) -> Array:
        return (values - self.mean) / self.deviation


@dataclass(kw_only=True)
class NeighbourRidge:
    """Ridge regressions on lagged values of a station and its neighbours.

    Args:
        variable: what is predicted, from itself.
        lags: steps back from the time of the input.
        nearest: neighbours by distance.
        correlated: further ones by correlation.
        penalties: of which the one that predicts the last fifth of the training times best is taken; parts of the
            number of times.
    """

    variable: str
    lags: Sequence[int] = (0, 1, 2, 3)
    nearest: int = 6
    correlated: int = 6
    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    _given: _Moments | None = field(default=None, init=False, repr=False)
    _wanted: _Moments | None = field(default=None, init=False, repr=False)
    _edges: NDArray[np.intp] | None = field(default=None, init=False, repr=False)
    _weights: Array | None = field(default=None, init=False, repr=False)

    def fit(self, inputs: xr.Dataset, truth: xr.Dataset) -> Self:
        """Learn from values (time, point) and those that came later, with the coordinates lat and lon.

        Raises:
            InputError: when there are fewer times than a regression needs, or fewer stations than neighbours.
        """
        given, wanted = (_values(fields, self.variable) for fields in (inputs, truth))
        first = max(self.lags)
        held = int(len(given) * (1 - _HELD_BACK))
        if held - first < 2 or given.shape[1] <= self.nearest + self.correlated:
            raise InputError(
                f"got {given.shape[0]} times of {given.shape[1]} stations; expected more than {first + 4} times and "
                f"{self.nearest + self.correlated} stations; give more, or set fewer lags and neighbours"
            )
        self._given, self._wanted = _Moments.of(given), _Moments.of(wanted)
        x, y = np.nan_to_num(self._given.standard(given)), self._wanted.standard(wanted)
        self._edges = self._neighbours(inputs, x, y)
        parts = [self._sums(x, y, slice(first, held)), self._sums(x, y, slice(held, len(x)))]
        penalty = self._best(parts, held - first)
        self._weights = _solved(parts[0][0] + parts[1][0], parts[0][1] + parts[1][1], penalty * (len(x) - first))
        return self

    def predict(self, inputs: xr.Dataset) -> xr.DataArray:
        """Values (time, point) later; at the first times, whose past is not there, the first values stand for it.

        Raises:
            InputError: before `fit`.
        """
        if self._given is None or self._wanted is None or self._weights is None:
            raise InputError(
                "got a regression that has not learnt; expected a fitted one; call fit(inputs, truth) first"
            )
        x = np.nan_to_num(self._given.standard(_values(inputs, self.variable)))
        found = [
            np.einsum("tsf,sf->ts", self._features(x, part), self._weights) for part in self._windows(x, 0, len(x))
        ]
        values = np.concatenate(found) * self._wanted.deviation + self._wanted.mean
        like = inputs[self.variable].transpose("time", "point")
        return xr.DataArray(
            values.astype(np.float32), coords=like.coords, dims=like.dims, name=self.variable, attrs=like.attrs
        )

    def _neighbours(self, inputs: xr.Dataset, x: Array, y: Array) -> NDArray[np.intp]:
        """Stations (point, 1 + nearest + correlated) that each one looks at, itself first."""
        places = _on_sphere(inputs.lat.values, inputs.lon.values)
        around = np.atleast_2d(cKDTree(places).query(places, k=1 + self.nearest)[1].reshape(len(places), -1))
        own = np.arange(len(places))[:, None]
        # Stations at one place: itself goes first all the same.
        others = np.argsort(around == own, axis=1, kind="stable")[:, : self.nearest]
        edges = np.concatenate([own, np.take_along_axis(around, others, axis=1)], axis=1)
        together = np.abs(np.nan_to_num(y).T @ x)
        np.put_along_axis(together, edges, -1.0, axis=1)
        far = np.argsort(-together, axis=1, kind="stable")[:, : self.correlated]
        return np.asarray(np.concatenate([edges, far], axis=1), dtype=np.intp)

    def _features(self, x: Array, times: slice) -> Array:
        """Lagged values (time, point, feature) of a station's neighbours."""
        if self._edges is None:
            raise RuntimeError("a regression without neighbours")
        moments = np.arange(times.start, times.stop)[:, None] - np.asarray(self.lags)
        lagged = x[np.maximum(moments, 0)]  # (time, lag, point)
        picked = lagged[:, :, self._edges]  # (time, lag, point, neighbour)
        return np.ascontiguousarray(picked.transpose(0, 2, 1, 3)).reshape(len(moments), len(self._edges), -1)

    def _windows(self, x: Array, start: int, stop: int) -> list[slice]:
        if self._edges is None:
            raise RuntimeError("a regression without neighbours")
        step = max(1, _BLOCK_BYTES // (8 * self._edges.size * len(self.lags)))
        return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]

    def _sums(self, x: Array, y: Array, times: slice) -> tuple[Array, Array, Array]:
        """Products of the features, of them with the truth, and of the truth, (point, ...), over known truth."""
        products, moments, squares = [], [], []
        for window in self._windows(x, times.start, times.stop):
            features, known = self._features(x, window), np.isfinite(y[window])
            right = np.where(known, y[window], 0.0)
            weighted = features * known[:, :, None]
            by_station = weighted.transpose(1, 2, 0)
            products.append(by_station @ features.transpose(1, 0, 2))
            moments.append(np.einsum("tsf,ts->sf", weighted, right))
            squares.append((right**2).sum(axis=0))
        return sum(products[1:], products[0]), sum(moments[1:], moments[0]), sum(squares[1:], squares[0])

    def _best(self, parts: Sequence[tuple[Array, Array, Array]], count: int) -> float:
        """The penalty with the smallest error on the times held back, all stations together."""
        (products, moments, _), (later, reached, squares) = parts
        errors = []
        for penalty in self.penalties:
            weights = _solved(products, moments, penalty * count)
            quadratic = np.einsum("sf,sfg,sg->", weights, later, weights)
            errors.append(float(squares.sum() - 2 * (weights * reached).sum() + quadratic))
        return float(self.penalties[int(np.argmin(errors))])


def own_past(variable: str, *, lags: Sequence[int] = (0, 1, 2, 3)) -> NeighbourRidge:
    """The regression on the station's own past."""
    return NeighbourRidge(variable=variable, lags=lags, nearest=0, correlated=0)


def persistence(inputs: xr.Dataset, variable: str) -> xr.DataArray:
    """What is measured now, as the forecast."""
    return inputs[variable]


def rmse(prediction: xr.DataArray, truth: xr.DataArray) -> float:
    """Root of the mean squared error over all times and stations that are known."""
    return float(np.sqrt(((prediction - truth.values) ** 2).mean()))


def _values(fields: xr.Dataset, variable: str) -> Array:
    if variable not in fields:
        there = ", ".join(map(str, fields.data_vars))
        raise InputError(f"there is no variable '{variable}' among {there}; expected one of these; set variable")
    return np.asarray(fields[variable].transpose("time", "point").values, dtype=np.float64)


def _on_sphere(lat: Array, lon: Array) -> Array:
    """Places (point, 3) on the unit sphere, of which the chord orders as the distance does."""
    phi, theta = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=1)


def _solved(products: Array, moments: Array, penalty: float) -> Array:
    """Weights (point, feature) of least squares with a penalty."""
    ridge = products + penalty * np.eye(products.shape[-1])
    return np.asarray(np.linalg.solve(ridge, moments[..., None])[..., 0])
