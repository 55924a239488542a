"""What helps to predict besides the coarse value itself: hour and season, the times before and after, the place.

There are three kinds:

    cycles    sine and cosine (and their first overtone) of the hour of day and of the day of year, in the calendar
              of the data
    frames    the coarse field at neighbouring time steps; at the ends of a record and beside a gap the field itself
    static    elevation, the land fraction and other fields without time on the fine grid, the slope of elevation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cftime
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, harmonise
from finegrid.grids import Grid, Operator

CYCLES = ("hour", "day_of_year")
_OVERTONES = (1, 2)
_DAY = 86400.0
_EARTH_RADIUS = 6_371_000.0
# A season must have been seen once around before its phase means anything.
_SEASONAL_SPAN = 0.8 * 365 * _DAY


def cycles(time: xr.DataArray, kinds: Sequence[str]) -> NDArray[np.float32]:
    """Sines and cosines of the phases of each kind, (time, 4 * number of kinds)."""
    columns = []
    for kind in kinds:
        phase = 2 * np.pi * _phase(time, kind)
        columns += [wave(overtone * phase) for overtone in _OVERTONES for wave in (np.sin, np.cos)]
    return np.stack(columns, axis=-1).astype(np.float32) if columns else np.zeros((len(time), 0), np.float32)


def useful_cycles(time: xr.DataArray) -> tuple[str, ...]:
    """The cycles that these times can teach: the hour when there are several a day, the season after most of a year."""
    seconds = seconds_since_start(time)
    found = []
    if len(seconds) > 1 and np.median(np.diff(seconds)) < _DAY:
        found.append("hour")
    if len(seconds) and seconds[-1] - seconds[0] > _SEASONAL_SPAN:
        found.append("day_of_year")
    return tuple(found)


def frame_indices(time: xr.DataArray, offset: int) -> NDArray[np.intp]:
    """For every time the index of the one `offset` steps away, or its own where that is missing."""
    own = np.arange(len(time))
    seconds = seconds_since_start(time)
    if not offset or len(own) < 2:
        return own
    step = float(np.median(np.diff(seconds)))
    other = np.clip(own + offset, 0, len(own) - 1)
    near = np.abs(seconds[other] - seconds - offset * step) <= 0.5 * step
    return np.where(near, other, own)


def seconds_since_start(time: xr.DataArray) -> NDArray[np.float64]:
    """Seconds from the first time, in any calendar."""
    if not len(time):
        return np.zeros(0)
    differences = time.values - time.values[0]
    if np.issubdtype(differences.dtype, np.timedelta64):
        return np.asarray(differences / np.timedelta64(1, "s"), dtype=np.float64)
    return np.array([difference.total_seconds() for difference in differences])


def usual_step(time: xr.DataArray) -> float:
    """Seconds between most of the times; a day where there is only one."""
    seconds = seconds_since_start(time)
    return float(np.median(np.diff(seconds))) if len(seconds) > 1 else _DAY


def steps_since_epoch(time: xr.DataArray, step_seconds: float) -> NDArray[np.int64]:
    """The number of each time step since 1970, in any calendar."""
    values = time.values
    if np.issubdtype(values.dtype, np.datetime64):
        seconds = (values - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    else:
        seconds = cftime.date2num(values, "seconds since 1970-01-01", calendar=str(time.dt.calendar))
    return np.floor(np.asarray(seconds, dtype=np.float64) / step_seconds).astype(np.int64)


def days_of_year(time: xr.DataArray) -> NDArray[np.float64]:
    """The phase of the year in days of a year of 366, in any calendar."""
    return 366.0 * _phase(time, "day_of_year")


def days_of_year_of_steps(steps: NDArray[np.int64], step_seconds: float, time: xr.DataArray) -> NDArray[np.float64]:
    """The same of time steps by number, in the calendar of these times; leap years shift it by less than a day."""
    phase = steps.astype(np.float64) * (step_seconds / _DAY / _days_in_year(time)) % 1.0
    return np.asarray(366.0 * phase)


def static_fields(static: xr.Dataset | Sequence[xr.Dataset], grid: Grid) -> xr.Dataset:
    """Fields without time on the fine grid, and the slope of elevation where there is one.

    Missing values become 0 (sea, for elevation). Depths of the sea count as height 0: weather does not feel the sea
    floor.

    Raises:
        InputError: when a field does not cover the grid.
    """
    result: dict[str, xr.DataArray] = {}
    for fields in [static] if isinstance(static, xr.Dataset) else static:
        standard, _ = harmonise(fields, static=True)
        on_grid = _remapped(standard, grid)
        for name, field in on_grid.data_vars.items():
            result |= _with_derived(str(name), field, grid)
    return xr.Dataset(result).assign_coords(grid.coords())


def _phase(time: xr.DataArray, kind: str) -> NDArray[np.float64]:
    if kind not in CYCLES:
        raise InputError(f"got the cycle '{kind}'; expected one of {', '.join(CYCLES)}; change data.cycles")
    dates = time.dt
    hours = (dates.hour + dates.minute / 60).values
    if kind == "hour":
        return np.asarray(hours / 24)
    return np.asarray((dates.dayofyear.values - 1 + hours / 24) / _days_in_year(time))


def _days_in_year(time: xr.DataArray) -> float:
    return {"360_day": 360.0, "noleap": 365.0, "365_day": 365.0}.get(str(time.dt.calendar), 365.25)


def _remapped(fields: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Means over the cells where the static field is finer than the grid, interpolated values where it is not."""
    source = Grid.of(fields)
    finer = np.median(source.area) < np.median(grid.area)
    operator = (Operator.conservative if finer else Operator.bilinear)(source, grid)
    mapped = operator(fields.map(_above_sea))
    for name, field in mapped.data_vars.items():
        share = float(field.isnull().mean())
        if share > 0.5:
            raise InputError(
                f"got the static field '{name}', which covers {1 - share:.0%} of the fine grid; expected all of it; "
                "give a "
                "static file of the whole domain"
            )
    return mapped.fillna(0.0)


def _is_elevation(field: xr.DataArray) -> bool:
    return field.attrs.get("standard_name") in ("surface_altitude", "height_above_mean_sea_level") or (
        str(field.name) in ("elevation", "orog", "topo", "dem", "altitude")
    )


def _above_sea(field: xr.DataArray) -> xr.DataArray:
    return field.clip(min=0, keep_attrs=True) if _is_elevation(field) else field


def _with_derived(name: str, field: xr.DataArray, grid: Grid) -> dict[str, xr.DataArray]:
    found: dict[str, xr.DataArray] = {name: field}
    if _is_elevation(field):
        slope = _slope(np.asarray(field.values, dtype=np.float64), grid)
        attributes: Mapping[str, Any] = {"long_name": f"slope of {name}", "units": "1"}
        found[f"{name}_slope"] = xr.DataArray(slope.astype(np.float32), dims=("y", "x"), attrs=attributes)
    return found


def _slope(height: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Rise over run, from differences of neighbouring cells in metres on the sphere."""
    latitude, longitude = (np.deg2rad(values) for values in grid.centres)
    squared = np.zeros_like(height)
    for axis in (0, 1):
        if height.shape[axis] < 2:
            continue
        turn = np.angle(np.exp(1j * np.gradient(np.unwrap(longitude, axis=axis), axis=axis)))
        run = _EARTH_RADIUS * np.hypot(np.gradient(latitude, axis=axis), np.cos(latitude) * turn)
        squared += (np.gradient(height, axis=axis) / np.maximum(run, 1.0)) ** 2
    return np.asarray(np.sqrt(squared))
