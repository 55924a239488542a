"""Fields coded without loss, to a quantum, in as few bits as a model of their chances allows.

A field becomes the whole numbers k = round((t - t_min) / q). What is coded of them depends on the model:

    previous         k less that of the time before
    planar           k - west - north + northwest, the departure from a plane through three neighbours
    planar-in-time   planar, less that of the time before
    prediction       k less that of the mean of a prediction
    ensemble         k itself, with chances by the members of an ensemble (`code_models`, dressed)

All but the last take their chances from a table of how often each number occurs, which is kept beside the code. The
first three are differences along axes, which sums along these undo. A prediction is not kept: who reads the archive has
to have it.

Missing values are one bit each, deflated. Differences need complete fields: gaps are filled from the nearest known
value of their row, column or time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.code_archive import Archive, Head, packed_gaps
from finegrid.evaluation.code_coder import Symbols, decode, encode
from finegrid.evaluation.code_models import Dressed, Table, checked_count, dressing
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded

DIFFERENCES = {"previous": (0,), "planar": (1, 2), "planar-in-time": (0, 1, 2)}
"""Axes of (time, y, x) along which differences are taken, by model."""
PREDICTION, ENSEMBLE = "prediction", "ensemble"
MODELS = (*DIFFERENCES, PREDICTION, ENSEMBLE)


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a prediction says of each value, in units of the quantum from the lowest value.

    Attributes:
        mean: of the members (time, y, x).
        deviation: of one more member (time, y, x); None where only the mean is used.
    """

    mean: Array
    deviation: Array | None

    @classmethod
    def of(cls, prediction: xr.DataArray, *, lowest: float, quantum: float, dressed: bool) -> Self:
        """Read a prediction (time, y, x), with or without members, in blocks of times."""
        field = prediction if "member" in prediction.dims else prediction.expand_dims("member")
        times = field.sizes["time"]
        read = (loaded(field, part) for part in parts_of(times, field.size // max(1, times)))
        if not dressed:
            return cls(np.concatenate([(block.mean(axis=0) - lowest) / quantum for block in read]), None)
        means, deviations = zip(*(dressing(block, lowest, quantum) for block in read), strict=True)
        return cls(np.concatenate(means), np.concatenate(deviations))


def archive(
    values: Array, *, model: str = "planar-in-time", quantum: float, prediction: xr.DataArray | None = None
) -> Archive:
    """Code a field (time, y, x), NaN where missing, so that it can be restored to half a quantum.

    Args:
        values: the field; all of it is held in memory.
        model: a name in MODELS.
        quantum: in the units of the field.
        prediction: of the field, for the models "prediction" and "ensemble", in its units.

    Raises:
        InputError: when nothing is known, the quantum is too small or not positive, or the prediction does not fit.
    """
    known = np.isfinite(values)
    _check(model, quantum, known)
    lowest = float(values[known].min())
    forecast = _forecast(prediction, model, lowest, quantum, known)
    left = _left(numbered(values, lowest, quantum), known, model, forecast)
    shift = 0 if model == ENSEMBLE else int(left.min())
    left = left - shift
    chances = _chances(forecast, known, checked_count(int(left.max()) + 1, quantum)) or Table.of(left)
    head = Head(model, values.shape, quantum, lowest, chances.symbols, shift)
    table = chances.packed() if isinstance(chances, Table) else b""
    return Archive(head, encode(left, chances), table, packed_gaps(known), chances.bits(left))


def restored(given: Archive, prediction: xr.DataArray | None = None) -> Array:
    """The field (time, y, x) of an archive, to half a quantum; NaN where it was missing.

    Args:
        given: the archive.
        prediction: the one with which it was made, where it was.

    Raises:
        InputError: when the archive is damaged, or the prediction is missing or another one.
    """
    head, known = given.head, given.known
    forecast = _forecast(prediction, head.model, head.lowest, head.quantum, known)
    chances = _chances(forecast, known, head.symbols) or Table.unpacked(given.table)
    found = decode(given.streams, chances) + head.shift
    steps = np.zeros(head.shape, np.int64)
    if forecast is None:
        steps[:] = found.reshape(head.shape)
        for axis in DIFFERENCES[head.model]:
            steps = steps.cumsum(axis=axis)
    else:
        steps[known] = found if forecast.deviation is not None else found + _nearest(forecast, known)
    return np.where(known, head.lowest + steps * head.quantum, np.nan)


def numbered(values: Array, lowest: float, quantum: float) -> Symbols:
    """Numbers k of values; 0 where they are missing."""
    return np.rint(np.where(np.isfinite(values), values - lowest, 0.0) / quantum).astype(np.int64)


def filled(steps: Symbols, known: NDArray[np.bool_]) -> Symbols:
    """Numbers (time, y, x) without gaps: from the west, or else the east, south, north, before or after."""
    for axis in (2, 1, 0):
        for _ in range(2):
            places = np.arange(steps.shape[axis]).reshape(-1, *[1] * (2 - axis))
            last = np.maximum.accumulate(np.where(known, places, 0), axis=axis)
            steps, known = np.take_along_axis(steps, last, axis), np.logical_or.accumulate(known, axis=axis)
            steps, known = np.flip(steps, axis), np.flip(known, axis)
    return steps


def _left(steps: Symbols, known: NDArray[np.bool_], model: str, forecast: Forecast | None) -> Symbols:
    """What of the numbers is to be coded (value,)."""
    if forecast is not None:
        return steps[known] if forecast.deviation is not None else steps[known] - _nearest(forecast, known)
    steps = filled(steps, known)
    for axis in DIFFERENCES[model]:
        steps = np.diff(steps, axis=axis, prepend=0)
    return steps.ravel()


def _nearest(forecast: Forecast, known: NDArray[np.bool_]) -> Symbols:
    return np.rint(forecast.mean[known]).astype(np.int64)


def _chances(forecast: Forecast | None, known: NDArray[np.bool_], symbols: int) -> Dressed | None:
    """Chances by the members of an ensemble; None where they are those of a table."""
    if forecast is None or forecast.deviation is None:
        return None
    return Dressed(forecast.mean[known], forecast.deviation[known], symbols)


def _forecast(
    prediction: xr.DataArray | None, model: str, lowest: float, quantum: float, known: NDArray[np.bool_]
) -> Forecast | None:
    if model in DIFFERENCES:
        return None
    if prediction is None:
        raise InputError(f"got no prediction for the model '{model}'; expected that of the field; pass prediction=...")
    _check_prediction(prediction, model, known)
    forecast = Forecast.of(prediction, lowest=lowest, quantum=quantum, dressed=model == ENSEMBLE)
    if not np.isfinite(forecast.mean[known]).all():
        raise InputError(
            "got a prediction that is missing where the field has values; expected one for every value; leave those "
            "out of the field, with field.where(prediction.notnull())"
        )
    return forecast


def _check_prediction(prediction: xr.DataArray, model: str, known: NDArray[np.bool_]) -> None:
    if model == ENSEMBLE and prediction.sizes.get("member", 1) < 2:
        raise InputError(
            "got a single prediction for the model 'ensemble'; expected two members or more, whose spread says how "
            "sure they are; take the model 'prediction'"
        )
    shape = tuple(prediction.sizes[dim] for dim in ("time", "y", "x"))
    if shape != known.shape:
        raise InputError(f"got a prediction of shape {shape}; expected that of the field, {known.shape}; align them")


def _check(model: str, quantum: float, known: NDArray[np.bool_]) -> None:
    if model not in MODELS:
        raise InputError(f"There is no model '{model}'. The names are {', '.join(MODELS)}.{nearest(model, MODELS)}")
    if not (np.isfinite(quantum) and quantum > 0):
        raise InputError(f"got a quantum of {quantum:g}; expected a positive number, in the units of the field")
    if known.ndim != 3 or not known.any():
        raise InputError(
            f"got a field of shape {known.shape} with {int(known.sum())} values; expected (time, y, x) with some"
        )
