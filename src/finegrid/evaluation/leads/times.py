"""Forecasts by lead time and the truth at the times for which they are valid.

    valid time = initial time + lead time

A forecast is fields (init, lead, [member], y, x), in any of the usual names. Different systems are compared on the same
initial times, the same leads and the same cells and times at which their truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, convert_units, find_variable, harmonise
from finegrid.conventions.errors import described
from finegrid.data.members import mean_of_members
from finegrid.evaluation.averaging import Array
from finegrid.grids import Grid, nesting

_INIT = (
    "init",
    "init_time",
    "initialization_time",
    "initial_time",
    "forecast_reference_time",
    "reference_time",
    "time",
)
_LEAD = ("lead", "lead_time", "leadtime", "prediction_timedelta", "step", "forecast_period")
_UNITS = {
    "d": 86_400,
    "day": 86_400,
    "days": 86_400,
    "h": 3600,
    "hour": 3600,
    "hours": 3600,
    "minutes": 60,
    "seconds": 1,
}
_DAY = np.timedelta64(1, "D")
Leads = NDArray[np.timedelta64]


@dataclass(frozen=True, eq=False)
class Forecast:
    """One system's forecasts in standard form.

    Attributes:
        name: of the system.
        inits: initial times, ascending.
        leads: lead times, ascending.
        at: fields ([member], time, y, x) at each lead, `time` being the initial time.
    """

    name: str
    inits: pd.Index
    leads: Leads
    at: tuple[xr.Dataset, ...]

    @classmethod
    def of(cls, fields: xr.Dataset, name: str) -> Forecast:
        """The standard form of forecasts in any of the usual names; lazy when they come lazy.

        Raises:
            InputError: without initial and lead times, or with leads in no units of time.
        """
        init, lead = _dimensions(fields, name)
        leads = _leads_of(fields[lead], name)
        bare = fields.drop_vars(
            [key for key in fields.coords if lead in fields[key].dims or _is_valid_time(fields, key)]
        )
        order = np.argsort(leads)
        parts = (bare.isel({lead: index}, drop=True) for index in order)
        at = tuple(harmonise(_as_time(part, init), source=name)[0] for part in parts)
        return cls(name, at[0].indexes["time"], leads[order], at)

    def fields(self, lead: np.timedelta64, variable: str, like: xr.DataArray, inits: pd.Index) -> Array:
        """Values (member, init, y, x) at a lead and some initial times, in the units of a truth."""
        standard = self.at[int(np.flatnonzero(self.leads == lead)[0])]
        field = standard[find_variable(standard, variable, source=self.name)]
        field = field if "member" in field.dims else field.expand_dims("member")
        chosen = field.isel(time=np.flatnonzero(self.inits.isin(inits))).transpose("member", "time", "y", "x")
        return np.asarray(_in_units_of(like, chosen, self.name).values, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Truth:
    """What forecasts are verified against.

    Attributes:
        name: of the truth, such as "analysis".
        fields: standard fields (time, y, x).
    """

    name: str
    fields: xr.Dataset

    @classmethod
    def of(cls, fields: xr.Dataset, name: str) -> Truth:
        """The standard form; of members the mean."""
        return cls(name, mean_of_members(harmonise(fields, source=name)[0]))

    def field(self, variable: str) -> xr.DataArray:
        """One variable (time, y, x)."""
        found = find_variable(self.fields, variable, source=self.name)
        return self.fields[found].transpose("time", "y", "x")

    def check_grid(self, forecast: Forecast) -> None:
        """The same cells as a forecast.

        Raises:
            InputError: on other cells.
        """
        ours, theirs = Grid.of(self.fields), Grid.of(forecast.at[0])
        if nesting(theirs, ours) != (1, 1):
            raise InputError(
                f"got {forecast.name} on {theirs.shape[0]} x {theirs.shape[1]} cells and {self.name} on "
                f"{ours.shape[0]} x {ours.shape[1]}, or at another place; expected the same cells; bring one to the "
                "other's grid with finegrid.grids.Operator.conservative(Grid.of(fine), Grid.of(coarse))(fields)"
            )


def common_inits(forecasts: Sequence[Forecast]) -> pd.Index:
    """Initial times of all forecasts.

    Raises:
        InputError: when there is none.
    """
    common = forecasts[0].inits
    for each in forecasts[1:]:
        common = common[common.isin(each.inits)]
    if not len(common):
        extents = "; ".join(f"{each.name} {each.inits[0]} to {each.inits[-1]}" for each in forecasts)
        raise InputError(f"got no initial time that all forecasts have ({extents}); expected some; start them together")
    return common


def common_leads(forecasts: Sequence[Forecast]) -> Leads:
    """Lead times of all forecasts.

    Raises:
        InputError: when there is none.
    """
    common = forecasts[0].leads
    for each in forecasts[1:]:
        common = common[np.isin(common, each.leads)]
    if not len(common):
        raise InputError("got no lead time that all forecasts have; expected some; write them at the same leads")
    return common


def valid_times(inits: pd.Index, lead: np.timedelta64) -> pd.Index:
    """Times for which forecasts are valid, in any calendar."""
    return inits + pd.Timedelta(lead)


def at_times(field: xr.DataArray, times: pd.Index) -> Array:
    """Values (len(times), y, x) at some times, NaN where the field has none; a time may be wanted twice."""
    index = field.indexes["time"].get_indexer(times)
    values = np.full((len(times), *field.shape[1:]), np.nan)
    known = index >= 0
    values[known] = np.asarray(field.isel(time=index[known]).values, dtype=np.float64)
    return values


def in_days(lead: Any) -> float:
    """A lead time in days."""
    return float(lead / _DAY)


def _dimensions(fields: xr.Dataset, name: str) -> tuple[str, str]:
    dims = [str(dim) for dim in fields.dims]
    lead = next((word for word in _LEAD if word in dims), None)
    init = next((word for word in _INIT if word in dims), None)
    if init is None or lead is None:
        raise InputError(
            f"got {name} with {described(fields)}; expected initial and lead times as dimensions, called "
            "init and lead (or "
            f"{', '.join(_INIT[1:])}; {', '.join(_LEAD[1:])}); rename them with fields.rename({{'old': 'init'}}), or "
            "add one with fields.expand_dims('init')"
        )
    return init, lead


def _leads_of(lead: xr.DataArray, name: str) -> Leads:
    """Lead times; numbers need units."""
    if np.issubdtype(lead.dtype, np.timedelta64):
        return np.asarray(lead.values.astype("timedelta64[ns]"))
    unit = _UNITS.get(str(lead.attrs.get("units", "")))
    if unit is None or lead.dtype.kind not in "iuf":
        raise InputError(
            f"got the lead times of {name} in '{lead.attrs.get('units', 'no units')}'; expected hours or days; set "
            f"fields['{lead.name}'].attrs['units'] = 'hours'"
        )
    return np.asarray(np.round(lead.values * unit * 1e9).astype("timedelta64[ns]"))


def _is_valid_time(fields: xr.Dataset, key: object) -> bool:
    return key == "valid_time" or fields[key].attrs.get("standard_name") == "forecast_period"


def _as_time(fields: xr.Dataset, init: str) -> xr.Dataset:
    """Fields whose time is the initial time."""
    named = fields if init == "time" else fields.drop_vars("time", errors="ignore").rename({init: "time"})
    named["time"].attrs.update(standard_name="time", axis="T")
    return named


def _in_units_of(truth: xr.DataArray, field: xr.DataArray, source: str) -> xr.DataArray:
    units: Mapping[str, str | None] = {"truth": truth.attrs.get("units"), "field": field.attrs.get("units")}
    if None in units.values():
        return field
    return convert_units(field, str(units["truth"]), source=source)
