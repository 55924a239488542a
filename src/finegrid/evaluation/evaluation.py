"""An evaluation as users hold it: scores, the verdict in one sentence, a table, a JSON file and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finegrid.evaluation.agreement import Agreement
from finegrid.evaluation.floor_tables import markdown
from finegrid.evaluation.parts.base import Part
from finegrid.evaluation.parts.honesty import calibration
from finegrid.evaluation.parts.ranking import order, ranked
from finegrid.evaluation.scores import Scores
from finegrid.evaluation.value_table import ValueTable
from finegrid.evaluation.verdict import verdict
from finegrid.evaluation.wording import markdown_table


@dataclass(frozen=True)
class Evaluation(Scores):
    """Scores of a prediction beside its baselines, and how to tell others about them.

    Attributes:
        parts: further parts of the report.
    """

    parts: tuple[Part, ...] = field(default=(), repr=False)

    @property
    def verdict(self) -> str:
        """One honest sentence: which method is best, by how much, and whether the coarse field is kept."""
        return verdict(self)

    def table(self) -> str:
        """Scores as Markdown: the best in bold, those that cannot be told apart from it with a tilde."""
        tables = [markdown_table(self, variable) for variable in self.variables]
        return "\n\n".join([*tables, *(markdown(floor) for floor in self.floors)])

    @property
    def value_table(self) -> ValueTable:
        """Indices of the climate of every method; empty unless `evaluate(..., indices=True)` was asked for them."""
        return ValueTable(self.indices)

    @property
    def every_part(self) -> tuple[Part, ...]:
        """The calibration of an ensemble, and the further parts."""
        return (*calibration(self), *self.parts)

    def markdown(self) -> str:
        """The report in words and tables: verdict, ranking, scores, climate, parts, and what to keep in mind."""
        climate = self.value_table.without_empty()
        facts = [f"Method: {self.method}.", *([f"Data: {self.split}."] if self.split else [])]
        parts = [f"# {self.task or 'Downscaling evaluation'}", " ".join(facts), f"**{self.verdict}**"]
        parts += ["## Ranking", *(ranked(self, name) for name in self.variables), "## Scores", self.table()]
        parts += [f"## Climate of {name}\n\n{climate.markdown(name)}" for name in climate.variables]
        parts += [each.markdown() for each in self.every_part]
        parts += ["## What to keep in mind", "\n".join(f"- {note}" for note in self.notes)]
        sources = ["; ".join(f"{key}: {value}" for key, value in source.items()) for source in self.sources]
        parts += ["## Sources", "\n".join(f"- {each}" for each in sources)] if sources else []
        return "\n\n".join(parts) + "\n"

    def to_markdown(self, path: str | Path) -> Path:
        """Write the same and return where."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.markdown(), encoding="utf-8")
        return target

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        words = {"task": self.task, "split": self.split, "seconds": self.seconds, "method": self.method}
        scores = [score.to_dict() for score in self.scores]
        return (
            {**words, "verdict": self.verdict, "notes": list(self.notes), "scores": scores}
            | ({"indices": self.value_table.to_dict()} if self.indices else {})
            | ({"floors": [floor.to_dict() for floor in self.floors]} if self.floors else {})
            | {"ranking": {name: [score.method for score in order(self, name)] for name in self.variables}}
            | {each.key: each.plain for each in self.every_part}
        )

    def to_json(self, path: str | Path) -> Path:
        """Write the scores and return where."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return target

    def report(
        self,
        path: str | Path,
        *,
        training_log: str | Path | None = None,
        provenance: Mapping[str, str] | None = None,
        agreements: Sequence[Agreement] = (),
        sections: Sequence[str] = (),
    ) -> Path:
        """Write one self-contained HTML page (`report.write_report`)."""
        from finegrid.evaluation.report import write_report  # matplotlib is heavy

        return write_report(
            self,
            path,
            training_log=training_log,
            provenance=provenance,
            agreements=agreements,
            sections=[*(each.html() for each in self.every_part), *sections],
        )
