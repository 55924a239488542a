"""One line of JSON for every run: what it cost and what came of it, so that runs can be compared for years."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from finegrid import __version__
from finegrid.downscalers import Downscaler
from finegrid.evaluation import Evaluation


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start, to the millisecond."""
        return round(time.perf_counter() - self._start, 3)


@dataclass(frozen=True)
class Run:
    """A run in numbers.

    Attributes:
        method: name of the downscaler.
        parameters: numbers that it trained; None where nothing is trained by gradient.
        samples: training times.
        seconds: wall time of fitting and judging.
        device: where it ran.
        loss: validation loss of the weights kept.
        scores: value by variable and metric, on the test block.
        task: what for.
        seed: of the training.
    """

    method: str
    parameters: int | None
    samples: int
    seconds: float
    device: str
    loss: float | None
    scores: Mapping[str, Mapping[str, float | None]]
    steps: int | None = None
    task: str = ""
    seed: int | None = None
    finegrid: str = __version__
    finished: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")

    @classmethod
    def of(
        cls, downscaler: Downscaler, *, method: str, seconds: float, evaluation: Evaluation | None, **more: Any
    ) -> Self:
        """The run of a fitted downscaler."""
        info = downscaler.info()
        training = info.get("training", {})
        return cls(
            method=method,
            parameters=parameters_of(downscaler),
            samples=training.get("samples", info["training times"]),
            seconds=seconds,
            device=training.get("device", "cpu"),
            loss=training.get("validation_loss"),
            steps=training.get("steps"),
            scores={} if evaluation is None else scores_of(evaluation, evaluation.method),
            **more,
        )


def parameters_of(downscaler: Downscaler) -> int | None:
    """Numbers that were trained by gradient; None where there are none."""
    found: int | None = downscaler.info().get("training", {}).get("parameters")
    return found


def scores_of(evaluation: Evaluation, method: str) -> dict[str, dict[str, float | None]]:
    """Values of one method by variable and metric."""
    found: dict[str, dict[str, float | None]] = {}
    for score in evaluation.scores:
        if score.method == method:
            found.setdefault(score.variable, {})[score.metric] = score.to_dict()["value"]
    return found


def append(path: Path, run: Run) -> None:
    """Add a line to the ledger."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run), allow_nan=False) + "\n")
