"""What does a method lose when one of its sources is missing at the time of prediction, and how is that best handled?

Every source of a task (a coarse variable, or a group of them) is dropped in turn at the test times. With e the error
and e' the error without the source,

    PRS = min(1, exp(1 - e' / e))         performance robustness: 1 where nothing is lost, 0.37 where the error doubles

e is measured in three ways (`source_errors`): the RMSE of the values (regression), the RMSE of the chance that a value
is above its 95th percentile (classification, the root of the Brier score), and the part of wrong decisions about that.
The robustness of a way to handle missing sources (`handlings`) is the mean of its PRS over the sources. It says nothing
about how good the method is with all of them, which stands beside it: who never listens to a source loses nothing
without it. Intervals are of the paired bootstrap over blocks of the test times.

Source: Mena et al. 2024, doi:10.1109/IGARSS53475.2024.10640375; the score after Heinrich et al. 2023, arXiv:2303.16633.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finegrid.benchmark.folds import held_back
from finegrid.benchmark.protocols.base import Answer, Estimate, Say, Table, plain, quiet
from finegrid.benchmark.protocols.filling import Fill
from finegrid.benchmark.protocols.handlings import HANDLINGS, Bench, Handling
from finegrid.benchmark.protocols.source_errors import KINDS, SourceErrors
from finegrid.benchmark.task import Task
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.sampled import Sampled, weighted_sum
from finegrid.evaluation.wording import number
from finegrid.pipeline.ledger import Watch
from finegrid.training import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("ridge+none",)
"""What is asked unless methods are named: the coarse value that would be conserved may be the one that is missing."""


@dataclass(frozen=True)
class SourceRow:
    """A method, a way to handle missing sources, and a source that is missing.

    Attributes:
        method: its label.
        handling: a name in HANDLINGS.
        variable: of what.
        kind: a name in KINDS.
        source: what is missing.
        full: error with all sources.
        without: error without the source.
        robustness: PRS.
    """

    method: str
    handling: str
    variable: str
    kind: str
    source: str
    full: Estimate
    without: Estimate
    robustness: Estimate


@dataclass(frozen=True)
class RobustnessRow:
    """A method and a way to handle missing sources, over all sources.

    Attributes:
        method, handling, variable: see `SourceRow`.
        value: mean PRS of values.
        chance: mean PRS of chances of events.
        decision: mean PRS of events, yes or no.
        apart: what values lose more than chances: `chance` less `value`, paired.
    """

    method: str
    handling: str
    variable: str
    value: Estimate
    chance: Estimate
    decision: Estimate
    apart: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class DroppedSources(Answer):
    """What `dropped_sources` found.

    Attributes:
        robustness: means over the sources.
    """

    protocol: ClassVar[str] = "dropped-sources"
    rows: tuple[SourceRow, ...]
    robustness: tuple[RobustnessRow, ...]

    def of(self, method: str, variable: str, kind: str = "value") -> dict[str, dict[str, SourceRow]]:
        """Rows by handling and source."""
        found: dict[str, dict[str, SourceRow]] = {}
        for row in self.rows:
            if (row.method, row.variable, row.kind) == (method, variable, kind):
                found.setdefault(row.handling, {})[row.source] = row
        return found

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """Methods and variables."""
        return list(dict.fromkeys((row.method, row.variable) for row in self.rows))

    def tables(self) -> Iterator[tuple[str, Table]]:
        for method, variable in self.subjects:
            for kind, each in KINDS.items():
                found = self.of(method, variable, kind)
                sources = list(next(iter(found.values())))
                head = [f"{each.title}; PRS", "all sources", *(f"without {source}" for source in sources)]
                yield (
                    f"{method}, {variable}: {each.words}",
                    [head, *(_cells(name, rows) for name, rows in found.items())],
                )
        head = ["method", "variable", "handling", "mean PRS of values", "chances", "decisions", "chances less values"]
        yield "Robustness", [head, *map(_summary, self.robustness)]

    def picture(self) -> Figure:
        from finegrid.benchmark.protocols.drawing import Dots, dots

        panels = []
        for method, variable in self.subjects:
            found = self.of(method, variable)
            sources = list(next(iter(found.values())))
            series = {f"without {each}": [rows[each].robustness for rows in found.values()] for each in sources}
            panels.append(Dots(f"PRS of {variable}, {method}", list(found), series, limits=(0.0, 1.03)))
        return dots(panels)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "robustness": [plain(row) for row in self.robustness]}


def dropped_sources(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
    sources: Mapping[str, Sequence[str]] | None = None,
    handlings: Sequence[str] = tuple(HANDLINGS),
) -> DroppedSources:
    """Drop every source of a task in turn; see `base.Inquiry` for the common arguments.

    Args:
        methods: by default METHODS.
        sources: names of the coarse variables of each source; by default each variable is a source of its own.
        handlings: names in HANDLINGS.

    Raises:
        InputError: on a task with one source, an unknown handling, and as `base.Inquiry` says.
    """
    watch, material = Watch(), task.material()
    for name in handlings:
        if name not in HANDLINGS:
            raise InputError(
                f"There is no handling '{name}'. The names are {', '.join(HANDLINGS)}.{nearest(name, HANDLINGS)}"
            )
    division, known = held_back(material), _sources_of(task, sources)
    variables = [name for names in known.values() for name in names]
    bench = Bench(
        task=_seeing(task, variables),
        methods=methods or METHODS,
        material=material,
        division=division,
        sources=known,
        fill=Fill.of(material.at(material.learning)[0], variables),
        seeds=seeds,
        settings=settings,
        out=out,
        say=say,
        progress=progress,
    )
    rows: list[SourceRow] = []
    means: list[RobustnessRow] = []
    errors = SourceErrors.of(bench)
    inapplicable: dict[str, str] = {}
    for name in handlings:
        say(f"{name}: fitting")
        handling = HANDLINGS[name].fitted(bench)
        inapplicable |= handling.found.inapplicable
        for single, mean in _rows(handling, errors):
            rows += single
            means.append(mean)
    return DroppedSources(
        task=task.name,
        title=task.title,
        words=f"Sources: {', '.join(known)}; each dropped in turn. Held back: {division.words}.",
        rows=tuple(rows),
        robustness=tuple(sorted(means, key=lambda row: (row.variable, row.method))),
        notes=(errors.words,),
        inapplicable=inapplicable,
        seconds=watch.seconds,
    )


def robustness_of(full: Array, without: Array) -> Array:
    """PRS = min(1, exp(1 - e' / e))."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(1.0, np.exp(1.0 - without / full))


def _sources_of(task: Task, sources: Mapping[str, Sequence[str]] | None) -> Mapping[str, Sequence[str]]:
    if sources is None:
        names = dict.fromkeys((*task.variables, *task.predictors, *task.companions))
        sources = {name: (name,) for name in names}
    if len(sources) < 2:
        raise InputError(
            f"got {task.name} with the source {', '.join(sources)}; expected at least two; take four-sources or "
            "value-iberia-tas, or pass sources={'name': ['variable', ...], ...}"
        )
    return sources


def _seeing(task: Task, variables: Sequence[str]) -> Task:
    """The task with all sources as predictors of all methods."""
    bare = {name: {key: each for key, each in own.items() if key != "predictors"} for name, own in task.methods.items()}
    return replace(task, predictors=tuple(name for name in variables if name not in task.variables), methods=bare)


def _rows(handling: Handling, errors: SourceErrors) -> Iterator[tuple[list[SourceRow], RobustnessRow]]:
    """Rows of every source, and the mean over them, of each method and variable."""
    bench = handling.bench
    full = errors.measured(handling)
    without = {source: errors.measured(handling, source) for source in bench.sources}
    for method, variable in dict.fromkeys((method, variable) for method, variable, _ in full):
        rows: list[SourceRow] = []
        means: dict[str, Sampled] = {}
        for kind in KINDS:
            whole, scores = full[method, variable, kind], []
            for source in bench.sources:
                part = without[source][method, variable, kind]
                scores.append(whole.combined(part, robustness_of))
                numbers = (Estimate.of(whole), Estimate.of(part), Estimate.of(scores[-1]))
                rows.append(SourceRow(method, handling.name, variable, kind, source, *numbers))
            means[kind] = weighted_sum(scores, np.full(len(scores), 1 / len(scores)))
        apart = Estimate.of(means["chance"].less(means["value"]), centred=True)
        value, chance, decision = (Estimate.of(means[kind]) for kind in KINDS)
        yield rows, RobustnessRow(method, handling.name, variable, value, chance, decision, apart)


def _cells(name: str, rows: Mapping[str, SourceRow]) -> list[str]:
    full = next(iter(rows.values())).full
    lost = (f"{number(row.without.value)}; {number(row.robustness.value)}" for row in rows.values())
    return [name, number(full.value), *lost]


def _summary(row: RobustnessRow) -> list[str]:
    numbers = (row.value, row.chance, row.decision, row.apart)
    return [row.method, row.variable, row.handling, *(each.words for each in numbers)]
