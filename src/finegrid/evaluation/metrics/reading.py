"""Fields read from where they are kept, each chunk of them once.

A block of times in which fields are scored (`base`) is seldom a chunk of the file: a chunk of which four blocks take a
quarter each would be read and unpacked four times. So whole chunks are read, several at once, and kept as they come:
to put them together in one array would cost as much as to sum them up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array

# Values of all predictions read at once: 128 MB as float32.
_AT_ONCE = 1 << 25
_ORDER = ("member", "time", "y", "x")

Stored = NDArray[np.float32] | Array
"""Values in the precision in which they are kept."""


def reads_of(fields: Sequence[xr.DataArray], block: int) -> Iterator[list[slice]]:
    """Slices of the times that are read at once: whole chunks of the first field, unless one alone is too long.

    Args:
        fields: fields with the same times, which are read together.
        block: values below which chunks are put together.
    """
    values = [max(1, field.size // max(1, field.sizes["time"])) for field in fields]
    most, pieces = max(1, _AT_ONCE // sum(values)), list[slice]()
    for piece in runs_of(fields[0], max(1, block // max(values)), most):
        if pieces and piece.stop - pieces[0].start > most:
            yield pieces
            pieces = []
        pieces.append(piece)
    if pieces:
        yield pieces


def runs_of(field: xr.DataArray, block: int, most: int) -> Iterator[slice]:
    """Runs of whole chunks of at most `block` times, longer chunks one by one, those beyond `most` times in parts."""
    start, stop = 0, 0
    for chunk in field.chunksizes.get("time", (1,) * field.sizes["time"]):
        if stop > start and stop + chunk - start > block:
            yield slice(start, stop)
            start = stop
        stop += chunk
        while stop - start > most:
            yield slice(start, start + most)
            start += most
    if stop > start:
        yield slice(start, stop)


def stored_each(field: xr.DataArray, pieces: Sequence[slice]) -> list[Stored]:
    """Values (..., time, y, x) of several slices of times, read at once: see `stored`."""
    ordered = field.transpose(*[dim for dim in _ORDER if dim in field.dims])
    read = dask.compute(*(ordered.isel(time=piece) for piece in pieces))  # type: ignore[attr-defined, no-untyped-call]
    return [finite(each.values) for each in read]


def stored(field: xr.DataArray, part: slice) -> Stored:
    """Values (..., time, y, x) of some times, float32 if they are kept so, else float64; infinite ones as missing."""
    return stored_each(field, [part])[0]


def loaded(field: xr.DataArray, part: slice) -> Array:
    """Values (..., time, y, x) of some times as float64, infinite ones as missing."""
    return np.asarray(stored(field, part), dtype=np.float64)


def finite(values: NDArray[Any]) -> Stored:
    """Values as float32 if they are, else as float64; infinite ones as missing."""
    values = values if values.dtype == np.float32 else values.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(values.sum()):  # nothing is infinite, and no mask of the size of the field is needed
            return values
    infinite = np.isinf(values)
    return np.where(infinite, np.nan, values) if infinite.any() else values
