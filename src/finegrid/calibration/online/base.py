"""What an online calibrator is: an interval is issued, the truth arrives, and the next interval has learnt from it.

A variant says with which state it begins (`_begun`), how far from the mean of the members the values at given chances
lie by its state (`_offsets`), and what one time teaches (`_step`). What all share is here: the order of times,
intervals as they were issued before their truth was known, and a state of plain arrays that a model folder can keep.

Cases without truth, or without a prediction, teach nothing and leave the state of their group as it was.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Make, Notes
from finegrid.calibration.cases import Cases, matched
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.members import checked_levels
from finegrid.conventions import InputError, harmonise, restore

_LAST = "last"


@dataclass(kw_only=True)
class Online(Calibrator):
    """What those that learn as truth arrives share; `fit` goes through the calibration cases in the order of time."""

    groups: Sequence[str] = ("cell",)

    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.shrink:
            raise InputError(
                f"got shrink: {self.shrink:g} for the calibrator '{self.name}', which has no use for it; expected 0; "
                "use larger groups, such as region, where those are small"
            )

    def update(self, ensemble: xr.Dataset, observed: xr.Dataset) -> Self:
        """Learn from later predictions and what came true, in the order of time.

        Raises:
            InputError: on times that are not later than all before.
        """
        self._followed(ensemble, observed, np.zeros(0))
        return self

    def follow(self, ensemble: xr.Dataset, observed: xr.Dataset, level: float = 0.9) -> xr.Dataset:
        """Intervals (quantile, time, y, x) as each was issued before the truth of its time was known; learns from it.

        Raises:
            InputError: on times that are not later than all before.
        """
        return self._followed(ensemble, observed, checked_levels([(1 - level) / 2, (1 + level) / 2]))

    def last(self, variable: str) -> str:
        """The time up to which it has learnt of a variable, such as 2001-12-31T00:00:00."""
        return self._learnt[variable][_LAST].tobytes().decode()

    @abstractmethod
    def _begun(self, notes: Notes) -> Learnt:
        """The state before the first case."""

    @abstractmethod
    def _offsets(self, learnt: Learnt, chances: Array) -> Array:
        """How far from the mean the values at chances lie (chance, group), by the present state."""

    @abstractmethod
    def _step(self, learnt: Learnt, residual: Array, place: Places) -> None:
        """Learn from what the truth is above the mean (y, x) at one time, in place; NaN where it is not known."""

    def _passed(self, learnt: Learnt, residuals: Array, places: Places, chances: Array) -> Array:
        """Offsets (chance, time, y, x) that were issued before each time; learns from these times, in place."""
        issued = np.empty((len(chances), *residuals.shape))
        for number, (residual, place) in enumerate(zip(residuals, places, strict=True)):
            if len(chances):
                issued[:, number] = self._offsets(learnt, chances)[:, place]
            self._step(learnt, residual, place)
        return issued

    def _evidence(self, some: Cases) -> Evidence:
        return {"residual": some.known - some.mean}

    def _learn(self, notes: Notes) -> Learnt:
        learnt = self._begun(notes)
        self._passed(learnt, notes.evidence["residual"], notes.places, np.zeros(0))
        return learnt | {_LAST: _packed(_stamps(notes.time)[-1])}

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        return np.asarray(some.mean + self._offsets(learnt, levels)[:, place])

    def _followed(self, ensemble: xr.Dataset, observed: xr.Dataset, chances: Array) -> xr.Dataset:
        given, truth = matched(ensemble, observed)
        names = [name for name in self.variables if name in given.data_vars]
        first, *_, last = np.repeat(_stamps(given.time), 2)
        for name in names:
            self._check_later(name, str(first))
        # What was handed out by `state`, and what was known before an error, stays as it was.
        copies = {name: {key: each.copy() for key, each in self._learnt[name].items()} for name in names}
        issued = self._mapped(given, self._learner(truth, copies, chances), chances, lazy=False)
        self._learnt |= {name: copies[name] | {_LAST: _packed(last)} for name in names}
        return restore(issued, harmonise(ensemble)[1])

    def _learner(self, truth: xr.Dataset, learnt: dict[str, Learnt], chances: Array) -> Make:
        def passed(some: Cases, _: Learnt, place: Places) -> Array:
            times = slice(some.first, some.first + len(some))
            known = truth[some.name].transpose("time", ...).isel(time=times).values
            residuals = replace(some, truth=known).known - some.mean
            return np.asarray(some.mean + self._passed(learnt[some.name], residuals, place, chances))

        return passed

    def _check_later(self, name: str, first: str) -> None:
        if first <= self.last(name):
            raise InputError(
                f"got cases of {name} from {first} on; expected times later than {self.last(name)}, up to which the "
                f"calibrator '{self.name}' has learnt; leave out the earlier ones, or fit it on all cases together"
            )


def _stamps(time: xr.DataArray) -> NDArray[Any]:
    """Times as words that sort like them, of any calendar."""
    return np.asarray(time.dt.strftime("%Y-%m-%dT%H:%M:%S").values.astype(str))


def _packed(stamp: str) -> NDArray[np.uint8]:
    return np.frombuffer(str(stamp).encode(), np.uint8).copy()
