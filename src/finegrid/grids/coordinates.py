"""What a grid reads from labelled coordinates and writes to them, and what its edges must obey."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.grids import curvilinear, geometry
from finegrid.grids.geometry import Array

_WHOLE_CIRCLE, _POLE = 360.0, 90.0
# Height of a row that has no room behind a pole, as a part of the last row.
_HAIR = 1e-7
_AXES = ("y", "x", "y_edges", "x_edges")
_PLANES = ("fraction", "vertices", "middles")
_NORTH = {"standard_name": "latitude", "units": "degrees_north"}
_EAST = {"standard_name": "longitude", "units": "degrees_east"}


class Cells(Protocol):
    """What this module asks of a `Grid`; see there."""

    @property
    def y(self) -> Array: ...
    @property
    def x(self) -> Array: ...
    @property
    def y_edges(self) -> Array: ...
    @property
    def x_edges(self) -> Array: ...
    @property
    def crs(self) -> str | None: ...
    @property
    def mask(self) -> NDArray[np.bool_] | None: ...
    @property
    def fraction(self) -> Array | None: ...
    @property
    def vertices(self) -> Array | None: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def centres(self) -> tuple[Array, Array]: ...
    @property
    def is_curvilinear(self) -> bool: ...
    @property
    def is_latlon(self) -> bool: ...
    @property
    def in_degrees(self) -> bool: ...


def edges_of(fields: xr.Dataset | xr.DataArray, axis: str) -> Array:
    """Edges from the bounds of a 1-D coordinate, or half-way between its values."""
    centres = np.asarray(fields[axis].values, dtype=np.float64)
    if f"{axis}_bounds" not in fields.coords:
        if len(centres) < 2:
            raise InputError(
                f"got one cell along {axis} without bounds; expected two cells, or "
                f"bounds that say how wide it is; "
                f"add them with fields.assign_coords({axis}_bounds=(('{axis}', 'bounds'), [[lower, upper]]))"
            )
        return geometry.edges_between(centres)
    bounds = np.asarray(fields.coords[f"{axis}_bounds"].values, dtype=np.float64)
    if np.abs(bounds[1:, 0] - bounds[:-1, 1]).max(initial=0) > 1e-3 * np.abs(np.diff(bounds)).min():
        raise InputError(
            f"got bounds of {axis} with gaps between cells; expected cells that touch; "
            f"drop the bounds with fields.drop_vars('{axis}_bounds') to use the midpoints of the centres"
        )
    return np.append(bounds[:, 0], bounds[-1, 1])


def curvilinear_parts(fields: xr.Dataset | xr.DataArray) -> dict[str, Any]:
    """The arguments of a curvilinear grid, from 2-D `lat` and `lon` and their vertices where there are some."""
    latitude, longitude = (np.asarray(fields.coords[name].values, dtype=np.float64) for name in ("lat", "lon"))
    if "lat_bounds" in fields.coords and "lon_bounds" in fields.coords:
        bounds = (np.asarray(fields.coords[f"{name}_bounds"].values, dtype=np.float64) for name in ("lat", "lon"))
        vertices = curvilinear.corners_of_bounds(*bounds)
    else:
        vertices = curvilinear.corners_between(latitude, longitude)
    curvilinear.check_cells(vertices)
    y, x = (np.asarray(fields[axis].values, dtype=np.float64) for axis in ("y", "x"))
    edges = {f"{axis}_edges": _numbered_edges(values) for axis, values in (("y", y), ("x", x))}
    return {"y": y, "x": x, **edges, "vertices": vertices, "middles": np.stack([longitude, latitude], axis=-1)}


def _numbered_edges(numbers: Array) -> Array:
    step = (numbers[-1] - numbers[0]) / (len(numbers) - 1) if len(numbers) > 1 else 1.0
    return np.append(numbers - step / 2, numbers[-1] + step / 2)


def closes(x_edges: Array) -> bool:
    """Whether longitudes go around the globe."""
    width = float(np.diff(x_edges).min())
    return bool(abs(x_edges[-1] - x_edges[0] - _WHOLE_CIRCLE) < 0.05 * width)


def same_edges(fine: Array, coarse: Array, factor: int) -> bool:
    """Whether every `factor`-th fine edge is a coarse one."""
    # Midpoints of float32 coordinates are off by up to two units in the last place, on either side.
    rounding = 4 * float(np.finfo(np.float32).eps) * float(np.abs(fine).max())
    tolerance = min(1e-6 * float(np.diff(fine).min()) + rounding, 0.05 * float(np.diff(fine).min()))
    return bool(np.all(np.abs(fine[::factor] - coarse) <= tolerance))


def check(grid: Cells) -> None:
    """Centres and edges ascend and fit together; masks and fractions have one value per cell.

    Raises:
        InputError: names the axis.
    """
    for axis in ("y", "x"):
        centres, edges = getattr(grid, axis), getattr(grid, f"{axis}_edges")
        ascending = centres.ndim == 1 and bool((np.diff(centres) > 0).all())
        fits = edges.shape == (len(centres) + 1,) and bool((np.diff(edges) > 0).all())
        if not (len(centres) and ascending and fits):
            raise InputError(
                f"got {axis} = {centres} with edges {edges}; expected both to ascend, with one edge more "
                "than centres; call finegrid.conventions.harmonise(fields) first, "
                "and check the bounds of the file"
            )
    for name in ("mask", "fraction"):
        cells = getattr(grid, name)
        if cells is not None and cells.shape != grid.shape:
            raise InputError(f"got a {name} of shape {cells.shape}; expected {grid.shape}, one value per cell")
    if grid.fraction is not None and not bool(((grid.fraction >= 0) & (grid.fraction <= 1)).all()):
        raise InputError(
            f"got fractions from {grid.fraction.min():g} to {grid.fraction.max():g}; expected 0..1, none missing; "
            "divide percentages by 100, and fill missing ones with 0"
        )


def extended(grid: Cells, rows: int, columns: int) -> dict[str, Any] | None:
    """The arguments of a grid with masked cells behind its last rows and columns, as large as these.

    None where columns would go around the globe a second time.
    """
    y, x = _longer(grid.y, rows), _longer(grid.x, columns)
    edges = {"y_edges": _longer(grid.y_edges, rows), "x_edges": _longer(grid.x_edges, columns)}
    if grid.in_degrees and edges["x_edges"][-1] - edges["x_edges"][0] > _WHOLE_CIRCLE + 1e-6:
        return None
    if grid.in_degrees and edges["y_edges"][-1] > _POLE:
        y, edges["y_edges"] = _split_last(grid.y, grid.y_edges, rows)
    mask = np.zeros((len(y), len(x)), dtype=bool)
    mask[: grid.shape[0], : grid.shape[1]] = True if grid.mask is None else grid.mask
    found: dict[str, Any] = {"y": y, "x": x, **edges, "crs": grid.crs, "mask": mask}
    if grid.fraction is not None:
        found["fraction"] = np.pad(grid.fraction, ((0, rows), (0, columns)))
    if grid.vertices is not None:
        latitude, longitude = grid.centres
        found["vertices"] = curvilinear.extended(grid.vertices, rows, columns)
        found["middles"] = curvilinear.extended(np.stack([longitude, latitude], axis=-1), rows, columns)
    return found


def _split_last(y: Array, edges: Array, count: int) -> tuple[Array, Array]:
    """Rows that have no room behind a pole take a hair of the last one."""
    cuts = edges[-1] - _HAIR * (edges[-1] - edges[-2]) * np.arange(count, -1, -1)
    return np.concatenate([y[:-1], [min(y[-1], cuts[0])], (cuts[1:] + cuts[:-1]) / 2]), np.append(edges[:-1], cuts)


def _longer(values: Array, count: int) -> Array:
    step = values[-1] - values[-2] if len(values) > 1 else 1.0
    return np.concatenate([values, values[-1] + step * np.arange(1, count + 1)])


def labelled(grid: Cells) -> dict[str, xr.DataArray]:
    """Coordinates for a Dataset."""
    attributes = _axis_attributes(grid)
    coords = {axis: xr.DataArray(getattr(grid, axis).copy(), dims=axis, attrs=attributes[axis]) for axis in ("y", "x")}
    if not grid.is_curvilinear:
        for axis in ("y", "x"):
            edges = getattr(grid, f"{axis}_edges")
            coords[f"{axis}_bounds"] = xr.DataArray(np.stack([edges[:-1], edges[1:]], axis=1), dims=(axis, "bounds"))
    if grid.is_latlon:
        return coords
    latitude, longitude = grid.centres
    coords["lat"] = xr.DataArray(latitude.copy(), dims=("y", "x"), attrs=_NORTH)
    coords["lon"] = xr.DataArray(longitude.copy(), dims=("y", "x"), attrs=_EAST)
    if grid.vertices is not None:
        around = grid.vertices
        cells = np.stack([around[:-1, :-1], around[:-1, 1:], around[1:, 1:], around[1:, :-1]], axis=2)
        # Beside their centre, not a whole circle away.
        cells[..., 0] += 360.0 * np.round((longitude[..., None] - cells[..., 0]) / 360.0)
        for index, name in enumerate(("lon", "lat")):
            coords[f"{name}_bounds"] = xr.DataArray(cells[..., index].copy(), dims=("y", "x", "vertices"))
    elif grid.crs is not None:
        coords["crs"] = xr.DataArray(np.int32(0), attrs=dict(geometry.grid_mapping(grid.crs)))
    return coords


def plain(grid: Cells) -> dict[str, Any]:
    """Plain values for JSON; what most grids do not have is left out."""
    values: dict[str, Any] = {name: getattr(grid, name).tolist() for name in _AXES}
    bits = None if grid.mask is None else _text(np.packbits(grid.mask))
    planes = {name: _text(getattr(grid, name)) for name in _PLANES if getattr(grid, name) is not None}
    return {**values, "crs": grid.crs, "mask": bits, **planes}


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the grid that `plain` described."""
    ny, nx = len(values["y"]), len(values["x"])
    mask = None
    if values["mask"] is not None:
        bits = np.frombuffer(base64.b64decode(values["mask"]), dtype=np.uint8)
        mask = np.unpackbits(bits, count=ny * nx).reshape(ny, nx).astype(bool)
    shapes = {"fraction": (ny, nx), "vertices": (ny + 1, nx + 1, 2), "middles": (ny, nx, 2)}
    planes = {
        name: np.frombuffer(base64.b64decode(values[name]), dtype=np.float64).reshape(shape)
        for name, shape in shapes.items()
        if values.get(name) is not None
    }
    return {**{name: values[name] for name in _AXES}, "crs": values["crs"], "mask": mask, **planes}


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _axis_attributes(grid: Cells) -> dict[str, dict[str, str]]:
    if grid.is_curvilinear:
        y, x = {"long_name": "row", "units": "1"}, {"long_name": "column", "units": "1"}
    elif grid.is_latlon:
        y, x = _NORTH, _EAST
    elif grid.in_degrees:
        y = {"standard_name": "grid_latitude", "units": "degrees"}
        x = {"standard_name": "grid_longitude", "units": "degrees"}
    else:
        y = {"standard_name": "projection_y_coordinate", "units": "m"}
        x = {"standard_name": "projection_x_coordinate", "units": "m"}
    return {"y": {**y, "axis": "Y"}, "x": {**x, "axis": "X"}}
