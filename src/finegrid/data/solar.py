"""Sunshine at the top of the atmosphere: the most that can reach the ground, by time, latitude and longitude.

    S = S0 E (sin(lat) sin(d) + cos(lat) cos(d) cos(h)), where that is positive,

with the declination d, the factor E of the distance to the sun and the equation of time from Fourier series in the day
of the year (Spencer, Search 2(5), 1971; errors below 0.0006 rad, 0.0001 and 35 s), and the hour angle h. Means over a
step of time are closed integrals over h between sunrise and sunset. In what part of a step a time stamp stands is often
not said: an upper limit is the larger of the means before and after the stamp.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[np.float64]

SOLAR_CONSTANT = 1361.0
"""Irradiance at the mean distance of the sun in W m-2 (Kopp and Lean, Geophys. Res. Lett. 38, 2011)."""

_DAY = 86400.0


def highest_sunshine(time: xr.DataArray, latitude: Array, longitude: Array, *, seconds: float) -> NDArray[np.float32]:
    """Upper limit (time, y, x) in W m-2 of shortwave radiation at the ground, as a mean over a step.

    Args:
        time: stamps in UTC.
        latitude: of the cells (y, x) in degrees.
        longitude: likewise.
        seconds: length of the step that values are means over.
    """
    day, hours = _day_and_hours(time)
    if seconds >= 0.99 * _DAY:
        # The middle of the day before the stamp and of that after it. The longest days of a step of a month, which is
        # stamped at its beginning or in its middle, are at one of its ends, or in its middle.
        steps = [-0.5, 0.5] if seconds < 1.5 * _DAY else [0.0, seconds / (2 * _DAY), seconds / _DAY]
        return np.asarray(np.maximum.reduce([_daily(day + step, latitude) for step in steps]))
    length = seconds / _DAY * 2 * np.pi
    parts = [_between(day, hours, latitude, longitude, start, start + length) for start in (-length, 0.0)]
    return np.asarray(np.maximum(*parts))


def _daily(day: Array, latitude: Array) -> NDArray[np.float32]:
    declination, distance, _ = _sun(day)
    phi, delta = np.deg2rad(latitude)[None], declination[:, None, None]
    sunset = _sunset(phi, delta)
    total = sunset * np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * np.sin(sunset)
    return np.asarray(np.maximum(SOLAR_CONSTANT / np.pi * distance[:, None, None] * total, 0), dtype=np.float32)


def _between(
    day: Array, hours: Array, latitude: Array, longitude: Array, start: float, stop: float
) -> NDArray[np.float32]:
    """Mean between two hour angles, counted from the stamps."""
    declination, distance, minutes = _sun(day + (start + stop) / (4 * np.pi))
    phi, delta = np.deg2rad(latitude)[None], declination[:, None, None]
    noon = 2 * np.pi * (hours / 24 + minutes / 1440 - 0.5)[:, None, None] + np.deg2rad(longitude)[None]
    noon = (noon + np.pi) % (2 * np.pi) - np.pi
    sunset, total = _sunset(phi, delta), np.zeros((len(day), *latitude.shape))
    # The step may begin before midnight and end after sunrise: the day before and after count too.
    for turn in (-2 * np.pi, 0.0, 2 * np.pi):
        first, last = (np.clip(noon + turn + each, -sunset, sunset) for each in (start, stop))
        slope = np.cos(phi) * np.cos(delta) * (np.sin(last) - np.sin(first))
        total += (last - first) * np.sin(phi) * np.sin(delta) + slope
    mean = SOLAR_CONSTANT * distance[:, None, None] * total / (stop - start)
    return np.asarray(np.maximum(mean, 0), dtype=np.float32)


def _sunset(phi: Array, delta: Array) -> Array:
    """Hour angle of sunset, 0 in polar night and pi in polar day."""
    return np.asarray(np.arccos(np.clip(-np.tan(phi) * np.tan(delta), -1, 1)))


def _sun(day: Array) -> tuple[Array, Array, Array]:
    """Declination in radians, (mean distance / distance)2, and the equation of time in minutes."""
    b = 2 * np.pi * day / 365
    declination = (
        0.006918 - 0.399912 * np.cos(b) + 0.070257 * np.sin(b) - 0.006758 * np.cos(2 * b)
        + 0.000907 * np.sin(2 * b) - 0.002697 * np.cos(3 * b) + 0.00148 * np.sin(3 * b)
    )  # fmt: skip
    distance = (
        1.00011 + 0.034221 * np.cos(b) + 0.00128 * np.sin(b) + 0.000719 * np.cos(2 * b) + 0.000077 * np.sin(2 * b)
    )
    minutes = 229.18 * (
        0.000075 + 0.001868 * np.cos(b) - 0.032077 * np.sin(b) - 0.014615 * np.cos(2 * b) - 0.040849 * np.sin(2 * b)
    )
    return declination, distance, minutes


def _day_and_hours(time: xr.DataArray) -> tuple[Array, Array]:
    """Days and parts of days since the first of January in a year of 365 days, and hours of the day."""
    dates = time.dt
    hours = np.asarray((dates.hour + dates.minute / 60 + dates.second / 3600).values, dtype=np.float64)
    stretch = {"360_day": 365 / 360}.get(str(dates.calendar), 1.0)
    return np.asarray((dates.dayofyear.values - 1 + hours / 24) * stretch, dtype=np.float64), hours
