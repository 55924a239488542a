"""From a recipe to a model folder: open, crop, split, fit, test against simple baselines, write.

model/  weights.safetensors, model.json   the downscaler
recipe.yaml                       the job, with every default written out
scores.json, report.html          how good it is on times that it has not seen
guard.json, guard.safetensors     what its input looked like, for the input of `finegrid downscale`
calibration.*                     what makes it honest, where the recipe asks for a calibration
log.jsonl, ledger.jsonl           how training went, and the run in one line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid import __version__
from finegrid.conventions import harmonise
from finegrid.data import pair
from finegrid.data.working import Workers, alone
from finegrid.downscalers import Downscaler, NeuralDownscaler, load
from finegrid.evaluation import Evaluation, evaluate
from finegrid.evaluation.agreement import Agreement
from finegrid.evaluation.parts import Cost
from finegrid.pipeline import costs
from finegrid.pipeline.agreeing import agreements_of
from finegrid.pipeline.archives import able, check_shared, few, fitted, in_pieces, note_on
from finegrid.pipeline.building import built
from finegrid.pipeline.calibrate import calibrate
from finegrid.pipeline.card import write_card
from finegrid.pipeline.choosing import arguments_of
from finegrid.pipeline.cluster import connected, workers_of
from finegrid.pipeline.guarding import learn
from finegrid.pipeline.ledger import Run, Watch, append
from finegrid.pipeline.material import Material, at_times, gathered
from finegrid.pipeline.naming import RIVALS, name_of, named
from finegrid.pipeline.recipe import FILE, Recipe
from finegrid.pipeline.workplace import unfinished, workplace
from finegrid.training import Interrupted
from finegrid.training.checkpoint import FILE as CHECKPOINT
from finegrid.training.checkpoint import forget
from finegrid.training.ranks import Ranks

MARK = "model.json"
RECIPE = FILE
SCORES, REPORT, LOG, LEDGER = "scores.json", "report.html", "log.jsonl", "ledger.jsonl"
_LEAST_TEST_TIMES = 2


@dataclass(frozen=True)
class Fitted:
    """What a job made.

    Attributes:
        folder: the model folder.
        downscaler: what was fitted.
        evaluation: its scores on the test block; None when that has too few times.
        note: what the user should know besides, such as why there are no scores.
    """

    folder: Path
    downscaler: Downscaler
    evaluation: Evaluation | None
    note: str = ""


def fit(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Fitted:
    """Do the job of a recipe.

    Args:
        recipe: what to do.
        out: the model folder to make.
        resume: go on with an interrupted run from its checkpoint, or from the start where there is none; where the same
            job is finished already, nothing is done.
        progress: show a bar while training.
        workers: processes of dask that read the archive, for methods that learn in one reading.
        scheduler: address of a dask scheduler whose workers do so, or its scheduler file.

    Raises:
        InputError: when data, recipe or folder cannot be used; nothing is written.
        Interrupted: on Ctrl-C during training; `unfinished(out)` holds a checkpoint and the recipe.
    """
    downscaler, full = built(recipe)
    if full.calibrate is not None:
        arguments_of(full.calibrate)  # what is wrong there must not show after an hour of training
    if resume and (done := _finished(Path(out), full)) is not None:
        return done
    if (workers, scheduler) != (None, None):
        check_shared(downscaler)
    resume = resume and has_checkpoint(unfinished(Path(out).absolute()))
    material = gathered(recipe.data)
    if not Ranks.is_first():
        return _followed(downscaler, material, Path(out), resume=resume)
    with (
        workplace(out, marks=(MARK,), resume=resume, keep=has_checkpoint) as folder,
        connected(workers, scheduler) as client,
    ):
        full.write(folder / RECIPE)
        watch = Watch()
        how: dict[str, Any] = {"resume": resume, "progress": progress, "workers": workers_of(client)}
        learnt, evaluation, note = fitted_and_judged(downscaler, material, folder, **how)
        learnt.save(folder)
        seen = at_times(material.coarse, few(material.coarse, material.learning))
        learn(learnt, seen, folder, seasonal=full.data.cycles != ())
        append(folder / LEDGER, Run.of(learnt, method=name_of(learnt), seconds=watch.seconds, evaluation=evaluation))
        if full.calibrate is not None:
            words = calibrate(folder, **arguments_of(full.calibrate)).words
            note = "\n".join([*([note] if note else []), *words])
        write_card(folder)
        forget(folder)
    return Fitted(Path(out), learnt, evaluation, note)


def _followed(downscaler: Downscaler, material: Material, out: Path, *, resume: bool) -> Fitted:
    """The part of a process that helps another one to train, and writes nothing."""
    folder = unfinished(out.absolute()) if resume else None
    validate, pieces = material.times(material.blocks.validate), in_pieces(downscaler, material)
    how: dict[str, Any] = {"static": material.static or None, "validate": validate, "folder": folder, "resume": resume}
    return Fitted(out, fitted(downscaler, material, pieces=pieces, **how), None)


def fitted_and_judged(
    downscaler: Downscaler,
    material: Material,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = False,
    baselines: Sequence[str] = RIVALS,
    task: str = "",
    workers: Workers = alone,
) -> tuple[Downscaler, Evaluation | None, str]:
    """Fit on the learning times and judge on the test times; logs, scores and report go to `folder`."""
    shared: dict[str, Any] = {"pieces": in_pieces(downscaler, material, workers), "workers": workers}
    coarse, fine = material.at(few(material.fine, material.learning))
    matched = pair(coarse, fine, variables=downscaler.variables, predictors=downscaler.predictors)
    agreements = agreements_of(matched)
    fitted(
        downscaler,
        material,
        **shared,
        static=material.static or None,
        validate=material.times(material.blocks.validate),
        folder=folder,
        resume=resume,
        progress=progress,
    )
    count = len(material.blocks.test)
    if count < _LEAST_TEST_TIMES:
        note = f"There are no scores: the test block has {count} time(s), and at least {_LEAST_TEST_TIMES} are needed."
        return downscaler, None, note
    # What does not conserve is no match for baselines that must: where coarse and fine differ, they lose by that.
    ending = "" if downscaler.conservation.conserves else "+none"
    rivals = [f"{name}{ending}" for name in baselines if f"{name}{ending}" != name_of(downscaler)]
    learnt = {name: _rival(name, downscaler, material, **shared) for name in able(rivals, pieces=shared["pieces"])}
    evaluation = _judged(downscaler, learnt, material, task)
    _write(evaluation, folder, downscaler, agreements)
    if downscaler.adjust is not None and agreements:
        adjusted = downscaler.read(coarse).sel(time=matched.coarse.time).load()
        agreements = agreements_of(replace(matched, coarse=adjusted))
    left = [*downscaler.notes(), *downscaler.notes_on(material.at(few(material.fine, material.blocks.test))[0])]
    advice = (
        *left,
        note_on(material),
        _disagreement(agreements, downscaler),
        _below_zero(evaluation, downscaler, agreements),
    )
    return downscaler, evaluation, "\n".join(each for each in advice if each)


def _below_zero(evaluation: Evaluation, downscaler: Downscaler, agreements: Sequence[Agreement]) -> str:
    """What to tell whose rain comes out negative, although a constraint could prevent it."""
    shares = {
        variable: evaluation.of(variable, "negatives")[evaluation.method].value
        for variable in evaluation.variables
        if "negatives" in evaluation.metrics(variable)
    }
    found = [f"{100 * share:.2g} % of the values of {variable}" for variable, share in shares.items() if share > 0]
    if not found:
        return ""
    word = name_of(downscaler).partition("+")[0]
    keeping = "relaxed" if any(each.fires for each in agreements) else "multiplicative"
    return f"{' and '.join(found)} are below zero. A constraint that keeps the sign: --method {word}+{keeping}"


def _disagreement(agreements: Sequence[Agreement], downscaler: Downscaler) -> str:
    """What to tell who forces a fine field to agree with a coarse one that comes from elsewhere."""
    found = [each for each in agreements if each.fires]
    if not found or not downscaler.conservation.conserves:
        return ""
    word = name_of(downscaler).partition("+")[0]
    still = "" if downscaler.adjust is None else " after the adjustment, too"
    told = [f"Coarse and fine {each.name} disagree{still}. {' '.join(each.advice)}" for each in found]
    return "\n".join([*told, f"Compare with a method that does not force agreement: --method {word}+relaxed"])


def has_checkpoint(folder: Path) -> bool:
    """Whether an unfinished model folder is worth keeping."""
    return (folder / CHECKPOINT).exists()


def how_to_resume(out: str | Path, reason: str = "") -> str:
    """What to tell a user whose Ctrl-C ended a fit."""
    folder = unfinished(Path(out).absolute())
    if not has_checkpoint(folder):
        return "Stopped before training began; nothing was kept. Run the same command again to start anew."
    where = Path(out).with_name(folder.name)
    return (
        f"{reason or 'Stopped'}; the checkpoint is kept in {where}. To go on as if nothing had happened:\n"
        f"  finegrid fit {where / RECIPE} --out {out} --resume"
    )


def _finished(out: Path, full: Recipe) -> Fitted | None:
    """The model of the same job, where nothing of it is left to do."""
    if unfinished(out.absolute()).exists() or not (out / MARK).exists() or not (out / RECIPE).exists():
        return None
    if Recipe.read(out / RECIPE) != full:
        return None
    return Fitted(out, load(out), None, "This job was finished already; nothing was done.")


def _rival(name: str, downscaler: Downscaler, material: Material, **shared: Any) -> Downscaler:
    """A baseline with the same variables and predictors, fitted on the same times."""
    rival = named(name, variables=dict(downscaler.domain.inputs.variables), predictors=downscaler.predictors)
    return fitted(rival, material, **shared, static=material.static or None, validate=0.0)


def _judged(downscaler: Downscaler, rivals: Mapping[str, Downscaler], material: Material, task: str) -> Evaluation:
    coarse, truth = material.at(few(material.fine, material.blocks.test))
    watch = Watch()
    prediction = downscaler.predict(coarse, members=downscaler.usual_members)
    seconds = watch.seconds
    cost = Cost(seconds=seconds, times=len(harmonise(truth)[0].time), members=downscaler.usual_members)
    cost = replace(cost, memory=costs.peak_memory(), **costs.trained(downscaler))
    found = evaluate(
        prediction,
        truth,
        coarse=coarse,
        baselines={name: rival.predict(coarse) for name, rival in rivals.items()},
        method=name_of(downscaler),
        task=task or f"Downscaling of {', '.join(downscaler.domain.outputs)}",
        split=period_of(truth, material),
        seconds=seconds,
        variables=list(downscaler.domain.outputs),
    )
    return replace(found, parts=tuple(cost.part()))


def period_of(truth: xr.Dataset, material: Material) -> str:
    """The test block in words."""
    time = material.times(material.blocks.test).values
    return f"test: {len(time)} times from {str(time[0])[:16]} to {str(time[-1])[:16]}, not seen in training"


def _write(evaluation: Evaluation, folder: Path, downscaler: Downscaler, agreements: Sequence[Agreement]) -> None:
    evaluation.to_json(folder / SCORES)
    log = folder / LOG
    provenance = {"model": downscaler.digest, "finegrid": __version__}
    if isinstance(downscaler, NeuralDownscaler):
        provenance["seed"] = str(downscaler.settings.seed)
    log_file = log if log.exists() else None
    evaluation.report(folder / REPORT, training_log=log_file, provenance=provenance, agreements=agreements)


__all__ = ["Fitted", "Interrupted", "built", "fit", "fitted_and_judged", "has_checkpoint", "how_to_resume"]
