"""Units of fields, checked and converted.

Pint does the arithmetic; this module teaches it to read CF and GRIB spellings (`kg m-2 s-1`, `m s**-1`, `m of
water equivalent`) and two identities that downscaling needs and dimensional analysis does not know:

    water        1 m of depth = 1000 kg m-2                          (density of liquid water)
    time step    amount = flux * interval                            (mm and mm/day, J m-2 and W m-2)

The second one needs the length of a time step, taken from the time coordinate when the caller does not give
it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions.errors import InputError

_SECONDS_PER_DAY = 86400.0
# A letter followed by a (signed) whole number is a power: m-2, s2; but not the exponent of 1e-3.
_POWER = re.compile(r"(?<=[A-Za-z])(?<!\d[eE])(?=[+-]?\d)")
_SPELLINGS = {"": "1", "-": "1", "~": "1", "(0 - 1)": "1", "%": "percent", "deg C": "degC", "mb": "mbar"}


@lru_cache(maxsize=1)
def _registry() -> Any:
    # Not cf_xarray.units: importing that replaces the application-wide registry of whoever uses us.
    import pint

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    for alias in (
        "degC = C = deg_C = celsius = Celsius = degree_Celsius = degrees_Celsius",
        "kelvin = Kelvin = degK = deg_K",
        "day = d = Day = days",
        "meter = gpm",
        "degree = degrees_north = degree_north = degrees_east = degree_east",
    ):
        registry.define(f"@alias {alias}")
    return registry


@lru_cache(maxsize=1024)
def unit_conversion(
    source_units: str, target_units: str, *, interval_seconds: float | None = None
) -> tuple[float, float]:
    """Scale and offset with `target = scale * value + offset`.

    Args:
        source_units: units of the values, in CF or GRIB spelling.
        target_units: units wanted.
        interval_seconds: length of a time step, needed between an amount and a flux.

    Raises:
        InputError: when a unit is unknown, or there is no way from one to the other.
    """
    if source_units == target_units:
        return 1.0, 0.0  # without pint, which takes most of a second to begin
    source, target = _known(source_units), _known(target_units)
    if source.dimensionality == target.dimensionality:
        return _affine(source, target)
    registry = _registry()
    density = registry.Quantity(1000.0, "kg m**-3")
    interval = registry.Quantity(interval_seconds or 1.0, "s")
    for water, step in product((0, 1, -1), (0, -1, 1)):
        value = registry.Quantity(1.0, source) * density**water * interval**step
        if value.dimensionality != target.dimensionality:
            continue
        if step and interval_seconds is None:
            raise InputError(
                f"got '{source_units}' where '{target_units}' is wanted: one is an amount, the other a flux. "
                "The conversion needs the length of a time step; pass interval_seconds=..., such as 86400 "
                "for daily totals"
            )
        return float(value.to(target).magnitude), 0.0
    raise InputError(
        f"got units '{source_units}' where '{target_units}' is wanted; these measure different things. "
        "Choose another variable, or correct the attribute: fields['name'].attrs['units'] = '...'"
    )


def _known(units: str) -> Any:
    """The unit as pint's, from CF or GRIB spelling."""
    registry, spelling = _registry(), str(units).strip().replace(" of water equivalent", "")
    try:
        return registry.Unit(_POWER.sub("**", _SPELLINGS.get(spelling, spelling)))
    except Exception as error:  # pint raises half a dozen kinds, among them plain TypeError and tokenize errors
        raise InputError(
            f"got unknown units '{units}'; expected CF units such as 'K', 'm s-1', 'mm/day' or 'kg m-2 s-1'. "
            "Correct the attribute: fields['name'].attrs['units'] = '...'"
        ) from error


def _affine(source: Any, target: Any) -> tuple[float, float]:
    registry = _registry()
    zero = float(registry.Quantity(0.0, source).to(target).magnitude)
    one = float(registry.Quantity(1.0, source).to(target).magnitude)
    if abs(zero) < 1e-9:
        return one, 0.0
    return one - zero, zero


def convert_units(
    field: xr.DataArray,
    target_units: str,
    *,
    source: str = "input",
    interval_seconds: float | xr.DataArray | None = None,
) -> xr.DataArray:
    """The field in `target_units`, lazily, with the other attributes kept.

    Args:
        field: values with an attribute `units`; with a coordinate `time` where an amount meets a flux.
        target_units: units wanted.
        source: words for the file in error messages.
        interval_seconds: length of a time step, or of each; by default `step_seconds` of the field.

    Raises:
        InputError: when units are missing, unknown or incompatible.
    """
    units = field.attrs.get("units")
    if units is None:
        raise InputError(
            f"variable '{field.name}' of {source} has no units; expected '{target_units}' or units that convert to it. "
            f"Set them: fields['{field.name}'].attrs['units'] = '{target_units}'"
        )
    try:
        scale, offset = _conversion(field, str(units), target_units, interval_seconds)
    except InputError as error:
        raise InputError(f"variable '{field.name}' of {source}: {error}") from error
    same = isinstance(scale, float) and (scale, offset) == (1.0, 0.0)
    converted = field if same else (field * scale + offset).astype(field.dtype)
    return converted.assign_attrs({**field.attrs, "units": target_units})


def _conversion(
    field: xr.DataArray, units: str, target_units: str, interval: float | xr.DataArray | None
) -> tuple[float | xr.DataArray, float]:
    try:
        fixed = None if isinstance(interval, xr.DataArray) else interval
        return unit_conversion(units, target_units, interval_seconds=fixed)
    except InputError:
        if fixed is not None or "time" not in field.coords:
            raise
        one, _ = unit_conversion(units, target_units, interval_seconds=1.0)  # raises unless an interval is all it lacks
    day, _ = unit_conversion(units, target_units, interval_seconds=_SECONDS_PER_DAY)
    seconds = step_seconds(field) if interval is None else interval
    return (one * seconds if day > one else one / seconds), 0.0


def step_seconds(field: xr.DataArray | xr.Dataset) -> float | xr.DataArray:
    """Length of the time steps in seconds: one number, or one per step for months and from `time_bounds`.

    A Dataset may carry bounds, a DataArray cannot. Gaps (a series of winters) do not count: most steps decide.

    Raises:
        InputError: when fewer than three quarters of the steps agree and they are not months.
    """
    if "time_bounds" in field.coords:
        bounds = field.coords["time_bounds"]
        return _seconds(bounds.isel(bounds=1) - bounds.isel(bounds=0)).drop_vars("time_bounds", errors="ignore")
    time = field["time"]
    steps = _seconds(time.diff("time")).values
    if len(steps):
        typical = float(np.median(steps))
        if np.mean(np.abs(steps - typical) < 0.01 * typical) >= 0.75:
            return typical
        if 28 <= typical / _SECONDS_PER_DAY <= 31:
            return time.dt.days_in_month * _SECONDS_PER_DAY
    raise InputError("the steps of time differ, or there is only one; pass interval_seconds=...")


def _seconds(differences: xr.DataArray) -> xr.DataArray:
    """Timedeltas of either kind (numpy's or datetime's) as seconds."""
    return (differences.astype("timedelta64[ns]") / np.timedelta64(1, "s")).astype(np.float64)
