"""The large-scale situation: coarse cells in and around the fine domain, as they are in the coarse file.

Weather over a region shows in fields that reach beyond it: pressure over the ocean, the air that comes tomorrow.
Methods of perfect prognosis look at all cells of the coarse file within some degrees of the fine domain. These are kept
beside the fields on blocks, under names from `wide_name`, in the file's own cells and dimensions of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from finegrid.conventions import InputError
from finegrid.data.matching import Window, own_window, same_window, turned
from finegrid.grids import Grid, Operator, cells

WIDE_DIMS = ("wide_row", "wide_column")


def wide_name(name: str) -> str:
    """What the values of a variable in the cells around are called beside those on blocks."""
    return f"{name} (around)"


def surroundings(coarse: xr.Dataset, fine: Grid, reach: float) -> Grid:
    """The cells of standard coarse fields whose centres lie within `reach` degrees of the centre of a fine cell.

    Raises:
        InputError: when the reach is negative.
    """
    if reach < 0:
        raise InputError(f"got reach={reach:g} degrees; expected 0 or more; set downscaler.reach")
    given = Grid.of(turned(coarse, fine))
    return given.cropped(*_window(fine, given, reach))


def _window(fine: Grid, coarse: Grid, reach: float) -> Window:
    """Rows and columns with a cell that is near, and at least those that touch the fine domain."""
    chord = 2 * np.sin(np.deg2rad(min(reach, 180.0)) / 2)
    distance, _ = cKDTree(cells.middles(fine)).query(cells.middles(coarse))
    near = (distance <= chord).reshape(coarse.shape)
    rows, columns = own_window(fine, coarse)
    near[rows, columns] = True
    ends = [np.flatnonzero(near.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    return slice(int(ends[0][0]), int(ends[0][1]) + 1), slice(int(ends[1][0]), int(ends[1][1]) + 1)


def on_surroundings(
    fields: xr.Dataset, wide: Grid, source: str
) -> dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]]:
    """Variables (time, wide_row, wide_column) of standard fields in these cells, by `wide_name`.

    A file with other cells is averaged to them by area.

    Raises:
        InputError: when the file does not cover the cells that training looked at.
    """
    fields = turned(fields, wide)
    given = Grid.of(fields)
    window = same_window(wide, given)
    cut = None if window is None else {"y": window[0], "x": window[1]}
    values = _remapped(fields, given, wide, source) if cut is None else fields.isel(cut)
    return {
        wide_name(str(name)): (("time", *WIDE_DIMS), field.transpose("time", "y", "x").data, field.attrs)
        for name, field in values.data_vars.items()
    }


def _remapped(fields: xr.Dataset, given: Grid, wide: Grid, source: str) -> xr.Dataset:
    rows, columns = own_window(wide, given)
    part = fields.isel(y=rows, x=columns)
    operator = Operator.conservative(Grid.of(part), wide)
    uncovered = float((operator.coverage < 0.5).mean())
    if uncovered > 0:
        raise InputError(
            f"{source} lacks {uncovered:.0%} of the {wide.size} coarse cells that the model looks at; expected a file "
            "that reaches as far around the fine domain as the training file; give a larger coarse file, or fit with "
            "a smaller downscaler.reach"
        )
    return operator(part)
