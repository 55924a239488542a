"""Fields known by their values, whatever their dates: whether a record was seen before under another name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import xarray as xr

_MOST = 64
_LENGTH = 16


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
    return tuple(_trace(fields.isel(time=int(time)), sorted(names)) for time in chosen)


def few_traces(fields: xr.Dataset, names: Iterable[str]) -> tuple[str, ...]:
    """Those of some of the times, by which a record is known again."""
    return traces(fields, names, most=_MOST)


def _trace(fields: xr.Dataset, names: Iterable[str]) -> str:
    found = hashlib.sha256()
    for name in names:
        values = np.asarray(fields[name].transpose("y", "x").values, dtype=np.float32)
        # All missing values are one, and so are the two zeros.
        found.update(np.ascontiguousarray(np.where(np.isnan(values), np.float32(np.nan), values + 0.0)).tobytes())
    return found.hexdigest()[:_LENGTH]
