"""A method of a task, fitted on what the protocol lets it learn from, and asked for what is held back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

import xarray as xr

from finegrid.backbones import BACKBONES
from finegrid.benchmark.folds import Part, Protocol, crossed, held_back
from finegrid.benchmark.task import Task
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import word_of
from finegrid.data.joining import along_time
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.downscalers.plan import backbone_of
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named
from finegrid.training import Settings

# Options of a method in a task that are none of its constructor.
_OF_THE_RUN = ("early_stopping", "members", "settings")
# Part of the learning times, the last ones, on which a network chooses when to stop where the task does not say.
_VALIDATE = 0.1


def protocol_of(task: Task, material: Material, folds: int | None = None) -> Protocol:
    """What is held back in a task: its last block, or folds where they are asked for or the task has them."""
    number = task.folds if folds is None else folds
    return crossed(harmonise(material.fine)[0].time, number) if number else held_back(material)


def fitted(
    task: Task,
    name: str,
    settings: Settings,
    samples: int | None,
    material: Material,
    protocol: Protocol,
    *,
    progress: bool = False,
) -> tuple[Downscaler, xr.Dataset, float]:
    """A method fitted on every part of the protocol: the last one, its predictions of all test times, and the seconds.

    Raises:
        InputError: when the method does not apply.
    """
    seconds, predictions = 0.0, []
    members = task.methods.get(name, {}).get("members", named(name).usual_members)
    for part in protocol:
        downscaler, watch = unfitted(task, name, settings, samples), Watch()
        downscaler.fit(
            *material.at(part.learning),
            static=material.static or None,
            validate=_validate(task, name, downscaler, part, material),
            progress=progress,
        )
        seconds += watch.seconds
        coarse = material.at(part.test)[0]
        predictions.append(downscaler.predict(coarse, members=members, seed=settings.seed))
    return downscaler, along_time(predictions, downscaler.domain.names.time), seconds


def _validate(task: Task, name: str, downscaler: Downscaler, part: Part, material: Material) -> float | xr.DataArray:
    """The times on which a method chooses when to stop; none where it does not."""
    neural = isinstance(downscaler, NeuralDownscaler)
    if not neural or not task.methods.get(name, {}).get("early_stopping", True):
        return 0.0
    return _VALIDATE if part.validate is None else material.times(part.validate)


def unfitted(task: Task, name: str, settings: Settings, samples: int | None = None) -> Downscaler:
    """The downscaler of a method with the task's options for it; the caller's limits stand.

    Args:
        task: with options of the method.
        name: of the method.
        settings: how to train.
        samples: training samples that a network may see, in batches of its own size.
    """
    given = task.methods.get(name, {})
    options = {key: value for key, value in given.items() if key not in _OF_THE_RUN}
    own = dict(given.get("settings", {}))
    predictors = {"predictors": task.predictors} if task.predictors else {}
    common: dict[str, Any] = {"variables": {each: each for each in task.variables}, **predictors}
    common |= with_shared(task.options, options, named(name))
    _check_alone(task, name)
    if not isinstance(named(name), NeuralDownscaler):
        return named(name, **common)
    limits = [settings.steps, own.get("steps"), samples and ceil(samples / own.get("batch", settings.batch))]
    if any(limits):
        own["steps"] = min(filter(None, limits))
    return named(name, **common, settings=replace(settings, **own))


def _check_alone(task: Task, name: str) -> None:
    """Where the inputs are predictors alone there is nothing to conserve, and no bias to adjust.

    Raises:
        InputError: on a method that does either.
    """
    downscaler = named(name)
    if task.comparable or (word_of(downscaler.constraint) == "none" and downscaler.adjust is None):
        return
    plain = name.partition("/")[2] or name
    raise InputError(
        f"got the method {name}, which keeps or adjusts a coarse field of what it predicts; expected one that does "
        f"not, for {task.name} has none: its inputs are predictors alone; say {plain.partition('+')[0]}+none"
    )


def with_shared(shared: Mapping[str, Any], own: Mapping[str, Any], downscaler: Downscaler) -> dict[str, Any]:
    """A method's own options and those that a task has for all methods that know them; tables are joined."""
    known = {key: each for key, each in shared.items() if hasattr(downscaler, key)}
    if isinstance(downscaler, NeuralDownscaler) and "backbone" in known:
        backbone = word_of(backbone_of(downscaler.backbone, downscaler.head))
        taken = inspect.signature(BACKBONES[backbone]).parameters
        known["backbone"] = {key: each for key, each in known["backbone"].items() if key in taken}
    tables = {key: {**each, **own.get(key, {})} for key, each in known.items() if isinstance(each, Mapping)}
    return {**known, **own, **tables}
