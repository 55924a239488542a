"""What an evaluation found: scores as plain values, and what a report needs to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.ensembles import Ensemble
from finegrid.evaluation.floor import Floor
from finegrid.evaluation.indices.found import IndexScore
from finegrid.evaluation.metrics import METRICS
from finegrid.grids import Grid

MAIN_METRIC = "rmse"
"""The metric by which methods are ranked in one sentence."""


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        method: who made the prediction.
        variable: of what.
        metric: a name in METRICS.
        value: the score; NaN where it cannot be had.
        low: lower end of its 95 % interval; NaN with too few times.
        high: upper end.
        units: of the score; "1" where it has none.
        gap_low: lower end of the 95 % interval of how much further from perfect it is than the best method.
        gap_high: upper end.
        best: whether no method is nearer to perfect.
        tied: whether it cannot be told apart from the best one: the interval of the difference includes
            zero, there are too few times to say, or the difference is below a thousandth or the floor.
        floor: what internal variability of the truth leaves of a perfect score (`floor`); NaN where it is not known.
    """

    method: str
    variable: str
    metric: str
    value: float
    low: float
    high: float
    units: str = "1"
    gap_low: float = 0.0
    gap_high: float = 0.0
    best: bool = False
    tied: bool = False
    floor: float = np.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None."""
        numbers = {name: _plain(getattr(self, name)) for name in ("value", "low", "high", "gap_low", "gap_high")}
        words = {"method": self.method, "variable": self.variable, "metric": self.metric, "units": self.units}
        floor = {"floor": self.floor} if np.isfinite(self.floor) else {}
        return {**words, **numbers, **floor, "best": self.best, "tied": self.tied}


@dataclass(frozen=True)
class View:
    """Pictures of one variable at the time of median error, and of its errors over all times.

    Attributes:
        variable: name of the variable.
        label: its name for people.
        units: its units.
        grid: where the fine fields lie.
        time: the time shown.
        members: number of members behind the prediction, which is their mean.
        truth, prediction: fields (y, x).
        rival: name of the strongest baseline; nothing without baselines.
        rival_field: its field (y, x).
        coarse, coarse_grid: the coarse field, where there is one.
        errors: root-mean-square error over time in each cell (y, x), by method.
        wavenumbers: see `metrics.spectrum`; empty where there is no spectrum.
        spectra: variance in each ring of wavenumbers by method, and of the truth.
        ensemble: what is drawn of the members; None for a single prediction.
    """

    variable: str
    label: str
    units: str
    grid: Grid
    time: str
    members: int
    truth: Array
    prediction: Array
    rival: str
    rival_field: Array | None
    coarse: Array | None
    coarse_grid: Grid | None
    errors: Mapping[str, Array]
    wavenumbers: Array
    spectra: Mapping[str, Array]
    ensemble: Ensemble | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of a prediction beside its baselines.

    Attributes:
        method: name of the prediction.
        scores: one for each method, variable and metric.
        task: what was done.
        split: on which data.
        seconds: how long the prediction took to make.
        notes: what a reader has to know to judge the scores.
        sources: where the data are from: rows of words for a table.
        views: what a report draws, one for each variable.
        floors: internal variability of each variable whose truth has members.
        indices: how the climate of each method compares with the truth's, where that was asked.
    """

    method: str
    scores: tuple[Score, ...]
    task: str = ""
    split: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[Mapping[str, str], ...] = ()
    views: tuple[View, ...] = field(default=(), repr=False)
    indices: tuple[IndexScore, ...] = field(default=(), repr=False)
    floors: tuple[Floor, ...] = field(default=(), repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables in the order of the truth."""
        return tuple(dict.fromkeys(score.variable for score in self.scores))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, the prediction first."""
        return tuple(dict.fromkeys(score.method for score in self.scores))

    def of(self, variable: str, metric: str) -> dict[str, Score]:
        """Scores of every method by its name."""
        wanted = [score for score in self.scores if (score.variable, score.metric) == (variable, metric)]
        return {score.method: score for score in wanted}

    def floor(self, variable: str) -> Floor | None:
        """Internal variability of a variable; None where the truth has no members."""
        return next((each for each in self.floors if each.variable == variable), None)

    def metrics(self, variable: str) -> tuple[str, ...]:
        """Names of the metrics that a variable has."""
        return tuple(name for name in METRICS if self.of(variable, name))

    def strongest_baseline(self, variable: str) -> Score | None:
        """The baseline with the smallest error; None without baselines."""
        scores = self.of(variable, MAIN_METRIC)
        known = [score for name, score in scores.items() if name != self.method and not np.isnan(score.value)]
        return min(known, key=lambda score: score.value, default=None)


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
