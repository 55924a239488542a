"""Methods on a task: each predicts times that it has not learnt from, and all are judged on common draws of them.

What is held back is the last block of the task, or each of several folds in turn (`folds`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.backbones import BACKBONES
from finegrid.benchmark.folds import Part, Protocol, crossed, held_back
from finegrid.benchmark.results import Result, Trial, write
from finegrid.benchmark.task import Task
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import word_of
from finegrid.data.joining import along_time
from finegrid.data.members import mean_of_members
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.downscalers.plan import backbone_of
from finegrid.evaluation import Evaluation, evaluate
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named
from finegrid.training import Settings

Say = Callable[[str], None]
# Options of a method in a task that are none of its constructor.
_OF_THE_RUN = ("early_stopping", "members", "settings")
# Part of the learning times, the last ones, on which a network chooses when to stop where the task does not say.
_VALIDATE = 0.1


def run(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    seeds: int = 1,
    settings: Settings | None = None,
    folds: int | None = None,
    say: Say = lambda words: None,
    progress: bool = False,
) -> Result:
    """Run methods on a task.

    Args:
        task: from TASKS.
        methods: method names; by default those of the task.
        out: folder for scores, report, table and ledger; None writes nothing.
        seeds: number of seeds of every network.
        settings: how to train; the seed is set here.
        folds: predict each of so many folds of the record by what learnt from the others; 0 holds back the last block;
            None is what the task says.
        say: told what happens, in short sentences.
        progress: show a bar while a network trains.

    Raises:
        InputError: on an unknown method, a sample that is not here, too many folds, or when no method applies.
    """
    names = list(dict.fromkeys(methods or task.methods))
    for name in names:
        named(name)  # an unknown name ends the run before it costs anything
    watch, settings = Watch(), settings or Settings()
    material = task.material()
    protocol = protocol_of(task, material, folds)
    trials, inapplicable = _tried(task, names, material, protocol, seeds, settings, say, progress)
    if not trials:
        raise InputError(f"no method applies to {task.name}: " + "; ".join(inapplicable.values()))
    evaluation = judged(task, trials, material, protocol)
    result = Result(task, {each.label: each for each in trials}, evaluation, inapplicable, watch.seconds)
    if out is not None:
        write(result, Path(out))
    return result


def protocol_of(task: Task, material: Material, folds: int | None = None) -> Protocol:
    """What is held back in a task: its last block, or folds where they are asked for or the task has them."""
    number = task.folds if folds is None else folds
    return crossed(harmonise(material.fine)[0].time, number) if number else held_back(material)


def _tried(
    task: Task,
    names: Sequence[str],
    material: Material,
    protocol: Protocol,
    seeds: int,
    settings: Settings,
    say: Say,
    progress: bool,
) -> tuple[list[Trial], dict[str, str]]:
    trials: list[Trial] = []
    inapplicable: dict[str, str] = {}
    for name in names:
        neural = isinstance(named(name), NeuralDownscaler)
        for seed in range(seeds if neural else 1):
            own = replace(settings, seed=settings.seed + seed)
            number = own.seed if neural and seeds > 1 else None
            try:
                trials.append(_trial(task, name, number, own, material, protocol, progress))
            except InputError as error:
                inapplicable[name] = str(error)
                say(f"{name}: not applicable: {error}")
                break
            say(f"{trials[-1].label}: fitted in {trials[-1].seconds:.1f} s")
    return trials, inapplicable


def _trial(
    task: Task,
    name: str,
    number: int | None,
    settings: Settings,
    material: Material,
    protocol: Protocol,
    progress: bool,
) -> Trial:
    """A method fitted on every part of the protocol, and its predictions of all test times as one record."""
    seconds, predictions = 0.0, []
    members = task.methods.get(name, {}).get("members", named(name).usual_members)
    for part in protocol:
        downscaler, watch = _unfitted(task, name, settings), Watch()
        downscaler.fit(
            *material.at(part.learning),
            static=material.static or None,
            validate=_validate(task, name, downscaler, part, material),
            progress=progress,
        )
        seconds += watch.seconds
        coarse = material.at(part.test)[0]
        predictions.append(downscaler.predict(coarse, members=members, seed=settings.seed))
    return Trial(name, number, downscaler, along_time(predictions, downscaler.domain.names.time), seconds)


def _validate(task: Task, name: str, downscaler: Downscaler, part: Part, material: Material) -> float | xr.DataArray:
    """The times on which a method chooses when to stop; none where it does not."""
    neural = isinstance(downscaler, NeuralDownscaler)
    if not neural or not task.methods.get(name, {}).get("early_stopping", True):
        return 0.0
    return _VALIDATE if part.validate is None else material.times(part.validate)


def _unfitted(task: Task, name: str, settings: Settings) -> Downscaler:
    """The downscaler of a method with the task's options for it; the caller's limits stand."""
    given = task.methods.get(name, {})
    options = {key: value for key, value in given.items() if key not in _OF_THE_RUN}
    own = dict(given.get("settings", {}))
    predictors = {"predictors": task.predictors} if task.predictors else {}
    common: dict[str, Any] = {"variables": {each: each for each in task.variables}, **predictors}
    common |= with_shared(task.options, options, named(name))
    if not isinstance(named(name), NeuralDownscaler):
        return named(name, **common)
    if settings.steps is not None:
        own["steps"] = min(settings.steps, own.get("steps", settings.steps))
    return named(name, **common, settings=replace(settings, **own))


def with_shared(shared: Mapping[str, Any], own: Mapping[str, Any], downscaler: Downscaler) -> dict[str, Any]:
    """A method's own options and those that a task has for all methods that know them; tables are joined."""
    known = {key: each for key, each in shared.items() if hasattr(downscaler, key)}
    if isinstance(downscaler, NeuralDownscaler) and "backbone" in known:
        backbone = word_of(backbone_of(downscaler.backbone, downscaler.head))
        taken = inspect.signature(BACKBONES[backbone]).parameters
        known["backbone"] = {key: each for key, each in known["backbone"].items() if key in taken}
    tables = {key: {**each, **own.get(key, {})} for key, each in known.items() if isinstance(each, Mapping)}
    return {**known, **own, **tables}


def judged(task: Task, trials: Sequence[Trial], material: Material, protocol: Protocol) -> Evaluation:
    """Scores of all trials on the same draws; the report shows the best network; without one, the best method."""
    coarse, truth = material.at(protocol.test)
    networks = [trial for trial in trials if isinstance(trial.downscaler, NeuralDownscaler)]
    best = min(networks or trials, key=lambda trial: _error(trial.prediction, truth, task.variables))
    rest = {trial.label: trial.prediction for trial in trials if trial is not best}
    return evaluate(
        best.prediction,
        truth,
        coarse=coarse,
        baselines=rest,
        method=best.label,
        task=task.title,
        split=protocol.words,
        variables=list(task.variables),
        block=task.block,
        indices=task.regions is None,  # nominal days have no climate
    )


def _error(prediction: xr.Dataset, truth: xr.Dataset, variables: Sequence[str]) -> float:
    """Mean over the variables of the unweighted error, relative to the deviation: good enough to rank by."""
    errors, both = [], [mean_of_members(harmonise(each)[0]) for each in (prediction, truth)]
    for name in variables:
        fields, right = (each[name].values.astype(np.float64) for each in both)
        errors.append(np.sqrt(np.nanmean((fields - right) ** 2)) / np.nanstd(right))
    return float(np.mean(errors))
