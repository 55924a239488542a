"""Areas that the cells of any two grids share, as polygons in an equal-area plane.

Tile by tile of the target (see `tiling`), source cells near it are found; memory holds one tile. Each target cell and
the source cells that it meets are drawn as polygons in the plane around its middle, where shapely intersects them, so
that a weight depends on the two cells alone. A share enters as a part of the source cell times its area on
the sphere, so that integrals over the source are kept to rounding (Jones 1999,
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

_PAIRS_AT_ONCE = 8192
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
    done = 0
    for tile in tiles(target, middles, radii):
        found.append(_shares(source, target, tile, middles, radii, parts))
        done += (tile[0].stop - tile[0].start) * (tile[1].stop - tile[1].start)
        progress(done, target.size)
    rows, columns, share = (np.concatenate([each[index] for each in found]) for index in range(3))
    matrix = sparse.csr_array((share, (rows, columns)), shape=(target.size, source.size))
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
    goal = shapely.polygons(drawn(ring, centre))
    first, second = shapely.STRtree(goal).query(shapely.polygons(drawn(other, centre)), predicate="intersects")
    own = geometry.normalised(ring.sum(axis=1))
    goal = shapely.polygons(drawn(ring, own))
    given = shapely.polygons(drawn(other[first], own[second]))
    area, whole = _common(given, goal, second), shapely.area(given)
    kept = area > _SLIVER * np.minimum(whole, shapely.area(goal)[second])
    return mine[second[kept]], theirs[first[kept]], (area / whole)[kept]


def _common(given: Array, goal: Array, index: Index) -> Array:
    """Area that polygons share with goal[index]; those that cross its sides are parted among threads."""
    # Prepared polygons are no matter for several threads: they build their index at the first question.
    shapely.prepare(goal)
    area = np.asarray(shapely.area(given))
    crossing = np.flatnonzero(~shapely.contains_properly(goal[index], given))

    def work(part: Index) -> Array:
        return np.asarray(shapely.area(shapely.intersection(given[part], goal[index[part]])))

    pieces = [crossing[start : start + _PAIRS_AT_ONCE] for start in range(0, len(crossing), _PAIRS_AT_ONCE)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for piece, found in zip(pieces, pool.map(work, pieces), strict=True):
            area[piece] = found
    return area
