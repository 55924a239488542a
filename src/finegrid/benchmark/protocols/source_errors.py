"""How wrong predictions are, of values and of events.

    value     RMSE
    chance    sqrt(mean (p - o)^2), the root of the Brier score: the RMSE of p = Phi((prediction - threshold) / s)
    decision  mean |[p > 1/2] - o|, what accuracy lacks to one

o is 1 where the value is above the threshold and else 0. The threshold is the 95th percentile of the training truth in
each cell, s the deviation of the errors that the method had there in training with all its sources: it does not know
that one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from scipy.special import ndtr

from finegrid.benchmark.protocols.handlings import Bench, Handling, Predictions
from finegrid.conventions import harmonise
from finegrid.data.members import mean_of_members
from finegrid.evaluation.alignment import Case, align, step_seconds
from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.leads.scene import quantile
from finegrid.evaluation.metrics.reading import loaded
from finegrid.evaluation.metrics.reference import EVENT
from finegrid.evaluation.sampled import Sampled, draws_of
from finegrid.grids import Grid


@dataclass(frozen=True)
class Kind:
    """A kind of question.

    Attributes:
        words: what is asked for.
        title: of the error.
        finish: from the mean of what is summed to the error.
    """

    words: str
    title: str
    finish: Callable[[Array], Array]


def _first(means: Array) -> Array:
    return np.asarray(means[0])


def _root(means: Array) -> Array:
    return np.asarray(np.sqrt(means[0]))


KINDS: Mapping[str, Kind] = {
    "value": Kind("values", "RMSE", _root),
    "chance": Kind("chances of events", "RMSE of chances", _root),
    "decision": Kind("events, yes or no", "error rate", _first),
}
"""Kinds of questions by name."""
_YES = 0.5
Measured = Mapping[tuple[str, str, str], Sampled]
"""Errors by method, variable and kind."""


@dataclass(eq=False)
class SourceErrors:
    """Errors of predictions of the test times, on draws that all share.

    Attributes:
        bench: the task.
        thresholds: of the event in each cell (y, x), by variable.
    """

    bench: Bench
    thresholds: Mapping[str, Array]
    _spread: dict[tuple[str, str, str], Array] = field(default_factory=dict, repr=False)
    _draws: dict[str, Draws | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, bench: Bench) -> SourceErrors:
        """With the thresholds of the training truth."""
        truth = mean_of_members(harmonise(bench.learning[1])[0])
        variables = bench.task.variables
        return cls(bench, {name: quantile(truth[name].transpose("time", "y", "x"), EVENT) for name in variables})

    @property
    def words(self) -> str:
        """What the event is, in a sentence."""
        return (
            f"An event is a value above the {100 * EVENT:.0f}th percentile of the training truth in its cell. Its "
            "chance is that of a normal error with the deviation that the method had there in training."
        )

    def measured(self, handling: Handling, dropped: str | None = None) -> Measured:
        """Errors of a handling with all sources, or without one."""
        coarse, truth = self.bench.test
        found: dict[tuple[str, str, str], Sampled] = {}
        for case in self._cases(handling.predict(coarse, dropped), truth):
            right, area = loaded(case.truth, slice(None)), Grid.of(case.truth).area
            for method, prediction in case.predictions.items():
                values = loaded(prediction, slice(None)).mean(axis=0)
                chance = self._chance(values, handling, method, case.name)
                event = np.where(np.isfinite(right), right > self.thresholds[case.name], np.nan)
                wrong = {
                    "value": (values - right) ** 2,
                    "chance": (chance - event) ** 2,
                    "decision": np.abs((chance > _YES) - event),
                }
                for kind, each in wrong.items():
                    totals = Totals.of(each[None], area)
                    draws = self._draws_of(case, totals)
                    found[method, case.name, kind] = Sampled.of(totals, KINDS[kind].finish, draws)
        return found

    def _chance(self, values: Array, handling: Handling, method: str, variable: str) -> Array:
        """P(value > threshold) (time, y, x)."""
        key = (handling.name, method, variable)
        if key not in self._spread:
            coarse, truth = self.bench.learning
            for case in self._cases(handling.predict(coarse), truth):
                right = loaded(case.truth, slice(None))
                for name, prediction in case.predictions.items():
                    errors = loaded(prediction, slice(None)).mean(axis=0) - right
                    self._spread[handling.name, name, case.name] = _deviation(errors)
        spread = self._spread[key]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(ndtr((values - self.thresholds[variable]) / spread))

    def _cases(self, predictions: Predictions, truth: xr.Dataset) -> tuple[Case, ...]:
        return align(predictions, truth, None, variables=list(self.bench.task.variables))

    def _draws_of(self, case: Case, totals: Totals) -> Draws | None:
        """Those of the variable, by the first errors that come."""
        if case.name not in self._draws:
            block, step = self.bench.task.block, step_seconds(case.truth)
            self._draws[case.name] = draws_of(totals.per_time()[0], block=block, step_seconds=step)
        return self._draws[case.name]


def _deviation(errors: Array) -> Array:
    """Root-mean-square over time (y, x)."""
    known = np.isfinite(errors)
    total = np.where(known, errors, 0.0) ** 2
    return np.asarray(np.sqrt(total.sum(axis=0) / np.maximum(known.sum(axis=0), 1)))
