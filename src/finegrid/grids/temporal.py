"""Means, sums and extremes over hours, days, months, seasons and years: operators along the axis of time.

With the seconds a(p, s) of fine step s in period p, all of the step or nothing (`periods`),

    mean      y(p) = sum_s a(p, s) f(s) / sum_s a(p, s)
    sum       y(p) = sum_s f(s)                                (amounts per step, such as mm)
    min, max  the smallest and the largest f(s)

over the steps that have a value. What a step covers is told by `time_bounds`, or by what the stamps stand for: a value
at 00:00 that was accumulated since 23:00, as in ERA5, belongs to the day before. What a period should hold is worked
out from its own length, so that half a day, at the end of a record or among missing hours, is missing and no small sum.

Periods are stamped with their start, as xarray and pandas do, so that a day is found by its date; their `time_bounds`
say the rest. Periods without any step (the summers of a series of winters) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Self, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.conventions import InputError, check_times, unit_conversion
from finegrid.conventions.axes import is_time
from finegrid.grids.geometry import Array
from finegrid.grids.periods import BEFORE, MONTHS, SECONDS, Clock, Runs, periods_of, steps_of

Fields = TypeVar("Fields", xr.Dataset, xr.DataArray)

_METHODS = {"mean": "mean", "sum": "sum", "min": "minimum", "max": "maximum"}
_STEPS = {"h": "hour", "D": "day", "MS": "month", "QS-DEC": "season", "YS": "year"}
# Attributes that hold for single values, but not for their means and sums.
_FLAGS = ("flag_values", "flag_meanings", "flag_masks", "valid_range", "valid_min", "valid_max")
# Units per time, as they are spelled, and those that hide it.
_TIME = r"(s|sec|seconds?|min|minutes?|h|hr|hours?|d|days?|months?|yr|years?)"
_PER_TIME = re.compile(rf"(/\s*|\bper ){_TIME}\b|\b{_TIME}(\^|\*\*)?-\d")
_RATES = ("W m-2", "W", "m s-1")


@dataclass(frozen=True, eq=False)
class TimeOperator:
    """A reduction of fields on fine times to periods.

    Attributes:
        source: times of the fields that come in.
        target: starts of the periods.
        bounds: starts and ends of the periods (time, bounds).
        how: "mean", "sum", "min" or "max".
        runs: which steps are in which period, and how long they are.
    """

    source: xr.DataArray
    target: xr.DataArray
    bounds: xr.DataArray = field(repr=False)
    how: str
    runs: Runs = field(repr=False)

    @classmethod
    def of(
        cls, time: xr.DataArray | xr.Dataset, *, step: str = "day", how: str = "mean", stamp: str | None = None
    ) -> Self:
        """The operator for the times of some fields.

        Args:
            time: harmonised fields, or their times. Only a Dataset can have `time_bounds`.
            step: "hour", "day", "month", "season" (December to February and so on) or "year"; or pandas' h, D, MS,
                QS-DEC, YS.
            how: "mean", "sum", "min" or "max".
            stamp: whether times are the "start", "middle" or "end" of their steps, whatever bounds say. By default
                bounds decide, else a step belongs to the period that holds its stamp: right for instants, and for steps
                that begin at their stamp and end within the period.

        Raises:
            InputError: on other words, times that do not ascend evenly, and steps longer than the periods.
        """
        step = _STEPS.get(step, step)
        for name, word, known in (("step", step, {**SECONDS, **MONTHS}), ("how", how, _METHODS)):
            _check_word(name, word, known)
        _check_word("stamp", stamp, BEFORE)
        dates, bounds = _dates(time)
        clock = Clock.of(dates.values)
        start, end = steps_of(dates, bounds if stamp is None else None, clock, stamp)
        limits, runs = periods_of(start, end, clock, step)
        target, covers = _labels(clock.dates(limits), dates)
        return cls(dates, target, covers, how, runs)

    @property
    def linear(self) -> bool:
        """Whether the operator is a matrix: means and sums are, extremes are not."""
        return self.how in ("mean", "sum")

    @property
    def shared(self) -> sparse.csr_array | None:
        """Seconds of each step (column) in each period (row), whatever is missing; None for extremes."""
        return self.runs.shared if self.linear else None

    @cached_property
    def matrix(self) -> sparse.csr_array | None:
        """Weights (periods, steps): rows sum to one for means, to the number of steps for sums; None for extremes."""
        if self.how == "mean":
            return sparse.csr_array(self.runs.shared * (1 / self.runs.covered)[:, None])
        return self.runs.members if self.how == "sum" else None

    @property
    def coverage(self) -> Array:
        """Part of each period that the steps cover, whatever is missing; 1 is all of it."""
        return self.runs.covered / self.runs.expected

    @cached_property
    def T(self) -> Spreading:
        """The adjoint: every step gets the value of its period.

        It is that of the mean in products weighted by seconds (of a step; of all steps in a period), and that of the
        sum in plain products.

        Raises:
            InputError: for extremes, which have none.
        """
        if self.linear:
            return Spreading(self.target, self.source, self.runs)
        raise InputError(f'got how="{self.how}", which is not linear and has no adjoint; use how="mean" or how="sum"')

    def __call__(self, fields: Fields, *, min_valid: float = 1.0) -> Fields:
        """Fields over the periods; lazy when they come lazy, float32 when they come as float32.

        Args:
            fields: harmonised fields on the source times; variables without time pass through.
            min_valid: part of each period (0..1) that must have values; below it the period is missing. With less than
                1 a sum is over what is there, and so too small.

        Raises:
            InputError: when fields have other times, or are rates of which a sum is wanted.
        """
        if not 0 <= min_valid <= 1:
            raise InputError(f"got min_valid={min_valid}; expected a part from 0 to 1; use min_valid=0.9, say")
        _check_times(fields, self.source, "build the operator with TimeOperator.of(fields, ...)")
        return _mapped(fields, partial(self._apply, min_valid=min_valid), self.target, self.bounds)

    def _apply(self, values: xr.DataArray, min_valid: float) -> xr.DataArray:
        if self.how == "sum":
            _check_amount(values)
        dtype = np.float32 if values.dtype in (np.float16, np.float32) else np.float64
        result: xr.DataArray = xr.apply_ufunc(
            partial(_along_time, self.runs, self.how, min_valid, dtype),
            values.drop_vars([name for name, each in values.coords.items() if "time" in each.dims]),
            input_core_dims=[["time"]],
            output_core_dims=[["time"]],
            exclude_dims={"time"},
            dask="allowed",
            keep_attrs=False,
        )
        kept = {key: value for key, value in values.attrs.items() if not (self.linear and key in _FLAGS)}
        described = result.transpose(*values.dims).rename(values.name)
        return described.assign_attrs({**kept, "cell_methods": _methods(values, _METHODS[self.how])})


@dataclass(frozen=True, eq=False)
class Spreading:
    """The way back from periods to steps: every step gets the value of its period.

    Attributes:
        source: starts of the periods.
        target: times of the steps.
        runs: which steps are in which period.
    """

    source: xr.DataArray
    target: xr.DataArray
    runs: Runs = field(repr=False)

    @property
    def matrix(self) -> sparse.csr_array:
        """Ones (steps, periods)."""
        return sparse.csr_array(self.runs.members.T)

    def __call__(self, fields: Fields) -> Fields:
        """Fields on the fine times; lazy when they come lazy."""
        _check_times(fields, self.source, "use the results of the operator that this is the adjoint of")
        return _mapped(fields, lambda values: values.isel(time=self.runs.period), self.target, None)


TIME_OPERATORS: dict[str, Callable[..., TimeOperator]] = {
    f"{adverb}-{how}": partial(TimeOperator.of, step=step, how=how)
    for adverb, step in {
        "hourly": "hour",
        "daily": "day",
        "monthly": "month",
        "seasonal": "season",
        "yearly": "year",
    }.items()
    for how in _METHODS
}


def _dates(fields: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, NDArray[Any] | None]:
    """The times of fields, and their bounds (time, 2) where there are any."""
    found = fields if isinstance(fields, xr.DataArray) else xr.DataArray()
    if "time" in fields.coords:
        found = fields.coords["time"]
    time = found.variable
    if time.dims != ("time",) or not time.size or not is_time(found):
        raise InputError(
            f"got {time.size} values of type {time.dtype} as time; expected dates along the dimension time, as "
            "harmonised fields have them. Call harmonise(fields) first"
        )
    dates = xr.DataArray(time, coords={"time": time}, name="time")
    check_times(dates, source="the fields")
    bounds = fields.coords.get("time_bounds")
    return dates, None if bounds is None else bounds.values


def _labels(limits: NDArray[Any], dates: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Times and bounds of periods, described as the fine times are."""
    attributes = {key: value for key, value in dates.attrs.items() if key != "bounds"}
    time = xr.DataArray(limits[:, 0], dims="time", name="time", attrs=attributes)
    time.encoding = {key: dates.encoding[key] for key in ("units", "calendar") if key in dates.encoding}
    time.encoding["bounds"] = "time_bounds"
    return time.assign_coords(time=time), xr.DataArray(limits, dims=("time", "bounds"), coords={"time": time})


