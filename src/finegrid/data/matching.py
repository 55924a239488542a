"""How the cells of a coarse file lie to those of a fine one.

    blocks    the coarse cells of a downscaler: whole blocks of fine cells, on which networks and regressions work
    own       the cells of the coarse file itself, where these are not such blocks: what is conserved

Where the file's own cells over the fine domain are whole blocks, they are both.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.grids import Grid, Operator, cells, nesting
from finegrid.grids.conservative import extents
from finegrid.grids.geometry import lonlat_of
from finegrid.grids.tiling import cap, near

Window = tuple[slice, slice]
# Part of a coarse cell that the fine domain has to cover before its value binds.
COVERED = 0.99
# Coarse cells that are no whole blocks may be stood for by blocks of other sizes, up to this ratio.
_LIKE = 1.5


def work_grids(fine: Grid, coarse: Grid) -> tuple[Grid, Grid]:
    """The fine grid and its blocks: the coarse file's own cells, or about as large where these are no blocks.

    Where blocks do not fill the fine grid, it is extended by masked cells.

    Raises:
        InputError: when coarse cells are no larger than fine ones, or columns around the globe cannot be filled.
    """
    window = block_window(fine, coarse)
    if window is not None:
        return fine, coarse.cropped(*window)
    ratio = float(np.sqrt(np.median(coarse.area) / np.median(fine.area)))
    wanted = _factors(fine, coarse, ratio)
    if max(wanted) < 2:
        raise InputError(
            f"got coarse cells {ratio:.2g} times the size of fine cells; expected coarse cells that are larger; "
            "check that the two files are not exchanged (--coarse and --fine)"
        )
    whole = _filled(fine, wanted)
    if whole is None:  # nothing can be added around the globe: blocks of another width, then
        wanted = wanted[0], _dividing(fine.shape[1], wanted[1])
        whole = _filled(fine, wanted)
    if whole is None:
        columns = fine.shape[1] % wanted[1]
        raise InputError(
            f"got a fine grid of {fine.shape[1]} columns around the globe, which blocks of {wanted[1]} (one coarse "
            f"cell) do not fill; expected a multiple; leave out {columns} column(s) with data.crop: {{x: "
            f"[{fine.x[0]:g}, {fine.x[len(fine.x) - 1 - columns]:g}]}} or fine.isel(...)"
        )
    return whole, whole.coarsened(wanted).masked(None)


def _filled(fine: Grid, factor: tuple[int, int]) -> Grid | None:
    """The fine grid, extended to whole blocks where need be; None where it cannot be."""
    lacking = [-size % each for size, each in zip(fine.shape, factor, strict=True)]
    return fine.extended(lacking[0], lacking[1]) if any(lacking) else fine


def block_window(fine: Grid, coarse: Grid) -> Window | None:
    """Rows and columns of coarse cells that are whole blocks of the fine ones; None where there are none."""
    if nesting(fine, coarse) is not None:
        return slice(0, coarse.shape[0]), slice(0, coarse.shape[1])
    window = _window(fine, coarse) if fine.aligned(coarse) else None
    return window if window is not None and nesting(fine, coarse.cropped(*window)) is not None else None


def own_window(fine: Grid, coarse: Grid) -> Window:
    """Rows and columns of coarse cells that reach into the fine domain.

    Raises:
        InputError: when none does.
    """
    centre, radius = cap(cells.middles(fine), cells.radii(fine))
    around = near(cells.middles(coarse), cells.radii(coarse), centre, radius).reshape(coarse.shape)
    rows, columns = np.flatnonzero(around.any(axis=1)), np.flatnonzero(around.any(axis=0))
    if not len(rows):
        here, there = extents(coarse, fine)
        raise InputError(
            f"the coarse cells ({here}) do not reach into the fine domain ({there}); expected domains that overlap; "
            "check that the two files are of the same region"
        )
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def same_window(wanted: Grid, given: Grid) -> Window | None:
    """Rows and columns of a grid that are the wanted cells; None where it has others."""
    if wanted.aligned(given):
        window = _window(wanted, given)
    else:
        offset = np.linalg.norm(cells.middles(given) - cells.middles(wanted)[0], axis=-1)
        row, column = divmod(int(offset.argmin()), given.shape[1])
        window = slice(row, row + wanted.shape[0]), slice(column, column + wanted.shape[1])
        if window[0].stop > given.shape[0] or window[1].stop > given.shape[1]:
            return None
    return window if window is not None and nesting(given.cropped(*window), wanted) == (1, 1) else None


def on_blocks(fields: xr.Dataset, grid: Grid, source: str, *, whole: bool = True) -> tuple[xr.Dataset, str]:
    """Standard fields on the blocks of a downscaler, and how they got there: "crop" or "remap".

    Args:
        fields: standard fields.
        grid: the blocks.
        source: words for the file in error messages.
        whole: whether every block has to be covered; blocks that were extended beyond the fine file need not be.

    Raises:
        InputError: when they do not cover them.
    """
    fields = turned(fields, grid)
    own = Grid.of(fields)
    window = same_window(grid, own) if not whole or _covers(own, grid) else None
    if window is not None:
        return fields.isel(y=window[0], x=window[1]).assign_coords(grid.coords()), "crop"
    if whole:
        check_covers(own, grid, source)
    around = own_window(grid, own)
    part = fields.isel(y=around[0], x=around[1])
    return Operator.conservative(Grid.of(part), grid)(part), "remap"


def turned(fields: xr.Dataset, grid: Grid) -> xr.Dataset:
    """The same cells with their longitudes written as those of `grid`, where they differ by whole circles.

    A global field is cut opposite to the middle of `grid`; another one keeps its columns in their order.
    """
    own = Grid.of(fields)
    if not own.in_degrees or (not own.is_latlon and not own.aligned(grid)):
        return fields
    middle = (grid.x_edges[0] + grid.x_edges[-1]) / 2 if own.aligned(grid) else _middle_longitude(grid)
    centres = own.x if own.periodic else np.full(len(own.x), (own.x_edges[0] + own.x_edges[-1]) / 2)
    # Less a hair, so that of two meridians half a circle away the western one is kept by everybody.
    turns = 360.0 * np.ceil((middle - centres) / 360.0 - 0.5 - 1e-9)
    if not turns.any():
        return fields
    result = fields.assign_coords(x=("x", own.x + turns, fields.x.attrs))
    if "x_bounds" in fields.coords:
        bounds = fields.x_bounds.variable.copy(data=fields.x_bounds.values + turns[:, None])
        result = result.assign_coords(x_bounds=bounds)
    return result.isel(x=np.argsort(own.x + turns))


def check_covers(outer: Grid, inner: Grid, source: str, *, what: str = "the fine one") -> None:
    """The cells of `outer` cover those of `inner`; between reference systems half an inner cell is allowed.

    Raises:
        InputError: names both domains.
    """
    if not _covers(outer, inner):
        here, there = extents(outer, inner)
        raise InputError(
            f"the domain of {source} ({here}) does not cover {what} ({there}); expected coarse cells over all of it; "
            "give a larger coarse file, or crop the fine one with data.crop in the recipe or fine.sel(...)"
        )


def _covers(outer: Grid, inner: Grid) -> bool:
    if outer.aligned(inner):
        return not _outside(outer, inner)
    try:
        around = own_window(inner, outer)
        coverage = Operator.conservative(outer.cropped(*around), inner).coverage
    except InputError:
        return False
    return bool((coverage > 0.5).all())


def _middle_longitude(grid: Grid) -> float:
    return float(lonlat_of(cells.middles(grid).sum(axis=0))[0])


def _window(inner: Grid, outer: Grid) -> Window | None:
    """Rows and columns of `outer` whose outer edges are those of `inner`; None when there are none."""
    found = []
    for mine, theirs in ((inner.y_edges, outer.y_edges), (inner.x_edges, outer.x_edges)):
        first, last = (int(np.abs(theirs - edge).argmin()) for edge in (mine[0], mine[-1]))
        width = float(np.diff(mine).min())
        if max(abs(theirs[first] - mine[0]), abs(theirs[last] - mine[-1])) > 0.05 * width or first >= last:
            return None
        found.append(slice(first, last))
    return found[0], found[1]


def _factors(fine: Grid, coarse: Grid, ratio: float) -> tuple[int, int]:
    """Fine cells in a coarse cell along y and x."""
    if fine.aligned(coarse):
        steps = [(np.median(np.diff(coarse.y_edges)), np.median(np.diff(fine.y_edges)))]
        steps.append((np.median(np.diff(coarse.x_edges)), np.median(np.diff(fine.x_edges))))
        rows, columns = (max(1, round(theirs / mine)) for theirs, mine in steps)
        return rows, columns
    both = max(1, round(ratio))
    return both, both


def _dividing(size: int, wanted: int) -> int:
    """The divisor of a number of cells that is nearest to the wanted one, or that itself where none is near."""
    near = [each for each in range(1, size + 1) if size % each == 0 and wanted / _LIKE <= each <= wanted * _LIKE]
    return min(near, key=lambda each: abs(np.log(each / wanted)), default=wanted)


def _outside(outer: Grid, inner: Grid) -> bool:
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64], bool]] = [
        (inner.y_edges, outer.y_edges, False),
        (inner.x_edges, outer.x_edges, outer.periodic),
    ]
    for mine, theirs, turns in pairs:
        tolerance = 0.05 * float(np.diff(theirs).min())
        if not turns and (mine[0] < theirs[0] - tolerance or mine[-1] > theirs[-1] + tolerance):
            return True
    return False
