"""A promised figure: what it is, what it must reach, what was measured, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finegrid.benchmark.results import Result


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name: what is measured.
        target: what it must reach, in words.
        measured: what was found, in words.
        reached: whether it does; None where it could not be measured here.
        numbers: the measurements behind the words.
    """

    name: str
    target: str
    measured: str
    reached: bool | None
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Cells of the table."""
        return self.name, self.target, self.measured, {True: "yes", False: "**no**", None: "not measured"}[self.reached]


@dataclass
class Bench:
    """The circumstances of a run of all figures.

    Attributes:
        out: folder for what it writes.
        budget: seconds of training for each network of the skill figures.
        steps: training steps where networks are compared at the same number of steps.
        seeds: number of seeds where there are several.
        hours: length of the long record in hours.
        say: told what happens.
        results: runs of the benchmark by task, kept so that figures can share them.
    """

    out: Path
    budget: float = 300.0
    steps: int = 300
    seeds: int = 3
    hours: int = 87_600
    say: Callable[[str], None] = lambda words: None
    results: dict[str, Result] = field(default_factory=dict)


Section = Callable[[Bench], list[Figure]]


def table(figures: Sequence[Figure]) -> str:
    """The figures in Markdown."""
    rows = [("figure", "target", "measured", "reached"), *(figure.row for figure in figures)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|---|", *lines[1:]])
