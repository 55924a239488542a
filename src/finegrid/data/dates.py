"""Dates and durations as numbers in a file, to the exact instant.

The units of the user's file ("days since 1850-01-01") are kept while they can tell the instants exactly, as
whole numbers or as binary fractions; else seconds or finer units with the same epoch take their place. A file
that grows may meet such dates late: `refine` then says by how much the numbers written so far have to be
multiplied.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, unit_conversion
from finegrid.conventions.axes import bounds_of, is_time

_GREGORIAN = {"standard", "gregorian", "proleptic_gregorian"}
_FINER = ("seconds", "microseconds", "nanoseconds")


class DateCodec:
    """One way to count for a coordinate and its bounds.

    Attributes:
        owner: the name of the coordinate; CF gives units to it, and not to its bounds.
        stored: units, calendar and data type in the file.
    """

    def __init__(self, block: xr.Dataset, owner: str) -> None:
        self.owner = owner
        dates = _together(block, owner)
        self._candidates = _candidates(block[owner])
        self.stored = self._first_exact(dates, self._candidates)

    def attributes(self) -> dict[str, str]:
        """Units and calendar."""
        return {key: value for key, value in self.stored.items() if key != "dtype"}

    def encode(self, dates: xr.DataArray) -> NDArray[Any]:
        """Numbers for dates that the units can tell."""
        numbers = _exact(dates, self.stored)
        if numbers is None:
            raise InputError(f"the dates of '{dates.name}' do not fit '{self.stored['units']}'; call refine first")
        return numbers

    def refine(self, block: xr.Dataset) -> int:
        """Take finer units if the dates of a block need them; the factor between old and new numbers."""
        dates = _together(block, self.owner)
        if _exact(dates, self.stored) is not None:
            return 1
        old, dtype = self.stored, self.stored["dtype"]
        self.stored = self._first_exact(dates, [{**each, "dtype": dtype} for each in self._candidates])
        scale, _ = unit_conversion(_unit(old), _unit(self.stored))
        return round(scale)

    def _first_exact(self, dates: xr.DataArray, candidates: list[dict[str, str]]) -> dict[str, str]:
        for each in candidates:
            if _exact(dates, each) is not None:
                return each
        raise InputError(
            f"the dates of '{self.owner}' cannot be counted exactly in one unit; expected dates of one "
            "calendar within 290 years of each other. Clear the old units with "
            f"fields['{self.owner}'].encoding.clear()"
        )


def codecs(block: xr.Dataset) -> dict[str, DateCodec]:
    """How to count every variable of dates or durations; bounds share the codec of their coordinate."""
    found: dict[str, DateCodec] = {}
    for name in map(str, block.variables):
        if _is_dated(block[name]) and name not in found:
            bounds = bounds_of(block, name) if block[name].ndim == 1 else None
            found[name] = DateCodec(block, name)
            found |= {bounds: found[name]} if bounds is not None else {}
    return found


def _is_dated(variable: xr.DataArray) -> bool:
    return variable.dtype.kind == "m" or is_time(variable)


def _together(block: xr.Dataset, owner: str) -> xr.DataArray:
    """The dates of a coordinate and of its bounds in one row."""
    bounds = bounds_of(block, owner) if block[owner].ndim == 1 else None
    parts = [block[name].values.ravel() for name in (owner, bounds) if name is not None]
    return xr.DataArray(np.concatenate(parts), dims="date", name=owner)


def _exact(dates: xr.DataArray, stored: dict[str, str]) -> NDArray[Any] | None:
    """The numbers of dates, when the same dates come back from them."""
    variable = xr.Variable(dates.dims, dates.values, encoding={**stored, "dtype": np.dtype(stored["dtype"])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # xarray warns of inexact numbers: they are compared below
        try:
            encoded = xr.conventions.encode_cf_variable(variable)
            times = xr.coders.CFDatetimeCoder(use_cftime=dates.dtype == object)
            decoded = xr.conventions.decode_cf_variable("dates", encoded, decode_times=times, decode_timedelta=True)
        except (ValueError, OverflowError):
            return None
    # Where whole numbers of the units are not enough, xarray quietly takes finer ones.
    as_asked = _unit(encoded.attrs).rstrip("s") == _unit(stored).rstrip("s").lower()
    return np.asarray(encoded.values) if as_asked and np.array_equal(decoded.values, dates.values) else None


def _candidates(dates: xr.DataArray) -> list[dict[str, str]]:
    """Units, calendar and type to try in turn."""
    if dates.dtype.kind == "m":
        return [{"units": unit, "dtype": "int64"} for unit in ("hours", *_FINER)]
    first, calendar = dates.values.flat[0], str(dates.encoding.get("calendar", "standard"))
    if dates.dtype == object:
        calendar, start = first.calendar, f"{first.year:04d}-{first.month:02d}-{first.day:02d}"
    else:
        calendar, start = calendar if calendar in _GREGORIAN else "standard", str(first.astype("datetime64[D]"))
    units = str(dates.encoding.get("units", f"hours since {start} 00:00:00"))
    epoch = units.partition(" since ")[2]
    tried = [(units, "int64"), (units, "float64"), *((f"{unit} since {epoch}", "int64") for unit in _FINER)]
    return [{"units": each, "calendar": calendar, "dtype": dtype} for each, dtype in tried]


def _unit(attributes: Mapping[str, Any]) -> str:
    return str(attributes["units"]).partition(" since ")[0]
