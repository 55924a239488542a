"""Simple forecasts of any record: what a system of forecasts has to beat.

    persistence          f(l) = x(0)
    climatology          f(l) = c                       c: the mean of the month and hour of the valid time in training
    damped-persistence   f(l) = c + r^l (x(0) - c(0))   r: correlation of a time with the next in training, by cell

The last one, an autoregression in every cell, is the best linear forecast from the cell itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from finegrid.data.splits import Indices
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.leads.climate import Climate

_MOST = 0.999


@dataclass(frozen=True, eq=False)
class Start:
    """What forecasts of one variable start from.

    Attributes:
        field: the record (time, y, x).
        learning: indices of its times that may be learnt from.
        inits: indices of the times at which forecasts start.
        steps: leads of 1 to so many steps of the record.
        step: their length.
    """

    field: xr.DataArray
    learning: Indices
    inits: Indices
    steps: int
    step: pd.Timedelta

    @property
    def times(self) -> pd.Index:
        """Initial times."""
        return self.field.indexes["time"][self.inits]

    @cached_property
    def values(self) -> Array:
        """The fields from which forecasts start (init, y, x)."""
        return np.asarray(self.field.values[self.inits], dtype=np.float64)

    @cached_property
    def climate(self) -> Climate:
        """That of the times that may be learnt from."""
        return Climate.of(self.field.isel(time=self.learning))

    @property
    def expected(self) -> Array:
        """The climate at the valid times (init, lead, y, x)."""
        return np.stack([self.climate.at(self.times + lead * self.step) for lead in range(1, self.steps + 1)], axis=1)

    @property
    def memory(self) -> Array:
        """Lag-one correlation of the anomalies (y, x); pairs of times that are farther apart do not count."""
        known = self.field.isel(time=self.learning)
        time = known.indexes["time"]
        anomaly = np.asarray(known.values, dtype=np.float64) - self.climate.at(time)
        near = np.asarray(pd.to_timedelta(np.diff(np.asarray(time))) == self.step)
        both = np.nansum(anomaly[1:][near] * anomaly[:-1][near], axis=0)
        return np.clip(np.nan_to_num(ratio(both, np.nansum(anomaly[:-1][near] ** 2, axis=0))), 0.0, _MOST)


Forecaster = Callable[[Start], Array]
"""Fields (init, lead, y, x) from a start."""


def persistence(start: Start) -> Array:
    """What is now stays."""
    return np.repeat(start.values[:, None], start.steps, axis=1)


def climatology(start: Start) -> Array:
    """What is usual at that time of the year."""
    return start.expected


def damped_persistence(start: Start) -> Array:
    """What is unusual now fades."""
    anomaly = start.values - start.climate.at(start.times)
    fading = start.memory ** np.arange(1, start.steps + 1)[:, None, None]
    return np.asarray(start.expected + anomaly[:, None] * fading)


FORECASTERS: dict[str, Forecaster] = {
    "persistence": persistence,
    "climatology": climatology,
    "damped-persistence": damped_persistence,
}
"""By name."""
