"""Where the values of a field lie: cell centres, edges, areas, reference system; one immutable value.

A grid is logically rectangular: `ny` rows by `nx` columns of cells. Either the centres are given by two ascending
1-D coordinates in some reference system (latitude-longitude, rotated pole, or a projection), or the grid is
curvilinear: then y and x are numbers of rows and columns, and `vertices` and `middles` say where the cells lie.
Whatever uses a grid asks it for `shape`, `size`, `area`, `weights`, `corners`, `centres`, `coarsened`, `cropped` and
`digest`, and only after `aligned` for its coordinates. Grids are hashable and equal when coordinates, edges, reference
system, mask and fractions are the same to the last bit; `nesting(a, b) == (1, 1)` asks whether they are the same
within rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.grids import coordinates, curvilinear, geometry
from finegrid.grids.geometry import Array

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells between edges.

    Attributes:
        y: centres of the rows (ny,), ascending, in degrees or metres; numbers of the rows of a curvilinear grid.
        x: centres of the columns (nx,), likewise.
        y_edges: edges of the rows (ny + 1,).
        x_edges: edges of the columns (nx + 1,).
        crs: reference system as WKT; None is latitude-longitude on the sphere.
        mask: True where a cell can hold a value (ny, nx); None is everywhere.
        fraction: part of each cell that counts (ny, nx), 0..1, such as its land; None is all of it.
        vertices: longitude and latitude of the corners of a curvilinear grid (ny + 1, nx + 1, 2) in degrees.
        middles: longitude and latitude of its centres (ny, nx, 2).
    """

    y: Array
    x: Array
    y_edges: Array
    x_edges: Array
    crs: str | None = None
    mask: Mask | None = None
    fraction: Array | None = None
    vertices: Array | None = None
    middles: Array | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "crs" and value is not None:
                object.__setattr__(self, each.name, _frozen(value, np.bool_ if each.name == "mask" else np.float64))
        coordinates.check(self)

    @classmethod
    def of(cls, fields: xr.Dataset | xr.DataArray) -> Self:
        """The grid of harmonised fields, from their coordinates y and x, bounds, `crs`, or 2-D `lat` and `lon`.

        Without bounds the edges lie half-way between centres, latitudes never beyond the poles.

        Raises:
            InputError: when cells cannot be inferred, overlap, or cross themselves.
        """
        if "crs" not in fields.coords and "lat" in fields.coords and fields.coords["lat"].ndim == 2:
            return cls(**coordinates.curvilinear_parts(fields))
        crs = geometry.crs_of(fields.coords["crs"].attrs) if "crs" in fields.coords else None
        x_edges = coordinates.edges_of(fields, "x")
        y_edges = coordinates.edges_of(fields, "y")
        if geometry.in_degrees(crs) and "y_bounds" not in fields.coords:
            y_edges = geometry.clip_to_poles(y_edges, closed=coordinates.closes(x_edges))
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
    def is_curvilinear(self) -> bool:
        """Whether y and x only number the rows and columns."""
        return self.vertices is not None

    @property
    def is_latlon(self) -> bool:
        """Whether y and x are latitude and longitude."""
        return self.crs is None and not self.is_curvilinear

    @property
    def in_degrees(self) -> bool:
        """Whether y and x are angles: latitude and longitude, plain or about a rotated pole."""
        return not self.is_curvilinear and geometry.in_degrees(self.crs)

    @property
    def periodic(self) -> bool:
        """Whether the last column touches the first one, around the globe."""
        if self.vertices is None:
            return self.in_degrees and coordinates.closes(self.x_edges)
        return curvilinear.closes(self.vertices)

    def aligned(self, other: Grid) -> bool:
        """Whether y and x mean the same on both grids: one reference system, and neither curvilinear."""
        return not (self.is_curvilinear or other.is_curvilinear) and geometry.same_crs(self.crs, other.crs)

    @cached_property
    def area(self) -> Array:
        """Area of each cell (ny, nx) in m2 on a sphere of 6371 km."""
        if self.in_degrees:
            return _frozen(geometry.latlon_areas(self.y_edges, self.x_edges))
        return _frozen(geometry.polygon_areas(self.corners))

    @cached_property
    def weights(self) -> Array:
        """The area of each cell that counts (ny, nx) in m2: without masked cells, times the fraction."""
        counted = self.area if self.fraction is None else self.area * self.fraction
        return _frozen(counted if self.mask is None else counted * self.mask)

    @cached_property
    def corners(self) -> Array:
        """Longitude and latitude in degrees of the cell corners (ny + 1, nx + 1, 2)."""
        if self.vertices is not None:
            return self.vertices
        x, y = np.meshgrid(self.x_edges, self.y_edges)
        return _frozen(np.stack(geometry.to_lonlat(self.crs, x, y), axis=-1))

    @cached_property
    def centres(self) -> tuple[Array, Array]:
        """Latitude and longitude in degrees of the cell centres, each (ny, nx)."""
        if self.middles is not None:
            return self.middles[..., 1], self.middles[..., 0]
        x, y = np.meshgrid(self.x, self.y)
        longitude, latitude = geometry.to_lonlat(self.crs, x, y)
        return _frozen(latitude), _frozen(longitude)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that defines the grid."""
        parts = [self.y, self.x, self.y_edges, self.x_edges]
        content = b"|".join(part.tobytes() for part in parts) + (self.crs or "").encode()
        mask = b"" if self.mask is None else b"mask" + np.packbits(self.mask).tobytes()
        rest = [b"more" + part.tobytes() for part in (self.fraction, self.vertices, self.middles) if part is not None]
        return hashlib.sha256(content + mask + b"".join(rest)).hexdigest()

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
        mask, vertices, middles = None, None, None
        if self.mask is not None:
            mask = np.asarray(self.mask.reshape(len(y), rows, len(x), columns).any(axis=(1, 3)))
        if self.vertices is not None:
            vertices = self.vertices[::rows, ::columns]
            middles = np.stack(curvilinear.block_centres(*self.centres, rows, columns)[::-1], axis=-1)
        edges = self.y_edges[::rows], self.x_edges[::columns]
        return Grid(y, x, *edges, self.crs, mask, vertices=vertices, middles=middles)

    def cropped(self, y: slice, x: slice) -> Grid:
        """The part of the grid in these rows and columns (slices of step one)."""
        rows, columns = range(self.shape[0])[y], range(self.shape[1])[x]
        if not rows or not columns or rows.step != 1 or columns.step != 1:
            raise InputError(f"got {y} and {x} to crop {self.shape} cells; expected slices of step 1 that keep a cell")
        around = (slice(rows.start, rows.stop + 1), slice(columns.start, columns.stop + 1))
        cells = {name: getattr(self, name) for name in ("mask", "fraction", "middles")}
        parts: dict[str, Any] = {name: None if each is None else each[y, x] for name, each in cells.items()}
        vertices = None if self.vertices is None else self.vertices[around]
        edges = self.y_edges[around[0]], self.x_edges[around[1]]
        return Grid(self.y[y], self.x[x], *edges, self.crs, vertices=vertices, **parts)

    def extended(self, rows: int, columns: int) -> Grid | None:
        """The grid with masked rows and columns behind the last ones; None where columns would go around twice."""
        parts = coordinates.extended(self, rows, columns)
        return None if parts is None else Grid(**parts)

    def masked(self, mask: Mask | None) -> Grid:
        """The same cells with another mask: True where a cell can hold a value."""
        return replace(self, mask=mask)

    def weighted(self, fraction: Array | None) -> Grid:
        """The same cells, of which only a part counts: their fraction of land, say (0..1)."""
        return replace(self, fraction=fraction)

    def coords(self) -> dict[str, xr.DataArray]:
        """Coordinates for a Dataset: y, x, their bounds; off latitude-longitude also lat, lon and crs or vertices."""
        return coordinates.labelled(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` gives the same grid to the last bit."""
        return coordinates.plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The grid that `to_dict` described."""
        return cls(**coordinates.read(values))


def nesting(fine: Grid, coarse: Grid) -> tuple[int, int] | None:
    """Rows and columns of fine cells in every coarse cell; None unless whole blocks fill the same domain.

    Edges may differ by a millionth of a fine cell, or by the rounding of coordinates kept as float32.
    """
    rows, rows_left = divmod(fine.shape[0], coarse.shape[0])
    columns, columns_left = divmod(fine.shape[1], coarse.shape[1])
    if rows_left or columns_left or not (rows and columns):
        return None
    if fine.vertices is not None and coarse.vertices is not None:
        same = curvilinear.same_corners(fine.vertices[::rows, ::columns], coarse.vertices, fine.area)
    else:
        same = fine.aligned(coarse) and all(
            coordinates.same_edges(getattr(fine, name), getattr(coarse, name), factor)
            for name, factor in (("y_edges", rows), ("x_edges", columns))
        )
    return (rows, columns) if same else None


def _frozen(values: Any, dtype: type = np.float64) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
