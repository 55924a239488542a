"""Checks of what is in a file: times that run forward, values that can be computed with."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions.errors import InputError, provenance

# Fill values that a file forgot to declare: NetCDF's default 9.97e36, and 1e20 of CMIP. Nothing physical is as large.
_UNPHYSICAL = 1e19


def check_times(time: xr.DataArray, *, source: str) -> None:
    """Times ascend strictly.

    Raises:
        InputError: names the first time that does not, and the call that puts it right.
    """
    values, name = time.values, time.name
    missing = np.asarray(time.isnull().values)
    if missing.any():
        raise InputError(
            f"time {int(missing.argmax()) + 1} of {len(values)} of '{name}' in {source} is missing (NaT); "
            "expected a date for every step. Drop such steps with "
            f"fields.sel({name}=fields['{name}'].notnull())"
        )
    forward = values[1:] > values[:-1]
    if forward.all():
        return
    first = int(np.argmin(forward)) + 1
    if values[first] == values[first - 1]:
        what, fix = "is there twice", f"fields.drop_duplicates('{name}')"
    else:
        what, fix = f"comes after {_date(values[first - 1])}", f"fields.sortby('{name}').drop_duplicates('{name}')"
    raise InputError(
        f"the time {_date(values[first])} {what} in '{name}' of {source}; expected times that ascend without "
        f"duplicates. Put them right with {fix}"
    )


def check_values(fields: xr.Dataset, *, source: str = "input", part: bool = False) -> None:
    """Every field has some finite values and no infinite ones; reads lazy fields block by block.

    Missing values (NaN) are allowed, also at all points of some times; infinities and undeclared fill values are not.
    `part` says that these are some times of a longer record, at which everything may be missing.

    Raises:
        InputError: names the file, the variable and the first time.
    """
    source = provenance(fields, source)
    for name, field in fields.data_vars.items():
        others = [dim for dim in field.dims if dim != "time"]
        # -1 where nothing is known: one number per time tells missing, infinite and absurd apart in one pass.
        largest = abs(field).fillna(-1.0).max(others).compute()
        if (largest < 0).all() and not part:
            raise InputError(
                f"variable '{name}' of {source} is missing (NaN) everywhere; expected values. Choose another "
                "variable or period, or check _FillValue and valid_range of the file with `ncdump -h`"
            )
        bad = np.asarray((largest > _UNPHYSICAL).values).reshape(-1)
        if bad.any():
            raise InputError(_absurd(str(name), largest, int(bad.argmax()), source))


def _absurd(name: str, largest: xr.DataArray, first: int, source: str) -> str:
    value = float(largest.values.reshape(-1)[first])
    when = f" at time {_date(largest['time'].values[first])}" if "time" in largest.dims else ""
    if np.isinf(value):
        return (
            f"variable '{name}' of {source} has infinite values{when}; expected finite values, or NaN where "
            f"missing. Mask them with fields['{name}'].where(np.isfinite(fields['{name}']))"
        )
    return (
        f"variable '{name}' of {source} reaches {value:.4g}{when}, which looks like a fill value that the "
        "file does not declare; expected NaN where missing. Mask it with "
        f"fields['{name}'].where(abs(fields['{name}']) < {_UNPHYSICAL:g})"
    )


def _date(value: Any) -> str:
    if isinstance(value, np.datetime64):
        text = np.datetime_as_string(value, unit="s").replace("T", " ")
        return text.removesuffix(" 00:00:00")
    return str(value).removesuffix(" 00:00:00")
