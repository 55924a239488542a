"""How good does a method look against a truth of few members, and of many?

The mean of M members of an ensemble lies around what they have in common with the variance sigma^2 / M, which no method
can know. Methods are scored against means of M = 3, 5, 10, 20, 50 members, over all disjoint groups of them, beside the
floor that is left of a perfect prediction (`evaluation.floor`). As in ClimateBench, with x a member mean, y the
prediction, <.> the mean by area, (.)_t that over times and s the scale of the variable,

    NRMSE_s = sqrt(<(x_t - y_t)^2>) / s          spatial: of the climate in each cell
    NRMSE_g = sqrt((<x> - <y>)^2_t) / s          global: of the mean over the area at each time
    total   = NRMSE_s + 5 NRMSE_g

s is the mean of the truth where that cannot be negative, else its standard deviation, as ClimateBench's temperatures
are differences from a control run and those of others have no natural zero. The ranking of two methods is turned in a
group where it is not that against the mean of all members; it may be wherever their difference is below the floor.

Source: Lütjens et al. 2025, doi:10.1029/2024MS004619; Watson-Parris et al. 2022, doi:10.1029/2021MS002954.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from finegrid.benchmark.fitting import protocol_of
from finegrid.benchmark.protocols.base import Answer, Say, Table, cases_of, fitted, plain, quiet
from finegrid.benchmark.protocols.member_means import Means
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Trial
from finegrid.conventions import InputError, harmonise
from finegrid.evaluation.alignment import Case
from finegrid.evaluation.floor import Floor, floor_of
from finegrid.evaluation.metrics import Reference
from finegrid.evaluation.wording import labelled, number
from finegrid.pipeline.ledger import Watch
from finegrid.training import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GLOBAL_WEIGHT = 5.0
"""Of the global error in the total."""


@dataclass(frozen=True)
class MemberRow:
    """A method, a variable and a number of members.

    Attributes:
        method, seed: see `trials.Trial`; "internal variability" is the floor.
        variable, units: of what.
        members: M.
        groups: disjoint groups of so many members.
        rmse: over all groups.
        spread: standard deviation of the RMSE between groups; NaN for a single one.
        spatial: NRMSE_s.
        overall: NRMSE_g.
        total: their weighted sum.
    """

    method: str
    seed: int | None
    variable: str
    units: str
    members: int
    groups: int
    rmse: float
    spread: float
    spatial: float
    overall: float

    @property
    def total(self) -> float:
        """Spatial and five times global error."""
        return self.spatial + GLOBAL_WEIGHT * self.overall

    @property
    def label(self) -> str:
        """Its name in a table."""
        return self.method if self.seed is None else f"{self.method}, seed {self.seed}"


@dataclass(frozen=True)
class FlipRow:
    """Two methods and a number of members.

    Attributes:
        variable: of what.
        better, worse: as the mean of all members says.
        members: M.
        groups: disjoint groups of so many members.
        turned: groups in which the ranking is the other way round.
        difference: between their RMSE against the mean of all members.
        floor: RMSE that the chance in the mean of M members leaves of a perfect prediction.
    """

    variable: str
    better: str
    worse: str
    members: int
    groups: int
    turned: int
    difference: float
    floor: float

    @property
    def below_floor(self) -> bool:
        """Whether internal variability is larger than what lies between the two."""
        return self.difference < self.floor


FLOOR = "internal variability"


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetMembers(Answer):
    """What `target_members` found.

    Attributes:
        flips: how often rankings are turned.
    """

    protocol: ClassVar[str] = "target-members"
    rows: tuple[MemberRow, ...]
    flips: tuple[FlipRow, ...]

    def of(self, variable: str, method: str) -> list[MemberRow]:
        """Rows of a variable and a method, the fewest members first."""
        return [row for row in self.rows if (row.variable, row.label) == (variable, method)]

    @property
    def turned_only_below_floor(self) -> bool:
        """Whether no ranking is turned but where internal variability is larger than the difference."""
        return all(row.below_floor for row in self.flips if row.turned)

    def tables(self) -> Iterator[tuple[str, Table]]:
        for variable in dict.fromkeys(row.variable for row in self.rows):
            mine = [row for row in self.rows if row.variable == variable]
            sizes = list(dict.fromkeys(row.members for row in mine))
            names = list(dict.fromkeys(row.label for row in mine))
            head = [f"M = {size}" for size in sizes]
            for title, kind in ((labelled("RMSE", mine[0].units), "rmse"), ("NRMSE total", "total")):
                rows = [[name, *(number(getattr(row, kind)) for row in self.of(variable, name))] for name in names]
                yield f"{variable}: {title}", [[title, *head], *rows]
            last = [row for row in mine if row.members == sizes[-1]]
            parts = [[row.label, *map(number, (row.spatial, row.overall, row.total))] for row in last]
            yield f"{variable}: M = {sizes[-1]}", [["method", "NRMSE spatial", "NRMSE global", "total"], *parts]
        turned = [row for row in self.flips if row.turned]
        yield (
            "Rankings that are turned",
            [["variable", "better, worse", "M", "turned", "difference", "floor"], *map(_flip, turned)],
        )

    def picture(self) -> Figure:
        from finegrid.benchmark.protocols.drawing import Lines, lines

        panels = []
        for variable in dict.fromkeys(row.variable for row in self.rows):
            names = dict.fromkeys(row.label for row in self.rows if row.variable == variable)
            found = {name: self.of(variable, name) for name in names}
            sizes = [row.members for row in found[FLOOR]]
            words = ("members of the truth", labelled(f"RMSE, {variable}", found[FLOOR][0].units))
            errors, spread = (
                {name: [getattr(row, kind) for row in rows] for name, rows in found.items()}
                for kind in ("rmse", "spread")
            )
            panels.append(Lines(words, sizes, errors, spread, FLOOR))
        return lines(panels)

    def to_dict(self) -> dict[str, Any]:
        rows = [{**plain(row), "total": plain(row.total)} for row in self.rows]
        flips = [{**plain(row), "below_floor": row.below_floor} for row in self.flips]
        return {**super().to_dict(), "rows": rows, "flips": flips}


def target_members(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
) -> TargetMembers:
    """Score methods against means of few and of many members; see `base.Inquiry`.

    Raises:
        InputError: when the truth of the task has no members, and as `base.Inquiry` says.
    """
    watch, material = Watch(), task.material()
    if harmonise(material.fine)[0].sizes.get("member", 1) < 2:
        raise InputError(
            f"got {task.name}, whose truth has one member; expected an ensemble; take scenario-t5, or a task of yours "
            "with members"
        )
    division = protocol_of(task, material)
    found = fitted(
        task,
        methods,
        material,
        division,
        seeds=seeds,
        settings=settings,
        out=out,
        label="target-members",
        say=say,
        progress=progress,
    )
    cases = cases_of(found, task, material, division)
    rows: list[MemberRow] = []
    flips: list[FlipRow] = []
    for case in cases:
        floor = floor_of(case, Reference.of(case.truth))
        if floor is not None:
            rows += _rows(case, floor, found.trials)
            flips += _flips(floor)
    return TargetMembers(
        task=task.name,
        title=task.title,
        words=f"Held back: {division.words}. RMSE over all disjoint groups of M members of the truth.",
        rows=tuple(rows),
        notes=(_note(flips),),
        inapplicable=found.inapplicable,
        seconds=watch.seconds,
        flips=tuple(flips),
    )


def _rows(case: Case, floor: Floor, trials: Sequence[Trial]) -> Iterator[MemberRow]:
    means = Means.of(case)
    for subset in floor.subsets:
        size, groups, shrunk = subset.members, subset.groups, np.sqrt(floor.members / subset.members)
        spatial, overall = (each / floor.scale for each in means.errors(size))
        for index, trial in enumerate(trials):
            errors = subset.errors[trial.label]
            spread = float(errors.std(ddof=1)) if groups > 1 else np.nan
            where = (trial.method, trial.seed, floor.variable, floor.units, size, groups)
            yield MemberRow(*where, subset.error(trial.label), spread, float(spatial[index]), float(overall[index]))
        where = (FLOOR, None, floor.variable, floor.units, size, groups)
        yield MemberRow(*where, subset.floor, np.nan, floor.spatial_floor * shrunk, floor.overall_floor * shrunk)


def _flips(floor: Floor) -> Iterator[FlipRow]:
    """How often the ranking of two methods is turned, at every number of members."""
    all_members = floor.subsets[-1]
    ranked = sorted(all_members.errors, key=all_members.error)
    for better, worse in combinations(ranked, 2):
        difference = all_members.error(worse) - all_members.error(better)
        for subset in floor.subsets[:-1]:
            turned = round(subset.turned(better, worse) * subset.groups)
            yield FlipRow(
                floor.variable, better, worse, subset.members, subset.groups, turned, difference, subset.floor
            )


def _note(flips: Sequence[FlipRow]) -> str:
    turned = [row for row in flips if row.turned]
    if not turned:
        return "No ranking of two methods is turned in any group of members."
    largest = max(row.difference / row.floor for row in turned)
    above = sum(not row.below_floor for row in turned)
    where = "in all of them below" if not above else f"in {above} of them above"
    return (
        f"The ranking of two methods is turned in some group in {len(turned)} of {len(flips)} cases (pairs, variables "
        f"and numbers of members); what lies between the two is {where} the floor, at most {largest:.2f} of it."
    )


def _flip(row: FlipRow) -> list[str]:
    names = f"{row.better}, {row.worse}"
    return [
        row.variable,
        names,
        str(row.members),
        f"{row.turned} of {row.groups}",
        number(row.difference),
        number(row.floor),
    ]
