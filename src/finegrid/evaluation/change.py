"""What a climate change does to fine fields, and whether it is the change of the coarse model that they came from.

For a statistic s of each cell over a historical and a future period,

    change          s(future) - s(historical)                 for rain 100 (s(future) / s(historical) - 1), in %
    statistics s    mean; p05 and p95, percentiles of all times (no p05 of rain, which is zero);
                    variability, the standard deviation about the means of the calendar months
    preservation    change of A s(fine) less change of s(coarse), A the mean over the fine cells of a coarse cell

A statistical downscaler may alter the change that its model shows, through transfer functions that saturate or bias
adjustment of quantiles; whether that is added value or an artefact has to be argued, not overlooked (Maraun 2016,
doi:10.1007/s40641-016-0050-x). A downscaler that conserves keeps the change of the mean exactly; changes of percentiles
and of variability may differ, as weather of fine cells is not that of their mean.

Values for the area are changes of the mean over the cells by area, so that dry cells have no weight in a quotient. Of
members, statistics are taken one by one and then averaged: the mean of members would vary too little.

>>> found = change(fine, historical="1981/2010", future="2071/2100", coarse=model)     # doctest: +SKIP
>>> print(found.table())                                                               # doctest: +SKIP
>>> found.preservation.rows, found.preservation.map                                    # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, find_variable
from finegrid.conventions.spans import overlap, period
from finegrid.evaluation.climates import Map, Shift, Source, mean_over
from finegrid.evaluation.preservation import Preservation, found_row, markdown, plain, preservation_of
from finegrid.evaluation.wording import labelled, number


@dataclass(frozen=True)
class Change:
    """How one statistic changes, mean over the area.

    Attributes:
        source: whose it is: "prediction", "truth" or "coarse".
        variable: name of the variable.
        statistic: "mean", "p05", "p95" or "variability".
        value: change of the mean over the cells by area.
        spread: standard deviation over the cells by area of their own changes.
        units: of the two; "%" for rain.
        historical: the statistic in the historical period, mean over the area.
        future: that in the future.
        statistic_units: of the two.
    """

    source: str
    variable: str
    statistic: str
    value: float
    spread: float
    units: str
    historical: float
    future: float
    statistic_units: str


@dataclass(frozen=True, eq=False)
class ClimateChange:
    """Changes of all sources, variables and statistics.

    Attributes:
        historical: period in the user's words.
        future: the later one.
        rows: means over the area.
        maps: changes in each cell, as `tas_mean`, by source; each on its own grid and in the user's names.
        preservation: the prediction beside the coarse model; None without one.
    """

    historical: str
    future: str
    rows: tuple[Change, ...]
    maps: Mapping[str, xr.Dataset] = field(repr=False)
    preservation: Preservation | None = None

    def of(self, source: str, variable: str, statistic: str) -> Change:
        """One row.

        Raises:
            KeyError: when there is none.
        """
        return found_row(self.rows, source=source, variable=variable, statistic=statistic)

    def table(self) -> str:
        """Markdown, a row for each variable and statistic and a column for each source."""
        sources = tuple(self.maps)
        keys = dict.fromkeys((each.variable, each.statistic, each.units) for each in self.rows)
        cells = {(each.variable, each.statistic, each.source): number(each.value) for each in self.rows}
        rows = [
            [name, labelled(statistic, units), *(cells[name, statistic, source] for source in sources)]
            for name, statistic, units in keys
        ]
        return markdown([["variable", "change of", *sources], *rows])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None and without maps."""
        kept = {} if self.preservation is None else {"preservation": self.preservation.to_dict()}
        return {
            "historical": self.historical,
            "future": self.future,
            "changes": [plain(each) for each in self.rows],
            **kept,
        }


def change(
    prediction: xr.Dataset,
    *,
    historical: str,
    future: str,
    truth: xr.Dataset | None = None,
    coarse: xr.Dataset | None = None,
    variables: Sequence[str] | None = None,
) -> ClimateChange:
    """The change from one period to another, of fine fields and of what they are compared with.

    Args:
        prediction: fine fields in the user's names that have both periods, with or without members.
        historical: a period, such as "1981/2010".
        future: a later one.
        truth: fine fields of both periods on any grid, such as those of a regional model.
        coarse: those of the coarse model that the prediction was made from.
        variables: names in the prediction; by default all that have times.

    Raises:
        InputError: on periods that overlap or hold too few times, a variable that a source lacks, or units that do not
            convert.
    """
    periods = _periods(historical, future)
    given = {"prediction": prediction, "truth": truth, "coarse": coarse}
    sources = {name: Source.of(fields, name) for name, fields in given.items() if fields is not None}
    own = sources["prediction"]
    units = {name: own.fields[name].attrs.get("units") for name in _variables(own, variables)}
    shifts = {
        source.name: {name: Shift.of(source, name, periods, units=each) for name, each in units.items()}
        for source in sources.values()
    }
    rows = tuple(
        _row(source, name, statistic, shift)
        for source in sources.values()
        for name, shift in shifts[source.name].items()
        for statistic in shift.statistics
    )
    maps = {source.name: _maps(source, shifts[source.name]) for source in sources.values()}
    if coarse is None:
        return ClimateChange(*periods, rows, maps)
    kept = preservation_of(own, sources["coarse"], shifts["prediction"], shifts["coarse"])
    return ClimateChange(*periods, rows, maps, kept)


def _periods(historical: str, future: str) -> tuple[str, str]:
    try:
        periods = period(historical), period(future)
    except ValueError as error:
        raise InputError(f'got a period that cannot be read: {error}; expected two such as "1981/2010"') from None
    if overlap(*periods):
        raise InputError(f"got the periods {historical} and {future}, which overlap; expected two apart; shorten one")
    return periods


def _variables(source: Source, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if wanted is not None:
        return tuple(find_variable(source.fields, name, source=source.name) for name in wanted)
    there = tuple(str(name) for name, each in source.fields.data_vars.items() if {"time", "y", "x"} <= set(each.dims))
    if not there:
        raise InputError("got a prediction without a variable that has times; expected fields (time, y, x)")
    return there


def _row(source: Source, variable: str, statistic: str, shift: Shift) -> Change:
    before, after, local = shift.historical[statistic], shift.future[statistic], shift.change(statistic)
    area, there, known = source.grid.area, np.isfinite(before) & np.isfinite(after), np.isfinite(local)
    historical, future = (mean_over(each, area, there) for each in (before, after))
    value = float(shift.between(np.array(historical), np.array(future)))
    spread = float(np.sqrt(mean_over((local - mean_over(local, area, known)) ** 2, area, known)))
    return Change(source.name, variable, statistic, value, spread, shift.change_units, historical, future, shift.units)


def _maps(source: Source, shifts: Mapping[str, Shift]) -> xr.Dataset:
    return source.mapped(
        {
            f"{name}_{statistic}": Map(
                shift.change(statistic), shift.change_units, f"change of the {statistic} of {name}"
            )
            for name, shift in shifts.items()
            for statistic in shift.statistics
        }
    )
