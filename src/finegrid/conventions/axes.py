"""Which dimension is which: time, y, x, members and levels, found by CF attributes and then by common names.

What the file says of itself goes first (`axis`, `standard_name`, `units`, read by cf-xarray), the names that
models and archives use go second. Only one-dimensional coordinates count: they are what a grid is built
from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cf_xarray  # noqa: F401  (adds the `.cf` accessor)
import cftime  # type: ignore[import-untyped,unused-ignore]
import xarray as xr

from finegrid.conventions.errors import InputError, described

_NAMES = {
    "time": ("time", "valid_time", "t", "date", "XTIME"),
    "y": ("y", "lat", "latitude", "rlat", "nlat", "projection_y_coordinate", "south_north", "northing"),
    "x": ("x", "lon", "longitude", "rlon", "nlon", "projection_x_coordinate", "west_east", "easting", "long"),
    "member": ("member", "number", "realization", "realisation", "ensemble", "ensemble_member", "ens"),
    "level": (
        "plev", "level", "lev", "isobaricInhPa", "pressure_level", "pressure", "height", "depth", "hybrid",
    ),
}  # fmt: skip
_CF_KEYS = {"y": ("Y", "latitude"), "x": ("X", "longitude"), "level": ("Z", "vertical")}
_BOUNDS_LIKE = ("bounds", "bnds", "bnd", "nv", "nv4", "vertices", "vertex")


@dataclass(frozen=True)
class Axes:
    """The user's names of the coordinates; None where there is none. Each is one-dimensional."""

    y: str
    x: str
    time: str | None = None
    member: str | None = None
    level: str | None = None


def find_axes(fields: xr.Dataset, *, source: str) -> Axes:
    """Find the axes of the gridded variables.

    Raises:
        InputError: when there is no horizontal axis, or it exists as two-dimensional coordinates only.
    """
    dims = _field_dims(fields)
    y, x = _find(fields, "y", dims), _find(fields, "x", dims)
    if y is None or x is None:
        raise _no_horizontal_axis(fields, source)
    used = {str(fields[name].dims[0]) for name in (y, x)}
    time = _time(fields, dims)
    used |= {str(fields[time].dims[0])} if time else set()
    member = _find(fields, "member", dims - used)
    used |= {str(fields[member].dims[0])} if member else set()
    return Axes(y, x, time, member, _find(fields, "level", dims - used))


def is_time(variable: xr.DataArray) -> bool:
    """Whether values are dates, NumPy's or cftime's."""
    if variable.dtype != object or not variable.size:
        return variable.dtype.kind == "M"
    return isinstance(variable.values.flat[0], cftime.datetime)


def grid_mapping_of(fields: xr.Dataset) -> str | None:
    """Name of the CF grid mapping variable that the fields refer to, or the only one that looks like it."""
    for field in fields.data_vars.values():
        named = field.attrs.get("grid_mapping", field.encoding.get("grid_mapping"))
        # The extended form is "crs: x y".
        name = str(named).split(":")[0].strip()
        if named and name in fields.variables and fields[name].size == 1:
            return name
    keys = {"grid_mapping_name", "crs_wkt", "spatial_ref"}
    found = [str(name) for name, each in fields.variables.items() if keys & set(each.attrs) and each.size == 1]
    return found[0] if found else None


def bounds_of(fields: xr.Dataset, name: str) -> str | None:
    """Name of the bounds variable of a coordinate, when it is there and has two vertices per cell."""
    coordinate = fields[name]
    guesses = (coordinate.attrs.get("bounds"), coordinate.encoding.get("bounds"), f"{name}_bounds")
    for guess in guesses:
        if guess in fields.variables and fields[guess].ndim == 2 and fields[guess].shape[1] == 2:
            return str(guess) if fields[guess].dims[0] == coordinate.dims[0] else None
    return None


def _field_dims(fields: xr.Dataset) -> set[str]:
    """Dimensions of the variables that can be fields: numbers over two dimensions or more."""
    dims: set[str] = set()
    for field in fields.data_vars.values():
        if field.ndim >= 2 and field.dtype.kind in "fiub":
            dims |= {str(dim) for dim in field.dims if str(dim) not in _BOUNDS_LIKE}
    return dims


def _find(fields: xr.Dataset, kind: str, dims: set[str]) -> str | None:
    """The 1-D coordinate of a kind; dimension coordinates go before others on the same dimension."""
    by_attributes = [name for key in _CF_KEYS.get(kind, ()) for name in _by_attributes(fields, key)]
    if kind == "member":
        by_attributes = [
            str(name) for name, c in fields.coords.items() if c.attrs.get("standard_name") == "realization"
        ]
    for names in (by_attributes, _NAMES[kind]):
        found = [name for name in names if name in fields.coords and _is_axis(fields[name], dims)]
        if found:
            return min(found, key=lambda name: name not in fields.dims)
    bare = [name for name in _NAMES[kind] if kind == "member" and name in dims and name not in fields.coords]
    return bare[0] if bare else None


def _by_attributes(fields: xr.Dataset, key: str) -> Iterable[str]:
    table = fields.cf.axes if key in "XYZ" else fields.cf.coordinates
    return [str(name) for name in table.get(key, [])]


def _is_axis(coordinate: xr.DataArray, dims: set[str]) -> bool:
    return coordinate.ndim == 1 and str(coordinate.dims[0]) in dims and coordinate.dtype.kind in "fiu"


def _time(fields: xr.Dataset, dims: set[str]) -> str | None:
    dated = [
        str(name)
        for name, c in fields.coords.items()
        if c.ndim == 1 and str(c.dims[0]) in dims and c.size and is_time(c)
    ]
    return min(dated, key=lambda name: (name not in fields.dims, name not in _NAMES["time"])) if dated else None


def undated_time(fields: xr.Dataset) -> str | None:
    """A dimension that by its name or attributes is time, but whose values are not dates."""
    named = [str(name) for name in fields.cf.axes.get("T", [])] + list(_NAMES["time"])
    return next((name for name in named if name in fields.dims), None)


def _no_horizontal_axis(fields: xr.Dataset, source: str) -> InputError:
    plane = [str(name) for key in ("latitude", "longitude") for name in _by_attributes(fields, key)]
    plane = [name for name in plane if name in fields and fields[name].ndim == 2]
    if plane:
        dims = ", ".join(map(str, fields[plane[0]].dims))
        return InputError(
            f"{source} has {' and '.join(plane)} as two-dimensional coordinates ({dims}) only; expected a "
            "grid mapping with one-dimensional coordinates (a projection's x and y in metres, or "
            "rotated-pole degrees). Add them with fields.assign_coords(y=..., x=...) and a grid mapping "
            "variable, or remap the file to a regular grid first, for example with `cdo remapbil`"
        )
    return InputError(
        f"{source} has no horizontal grid: no one-dimensional latitude/longitude or y/x coordinates were "
        f"found. Its variables are: {described(fields)}. Expected CF coordinates; name them, for example "
        "fields['north'].attrs['standard_name'] = 'latitude'"
    )
