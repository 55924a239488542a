"""Which times a method learns from and which it predicts: one block held back, or every block in turn.

In blocked cross-validation the record is cut into contiguous folds. Each is predicted by a method that learnt from the
others, the predictions are joined, and the whole record is judged once: on a short record of a climate that changes
from year to year, one test block of two winters says little. Folds are whole seasons where the record has gaps between
them (winters), else whole years from December to November, months or days: the largest of which there are enough, so
that no winter is split (Maraun et al. 2015 and its five folds). Times within three days of a fold are not learnt from
(at most a tenth of its length), because weather remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.splits import Indices, check_training_times
from finegrid.pipeline.fit import period_of
from finegrid.pipeline.material import Material

_DAY = 86_400.0
# Days without a time that end a season; steps of months are longer than that.
_GAP_DAYS, _GAP_STEPS = 20.0, 1.5
_APART_DAYS, _APART_PART = 3.0, 0.1
_DECEMBER, _MONTHS = 12, 12


@dataclass(frozen=True, eq=False)
class Part:
    """What is learnt from and what is predicted then.

    Attributes:
        learning: indices of the times to learn from.
        test: indices of the times to predict.
        validate: indices, among `learning`, that choose when to stop; None leaves it to the method.
    """

    learning: Indices
    test: Indices
    validate: Indices | None = None


@dataclass(frozen=True, eq=False)
class Protocol:
    """How a method is tried on a task.

    Attributes:
        parts: in the order of their test times.
        words: what was held back, for the record.
    """

    parts: tuple[Part, ...]
    words: str

    @property
    def test(self) -> Indices:
        """All times that are predicted, ascending."""
        return np.concatenate([part.test for part in self.parts])

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


def held_back(material: Material) -> Protocol:
    """The last block of the task is predicted by what learnt from the others."""
    truth = material.at(material.blocks.test)[1]
    blocks = material.blocks
    return Protocol((Part(material.learning, blocks.test, blocks.validate),), period_of(truth, material))


def crossed(time: xr.DataArray, number: int) -> Protocol:
    """Every fold is predicted by what learnt from the others.

    Args:
        time: times of the record, ascending.
        number: of folds.

    Raises:
        InputError: when fewer than two are asked for, or the record is too short for so many.
    """
    if number < 2:
        raise InputError(f"got {number} fold(s); expected at least 2; use --folds 5, or leave --folds out")
    days = days_of(time)
    units, word = units_of(time, days, number)
    blocks = [np.concatenate(each) for each in _shared_out(units, number)]
    parts = tuple(Part(apart_from(days, block), block) for block in blocks)
    for part in parts:
        check_training_times(part.learning, time)
    first, last = (str(each)[:10] for each in (time.values[0], time.values[-1]))
    words = f"{number} folds of whole {word}: {len(days)} times from {first} to {last}, each predicted by what had not "
    return Protocol(parts, f"{words}learnt from its fold")


def days_of(time: xr.DataArray) -> NDArray[np.float64]:
    """Days since the first time, in any calendar."""
    passed = (time - time[0]).values.astype("timedelta64[s]")
    return np.asarray(passed.astype(np.float64) / _DAY)


def units_of(time: xr.DataArray, days: NDArray[np.float64], number: int) -> tuple[list[Indices], str]:
    """What is not cut: the largest of seasons, years, months and days of which there are enough."""
    for word, labels in _LABELS.items():
        label = labels(time, days)
        units = np.split(np.arange(len(label)), np.flatnonzero(np.diff(label)) + 1)
        if len(units) >= number:
            return units, word
    raise InputError(
        f"got {number} folds for {len(days)} times within {days[-1]:.3g} days; expected a record of at least as many "
        "days; use fewer --folds"
    )


def _seasons(time: xr.DataArray, days: NDArray[np.float64]) -> Indices:
    """Number of the season of each time: seasons are parted by gaps."""
    steps = np.diff(days, prepend=days[0])
    usual = float(np.median(steps[1:])) if len(steps) > 1 else 0.0
    return np.asarray((steps > max(_GAP_DAYS, _GAP_STEPS * usual)).cumsum())


def _months(time: xr.DataArray, days: NDArray[np.float64]) -> Indices:
    return np.asarray(time.dt.year.values * _MONTHS + time.dt.month.values)


def _years(time: xr.DataArray, days: NDArray[np.float64]) -> Indices:
    """Years from December to November."""
    return np.asarray(time.dt.year.values + (time.dt.month.values == _DECEMBER))


def _whole_days(time: xr.DataArray, days: NDArray[np.float64]) -> Indices:
    return np.asarray(_months(time, days) * 31 + time.dt.day.values)


_LABELS: dict[str, Callable[[xr.DataArray, NDArray[np.float64]], Indices]] = {
    "seasons": _seasons,
    "years": _years,
    "months": _months,
    "days": _whole_days,
}


def _shared_out(units: list[Indices], number: int) -> list[list[Indices]]:
    """Consecutive units in `number` groups of as many units as possible alike."""
    edges = np.linspace(0, len(units), number + 1).round().astype(int)
    return [units[start:end] for start, end in pairwise(edges)]


def apart_from(days: NDArray[np.float64], block: Indices) -> Indices:
    """Times that are neither in the block nor close to it."""
    first, last = days[block[0]], days[block[-1]]
    distance = np.maximum(first - days, days - last)
    return np.flatnonzero(distance > min(_APART_DAYS, _APART_PART * (last - first)))
