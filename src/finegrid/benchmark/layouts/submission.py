"""Predictions of the tests of a benchmark that keeps their truth, in the form in which they are handed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from finegrid.benchmark.fitting import unfitted
from finegrid.benchmark.layouts.task import FieldsTask, LayoutTask
from finegrid.benchmark.protocols.base import Say, quiet
from finegrid.conventions import InputError
from finegrid.data.layouts import LAYOUTS
from finegrid.data.layouts.cordex_submission import MEMBERS, packed
from finegrid.pipeline.material import Material
from finegrid.training import Settings

_VALIDATE = 0.1
USUAL = "ridge+none"


def takes_submissions(task: object) -> bool:
    """Whether the benchmark of a task takes predictions of tests whose truth it keeps."""
    return isinstance(task, LayoutTask) and LAYOUTS[task.layout].submits is not None


def hand_in(
    task: FieldsTask,
    folder: Path,
    methods: tuple[str, ...] = (),
    *,
    settings: Settings | None = None,
    say: Say = quiet,
) -> str:
    """Fit a method on all training times, predict every test, write the files of a submission, and tell where.

    Args:
        task: of a benchmark that takes submissions.
        folder: of the submission; other domains and experiments may be in it already.
        methods: one; by default "ridge+none".
        settings: how to train a network.
        say: told what happens.

    Raises:
        InputError: on several methods, a variable that is left out, or a folder without tests.
    """
    submit, names = LAYOUTS[task.layout].submits, methods or (USUAL,)
    opened = task.opened()
    if submit is None or len(names) != 1 or not opened.tests:
        raise InputError(
            f"got {len(names)} methods and {len(opened.tests)} tests of {task.folder}; expected one method for a "
            "submission, and the predictors of the tests; say --methods ridge+none, and download the folder test"
        )
    fine, blocks = opened.fine[list(task.variables)], task.blocks(opened)
    # Nothing is held back: the benchmark itself judges.
    every = replace(blocks, train=opened.splits["train"], validate=np.arange(0), test=np.arange(0))
    means = task.means(fine, every)
    material = Material(task.inputs(opened.coarse, means), fine, opened.static, every)
    downscaler = unfitted(task, names[0], settings or Settings())
    downscaler.fit(*material.at(every.train), static=opened.static or None, validate=_VALIDATE)
    say(f"{names[0]}: learnt from {len(every.train)} times")
    members = MEMBERS if downscaler.random else 1
    answers = {}
    for name, given in opened.tests.items():
        answers[name] = downscaler.predict(task.inputs(given, means), members=members)
        say(f"{name}: predicted")
    written = submit(folder, opened, answers)
    archive = packed(folder)
    return f"{folder}: {len(written)} files of {opened.chosen['domain']}, {opened.chosen['experiment']}; {archive}"
