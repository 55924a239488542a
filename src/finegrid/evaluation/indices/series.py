"""Truth and predictions of a variable as indices want them: one value a day where steps are shorter, rain in mm/day.

Steps shorter than a day become daily means (of rain: the amount of the day); a day that the record covers in part is
missing. Longer steps stay as they are, and have no indices of days. Everything stays lazy until some rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, convert_units, step_seconds, unit_conversion
from finegrid.conventions.variables import standard_name_of
from finegrid.evaluation.alignment import Case
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import Clock, Kind
from finegrid.grids import Grid, TimeOperator

RAIN_UNITS = "mm/day"
LEAST_TIMES = 30
"""Fewer known values in a cell give no index."""

_DAY = 86_400.0
_SHORT, _GAP = 0.9, 1.5
_RAINY = ("precipitation", "rainfall")
# Values of all members in a block of rows: 32 MiB as float64, and some ten arrays of that size while they are judged.
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Series:
    """Fields on common times.

    Attributes:
        name: of the variable.
        truth: (time, y, x), or its members (member, time, y, x): of a mean the climate would be too smooth.
        predictions: (member, time, y, x) by method.
        clock: about the times.
        kind: what decides which indices there are.
        units: of the values.
    """

    name: str
    truth: xr.DataArray
    predictions: Mapping[str, xr.DataArray]
    clock: Clock
    kind: Kind
    units: str

    @classmethod
    def of(cls, case: Case) -> Series:
        """The series of a case.

        Raises:
            InputError: when the steps of time differ, precipitation has no units, or there are too few times.
        """
        step = _step_days(case)
        rainy = is_rain(case.truth)
        fields = [case.truth if case.members is None else case.members, *case.predictions.values()]
        fields = [_in_rain_units(each) for each in fields] if rainy else fields
        if step < _SHORT:
            daily = TimeOperator.of(case.truth["time"], step="day")
            fields, step = [daily(each.assign_coords(time=case.truth["time"])) for each in fields], 1.0
        truth, *others = fields
        _check_length(truth, case.name, step)
        time, (rows, columns) = truth["time"], (truth.sizes["y"], truth.sizes["x"])
        month = np.asarray(time.dt.month.values, dtype=np.intp)
        gaps = (time.diff("time").values.astype("timedelta64[s]").astype(np.float64)) / _DAY
        years = np.asarray(time.dt.year.values, dtype=np.intp)
        clock = Clock(month, np.concatenate([[False], gaps < _GAP * step]), step, years)
        warm = is_temperature(truth)
        kind = Kind(rainy, clock.is_daily, len(np.unique(month)), rows * columns, warm)
        units = RAIN_UNITS if rainy else str(truth.attrs.get("units", "1")) or "1"
        return cls(case.name, truth, dict(zip(case.predictions, others, strict=True)), clock, kind, units)

    @property
    def grid(self) -> Grid:
        """Where the fields lie."""
        return Grid.of(self.truth)

    def blocks(self) -> Iterator[slice]:
        """Rows that can be held in memory with all members."""
        members = max(field.sizes.get("member", 1) for field in (self.truth, *self.predictions.values()))
        rows, columns = self.truth.sizes["y"], self.truth.sizes["x"]
        step = max(1, _VALUES_AT_ONCE // (members * columns * self.truth.sizes["time"]))
        return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def values_of(part: xr.DataArray) -> Array:
    """Values (time, member, cell) of a part of a field; one member where there is none."""
    part = part if "member" in part.dims else part.expand_dims("member")
    values = np.asarray(part.transpose("time", "member", "y", "x").values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan).reshape(*values.shape[:2], -1)


def is_rain(field: xr.DataArray) -> bool:
    """Whether a variable is precipitation, by its standard name or its usual one."""
    return any(word in standard_name_of(str(field.name), field.attrs) for word in _RAINY)


def is_temperature(field: xr.DataArray) -> bool:
    """Whether a variable is a temperature, by its units."""
    try:
        unit_conversion(str(field.attrs.get("units", "")), "K")
    except InputError:
        return False
    return True


def _step_days(case: Case) -> float:
    try:
        return float(np.median(step_seconds(case.truth))) / _DAY
    except InputError:
        raise InputError(
            f"got {case.truth.sizes['time']} times of '{case.name}' whose steps differ; expected steps of one length, "
            "gaps between seasons apart; select times of one step, or leave the indices out"
        ) from None


def _in_rain_units(field: xr.DataArray) -> xr.DataArray:
    # Double precision: a threshold must not depend on how a conversion is rounded.
    return convert_units(field.astype(np.float64), RAIN_UNITS, source="truth and predictions")


def _check_length(truth: xr.DataArray, name: str, step: float) -> None:
    if truth.sizes["time"] < LEAST_TIMES:
        unit = "days" if abs(step - 1) < 1 - _SHORT else "times"
        raise InputError(
            f"got {truth.sizes['time']} {unit} of '{name}'; expected at least {LEAST_TIMES} for the indices of its "
            "climate; give a longer record, or leave the indices out"
        )
