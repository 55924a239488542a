"""Areas that the cells of any two grids share, as polygons in an equal-area plane.

Tile by tile of the target (see `tiling`), its cells and the source cells near it are drawn as polygons in one plane,
where shapely intersects them: memory holds one tile. A share enters as a part of the source cell times its area on
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
    goal = shapely.polygons(drawn(ring, centre))
    given = shapely.polygons(drawn(cells.rings(source, theirs, parts["source"]), centre))
    first, second = shapely.STRtree(goal).query(given)
    area, whole = _common(given, goal, first, second), shapely.area(given)
    kept = area > _SLIVER * np.minimum(whole[first], shapely.area(goal)[second])
    return mine[second[kept]], theirs[first[kept]], (area / whole[first])[kept]


def _common(first: Array, second: Array, one: Index, other: Index) -> Array:
    """Area of the intersections of polygons first[one] and second[other]; those that cross are shared among threads."""
    smaller, larger = (first, second) if shapely.area(first).mean() < shapely.area(second).mean() else (second, first)
    small, large = (smaller[one], larger[other]) if smaller is first else (smaller[other], larger[one])
    # Prepared polygons are no matter for several threads: they build their index at the first question.
    shapely.prepare(larger)
    crossing = np.flatnonzero(~shapely.contains_properly(large, small))
    area = np.asarray(shapely.area(small))

    def work(part: Index) -> Array:
        return np.asarray(shapely.area(shapely.intersection(small[part], large[part])))

    pieces = [crossing[start : start + _PAIRS_AT_ONCE] for start in range(0, len(crossing), _PAIRS_AT_ONCE)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for piece, found in zip(pieces, pool.map(work, pieces), strict=True):
            area[piece] = found
    return area
