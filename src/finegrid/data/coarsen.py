"""Coarse fields out of fine ones: the area-weighted mean over blocks of valid cells.

This is how pairs are made for perfect-model training, and the definition of what "the coarse value" is
everywhere else: C(I, J) = sum a(i, j) f(i, j) / sum a(i, j) over the valid cells (i, j) of block (I, J), a
being the cell area.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import xarray as xr

from finegrid.conventions import InputError, harmonise, restore
from finegrid.conventions.axes import is_time
from finegrid.grids import Grid, Operator

_FLAGS = ("flag_values", "flag_meanings", "flag_masks", "valid_range", "valid_min", "valid_max")


def coarsen(
    fields: xr.Dataset,
    factor: int | tuple[int, int],
    *,
    boundary: Literal["error", "trim"] = "error",
    min_valid: float = 0.0,
) -> xr.Dataset:
    """Fields on a grid `factor` times coarser, in the names and order of the fields that came in.

    Args:
        fields: fields with two horizontal dimensions, in any names that harmonise understands.
        factor: cells in a block, (along y, along x) or one number for both.
        boundary: what to do with rows and columns that fill no block; "trim" drops the last ones.
        min_valid: part of a block's area (0..1) that must be valid; below it the coarse cell is missing.

    Raises:
        InputError: when the blocks do not fill the grid and boundary is "error".
    """
    if boundary not in ("error", "trim"):
        raise InputError(f'got boundary={boundary!r}; expected "error" or "trim"; use coarsen(..., boundary="trim")')
    rows, columns = factor = (factor, factor) if isinstance(factor, int) else factor
    static = not any(is_time(coordinate) for coordinate in fields.coords.values())
    standard, names = harmonise(fields, static=static)
    if boundary == "trim":
        dims = {axis: names.coordinates[axis].dimension for axis in ("y", "x")}
        standard, names = harmonise(_trimmed(fields, {dims["y"]: rows, dims["x"]: columns}), static=static)
    grid = Grid.of(standard)
    coarse = Operator.conservative(grid, grid.coarsened(factor))(standard, min_valid=min_valid)
    return restore(coarse.assign({name: described(field) for name, field in coarse.data_vars.items()}), names)


def _trimmed(fields: xr.Dataset, factors: dict[str, int]) -> xr.Dataset:
    whole: dict[Hashable, slice] = {
        name: slice(0, fields.sizes[name] - fields.sizes[name] % factor) for name, factor in factors.items()
    }
    return fields.isel(whole)


def described(field: xr.DataArray) -> xr.DataArray:
    """Metadata of a mean: cell_methods says so, and flags (0 sea, 1 land) no longer hold for a fraction."""
    if not {"y", "x"} <= set(field.dims):
        return field
    methods = str(field.attrs.get("cell_methods", ""))
    if "area: mean" not in methods:
        methods = f"{methods} area: mean".strip()
    kept = {name: value for name, value in field.attrs.items() if name not in _FLAGS}
    described = field.copy(deep=False)
    described.attrs = {**kept, "cell_methods": methods}
    return described
