"""Where points lie among the centres of a curvilinear grid, in fractions of rows and columns.

Four neighbouring centres a, b, c, d are the corners of a quadrilateral in which a point p has coordinates (s, t) with

    p = (1 - s)(1 - t) a + s (1 - t) b + s t c + (1 - s) t d

in the equal-area plane around the tile (see `overlap`), solved by Newton's method. Half a cell beyond the outer
centres belongs to the grid; the centres are continued straight on there, or around the globe.
"""

from __future__ import annotations

import numpy as np
import shapely

from finegrid.grids import cells, curvilinear, geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid
from finegrid.grids.tiling import cap, drawn, near, tiles

_STEPS = 8


def fractional_positions(source: Grid, target: Grid) -> tuple[Array, Array]:
    """Row and column of the target's centres in the source, (ny, nx) each; NaN outside of it."""
    nodes = curvilinear.continued(cells.middles(source).reshape(*source.shape, 3), periodic=source.periodic)
    quads = np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]], axis=2).reshape(-1, 4, 3)
    middle = geometry.normalised(quads.sum(axis=1))
    reach = 2 * np.arcsin(np.minimum(np.linalg.norm(quads - middle[:, None], axis=-1).max(axis=1) / 2, 1.0))
    points = cells.middles(target)
    rows, columns = np.full(target.size, np.nan), np.full(target.size, np.nan)
    for tile in tiles(target, middle, reach):
        mine = np.arange(target.size).reshape(target.shape)[tile].ravel()
        centre, radius = cap(points[mine], np.zeros(len(mine)))
        theirs = np.flatnonzero(near(middle, reach, centre, radius))
        plane = drawn(quads[theirs], centre)
        there = drawn(points[mine], centre)
        quad, point = shapely.STRtree(shapely.points(there)).query(shapely.polygons(plane), predicate="intersects")
        across, along = _inverted(plane[quad], there[point])
        row, column = np.divmod(theirs[quad], source.shape[1] + 1)
        rows[mine[point]], columns[mine[point]] = row - 1 + along, column - 1 + across
    outside = (rows < -0.5) | (rows > source.shape[0] - 0.5)
    if not source.periodic:
        outside |= (columns < -0.5) | (columns > source.shape[1] - 0.5)
    rows[outside] = columns[outside] = np.nan
    return rows.reshape(target.shape), columns.reshape(target.shape)


def _inverted(quads: Array, points: Array) -> tuple[Array, Array]:
    """(s, t) of points (n, 2) in quadrilaterals (n, 4, 2)."""
    a, b, c, d = (quads[:, index] for index in range(4))
    s, t = np.full(len(points), 0.5), np.full(len(points), 0.5)
    for _ in range(_STEPS):
        there = a + s[:, None] * (b - a) + t[:, None] * (d - a) + (s * t)[:, None] * (a - b + c - d)
        by_s, by_t = (b - a) + t[:, None] * (a - b + c - d), (d - a) + s[:, None] * (a - b + c - d)
        off = points - there
        determinant = by_s[:, 0] * by_t[:, 1] - by_s[:, 1] * by_t[:, 0]
        determinant = np.where(np.abs(determinant) > 1e-30, determinant, 1e-30)
        s = np.clip(s + (off[:, 0] * by_t[:, 1] - off[:, 1] * by_t[:, 0]) / determinant, -0.5, 1.5)
        t = np.clip(t + (by_s[:, 0] * off[:, 1] - by_s[:, 1] * off[:, 0]) / determinant, -0.5, 1.5)
    return s, t
