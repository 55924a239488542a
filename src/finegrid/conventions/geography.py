"""The horizontal part of the standard form: kind and direction of the coordinates, and the reference system.

Four kinds are told apart: latitude-longitude, rotated pole (degrees, with a grid mapping), projected
(metres, with a grid mapping) and curvilinear (two-dimensional latitudes and longitudes only). `standardise` turns
the user's values round and `returned` turns them back.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import longitudes
from finegrid.conventions.errors import InputError
from finegrid.conventions.names import Coordinate, Names, attributes, plain

Kind = Literal["latlon", "rotated", "projected"]
Array = NDArray[np.float64]

_ATTRIBUTES: dict[Kind, dict[str, dict[str, str]]] = {
    "latlon": {
        "y": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
        "x": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    },
    "rotated": {
        "y": {"standard_name": "grid_latitude", "units": "degrees", "axis": "Y"},
        "x": {"standard_name": "grid_longitude", "units": "degrees", "axis": "X"},
    },
    "projected": {
        "y": {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"},
        "x": {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"},
    },
}
_NUMBERS = {
    "y": {"long_name": "row", "units": "1", "axis": "Y"},
    "x": {"long_name": "column", "units": "1", "axis": "X"},
}
_METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "km": 1000.0, "kilometre": 1000.0}
_NORTH = {"degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"}


def standardise(fields: xr.Dataset, names: Names, source: str) -> tuple[xr.Dataset, dict[str, Any]]:
    """Ascending float64 y and x with standard attributes, `crs`, `lat` and `lon`.

    Args:
        fields: fields with the dimension coordinates y and x, values as in the user's file.
        names: what is known so far.
        source: words for the file in error messages.

    Returns:
        The fields, and what changes in `names`.
    """
    if names.curvilinear:
        return _numbered(fields, names, source)
    kind = _kind(fields, names, source)
    metres = _metres(fields, kind, names, source)
    fields, y_descending = _upward(fields, names.y, source)
    fields, changes = _eastward(fields, names.x, kind, source)
    fields = _scaled(fields, metres, kind, names, source)
    changes |= {"y_descending": y_descending, "metres": metres}
    if kind == "latlon":
        return fields, changes
    fields, plane = _plane(fields, names)
    mapping = names.scalars[str(names.grid_mapping)].attributes
    # GDAL's GeoTransform describes the file's own grid: it would be wrong after any crop.
    known = {key: value for key, value in attributes(mapping).items() if key != "GeoTransform"}
    return fields.assign_coords(crs=((), np.int32(0), known)), changes | plane


def _numbered(fields: xr.Dataset, names: Names, source: str) -> tuple[xr.Dataset, dict[str, Any]]:
    """A curvilinear grid: rows and columns by ascending numbers, latitudes and longitudes in float64."""
    changes = {}
    for axis, name, key in (("y", names.y, "y_descending"), ("x", names.x, "x_westward")):
        values = fields[axis].values.astype(np.float64)
        changes[key] = bool(len(values) > 1 and values[0] > values[-1])
        if changes[key]:
            fields, values = fields.isel({axis: slice(None, None, -1)}), values[::-1]
        _check_ascending(values, name, source)
        fields = fields.drop_vars(f"{axis}_bounds", errors="ignore")
        fields = fields.assign_coords({axis: (axis, values, _NUMBERS[axis])})
    for key, word in (("lat", "north"), ("lon", "east")):
        plane = fields[key].transpose("y", "x").astype(np.float64)
        fields = fields.assign_coords({key: plane.assign_attrs(units=f"degrees_{word}")})
        if f"{key}_bounds" in fields.coords:
            around = fields[f"{key}_bounds"].transpose("y", "x", "vertices").astype(np.float64)
            fields = fields.assign_coords({f"{key}_bounds": around})
    return fields, changes


def _kind(fields: xr.Dataset, names: Names, source: str) -> Kind:
    y = fields["y"]
    units, standard_name = str(y.attrs.get("units", "")), str(y.attrs.get("standard_name", ""))
    scalar = names.scalars.get(names.grid_mapping or "")
    mapping = scalar.attributes if scalar is not None else {}
    mapping_name = mapping.get("grid_mapping_name", "")
    if units in _NORTH or standard_name == "latitude" or mapping_name == "latitude_longitude":
        return "latlon"
    rotated = standard_name == "grid_latitude" or mapping_name == "rotated_latitude_longitude"
    if not rotated and units not in _METRES and not mapping:
        if names.y.lower() in ("lat", "latitude"):
            return "latlon"
        raise InputError(
            f"the coordinate '{names.y}' of {source} has units '{units}'; expected degrees_north or metres. "
            f"Set them: fields['{names.y}'].attrs['units'] = 'degrees_north', and 'degrees_east' for "
            f"'{names.x}'"
        )
    if not mapping:
        raise InputError(
            f"{source} is on a {'rotated' if rotated else 'projected'} grid ({names.y}, {names.x}) without a "
            "grid mapping; expected one, to know where the cells lie. Add it with "
            "fields.rio.write_crs('EPSG:...') of rioxarray, or as a variable 'crs' with the attributes of "
            "pyproj.CRS(...).to_cf()"
        )
    return "rotated" if rotated else "projected"


def _metres(fields: xr.Dataset, kind: Kind, names: Names, source: str) -> float:
    units = str(fields["y"].attrs.get("units", "m"))
    if kind != "projected" or units in _METRES:
        return _METRES.get(units, 1.0) if kind == "projected" else 1.0
    raise InputError(
        f"the coordinate '{names.y}' of {source} has units '{units}'; expected 'm' or 'km' on a projected "
        f"grid. Convert it with fields.assign_coords({names.y}=fields['{names.y}'] * ...), or reproject the "
        "file"
    )


def _upward(fields: xr.Dataset, name: str, source: str) -> tuple[xr.Dataset, bool]:
    values = fields["y"].values.astype(np.float64)
    descending = bool(len(values) > 1 and values[0] > values[-1])
    if descending:
        fields, values = fields.isel(y=slice(None, None, -1)), values[::-1]
    _check_ascending(values, name, source)
    return fields, descending


def _eastward(fields: xr.Dataset, name: str, kind: Kind, source: str) -> tuple[xr.Dataset, dict[str, Any]]:
    values = fields["x"].values.astype(np.float64)
    if kind == "projected":
        westward = bool(len(values) > 1 and values[0] > values[-1])
        ordered = fields.isel(x=slice(None, None, -1)) if westward else fields
        _check_ascending(ordered["x"].values, name, source)
        return ordered, {"x_westward": westward}
    turned = longitudes.continuous(values)
    if turned.westward and np.array_equal(turned.order[::-1], np.arange(len(values))):
        fields = fields.isel(x=slice(None, None, -1))  # a view, where an index array would copy
    elif not np.array_equal(turned.order, np.arange(len(values))):
        fields = fields.isel(x=turned.order)
    new = values[turned.order] - 360.0 * turned.turns
    _check_ascending(new, name, source)
    coords: dict[str, Any] = {} if np.array_equal(new, fields["x"].values) else {"x": new}
    if "x_bounds" in fields.coords:
        bounds = fields["x_bounds"].values.astype(np.float64)
        circles = turned.turns[:, None] + np.round((bounds - values[turned.order][:, None]) / 360.0)
        if circles.any():
            coords["x_bounds"] = (("x", "bounds"), bounds - 360.0 * circles)
    changes = {"x_westward": turned.westward, "x_ascending": turned.ascending, "x_lowest": turned.lowest}
    return fields.assign_coords(coords) if coords else fields, changes


def _check_ascending(values: NDArray[Any], name: str, source: str) -> None:
    steps = np.diff(values)
    if np.isfinite(values).all() and (steps > 0).all():
        return
    bad = int(np.argmin(steps > 0)) + 1 if len(steps) else 0
    raise InputError(
        f"the coordinate '{name}' of {source} does not run one way: {values[bad]:g} after "
        f"{values[bad - 1]:g}; expected ascending or descending values without duplicates (a global grid may "
        f"have its first column twice). Use fields.drop_duplicates('{name}').sortby('{name}'), or leave the "
        "last column out with isel"
    )


def _scaled(fields: xr.Dataset, metres: float, kind: Kind, names: Names, source: str) -> xr.Dataset:
    """Float64 values in degrees or metres, standard attributes, and bounds when the cells touch."""
    coords, anew = dict[str, Any](), list[str]()
    for axis in ("y", "x"):
        values = fields[axis].values.astype(np.float64) * metres
        if kind == "latlon" and axis == "y" and np.abs(values).max() > 90.0 + 1e-6:
            raise InputError(
                f"the latitudes '{names.y}' of {source} reach {values[np.abs(values).argmax()]:g}; expected "
                "-90..90. Correct the coordinate, or its attributes if it is not latitude: "
                f"fields['{names.y}'].attrs"
            )
        coords[axis] = (axis, values, _ATTRIBUTES[kind][axis])
        if f"{axis}_bounds" in fields.coords:
            bounds = np.sort(fields[f"{axis}_bounds"].values.astype(np.float64) * metres, axis=1)
            anew.append(f"{axis}_bounds")
            if np.allclose(bounds[1:, 0], bounds[:-1, 1], rtol=0, atol=1e-3 * float(np.diff(bounds).min())):
                coords[f"{axis}_bounds"] = ((axis, "bounds"), bounds)
    return fields.drop_vars(anew).assign_coords(coords)


def _plane(fields: xr.Dataset, names: Names) -> tuple[xr.Dataset, dict[str, Any]]:
    """The user's two-dimensional latitudes and longitudes as `lat` and `lon`."""
    coordinates, found = dict(names.coordinates), {}
    for key, word, units in (("lat", "latitude", "north"), ("lon", "longitude", "east")):
        for name, coordinate in fields.coords.items():
            spoken = {coordinate.attrs.get("standard_name"), coordinate.attrs.get("units"), name}
            if set(coordinate.dims) == {"y", "x"} and spoken & {word, f"degrees_{units}", key}:
                coordinates[key] = Coordinate(str(name), str(coordinate.dtype), plain(coordinate.attrs))
                found[str(name)] = key
                break
    fields = fields.rename({old: new for old, new in found.items() if old != new})
    users = {"lat": "latitude", "lon": "longitude"}
    return fields, {"coordinates": coordinates, **{users[key]: name for name, key in found.items()}}