def _along_time(runs: Runs, how: str, min_valid: float, dtype: type, values: Any) -> Any:
    """Reduce plain values (..., steps), or those of dask in pieces of whole periods."""
    if isinstance(values, np.ndarray):
        return runs.reduced(values, how, min_valid).astype(dtype)
    pieces = [runs.part(*cut) for cut in pairwise(runs.cuts(values.chunks[-1]))]
    whole = values.rechunk({values.ndim - 1: tuple(len(each.seconds) for each in pieces)})
    return whole.map_blocks(
        partial(_piece, pieces, how, min_valid, dtype),
        chunks=(*whole.chunks[:-1], tuple(len(each.first) for each in pieces)),
        meta=np.empty((0,) * values.ndim, dtype),
    )


def _piece(
    pieces: list[Runs], how: str, min_valid: float, dtype: type, values: NDArray[Any], *, block_id: tuple[int, ...]
) -> NDArray[Any]:
    return pieces[block_id[-1]].reduced(values, how, min_valid).astype(dtype)


def _mapped(
    fields: Fields, function: Callable[[xr.DataArray], xr.DataArray], time: xr.DataArray, bounds: xr.DataArray | None
) -> Fields:
    """Fields on other times: what has a time through the function, all else as it is."""
    if isinstance(fields, xr.DataArray):
        return function(fields).assign_coords(time=time)
    mapped = {name: function(each) if "time" in each.dims else each for name, each in fields.data_vars.items()}
    kept = {name: each for name, each in fields.coords.items() if "time" not in each.dims}
    coords: Mapping[Hashable, Any] = {"time": time} if bounds is None else {"time": time, "time_bounds": bounds}
    timeless = {name: each.drop_vars("time", errors="ignore") for name, each in mapped.items()}
    return xr.Dataset(timeless, coords={**kept, **coords}, attrs=fields.attrs)


