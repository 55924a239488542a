"""The sphere in tiles: blocks of neighbouring cells, and an equal-area plane around the middle of each.

Around a middle c, points v of the sphere are drawn by Lambert's azimuthal equal-area projection (Snyder 1987, p. 182),

    (x, y) = sqrt(2 / (1 + v.c)) (v.e, v.n)            e, n: unit vectors to the east and north of c

There is no seam at the date line and nothing special about the poles.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from finegrid.grids import cells, geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid

Tile = tuple[slice, slice]

_TILE_CELLS, _TILE_RADIUS = 8192, 0.35
# Source cells near one tile above which it is cut further.
_NEIGHBOURS = 400_000


def tiles(target: Grid, middles: Array, radii: Array) -> Iterator[Tile]:
    """Blocks of target cells, small on the sphere, that no more than `_NEIGHBOURS` source cells are near to."""
    own, reach = cells.middles(target).reshape(*target.shape, 3), cells.radii(target).reshape(target.shape)
    waiting: list[Tile] = [(slice(0, target.shape[0]), slice(0, target.shape[1]))]
    while waiting:
        tile = waiting.pop()
        rows, columns = (each.stop - each.start for each in tile)
        centre, radius = cap(own[tile], reach[tile])
        small = rows * columns <= _TILE_CELLS and radius <= _TILE_RADIUS
        few = small and np.count_nonzero(near(middles, radii, centre, radius)) <= _NEIGHBOURS
        if few or rows * columns == 1:
            yield tile
        else:
            waiting += _halves(tile, lengthwise=rows >= columns)


def _halves(tile: Tile, *, lengthwise: bool) -> list[Tile]:
    rows, columns = tile
    cut = rows if lengthwise else columns
    middle = (cut.start + cut.stop) // 2
    halves = (slice(middle, cut.stop), slice(cut.start, middle))
    return [(half, columns) if lengthwise else (rows, half) for half in halves]


def cap(points: Array, reach: Array) -> tuple[Array, float]:
    """The middle of cells and the angle within which they lie around it; half the sphere where there is no middle."""
    total = points.reshape(-1, 3).sum(axis=0)
    length = float(np.linalg.norm(total))
    if length < 1e-6 * points.size:
        return np.array([0.0, 0.0, 1.0]), np.pi
    centre = total / length
    away = 2 * np.arcsin(np.minimum(np.linalg.norm(points - centre, axis=-1) / 2, 1.0))
    return centre, float((away + reach).max())


def near(middles: Array, radii: Array, centre: Array, radius: float) -> NDArray[np.bool_]:
    """Which cells reach into the cap of an angular radius around a centre."""
    return np.asarray(middles @ centre >= np.cos(np.minimum(radius + radii, np.pi)) - 1e-12)


def drawn(points: Array, centre: Array) -> Array:
    """Points (..., 3) of the sphere in the equal-area plane around a centre, (..., 2).

    The centre is one for all points, or (n, 3) for points (n, vertices, 3).
    """
    centre = centre if centre.ndim == 1 else centre[:, None]
    # Any direction will do for the axes, but that of the centre itself.
    axis = np.where(np.abs(centre[..., 2:]) < 0.9, [0.0, 0.0, 1.0], [0.0, 1.0, 0.0])
    east = geometry.normalised(np.cross(axis, centre))
    stretch = np.sqrt(2 / np.maximum(1 + (points * centre).sum(-1), 1e-9))
    across, along = (points * east).sum(-1), (points * np.cross(centre, east)).sum(-1)
    return np.stack([stretch * across, stretch * along], axis=-1)
