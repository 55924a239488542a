"""How good are forecasts by lead time, against the analysis and against observations?

A task with forecasts of its own (`worlds.ForecastTask`) has its systems verified; every task has simple forecasts made
from its record beside them (`forecasters`), started from the times of its test block. The truth is the record from
which they start, here called the analysis. A task with a coarse record from elsewhere, such as a reanalysis beside
observations, is forecast from the coarse record; its fine record, averaged over the coarse cells, is a second truth:
observations. What is found, and how differences are judged, is said in `evaluation.leads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from finegrid.benchmark.protocols.base import Answer, Say, Table, quiet
from finegrid.benchmark.protocols.forecasters import FORECASTERS, Start
from finegrid.benchmark.task import Task
from finegrid.benchmark.worlds import Forecasts, ForecastTask
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import nearest
from finegrid.data.matching import COVERED
from finegrid.data.members import mean_of_members
from finegrid.data.predictors import usual_step
from finegrid.data.splits import Indices
from finegrid.evaluation.leads import LeadScores, verify
from finegrid.evaluation.leads.scores import LeadScore
from finegrid.evaluation.leads.times import Forecast
from finegrid.evaluation.metrics.reference import EVENT
from finegrid.grids import Grid, Operator
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.material import Material
from finegrid.training import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEADS = 10
"""Steps of the record to which is forecast."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifiedForecasts(Answer):
    """What `forecasts` found.

    Attributes:
        scores: everything by lead.
    """

    protocol: ClassVar[str] = "forecasts"
    rows: tuple[LeadScore, ...]
    scores: LeadScores

    def tables(self) -> Iterator[tuple[str, Table]]:
        return iter(self.scores.tables())

    def picture(self) -> Figure:
        from finegrid.evaluation.leads.figures import by_lead

        return by_lead(self.scores, self.scores.variables[0])

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **self.scores.to_dict()}


def forecasts(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
    leads: int = LEADS,
    level: float = EVENT,
    block: int | None = None,
    seed: int = 0,
) -> VerifiedForecasts:
    """Verify forecasts by lead; see `base.Inquiry` for the common arguments.

    Nothing here is trained, or fitted for long: `seeds`, `settings`, `out` and `progress` change nothing.

    Args:
        methods: systems of the task and names in FORECASTERS; by default all.
        leads: most steps of the record to which simple forecasts reach; a task's own systems have theirs.
        level: of events and of the quantile score.
        block: initial times in a block of the bootstrap; by default from the data.
        seed: of the bootstrap.

    Raises:
        InputError: on an unknown method, or a record that is too short.
    """
    watch = Watch()
    own = task.forecasts() if isinstance(task, ForecastTask) else None
    _check(methods, own)
    given = _simple(task, leads, methods) if own is None else _joined(own, methods)
    chosen = {name: fields for name, fields in given.systems.items() if not methods or name in methods}
    say(f"{task.name}: {len(chosen)} systems against {' and '.join(given.truths)}")
    variables = list(task.variables)
    found = verify(
        chosen, given.truths, climatology=given.record, variables=variables, level=level, block=block, seed=seed
    )
    return VerifiedForecasts(
        task=task.name,
        title=task.title,
        words=f"{len(chosen)} systems from {found.inits} initial times to {found.leads[-1]:g} days.",
        rows=found.scores,
        notes=found.notes,
        seconds=watch.seconds,
        scores=found,
    )


def _check(methods: Sequence[str] | None, own: Forecasts | None) -> None:
    names = [*(() if own is None else own.systems), *FORECASTERS]
    for name in methods or ():
        if name not in names:
            raise InputError(f"There is no forecast '{name}'. The names are {', '.join(names)}.{nearest(name, names)}")


def _joined(own: Forecasts, methods: Sequence[str] | None) -> Forecasts:
    """A task's own systems with simple forecasts from the same times to the same leads."""
    name, fields = next(iter(own.systems.items()))
    first = Forecast.of(fields, name)
    analysis = next(iter(own.truths.values()))
    if not isinstance(analysis, xr.Dataset):  # systems with analyses of their own have no record in common
        return own
    standard = harmonise(analysis)[0]
    inits = np.flatnonzero(standard.indexes["time"].isin(first.inits))
    learning = np.flatnonzero(standard.indexes["time"].isin(harmonise(own.record)[0].indexes["time"]))
    simple = _forecast(standard, learning, inits, len(first.leads), list(map(str, first.at[0].data_vars)), methods)
    return Forecasts({**own.systems, **simple}, own.truths, own.record)


def _simple(task: Task, leads: int, methods: Sequence[str] | None) -> Forecasts:
    """Simple forecasts of a record, from the times of its test block."""
    material = task.material()
    analysis, observed = _records(task, material)
    count = len(material.blocks.test)
    if count <= leads:
        raise InputError(
            f"got {count} test times and leads of {leads} steps; expected more times than steps; take fewer leads"
        )
    learning, inits = material.learning, material.blocks.test[:-leads]
    systems = _forecast(analysis, learning, inits, leads, list(task.variables), methods)
    truths = {"analysis": analysis, **({} if observed is None else {"observations": observed})}
    return Forecasts(systems, truths, analysis.isel(time=learning))


def _records(task: Task, material: Material) -> tuple[xr.Dataset, xr.Dataset | None]:
    """The analysis, and observations on its cells where these are of another origin; in standard form."""
    fine = mean_of_members(harmonise(material.fine)[0])[list(task.variables)].load()
    if not task.records:
        return fine, None
    coarse = mean_of_members(harmonise(material.coarse)[0])[list(task.variables)].load()
    whole = Grid.of(coarse)
    operator = Operator.conservative(Grid.of(fine), whole)
    inside = operator.coverage >= COVERED
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not rows.size:
        return coarse, None
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    seen = operator(fine).where(xr.DataArray(inside, dims=("y", "x")))
    return _cut(coarse, whole.cropped(*window), window), _cut(seen, whole.cropped(*window), window)


def _cut(fields: xr.Dataset, grid: Grid, window: tuple[slice, slice]) -> xr.Dataset:
    """Standard fields in a window of their grid."""
    part = fields.isel(y=window[0], x=window[1])
    return part.drop_vars([name for name in part.coords if name != "time"]).assign_coords(grid.coords())


def _forecast(
    analysis: xr.Dataset,
    learning: Indices,
    inits: Indices,
    leads: int,
    variables: Sequence[str],
    methods: Sequence[str] | None,
) -> Mapping[str, xr.Dataset]:
    """Simple forecasts (init, lead, y, x) of all variables."""
    time = analysis.indexes["time"]
    step = pd.Timedelta(seconds=usual_step(analysis.time))
    lead = (1 + np.arange(leads)) * step.to_timedelta64().astype("timedelta64[ns]")
    coords = {
        "init": ("init", np.asarray(time[inits])),
        "lead": lead,
        **{name: analysis[name] for name in analysis.coords if name != "time"},
    }
    systems = {}
    for name in (each for each in FORECASTERS if not methods or each in methods):
        fields = {}
        for variable in variables:
            field = analysis[variable].transpose("time", "y", "x")
            values = FORECASTERS[name](Start(field, learning, inits, leads, step))
            fields[variable] = (("init", "lead", "y", "x"), values.astype(np.float32), field.attrs)
        systems[name] = xr.Dataset(fields, coords=coords)
    return systems
