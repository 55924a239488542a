"""Heads on pairs of which the distribution of the fine field is known: is theirs the same?

    linear-Gaussian    y = a x + L e,  e ~ N(0, I):      mean a x, covariance C = L L', which falls off with distance
    bimodal            y = x + s + b e,  s = 1 with the chance p, else -1, the same in all cells of a field

with x white on a coarse grid, spread over its cells. Training pairs are so many that a head cannot learn them by
heart, and members are drawn for others. Errors are those of the mean (root mean square, without the part that so few
members have by chance) in units of the deviation of a cell, and of the covariance, |C' - C| / |C| over all pairs of
cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.benchmark.figures import Bench, Figure
from finegrid.downscalers import NeuralDownscaler
from finegrid.training import Settings

_SHAPE, _FACTOR, _TIMES = (2, 2), 2, 60_000
_SLOPE, _LENGTH, _CHANCE, _NOISE = 0.5, 2.0, 0.3, 0.1
_TEST, _MEMBERS = 64, 500
_NEAR, _WEIGHTS = 0.05, 0.1
_SETTINGS: Mapping[str, Any] = {"batch": 256, "learning_rate": 3e-3, "ema": 0.99, "patience": None}
# A network that shifts over the domain has to learn where it is: cells at the edge have fewer neighbours.
_PLAIN: Mapping[str, Any] = {"name": "resnet", "width": 32, "depth": 2, "embedding": 4, "dropout": 0.0}
# A field of noise has as many independent numbers as the fine field; for weather a short vector alone does better.
_NOISY: Mapping[str, Any] = {"vector": 8, "fields": 1, "train_members": 8}
_SCORED: Mapping[str, Any] = {"loss": "energy"}

HEADS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "gaussian": ({}, {}),
    "student-t": ({}, {}),
    "mixture": ({}, {}),
    "quantiles": ({}, {}),
    "dressed": ({}, {}),
    "noise-injected": (_NOISY, _SCORED),
    "adversarial": ({**_NOISY, "adversarial": 0.001}, _SCORED),
    "variational": ({"fields": 2, "train_members": 8}, _SCORED),
    "next-scale": (_NOISY, _SCORED),
    "latent": ({"compression": 1, "inner": {"name": "diffusion", "steps": 40}}, _SCORED),
    "diffusion": ({"steps": 40}, {}),
    "flow": ({"steps": 40}, {}),
}
"""Options of each head, and of the downscaler around it. Heads for rain have no such limit."""
_ONE_MODE = ("gaussian", "student-t", "dressed", "quantiles")
"""Cells of these have one mode, or none that cells share."""


def known_truth(bench: Bench) -> list[Figure]:
    """The closed forms, and the distribution of every head that can have them."""
    return [*(_gaussian(bench, name) for name in HEADS), *(_bimodal(bench, n) for n in HEADS if n not in _ONE_MODE)]


def _gaussian(bench: Bench, name: str) -> Figure:
    root = np.linalg.cholesky(covariance())
    cells = len(root)
    drawn, truth = _drawn(bench, name, lambda chance, times: chance.standard_normal((times, cells)) @ root.T, _SLOPE)
    mean, spread = errors(drawn, truth)
    words = f"mean {100 * mean:.1f} %, covariance {100 * spread:.1f} %"
    near = mean <= _NEAR and spread <= _NEAR
    return Figure(f"{name}, linear-Gaussian", "mean and covariance within 5 %", words, near)


def _bimodal(bench: Bench, name: str) -> Figure:
    cells = len(covariance())

    def noise(chance: np.random.Generator, times: int) -> NDArray[np.float64]:
        sign = np.where(chance.random((times, 1)) < _CHANCE, 1.0, -1.0)
        return sign + _NOISE * chance.standard_normal((times, cells))

    drawn, truth = _drawn(bench, name, noise, 1.0)
    left = (drawn - truth).mean(-1)
    upper, between = float((left > 0).mean()), float((np.abs(left) < 0.5).mean())
    words = f"{upper:.2f} of the members in the upper mode, {between:.2f} in neither"
    near = abs(upper - _CHANCE) <= _WEIGHTS and between <= _WEIGHTS
    return Figure(f"{name}, bimodal", f"{_CHANCE} within {_WEIGHTS}", words, near)


def covariance() -> NDArray[np.float64]:
    """C of the linear-Gaussian pair, (fine cells, fine cells)."""
    rows, columns = np.indices([side * _FACTOR for side in _SHAPE]).reshape(2, -1)
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    decay: NDArray[np.float64] = np.exp(-distance / _LENGTH)
    return decay


def errors(drawn: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Errors of mean and covariance of members (member, time, cell) about the true mean (time, cell)."""
    members, times, cells = drawn.shape
    mean = drawn.mean(0)
    departures = (drawn - mean).reshape(-1, cells)
    found, right = departures.T @ departures / (times * (members - 1)), covariance()
    by_chance = np.trace(found) / cells / members
    error = max(0.0, float(np.square(mean - truth).mean() - by_chance)) ** 0.5
    return error, float(np.linalg.norm(found - right) / np.linalg.norm(right))


def _drawn(bench: Bench, name: str, noise: Any, slope: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Members (member, time, cell) of a fitted head, and what the fine field is without noise (time, cell)."""
    chance = np.random.default_rng(0)
    coarse = chance.standard_normal((_TIMES + _TEST, *_SHAPE))
    known = slope * coarse.repeat(_FACTOR, 1).repeat(_FACTOR, 2)
    fine = known + noise(chance, len(known)).reshape(known.shape)
    low, high = _dataset(coarse, _FACTOR), _dataset(fine, 1)
    head, options = HEADS[name]
    settings = Settings(budget=bench.budget, **_SETTINGS)
    network = NeuralDownscaler(
        backbone=_PLAIN,
        head={"name": name, **head},
        mean=None,
        constraint="none",
        cycles=(),
        settings=settings,
        **options,
    )
    network.fit(low.isel(time=slice(_TIMES)), high.isel(time=slice(_TIMES)), validate=0.0)
    bench.say(f"{name}: {network.info()['training']['steps']} steps")
    fields = network.predict(low.isel(time=slice(_TIMES, None)), members=_MEMBERS)["tas"]
    values = fields.transpose("member", "time", "lat", "lon").values.astype(np.float64)
    return values.reshape(_MEMBERS, _TEST, -1), known[_TIMES:].reshape(_TEST, -1)


def _dataset(values: NDArray[np.float64], factor: int) -> xr.Dataset:
    """Hourly fields at the equator, where cells have the same area."""
    north, east = (0.01 * factor * (np.arange(size) - (size - 1) / 2) for size in values.shape[1:])
    time = np.datetime64("2001-01-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "h")
    field = (("time", "lat", "lon"), values.astype(np.float32), {"units": "K", "standard_name": "air_temperature"})
    axes = {"lat": ("lat", north, {"units": "degrees_north"}), "lon": ("lon", east, {"units": "degrees_east"})}
    return xr.Dataset({"tas": field}, coords={"time": time, **axes})
