"""Fields known by their values, whatever their dates: whether a record was seen before under another name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

_MOST = 64
_LENGTH = 16
# Values of a variable in memory at once.
_AT_ONCE = 1 << 20


def traces(fields: xr.Dataset, names: Iterable[str], *, most: int | None = None) -> tuple[str, ...]:
    """Short hashes of the fields of standard fields at times.

    Args:
        fields: (time, y, x).
        names: of the variables that count.
        most: at most so many times, evenly spaced; None is all of them.
    """
    count = fields.sizes["time"]
    chosen = (
        range(count) if most is None else np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    )
    wanted, found = sorted(names), list[str]()
    step = max(1, _AT_ONCE // (fields.sizes["y"] * fields.sizes["x"]))
    for start in range(0, len(chosen), step):
        part = fields.isel(time=np.asarray(chosen[start : start + step]))
        found += map(_trace, zip(*(_plain(part[name]) for name in wanted), strict=True))
    return tuple(found)


def few_traces(fields: xr.Dataset, names: Iterable[str]) -> tuple[str, ...]:
    """Those of some of the times, by which a record is known again."""
    return traces(fields, names, most=_MOST)


def _plain(field: xr.DataArray) -> NDArray[np.float32]:
    """Values (time, y, x), of which all missing ones are one, and so are the two zeros."""
    values = np.asarray(field.transpose("time", "y", "x").values, dtype=np.float32)
    return np.ascontiguousarray(np.where(np.isnan(values), np.float32(np.nan), values + 0.0))


def _trace(values: Iterable[NDArray[np.float32]]) -> str:
    found = hashlib.sha256()
    for each in values:
        found.update(each.data)
    return found.hexdigest()[:_LENGTH]
