"""Fields of ranks between 0 and 1 from training days: how fine cells go together, whatever the value of each.

The truth of a training day has a rank in the distribution that was predicted for it, cell by cell. Put in order over
all training days these ranks are uniform in every cell, and day by day they are patterns of nature. A member takes the
patterns of consecutive training days, `length` at a time, of the season of the days it is for. Which days these are
depends on the seed, the member and the time alone, so that it is the same in whatever pieces a record is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.data.predictors import days_of_year, days_of_year_of_steps, steps_since_epoch

_LEVELS = 65536
# Days of the year around a day whose patterns may stand for it.
_SEASON = 45


@dataclass(frozen=True)
class Ranks:
    """Ranks of training days.

    Attributes:
        levels: ranks in steps of 1/65536, (time, ...), as unsigned integers of 16 bits.
        day_of_year: of the training times (time,), from 0 to 365.
        follows: number of training times that come without a gap after each (time,).
        length: consecutive time steps that take consecutive training times.
        step_seconds: length of a time step.
    """

    levels: NDArray[np.uint16]
    day_of_year: NDArray[np.float32]
    follows: NDArray[np.int32]
    length: int
    step_seconds: float

    @classmethod
    def of(
        cls, chances: NDArray[np.float32], time: xr.DataArray, *, length: int, step_seconds: float, seed: int
    ) -> Self:
        """Ranks from probabilities (time, ...) of the truth in its predicted distribution; missing ones are drawn."""
        generator = np.random.default_rng(seed)
        filled = np.where(np.isfinite(chances), chances, generator.random(chances.shape, dtype=np.float32))
        order = filled.argsort(axis=0, kind="stable").argsort(axis=0)
        levels = ((order + 0.5) / len(order) * _LEVELS).astype(np.uint16)
        steps = steps_since_epoch(time, step_seconds)
        return cls(levels, days_of_year(time).astype(np.float32), _runs(steps), max(1, length), step_seconds)

    def tensors(self) -> dict[str, Tensor]:
        """All of it for a model file."""
        shifted = (self.levels.astype(np.int32) - _LEVELS // 2).astype(np.int16)
        return {
            "ranks": torch.from_numpy(shifted),
            "ranks/day": torch.from_numpy(self.day_of_year),
            "ranks/follows": torch.from_numpy(self.follows),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, length: int, step_seconds: float) -> Self:
        """What `tensors` gave."""
        levels = (tensors["ranks"].numpy().astype(np.int32) + _LEVELS // 2).astype(np.uint16)
        return cls(levels, tensors["ranks/day"].numpy(), tensors["ranks/follows"].numpy(), max(1, length), step_seconds)

    def __call__(self, time: xr.DataArray, *, member: int, seed: int) -> NDArray[np.float32]:
        """Ranks (time, ...) for these times."""
        chosen = self.days(time, member=member, seed=seed)
        return ((self.levels[chosen].astype(np.float32) + 0.5) / _LEVELS).astype(np.float32)

    def days(self, time: xr.DataArray, *, member: int, seed: int) -> NDArray[np.intp]:
        """Indices of the training times whose patterns these times take."""
        steps = steps_since_epoch(time, self.step_seconds)
        pieces, of_time = np.unique(steps // self.length, return_inverse=True)
        # The season of the piece and not of the first of these times in it, which depends on where a record is cut.
        season = days_of_year_of_steps(pieces * self.length, self.step_seconds, time)
        starts = [self._start(int(piece), day, member, seed) for piece, day in zip(pieces, season, strict=True)]
        begun = np.array(starts, dtype=np.intp)[of_time]
        return begun + np.minimum(steps % self.length, self.follows[begun])

    def _start(self, piece: int, day: float, member: int, seed: int) -> int:
        """The training time with which a piece of consecutive times begins."""
        away = np.abs((self.day_of_year - day + 183.0) % 366.0 - 183.0)
        near = np.flatnonzero(away <= max(_SEASON, float(away.min())))
        whole = near[self.follows[near] >= self.length - 1]
        pool = whole if len(whole) else near
        return int(pool[np.random.default_rng([seed, member, piece % 2**32]).integers(len(pool))])


def _runs(steps: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each time how many follow without a gap."""
    ends = np.flatnonzero(np.append(np.diff(steps) != 1, True))
    last = ends[np.searchsorted(ends, np.arange(len(steps)))]
    return (last - np.arange(len(steps))).astype(np.int32)
