"""How a user's coarse file becomes what a downscaler was trained on: its variables, in its units, on its coarse grid.

A `CoarseInputs` is settled once, when coarse and fine meet (`pairs`), and then applied to every coarse file, so that
prediction cannot differ from training. The coarse grid of a downscaler is always nested in its fine grid:

    crop      the file's own cells are whole blocks of fine cells: those over the fine domain are taken as they are
    remap     they are not: the field is remapped to the blocks (area-weighted within a reference system, interpolated
              between two); what is conserved downstream is the remapped field, and the output says so
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, convert_units, find_variable, harmonise
from finegrid.conventions.errors import provenance
from finegrid.grids import Grid, Operator, nesting


@dataclass(frozen=True)
class CoarseInputs:
    """What to take from a coarse file.

    Attributes:
        variables: name in the coarse file for each fine variable that is also the coarse value to conserve.
        predictors: further coarse variables.
        units: units to convert to, by fine name or predictor.
        grid: coarse grid, nested in the fine one.
    """

    variables: Mapping[str, str]
    predictors: tuple[str, ...]
    units: Mapping[str, str]
    grid: Grid

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the fields that `read` gives: fine names, then predictors."""
        return (*self.variables, *self.predictors)

    def read(self, coarse: xr.Dataset, *, source: str = "input") -> xr.Dataset:
        """Standard fields (time, y, x) named by `channels`, in `units`, on `grid`; lazy when they come lazy.

        Raises:
            InputError: on a missing variable, other units, or a domain that does not cover the grid.
        """
        source = provenance(coarse, source, otherwise="the coarse input")
        standard, _ = harmonise(coarse, source=source)
        wanted = {**self.variables, **{name: name for name in self.predictors}}
        fields = {}
        for name, theirs in wanted.items():
            field = standard[find_variable(standard, theirs, source=source)]
            fields[name] = in_units(field, self.units[name], source).rename(name)
        return on_blocks(standard.drop_vars(list(standard.data_vars)).assign(fields), self.grid, source)[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "variables": dict(self.variables),
            "predictors": list(self.predictors),
            "units": dict(self.units),
            "grid": self.grid.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inputs that `to_dict` described."""
        grid = Grid.from_dict(values["grid"])
        return cls(dict(values["variables"]), tuple(values["predictors"]), dict(values["units"]), grid)


def in_units(field: xr.DataArray, units: str, source: str) -> xr.DataArray:
    """The field in these units; fields and targets without units are taken to agree."""
    if not units or not field.attrs.get("units"):
        return field
    return convert_units(field, units, source=source)


def block_grid(fine: Grid, coarse: Grid) -> Grid:
    """The coarse grid of a downscaler: the file's own cells over the fine domain.

    Where these are not whole blocks of fine cells, it is blocks of about their size.

    Raises:
        InputError: when coarse cells are no larger than fine ones, or no whole number of blocks fills the fine grid.
    """
    if fine.crs == coarse.crs:
        window = _window(fine, coarse)
        if window is not None and nesting(fine, cropped := coarse.cropped(*window)) is not None:
            return cropped
    ratio = float(np.sqrt(np.median(coarse.area) / np.median(fine.area)))
    factor = _factors(fine, coarse, ratio)
    if max(factor) < 2:
        raise InputError(
            f"got coarse cells {ratio:.2g} times the size of fine cells; expected coarse cells that are larger; "
            "check that the "
            "two files are not exchanged (--coarse and --fine)"
        )
    rows, columns = (size % each for size, each in zip(fine.shape, factor, strict=True))
    if rows or columns:
        raise InputError(
            f"got a fine grid of {fine.shape[0]} x {fine.shape[1]} cells, which blocks of {factor[0]} x {factor[1]} "
            "cells (one "
            f"coarse cell) do not fill; expected multiples; leave out {rows} row(s) and {columns} column(s) with "
            f"data.crop: {{y: [{fine.y[0]:g}, {fine.y[len(fine.y) - 1 - rows]:g}], x: [{fine.x[0]:g}, "
            f"{fine.x[len(fine.x) - 1 - columns]:g}]}} or fine.isel(...)"
        )
    return fine.coarsened(factor)


def on_blocks(fields: xr.Dataset, grid: Grid, source: str) -> tuple[xr.Dataset, str]:
    """Standard fields on the coarse grid of a downscaler, and how they got there: "crop" or "remap".

    Raises:
        InputError: when they do not cover it.
    """
    fields = turned(fields, grid)
    own = Grid.of(fields)
    check_covers(own, grid, source)
    window = _window(grid, own) if own.crs == grid.crs else None
    if window is not None and nesting(own.cropped(*window), grid) == (1, 1):
        rows, columns = window
        return fields.isel(y=rows, x=columns).assign_coords(grid.coords()), "crop"
    if own.crs == grid.crs:
        return Operator.conservative(own, grid)(fields), "remap"
    return Operator.bilinear(own, grid)(fields), "remap"


def turned(fields: xr.Dataset, grid: Grid) -> xr.Dataset:
    """The same cells with their longitudes written as those of `grid`, where they differ by whole circles.

    A global field is cut opposite to the middle of `grid`; another one keeps its columns in their order.
    """
    own = Grid.of(fields)
    if not (own.in_degrees and own.crs == grid.crs):
        return fields
    middle = (grid.x_edges[0] + grid.x_edges[-1]) / 2
    centres = own.x if own.periodic else np.full(len(own.x), (own.x_edges[0] + own.x_edges[-1]) / 2)
    # Less a hair, so that of two meridians half a circle away the western one is kept by everybody.
    turns = 360.0 * np.ceil((middle - centres) / 360.0 - 0.5 - 1e-9)
    if not turns.any():
        return fields
    result = fields.assign_coords(x=("x", own.x + turns, fields.x.attrs))
    if "x_bounds" in fields.coords:
        result = result.assign_coords(x_bounds=fields.x_bounds.copy(data=fields.x_bounds.values + turns[:, None]))
    return result.isel(x=np.argsort(own.x + turns))


def check_covers(outer: Grid, inner: Grid, source: str) -> None:
    """The cells of `outer` cover those of `inner`; between reference systems half an outer cell is allowed.

    Raises:
        InputError: names both domains.
    """
    outside = _outside(outer, inner) if outer.crs == inner.crs else _outside_by_corners(outer, inner)
    if outside:
        raise InputError(
            f"the domain of {source} ({_extent(outer)}) does not cover the fine one ({_extent(inner)}); expected "
            "coarse cells "
            "over every fine cell; give a larger coarse file, or crop the fine one with data.crop in the recipe or "
            "fine.sel(...)"
        )


def _window(inner: Grid, outer: Grid) -> tuple[slice, slice] | None:
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
    if fine.crs == coarse.crs:
        steps = [(np.median(np.diff(coarse.y_edges)), np.median(np.diff(fine.y_edges)))]
        steps.append((np.median(np.diff(coarse.x_edges)), np.median(np.diff(fine.x_edges))))
        rows, columns = (max(1, round(theirs / mine)) for theirs, mine in steps)
        return rows, columns
    both = max(1, round(ratio))
    return both, both


def _outside(outer: Grid, inner: Grid) -> bool:
    for mine, theirs, turns in (
        (inner.y_edges, outer.y_edges, False),
        (inner.x_edges, outer.x_edges, outer.periodic),
    ):
        tolerance = 0.05 * float(np.diff(theirs).min())
        if not turns and (mine[0] < theirs[0] - tolerance or mine[-1] > theirs[-1] + tolerance):
            return True
    return False


def _outside_by_corners(outer: Grid, inner: Grid) -> bool:
    from finegrid.grids.geometry import from_lonlat

    x, y = from_lonlat(outer.crs, inner.corners[..., 0], inner.corners[..., 1])
    margins: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = [(y, outer.y_edges), (x, outer.x_edges)]
    for points, edges in margins:
        half = 0.5 * float(np.diff(edges).max())
        if points.min() < edges[0] - half or points.max() > edges[-1] + half:
            return True
    return False


def _extent(grid: Grid) -> str:
    unit = "" if grid.in_degrees else " m"
    return f"y {grid.y_edges[0]:g} to {grid.y_edges[-1]:g}{unit}, x {grid.x_edges[0]:g} to {grid.x_edges[-1]:g}{unit}"
