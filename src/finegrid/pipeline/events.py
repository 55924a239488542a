"""Chances of events: a calibrator of them in the model folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finegrid.calibration import EVENT_CALIBRATORS, EventCalibrator
from finegrid.calibration import store as stored
from finegrid.conventions.components import build, table_of
from finegrid.downscalers import load
from finegrid.downscalers.members import check_members
from finegrid.pipeline.cluster import connected, workers_of
from finegrid.pipeline.unseen import Paths, opened, period_of, predicted, shared_at_most

_MEMBERS = 20


def calibrate_events(
    model: str | Path,
    events: Mapping[str, float | Sequence[float]],
    *,
    on: str | None = None,
    method: str | Mapping[str, Any] = "isotonic",
    coarse: Paths | None = None,
    fine: Paths | None = None,
    members: int | None = None,
    seed: int = 0,
    overlap: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[str, ...]:
    """Fit a calibrator of the chances of events to a model and write it into its folder.

    Args:
        model: model folder; the model has to draw members.
        events: thresholds of each variable, in its units.
        on: period of the calibration.
        method: a calibrator of events by name or table.
        coarse: coarse files; None are those of the model's recipe.
        fine: files of what came true; None are those of the recipe.
        members: size of the ensemble; by default 20.
        seed: of the ensemble.
        overlap: whether times that the model has learnt from are allowed; it is recorded.
        workers: processes of this machine that share the work, or how many of `scheduler` to wait for.
        scheduler: address of a dask scheduler whose workers do it, or its scheduler file.
        progress: called with the times done and the times in all.

    Returns:
        What was done, in sentences.

    Raises:
        InputError: as `calibrate`, and when an event came true never or always.
    """
    downscaler = load(model)
    calibrator: EventCalibrator = build(table_of(method), EVENT_CALIBRATORS, "calibrator of events")
    count = members or _MEMBERS
    check_members(max(2, count), downscaler.name, random=downscaler.random)
    given, truth = opened(Path(model), coarse, fine, on)
    shared = shared_at_most(downscaler, truth, overlap)
    with (
        connected(workers, scheduler) as client,
        predicted(downscaler, given, Path(model), count, seed, progress, workers_of(client)) as members_of_it,
    ):
        calibrator.fit(members_of_it, truth, events)
    facts = {"model": downscaler.digest, "period": period_of(truth), "members": count, "shared_with_training": shared}
    stored.save(calibrator, model, facts)
    told = ", ".join(f"{name} above {np.atleast_1d(levels)}" for name, levels in events.items())
    return (f"{calibrator.name}, fitted on {facts['period']}, {count} members: {told}.",)
