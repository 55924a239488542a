"""Weather stations: what they measure some hours later, from their own past and that of their neighbours.

Root of the mean squared error over all known times and stations of the test, with intervals from blocks of times, and
how much smaller the mean squared error is than that of persistence (1 is perfect). Predictions of others are files with
the variable (time, point) on the test times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.benchmark.layouts.task import LayoutTask
from finegrid.benchmark.protocols.base import Answer, Estimate, Say, Table, quiet
from finegrid.benchmark.stations import NeighbourRidge, own_past, persistence
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.data import open_fields
from finegrid.data.damage import readable
from finegrid.evaluation.averaging import Totals
from finegrid.evaluation.sampled import Sampled, draws_of
from finegrid.evaluation.wording import labelled
from finegrid.pipeline.ledger import Watch
from finegrid.training import Settings

if TYPE_CHECKING:  # matplotlib is heavy
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Make = Callable[[xr.Dataset, xr.Dataset, xr.Dataset, str], Array]


def _persistence(given: xr.Dataset, wanted: xr.Dataset, later: xr.Dataset, variable: str) -> Array:
    return np.asarray(persistence(later, variable), dtype=np.float64)


def _own_past(given: xr.Dataset, wanted: xr.Dataset, later: xr.Dataset, variable: str) -> Array:
    return np.asarray(own_past(variable).fit(given, wanted).predict(later), dtype=np.float64)


def _neighbours(given: xr.Dataset, wanted: xr.Dataset, later: xr.Dataset, variable: str) -> Array:
    # Half of the others at most, where there are few.
    few = min(6, max(1, (given.sizes["point"] - 1) // 4))
    model = NeighbourRidge(variable=variable, nearest=few, correlated=few)
    return np.asarray(model.fit(given, wanted).predict(later), dtype=np.float64)


AHEAD: dict[str, Make] = {"persistence": _persistence, "own-past": _own_past, "neighbours": _neighbours}
"""By name: from inputs and truth of training, and inputs of the test."""


@dataclass(frozen=True)
class StationScore:
    """One variable of one method.

    Attributes:
        method: name.
        variable: of the stations.
        units: of the error.
        rmse: root of the mean squared error.
        skill: 1 - mean squared error / that of persistence.
    """

    method: str
    variable: str
    units: str
    rmse: Estimate
    skill: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class StationAnswer(Answer):
    """What `stations` found."""

    protocol: ClassVar[str] = "stations"
    rows: tuple[StationScore, ...]

    def tables(self) -> Iterator[tuple[str, Table]]:
        for variable in dict.fromkeys(row.variable for row in self.rows):
            own = sorted((row for row in self.rows if row.variable == variable), key=lambda row: row.rmse.value)
            head = ["method", labelled("RMSE", own[0].units), "skill against persistence"]
            yield variable, [head, *([row.method, row.rmse.words, row.skill.words] for row in own)]

    def picture(self) -> Figure:
        from matplotlib.figure import Figure

        from finegrid.evaluation.figures import BLUE, tidy

        names = list(dict.fromkeys(row.variable for row in self.rows))[:6]
        figure = Figure(figsize=(8.5, 1.0 + 1.7 * len(names)), layout="constrained")
        for axes, variable in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
            own = [row for row in self.rows if row.variable == variable][::-1]
            for place, row in enumerate(own):
                axes.plot([row.rmse.low, row.rmse.high], [place, place], color=BLUE, linewidth=3, alpha=0.5)
                axes.plot(row.rmse.value, place, "o", color=BLUE, markersize=8)
            axes.set_yticks(range(len(own)), [row.method for row in own])
            axes.set_ylim(-0.6, len(own) - 0.4)
            axes.set_xlim(left=0)
            axes.set_xlabel(f"{labelled(f'RMSE of {variable}', own[0].units)}; bars: 95 % interval", fontsize=10)
            tidy(axes)
        return figure


def stations(
    task: LayoutTask,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
) -> StationAnswer:
    """Ask forecasts at stations; see `protocols.base.Inquiry` for the arguments. Nothing here is trained by gradient.

    Args:
        task: from a folder of stations.
        methods: names in AHEAD; by default all.

    Raises:
        InputError: on an unknown method, or predictions of others that do not fit.
    """
    watch, names = Watch(), list(methods or AHEAD)
    for name in names:
        if name not in AHEAD:
            known = ", ".join(AHEAD)
            raise InputError(f"There is no forecast '{name}' at stations. Names: {known}.{nearest(name, AHEAD)}")
    opened = task.opened()
    blocks = task.blocks(opened)
    # Without the gap before the validation times: lags want times in a row.
    learning = np.arange(blocks.train[0], max(blocks.train[-1], *blocks.validate[-1:]) + 1)[:: task.thin]
    given, later = (opened.coarse[list(task.variables)].isel(time=each).load() for each in (learning, blocks.test))
    wanted, truth = (opened.fine[list(task.variables)].isel(time=each).load() for each in (learning, blocks.test))
    rows: list[StationScore] = []
    for variable in task.variables:
        values = {name: AHEAD[name](given, wanted, later, variable) for name in names}
        values |= {name: _entry(path, truth, variable, name) for name, path in task.entries.items()}
        rows += _scores(variable, values, _persistence(given, wanted, later, variable), truth[variable])
        say(f"{variable}: {', '.join(values)}")
    times, points = truth.sizes["time"], truth.sizes["point"]
    return StationAnswer(
        task=task.name,
        title=task.title,
        words=f"Learnt from {len(learning)} times, judged on {times} times of {points} stations.",
        rows=tuple(rows),
        notes=(f"Cite: {opened.citation}. Terms: {opened.licence}.",),
        seconds=watch.seconds,
    )


def _scores(variable: str, values: dict[str, Array], simple: Array, truth: xr.DataArray) -> Iterator[StationScore]:
    """Errors on the same draws of times; of each time and station that all know."""
    right = np.asarray(truth.values, dtype=np.float64)
    squares = {name: (each - right) ** 2 for name, each in {**values, "": simple}.items()}
    known = np.logical_and.reduce([np.isfinite(each) for each in squares.values()])
    totals = Totals(np.stack([np.where(known, each, 0.0).sum(axis=1) for each in squares.values()]), known.sum(axis=1))
    draws = draws_of(np.nan_to_num(totals.per_time()[-1]))
    mean = {name: Sampled.of(_only(totals, place), lambda means: means[0], draws) for place, name in enumerate(squares)}
    units = str(truth.attrs.get("units", "1"))
    for name in values:
        rmse = mean[name].changed(np.sqrt)
        skill = mean[name].combined(mean[""], lambda own, other: 1 - own / other)
        yield StationScore(name, variable, units, Estimate.of(rmse), Estimate.of(skill, centred=True))


def _only(totals: Totals, place: int) -> Totals:
    return Totals(totals.sums[place : place + 1], totals.weights)


def _entry(path: str, truth: xr.Dataset, variable: str, name: str) -> Array:
    """A prediction by others.

    Raises:
        InputError: when it has not the times or stations of the truth.
    """
    with readable(path):
        found = open_fields(path).load()
    if variable not in found or found[variable].sizes != truth[variable].sizes:
        sizes = " x ".join(f"{size} {dim}" for dim, size in truth[variable].sizes.items())
        raise InputError(f"the entry {name} ({path}) lacks {variable} of {sizes}; expected that of the test times")
    return np.asarray(found[variable].transpose("time", "point").values, dtype=np.float64)
