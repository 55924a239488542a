"""What a run says while it goes: a progress bar, a JSONL log, TensorBoard when asked for."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from finegrid.conventions import InputError

FILE = "log.jsonl"


class Log:
    """Records of a run: keys step, loss, validation_loss, learning_rate, seconds.

    Args:
        folder: where `log.jsonl` goes; None keeps the records in memory only.
        steps: length of the run, for the bar.
        bar: show progress, remaining time and loss on the terminal.
        tensorboard: also write TensorBoard events (extra `tensorboard`).
    """

    def __init__(
        self, folder: Path | None, *, steps: int, start: int = 0, bar: bool, tensorboard: bool = False
    ) -> None:
        self.records: list[dict[str, Any]] = [] if folder is None or not start else _until(start, folder / FILE)
        self._file = None if folder is None else (folder / FILE).open("w", encoding="utf-8")
        for each in self.records:
            self._write(each)
        self._events = _events(folder) if tensorboard and folder is not None else None
        self._bar = _bar(steps, start) if bar else None
        self._loss = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        for part in (self._file, self._events):
            if part is not None:
                part.close()

    def advance(self, step: int) -> None:
        """One step more on the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, loss=self._loss)

    def record(self, step: int, **values: float) -> None:
        """Note the state of the run; values that are not finite are left out."""
        known = {name: value for name, value in values.items() if abs(value) < float("inf")}
        self.records.append({"step": step, **known})
        shown = [f"{name} {known[key]:.4g}" for key, name in _SHOWN.items() if key in known]
        self._loss = ", ".join(shown)
        self._write({"step": step, **known})
        if self._events is not None:
            for name, value in known.items():
                self._events.add_scalar(name, value, step)

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()


def _until(step: int, path: Path) -> list[dict[str, Any]]:
    """What a run that goes on has noted until then; what it noted later, before it was killed, happens again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records: list[dict[str, Any]] = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # cut short by a kill
            records.append(json.loads(line))
    return [each for each in records if each["step"] <= step]


_SHOWN = {"loss": "loss", "validation_loss": "validation"}


def _bar(steps: int, start: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    bar.add_task("training", total=steps, completed=start, loss="")
    return bar


def _events(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            'TensorBoard is not installed; expected it for tensorboard: true; pip install "finegrid[tensorboard]"'
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))
