"""The one number a time that patterns follow: how a coarse file becomes it, and what of that training settled.

    d(t) = smoothed(x(t) - mean of x in the month of t in training)        x a mean over the file, or a series of it
    d(t) = a + c F(t)                                                      with a driver F, by least squares

The seasonal cycle is taken out before years are averaged, so that a year of which some months are missing has no
mean that is too warm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, find_variable, harmonise
from finegrid.data.series import is_series, series_of, smoothed
from finegrid.downscalers.patterns import LEAST_YEARS, MONTHS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Wanted:
    """What the user said of the predictor: see `PatternScaling`."""

    predictor: str | None
    driver: str | None
    years: int | None


@dataclass(frozen=True)
class Predictor:
    """How a coarse file becomes the series d.

    Attributes:
        name: of the field or series.
        driver: of the series that it is a function of; nothing without.
        years: over which it is averaged.
        units: of the predictor.
        normal: its mean in each month of training.
        line: a and c of the driver.
        span: smallest and largest d of training.
    """

    name: str
    driver: str
    years: int
    units: str
    normal: tuple[float, ...]
    line: tuple[float, float]
    span: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def learnt(cls, coarse: xr.Dataset, time: xr.DataArray, wanted: Wanted) -> Self:
        """The predictor of a file whose times `time` are those of training.

        Raises:
            InputError: when there is none, or it does not change.
        """
        name = _named(coarse, wanted.predictor)
        series, alone = series_of(coarse, name), is_series(coarse, name)
        given = series.sel(time=time)
        long = len(np.unique(time.dt.year)) >= LEAST_YEARS
        years = wanted.years if wanted.years is not None else int(long and not alone and wanted.driver is None)
        units = str(series.attrs.get("units", ""))
        found = cls(name, wanted.driver or "", years, units, _normals(given, seasonal=not alone), (0.0, 1.0))
        if wanted.driver is not None:
            force = series_of(coarse, wanted.driver).sel(time=time)
            found = replace(found, line=_line(force.values, found.departure(given).values, wanted.driver))
        return replace(found, span=_span(found.of(coarse).sel(time=time), name))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The predictor of which these are the `vars`, from JSON."""
        listed: dict[str, Any] = {key: tuple(each) for key, each in values.items() if isinstance(each, list | tuple)}
        return cls(**{**values, **listed})

    def of(self, coarse: xr.Dataset) -> xr.DataArray:
        """The series d (time,) of a file."""
        if self.driver:
            return self.line[0] + self.line[1] * series_of(coarse, self.driver)
        return smoothed(self.departure(series_of(coarse, self.name)), self.years)

    def departure(self, series: xr.DataArray) -> xr.DataArray:
        """Series less their normal value in the month."""
        return series - np.array(self.normal)[month_of(series.time)]


def month_of(time: xr.DataArray) -> NDArray[np.int64]:
    """Months (time,) from 0, which is January."""
    return np.asarray(time.dt.month.values, dtype=np.int64) - 1


def _normals(series: xr.DataArray, *, seasonal: bool) -> tuple[float, ...]:
    """Mean of a series in each month, that of all times in months that it does not have."""
    known = series.values[np.isfinite(series.values)]
    if not len(known):
        raise InputError(
            f"got no known value of the predictor '{series.name}' on the training times; expected some; choose another"
        )
    if not seasonal:
        return (float(known.mean()),) * MONTHS
    months = month_of(series.time)[np.isfinite(series.values)]
    count = np.bincount(months, minlength=MONTHS)
    means = np.bincount(months, known, minlength=MONTHS) / np.maximum(count, 1)
    return tuple(np.where(count > 0, means, known.mean()).tolist())


def _line(force: Array, response: Array, driver: str) -> tuple[float, float]:
    """Intercept and slope of the response to a force, by least squares."""
    known = np.isfinite(force) & np.isfinite(response)
    force, response = force[known], response[known]
    away = force - force.mean() if len(force) else force
    if len(force) < 3 or not (away**2).mean() > 0:
        raise InputError(
            f"the driver '{driver}' has {len(np.unique(force))} different value(s) on the training times; expected at "
            "least three times and a change; give a longer record, or leave downscaler.driver out"
        )
    slope = float(away @ response / (away @ away))
    return float(response.mean() - slope * force.mean()), slope


def _span(series: xr.DataArray, name: str) -> tuple[float, float]:
    """Smallest and largest value of the training series.

    Raises:
        InputError: when it does not change.
    """
    low, high = float(series.min()), float(series.max())
    if not high - low > 1e-6 * max(1.0, abs(high)):
        raise InputError(
            f"the predictor '{name}' is the same at all training times once averaged over years; expected a change to "
            "learn a response to; give more years, or set downscaler.years to 0"
        )
    return low, high


def _named(coarse: xr.Dataset, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    try:
        return find_variable(harmonise(coarse)[0], "tas")
    except InputError as error:
        raise InputError(
            f"pattern scaling follows the mean temperature of the coarse file unless told otherwise: {error} Or "
            "name another field or a series with downscaler.predictor, such as co2"
        ) from None
