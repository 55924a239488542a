"""Cells as polygons on the sphere: vertices along their sides, as many as the sides need to look straight.

Sides follow the grid's own coordinates: meridians and parallels (plain or rotated), straight lines of a projection,
great circles of a curvilinear grid. Between two vertices a side is straight in whatever plane it is drawn in, so a
side that bends is divided until its middle is off by less than a part `_BEND` of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.grids import geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid

_BEND = 5e-4
_MOST_PARTS = 16
# Rows and columns in which the bend of sides is measured; it varies slowly over a grid.
_MEASURED = 64
# Angular radius of a cell, in radians, beyond which it is no small polygon on the sphere any more.
_WIDEST = 1.0


def rings(grid: Grid, cells: NDArray[np.intp], parts: int) -> Array:
    """Unit vectors (n, 4 * parts, 3) around cells given by their flat indices; sides in `parts` pieces."""
    rows, columns = np.divmod(cells, grid.shape[1])
    top, left = int(rows.min()), int(columns.min())
    block = slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1)
    along, across = _sides(grid, block, parts)
    j, i, step = (rows - top)[:, None], (columns - left)[:, None], np.arange(parts)
    return np.concatenate(
        [
            along[j, i * parts + step],
            across[j * parts + step, i + 1],
            along[j + 1, (i + 1) * parts - step],
            across[(j + 1) * parts - step, i],
        ],
        axis=1,
    )


def pieces(grid: Grid) -> int:
    """Into how many pieces the sides of cells have to be divided.

    Raises:
        InputError: when a cell is too wide to be a polygon.
    """
    widest = float(radii(grid).max())
    if widest > _WIDEST:
        raise InputError(
            f"got cells of {np.rad2deg(2 * widest):.0f} degrees across; expected cells smaller than "
            f"{np.rad2deg(2 * _WIDEST):.0f} degrees to remap between reference systems; divide them, or bring both "
            "fields onto one reference system first"
        )
    if grid.is_curvilinear:
        return 1
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, _MEASURED)).astype(int)) for n in grid.shape)
    lower = np.meshgrid(grid.x_edges[columns], grid.y_edges[rows])
    right = np.meshgrid(grid.x_edges[columns + 1], grid.y_edges[rows])
    upper = np.meshgrid(grid.x_edges[columns], grid.y_edges[rows + 1])
    size = np.sqrt(grid.area[np.ix_(rows, columns)]) / geometry.EARTH_RADIUS
    bend = max(_bend(grid, lower, right, size), _bend(grid, lower, upper, size))
    return int(np.clip(np.ceil(np.sqrt(bend / _BEND)), 1, _MOST_PARTS))


def middles(grid: Grid) -> Array:
    """Unit vectors (ny * nx, 3) of the cell centres."""
    latitude, longitude = grid.centres
    return geometry.unit_vectors(np.stack([longitude, latitude], axis=-1)).reshape(-1, 3)


def radii(grid: Grid) -> Array:
    """Angle in radians (ny * nx,) from the centre of each cell to its farthest corner."""
    points, centre = geometry.unit_vectors(grid.corners), middles(grid).reshape(*grid.shape, 3)
    corners = (points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1])
    farthest = np.maximum.reduce([np.linalg.norm(each - centre, axis=-1) for each in corners])
    return np.asarray(2 * np.arcsin(np.minimum(farthest / 2, 1.0))).ravel()


def _sides(grid: Grid, block: tuple[slice, slice], parts: int) -> tuple[Array, Array]:
    """Points between rows (ny + 1, nx * parts + 1, 3) and between columns (ny * parts + 1, nx + 1, 3) of a block."""
    rows, columns = (slice(each.start, each.stop + 1) for each in block)
    if grid.vertices is not None:
        corners = geometry.unit_vectors(grid.vertices[rows, columns])
        return _divided(corners, parts, axis=1), _divided(corners, parts, axis=0)
    y, x = grid.y_edges[rows], grid.x_edges[columns]
    return _points(grid, y, _divided(x, parts, axis=0)), _points(grid, _divided(y, parts, axis=0), x)


def _points(grid: Grid, y: Array, x: Array) -> Array:
    longitude, latitude = geometry.to_lonlat(grid.crs, *np.meshgrid(x, y))
    return geometry.unit_vectors(np.stack([longitude, latitude], axis=-1))


def _divided(values: Array, parts: int, axis: int) -> Array:
    """Values with `parts - 1` more between each two along an axis."""
    if parts == 1:
        return values
    moved = np.moveaxis(values, axis, 0)
    share = (np.arange(parts) / parts).reshape(-1, *(1,) * (moved.ndim - 1))
    inner = moved[:-1, None] + (moved[1:, None] - moved[:-1, None]) * share
    whole = np.concatenate([inner.reshape(-1, *moved.shape[1:]), moved[-1:]])
    whole = geometry.normalised(whole) if values.ndim == 3 else whole
    return np.moveaxis(whole, 0, axis)


def _bend(grid: Grid, start: Sequence[Array], end: Sequence[Array], size: Array) -> float:
    """Largest distance between the middle of a side and that of its chord, as a part of the cell."""
    ends = [geometry.unit_vectors(np.stack(geometry.to_lonlat(grid.crs, *each), axis=-1)) for each in (start, end)]
    between = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
    middle = geometry.unit_vectors(np.stack(geometry.to_lonlat(grid.crs, *between), axis=-1))
    return float((np.linalg.norm(middle - geometry.normalised(ends[0] + ends[1]), axis=-1) / size).max())
