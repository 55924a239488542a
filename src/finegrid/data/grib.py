"""GRIB files, read by cfgrib (the extra `grib`)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.conventions import InputError

_END = b"7777"


def open_grib(path: Path) -> xr.Dataset:
    """All variables of a GRIB file in one Dataset, in cfgrib's names, without writing an index file beside it.

    Coordinates that differ between variables (2 m and 10 m above ground) are left out.
    """
    import pyproj  # noqa: F401  (before cfgrib: loaded the other way round, their PROJ libraries clash)

    try:
        import cfgrib
    except ImportError as error:
        raise InputError(f'{path} is a GRIB file; reading it needs cfgrib: pip install "finegrid[grib]"') from error
    _check_end(path)
    try:
        parts = cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": ""})
    except Exception as error:  # eccodes and cfgrib have a dozen kinds of errors, most of them bare Exceptions
        raise InputError(f"{path} cannot be read as GRIB ({error}). Check it with `grib_ls`") from error
    return _merged([_true_longitudes(part) for part in parts])


def _check_end(path: Path) -> None:
    with path.open("rb") as file:
        # Some archives pad the last message with zeros or a line feed.
        file.seek(-min(64, path.stat().st_size), 2)
        end = file.read().rstrip(b"\0\n\r ")
    if not end.endswith(_END):
        raise InputError(f"{path} is truncated: its last GRIB message has no end. Copy or download it again")


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