def _methods(values: xr.DataArray, method: str) -> str:
    """CF's cell_methods with one more; a mean of means is a mean, and points are what the method was done with."""
    before = str(values.attrs.get("cell_methods", "")).replace("time: point", "").strip()
    return before if before.endswith(f"time: {method}") else f"{before} time: {method}".strip()


def _check_word(name: str, word: str | None, known: Mapping[Any, Any]) -> None:
    if word not in known:
        words = ", ".join(str(each) for each in known if each is not None)
        raise InputError(f"got {name}={word!r}; expected one of {words}; use TimeOperator.of(..., {name}=...)")


def _check_times(fields: xr.Dataset | xr.DataArray, expected: xr.DataArray, mend: str) -> None:
    time = fields.coords.get("time", xr.DataArray())
    same = time.shape == expected.shape and is_time(time) and time.dt.calendar == expected.dt.calendar
    if same and np.array_equal(time.values, expected.values):
        return
    raise InputError(
        f"got fields of {fields.sizes.get('time', 0)} times; expected the operator's {expected.size}, from "
        f"{expected.values[0]} to {expected.values[-1]}; {mend}"
    )


def _check_amount(values: xr.DataArray) -> None:
    units = str(values.attrs.get("units", ""))
    if _PER_TIME.search(units) or any(_converts(units, rate) for rate in _RATES):
        raise InputError(
            f"got '{values.name}' in '{units}', a rate, to be summed over time; expected an amount per step, such as "
            'mm or J m-2. Use how="mean", or convert_units to an amount first'
        )


def _converts(units: str, rate: str) -> bool:
    try:
        return bool(unit_conversion(units, rate))
    except InputError:
        return False
