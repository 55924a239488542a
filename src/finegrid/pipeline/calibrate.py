"""A model folder and later observations: how honest are its members, and what makes them so?

The calibration period is predicted, compared with what came true, and the calibrator that learnt from it is written
into the model folder, where `finegrid downscale` finds it. How much it helps is measured on data that it has not seen:
another calibrator learns from the first half of the period and is judged on the second. So is the method chosen, unless
the user names one: that with the least CRPS, or with the least Winkler score for a model with a single answer.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid import __version__
from finegrid.calibration import store as stored
from finegrid.conventions import InputError, harmonise
from finegrid.data import Writer, open_fields
from finegrid.data.traces import traces
from finegrid.downscalers import Downscaler, load
from finegrid.evaluation.calibration_report import Judged, write
from finegrid.pipeline.calibrated import Calibration, factors_apart
from finegrid.pipeline.choosing import BEST, LEVEL, best, candidates, harmed, made
from finegrid.pipeline.material import cropped, in_period
from finegrid.pipeline.naming import name_of
from finegrid.pipeline.recipe import FILE, Recipe

REPORT = "calibration.html"
_TOLD = ("guarantee", "period", "members", "seed", "shared_with_training", "files", "model", "finegrid")
_MEMBERS = 20
Paths = str | Path | Sequence[str | Path]


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
        progress: called with the times done and the times in all.

    Raises:
        InputError: when the period holds training times, or too few others; nothing is written.
    """
    downscaler = load(model)
    several = downscaler.random and (members is None or members > 1)
    tables = candidates(method, several=several)
    given, truth = _opened(Path(model), coarse, fine, on)
    shared = _shared_at_most(downscaler, truth, overlap)
    count = members or (_MEMBERS if downscaler.random else 1)
    with _predicted(downscaler, given, Path(model), count, seed, progress) as predicted:
        table, judged = best(tables, predicted, truth)
        calibrator = made(table).fit(predicted, truth)
        changes = calibrator.draws and count >= max(2, calibrator.least_members) and not harmed(judged)
        seen = downscaler.read(given)
        factors = factors_apart(downscaler, calibrator, predicted, truth, seen) if changes else {}
    facts = {
        "model": downscaler.digest,
        "finegrid": __version__,
        "period": _period(truth),
        "members": count,
        "seed": seed,
        "files": [str(each.encoding.get("source", "")) for each in (given, truth)],
        "changes_members": changes,
        "apart": factors,
        "truth": digest_of(truth),
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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibrated:
    """Let the calibrator of a model folder learn from later times, whose truth has arrived.

    Args:
        model: model folder with a calibration that learns as truth arrives.
        on: period; None is all common times of the files.
        coarse: coarse files; None are those of the model's recipe.
        fine: files of what came true; None are those of the recipe.
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
    given, truth = _opened(Path(model), coarse, fine, on)
    _shared_at_most(downscaler, truth, overlap=False)
    count, seed = calibration.facts["members"], calibration.facts["seed"]
    with _predicted(downscaler, given, Path(model), count, seed, progress) as predicted:
        calibrator = calibration.calibrator.update(predicted, truth)
    facts = {**calibration.facts, "period": f"{calibration.facts['period']}; then {_period(truth)}"}
    return _kept(Path(model), Calibration(downscaler, calibrator, facts), {})


def _kept(model: Path, calibration: Calibration, judged: Mapping[str, Judged]) -> Calibrated:
    """Write the calibration and its report into the model folder."""
    facts, calibrator = calibration.facts, calibration.calibrator
    stored.save(calibrator, model, facts)
    words = _words(calibration, judged)
    if judged:
        write(
            model / REPORT,
            judged,
            grid=calibration.downscaler.domain.true_grid,
            title=f"Calibration of {name_of(calibration.downscaler)}",
            verdict=words[-1],
            facts={"calibrator": calibrator.name, **{key: str(facts[key]) for key in _TOLD}},
        )
    return Calibrated(calibration, judged, words)


def digest_of(fields: xr.Dataset) -> str:
    """SHA-256 of the values of all fields with time, whatever their times are called."""
    standard = harmonise(fields)[0]
    found = hashlib.sha256()
    for name in sorted(map(str, standard.data_vars)):
        found.update(np.ascontiguousarray(standard[name].values.astype(np.float32)).tobytes())
    return found.hexdigest()


def _opened(model: Path, coarse: Paths | None, fine: Paths | None, on: str | None) -> tuple[xr.Dataset, xr.Dataset]:
    """Coarse fields and the truth of the period, lazily."""
    if coarse is not None and fine is not None:
        return in_period(open_fields(coarse), on), in_period(open_fields(fine), on)
    if not (model / FILE).exists():
        raise InputError(
            f"got {model} without a {FILE} and not both files; expected files of what went in and of what came true; "
            "say --coarse and --fine"
        )
    if on is None and coarse is None and fine is None:
        raise InputError(
            "got neither a period nor files of its own to calibrate on; expected times that the model was not trained "
            "on; say --on 2001/2005, or --coarse and --fine"
        )
    data = Recipe.read(model / FILE).data
    low = open_fields(data.coarse if coarse is None else coarse)
    high = cropped(open_fields(data.fine if fine is None else fine), data.crop)
    return in_period(low, on), in_period(high, on)


def _shared_at_most(downscaler: Downscaler, truth: xr.Dataset, overlap: bool) -> int:
    """Training times among those of the truth.

    Raises:
        InputError: where there are some, and no overlap is allowed.
    """
    shared = _shared(downscaler, truth)
    if shared and not overlap:
        raise InputError(
            f"got {shared} calibration times that the model was trained on; expected later or other ones, since of "
            "these its errors are too small; choose another --on, or say --overlap, which is recorded"
        )
    return shared


def _shared(downscaler: Downscaler, truth: xr.Dataset) -> int:
    """Calibration times within the training period, or with the values of training times."""
    domain, standard = downscaler.domain, harmonise(truth)[0]
    first, last = domain.period
    shared = sum(first <= str(each)[:19] <= last for each in standard.time.values)
    names = [name for name in domain.outputs if name in standard]
    if shared or not domain.traces or len(names) < len(domain.outputs):
        return shared
    known = set(domain.traces)
    found = sum(each in known for each in traces(standard, names))
    # Only some of the training times are known by their values.
    return round(found / len(known) * domain.times)


@contextmanager
def _predicted(
    downscaler: Downscaler,
    coarse: xr.Dataset,
    model: Path,
    members: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> Iterator[xr.Dataset]:
    """Members of the period, in a file beside the model for so long, so that they need not fit in memory."""
    done, total = 0, harmonise(coarse)[0].sizes["time"]
    with tempfile.TemporaryDirectory(dir=model, prefix=".calibration") as folder:
        path = Path(folder) / "members.nc"
        with Writer(path, compression=0) as writer:
            for block in downscaler.predict_blocks(coarse, members=members, seed=seed):
                writer.append(block)
                done += block.sizes[downscaler.domain.names.time]
                progress(done, total)
        predicted = open_fields(path)
        try:
            yield predicted
        finally:
            predicted.close()


def _period(truth: xr.Dataset) -> str:
    times = harmonise(truth)[0].time.values
    return f"{str(times[0])[:16]} to {str(times[-1])[:16]}, {len(times)} times"


def _words(calibration: Calibration, judged: Mapping[str, Judged]) -> tuple[str, ...]:
    """What a person wants to know."""
    calibrator, facts = calibration.calibrator, calibration.facts
    told = [
        f"{calibrator.name}, fitted on {facts['period']}, {facts['members']} member(s). Guarantee: "
        f"{facts['guarantee']}."
    ]
    if calibrator.draws and harmed(judged):
        told.append("It makes intervals only: the members alone have a smaller CRPS, and are left as they are.")
    for name, each in judged.items():
        alone = "" if each.before is None else f"; by the members alone {each.before.words}"
        told.append(
            f"{100 * LEVEL:g} % intervals of {name} on the second half of the period, with a calibration of the first: "
            f"{each.after.words}{alone}."
        )
    return tuple(told)
