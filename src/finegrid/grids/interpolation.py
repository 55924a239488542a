"""Weights of interpolation between cell centres: nearest, bilinear and bicubic.

All three are separable. A target centre has a fractional index u on each axis of the source (u = j on centre
j, in between linear in the coordinate, which handles uneven spacing; for curvilinear sources see `locate`), and
takes the source cells around it with weights k(u - j):

    nearest     the source cell that contains the target centre
    bilinear    k(t) = 1 - |t|                                   for |t| <= 1
    bicubic     k(t) = (a + 2) |t|3 - (a + 3) |t|2 + 1           for |t| <= 1
                k(t) = a |t|3 - 5 a |t|2 + 8 a |t| - 4 a         for 1 < |t| < 2

with a = -1/2, the only value that reproduces quadratics (Keys 1981, doi:10.1109/TASSP.1981.1163711; image
libraries and torch use a = -3/4). Beyond the outer centres the edge values are repeated, or wrapped around a
global grid; target centres more than half a source cell outside the source domain get no weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from finegrid.grids import geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid
from finegrid.grids.locate import fractional_positions

Index = NDArray[np.intp]
Kernel = Callable[[Array], Array]

KEYS = -0.5


def linear_kernel(distance: Array) -> Array:
    """Weights of linear interpolation at distances in cells."""
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def cubic_kernel(distance: Array, a: float = KEYS) -> Array:
    """Weights of cubic convolution at distances in cells."""
    t = np.abs(distance)
    inner = (a + 2) * t**3 - (a + 3) * t**2 + 1
    outer = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0.0))


def interpolation_matrix(source: Grid, target: Grid, kernel: Kernel, reach: int) -> sparse.csr_array:
    """Weights (target.size, source.size) of a separable kernel that reaches `reach` cells to either side."""
    row, column, inside = _positions(source, target)
    rows = _stencil(row, source.shape[0], kernel, reach, wraps=False)
    columns = _stencil(column, source.shape[1], kernel, reach, wraps=source.periodic)
    return _assemble(source, target, rows, columns, inside)


def nearest_matrix(source: Grid, target: Grid) -> sparse.csr_array:
    """Weights (target.size, source.size): one, for the source cell that contains the target centre."""
    one = np.ones(1)
    if source.is_curvilinear:
        row, column, inside = _positions(source, target)
        rows = np.clip(np.rint(row), 0, source.shape[0] - 1).astype(np.intp)
        columns = np.clip(np.rint(column), 0, source.shape[1] - 1).astype(np.intp)
    else:
        y, x = _target_positions(source, target)
        x = _near_domain(x, source)
        rows, columns = _containing(y, source.y_edges), _containing(x, source.x_edges)
        inside = _within(y, source.y_edges) & _within(x, source.x_edges)
    return _assemble(source, target, (rows[..., None], one), (columns[..., None], one), inside)


def _positions(source: Grid, target: Grid) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Fractional row and column of the target centres in the source, and which of them lie within it."""
    if source.is_curvilinear:
        row, column = fractional_positions(source, target)
        inside = np.isfinite(row)
        return np.where(inside, row, 0.0), np.where(inside, column, 0.0), inside
    y, x = _target_positions(source, target)
    x = _near_domain(x, source)
    inside = _within(y, source.y_edges) & (_within(x, source.x_edges) | source.periodic)
    return _fractional_index(y, source.y), _fractional_index(x, source.x, periodic=source.periodic), inside


def _target_positions(source: Grid, target: Grid) -> tuple[Array, Array]:
    """Target centres in the source's coordinates, broadcastable to the target's shape."""
    if source.aligned(target):
        return target.y[:, None], target.x[None, :]
    latitude, longitude = target.centres
    x, y = geometry.from_lonlat(source.crs, longitude, latitude)
    # What a projection cannot show lies outside.
    far = [edges[0] - 10 * np.ptp(edges) for edges in (source.y_edges, source.x_edges)]
    return np.where(np.isfinite(y), y, far[0]), np.where(np.isfinite(x), x, far[1])


def _near_domain(x: Array, source: Grid) -> Array:
    """Angles turned by whole circles until they lie around the source domain."""
    if not source.in_degrees:
        return x
    start = source.x_edges[0] if source.periodic else source.x_edges[[0, -1]].mean() - 180.0
    return np.asarray((x - start) % 360.0 + start)


def _fractional_index(values: Array, centres: Array, *, periodic: bool = False) -> Array:
    """Position on the axis in units of cells, continued with the outer spacing beyond the outer centres."""
    if periodic:
        centres = np.concatenate([centres[-1:] - 360.0, centres, centres[:1] + 360.0])
    if len(centres) == 1:
        return np.zeros_like(values)
    left = np.clip(np.searchsorted(centres, values, side="right") - 1, 0, len(centres) - 2)
    index = left + (values - centres[left]) / (centres[left + 1] - centres[left])
    return np.asarray(index - 1 if periodic else index)


def _stencil(position: Array, size: int, kernel: Kernel, reach: int, wraps: bool) -> tuple[Index, Array]:
    """Indices and weights (..., 2 * reach) of the cells around positions on an axis of `size` cells."""
    index = np.floor(position).astype(np.intp)[..., None] + np.arange(1 - reach, reach + 1)
    weights = kernel(position[..., None] - index)
    return (index % size if wraps else np.clip(index, 0, size - 1)), weights


def _containing(values: Array, edges: Array) -> Index:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def _within(values: Array, edges: Array) -> NDArray[np.bool_]:
    lower, upper = edges[0] - (edges[1] - edges[0]) / 2, edges[-1] + (edges[-1] - edges[-2]) / 2
    # A rounding error must not decide about a target centre exactly half a cell outside.
    margin = 1e-6 * (edges[1] - edges[0])
    return np.asarray((values >= lower - margin) & (values <= upper + margin))


def _assemble(
    source: Grid,
    target: Grid,
    rows: tuple[Index, Array],
    columns: tuple[Index, Array],
    inside: NDArray[np.bool_],
) -> sparse.csr_array:
    """Outer product of the two axes' stencils, one matrix row for each target cell; equal columns add up."""
    index = rows[0][..., :, None] * source.shape[1] + columns[0][..., None, :]
    weights = rows[1][..., :, None] * columns[1][..., None, :] * inside[..., None, None]
    full = (*target.shape, *index.shape[-2:])
    cell = np.broadcast_to(np.arange(target.size).reshape(*target.shape, 1, 1), full)
    index, weights = np.broadcast_to(index, full), np.broadcast_to(weights, full)
    used = weights != 0
    matrix = sparse.csr_array((weights[used], (cell[used], index[used])), shape=(target.size, source.size))
    matrix.sum_duplicates()
    return matrix
