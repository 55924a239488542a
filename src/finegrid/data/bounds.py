"""How much one piece of a file may take in memory, so that a few bytes cannot ask for all of it.

Compressed pieces are unpacked whole: a chunk of Zarr or HDF5, a block of a GeoTIFF, a message of GRIB. Their size is in
the description of the file and is looked at before anything is unpacked. So is the length of the axes, which are read
when a file is opened.

    FINEGRID_LARGEST_CHUNK     the limit, in bytes or as "4 GiB"; 2 GiB where it is not set
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from dask.utils import format_bytes, parse_bytes

from finegrid.conventions import InputError

LIMIT_VARIABLE = "FINEGRID_LARGEST_CHUNK"
_LARGEST = 2 << 30


def largest_chunk() -> int:
    """Bytes that one piece of a file may have in memory.

    Raises:
        InputError: when the environment variable holds no size.
    """
    stated = os.environ.get(LIMIT_VARIABLE)
    if not stated:
        return _LARGEST
    try:
        size = int(parse_bytes(stated))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise InputError(
            f"got {LIMIT_VARIABLE}={stated!r}; expected a size such as '4 GiB', or a number of bytes; set it so"
        )
    return size


def check_chunk(path: Path, name: str, shape: Sequence[int], itemsize: int, *, remedy: str) -> None:
    """One piece of a variable fits into memory.

    Args:
        path: the file.
        name: the variable.
        shape: of the piece that is unpacked at once.
        itemsize: bytes of a value in memory.
        remedy: how to make smaller pieces, in words.

    Raises:
        InputError: names file, variable and shape of the piece, and says what to do.
    """
    size = itemsize * math.prod(map(int, shape))
    if size > largest_chunk():
        raise InputError(
            f"{path} keeps '{name}' in pieces of {' x '.join(map(str, shape))} values, each {format_bytes(size)} in "
            f"memory; expected at most {format_bytes(largest_chunk())}; {remedy}, or allow more with "
            f"{LIMIT_VARIABLE}='{format_bytes(2 * size)}' if you trust the file"
        )


def check_axis(path: Path, name: str, length: int, itemsize: int) -> None:
    """An axis, which is read whole when the file is opened, fits into memory.

    Raises:
        InputError: names file and axis.
    """
    size = itemsize * length
    if size > largest_chunk():
        raise InputError(
            f"{path} says that its axis '{name}' has {length} values, {format_bytes(size)}; expected at most "
            f"{format_bytes(largest_chunk())}: no climate file has such an axis; the file is damaged; copy or download "
            f"it again, or allow more with {LIMIT_VARIABLE}='{format_bytes(2 * size)}'"
        )
