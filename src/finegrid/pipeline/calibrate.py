"""A model folder and later observations: how honest are its members, and what makes them so?

The calibration period is predicted, compared with what came true, and the calibrator that learnt from it is written
into the model folder, where `finegrid downscale` finds it. How much it helps is measured on data that it has not seen:
another calibrator learns from the first half of the period and is judged on the second. So is the method chosen, unless
the user names one: that with the least CRPS, or with the least Winkler score for a model with a single answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finegrid import __version__
from finegrid.calibration import store as stored
from finegrid.conventions import InputError
from finegrid.conventions.errors import provenance
from finegrid.downscalers import load
from finegrid.evaluation.calibration_report import Judged, write
from finegrid.pipeline.calibrated import Calibration, Period
from finegrid.pipeline.card import write_card
from finegrid.pipeline.choosing import BEST, LEVEL, best, candidates, harmed, made
from finegrid.pipeline.cluster import connected, workers_of
from finegrid.pipeline.naming import name_of
from finegrid.pipeline.unseen import Paths, check_whole, opened, period_of, predicted, shared_at_most

REPORT = "calibration.html"
_TOLD = ("guarantee", "period", "members", "seed", "shared_with_training", "files", "model", "finegrid")
_MEMBERS = 20


@dataclass(frozen=True)
class Calibrated:
    """What was made.

    Attributes:
        calibration: the calibrator in the model folder.
        judged: how honest the model is on the second half of the period, and is with a calibrator of the first half,
            by variable; empty where half of the cases are too few.
        words: the same in sentences.
    """

    calibration: Calibration
    judged: Mapping[str, Judged]
    words: tuple[str, ...]


def calibrate(
    model: str | Path,
    *,
    on: str | None = None,
    method: str | Mapping[str, Any] = BEST,
    coarse: Paths | None = None,
    fine: Paths | None = None,
    members: int | None = None,
    seed: int = 0,
    overlap: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibrated:
    """Fit a calibrator to a model and write it into its folder.

    Args:
        model: model folder.
        on: period of the calibration, such as "2001/2005"; None is all common times of the files.
        method: a calibrator by name or `{name: ..., **arguments}`; `best` tries several.
        coarse: coarse files; None are those of the model's recipe.
        fine: files of what came true; None are those of the recipe.
        members: size of the ensemble; by default 20, or one of a model with a single answer.
        seed: of the ensemble.
        overlap: whether times that the model has learnt from are allowed; it is recorded.
        workers: processes of this machine that share the work, or how many of `scheduler` to wait for.
        scheduler: address of a dask scheduler whose workers do it, or its scheduler file.
        progress: called with the times done and the times in all.

    Raises:
        InputError: when the period holds training times, or too few others; nothing is written.
    """
    downscaler = load(model)
    several = downscaler.random and (members is None or members > 1)
    tables = candidates(method, several=several)
    given, truth = opened(Path(model), coarse, fine, on)
    check_whole(downscaler, truth)
    shared = shared_at_most(downscaler, truth, overlap)
    count = members or (_MEMBERS if downscaler.random else 1)
    with (
        connected(workers, scheduler) as client,
        predicted(downscaler, given, Path(model), count, seed, progress, workers_of(client)) as drawn,
    ):
        whole = Period(downscaler, drawn, truth, downscaler.read(given))
        table, judged = best(tables, whole, workers=workers_of(client))
        learnt = whole.learn(made(table))
    calibrator = learnt.calibrator
    facts = {
        "model": downscaler.digest,
        "finegrid": __version__,
        "period": period_of(truth),
        "members": count,
        "seed": seed,
        "files": [provenance(each, otherwise="") for each in (given, truth)],
        "changes_members": calibrator.draws and count >= max(2, calibrator.least_members) and not harmed(judged),
        **learnt.facts,
        "shared_with_training": shared,
        "guarantee": calibrator.guarantee if not shared else f"none: {shared} cases were learnt from by the model",
    }
    return _kept(Path(model), Calibration(downscaler, calibrator, facts), judged)


def update(
    model: str | Path,
    *,
    on: str | None = None,
    coarse: Paths | None = None,
    fine: Paths | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibrated:
    """Let the calibrator of a model folder learn from later times, whose truth has arrived.

    Args:
        model: model folder with a calibration that learns as truth arrives.
        on: period; None is all common times of the files.
        coarse: coarse files; None are those of the model's recipe.
        fine: files of what came true; None are those of the recipe.
        workers: processes of this machine that share the work, or how many of `scheduler` to wait for.
        scheduler: address of a dask scheduler whose workers do it, or its scheduler file.
        progress: called with the times done and the times in all.

    Raises:
        InputError: when there is no such calibration, or the times are not later than all before; nothing is written.
    """
    downscaler = load(model)
    calibration = Calibration.of(model, downscaler)
    if calibration is None:
        raise InputError(
            f"got {model} without a calibration; expected one that learns as truth arrives; make it first: finegrid "
            f"calibrate {model} --on ... --method strongly-adaptive"
        )
    given, truth = opened(Path(model), coarse, fine, on)
    check_whole(downscaler, truth)
    shared_at_most(downscaler, truth, overlap=False)
    count, seed = calibration.facts["members"], calibration.facts["seed"]
    with (
        connected(workers, scheduler) as client,
        predicted(downscaler, given, Path(model), count, seed, progress, workers_of(client)) as drawn,
    ):
        calibrator = calibration.calibrator.update(drawn, truth)
    facts = {**calibration.facts, "period": f"{calibration.facts['period']}; then {period_of(truth)}"}
    return _kept(Path(model), Calibration(downscaler, calibrator, facts), {})


def _kept(model: Path, calibration: Calibration, judged: Mapping[str, Judged]) -> Calibrated:
    """Write the calibration and its report into the model folder."""
    facts, calibrator = calibration.facts, calibration.calibrator
    words = _words(calibration, judged)
    stored.save(calibrator, model, {**facts, "words": list(words)})
    if judged:
        write(
            model / REPORT,
            judged,
            grid=calibration.downscaler.domain.true_grid,
            title=f"Calibration of {name_of(calibration.downscaler)}",
            verdict=words[-1],
            facts={"calibrator": calibrator.name, **{key: str(facts[key]) for key in _TOLD}},
        )
    write_card(model)
    return Calibrated(calibration, judged, words)


def _words(calibration: Calibration, judged: Mapping[str, Judged]) -> tuple[str, ...]:
    """What a person wants to know."""
    calibrator, facts = calibration.calibrator, calibration.facts
    name = " by ".join([calibrator.name, *([", ".join(calibrator.groups)] if calibrator.groups else [])])
    told = [f"{name}, fitted on {facts['period']}, {facts['members']} member(s). Guarantee: {facts['guarantee']}."]
    if calibrator.draws and harmed(judged):
        told.append("It makes intervals only: the members alone have a smaller CRPS, and are left as they are.")
    for variable, each in judged.items():
        alone = "" if each.before is None else f"; by the members alone {each.before.words}"
        told.append(
            f"{100 * LEVEL:g} % intervals of {variable} on the second half of the period, with a calibration of the "
            "first: "
            f"{each.after.words}{alone}."
        )
    return tuple(told)
