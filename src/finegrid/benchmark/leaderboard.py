"""A file of scores that grows: every run adds its methods, and predictions of other tools stand beside them.

One JSON file, to be kept under version control or passed around:

    {"finegrid leaderboard": 1, "entries": [{"task": ..., "method": ..., "seed": ..., "trained": "300 s", "scores":
    {"tas": {"rmse": {"value": 0.38, "low": 0.36, "high": 0.40, "units": "K"}, ...}}, "seconds": ..., ...}, ...]}

An entry takes the place of an older one of the same task, split, method, seed and training. Scores of different runs
have the same test data but were not drawn together: where their intervals overlap, run the methods in one run to know
whether they are tied.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from finegrid import __version__
from finegrid.benchmark.results import Result
from finegrid.benchmark.trials import Trial
from finegrid.conventions import InputError
from finegrid.conventions.documents import read_json
from finegrid.conventions.paths import local_path
from finegrid.evaluation.metrics import METRICS
from finegrid.pipeline.ledger import parameters_of

_FORMAT = "finegrid leaderboard"
_VERSION = 1


@dataclass(frozen=True)
class _Score:
    value: float | None
    low: float | None
    high: float | None
    units: str

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has one end")


_Scores = dict[str, dict[str, _Score]]


@dataclass(frozen=True)
class Entry:
    """A method on a task.

    Attributes:
        task: its name.
        split: what was held back.
        method: its name.
        scores: value, low, high and units by variable and metric.
        seed: of the training; None where nothing is random.
        trained: how long it might train, in words.
        seconds: it took to fit; None where that is not known.
        parameters: numbers that it trained; None where nothing is trained by gradient.
        machine: where it ran.
        finegrid: version that judged it.
        added: when.
    """

    task: str
    split: str
    method: str
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seed: int | None = None
    trained: str = ""
    seconds: float | None = None
    parameters: int | None = None
    machine: str = ""
    finegrid: str = __version__
    added: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")

    @property
    def place(self) -> tuple[Any, ...]:
        """What it shares with the entry whose place it takes."""
        return self.task, self.split, self.method, self.seed, self.trained


@dataclass(frozen=True)
class Leaderboard:
    """Entries of all tasks.

    Attributes:
        entries: each place once.
    """

    entries: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The board in a file; an empty one where there is no file.

        Raises:
            InputError: when the file is something else.
        """
        target = local_path(path)
        if not target.exists():
            return cls()
        try:
            plain = read_json(target)
            if plain[_FORMAT] != _VERSION:
                raise ValueError(f"version {plain[_FORMAT]}")
            json.dumps(plain, allow_nan=False)
            scores = TypeAdapter(_Scores)
            for each in plain["entries"]:
                each["scores"] = scores.dump_python(scores.validate_python(each["scores"]))
            return cls(TypeAdapter(tuple[Entry, ...]).validate_python(plain["entries"]))
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); expected a leaderboard; check its permissions"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"got {path} as a leaderboard ({error}); expected a JSON file that finegrid benchmark --leaderboard "
                "wrote; give another name"
            ) from error

    def write(self, path: str | Path) -> None:
        """Write it, whole or not at all."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        plain = {_FORMAT: _VERSION, "entries": [asdict(each) for each in self.entries]}
        part = target.with_name(f".{target.name}.part")
        part.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, target)

    def extended(self, result: Result, *, trained: str = "") -> Self:
        """With the methods of a run.

        Args:
            result: of the run.
            trained: how long its networks might train, in words.
        """
        new = [_entry(result, trial, trained) for trial in result.trials.values()]
        places = {each.place for each in new}
        return type(self)((*(each for each in self.entries if each.place not in places), *new))

    @property
    def tasks(self) -> tuple[tuple[str, str], ...]:
        """Names and splits of the tasks that have entries."""
        return tuple(dict.fromkeys((each.task, each.split) for each in self.entries))

    def ranked(self, task: str, split: str, variable: str, metric: str) -> list[Entry]:
        """Entries of a task from the best score of a variable to the worst; without one they are left out."""
        own = [
            each
            for each in self.entries
            if (each.task, each.split) == (task, split) and _value(each, variable, metric) is not None
        ]
        return sorted(own, key=lambda each: METRICS[metric].distance(_value(each, variable, metric)).item())

    def markdown(self, metric: str = "rmse") -> str:
        """Ranked tables of all tasks and variables."""
        parts = []
        for task, split in self.tasks:
            parts.append(f"## {task}\n\n{split}")
            own = [each for each in self.entries if (each.task, each.split) == (task, split)]
            for variable in dict.fromkeys(name for each in own for name in each.scores):
                parts.append("\n".join(_rows(self.ranked(task, split, variable, metric), variable, metric)))
        return "\n\n".join(parts) + "\n"


def _entry(result: Result, trial: Trial, trained: str) -> Entry:
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for score in result.evaluation.scores:
        if score.method == trial.label:
            plain = score.to_dict()
            kept = {key: plain[key] for key in ("value", "low", "high", "units")}
            scores.setdefault(score.variable, {})[score.metric] = kept
    return Entry(
        result.task.name,
        result.evaluation.split,
        trial.method,
        scores,
        trial.seed,
        trained if trial.is_network else "",
        None if trial.downscaler is None else trial.seconds,
        None if trial.downscaler is None else parameters_of(trial.downscaler),
        f"{platform.machine()}, {os.cpu_count()} cores",
    )


def _value(entry: Entry, variable: str, metric: str) -> Any:
    return entry.scores.get(variable, {}).get(metric, {}).get("value")


def _rows(entries: Sequence[Entry], variable: str, metric: str) -> list[str]:
    units = next((each.scores[variable][metric]["units"] for each in entries), "1")
    title = METRICS[metric].title + ("" if units == "1" else f" ({units})")
    rows = [f"| {variable} | {title} | 95 % interval | trained | fit (s) | added |", "|---|---|---|---|---|---|"]
    for each in entries:
        score = each.scores[variable][metric]
        name = each.method if each.seed is None else f"{each.method}, seed {each.seed}"
        known = score["low"] is not None
        extent = f"{score['low']:.3f} to {score['high']:.3f}" if known else ""
        seconds = "" if each.seconds is None else f"{each.seconds:.0f}"
        rows.append(f"| {name} | {score['value']:.3f} | {extent} | {each.trained} | {seconds} | {each.added} |")
    return rows
