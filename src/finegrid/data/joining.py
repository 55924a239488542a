"""Several Datasets as one: fields one after the other in time, and predictors on several grids.

Reanalyses keep rain and temperature on one grid and pressure on another.
The first grid is that of the result. Fields on other grids are interpolated linearly to its cells, lazily; what is to
be conserved should be on the first. Times are those that all have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, harmonise, restore
from finegrid.conventions.errors import provenance
from finegrid.data.matching import turned
from finegrid.grids import Grid, Operator


def joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """All variables of several Datasets on the grid, in the names and on the common times of the first.

    Args:
        parts: Datasets (time, y, x) in any names, without a variable in common.

    Raises:
        InputError: when a variable is in two of them, a grid does not reach over the first one, or no time is common.
    """
    if len(parts) == 1:
        return parts[0]
    source = provenance(parts[0], otherwise="the first file")
    first, names = harmonise(parts[0], source=source)
    grid = Grid.of(first)
    for part in parts[1:]:
        theirs = provenance(part, otherwise="another file")
        other, _ = harmonise(part, source=theirs)
        twice = sorted(set(map(str, first.data_vars)) & set(map(str, other.data_vars)))
        if twice:
            raise InputError(
                f"'{twice[0]}' is both in {source} and, on another grid, in {theirs}; expected it in one of them; "
                "leave it out of one, or give files of one grid"
            )
        common = first.indexes["time"].intersection(other.indexes["time"])
        if not len(common):
            raise InputError(
                f"{source} and {theirs} have no time in common; expected the same time stamps; give files of the same "
                "period and calendar"
            )
        first = first.sel(time=common).assign(_on(other.sel(time=common), grid, theirs, source).data_vars)
    result = restore(first, names)
    result.encoding["source"] = source
    return result


def along_time(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """Consecutive fields of one grid as one record; `dim` is the name of their time."""
    if len(parts) == 1:
        return parts[0]
    same: dict[str, Any] = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "override"}
    record: xr.Dataset = xr.concat(list(parts), dim=dim, combine_attrs="override", **same)
    return record


def same_grids(parts: Sequence[xr.Dataset]) -> list[list[int]]:
    """Which of the Datasets lie on the same cells, in the order in which the grids come."""
    groups: list[tuple[Grid, list[int]]] = []
    for index, part in enumerate(parts):
        grid = Grid.of(harmonise(part)[0]).masked(None)
        known = next((members for other, members in groups if other == grid), None)
        if known is None:
            groups.append((grid, [index]))
        else:
            known.append(index)
    return [members for _, members in groups]


def _on(fields: xr.Dataset, grid: Grid, theirs: str, first: str) -> xr.Dataset:
    fields = turned(fields, grid)
    operator = Operator.bilinear(Grid.of(fields), grid)
    outside = float(np.mean(operator.coverage <= 0))
    if outside > 0:
        raise InputError(
            f"{theirs} does not reach over {outside:.0%} of the cells of {first}; expected a grid that covers it; give "
            "a larger file, or name the smaller one first"
        )
    return operator(fields)
