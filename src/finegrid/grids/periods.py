"""Which time step lies in which hour, day, month, season or year, and reductions over such runs of steps.

Times become microseconds since the first midnight and back, so that NumPy's dates and every calendar of cftime go the
same way. A step belongs to the period that holds its middle. With equal steps of length d whose middles lie at t + k d,
a period from P to Q should hold

    n = ceil((Q - t) / d) - ceil((P - t) / d)

of them; where no step crosses an edge it should be full, also with months of unequal length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.conventions import InputError, step_seconds
from finegrid.grids.geometry import Array

Numbers = NDArray[np.int64]

# Seconds in a period; or months in it, and where one starts, counted from January.
SECONDS = {"hour": 3600, "day": 86400}
MONTHS = {"month": (1, 0), "season": (3, -1), "year": (12, 0)}
# Parts of a step by which it begins before its stamp; without word or bounds the stamp itself decides.
BEFORE: dict[str | None, float] = {"start": 0.0, "middle": 0.5, "end": 1.0, None: 0.5}
_SECOND = 1_000_000
# Part of a step by which stamps may be early: dates that were kept as floating-point days are.
_ROUNDING = 1e-3
# Values in work at once.
_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Clock:
    """Dates as microseconds since a midnight of theirs.

    Attributes:
        origin: the midnight, in the calendar of the dates.
        dtype: how the dates are kept.
    """

    origin: Any
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, dates: NDArray[Any]) -> Self:
        """The clock that starts on the day of the first date."""
        first = dates.flat[0]
        if dates.dtype == object:
            return cls(first.replace(hour=0, minute=0, second=0, microsecond=0), dates.dtype)
        return cls(first.astype("datetime64[D]"), dates.dtype)

    def numbers(self, dates: NDArray[Any]) -> Numbers:
        """Microseconds of dates."""
        return np.asarray((dates - self.origin).astype("timedelta64[us]").astype(np.int64))

    def dates(self, numbers: Numbers) -> NDArray[Any]:
        """The dates again."""
        passed = numbers.astype("timedelta64[us]")
        if self.dtype == object:
            return np.asarray(self.origin + passed.astype(object))
        return np.asarray((self.origin + passed).astype(self.dtype))

    def months(self, first: int, last: int, months: int, offset: int) -> Numbers:
        """Starts of all periods of whole months from that which holds `first` to the one after that of `last`."""
        low, high = (self._month(each) for each in (first, last))
        start = (low - offset) // months * months + offset
        count = (high - start) // months + 2
        if self.dtype != object:
            return self.numbers((start + months * np.arange(count)).astype("datetime64[M]"))
        begin = self.origin.replace(year=start // 12, month=start % 12 + 1, day=1)
        return self.numbers(xr.date_range(begin, periods=count, freq=f"{months}MS", use_cftime=True).values)

    def _month(self, number: int) -> int:
        """Months since some January."""
        (date,) = self.dates(np.array([number]))
        return (
            int(date.year * 12 + date.month - 1)
            if self.dtype == object
            else int(date.astype("datetime64[M]").astype(int))
        )


@dataclass(frozen=True, eq=False)
class Runs:
    """Periods as runs of steps.

    Attributes:
        first: the first step of each period.
        seconds: length of each step.
        expected: seconds of steps in a period without gaps.
    """

    first: Numbers
    seconds: Array
    expected: Array

    @cached_property
    def _ends(self) -> Numbers:
        return np.append(self.first, len(self.seconds))

    @cached_property
    def period(self) -> Numbers:
        """The period of each step."""
        return np.repeat(np.arange(len(self.first)), np.diff(self._ends))

    @cached_property
    def shared(self) -> sparse.csr_array:
        """Seconds of each step (column) in each period (row)."""
        return self._matrix(self.seconds)

    @cached_property
    def members(self) -> sparse.csr_array:
        """Ones where a step is in a period."""
        return self._matrix(np.ones(len(self.seconds)))

    @cached_property
    def covered(self) -> Array:
        """Seconds of all steps in each period."""
        return np.asarray(self.shared.sum(axis=1))

    def reduced(self, values: NDArray[Any], how: str, min_valid: float) -> Array:
        """Means, sums or extremes (..., periods) of values (..., steps); NaN where too few of them are valid."""
        flat = values.reshape(-1, values.shape[-1])
        result = np.empty((len(flat), len(self.first)))
        several = max(1, _AT_ONCE // values.shape[-1])
        for start in range(0, len(flat), several):
            result[start : start + several] = self._reduced(flat[start : start + several].T, how, min_valid).T
        return result.reshape(*values.shape[:-1], -1)

    def _reduced(self, columns: NDArray[Any], how: str, min_valid: float) -> Array:
        missing = np.isnan(columns)
        gaps = bool(missing.any())
        valid = self.shared @ (~missing).astype(np.float64) if gaps else self.covered[:, None]
        # A hundredth of a step is rounding; a whole one is missing.
        least = min_valid * self.expected - 0.01 * self.seconds.min()
        enough = (valid > 0) & (valid >= least[:, None])
        if how in ("min", "max"):
            extreme = np.fmin if how == "min" else np.fmax
            return np.where(enough, extreme.reduceat(columns, self.first, axis=0), np.nan)
        filled = np.where(missing, 0.0, columns) if gaps else columns
        if how == "sum":
            return np.where(enough, self.members @ filled, np.nan)
        return np.where(enough, (self.shared @ filled) / np.where(enough, valid, 1.0), np.nan)

    def cuts(self, chunks: tuple[int, ...]) -> Numbers:
        """The periods at which to cut a long series so that its pieces are about these numbers of steps."""
        return np.unique(np.searchsorted(self.first, np.cumsum((0, *chunks))))

    def part(self, low: int, high: int) -> Runs:
        """The periods from `low` to before `high`, as if there were no others."""
        steps = slice(self._ends[low], self._ends[high])
        return Runs(self.first[low:high] - steps.start, self.seconds[steps], self.expected[low:high])

    def _matrix(self, weights: Array) -> sparse.csr_array:
        shape = len(self.first), len(self.seconds)
        return sparse.csr_array((weights, np.arange(shape[1]), self._ends), shape=shape)


def steps_of(
    time: xr.DataArray, bounds: NDArray[Any] | None, clock: Clock, stamp: str | None
) -> tuple[Numbers, Numbers]:
    """Start and end of each step, from bounds (time, 2) or from what the stamps are.

    Raises:
        InputError: when bounds are empty or overlap, or without them the steps are uneven.
    """
    if bounds is not None:
        start, end = np.sort(clock.numbers(bounds), axis=1).T
        _check_bounds(start, end, clock)
        return start, end
    stamps = clock.numbers(time.values)
    seconds = _step_seconds(time)
    length = round(_SECOND * seconds) if isinstance(seconds, float) else round(_SECOND * float(seconds.median()))
    if isinstance(seconds, float):
        start = stamps - round(BEFORE[stamp] * length)
        return start, start + length
    # Months: the one that holds the stamp, or the moment before it.
    inside = stamps + round(_ROUNDING * length) * (-1 if stamp == "end" else 1)
    edges = _edges(clock, int(inside[0]), int(inside[-1]), "month")
    month = np.searchsorted(edges, inside, side="right")
    return edges[month - 1], edges[month]


def periods_of(start: Numbers, end: Numbers, clock: Clock, step: str) -> tuple[Numbers, Runs]:
    """Start and end (periods, 2) of the periods that hold a step, and the runs of steps in them.

    Raises:
        InputError: when steps are longer than the periods.
    """
    length = int(np.median(end - start))
    middle = start + (end - start) // 2 + round(_ROUNDING * length)
    edges = _edges(clock, int(middle[0]), int(middle[-1]), step)
    period, first, inverse = np.unique(
        np.searchsorted(edges, middle, side="right") - 1, return_index=True, return_inverse=True
    )
    low, high = edges[period], edges[period + 1]
    if length > 1.01 * np.median(high - low):
        raise InputError(
            f'got steps of {length / _SECOND:g} s and step="{step}"; expected steps that are no longer than this. '
            'Choose a longer period, such as step="year"'
        )
    slack = round(_ROUNDING * length)
    if ((start >= low[inverse] - slack) & (end <= high[inverse] + slack)).all():
        expected = high - low
    else:
        expected = ((middle[first] - low) // length - (middle[first] - high) // length) * length
    return np.stack([low, high], axis=1), Runs(first, (end - start) / _SECOND, expected / _SECOND)


def _edges(clock: Clock, first: int, last: int, step: str) -> Numbers:
    if step in MONTHS:
        return clock.months(first, last, *MONTHS[step])
    length = SECONDS[step] * _SECOND
    return np.arange(first // length * length, last + length + 1, length)


def _step_seconds(time: xr.DataArray) -> float | xr.DataArray:
    try:
        return step_seconds(time)
    except InputError as error:
        raise InputError(
            f"got {time.size} times, of which too few have one distance; expected even steps, months or bounds. Give "
            "fields whose time_bounds say what each step covers: fields.assign_coords(time_bounds=...)"
        ) from error


def _check_bounds(start: Numbers, end: Numbers, clock: Clock) -> None:
    slack = _ROUNDING * float(np.median(end - start))
    empty, overlapping = end <= start, np.append(False, start[1:] < end[:-1] - slack)
    if not (empty | overlapping).any():
        return
    worst = int((empty | overlapping).argmax())
    what = "are empty" if empty[worst] else "begin before the last ones end"
    raise InputError(
        f"the time_bounds of step {worst + 1}, which starts at {clock.dates(start[worst : worst + 1])[0]}, {what}; "
        'expected steps that follow each other. Say what times stand for instead: TimeOperator.of(..., stamp="start")'
    )
