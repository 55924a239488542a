"""From a recipe to a model folder: open, crop, split, fit, test against simple baselines, write.

model/  weights.safetensors, model.json   the downscaler
recipe.yaml                       the job, with every default written out
scores.json, report.html          how good it is on times that it has not seen
guard.json, guard.safetensors     what its input looked like, for the input of `finegrid downscale`
calibration.*                     what makes it honest, where the recipe asks for a calibration
log.jsonl, ledger.jsonl           how training went, and the run in one line
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid import __version__
from finegrid.backbones import BACKBONES
from finegrid.constraints import CONSTRAINTS
from finegrid.conventions import InputError
from finegrid.conventions.components import build, completed, word_of
from finegrid.data import ADJUSTMENTS, pair
from finegrid.downscalers import BASELINES, DOWNSCALERS, Downscaler, NeuralDownscaler
from finegrid.downscalers.plan import backbone_of
from finegrid.evaluation import Evaluation, evaluate
from finegrid.evaluation.agreement import Agreement
from finegrid.heads import HEADS
from finegrid.losses import ENSEMBLE_LOSSES, LOSSES
from finegrid.pipeline.agreeing import agreements_of
from finegrid.pipeline.calibrate import calibrate
from finegrid.pipeline.card import write_card
from finegrid.pipeline.choosing import arguments_of
from finegrid.pipeline.guarding import learn
from finegrid.pipeline.ledger import Run, Watch, append
from finegrid.pipeline.material import Material, at_times, gathered
from finegrid.pipeline.naming import RIVALS, name_of, named
from finegrid.pipeline.recipe import FILE, Recipe
from finegrid.pipeline.workplace import unfinished, workplace
from finegrid.training import Interrupted
from finegrid.training.checkpoint import FILE as CHECKPOINT

MARK = "model.json"
RECIPE = FILE
SCORES, REPORT, LOG, LEDGER = "scores.json", "report.html", "log.jsonl", "ledger.jsonl"
_LEAST_TEST_TIMES = 2
# The arguments of a backbone that the data decide.
_FROM_DATA = ("inputs", "outputs", "factor", "shape", "static", "fine", "condition", "padding")


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


def fit(recipe: Recipe, out: str | Path, *, resume: bool = False, progress: bool = True) -> Fitted:
    """Do the job of a recipe.

    Args:
        recipe: what to do.
        out: the model folder to make.
        resume: go on from the checkpoint of an interrupted run.
        progress: show a bar while training.

    Raises:
        InputError: when data, recipe or folder cannot be used; nothing is written.
        Interrupted: on Ctrl-C during training; `unfinished(out)` holds a checkpoint and the recipe.
    """
    downscaler, full = built(recipe)
    if full.calibrate is not None:
        arguments_of(full.calibrate)  # what is wrong there must not show after an hour of training
    _check_resume(Path(out), resume)
    material = gathered(recipe.data)
    with workplace(out, marks=(MARK,), resume=resume, keep=has_checkpoint) as folder:
        full.write(folder / RECIPE)
        watch = Watch()
        learnt, evaluation, note = fitted_and_judged(downscaler, material, folder, resume=resume, progress=progress)
        learnt.save(folder)
        learn(learnt, at_times(material.coarse, material.learning), folder, seasonal=full.data.cycles != ())
        append(folder / LEDGER, Run.of(learnt, method=name_of(learnt), seconds=watch.seconds, evaluation=evaluation))
        if full.calibrate is not None:
            words = calibrate(folder, **arguments_of(full.calibrate)).words
            note = "\n".join([*([note] if note else []), *words])
        write_card(folder)
    return Fitted(Path(out), learnt, evaluation, note)


def fitted_and_judged(
    downscaler: Downscaler,
    material: Material,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = False,
    baselines: Sequence[str] = RIVALS,
    task: str = "",
) -> tuple[Downscaler, Evaluation | None, str]:
    """Fit on the learning times and judge on the test times; logs, scores and report go to `folder`."""
    coarse, fine = material.at(material.learning)
    matched = pair(coarse, fine, variables=downscaler.variables, predictors=downscaler.predictors)
    agreements = agreements_of(matched)
    downscaler.fit(
        coarse,
        fine,
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
    learnt = {name: _rival(name, downscaler, coarse, fine, material) for name in rivals}
    evaluation = _judged(downscaler, learnt, material, task)
    _write(evaluation, folder, downscaler, agreements)
    if downscaler.adjust is not None and agreements:
        adjusted = downscaler.read(coarse).sel(time=matched.coarse.time).load()
        agreements = agreements_of(replace(matched, coarse=adjusted))
    left = [*downscaler.notes(), *downscaler.notes_on(material.at(material.blocks.test)[0])]
    advice = (*left, _disagreement(agreements, downscaler), _below_zero(evaluation, downscaler, agreements))
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


def built(recipe: Recipe) -> tuple[Downscaler, Recipe]:
    """The unfitted downscaler of a recipe, and the recipe with every default written out.

    Raises:
        InputError: on a component or an argument that does not exist; names the nearest one.
    """
    given = _given(recipe)
    adjust = None if recipe.adjust is None else completed(recipe.adjust, ADJUSTMENTS, "adjustment")
    whole = completed(recipe.downscaler, DOWNSCALERS, "downscaler", *given)
    if "backbone" in whole:
        whole["backbone"] = backbone_of(whole["backbone"], whole["head"])
    for key, (components, kind, decided) in _PARTS.items():
        if whole.get(key) is not None:
            told = decided or _told(components.get(word_of(whole[key])))
            whole[key] = completed(whole[key], components, kind, *told)
    # As it will be read back: a resumed run must be the same job to the last tuple.
    full = Recipe.of(replace(recipe, downscaler=whole, adjust=adjust).to_dict())
    downscaler: Downscaler = build(full.downscaler, DOWNSCALERS, "downscaler", **_given(full))
    return downscaler, full


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


_PARTS: Mapping[str, tuple[Mapping[str, Any], str, tuple[str, ...]]] = {
    "backbone": (BACKBONES, "backbone", _FROM_DATA),
    "head": (HEADS, "head", ("problem", "loss", "networks")),
    "loss": ({**LOSSES, **ENSEMBLE_LOSSES}, "loss", ("prediction", "truth", "weight")),
    "constraint": (CONSTRAINTS, "constraint", ()),
    "mean": (BASELINES, "mean downscaler", ("variables", "predictors", "constraint")),
}


def _told(constraint: Any) -> tuple[str, ...]:
    """The arguments of a constraint that the data decide; a relation may be told its variables."""
    return tuple(getattr(constraint, "statistics", ()))


def _given(recipe: Recipe) -> dict[str, Any]:
    """Arguments of the downscaler that other sections of the recipe hold; those that its class knows."""
    name, data = str(recipe.downscaler["name"]), recipe.data
    every = {
        "variables": data.variables,
        "predictors": data.predictors,
        **({} if data.frames is None else {"frames": data.frames}),
        "cycles": data.cycles,
        "transforms": data.transforms,
        "settings": recipe.training,
        "adjust": recipe.adjust,
    }
    known = inspect.signature(DOWNSCALERS[name]).parameters if name in DOWNSCALERS else every
    return {key: value for key, value in every.items() if key in known}


def _check_resume(out: Path, resume: bool) -> None:
    if resume and not has_checkpoint(unfinished(out.absolute())):
        raise InputError(
            f"there is no interrupted run to go on with: {unfinished(out)} holds no {CHECKPOINT}; expected the --out "
            "of the interrupted command; leave --resume away to start anew"
        )


def _rival(name: str, downscaler: Downscaler, coarse: xr.Dataset, fine: xr.Dataset, material: Material) -> Downscaler:
    """A baseline with the same variables and predictors, fitted on the same times."""
    rival = named(name, variables=dict(downscaler.domain.inputs.variables), predictors=downscaler.predictors)
    return rival.fit(coarse, fine, static=material.static or None, validate=0.0)


def _judged(downscaler: Downscaler, rivals: Mapping[str, Downscaler], material: Material, task: str) -> Evaluation:
    coarse, truth = material.at(material.blocks.test)
    watch = Watch()
    prediction = downscaler.predict(coarse, members=downscaler.usual_members)
    seconds = watch.seconds
    return evaluate(
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
