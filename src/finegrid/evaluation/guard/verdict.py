"""What a comparison of new input with that of training has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finegrid.evaluation.guard.difference import Difference, Shown
from finegrid.evaluation.guard.figure import drawn
from finegrid.evaluation.guard.usual import LEVEL, Finding
from finegrid.evaluation.guard.words import sentences
from finegrid.grids import Grid


@dataclass(frozen=True, eq=False)
class Verdict:
    """Whether new input is like that of training, and what differs.

    Attributes:
        findings: the four tests of all variables together: distance, range, outlyingness, shift.
        variables: the same of each variable alone, which decide nothing.
        differences: traits, the most unusual first.
        missing: variables that the new input lacks.
        unseen: calendar months of the new input without any training time.
        times: number of new times.
        compared: number of training times that they are compared with.
        grid: of the new input.
        shown: what a picture shows, by variable.
    """

    findings: Mapping[str, Finding]
    variables: Mapping[str, Mapping[str, Finding]]
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]
    unseen: tuple[str, ...]
    times: int
    compared: int
    grid: Grid
    shown: Mapping[str, Shown]

    @property
    def p(self) -> float:
        """Chance of input so unusual in the training record: the least p value times their number, at most 1."""
        return min(1.0, len(self.findings) * min(each.p for each in self.findings.values()))

    @property
    def flagged(self) -> bool:
        """Whether the input is unlike that of training; one part in a hundred of the training record would be."""
        return self.p <= LEVEL

    @property
    def severity(self) -> float:
        """The largest severity of the tests: above 1 it is flagged."""
        return max(each.severity for each in self.findings.values())

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What a person should know, in sentences; the first says whether it is flagged."""
        return sentences(self.p, self.findings, self.variables, self.differences, self.missing, self.unseen)

    def figure(self, path: str | Path) -> None:
        """Write a picture (PNG, SVG or PDF, by the ending): distributions of traits, and maps of the difference."""
        drawn(self.shown, self.grid).savefig(path, dpi=150, bbox_inches="tight")

    def to_dict(self) -> dict[str, Any]:
        """Figures and sentences as plain values."""
        single = {name: _plain(found) for name, found in self.variables.items()}
        told = {"flagged": self.flagged, "p": self.p, "severity": self.severity, "words": list(self.words)}
        return {
            **told,
            "times": self.times,
            "compared": self.compared,
            "tests": _plain(self.findings),
            "variables": single,
        }


def _plain(found: Mapping[str, Finding]) -> dict[str, dict[str, float]]:
    return {name: dict(vars(each)) for name, each in found.items()}
