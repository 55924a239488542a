"""Groups of times that are adjusted each for itself, in any calendar.

    month, season   calendar months, and DJF, MAM, JJA, SON
    day_of_year     every day of the year, learnt from the times within a moving window around it in all years
    all             one group

The window counts days, not steps, so that a record of winters does not reach from February into the next December.

Days of the year are those of the training calendar. Days of another calendar go by the phase of the year:

    day = ceil((d - 1/2) / n * N)        d day of a year of n days, N days in the training calendar

so that 30 December of a year of 360 days is the last day of one of 365. A day that was not learnt, such as day 366,
takes the nearest one that was, at most half a window away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.predictors import seconds_since_start

Places = NDArray[np.int64]

_STANDARD = ("standard", "gregorian", "proleptic_gregorian")
_LENGTHS = {"360_day": 360, "noleap": 365, "365_day": 365, "all_leap": 366, "366_day": 366}
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_SEASONS = ("December to February", "March to May", "June to August", "September to November")
_DAY = 86400.0


@dataclass(frozen=True)
class Grouping:
    """How times are grouped.

    Attributes:
        by: "month", "season", "day_of_year" or "all".
        window: days of the moving window around a day of the year.
        calendar: that of the training times.
        learnt: numbers of the groups that something is known about, in the order of what was learnt.
    """

    by: str
    window: int
    calendar: str
    learnt: tuple[int, ...] = ()

    @classmethod
    def of(cls, time: xr.DataArray, by: str, window: int, least: int) -> Self:
        """The grouping that training times teach.

        Args:
            time: training times.
            by: see the class.
            window: days.
            least: values that a group needs.

        Raises:
            InputError: when a month, a season, a day of the year or the whole has fewer.
        """
        calendar = str(time.dt.calendar)
        found = [int(each) for each in np.unique(group_numbers(time, by, calendar))]
        samples = cls(by, window, calendar, tuple(found)).samples(time)
        counts = {each: len(sample) for each, sample in zip(found, samples, strict=True)}
        learnt = tuple(each for each in found if counts[each] >= least)
        complete = cls(by, window, calendar, learnt)
        short = [each for each in found if complete._nearest(np.array([each]))[0] < 0]
        if short or not learnt:
            told = ", ".join(f"{counts[each]} in {label(each, by)}" for each in short[:4])
            raise InputError(
                f"got too few training times for an adjustment by: {by}: {told or 'none'}; expected at least {least} "
                "in each group (2 x quantiles); train on more years, set fewer quantiles, or choose larger groups "
                "(by: season, by: all, a longer window)"
            )
        return complete

    def places(self, time: xr.DataArray) -> Places:
        """Where in the order of what was learnt each time belongs (time,).

        Raises:
            InputError: on times of groups that were not learnt.
        """
        numbers = group_numbers(time, self.by, self.calendar)
        result = self._nearest(numbers)
        if (result < 0).any():
            unknown = [label(int(each), self.by) for each in np.unique(numbers[result < 0])]
            known = [label(each, self.by) for each in self.learnt]
            raise InputError(
                f"got times in {_listed(unknown)}, for which the bias adjustment has learnt nothing; expected times in "
                f"{_listed(known)}; leave the others out (finegrid downscale --time, or fields.sel), or train on "
                "years that have them"
            )
        return result

    def samples(self, time: xr.DataArray) -> list[Places]:
        """Positions of the times that each learnt group is learnt from: its own, and those of the window."""
        numbers = group_numbers(time, self.by, self.calendar)
        members = [np.flatnonzero(numbers == each) for each in self.learnt]
        return self.around(time, members)

    def around(self, time: xr.DataArray, members: Sequence[Places]) -> list[Places]:
        """Positions of the times within the window around those of each group, these included."""
        if self.by != "day_of_year":
            return list(members)
        days = day_numbers(time)
        return [_within(days, np.unique(days[each]), self.window // 2) for each in members]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"by": self.by, "window": self.window, "calendar": self.calendar, "learnt": list(self.learnt)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The grouping that `to_dict` described."""
        return cls(values["by"], values["window"], values["calendar"], tuple(values["learnt"]))

    def _nearest(self, numbers: Places) -> Places:
        """Places of the nearest learnt groups: exact ones, or days within half a window; -1 for none."""
        if not self.learnt:
            return np.full(numbers.shape, -1)
        values, inverse = np.unique(numbers, return_inverse=True)
        apart = np.abs(values[:, None] - np.array(self.learnt))
        if self.by == "day_of_year":
            apart = np.minimum(apart, _LENGTHS.get(self.calendar, 366) - apart)
        nearest = apart.argmin(axis=1)
        reach = self.window // 2 if self.by == "day_of_year" else 0
        near = apart[np.arange(len(values)), nearest] <= reach
        return np.asarray(np.where(near, nearest, -1)[inverse])


