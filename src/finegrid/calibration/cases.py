"""Predictions and what came true, as arrays: what calibrators learn from.

Two Datasets in any names become, for each variable that both have, arrays over times and cells. Times that only one of
them has are left out; grids have to be the same. Everything is read in blocks of times, so that an ensemble need not
fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, convert_units, harmonise, natural_limits

# Values of members read at once: 32 MiB of float32.
_BLOCK_VALUES = 1 << 23
_NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Cases:
    """One variable at some times.

    Attributes:
        name: of the variable.
        members: (member, time, y, x), NaN where missing.
        truth: (time, y, x); None where it is not known yet.
        time: (time,).
        first: number of the first time in its record.
        limits: lowest and highest value that nature allows.
    """

    name: str
    members: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    time: xr.DataArray
    first: int
    limits: tuple[float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, y, x)."""
        return self.members.shape[1:]

    @property
    def count(self) -> int:
        """Number of members."""
        return len(self.members)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of the members (time, y, x)."""
        return np.asarray(self.members.mean(axis=0, dtype=np.float64))

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Of the members (time, y, x), with M - 1 in the denominator; 0 of a single one."""
        if self.count < 2:
            return np.where(np.isfinite(self.members[0]), 0.0, np.nan)
        return np.asarray(self.members.std(axis=0, ddof=1, dtype=np.float64))

    @property
    def known(self) -> NDArray[np.float64]:
        """The truth (time, y, x).

        Raises:
            InputError: where there is none.
        """
        if self.truth is None:
            raise InputError("got cases without truth; expected observed fields; pass them to fit or update")
        return self.truth.astype(np.float64)

    def random(self, seed: int) -> NDArray[np.float64]:
        """Numbers between 0 and 1 of each time and cell (time, y, x), the same in whatever blocks it is read."""
        streams = (np.random.default_rng([seed, self.first + step]).random(self.shape[1:]) for step in range(len(self)))
        return np.stack(list(streams)) if len(self) else np.zeros(self.shape)

    def within(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values that nature allows."""
        return np.asarray(np.clip(values, *self.limits))

    def at(self, times: slice) -> Self:
        """The same at some times."""
        truth = None if self.truth is None else self.truth[times]
        first = self.first + range(len(self))[times].start
        return replace(self, members=self.members[:, times], truth=truth, time=self.time[times], first=first)

    def __len__(self) -> int:
        return len(self.time)


def standard(fields: xr.Dataset, source: str) -> xr.Dataset:
    """Fields in standard form with a member dimension; lazy."""
    found = harmonise(fields, source=source)[0]
    return found if "member" in found.dims else found.expand_dims("member")


def matched(ensemble: xr.Dataset, observed: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Both in standard form, at the times and with the variables that both have, in the units of the ensemble.

    Raises:
        InputError: when they have no time or variable in common, or lie on different grids.
    """
    given, truth = standard(ensemble, "the predictions"), harmonise(observed, source="the observed fields")[0]
    names = [name for name in given.data_vars if name in truth.data_vars]
    if not names:
        raise InputError(
            f"got predictions of {', '.join(map(str, given.data_vars))} and observed fields of "
            f"{', '.join(map(str, truth.data_vars))}; expected a variable in common; rename one with fields.rename"
        )
    if given.time.dt.calendar != truth.time.dt.calendar:
        raise InputError(
            f"got predictions in the calendar {given.time.dt.calendar} and observed fields in "
            f"{truth.time.dt.calendar}; expected one; convert with fields.convert_calendar"
        )
    both = np.intersect1d(given.time.values, truth.time.values)
    if not len(both):
        raise InputError(
            "got predictions and observed fields without a time in common; expected observations of the times that "
            "were predicted; choose others"
        )
    given, truth = given[names].sel(time=both), truth[names].sel(time=both)
    _check_grids(given, truth)
    return given, truth.assign({name: _in_units(truth[name], given[name]) for name in names})


def cases(given: xr.Dataset, truth: xr.Dataset | None, name: str) -> Iterator[Cases]:
    """One variable of standard fields, in consecutive blocks of times."""
    field = given[name].transpose("member", "time", ...)
    limits = natural_limits(name, field.attrs)
    size = max(1, _BLOCK_VALUES // max(1, field[:, :1].size))
    for start in range(0, field.sizes["time"], size):
        block = slice(start, start + size)
        some = field.isel(time=block)
        known = None if truth is None else np.asarray(truth[name].transpose("time", ...).isel(time=block).values)
        yield Cases(name, np.asarray(some.values), known, some.time, start, limits)


def lazily(field: xr.DataArray, rows: int, make: Callable[[NDArray[Any], slice], NDArray[np.float32]]) -> Any:
    """A dask array (row, time, y, x) that a function makes of members (member, time, y, x) and which times they are.

    Args:
        field: a lazy field (member, time, y, x); its chunks of time are kept.
        rows: length of what is made along the first dimension.
        make: called once for each chunk of time.
    """
    whole = {axis: -1 for axis in range(field.ndim) if axis != 1}
    data = field.data.rechunk(whole)

    def made(block: NDArray[Any], block_info: Any = None) -> NDArray[np.float32]:
        return make(np.asarray(block), slice(*block_info[0]["array-location"][1]))

    empty = np.empty((0,) * data.ndim, np.float32)
    chunks = ((rows,), *data.chunks[1:])
    return dask.array.map_blocks(made, data, dtype=np.float32, chunks=chunks, meta=empty)  # type: ignore[no-untyped-call]


def _in_units(field: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    units, wanted = field.attrs.get("units"), like.attrs.get("units")
    return field if units is None or wanted is None or units == wanted else convert_units(field, wanted)


def _check_grids(given: xr.Dataset, truth: xr.Dataset) -> None:
    for axis in ("y", "x"):
        one, other = given.get(axis), truth.get(axis)
        if one is None or other is None:
            continue
        step = np.abs(np.diff(one.values)).min() if one.size > 1 else 1.0
        if one.size != other.size or np.abs(one.values - other.values).max() > _NEAR * step:
            raise InputError(
                f"got predictions and observed fields on different grids (along {axis}: {one.size} and {other.size} "
                "cells); expected the same one; bring one onto the other with finegrid regrid"
            )
