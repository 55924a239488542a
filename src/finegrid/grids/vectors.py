"""Winds along the axes of a grid and along those of the earth.

The x axis of a rotated or projected grid does not point east. The angle t by which it is turned to the north is found
at every centre from a small step along x, half of it to either side, as a direction on the sphere,

    east = u cos t - v sin t,      north = u sin t + v cos t
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from finegrid.grids import cells, geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid

# Part of a cell by which the step along x goes to either side.
_STEP = 1e-3


# Fields are turned block by block: two grids, that they come from and that they go to.
@lru_cache(maxsize=2)
def turn(grid: Grid) -> tuple[Array, Array]:
    """Cosine and sine (ny, nx) of the angle of a grid's x axis to the east, counted towards the north."""
    here, step = cells.middles(grid), _step_along(grid)
    longitude = np.deg2rad(grid.centres[1].ravel())
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=-1)
    north = np.cross(here, east)
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


def _step_along(grid: Grid) -> Array:
    """Small steps (ny * nx, 3) along x over the centres, in any length."""
    if grid.vertices is not None:
        corners = geometry.unit_vectors(grid.vertices)
        right, left = corners[:-1, 1:] + corners[1:, 1:], corners[:-1, :-1] + corners[1:, :-1]
        return (geometry.normalised(right) - geometry.normalised(left)).reshape(-1, 3)
    half = _STEP * np.diff(grid.x_edges)
    before, after = (_points(grid, grid.x + side) for side in (-half, half))
    return after - before


def _points(grid: Grid, x: Array) -> Array:
    """Unit vectors (ny * nx, 3) of the rows of a grid at other places along x."""
    longitude, latitude = geometry.to_lonlat(grid.crs, *np.meshgrid(x, grid.y))
    return geometry.unit_vectors(np.stack([longitude, latitude], axis=-1)).reshape(-1, 3)
