"""Coarse fields by which a graph is compared with its model: the user's own, or fields like those of training.

Drawn fields know what a model remembers of its training input: mean and deviation of every cell and month, or where the
record was too short for these the size and the extremes of each variable, or what features were standardised with.
Neighbouring cells have much in common, steps follow each other in two groups half a year apart, and of one step some
cells are missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from finegrid.conventions import natural_limits
from finegrid.data.inputs import own_name
from finegrid.data.surroundings import WIDE_DIMS, wide_name
from finegrid.downscalers import Downscaler, LinearMap, NeuralDownscaler
from finegrid.serving.signature import Signature

_STEPS, _HALF_YEAR = 6, 182.0
# Of the variance, what neighbours have in common, and how far that reaches in cells.
_COMMON, _REACH = 0.8, 1.5
_MOST_DEVIATIONS = 3.0


def drawn(downscaler: Downscaler, signature: Signature, *, seed: int = 0) -> xr.Dataset:
    """Fields in the form that `Downscaler.read` gives, as far as the model knows its input."""
    random, inputs, domain = np.random.default_rng(seed), downscaler.domain.inputs, downscaler.domain
    time = _times(signature)
    fields: dict[str, Any] = {}
    for name in inputs.channels:
        attributes = {**dict(domain.attributes.get(name, {})), "units": inputs.units[name]}
        values = _values(downscaler, name, (2 * _STEPS, *inputs.grid.shape), attributes, random)
        # Cells of their own are not missing with a block: what is conserved would lack its fine cells.
        fields[name] = (("time", "y", "x"), _holed(values) if inputs.own is None else values, attributes)
        if inputs.own is not None and name in inputs.variables:
            own = _values(downscaler, name, (2 * _STEPS, *inputs.own.shape), attributes, random)
            fields[own_name(name)] = (("time", "row", "column"), own, attributes)
        if inputs.wide is not None:
            wide = _values(downscaler, name, (2 * _STEPS, *inputs.wide.shape), attributes, random)
            fields[wide_name(name)] = (("time", *WIDE_DIMS), _holed(wide), attributes)
    return xr.Dataset(fields, coords={**inputs.grid.coords(), "time": time})


def _times(signature: Signature) -> xr.DataArray:
    step, start = signature.domain.step_seconds, signature.domain.period[0].replace("T", " ")
    once = np.arange(_STEPS) * step
    pause = max(_HALF_YEAR * 86400.0, 2 * once[-1])
    seconds = np.concatenate([once, once + np.ceil(pause / step) * step])
    units = {"units": f"seconds since {start}", "calendar": _calendar(signature)}
    coded = xr.Dataset(coords={"time": ("time", np.round(seconds), units)})
    time: xr.DataArray = xr.decode_cf(coded, decode_times=True).time
    return time


def _calendar(signature: Signature) -> str:
    """The calendar of the training dates, as far as the file said it."""
    known = signature.domain.names.coordinates.get("time")
    return "standard" if known is None else str(known.encoding.get("calendar", "standard"))


def _values(
    downscaler: Downscaler, name: str, shape: tuple[int, ...], attributes: dict[str, Any], random: Any
) -> NDArray[np.float32]:
    mean, deviation, low, high = known_range(downscaler, name)
    if mean.shape not in ((), shape[1:]):
        mean, deviation = np.nanmean(mean), np.nanmean(deviation)
    noise = ndimage.gaussian_filter(random.normal(size=shape), (0, _REACH, _REACH), mode="nearest")
    noise = np.sqrt(_COMMON) * noise / max(float(noise.std()), 1e-6)
    noise += np.sqrt(1 - _COMMON) * random.normal(size=shape)
    limits = natural_limits(name, attributes)
    values = mean + deviation * np.clip(noise, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
    return np.asarray(np.clip(values, max(low, limits[0]), min(high, limits[1])), dtype=np.float32)


def known_range(downscaler: Downscaler, name: str) -> tuple[NDArray[Any], NDArray[Any], float, float]:
    """Mean, deviation, lowest and highest value of a coarse field, as far as the model remembers them."""
    numbers, outputs = downscaler.conservation.facts.numbers, downscaler.domain.outputs
    low, high = -np.inf, np.inf
    if name in outputs:
        low, high = (float(numbers[key][outputs.index(name)]) for key in ("low", "high"))
    climate = downscaler._climatology
    if climate is not None and name in climate.mean and np.isfinite(climate.mean[name]).any():
        mean, deviation = _over_months(climate.mean[name]), _over_months(climate.deviation[name])
        return mean, deviation, low, high
    if name in outputs:
        size = float(numbers["scale"][outputs.index(name)])
        middle = min(size, (low + high) / 2) if low >= 0 else (low + high) / 2
        return np.asarray(middle), np.asarray((high - low) / 6), low, high
    usual, spread = _standardised(downscaler, name)
    return np.asarray(usual), np.asarray(spread), low, high


def _over_months(values: NDArray[Any]) -> NDArray[Any]:
    """Means over the months that are known; the mean of all cells where none is."""
    known = np.isfinite(values)
    cells = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.asarray(np.where(known.any(axis=0), cells, values[known].mean()))


def _standardised(downscaler: Downscaler, name: str) -> tuple[float, float]:
    """By what features of a predictor were standardised; 0 and 1 where nobody sees it."""
    if isinstance(downscaler, NeuralDownscaler):
        found = downscaler._trained[0].layout.transforms[name].numbers
        if "mean" in found:
            return float(np.mean(found["mean"])), float(np.mean(found["deviation"]))
        typical = float(np.mean(found.get("scale", found.get("values_at", np.ones(1)))))
        return typical, 0.5 * abs(typical)
    if isinstance(downscaler, LinearMap):
        features = downscaler._known_features()
        if "mean" in features.numbers and name in features.channels:
            place = features.channels.index(name)
            numbers = (features.numbers[key].flatten()[place] for key in ("mean", "deviation"))
            return float(next(numbers)), float(next(numbers))
    return 0.0, 1.0


def _holed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without some cells of the last step."""
    rows, columns = values.shape[1:]
    values[-1, : max(1, rows // 3) if rows > 1 else 0, columns // 2 : columns // 2 + max(1, columns // 4)] = np.nan
    return values
