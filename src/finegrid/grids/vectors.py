"""Winds along the axes of a grid and along those of the earth.

The x axis of a rotated or projected grid does not point east. The angle t by which it is turned to the north is found
at every centre from a small step along x, as a direction on the sphere,

    east = u cos t - v sin t,      north = u sin t + v cos t
"""

from __future__ import annotations

import numpy as np

from finegrid.grids import cells, geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid

# Part of a cell that the step along x is long.
_STEP = 1e-3


def turn(grid: Grid) -> tuple[Array, Array]:
    """Cosine and sine (ny, nx) of the angle of a grid's x axis to the east, counted towards the north."""
    here = cells.middles(grid)
    there = _ahead(grid)
    longitude = np.deg2rad(grid.centres[1].ravel())
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=-1)
    north = np.cross(here, east)
    step = there - here
    angle = np.arctan2((step * north).sum(-1), (step * east).sum(-1)).reshape(grid.shape)
    return np.cos(angle), np.sin(angle)


def to_earth(u: Array, v: Array, grid: Grid) -> tuple[Array, Array]:
    """Eastward and northward wind of components along the axes of the grid they are on, (..., ny, nx)."""
    cosine, sine = turn(grid)
    return u * cosine - v * sine, u * sine + v * cosine


def to_grid(east: Array, north: Array, grid: Grid) -> tuple[Array, Array]:
    """Components along the axes of a grid of an eastward and northward wind on it, (..., ny, nx)."""
    cosine, sine = turn(grid)
    return east * cosine + north * sine, north * cosine - east * sine


def _ahead(grid: Grid) -> Array:
    """Unit vectors (ny * nx, 3) of points a small step along x from the centres."""
    if grid.vertices is not None:
        corners = geometry.unit_vectors(grid.vertices)
        right, left = corners[:-1, 1:] + corners[1:, 1:], corners[:-1, :-1] + corners[1:, :-1]
        along = (geometry.normalised(right) - geometry.normalised(left)).reshape(-1, 3)
        return geometry.normalised(cells.middles(grid) + _STEP * along)
    x, y = np.meshgrid(grid.x + _STEP * np.diff(grid.x_edges), grid.y)
    longitude, latitude = geometry.to_lonlat(grid.crs, x, y)
    return geometry.unit_vectors(np.stack([longitude, latitude], axis=-1)).reshape(-1, 3)
