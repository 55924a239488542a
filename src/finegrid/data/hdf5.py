"""NetCDF-4 and HDF5 files before they are opened for good: pieces and axes of a size that fits into memory.

The HDF5 library itself refuses a file that is shorter than it says and values that lie beyond the end. It does unpack a
chunk to its end before it compares the length: deflate, which makes at most 1032 bytes of one, lets a file of F bytes
take 1032 F bytes at most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from finegrid.conventions import InputError
from finegrid.conventions.netcdf import LOCK, check_heaps
from finegrid.data.bounds import check_axis, check_chunk

# Text and other values of any length: a pointer and a length.
_UNKNOWN_BYTES = 16
_REMEDY = "rewrite it with smaller ones: `nccopy -c DIM/SIZE,... in.nc out.nc`"


def check_variables(path: Path) -> None:
    """Chunks and axes of the variables at the top level fit into memory.

    Raises:
        InputError: names the variable that does not; and when the file is damaged.
    """
    check_heaps(path)
    try:
        # With strong references a file that fails half way is closed by the garbage collector, in any thread, unlocked.
        with LOCK, netCDF4.Dataset(path, "r", keepweakref=True) as file:
            described = [
                (name, each.dimensions, each.shape, each.chunking(), each.dtype)
                for name, each in file.variables.items()
            ]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError, MemoryError) as error:
        raise InputError(
            f"{path} is damaged or truncated ({error}); expected NetCDF or HDF5. Copy or download it again, and check "
            "it with `ncdump -h`"
        ) from error
    for name, dims, shape, chunks, kind in described:
        itemsize = _itemsize(kind)
        if dims == (name,):
            check_axis(path, name, shape[0], itemsize)
        if chunks != "contiguous" and chunks is not None:
            check_chunk(path, name, chunks, itemsize, remedy=_REMEDY)


def _itemsize(kind: Any) -> int:
    try:
        return int(np.dtype(kind).itemsize) or _UNKNOWN_BYTES
    except TypeError:
        return _UNKNOWN_BYTES
