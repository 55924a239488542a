"""Weights of first-order conservative remapping: area-weighted means over whatever a target cell covers.

A target cell's value is sum_s a(t, s) f(s) / sum_s a(t, s), where a(t, s) is the area that target cell t
shares with source cell s, so that the integral over the area is kept (Jones 1999,
doi:10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2). Both grids are given by 1-D edges in one reference
system, so a share is a product of two 1-D overlaps (of sin latitude and longitude, or of projected y and x)
as fractions of the source cell, times the source cell's area on the sphere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from finegrid.conventions import InputError
from finegrid.grids import geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid

# Overlaps below this part of a cell are rounding of the edges; as weights they would let a cell whose real
# sources are all missing take its value from the neighbour.
_SLIVER = 1e-9


def shared_areas(source: Grid, target: Grid) -> sparse.csr_array:
    """Area in m2 that each target cell (row) shares with each source cell (column).

    Raises:
        InputError: when the grids have different reference systems or do not overlap.
    """
    if not geometry.same_crs(source.crs, target.crs):
        raise InputError(
            "got two grids with different reference systems for conservative remapping; "
            "expected the same system; "
            "use Operator.bilinear(source, target), or bring the fields onto one system first"
        )
    measure = geometry.sine_difference if source.in_degrees else geometry.length
    rows = _fractions(source.y_edges, target.y_edges, measure)
    columns = sum(
        (_fractions(source.x_edges + turn, target.x_edges, geometry.length) for turn in _turns(source)),
        start=sparse.csr_array((target.shape[1], source.shape[1])),
    )
    fractions = sparse.csr_array(sparse.kron(rows, columns, format="csr"))
    if not fractions.nnz:
        raise InputError(
            f"got a source grid over y {_span(source.y_edges)}, x {_span(source.x_edges)} "
            f"and a target grid "
            f"over y {_span(target.y_edges)}, x {_span(target.x_edges)}; expected grids that overlap; "
            "crop or choose the target so that it lies within the source"
        )
    return sparse.csr_array(fractions * source.area.ravel()[None, :])


def block_areas(fine: Grid, factor: tuple[int, int]) -> sparse.csr_array:
    """`shared_areas` of a grid with its own coarsening, without rounding of the edges."""
    (rows, columns), (ny, nx) = factor, fine.shape
    block = (np.arange(ny) // rows)[:, None] * (nx // columns) + np.arange(nx) // columns
    shape = (fine.size // (rows * columns), fine.size)
    return sparse.csr_array((fine.area.ravel(), (block.ravel(), np.arange(fine.size))), shape=shape)


def _fractions(source: Array, target: Array, measure: Callable[[Array, Array], Array]) -> sparse.csr_array:
    """Part of each source interval (column) in each target interval (row), between ascending edges."""
    edges = np.union1d(source, target)
    edges = edges[(edges >= max(source[0], target[0])) & (edges <= min(source[-1], target[-1]))]
    middle = (edges[1:] + edges[:-1]) / 2
    row, column = np.searchsorted(target, middle) - 1, np.searchsorted(source, middle) - 1
    part = measure(edges[:-1], edges[1:]) / measure(source[:-1], source[1:])[column]
    kept = (part > _SLIVER) & (np.diff(edges) > _SLIVER * np.diff(target)[row])
    shape = (len(target) - 1, len(source) - 1)
    return sparse.csr_array((part[kept], (row[kept], column[kept])), shape=shape)


def _turns(grid: Grid) -> tuple[float, ...]:
    return (-360.0, 0.0, 360.0) if grid.in_degrees else (0.0,)


def _span(edges: Array) -> str:
    return f"{edges[0]:g}..{edges[-1]:g}"
