"""The units of a record that are never cut, as in blocked cross-validation: whole seasons, years, months or days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import xarray as xr

# The same units as `folds` has, so that a winter is a winter everywhere.
from finegrid.benchmark.folds import apart_from, days_of, units_of
from finegrid.conventions import InputError
from finegrid.data.splits import Indices


@dataclass(frozen=True, eq=False)
class Units:
    """A record cut where nothing is lost.

    Attributes:
        time: of the record.
        parts: indices of the times of each unit, ascending.
        word: what they are.
    """

    time: xr.DataArray
    parts: Sequence[Indices]
    word: str

    @classmethod
    def of(cls, time: xr.DataArray, least: int) -> Units:
        """The largest units of which there are at least so many.

        Raises:
            InputError: on a shorter record.
        """
        days = days_of(time)
        try:
            return cls(time, *units_of(time, days, least))
        except InputError:
            raise InputError(
                f"got {len(time)} times within {days[-1]:.3g} days; expected at least {least} seasons, years, months "
                "or days; take a task with a longer record"
            ) from None

    def times(self, chosen: Sequence[int]) -> Indices:
        """Indices of the times of some units, ascending."""
        return np.sort(np.concatenate([self.parts[index] for index in chosen]))

    def apart(self, chosen: Sequence[int]) -> Indices:
        """Indices of the times that are neither in these units nor close to them, because weather remembers."""
        days = days_of(self.time)
        return reduce(np.intersect1d, (apart_from(days, self.parts[index]) for index in chosen))

    def means(self, series: xr.DataArray) -> np.ndarray:
        """Means of a series (time,) over each unit (unit,)."""
        values = np.asarray(series.values, dtype=np.float64)
        return np.array([np.nanmean(values[part]) for part in self.parts])
