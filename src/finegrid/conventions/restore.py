"""The way back from the standard form to the user's names, order, units, types and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import geography, levels
from finegrid.conventions.names import Coordinate, Names, attributes

_MEMBER = {"standard_name": "realization"}
_PLANE = {"lat": "latitude", "lon": "longitude"}


def restore(fields: xr.Dataset, names: Names) -> xr.Dataset:
    """Undo `harmonise`; works as well on other times, cropped or refined grids, and with a member dimension.

    Args:
        fields: fields in standard form.
        names: the second value of `harmonise`.

    Returns:
        The fields in the user's form. Fields that the user's file did not have get its usual dimensions.
    """
    fields = fields.copy(deep=False)
    if "x" in fields.dims:
        fields = geography.returned(fields, names)
    fields = levels.join(_renamed(fields.drop_vars("crs", errors="ignore"), names), names.levels)
    missing = {name: scalar.variable() for name, scalar in names.scalars.items() if name not in fields.variables}
    fields = _transformed(fields.assign_coords(missing), names)
    for name in map(str, list(fields.data_vars)):
        fields[name] = _ordered(fields, name, names)
    return _redimensioned(fields, names)


def _renamed(fields: xr.Dataset, names: Names) -> xr.Dataset:
    users = {"time": names.time, "y": names.y, "x": names.x, "member": names.member}
    renaming = {key: name for key, name in users.items() if key in fields.dims}
    linked: dict[str, str] = {}
    for key in ("time", "y", "x"):
        if f"{key}_bounds" in fields.coords:
            own = names.coordinates[key].bounds if key in names.coordinates else None
            renaming[f"{key}_bounds"] = linked[users[key]] = own or f"{users[key]}_bnds"
            renaming["bounds"] = names.bounds_dimension
    for key in _PLANE:
        if key in fields.coords:
            renaming[key] = getattr(names, _PLANE[key])
        if f"{key}_bounds" in fields.coords:
            own = names.coordinates[key].bounds if key in names.coordinates else None
            renaming[f"{key}_bounds"] = linked[renaming[key]] = own or f"{renaming[key]}_bnds"
            renaming["vertices"] = names.vertices_dimension
    fields = fields.rename({old: new for old, new in renaming.items() if old != new})
    for key in ("time", "member", "lat", "lon"):
        fields = _described(fields, key, {**users, "lat": names.latitude, "lon": names.longitude}[key], names)
    for name, bounds in linked.items():
        if "bounds" not in fields[name].attrs:
            fields[name].encoding["bounds"] = bounds
    return fields


def _described(fields: xr.Dataset, key: str, name: str, names: Names) -> xr.Dataset:
    """Attributes, type and encoding of a coordinate that geography leaves alone."""
    if name not in fields.coords:
        return fields
    known = names.coordinates.get(key, Coordinate(dimension=name, attributes=_MEMBER if key == "member" else {}))
    coordinate = fields[name].variable.copy(deep=False)
    coordinate.attrs = attributes(known.attributes) or coordinate.attrs
    if known.dtype and key != "member":
        coordinate = coordinate.astype(known.dtype)
    if key == "time":
        coordinate.encoding = {
            what: np.dtype(value) if what == "dtype" else value for what, value in known.encoding.items()
        }
        if "calendar" in coordinate.encoding and coordinate.size:  # that of the dates, which may not be the known one
            coordinate.encoding["calendar"] = str(fields[name].dt.calendar)
    return fields.assign_coords({name: coordinate})


def _ordered(fields: xr.Dataset, name: str, names: Names) -> xr.DataArray:
    """A field with the user's dimensions in the user's order, and its grid mapping."""
    field, order = fields[name], names.orders.get(name, names.order)
    axes = {names.time, names.y, names.x, names.member} | ({names.levels.name} if names.levels else set())
    for dim in order:
        if dim not in field.dims and (dim in names.scalars or dim not in axes):
            field = field.expand_dims(dim)
    first = [dim for dim in field.dims if dim not in order]
    ordered = field.transpose(*first, *[dim for dim in order if dim in field.dims])
    if names.grid_mapping is not None and {names.y, names.x} <= set(field.dims):
        (ordered.attrs if names.attached else ordered.encoding)["grid_mapping"] = names.grid_mapping
    return ordered


def _transformed(fields: xr.Dataset, names: Names) -> xr.Dataset:
    """GDAL's affine transform in the grid mapping, worked out for the grid as it is now."""
    mapping = names.grid_mapping
    small = min(fields.sizes.get(names.y, 0), fields.sizes.get(names.x, 0)) < 2
    if mapping is None or small or "GeoTransform" not in fields[mapping].attrs:
        return fields
    (x, width), (y, height) = ((float(fields[n][0]), float(fields[n][1] - fields[n][0])) for n in (names.x, names.y))
    transform = f"{x - width / 2} {width} 0.0 {y - height / 2} 0.0 {height}"
    fields[mapping].attrs["GeoTransform"] = transform
    return fields


def _redimensioned(fields: xr.Dataset, names: Names) -> xr.Dataset:
    """Dimensions that had another name than their coordinate."""
    swaps: dict[Any, Any] = {}
    for key, name in (("time", names.time), ("y", names.y), ("x", names.x), ("member", names.member)):
        known = names.coordinates.get(key)
        if known is not None and known.dimension != name and name in fields.dims:
            swaps[name] = known.dimension
    return fields.swap_dims(swaps)
