"""Areas that the cells of any two grids share, as polygons in an equal-area plane.

Tile by tile of the target (see `tiling`), source cells near it are found; memory holds one tile a thread. Each target
cell and the source cells that it meets are drawn as polygons in the plane around its middle, where shapely intersects
them, so that a weight depends on the two cells alone. A share enters as a part of the source cell times its area on the
sphere, so that integrals over the source are kept to rounding (Jones 1999,
doi:10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import sparse

from finegrid.grids import cells, geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid
from finegrid.grids.tiling import Tile, cap, drawn, near, tiles

Index = NDArray[np.intp]
Progress = Callable[[int, int], None]

# Shared areas below this part of a cell are rounding of the edges.
_SLIVER = 1e-9
# A source cell whose parts add up to this near to one is covered; the rest is the bend of sides between tiles. Under a
# target that is the whole sphere, all are.
_COVERED, _SPHERE = 5e-3, 0.9999 * 4 * np.pi * geometry.EARTH_RADIUS**2


def overlaps(source: Grid, target: Grid, *, progress: Progress = lambda done, total: None) -> sparse.csr_array:
    """Area in m2 that each target cell (row) shares with each source cell (column); nothing where they do not meet.

    Args:
        source: any grid.
        target: any grid.
        progress: called with the target cells done and those in all.
    """
    parts = {"source": cells.pieces(source), "target": cells.pieces(target)}
    middles, radii = cells.middles(source), cells.radii(source)
    found: list[tuple[Index, Index, Array]] = []
    done, every = 0, list(tiles(target, middles, radii))
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        shares = pool.map(lambda tile: _shares(source, target, tile, middles, radii, parts), every)
        for tile, share in zip(every, shares, strict=True):
            found.append(share)
            done += (tile[0].stop - tile[0].start) * (tile[1].stop - tile[1].start)
            progress(done, target.size)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the tiles that are left
    rows, columns, part = (np.concatenate([each[index] for each in found]) for index in range(3))
    matrix = sparse.csr_array((part, (rows, columns)), shape=(target.size, source.size))
    return _times_area(matrix, source, everywhere=bool(target.area.sum() > _SPHERE))


def _times_area(parts: sparse.csr_array, source: Grid, *, everywhere: bool) -> sparse.csr_array:
    """Parts of source cells as areas; those of covered cells add up to the whole cell."""
    total = np.asarray(parts.sum(axis=0))
    whole = (total > 0) & (everywhere | (np.abs(total - 1) < _COVERED))
    return sparse.csr_array(parts * (source.area.ravel() / np.where(whole, total, 1.0))[None, :])


def _shares(
    source: Grid, target: Grid, tile: Tile, middles: Array, radii: Array, parts: dict[str, int]
) -> tuple[Index, Index, Array]:
    """Target cells, source cells, and the part of the source cell that they share."""
    rows, columns = (np.arange(each.start, each.stop) for each in tile)
    mine = (rows[:, None] * target.shape[1] + columns).ravel()
    ring = cells.rings(target, mine, parts["target"])
    centre, radius = cap(ring, np.zeros(ring.shape[:2]))
    theirs = np.flatnonzero(near(middles, radii, centre, radius))
    if not len(theirs):
        return mine[:0], theirs, np.zeros(0)
    other = cells.rings(source, theirs, parts["source"])
    # Drawn around the tile, cells that meet are found; drawn around its own middle, each target cell is measured.
    goal = _polygons(drawn(ring, centre))
    first, second = shapely.STRtree(goal).query(_polygons(drawn(other, centre)), predicate="intersects")
    met, second = np.unique(second, return_inverse=True)
    own = geometry.normalised(ring[met].sum(axis=1))
    goal = _polygons(drawn(ring[met], own))
    given = _polygons(drawn(other[first], own[second]))
    area, whole = _common(given, goal, second), shapely.area(given)
    kept = area > _SLIVER * np.minimum(whole, shapely.area(goal)[second])
    return mine[met[second[kept]]], theirs[first[kept]], (area / whole)[kept]


def _polygons(rings: Array) -> Array:
    """One polygon per ring (n, vertices, 2); two to three times faster than `shapely.polygons`."""
    closed = np.concatenate([rings, rings[:, :1]], axis=1)
    count, size = closed.shape[:2]
    ends = np.arange(count + 1)
    return np.asarray(
        shapely.from_ragged_array(shapely.GeometryType.POLYGON, closed.reshape(-1, 2), (size * ends, ends))
    )


def _common(given: Array, goal: Array, index: Index) -> Array:
    """Area that polygons share with goal[index]."""
    shapely.prepare(goal)
    area = np.asarray(shapely.area(given))
    crossing = np.flatnonzero(~shapely.contains_properly(goal[index], given))
    area[crossing] = shapely.area(shapely.intersection(given[crossing], goal[index[crossing]]))
    return area
