"""Which dimension is which: time, y, x, members and levels, found by CF attributes and then by common names.

What the file says of itself goes first (`axis`, `standard_name`, `units`, read by cf-xarray), the names that
models and archives use go second. Only one-dimensional coordinates count: they are what a grid is built
from. Where there are none, latitudes and longitudes over two dimensions make a curvilinear grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_PLANES = {"latitude": ("XLAT", "lat", "nav_lat", "TLAT"), "longitude": ("XLONG", "lon", "nav_lon", "TLONG")}
_CF_KEYS = {"y": ("Y", "latitude"), "x": ("X", "longitude"), "level": ("Z", "vertical")}
_BOUNDS_LIKE = ("bounds", "bnds", "bnd", "nv", "nv4", "vertices", "vertex")


@dataclass(frozen=True)
class Axes:
    """The user's names of the coordinates; None where there is none. Each is one-dimensional.

    On a curvilinear grid y and x may be bare dimensions, and `plane` names the 2-D latitudes and longitudes.
    """

    y: str
    x: str
    time: str | None = None
    member: str | None = None
    level: str | None = None
    plane: tuple[str, str] | None = None


def with_planes(fields: xr.Dataset) -> xr.Dataset:
    """Latitudes and longitudes over a plane as coordinates, also where a model writes them anew at every time.

    Raises:
        InputError: when they move.
    """
    named = {name for names in _PLANES.values() for name in names}
    for name in [str(name) for name in fields.variables if name in named and fields[name].ndim in (2, 3)]:
        field = fields[name]
        if field.ndim == 3:
            if bool((abs(field - field[0]) > 1e-5).any()):
                raise InputError(
                    f"'{name}' changes along '{field.dims[0]}'; expected a grid that stays where it is. Choose one "
                    f"time, or remap each by itself with fields.isel({field.dims[0]}=...)"
                )
            fields = fields.drop_vars(name).assign_coords({name: field[0].variable})
        fields = fields.set_coords(name)
    return fields


def find_axes(fields: xr.Dataset, *, source: str) -> Axes:
    """Find the axes of the gridded variables.

    Raises:
        InputError: when there is no horizontal axis.
    """
    dims, told = _field_dims(fields), _by_attributes(fields)
    y, x = _find(fields, "y", dims, told), _find(fields, "x", dims, told)
    plane = _plane(fields, dims, told)
    if plane is not None and (y is None or x is None or not _placed(fields, y)):
        rows, columns = (str(dim) for dim in fields[plane[0]].dims)
        y = y if y is not None and fields[y].dims == (rows,) else rows
        x = x if x is not None and fields[x].dims == (columns,) else columns
    else:
        plane = None
    if y is None or x is None:
        raise _no_horizontal_axis(fields, source)
    used = {str(fields[name].dims[0]) for name in (y, x)}
    time = _time(fields, dims)
    used |= {str(fields[time].dims[0])} if time else set()
    member = _find(fields, "member", dims - used, told)
    used |= {str(fields[member].dims[0])} if member else set()
    return Axes(y, x, time, member, _find(fields, "level", dims - used, told), plane)


def fields_of(fields: xr.Dataset) -> dict[str, xr.Variable]:
    """The data variables by name: a DataArray of each, with its coordinates, would take a hundred times as long."""
    return {str(name): fields.variables[name] for name in fields.data_vars}


def is_time(variable: xr.DataArray | xr.Variable) -> bool:
    """Whether values are dates, NumPy's or cftime's."""
    if variable.dtype != object or not variable.size:
        return variable.dtype.kind == "M"
    return isinstance(variable.values.flat[0], cftime.datetime)


def grid_mapping_of(fields: xr.Dataset) -> str | None:
    """Name of the CF grid mapping variable that the fields refer to, or the only one that looks like it."""
    for field in fields_of(fields).values():
        named = field.attrs.get("grid_mapping", field.encoding.get("grid_mapping"))
        # The extended form is "crs: x y".
        name = str(named).split(":")[0].strip()
        if named and name in fields.variables and fields.variables[name].size == 1:
            return name
    keys = {"grid_mapping_name", "crs_wkt", "spatial_ref"}
    found = [str(name) for name, each in fields.variables.items() if keys & set(each.attrs) and each.size == 1]
    return found[0] if found else None


def bounds_of(fields: xr.Dataset, name: str) -> str | None:
    """Name of the bounds variable of a coordinate, when it is there and has two vertices per cell (four in a plane)."""
    coordinate = fields.variables[name]
    guesses = (coordinate.attrs.get("bounds"), coordinate.encoding.get("bounds"), f"{name}_bounds")
    for guess in guesses:
        around = fields.variables.get(guess)
        if around is not None and around.ndim == coordinate.ndim + 1:
            fits = around.shape[-1] == 2 * coordinate.ndim and around.dims[:-1] == coordinate.dims
            return str(guess) if fits else None
    return None


def _field_dims(fields: xr.Dataset) -> set[str]:
    """Dimensions of the variables that can be fields: numbers over two dimensions or more."""
    dims: set[str] = set()
    for field in fields_of(fields).values():
        if field.ndim >= 2 and field.dtype.kind in "fiub":
            dims |= {str(dim) for dim in field.dims if str(dim) not in _BOUNDS_LIKE}
    return dims


def _find(fields: xr.Dataset, kind: str, dims: set[str], told: Mapping[str, Sequence[str]]) -> str | None:
    """The 1-D coordinate of a kind; dimension coordinates go before others on the same dimension."""
    by_attributes = [name for key in _CF_KEYS.get(kind, ()) for name in told.get(key, ())]
    if kind == "member":
        by_attributes = [
            str(name) for name, c in fields.coords.items() if c.attrs.get("standard_name") == "realization"
        ]
    for names in (by_attributes, _NAMES[kind]):
        found = [name for name in names if name in fields.coords and _is_axis(fields.variables[name], dims, kind)]
        if found:
            return min(found, key=lambda name: name not in fields.dims)
    bare = [name for name in _NAMES[kind] if kind == "member" and name in dims and name not in fields.coords]
    return bare[0] if bare else None


def _by_attributes(fields: xr.Dataset) -> dict[str, list[str]]:
    """Coordinates by what the file says of itself: X, Y, Z, latitude, longitude, vertical."""
    return {key: list(map(str, names)) for key, names in {**fields.cf.axes, **fields.cf.coordinates}.items()}


def _is_axis(coordinate: xr.Variable, dims: set[str], kind: str) -> bool:
    kinds = "fiuUSO" if kind == "member" else "fiu"  # members may be called r1i1p1f1
    return coordinate.ndim == 1 and str(coordinate.dims[0]) in dims and coordinate.dtype.kind in kinds


def _time(fields: xr.Dataset, dims: set[str]) -> str | None:
    dated = [
        str(name)
        for name, c in ((name, fields.variables[name]) for name in fields.coords)
        if c.ndim == 1 and str(c.dims[0]) in dims and c.size and is_time(c)
    ]
    return min(dated, key=lambda name: (name not in fields.dims, name not in _NAMES["time"])) if dated else None


def undated_time(fields: xr.Dataset) -> str | None:
    """A dimension that by its name or attributes is time, but whose values are not dates."""
    named = [str(name) for name in fields.cf.axes.get("T", [])] + list(_NAMES["time"])
    return next((name for name in named if name in fields.dims), None)


def _plane(fields: xr.Dataset, dims: set[str], told: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """Names of latitudes and longitudes over the same two dimensions of the fields."""
    found = []
    for key in ("latitude", "longitude"):
        named = [*told.get(key, ()), *_PLANES[key]]
        fitting = [name for name in named if name in fields.coords and fields[name].ndim == 2]
        found.append(next((name for name in fitting if set(map(str, fields[name].dims)) <= dims), None))
    latitude, longitude = found
    if latitude is None or longitude is None or fields[latitude].dims != fields[longitude].dims:
        return None
    return latitude, longitude


def _placed(fields: xr.Dataset, y: str) -> bool:
    """Whether a 1-D coordinate says where rows lie: it is latitude, or comes with a grid mapping."""
    units, standard_name = str(fields[y].attrs.get("units", "")), fields[y].attrs.get("standard_name")
    latitude = (units.startswith("degree") and "north" in units.lower()) or standard_name == "latitude"
    return latitude or y.lower() in ("lat", "latitude") or grid_mapping_of(fields) is not None


def _no_horizontal_axis(fields: xr.Dataset, source: str) -> InputError:
    return InputError(
        f"{source} has no horizontal grid: no one-dimensional latitude/longitude or y/x coordinates were "
        f"found, nor two-dimensional ones. Its variables are: {described(fields)}. Expected CF coordinates; name them, "
        "for example fields['north'].attrs['standard_name'] = 'latitude'"
    )
