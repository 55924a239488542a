"""Methods on a task: each predicts times that it has not learnt from, and all are judged on common draws of them.

What is held back is the last block of the task, or each of several folds in turn (`folds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.benchmark.fitting import protocol_of
from finegrid.benchmark.folds import Protocol
from finegrid.benchmark.page import section
from finegrid.benchmark.results import Result, write
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Order, Shelf, Trial, orders_of
from finegrid.benchmark.trying import made_beside, tried
from finegrid.conventions import InputError, harmonise
from finegrid.data.members import mean_of_members
from finegrid.evaluation import Evaluation, evaluate
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
    samples: int | None = None,
    folds: int | None = None,
    workers: int = 1,
    fresh: bool = False,
    entries: Mapping[str, xr.Dataset] | None = None,
    say: Say = lambda words: None,
    progress: bool = False,
) -> Result:
    """Run methods on a task.

    Args:
        task: from TASKS.
        methods: method names; by default those of the task.
        out: folder for scores, report, table, ledger and the trials themselves, which a later run finds again
            (`trials`); None writes nothing.
        seeds: number of seeds of every network.
        settings: how to train; the seed is set here.
        samples: training samples that a network may see, in place of steps or beside a budget.
        folds: predict each of so many folds of the record by what learnt from the others; 0 holds back the last block;
            None is what the task says.
        workers: processes that make trials at the same time, each with its part of the processors.
        fresh: make every trial anew, although `out` may hold it.
        entries: predictions of the test times that others made, by name; they are judged beside the methods.
        say: told what happens, in short sentences.
        progress: show a bar while a network trains.

    Raises:
        InputError: on an unknown method, a sample that is not here, too many folds, several workers without `out`, or
            when no method applies.
    """
    names = list(dict.fromkeys(methods or task.methods))
    for name in names:
        named(name)  # an unknown name ends the run before it costs anything
    others = _entries(entries or {}, names)
    watch, settings = Watch(), settings or Settings()
    material = task.material()
    protocol = protocol_of(task, material, folds)
    orders = list(orders_of(task, names, seeds=seeds, settings=settings, samples=samples, folds=folds))
    shelf = None if out is None else Shelf(Path(out), fresh)
    if workers > 1:
        if shelf is None:
            raise InputError(f"got workers={workers} without a folder; expected one where trials are kept; pass out=")
        _made_beside(orders, shelf, workers, say)
        shelf = replace(shelf, fresh=False)
    found = tried(orders, shelf, material, protocol, say=say, progress=progress)
    trials = [*found.trials, *others]
    evaluation = judged(task, trials, material, protocol)
    result = Result(task, {each.label: each for each in trials}, evaluation, found.inapplicable, watch.seconds)
    if out is not None:
        write(result, Path(out), sections=[section(result)])
    return result


def _entries(entries: Mapping[str, xr.Dataset], names: Sequence[str]) -> list[Trial]:
    """Predictions of others.

    Raises:
        InputError: on a name that a method has.
    """
    both = [name for name in entries if name in names]
    if both:
        raise InputError(f"got an entry called '{both[0]}' like a method; expected another name; rename the entry")
    return [Trial(name, None, None, fields, float("nan")) for name, fields in entries.items()]


def _made_beside(orders: Sequence[Order], shelf: Shelf, workers: int, say: Say) -> None:
    for done, (order, now) in enumerate(made_beside(orders, shelf, workers), 1):
        if now:
            seed = "" if order.number is None else f", seed {order.number}"
            say(f"{done} of {len(orders)}: {order.method}{seed} is done")


def judged(task: Task, trials: Sequence[Trial], material: Material, protocol: Protocol) -> Evaluation:
    """Scores of all trials on the same draws; the report shows the best network; without one, the best method."""
    coarse, truth = material.at(protocol.test)
    networks = [trial for trial in trials if trial.is_network]
    best = min(networks or trials, key=lambda trial: _error(trial.prediction, truth, task.variables))
    rest = {trial.label: trial.prediction for trial in trials if trial is not best}
    return evaluate(
        best.prediction,
        truth,
        coarse=coarse if task.comparable else None,
        baselines=rest,
        method=best.label,
        task=task.title,
        split=protocol.words,
        variables=list(task.variables),
        block=task.block,
        indices=task.dated,
    )


def _error(prediction: xr.Dataset, truth: xr.Dataset, variables: Sequence[str]) -> float:
    """Mean over the variables of the unweighted error, relative to the deviation: good enough to rank by."""
    errors, both = [], [mean_of_members(harmonise(each)[0]) for each in (prediction, truth)]
    for name in variables:
        fields, right = (each[name].values.astype(np.float64) for each in both)
        errors.append(np.sqrt(np.nanmean((fields - right) ** 2)) / np.nanstd(right))
    return float(np.mean(errors))
