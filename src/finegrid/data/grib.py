"""GRIB files, read by cfgrib (the extra `grib`)."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.bounds import check_chunk

_START, _END = b"GRIB", b"7777"
# Sections of edition 2 that may follow one; grid, product and data may come again in a message (WMO, FM 92 GRIB).
_FOLLOWING = {0: (1,), 1: (2, 3), 2: (3,), 3: (4,), 4: (5,), 5: (6,), 6: (7,), 7: (2, 3, 4)}
# Bytes of the first section of edition 2.
_HEAD = 16


def open_grib(path: Path) -> xr.Dataset:
    """All variables of a GRIB file in one Dataset, in cfgrib's names, without writing an index file beside it.

    Coordinates that differ between variables (2 m and 10 m above ground) are left out.
    """
    import pyproj  # noqa: F401  (before cfgrib: loaded the other way round, their PROJ libraries clash)

    # An assertion that fails on a damaged message must not end the process.
    os.environ.setdefault("ECCODES_NO_ABORT", "1")
    try:
        import cfgrib
    except ImportError as error:
        raise InputError(f'{path} is a GRIB file; reading it needs cfgrib: pip install "finegrid[grib]"') from error
    _check_messages(path)
    try:
        parts = cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": ""})
    except Exception as error:  # eccodes and cfgrib have a dozen kinds of errors, most of them bare Exceptions
        raise InputError(f"{path} cannot be read as GRIB ({error}). Check it with `grib_ls`") from error
    return _merged([_true_longitudes(part) for part in parts])


def _check_messages(path: Path) -> None:
    """Every message is as long as it says, and its sections fill it in their order.

    The library ends the process on some others.

    Raises:
        InputError: on a message that is cut off or damaged, or that would not fit into memory.
    """
    size, start, number = path.stat().st_size, 0, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (start := content.find(_START, start)) >= 0:
            number += 1
            length = _length(content, start) if start + _HEAD <= size else size + 1
            whole = start + length <= size and content[start + length - len(_END) : start + length] == _END
            if not whole or not _sections_fill(content, start, length):
                raise InputError(
                    f"{path} is truncated or damaged: message {number} has no end where it says, or sections that do "
                    "not fill it. Copy or download it again"
                )
            points = _points(content, start)
            check_chunk(path, f"message {number}", [points], 8, remedy="cut the grid with `grib_copy` or `cdo`")
            start += length


def _length(content: mmap.mmap, start: int) -> int:
    """Bytes of the message that begins there."""
    if content[start + 7] == 2:
        return max(_HEAD, int.from_bytes(content[start + 8 : start + 16], "big"))
    length = int.from_bytes(content[start + 4 : start + 7], "big")
    # Of the first edition, messages beyond 8 MB count in another way; the library reads these from their sections.
    return max(_HEAD, length) if not length & 0x800000 else content.find(_END, start) + len(_END) - start


def _points(content: mmap.mmap, start: int) -> int:
    """Values in the message that begins there, however few bytes they take: a constant field takes none.

    Of edition 2 that of the first grid, octets 7-10 of section 3; of edition 1, Ni and Nj, octets 7-10 of section 2.
    """
    if content[start + 7] != 2:
        first = start + 8
        grid = first + int.from_bytes(content[first : first + 3], "big")
        has_grid = content[first + 7 : first + 8] >= b"\x80"
        sides = (content[grid + 6 : grid + 8], content[grid + 8 : grid + 10]) if has_grid else ()
        # 65535 is said where rows have different lengths.
        return math.prod(int.from_bytes(each, "big") for each in sides if each != b"\xff\xff")
    place = start + _HEAD
    while content[place + 4] != 3 and content[place : place + 4] != _END:
        place += int.from_bytes(content[place : place + 4], "big")
    return int.from_bytes(content[place + 6 : place + 10], "big") if content[place : place + 4] != _END else 0


def _sections_fill(content: mmap.mmap, start: int, length: int) -> bool:
    if content[start + 7] != 2:
        return content[start + 7] == 1
    place, end, before = start + _HEAD, start + length - len(_END), 0
    while place < end:
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4]
        if size < 5 or kind not in _FOLLOWING[before] or place + size > end:
            return False
        place, before = place + size, kind
    return place == end and before == max(_FOLLOWING)


def _true_longitudes(fields: xr.Dataset) -> xr.Dataset:
    """Longitudes as the message defines them.

    Where a grid crosses Greenwich, cfgrib sorts its longitudes but not the values (github.com/ecmwf/cfgrib/issues/402).
    """
    if "longitude" not in fields.dims or not fields.data_vars:
        return fields
    grid = next(iter(fields.data_vars.values())).attrs
    step = grid.get("GRIB_iDirectionIncrementInDegrees")
    first = grid.get("GRIB_longitudeOfFirstGridPointInDegrees")
    if grid.get("GRIB_gridType") not in ("regular_ll", "regular_gg") or not step or first is None:
        return fields
    count = fields.sizes["longitude"]
    eastward = -1 if grid.get("GRIB_iScansNegatively") else 1
    true = first + eastward * step * np.arange(count)
    given = fields["longitude"].values
    # Increments are rounded to thousandths of a degree in GRIB 1: only another order is put right.
    if np.abs((true - given + 180) % 360 - 180).max() < 0.5 * step:
        return fields
    return fields.assign_coords(longitude=("longitude", true, fields["longitude"].attrs))


def _merged(parts: list[xr.Dataset]) -> xr.Dataset:
    taken: set[Hashable] = set()
    renamed = []
    for part in parts:
        clashes = {
            name: f"{name}_{field.attrs.get('GRIB_typeOfLevel', 'other')}"
            for name, field in part.data_vars.items()
            if name in taken
        }
        renamed.append(part.rename(clashes))
        taken |= set(renamed[-1].data_vars)
    if len(renamed) == 1:
        return renamed[0]
    return xr.merge(
        [_without_conflicts(part, renamed) for part in renamed], compat="override", combine_attrs="override"
    )


def _without_conflicts(part: xr.Dataset, parts: list[xr.Dataset]) -> xr.Dataset:
    """Leave out scalar coordinates that not all parts share."""
    odd = [
        name
        for name, coordinate in part.coords.items()
        if coordinate.ndim == 0 and not all(name in each.coords and coordinate.equals(each[name]) for each in parts)
    ]
    return part.drop_vars(odd)
