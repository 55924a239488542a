"""The climate of a period in a few statistics of each cell, and how it changes from one period to another.

mean           over all times
p05, p95       percentiles of all times, linear between order statistics
variability    standard deviation about the means of the calendar months
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, Names, convert_units, find_variable, harmonise, restore
from finegrid.conventions.spans import bounds
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import Cells, Clock, anomalies, mean_of_known
from finegrid.evaluation.indices.moments import column_quantile
from finegrid.evaluation.indices.series import LEAST_TIMES, is_rain, values_of
from finegrid.grids import Grid

Mask = NDArray[np.bool_]

STATISTICS = ("mean", "p05", "p95", "variability")
_PERCENTILES = {"p05": 0.05, "p95": 0.95}
# Values of all members in a block of rows: 64 MiB as float64.
_VALUES_AT_ONCE = 1 << 23


@dataclass(frozen=True, eq=False)
class Map:
    """Values (y, x), their units, and what they are in words."""

    values: Array
    units: str
    words: str


@dataclass(frozen=True, eq=False)
class Source:
    """Fields of one origin in standard form.

    Attributes:
        name: who made them.
        fields: in standard form.
        names: the way back to the user's.
    """

    name: str
    fields: xr.Dataset
    names: Names

    @classmethod
    def of(cls, fields: xr.Dataset, name: str) -> Source:
        """A user's fields."""
        return cls(name, *harmonise(fields, source=name))

    @property
    def grid(self) -> Grid:
        """Where they lie."""
        return Grid.of(self.fields)

    def mapped(self, maps: Mapping[str, Map]) -> xr.Dataset:
        """Maps on the grid of the fields, in the user's names."""
        bare = self.fields.drop_vars([*self.fields.data_vars, "time", "time_bounds", "member"], errors="ignore")
        placed = {
            name: (("y", "x"), each.values, {"units": each.units, "long_name": each.words})
            for name, each in maps.items()
        }
        return restore(bare.assign(placed), self.names)

    def within(self, variable: str, period: str, *, units: str | None) -> xr.DataArray:
        """The times of a variable in a period, in units.

        Raises:
            InputError: when there are too few.
        """
        field = self.fields[find_variable(self.fields, variable, source=self.name)]
        chosen = field.sel(time=bounds(period))
        if chosen.sizes["time"] < LEAST_TIMES:
            time = field.indexes["time"]
            raise InputError(
                f"got {chosen.sizes['time']} times of '{variable}' in {self.name} in the period {period}; expected at "
                f"least {LEAST_TIMES}; it has times from {str(time[0])[:10]} to {str(time[-1])[:10]}: choose another "
                "period, or join the files of both with xr.concat([...], 'time')"
            )
        return chosen if units is None else convert_units(chosen, units, source=self.name)


@dataclass(frozen=True, eq=False)
class Shift:
    """The climates of a variable in two periods.

    Attributes:
        historical: statistics (y, x) by name.
        future: the same of the later period.
        is_rain: whether changes are relative.
        units: of the statistics.
    """

    historical: Mapping[str, Array]
    future: Mapping[str, Array]
    is_rain: bool
    units: str

    @classmethod
    def of(cls, source: Source, variable: str, periods: tuple[str, str], *, units: str | None) -> Shift:
        """Read both periods, block of rows by block of rows."""
        fields = [source.within(variable, period, units=units) for period in periods]
        historical, future = (_climate(field) for field in fields)
        return cls(historical, future, is_rain(fields[0]), str(fields[0].attrs.get("units", "1")))

    @property
    def change_units(self) -> str:
        """Units of changes."""
        return "%" if self.is_rain else self.units

    def between(self, historical: Array, future: Array) -> Array:
        """Change from one statistic to another of the same shape; NaN without any rain to compare with."""
        return 100.0 * (ratio(future, historical) - 1.0) if self.is_rain else np.asarray(future - historical)

    def change(self, statistic: str) -> Array:
        """Change of a statistic (y, x) in each cell."""
        return self.between(self.historical[statistic], self.future[statistic])

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of those that there are; the low percentile of rain is zero and has no quotient."""
        return tuple(name for name in STATISTICS if not (self.is_rain and name == "p05"))


def mean_over(values: Array, area: Array, known: Mask) -> float:
    """Mean of known values by area; NaN without any."""
    return float(np.average(values[known], weights=area[known])) if known.any() else np.nan


def _climate(field: xr.DataArray) -> dict[str, Array]:
    """Statistics (y, x) of a field (time, y, x) with or without members, the mean over those of each member."""
    rows, columns = field.sizes["y"], field.sizes["x"]
    month = np.asarray(field["time"].dt.month.values, dtype=np.intp)
    clock = Clock(month, np.ones(len(month), dtype=bool))
    step = max(1, _VALUES_AT_ONCE // max(1, field.size // rows))
    parts = [
        _statistics(values_of(field.isel(y=slice(start, min(start + step, rows)))), clock)
        for start in range(0, rows, step)
    ]
    return {name: np.concatenate([part[name] for part in parts]).reshape(rows, columns) for name in STATISTICS}


def _statistics(values: Array, clock: Clock) -> dict[str, Array]:
    """Statistics (cell,) of values (time, member, cell); NaN where too little is known."""
    cells = Cells(values, clock)
    columns, departures = cells.columns, anomalies(cells)
    found = {
        "mean": mean_of_known(columns, axis=0),
        **{name: column_quantile(columns, level) for name, level in _PERCENTILES.items()},
        "variability": np.sqrt(mean_of_known(departures**2, axis=0)),
    }
    enough = np.isfinite(columns).sum(axis=0) >= LEAST_TIMES
    shape = values.shape[1:]
    return {name: mean_of_known(np.where(enough, each, np.nan).reshape(shape), axis=0) for name, each in found.items()}
