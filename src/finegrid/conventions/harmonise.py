"""Any CF-like Dataset in the standard form that the rest of the program computes with.

Standard form: dimensions `(member,) time, y, x` (static fields `y, x`), y and x ascending float64 coordinates
in degrees or metres, longitudes without a jump, float32 values with NaN where missing, levels as variables
`ta@850`. Off latitude-longitude a scalar coordinate `crs` holds the CF grid mapping; on a curvilinear grid y and x
number rows and columns, and `lat`, `lon` (and their `_bounds`) say where they are. Names and units of variables
stay the user's. What is taken away is kept in `Names`, with which `restore` gives the user's own form back.
Everything stays lazy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import geography, levels
from finegrid.conventions.axes import (
    Axes,
    bounds_of,
    fields_of,
    find_axes,
    grid_mapping_of,
    is_time,
    undated_time,
    with_planes,
)
from finegrid.conventions.checks import check_times
from finegrid.conventions.errors import InputError, described, provenance
from finegrid.conventions.names import Coordinate, Names, Scalar, plain

_ORDER = ("member", "time", "y", "x")


def harmonise(
    fields: xr.Dataset, *, source: str = "input", static: bool = False, double: bool = False
) -> tuple[xr.Dataset, Names]:
    """Bring fields to the standard form; doing it twice changes nothing.

    Args:
        fields: any CF-like Dataset, as `open_fields` or xarray gives it.
        source: words for the file in error messages; by default where the fields were opened from.
        static: expect fields without time, such as elevation.
        double: leave float64 values as they are, and what is in no need of change uncopied.

    Returns:
        The fields in standard form, and the way back.

    Raises:
        InputError: when there is no time, no horizontal grid or no reference system, or times do not ascend.
    """
    source = provenance(fields, source)
    fields = _with_valid_time(with_planes(fields))
    fields, axes = _with_time(fields, find_axes(fields, source=source), source, static)
    mapping = grid_mapping_of(fields)
    names = _names(fields, axes, mapping)
    fields = _gridded(fields, axes, mapping, source)
    names = replace(names, **_orders(fields))
    fields, split = levels.split(fields.squeeze(_singletons(fields, axes)), _genuine(fields, axes.level))
    names = replace(names, levels=split, scalars=_scalars(fields, mapping))
    standard = _renamed(fields, names, axes)
    standard, changes = geography.standardise(standard, names, source)
    if source != "input":
        standard.encoding["source"] = source
    return _values(standard, double), replace(names, **changes)


def _with_valid_time(fields: xr.Dataset) -> xr.Dataset:
    """Make the time of validity the time of GRIB forecasts, which have start and lead time as dimensions."""
    valid = fields.coords.get("valid_time")
    if valid is None or valid.ndim == 0 or valid.dims == ("valid_time",):
        return fields
    dims = [str(dim) for dim in valid.dims]
    if len(dims) > 1:
        stacked = fields.drop_vars(dims).stack(forecast=dims, create_index=False)
        return stacked.swap_dims(forecast="valid_time")
    (dim,) = dims
    if dim in fields.coords and np.array_equal(fields[dim].values, valid.values):
        return fields
    return fields.swap_dims({dim: "valid_time"}).drop_vars(dim, errors="ignore")


def _with_time(fields: xr.Dataset, axes: Axes, source: str, static: bool) -> tuple[xr.Dataset, Axes]:
    """Check time, or make a dimension of a single date."""
    if static:
        return _without_time(fields, axes, source)
    if axes.time is None:
        dated = [name for name in ("valid_time", "time") if name in fields.coords and is_time(fields[name])]
        if not dated or fields[dated[0]].ndim:
            raise _no_time(fields, source)
        row = fields[axes.y].dims[0]
        single = {name: field.expand_dims(dated[0]) for name, field in fields.data_vars.items() if row in field.dims}
        return fields.assign(single), replace(axes, time=dated[0])
    check_times(fields[axes.time], source=source)
    return fields, axes


def _without_time(fields: xr.Dataset, axes: Axes, source: str) -> tuple[xr.Dataset, Axes]:
    if axes.time is not None and fields[axes.time].size > 1:
        raise InputError(
            f"{source} has {fields[axes.time].size} times where a static field is wanted; expected one value "
            f"per point. Choose one with fields.isel({fields[axes.time].dims[0]}=0), or average over time"
        )
    return fields, replace(axes, time=None)


def _no_time(fields: xr.Dataset, source: str) -> InputError:
    undated = undated_time(fields)
    if undated is not None and not fields[undated].size:
        return InputError(f"{source} has no time at all; expected one or more along '{undated}'. Choose another period")
    if undated is not None:
        return InputError(
            f"'{undated}' in {source} holds no dates; expected a time axis with units such as 'days since "
            f"1970-01-01'. Set fields['{undated}'].attrs['units'] and call xr.decode_cf(fields)"
        )
    return InputError(
        f"{source} has no time axis; its variables are {described(fields)}. Expected dates along one dimension: add "
        "them with fields.expand_dims(time=[...]), or pass the file as a static field (static=True)"
    )


def _names(fields: xr.Dataset, axes: Axes, mapping: str | None) -> Names:
    users = {"time": axes.time, "y": axes.y, "x": axes.x, "member": axes.member}
    coordinates = {key: _coordinate(fields, name) for key, name in users.items() if name is not None}
    bounds = [each.bounds for each in coordinates.values() if each.bounds is not None]
    plane: dict[str, Any] = {}
    if axes.plane is not None:
        coordinates |= {key: _plane(fields, name) for key, name in zip(("lat", "lon"), axes.plane, strict=True)}
        around = coordinates["lat"].bounds
        plane = {"curvilinear": True, "latitude": axes.plane[0], "longitude": axes.plane[1]}
        plane |= {"vertices_dimension": str(fields[around].dims[2])} if around is not None else {}
    return Names(
        **plane,
        time=axes.time or "time",
        y=axes.y,
        x=axes.x,
        member=axes.member or "member",
        coordinates=coordinates,
        grid_mapping=mapping,
        attached=any("grid_mapping" in field.attrs for field in fields_of(fields).values()),
        bounds_dimension=str(fields[bounds[0]].dims[1]) if bounds else "bnds",
    )


def _coordinate(fields: xr.Dataset, name: str) -> Coordinate:
    if name not in fields.coords:
        return Coordinate(dimension=name)
    coordinate = fields.variables[name]
    dated, bounds = is_time(coordinate), bounds_of(fields, name)
    stored = {
        key: str(coordinate.encoding[key]) for key in ("units", "calendar", "dtype") if key in coordinate.encoding
    }
    return Coordinate(
        dimension=str(coordinate.dims[0]),
        dtype="" if dated else str(coordinate.dtype),
        attributes=plain(coordinate.attrs),
        encoding=stored if dated else {},
        bounds=bounds,
        upper_first=bool(bounds and fields[bounds][0, 0] > fields[bounds][0, 1]),
    )


def _plane(fields: xr.Dataset, name: str) -> Coordinate:
    """Latitudes or longitudes of a curvilinear grid."""
    known = Coordinate(str(name), str(fields[name].dtype), plain(fields[name].attrs))
    return replace(known, bounds=bounds_of(fields, name))


def _gridded(fields: xr.Dataset, axes: Axes, mapping: str | None, source: str) -> xr.Dataset:
    """Only the variables over y and x, in a Dataset whose dimensions have the names of their coordinates."""
    horizontal = {str(fields[name].dims[0]) for name in (axes.y, axes.x)}
    others = [
        name
        for name, field in fields_of(fields).items()
        if not horizontal <= set(map(str, field.dims)) or field.dtype.kind not in "fiub"
    ]
    known = [name for name in (axes.time, axes.y, axes.x, axes.member, axes.level) if name is not None]
    users = [name for name in known if name in fields.coords]
    needed = {mapping, *(bounds_of(fields, name) for name in (*users, *(axes.plane or ())))}
    fields = fields.set_coords([name for name in others if name in needed])
    fields = fields.drop_vars([name for name in others if name in fields.data_vars])
    swaps = {str(fields[name].dims[0]): name for name in users if fields[name].ndim}
    fields = fields.swap_dims({dim: name for dim, name in swaps.items() if dim != name})
    for name, field in fields_of(fields).items():
        unknown = [str(dim) for dim in field.dims if dim not in known and field.sizes[dim] > 1]
        if unknown:
            raise InputError(
                f"variable '{name}' of {source} has the dimension '{unknown[0]}' of "
                f"{field.sizes[unknown[0]]} values; expected time, members, levels and a horizontal grid. "
                f"Choose one value with fields.isel({unknown[0]}=0)" + _of_quantiles(unknown[0])
            )
    return fields


def _of_quantiles(dimension: str) -> str:
    """What to say more of quantiles over members, which are no fields that could have been."""
    if dimension not in ("quantile", "quantiles"):
        return ""
    return (
        ", or take the members themselves: quantiles over an ensemble are one number a cell each, no field that could "
        "have been, and cannot be judged or downscaled together"
    )


def _singletons(fields: xr.Dataset, axes: Axes) -> list[str]:
    """Dimensions of one value that the standard form does not have. A `member` is ours: it stays."""
    kept = {axes.time, axes.y, axes.x} | ({"member"} if axes.member == "member" else set())
    used = {str(dim) for field in fields_of(fields).values() for dim in field.dims}
    return [dim for dim in used if dim not in kept and fields.sizes[dim] == 1]


def _genuine(fields: xr.Dataset, level: str | None) -> str | None:
    return level if level is not None and fields[level].size > 1 else None


def _orders(fields: xr.Dataset) -> dict[str, Any]:
    """The dimensions of the first field with most of them, and those of the fields that differ."""
    orders = {name: tuple(map(str, field.dims)) for name, field in fields_of(fields).items()}
    usual = max(orders.values(), key=len)
    return {"order": usual, "orders": {name: order for name, order in orders.items() if order != usual}}


def _scalars(fields: xr.Dataset, mapping: str | None) -> dict[str, Scalar]:
    scalars = {}
    for name, coordinate in fields.coords.items():
        if (coordinate.ndim == 0 or name == mapping) and not (coordinate.dtype == object and is_time(coordinate)):
            scalars[str(name)] = Scalar.of(coordinate)
    return scalars


def _renamed(fields: xr.Dataset, names: Names, axes: Axes) -> xr.Dataset:
    """Standard names of dimensions and bounds; coordinates that have no place in the standard form go."""
    users = {"time": axes.time, "y": axes.y, "x": axes.x, "member": axes.member}
    renaming = {str(name): key for key, name in users.items() if name in fields.dims}
    dims = set(renaming)
    if names.curvilinear:
        fields, places = _places(fields, names)
        renaming |= places
    for key in ("time", "y", "x"):
        bounds = names.coordinates[key].bounds if key in names.coordinates else None
        if bounds is not None and users[key] in dims:
            fields = fields.assign_coords({bounds: fields[bounds].rename({fields[bounds].dims[1]: "bounds"})})
            renaming[bounds] = f"{key}_bounds"
    homeless = [
        name
        for name, coordinate in fields.coords.items()
        if name not in renaming and (coordinate.ndim == 0 or not set(map(str, coordinate.dims)) <= dims)
    ]
    return fields.drop_vars(homeless).rename({old: new for old, new in renaming.items() if old != new})


def _places(fields: xr.Dataset, names: Names) -> tuple[xr.Dataset, dict[str, str]]:
    """Latitudes, longitudes and their vertices under standard names; bare dimensions get numbers."""
    for axis in (names.y, names.x):
        if axis not in fields.coords:
            fields = fields.assign_coords({axis: np.arange(fields.sizes[axis], dtype=np.float64)})
    renaming: dict[str, str] = {names.latitude: "lat", names.longitude: "lon"}
    for key in ("lat", "lon"):
        bounds = names.coordinates[key].bounds
        if bounds is not None and names.coordinates["lat"].bounds and names.coordinates["lon"].bounds:
            values = fields[bounds].rename({fields[bounds].dims[2]: "vertices"})
            fields = fields.assign_coords({bounds: values})
            renaming[bounds] = f"{key}_bounds"
    return fields, renaming


def _values(fields: xr.Dataset, double: bool) -> xr.Dataset:
    """Float32 fields in the standard order, without encodings that no longer fit."""
    standard = {}
    for name, field in fields_of(fields).items():
        dtype = np.float64 if double and field.dtype == np.float64 else np.float32
        ordered = field.transpose(*[dim for dim in _ORDER if dim in field.dims])
        standard[name] = values = ordered.astype(dtype, copy=not double)
        values.encoding = {}
        values.attrs = {key: value for key, value in field.attrs.items() if key != "grid_mapping"}
    return fields.assign(standard)
