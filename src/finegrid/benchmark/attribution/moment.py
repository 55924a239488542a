"""A downscaler at one time, as a function of what its coarse fields might have been.

    f(z) = target( mean over members of downscaler(z) )

z are the vectors of the time and of the neighbouring steps that the downscaler looks at, one after the other. Season,
hour, static fields and the random numbers of the members are those of the time, whatever z is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.benchmark.attribution.inputs import Inputs
from finegrid.benchmark.attribution.targets import Aim
from finegrid.conventions import InputError
from finegrid.data.predictors import seconds_since_start, usual_step
from finegrid.downscalers import Downscaler

# Relative difference between answers that should be the same.
_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class Moment:
    """One time of one downscaler, by its predictions.

    Attributes:
        downscaler: a fitted one.
        inputs: how its fields are a vector.
        aim: what is attributed.
        window: what `Downscaler.read` gave of the time and its neighbours.
        position: of the time among them.
        members: whose mean is looked at.
        seed: of their random numbers.
    """

    downscaler: Downscaler
    inputs: Inputs
    aim: Aim
    window: xr.Dataset
    position: int
    members: int = 1
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of times in the window."""
        return int(self.window.sizes["time"])

    @property
    def values(self) -> Tensor:
        """The vector (value,) of the window as it is."""
        return self.inputs.vectors(self.window).flatten()

    def __call__(self, points: Tensor) -> Tensor:
        """The number (batch,) for vectors (batch, value) of the window."""
        return self.aim(self._each(points, self._predicted))

    def check_alone(self, baseline: Tensor) -> None:
        """The answer for a time does not depend on the times beside it.

        Raises:
            InputError: when it does.
        """
        own = self.values[None]
        beside = self(torch.cat([own, baseline[:1], own]))[[0, 2]]
        if float((beside - self(own)).abs().max()) > _SAME * float(self(torch.cat([own, baseline[:1]])).abs().max()):
            raise InputError(
                f"the answer of '{self.downscaler.name}' for a time depends on other times of the record; expected a "
                "downscaler that looks at a time and its neighbours alone; attribute another one"
            )

    def guess(self, mean: Downscaler, points: Tensor) -> Tensor:
        """What another downscaler of the same domain makes of vectors (batch, output, H, W)."""
        return self._each(points, mean.fields, alone=mean._reach == 0)

    def times(self, count: int) -> xr.DataArray:
        """The times of the window, again and again."""
        return self.window["time"].isel(time=np.tile(np.arange(self.steps), count))

    def rows(self, count: int) -> NDArray[np.int64]:
        """Where the time is among these."""
        return np.arange(count) * self.steps + self.position

    def _predicted(self, fields: xr.Dataset) -> Tensor:
        with torch.no_grad():
            fine = self.downscaler._members(fields, self.members, self.seed)
        return self.downscaler._known(fine, fields).mean(0)

    def _each(self, points: Tensor, made: Callable[[xr.Dataset], Tensor], alone: bool | None = None) -> Tensor:
        """Fine fields of the time for each vector.

        Of a window of a single time copies are asked one by one where neighbours are looked at: those of a copy would
        be other copies.
        """
        alone = self.downscaler._reach == 0 if alone is None else alone
        if self.steps == 1 and not alone:
            return torch.cat([made(self._fields(point[None])) for point in points])
        return made(self._fields(points))[self.rows(len(points))]

    def _fields(self, points: Tensor) -> xr.Dataset:
        every = points.reshape(len(points) * self.steps, self.inputs.size)
        return self.inputs.fields(every, self.times(len(points)), self.window)


def window_of(time: xr.DataArray, index: int, reach: int) -> tuple[slice, int]:
    """The times that a prediction looks at, up to `reach` on either side without a gap, and where it is in them."""
    seconds, step = seconds_since_start(time), usual_step(time)
    whole = np.abs(np.diff(seconds) - step) <= 0.5 * step
    first = last = index
    while first > max(0, index - reach) and whole[first - 1]:
        first -= 1
    while last < min(len(seconds) - 1, index + reach) and whole[last]:
        last += 1
    return slice(first, last + 1), index - first