def returned(fields: xr.Dataset, names: Names) -> xr.Dataset:
    """The user's values, units, types and directions of y and x; the inverse of `standardise`."""
    if names.curvilinear:
        return _unnumbered(fields, names)
    for axis in ("y", "x"):
        known = names.coordinates.get(axis, Coordinate(dimension=axis))
        values = fields[axis].values / names.metres
        turned = values
        if axis == "x" and names.x_lowest is not None:
            turned = longitudes.returned(values, names.x_lowest)
        if f"{axis}_bounds" in fields.coords:
            bounds = fields[f"{axis}_bounds"].values / names.metres + (turned - values)[:, None]
            bounds = bounds[:, ::-1] if known.upper_first else bounds
            fields = fields.assign_coords({f"{axis}_bounds": ((axis, "bounds"), bounds)})
        # Whole kilometres may be stored as integers, the cells of a finer grid may lie between them.
        dtype = known.dtype if known.dtype.startswith("float") or (turned % 1 == 0).all() else "float64"
        back = turned.astype(dtype or "float64")
        fields = fields.assign_coords({axis: (axis, back, attributes(known.attributes))})
    return _turned(fields.sortby("x") if names.x_ascending else fields, names)


def _unnumbered(fields: xr.Dataset, names: Names) -> xr.Dataset:
    """Rows and columns of a curvilinear grid with the user's coordinates, or without where there were none."""
    fields = _turned(fields, names)
    for axis in ("y", "x"):
        known = names.coordinates[axis]
        if known.dtype:
            values = fields[axis].values.astype(known.dtype)
            fields = fields.assign_coords({axis: (axis, values, attributes(known.attributes))})
        else:
            fields = fields.drop_vars(axis)
    return fields


def _turned(fields: xr.Dataset, names: Names) -> xr.Dataset:
    backwards = slice(None, None, -1)
    return fields.isel({axis: backwards for axis, turn in (("y", names.y_descending), ("x", names.x_westward)) if turn})
