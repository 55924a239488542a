"""Which times are looked at, so that time and memory stay bounded, and which blocks of training they compare with.

Of a long record every so many-th time is kept, at most 4096, such that many hours of the day are seen. The new input
is cut into parts as long as the longest block of training that there are enough of.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Self

import numpy as np
import xarray as xr

from finegrid.data.predictors import usual_step
from finegrid.evaluation.guard.traits import Places
from finegrid.evaluation.guard.usual import LONGEST

MOST_ROWS, MONTHS = 4096, 12
# Pairs of rows are compared: this many squared fit into memory.
_PAIRED = 2048
# Training times from which months are compared with themselves.
_ENOUGH = 60
# Times of a short input of which as many are looked at as there are.
_FEW = 64
# Different hours of the day that are seen at least, if there are so many.
_HOURS = 8
_DAY = 86400.0


def stride(count: int, step_seconds: float, *, most: int = MOST_ROWS, apart: int = 1) -> int:
    """Every which time is kept so that there are at most so many, of many hours of the day.

    Args:
        count: how many there are.
        step_seconds: between times.
        most: how many are kept.
        apart: every which of the times was kept before.
    """
    wanted, daily = -(-count // most), max(1, round(_DAY / step_seconds))
    if wanted <= 1:
        return 1
    seen = min(daily, _HOURS)
    return next(each for each in range(wanted, wanted + daily + 1) if daily // gcd(each * apart, daily) >= seen)


def months_of(time: xr.DataArray, *, seasonal: bool) -> Places:
    """Number of the calendar month, from 0; all 0 where seasons mean nothing."""
    return np.asarray(time.dt.month.values - 1 if seasonal else np.zeros(len(time)), dtype=np.intp)


def alike(training: Places, months: Places, every: int, step_seconds: float) -> tuple[Places, int]:
    """Training rows of the same months where there are enough, else all, so few that pairs of them fit.

    Args:
        training: month of each row.
        months: of the new times.
        every: times of the training record from one row to the next.
        step_seconds: of the training record.

    Returns:
        The rows, and the times of the training record from one of them to the next.
    """
    chosen = np.flatnonzero(np.isin(training, months))
    rows = chosen if len(chosen) >= _ENOUGH else np.arange(len(training))
    further = stride(len(rows), step_seconds, most=_PAIRED, apart=every)
    return rows[::further], every * further


@dataclass(frozen=True, eq=False)
class Plan:
    """How the new input is looked at.

    Attributes:
        rows: indices of its times (part, time).
        length: training rows that are as long as a part.
    """

    rows: Places
    length: int

    @classmethod
    def of(cls, time: xr.DataArray, training: int, every: int, step_seconds: float) -> Self:
        """The plan for new times.

        Args:
            time: the new times.
            training: number of training rows to compare with.
            every: times of the training record from one of them to the next.
            step_seconds: of the training record.
        """
        count, longest = len(time), max(1, training // LONGEST)
        steps = count * (usual_step(time) / step_seconds if count > 1 else 1.0)
        length = int(np.clip(round(steps / every), 1, count))
        parts = min(-(-length // longest), max(1, MOST_ROWS // longest))
        block = min(longest, -(-length // parts))
        size = min(count, max(1, round(block * count / max(length, 1))))
        apart = max(1, min(round(size / block), size // _FEW)) if size > _FEW else 1
        starts = np.linspace(0, count - size, parts).round().astype(np.intp)
        return cls(starts[:, None] + np.arange(0, size, apart)[None], block)
