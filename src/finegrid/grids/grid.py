"""Where the values of a field lie: cell centres, edges, areas, reference system; one immutable value.

A grid is logically rectangular: `ny` rows by `nx` columns of cells whose centres are given by two ascending
1-D coordinates in some reference system (latitude-longitude, rotated pole, or a projection). Whatever uses a
grid asks it only for `shape`, `size`, `area`, `corners`, `centres`, `coarsened`, `cropped` and `digest`, none
of which needs the coordinates to be 1-D. Grids are hashable and equal when coordinates, edges, reference
system and mask are the same to the last bit; `nesting(a, b) == (1, 1)` asks whether they are the same within
rounding.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.grids import geometry
from finegrid.grids.geometry import Array

_WHOLE_CIRCLE = 360.0


def _frozen(values: Any, dtype: type = np.float64) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells between edges.

    Attributes:
        y: centres of the rows (ny,), ascending, in degrees or metres.
        x: centres of the columns (nx,), ascending, in degrees or metres.
        y_edges: edges of the rows (ny + 1,).
        x_edges: edges of the columns (nx + 1,).
        crs: reference system as WKT; None is latitude-longitude on the sphere.
        mask: True where a cell can hold a value (ny, nx); None is everywhere.
    """

    y: Array
    x: Array
    y_edges: Array
    x_edges: Array
    crs: str | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for name in ("y", "x", "y_edges", "x_edges"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        if self.mask is not None:
            object.__setattr__(self, "mask", _frozen(self.mask, np.bool_))
        _check(self)

    @classmethod
    def of(cls, fields: xr.Dataset | xr.DataArray) -> Self:
        """The grid of harmonised fields, from their coordinates y and x, bounds and `crs`.

        Without bounds the edges lie half-way between centres, latitudes never beyond the poles.
        """
        crs = geometry.crs_of(fields.coords["crs"].attrs) if "crs" in fields.coords else None
        x_edges = _edges_of(fields, "x")
        y_edges = _edges_of(fields, "y")
        if geometry.in_degrees(crs) and "y_bounds" not in fields.coords:
            y_edges = geometry.clip_to_poles(y_edges, closed=_closes(x_edges))
        return cls(fields["y"].values, fields["x"].values, y_edges, x_edges, crs)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.y), len(self.x)

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.y) * len(self.x)

    @property
    def is_latlon(self) -> bool:
        """Whether y and x are latitude and longitude."""
        return self.crs is None

    @property
    def in_degrees(self) -> bool:
        """Whether y and x are angles: latitude and longitude, plain or about a rotated pole."""
        return geometry.in_degrees(self.crs)

    @property
    def periodic(self) -> bool:
        """Whether the last column touches the first one, around the globe."""
        return self.in_degrees and _closes(self.x_edges)

    @cached_property
    def area(self) -> Array:
        """Area of each cell (ny, nx) in m2 on a sphere of 6371 km."""
        if self.in_degrees:
            return _frozen(geometry.latlon_areas(self.y_edges, self.x_edges))
        return _frozen(geometry.polygon_areas(self.corners))

    @cached_property
    def corners(self) -> Array:
        """Longitude and latitude in degrees of the cell corners (ny + 1, nx + 1, 2)."""
        x, y = np.meshgrid(self.x_edges, self.y_edges)
        return _frozen(np.stack(geometry.to_lonlat(self.crs, x, y), axis=-1))

    @cached_property
    def centres(self) -> tuple[Array, Array]:
        """Latitude and longitude in degrees of the cell centres, each (ny, nx)."""
        x, y = np.meshgrid(self.x, self.y)
        longitude, latitude = geometry.to_lonlat(self.crs, x, y)
        return _frozen(latitude), _frozen(longitude)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that defines the grid."""
        parts = [self.y, self.x, self.y_edges, self.x_edges]
        content = b"|".join(part.tobytes() for part in parts) + (self.crs or "").encode()
        mask = b"" if self.mask is None else b"mask" + np.packbits(self.mask).tobytes()
        return hashlib.sha256(content + mask).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def coarsened(self, factor: int | tuple[int, int]) -> Grid:
        """The grid whose cells are blocks of `factor` (rows, columns) cells; valid where any of them is.

        Centres are the means of the centres, so that an evenly spaced grid stays so next to half cells at the
        poles.

        Raises:
            InputError: when the blocks do not fill the grid.
        """
        rows, columns = factors = (factor, factor) if isinstance(factor, int) else factor
        if min(factors) < 1 or self.shape[0] % rows or self.shape[1] % columns:
            raise InputError(
                f"got a grid of {self.shape[0]} x {self.shape[1]} cells to coarsen by {rows} x {columns}; "
                "expected factors that divide the numbers of rows and columns; choose another factor, or "
                'drop the rows and columns that are left over with boundary="trim" (or Grid.cropped)'
            )
        y, x = self.y.reshape(-1, rows).mean(axis=1), self.x.reshape(-1, columns).mean(axis=1)
        mask = None
        if self.mask is not None:
            mask = np.asarray(self.mask.reshape(len(y), rows, len(x), columns).any(axis=(1, 3)))
        return Grid(y, x, self.y_edges[::rows], self.x_edges[::columns], self.crs, mask)

    def cropped(self, y: slice, x: slice) -> Grid:
        """The part of the grid in these rows and columns (slices of step one)."""
        rows, columns = range(self.shape[0])[y], range(self.shape[1])[x]
        if not rows or not columns or rows.step != 1 or columns.step != 1:
            raise InputError(f"got {y} and {x} to crop {self.shape} cells; expected slices of step 1 that keep a cell")
        mask = None if self.mask is None else np.asarray(self.mask[y, x])
        y_edges = self.y_edges[rows.start : rows.stop + 1]
        x_edges = self.x_edges[columns.start : columns.stop + 1]
        return Grid(self.y[y], self.x[x], y_edges, x_edges, self.crs, mask)

    def masked(self, mask: NDArray[np.bool_] | None) -> Grid:
        """The same cells with another mask: True where a cell can hold a value."""
        return replace(self, mask=mask)

    def coords(self) -> dict[str, xr.DataArray]:
        """Coordinates for a Dataset: y, x, their bounds and, unless latitude-longitude, crs, lat and lon."""
        attributes = _axis_attributes(self.in_degrees, self.is_latlon)
        coords = {}
        for name, centres, edges in (("y", self.y, self.y_edges), ("x", self.x, self.x_edges)):
            bounds = np.stack([edges[:-1], edges[1:]], axis=1)
            coords[name] = xr.DataArray(centres.copy(), dims=name, attrs=attributes[name])
            coords[f"{name}_bounds"] = xr.DataArray(bounds, dims=(name, "bounds"))
        if self.crs is None:
            return coords
        latitude, longitude = self.centres
        north = {"standard_name": "latitude", "units": "degrees_north"}
        east = {"standard_name": "longitude", "units": "degrees_east"}
        coords["crs"] = xr.DataArray(np.int32(0), attrs=dict(geometry.grid_mapping(self.crs)))
        coords["lat"] = xr.DataArray(latitude.copy(), dims=("y", "x"), attrs=north)
        coords["lon"] = xr.DataArray(longitude.copy(), dims=("y", "x"), attrs=east)
        return coords

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` gives the same grid to the last bit."""
        values: dict[str, Any] = {name: getattr(self, name).tolist() for name in ("y", "x", "y_edges", "x_edges")}
        bits = None if self.mask is None else base64.b64encode(np.packbits(self.mask).tobytes()).decode()
        return {**values, "crs": self.crs, "mask": bits}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The grid that `to_dict` described."""
        mask = None
        if values["mask"] is not None:
            shape = len(values["y"]), len(values["x"])
            bits = np.frombuffer(base64.b64decode(values["mask"]), dtype=np.uint8)
            mask = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
        return cls(values["y"], values["x"], values["y_edges"], values["x_edges"], values["crs"], mask)


def nesting(fine: Grid, coarse: Grid) -> tuple[int, int] | None:
    """Rows and columns of fine cells in every coarse cell; None unless whole blocks fill the same domain.

    Edges may differ by a millionth of a fine cell, or by the rounding of coordinates kept as float32.
    """
    if not geometry.same_crs(fine.crs, coarse.crs):
        return None
    rows, rows_left = divmod(fine.shape[0], coarse.shape[0])
    columns, columns_left = divmod(fine.shape[1], coarse.shape[1])
    if rows_left or columns_left or not (rows and columns):
        return None
    same = _same_edges(fine.y_edges, coarse.y_edges, rows) and _same_edges(fine.x_edges, coarse.x_edges, columns)
    return (rows, columns) if same else None


def _same_edges(fine: Array, coarse: Array, factor: int) -> bool:
    # Midpoints of float32 coordinates are off by up to two units in the last place, on either side.
    rounding = 4 * float(np.finfo(np.float32).eps) * float(np.abs(fine).max())
    tolerance = min(1e-6 * float(np.diff(fine).min()) + rounding, 0.05 * float(np.diff(fine).min()))
    return bool(np.all(np.abs(fine[::factor] - coarse) <= tolerance))


def _closes(x_edges: Array) -> bool:
    width = float(np.diff(x_edges).min())
    return bool(abs(x_edges[-1] - x_edges[0] - _WHOLE_CIRCLE) < 0.05 * width)


def _edges_of(fields: xr.Dataset | xr.DataArray, axis: str) -> Array:
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


def _check(grid: Grid) -> None:
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
    if grid.mask is not None and grid.mask.shape != grid.shape:
        raise InputError(f"got a mask of shape {grid.mask.shape}; expected {grid.shape}, one value per cell")


def _axis_attributes(in_degrees: bool, is_latlon: bool) -> dict[str, dict[str, str]]:
    if is_latlon:
        y = {"standard_name": "latitude", "units": "degrees_north"}
        x = {"standard_name": "longitude", "units": "degrees_east"}
    elif in_degrees:
        y = {"standard_name": "grid_latitude", "units": "degrees"}
        x = {"standard_name": "grid_longitude", "units": "degrees"}
    else:
        y = {"standard_name": "projection_y_coordinate", "units": "m"}
        x = {"standard_name": "projection_x_coordinate", "units": "m"}
    return {"y": {**y, "axis": "Y"}, "x": {**x, "axis": "X"}}
