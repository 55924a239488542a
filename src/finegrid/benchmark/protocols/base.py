"""What a protocol of evaluation is: a question to methods on a task, and an answer that can be read, kept and drawn.

answer = PROTOCOLS[name](task, methods, seeds=1, settings=None, say=print, progress=True)
answer.markdown();  answer.to_dict();  answer.figure("answer.svg");  answer.write("bench/")
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from finegrid.benchmark.folds import Protocol as Division
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Shelf, orders_of
from finegrid.benchmark.trying import Tried, tried
from finegrid.evaluation.alignment import Case, align
from finegrid.evaluation.leads.scores import table as markdown_table
from finegrid.evaluation.sampled import Sampled
from finegrid.evaluation.wording import number, range_of
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named
from finegrid.training import Settings

if TYPE_CHECKING:  # matplotlib is heavy
    from matplotlib.figure import Figure

Say = Callable[[str], None]
Table = Sequence[Sequence[str]]
"""Rows of words, the first being the head."""


def quiet(words: str) -> None:
    """Tell nobody."""


class Inquiry(Protocol):
    """A protocol: asks methods on a task."""

    def __call__(
        self,
        task: Task,
        methods: Sequence[str] | None = None,
        *,
        seeds: int = 1,
        settings: Settings | None = None,
        out: str | Path | None = None,
        say: Say = quiet,
        progress: bool = False,
    ) -> Answer:
        """Ask.

        Args:
            task: from TASKS.
            methods: method names; by default those that suit the protocol on the task.
            seeds: number of seeds of every network.
            settings: how to train; the seed is set here.
            out: folder where protocols that fit for long keep their trials, so that a run that was stopped goes on.
            say: told what happens, in short sentences.
            progress: show a bar while a network trains.

        Raises:
            InputError: on an unknown method, a task that the protocol is not for, or when no method applies.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer(ABC):
    """What a protocol found.

    Attributes:
        task: name of the task.
        title: of the task, in words.
        words: what was held back, or done, in a sentence.
        rows: the findings, one dataclass a row.
        notes: what a reader has to know.
        inapplicable: reasons by method name.
        seconds: wall time of everything.
    """

    protocol: ClassVar[str]
    task: str
    title: str
    words: str
    rows: tuple[Any, ...]
    notes: tuple[str, ...] = ()
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @abstractmethod
    def tables(self) -> Iterator[tuple[str, Table]]:
        """Headings and tables, in the order in which they are read."""

    @abstractmethod
    def picture(self) -> Figure:
        """The findings at a glance."""

    def markdown(self) -> str:
        """Everything in Markdown."""
        parts = [f"# {self.task}: {self.protocol}", self.title, self.words, *self.notes]
        for heading, table in self.tables():
            parts += [f"## {heading}", markdown_table(table)]
        if self.inapplicable:
            parts.append("\n".join(f"- {name}: not applicable: {why}" for name, why in self.inapplicable.items()))
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None."""
        return {
            "protocol": self.protocol,
            "task": self.task,
            "title": self.title,
            "words": self.words,
            "notes": list(self.notes),
            "seconds": self.seconds,
            "rows": [plain(row) for row in self.rows],
            "not_applicable": dict(self.inapplicable),
        }

    def figure(self, path: str | Path) -> Path:
        """Draw the findings into a file, whose ending says the format, and return where."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.picture().savefig(target, dpi=150, bbox_inches="tight")
        return target

    def write(self, out: str | Path) -> Path:
        """Write table, numbers and picture, called by the protocol, into a folder and return it."""
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        (folder / f"{self.protocol}.json").write_text(content, encoding="utf-8")
        (folder / f"{self.protocol}.md").write_text(self.markdown(), encoding="utf-8")
        self.figure(folder / f"{self.protocol}.svg")
        return folder


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: the number.
        low: lower end; NaN with too few times.
        high: upper end.
    """

    value: float
    low: float = np.nan
    high: float = np.nan

    @classmethod
    def of(cls, found: Sampled, *, centred: bool = False) -> Self:
        """A sampled number; `centred` for a difference, which can have any size."""
        return cls(found.value, *found.interval(centred=centred))

    @property
    def words(self) -> str:
        """The number with its interval in brackets."""
        return f"{number(self.value)} ({range_of(self.low, self.high)})" if self.low < self.high else number(self.value)


def fitted(
    task: Task,
    methods: Sequence[str] | None,
    material: Material,
    division: Division,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    label: str = "",
    say: Say = quiet,
    progress: bool = False,
) -> Tried:
    """Methods fitted on what a division of the times lets them learn from, with predictions of what it holds back.

    Raises:
        InputError: on an unknown method, or when no method applies.
    """
    names = list(dict.fromkeys(methods or task.methods))
    for name in names:
        named(name)  # an unknown name ends the run before it costs anything
    orders = orders_of(task, names, seeds=seeds, settings=settings or Settings(), samples=None, folds=None)
    own = [replace(order, division=division, label=label) for order in orders]
    shelf = None if out is None else Shelf(Path(out))
    return tried(own, shelf, material, division, say=say, progress=progress)


def cases_of(found: Tried, task: Task, material: Material, division: Division) -> tuple[Case, ...]:
    """What was predicted of the times that a division holds back, beside the truth, by variable."""
    predictions = {trial.label: trial.prediction for trial in found.trials}
    return align(predictions, material.at(division.test)[1], None, variables=list(task.variables))


def plain(value: Any) -> Any:
    """A dataclass as plain values for JSON, NaN as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
