"""Methods on a task: each learns from the training block and is judged on the test block, on common draws of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.results import Result, Trial, write
from finegrid.benchmark.tasks import Task
from finegrid.conventions import InputError
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.evaluation import Evaluation, evaluate
from finegrid.pipeline.fit import period_of
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named
from finegrid.training import Settings

Say = Callable[[str], None]


def run(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    seeds: int = 1,
    settings: Settings | None = None,
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
        say: told what happens, in short sentences.
        progress: show a bar while a network trains.

    Raises:
        InputError: on an unknown method, a sample that is not here, or when no method applies.
    """
    names = list(dict.fromkeys(methods or task.methods))
    for name in names:
        named(name)  # an unknown name ends the run before it costs anything
    watch, settings = Watch(), settings or Settings()
    material = task.material()
    trials, inapplicable = _tried(task, names, material, seeds, settings, say, progress)
    if not trials:
        raise InputError(f"no method applies to {task.name}: " + "; ".join(inapplicable.values()))
    evaluation = judged(task, trials, material)
    result = Result(task, {each.label: each for each in trials}, evaluation, inapplicable, watch.seconds)
    if out is not None:
        write(result, Path(out))
    return result


def _tried(
    task: Task, names: Sequence[str], material: Material, seeds: int, settings: Settings, say: Say, progress: bool
) -> tuple[list[Trial], dict[str, str]]:
    learning, test = material.at(material.learning), material.at(material.blocks.test)
    trials: list[Trial] = []
    inapplicable: dict[str, str] = {}
    for name in names:
        for seed in range(seeds):
            downscaler = _unfitted(task, name, replace(settings, seed=settings.seed + seed))
            watch, neural = Watch(), isinstance(downscaler, NeuralDownscaler)
            stops_early = neural and task.methods.get(name, {}).get("early_stopping", True)
            try:
                downscaler.fit(
                    *learning,
                    static=material.static or None,
                    validate=material.times(material.blocks.validate) if stops_early else 0.0,
                    progress=progress,
                )
            except InputError as error:
                inapplicable[name] = str(error)
                say(f"{name}: not applicable: {error}")
                break
            seconds = watch.seconds
            number = settings.seed + seed if neural and seeds > 1 else None
            trials.append(Trial(name, number, downscaler, downscaler.predict(test[0]), seconds))
            say(f"{trials[-1].label}: fitted in {seconds:.1f} s")
            if not neural:
                break
    return trials, inapplicable


def _unfitted(task: Task, name: str, settings: Settings) -> Downscaler:
    """The downscaler of a method with the task's options for it; the caller's limits stand."""
    options = {key: value for key, value in task.methods.get(name, {}).items() if key != "early_stopping"}
    own = dict(options.pop("settings", {}))
    common: dict[str, Any] = {"variables": {each: each for each in task.variables}, **options}
    if not isinstance(named(name), NeuralDownscaler):
        return named(name, **common)
    if settings.steps is not None:
        own["steps"] = min(settings.steps, own.get("steps", settings.steps))
    return named(name, **common, settings=replace(settings, **own))


def judged(task: Task, trials: Sequence[Trial], material: Material) -> Evaluation:
    """Scores of all trials on the same draws; the report shows the best network; without one, the best method."""
    coarse, truth = material.at(material.blocks.test)
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
        split=period_of(truth, material),
        variables=list(task.variables),
    )


def _error(prediction: xr.Dataset, truth: xr.Dataset, variables: Sequence[str]) -> float:
    """Mean over the variables of the unweighted error, relative to the deviation: good enough to rank by."""
    errors = []
    for name in variables:
        right = truth[name].values.astype(np.float64)
        fields = prediction[name].mean("member").transpose(*truth[name].dims).values
        errors.append(np.sqrt(np.nanmean((fields - right) ** 2)) / np.nanstd(right))
    return float(np.mean(errors))
