"""Folders in the layouts of public benchmarks as tasks of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finegrid.benchmark.layouts.columns import columns
from finegrid.benchmark.layouts.kinds import COLUMNS, FORECASTS, KINDS, STATIONS, task_of
from finegrid.benchmark.layouts.stations import stations
from finegrid.benchmark.layouts.submission import hand_in, takes_submissions
from finegrid.benchmark.layouts.task import FieldsTask, LayoutTask
from finegrid.benchmark.protocols.base import Answer
from finegrid.benchmark.protocols.forecasts import forecasts

INQUIRIES: dict[str, Callable[..., Answer]] = {FORECASTS: forecasts, COLUMNS: columns, STATIONS: stations}
"""What a folder asks that holds no coarse and fine fields."""


def inquiry_of(task: Any) -> Callable[..., Answer] | None:
    """What answers the question of a folder; None for one of downscaling, and for tasks of other origin."""
    return INQUIRIES[task.asked] if isinstance(task, LayoutTask) and task.asked else None


__all__ = [
    "INQUIRIES",
    "KINDS",
    "FieldsTask",
    "LayoutTask",
    "columns",
    "hand_in",
    "inquiry_of",
    "stations",
    "takes_submissions",
    "task_of",
]
