"""Whether fine fields change as the coarse model does that they were made from (see `change`).

With A the mean over the fine cells of a coarse cell by area, the statistics of the fine fields in both periods are
averaged first and their change is taken then: a mean of quotients is no quotient of means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from finegrid.data.matching import COVERED
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.climates import Map, Shift, Source, mean_over
from finegrid.evaluation.wording import labelled, number
from finegrid.grids import Operator

Row = TypeVar("Row")


@dataclass(frozen=True)
class Preserved:
    """How the change of fine fields compares with that of the coarse model, in the coarse cells that both have.

    Attributes:
        variable: name of the variable.
        statistic: "mean", "p05", "p95" or "variability".
        fine: change of the fine fields, mean over the area.
        coarse: that of the coarse model.
        difference: the first less the second.
        error: root mean square over coarse cells of the difference of their changes, by area.
        units: of the four; "%" for rain.
        cells: number of coarse cells.
    """

    variable: str
    statistic: str
    fine: float
    coarse: float
    difference: float
    error: float
    units: str
    cells: int


@dataclass(frozen=True, eq=False)
class Preservation:
    """The change of fine fields beside that of the coarse model.

    Attributes:
        rows: one for each variable and statistic.
        map: difference of the changes in each coarse cell, as `tas_mean`, on the coarse grid in the user's names.
    """

    rows: tuple[Preserved, ...]
    map: xr.Dataset = field(repr=False)

    def of(self, variable: str, statistic: str) -> Preserved:
        """One row.

        Raises:
            KeyError: when there is none.
        """
        return found_row(self.rows, variable=variable, statistic=statistic)

    def table(self) -> str:
        """Markdown, a row for each variable and statistic."""
        head = ["variable", "change of", "fine", "coarse", "difference", "root mean square"]
        rows = [
            [each.variable, labelled(each.statistic, each.units)]
            + [number(value) for value in (each.fine, each.coarse, each.difference, each.error)]
            for each in self.rows
        ]
        return markdown([head, *rows])

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values for JSON, NaN as None."""
        return [plain(each) for each in self.rows]


def preservation_of(fine: Source, coarse: Source, own: Mapping[str, Shift], given: Mapping[str, Shift]) -> Preservation:
    """Fine fields and their changes by variable beside those of the coarse model, in cells within the fine grid."""
    operator = Operator.conservative(fine.grid, coarse.grid)
    inside = operator.coverage >= COVERED
    rows, maps = [], {}
    for name, shift in own.items():
        for statistic in shift.statistics:
            means = [_block_means(each[statistic], fine, operator) for each in (shift.historical, shift.future)]
            theirs = [given[name].historical[statistic], given[name].future[statistic]]
            there = inside & np.isfinite([*means, *theirs]).all(axis=0)
            away = shift.between(*means) - shift.between(*theirs)
            weights = np.where(there, coarse.grid.area, 0.0)
            rows.append(_row(name, statistic, shift, [*means, *theirs], away, weights))
            words = f"change of the {statistic} of {name}, fine less coarse"
            maps[f"{name}_{statistic}"] = Map(np.where(there, away, np.nan), shift.change_units, words)
    return Preservation(tuple(rows), coarse.mapped(maps))


def _block_means(statistic: Array, fine: Source, operator: Operator) -> Array:
    """Means (h, w) over coarse cells of a statistic (y, x), over the cells that have one."""
    coords = {name: coord for name, coord in fine.grid.coords().items() if name in ("y", "x", "crs", "lat", "lon")}
    return np.asarray(operator(xr.DataArray(statistic, coords=coords, dims=("y", "x"))).values)


def _row(name: str, statistic: str, shift: Shift, periods: Sequence[Array], away: Array, weights: Array) -> Preserved:
    """A row from the fine and coarse statistics of both periods (h, w) in cells of a weight."""
    there = weights > 0
    before, after, given_before, given_after = (np.array(mean_over(each, weights, there)) for each in periods)
    fine, coarse = float(shift.between(before, after)), float(shift.between(given_before, given_after))
    error = float(np.sqrt(mean_over(away**2, weights, there & np.isfinite(away))))
    return Preserved(name, statistic, fine, coarse, fine - coarse, error, shift.change_units, int(there.sum()))


def found_row(rows: Sequence[Row], **wanted: str) -> Row:
    """The row with these words.

    Raises:
        KeyError: when there is none.
    """
    for row in rows:
        if all(getattr(row, name) == word for name, word in wanted.items()):
            return row
    raise KeyError(", ".join(wanted.values()))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its head first."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def plain(row: Any) -> dict[str, Any]:
    """Plain values for JSON, NaN as None."""
    return {name: None if isinstance(each, float) and np.isnan(each) else each for name, each in asdict(row).items()}
