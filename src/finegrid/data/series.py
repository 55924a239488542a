"""One number a time: the mean of a coarse field over its whole file, or a series that the file has beside its fields.

The mean of a file is weighted by the area of its cells and taken over those that are known. For a change of climate
the weather of single years is noise, and noise in a predictor makes every slope on it too small by the factor
var(signal) / (var(signal) + var(noise)). `smoothed` therefore takes, for every time,

    mean over the calendar years within n / 2 years of its own, of the mean of the year,

over years that the file has: n = 1 is the mean of the year, n = 11 that of eleven years.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, find_variable, harmonise
from finegrid.conventions.axes import is_time
from finegrid.conventions.errors import provenance
from finegrid.grids import Grid

Array = NDArray[np.float64]


def is_series(fields: xr.Dataset, name: str) -> bool:
    """Whether a file holds numbers of that name over time alone, such as `co2(time)`."""
    field = fields.variables.get(name)
    return field is not None and field.ndim == 1 and field.dtype.kind in "fiu" and name not in fields.dims


def series_of(fields: xr.Dataset, name: str, *, source: str = "input") -> xr.DataArray:
    """The series of that name, or the area-weighted mean of the field of that name over its whole file (time,).

    Members are averaged as well. Float64; NaN at times at which nothing is known.

    Args:
        fields: a file in the user's words.
        name: of a series or a field, or what a field is usually called, such as tas.
        source: words for the file in error messages.

    Raises:
        InputError: when there is neither, or the series is not over the times of the fields.
    """
    source = provenance(fields, source)
    standard = harmonise(fields, source=source)[0]
    if is_series(fields, name):
        return _alone(fields[name], standard.time, source)
    field = standard[_found(fields, standard, name, source)]
    # Weights that do not add up to one are brought to it by what is known.
    area = xr.DataArray(Grid.of(standard).area, dims=("y", "x"))
    mean = field.astype(np.float64).weighted(area).mean([dim for dim in field.dims if dim != "time"])
    return mean.compute().assign_attrs(units=str(field.attrs.get("units", "")))


def smoothed(series: xr.DataArray, years: int) -> xr.DataArray:
    """Means of the known values of calendar years, and over that many years around each; 0 changes nothing.

    Raises:
        InputError: when years are negative or even.
    """
    if years < 0 or (years > 0 and years % 2 == 0):
        raise InputError(f"got years={years}; expected 0 or an odd number, so that a year has as many before as after")
    if not years:
        return series
    year = np.asarray(series.time.dt.year.values)
    known = np.isfinite(series.values)
    every, index = np.unique(year, return_inverse=True)
    count = np.bincount(index, weights=known)
    total = np.bincount(index, weights=np.where(known, series.values, 0.0))
    annual = np.divide(total, count, out=np.zeros(len(every)), where=count > 0)
    near = (np.abs(every[:, None] - every) <= years // 2) * (count > 0)
    means = np.where(near.any(axis=1), near @ annual / np.maximum(near.sum(axis=1), 1), np.nan)
    return series.copy(data=means[index])


def with_series(part: xr.Dataset, whole: xr.Dataset) -> xr.Dataset:
    """Some times of a file, with the series that the standard form of fields has no place for."""
    found = {}
    for name, field in whole.data_vars.items():
        dim = field.dims[0] if field.dims else ""
        if is_series(whole, str(name)) and dim in part.indexes and is_time(whole[dim]):
            found[name] = field.sel({dim: part[dim]}).variable
    return part.assign(found) if found else part


def _alone(series: xr.DataArray, time: xr.DataArray, source: str) -> xr.DataArray:
    if series.size != time.size:
        raise InputError(
            f"the series '{series.name}' of {source} has {series.size} values; expected one for each of the "
            f"{time.size} times of the fields; interpolate it with fields['{series.name}'].interp(time=fields.time)"
        )
    values = np.asarray(series.values, np.float64)
    return xr.DataArray(values, coords={"time": time}, dims="time", name=series.name, attrs=series.attrs)


def _found(fields: xr.Dataset, standard: xr.Dataset, name: str, source: str) -> str:
    try:
        return find_variable(standard, name, source=source)
    except InputError as error:
        series = [str(each) for each in fields.variables if is_series(fields, str(each))]
        raise InputError(f"{error} Its series over time alone are {', '.join(series) or 'none'}.") from None
