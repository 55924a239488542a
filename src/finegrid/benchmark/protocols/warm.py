"""Does a method that learnt in today's climate hold in a warmer one?

A record is cut into whole seasons or years (else months or days). The warmest fifth of them, by the mean of the coarse
temperature over its domain, is held back: a warm future that has been observed. As many units are drawn at random from
the middle of what is left and are held back too: the climate that the method knows. Everything else is learnt from.

    gap = score of the warm units - score of the middle ones        positive: worse where it is warm

In a scenario the last fifth is held back instead of the warmest. The gap is between different times, which nothing
pairs: its interval is that of the difference of independent draws of blocks of times. How far a method is behind the
best one where it is warm is paired.

Source: pseudo-observed warm climates, Gutiérrez et al. 2013, doi:10.1175/JCLI-D-11-00687.1; Hernanz et al. 2022,
doi:10.1002/joc.7464.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from finegrid.benchmark.folds import Part
from finegrid.benchmark.folds import Protocol as Division
from finegrid.benchmark.protocols.base import Answer, Estimate, Say, Table, cases_of, fitted, quiet
from finegrid.benchmark.protocols.climates import SHARE, Climates, climates_of
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Trial
from finegrid.conventions import InputError
from finegrid.evaluation.alignment import Case, step_seconds
from finegrid.evaluation.averaging import Totals
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.metrics import METRICS, Metric, Reference, metrics_of
from finegrid.evaluation.sampled import Sampled, draws_of, unpaired
from finegrid.evaluation.tally import tally
from finegrid.evaluation.wording import labelled, number, range_of
from finegrid.pipeline.ledger import Watch
from finegrid.training import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TESTS = ("warm", "inside")


@dataclass(frozen=True)
class WarmRow:
    """A method and a variable.

    Attributes:
        method, seed: see `trials.Trial`.
        variable: its name.
        metric: a name in METRICS.
        units: of the score.
        warm: score of the warm units.
        inside: score of units of the climate that was learnt in.
        gap: by how much the warm score is further from perfect; its interval is not paired.
        behind: by how much the warm score is further from perfect than that of the best method; paired.
    """

    method: str
    seed: int | None
    variable: str
    metric: str
    units: str
    warm: Estimate
    inside: Estimate
    gap: Estimate
    behind: Estimate

    @property
    def label(self) -> str:
        """Its name in a table."""
        return self.method if self.seed is None else f"{self.method}, seed {self.seed}"

    @property
    def worse(self) -> bool:
        """Whether it is worse in the warm climate beyond chance."""
        return self.gap.low > 0

    @property
    def cells(self) -> list[str]:
        """Of the table."""
        gap = f"**{number(self.gap.value)}**" if self.worse else number(self.gap.value)
        behind = number(self.behind.value) + ("" if self.behind.low > 0 else " ~") if self.behind.value else "best"
        sure = range_of(self.gap.low, self.gap.high)
        return [self.label, self.warm.words, self.inside.words, gap, sure, behind]


@dataclass(frozen=True, kw_only=True, eq=False)
class WarmFuture(Answer):
    """What `warm` found.

    Attributes:
        climates: which times were held back.
    """

    protocol: ClassVar[str] = "warm"
    rows: tuple[WarmRow, ...]
    climates: Climates

    def of(self, variable: str | None = None) -> dict[str, WarmRow]:
        """Rows of a variable by method, the best in the warm climate first."""
        wanted = variable or self.rows[0].variable
        found = [row for row in self.rows if row.variable == wanted]
        return {row.label: row for row in sorted(found, key=lambda row: row.behind.value)}

    def tables(self) -> Iterator[tuple[str, Table]]:
        for variable in dict.fromkeys(row.variable for row in self.rows):
            rows = self.of(variable)
            first = next(iter(rows.values()))
            title = labelled(METRICS[first.metric].title, first.units)
            yield (
                variable,
                [
                    [title, "warm", "as learnt", "gap", "95 % interval", "behind the best"],
                    *(row.cells for row in rows.values()),
                ],
            )

    def picture(self) -> Figure:
        from finegrid.benchmark.protocols.drawing import Dots, dots

        panels = []
        for variable in dict.fromkeys(row.variable for row in self.rows):
            rows = self.of(variable)
            first = next(iter(rows.values()))
            words = labelled(f"{METRICS[first.metric].title}, {variable}", first.units)
            known, hot = ([getattr(row, name) for row in rows.values()] for name in ("inside", "warm"))
            panels.append(Dots(words, list(rows), {"as learnt": known, "warm": hot}))
        return dots(panels)

    def to_dict(self) -> dict[str, object]:
        told = ("unit", "count", "by", "variable", "units", "warmer", "apart")
        return {**super().to_dict(), "climates": {name: getattr(self.climates, name) for name in told}}


def warm(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
    metric: str = "rmse",
    share: float = SHARE,
    by: str | None = None,
    seed: int = 0,
) -> WarmFuture:
    """Ask methods that learnt in one climate for a warmer one; see `base.Inquiry` for the common arguments.

    Args:
        metric: a name in METRICS.
        share: part of the units that is held back as warm, and as the known climate.
        by: "warmest" or "last"; by default the last for a scenario, else the warmest.
        seed: of the units inside and of the bootstrap.

    Raises:
        InputError: on a record of patches or one too short, and as `base.Inquiry` says.
    """
    watch, (chosen,) = Watch(), _one(metric)
    if task.regions is not None:
        raise InputError(
            f"got {task.name}, whose times are nominal; expected a record of one place; take another task, or the "
            "protocol regions"
        )
    material = task.material()
    climates = climates_of(task, material, share=share, by=by, seed=seed)
    say(climates.words)
    division = Division((Part(climates.learning, climates.test),), climates.words)
    found = fitted(
        task,
        methods,
        material,
        division,
        seeds=seeds,
        settings=settings,
        out=out,
        label="warm",
        say=say,
        progress=progress,
    )
    cases = cases_of(found, task, material, division)
    rows = [row for case in cases for row in _rows(case, chosen, climates, found.trials, task.block, seed)]
    return WarmFuture(
        task=task.name,
        title=task.title,
        words=climates.words,
        rows=tuple(rows),
        notes=_notes(climates),
        inapplicable=found.inapplicable,
        seconds=watch.seconds,
        climates=climates,
    )


def _one(metric: str) -> list[Metric]:
    return [each for each in metrics_of([metric]) if each.name == metric]


def _rows(
    case: Case, metric: Metric, climates: Climates, trials: Sequence[Trial], block: int | None, seed: int
) -> Iterator[WarmRow]:
    reference = Reference.of(case.truth)
    if not metric.applies(reference):
        return
    totals = {name: each.totals(metric.name) for name, each in tally(case, reference, [metric]).items()}
    is_warm = np.isin(climates.test, climates.warm)
    parts = {
        where: _sampled(totals, metric, mask, case, block, seed + index)
        for index, (where, mask) in enumerate(zip(_TESTS, (is_warm, ~is_warm), strict=True))
    }
    away = {
        where: {name: each.changed(metric.distance) for name, each in found.items()} for where, found in parts.items()
    }
    leader = min(away["warm"].values(), key=lambda each: each.value)
    units = (reference.units or "1") if metric.in_units else "1"
    for trial in trials:
        hot, known = (away[where][trial.label] for where in _TESTS)
        yield WarmRow(
            trial.method,
            trial.seed,
            case.name,
            metric.name,
            units,
            warm=Estimate.of(parts["warm"][trial.label]),
            inside=Estimate.of(parts["inside"][trial.label]),
            gap=Estimate(hot.value - known.value, *unpaired(hot, known)),
            behind=Estimate.of(hot.less(leader), centred=True),
        )


def _sampled(
    totals: Mapping[str, Totals], metric: Metric, mask: np.ndarray, case: Case, block: int | None, seed: int
) -> dict[str, Sampled]:
    """Scores of some of the times, on draws that all methods share."""
    some = {name: Totals(each.sums[:, mask], each.weights[mask], each.extreme) for name, each in totals.items()}
    errors = next(iter(some.values())).per_time()[0]
    draws: Draws | None = draws_of(errors, block=block, step_seconds=step_seconds(case.truth), seed=seed)
    return {name: Sampled.of(each, metric.finish, draws) for name, each in some.items()}


def _notes(climates: Climates) -> tuple[str, ...]:
    notes = []
    if climates.unit in ("months", "days"):
        notes.append(
            f"The record is too short for whole years, so {climates.unit} were held back: what is warm here is a "
            "season or a spell of weather, and not a climate."
        )
    if not climates.warmer > 0:
        notes.append("What was held back is not warmer than what was learnt from.")
    return tuple(notes)
