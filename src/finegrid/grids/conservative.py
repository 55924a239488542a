"""Weights of first-order conservative remapping: area-weighted means over whatever a target cell covers.

A target cell's value is sum_s a(t, s) f(s) / sum_s a(t, s), where a(t, s) is the area that target cell t
shares with source cell s, so that the integral over the area is kept (Jones 1999,
doi:10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2). Where both grids have 1-D edges in one reference
system, a share is a product of two 1-D overlaps (of sin latitude and longitude, or of projected y and x)
as fractions of the source cell, times the source cell's area on the sphere. All other pairs are polygons (`overlap`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from finegrid.conventions import InputError
from finegrid.grids import geometry
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid
from finegrid.grids.overlap import Progress, overlaps

# Overlaps below this part of a cell are rounding of the edges; as weights they would let a cell whose real
# sources are all missing take its value from the neighbour.
_SLIVER = 1e-9


def shared_areas(source: Grid, target: Grid, *, progress: Progress = lambda done, total: None) -> sparse.csr_array:
    """Area in m2 that each target cell (row) shares with each source cell (column), whatever the masks.

    Raises:
        InputError: when the grids do not overlap, or have cells that are no polygons.
    """
    shared = _products(source, target) if source.aligned(target) else overlaps(source, target, progress=progress)
    if shared.nnz:
        return shared
    here, there = extents(source, target)
    raise InputError(
        f"got a source grid over {here} and a target grid over {there}; expected grids that overlap; "
        "crop or choose the target so that it lies within the source"
    )


def _products(source: Grid, target: Grid) -> sparse.csr_array:
    measure = geometry.sine_difference if source.in_degrees else geometry.length
    rows = _fractions(source.y_edges, target.y_edges, measure)
    columns = sum(
        (_fractions(source.x_edges + turn, target.x_edges, geometry.length) for turn in _turns(source)),
        start=sparse.csr_array((target.shape[1], source.shape[1])),
    )
    fractions = sparse.csr_array(sparse.kron(rows, columns, format="csr"))
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


def extents(one: Grid, other: Grid) -> tuple[str, str]:
    """Where two grids lie, in words: in the coordinates that they share, or in latitudes and longitudes."""
    shared = one.aligned(other)
    return extent(one, geographic=not shared), extent(other, geographic=not shared)


def extent(grid: Grid, *, geographic: bool = False) -> str:
    """Where a grid lies, in words: in its own coordinates unless these are asked not to be."""
    geographic = geographic or grid.is_curvilinear
    north, east = grid.centres if geographic and not grid.is_latlon else (grid.y_edges, grid.x_edges)
    y, x = ("latitudes", "longitudes") if geographic else ("y", "x")
    unit = "" if grid.in_degrees or geographic else " m"
    return f"{y} {north.min():g} to {north.max():g}{unit}, {x} {east.min():g} to {east.max():g}{unit}"