def occurring(places: Places) -> list[tuple[int, Places]]:
    """Each group that occurs among places (time,), and the positions of its times."""
    return [(int(place), np.flatnonzero(places == place)) for place in np.unique(places)]


def group_numbers(time: xr.DataArray, by: str, calendar: str | None = None) -> Places:
    """The group of every time (time,): 1..12, 1..4, the day of the year, or 1.

    Args:
        time: times.
        by: "month", "season", "day_of_year" or "all".
        calendar: whose days of the year are meant; None is that of the times.
    """
    if by == "month":
        return np.asarray(time.dt.month.values)
    if by == "season":
        return np.asarray(time.dt.month.values % 12 // 3 + 1)
    if by == "day_of_year":
        return _days_of_year(time, calendar)
    return np.ones(len(time), dtype=np.int64)


def label(number: int, by: str) -> str:
    """A group in words."""
    if by == "month":
        return _MONTHS[number - 1]
    if by == "season":
        return _SEASONS[number - 1]
    return "all times" if by == "all" else f"day {number} of the year"


def day_numbers(time: xr.DataArray) -> Places:
    """Days from the first one, in any calendar (time,)."""
    if not len(time):
        return np.zeros(0, dtype=np.int64)
    first = time.dt.hour.values[0] * 3600.0 + time.dt.minute.values[0] * 60.0
    return np.asarray(np.floor((seconds_since_start(time) + first) / _DAY + 1e-9), dtype=np.int64)


def _within(days: Places, own: Places, half: int) -> Places:
    """Positions of the days that are no more than so many days from one of `own` (sorted)."""
    after = np.searchsorted(own, days)
    last = len(own) - 1
    apart = np.minimum(np.abs(own[np.minimum(after, last)] - days), np.abs(own[np.maximum(after - 1, 0)] - days))
    return np.flatnonzero(apart <= half)


def _days_of_year(time: xr.DataArray, calendar: str | None) -> Places:
    own = str(time.dt.calendar)
    days = np.asarray(time.dt.dayofyear.values)
    if calendar is None or calendar == own or {calendar, own} <= set(_STANDARD):
        return days
    leap = np.asarray(time.dt.is_leap_year.values) if own in _STANDARD else np.zeros(len(time), dtype=bool)
    length = np.where(leap, 366, _LENGTHS.get(own, 365))
    return np.asarray(np.ceil((days - 0.5) / length * _LENGTHS.get(calendar, 365)), dtype=np.int64)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) if len(words) <= 4 else f"{', '.join(words[:3])} ... {words[-1]} ({len(words)} groups)"


@dataclass(frozen=True)
class Times:
    """The times of a record as a method sees them.

    Attributes:
        days: days from the first time (time,).
        groups: place of each group that occurs, and the positions of its times.
        around: for each group, the positions of its times and those within the window.
        window: days of the window; 1 for none.
    """

    days: Places
    groups: Sequence[tuple[int, Places]]
    around: Sequence[Places]
    window: int = 1

    @classmethod
    def of(cls, time: xr.DataArray, grouping: Grouping) -> Times:
        """The times of a whole record."""
        places = grouping.places(time)
        groups = occurring(places)
        around = grouping.around(time, [members for _, members in groups])
        return cls(day_numbers(time), groups, around, grouping.window if grouping.by == "day_of_year" else 1)
