"""Calibrators on real ensembles: what they promise and hold, what they cost in CRPS, whether members still conserve.

A model learns from the training block, calibrators from the validation block, and all are judged on the test: the same
region for RACMO, other regions and another country for radar, where no guarantee holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.arenas import ARENAS, Entry
from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.fitting import with_shared
from finegrid.benchmark.heads import Test
from finegrid.benchmark.tasks import find_task
from finegrid.calibration import CALIBRATORS
from finegrid.conventions import InputError, harmonise
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.evaluation import evaluate
from finegrid.evaluation.coverage import Coverage, coverage
from finegrid.evaluation.reliability import reliability
from finegrid.pipeline.calibrated import Calibration, Period
from finegrid.pipeline.choosing import BEST, best, candidates, harmed
from finegrid.pipeline.choosing import made as made_of
from finegrid.pipeline.naming import named
from finegrid.pipeline.quantiles import over_members
from finegrid.training import Settings

LEVEL, MEMBERS = 0.9, 20
_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
# Their intervals are for maps or several variables; those that learn from a stream are judged on streams.
_OTHERWISE = ("joint", "map-band", "scale-free", "strongly-adaptive", "decaying", "reservoir")
# Kernels about each member of six million cells take minutes, and one factor for all is no better where it depends.
_LEFT_OUT = {"mrms-x8": ("dressing", "spread-by-input", "normalised", "mondrian")}
_CRPS, _KEPT, _EXACT = 1.01, 0.02, 1e-6
_TASKS: Mapping[str, tuple[tuple[str, ...], tuple[Entry, ...]]] = {
    "racmo-pr": (
        ("racmo-pr-x4",),
        (
            Entry(label="glm", method="glm+multiplicative", options={"predictors": ("tas",)}),
            ARENAS["racmo"].entry("noise-injected"),
        ),
    ),
    "racmo-tas": (("racmo-tas-x4",), (Entry(label="glm", method="glm"), Entry(label="analogues", method="analogues"))),
    "mrms": (("mrms-x8", "mrms-fmi-x8"), (ARENAS["mrms"].entry("noise-injected"),)),
}


@dataclass(frozen=True)
class Row:
    """A calibrator of a model on a test; the raw members are the calibrator "none".

    Attributes:
        test: its name.
        model: the downscaler.
        calibrator: its name.
        coverage: of 90 % intervals.
        bounds: 95 % interval of it.
        width: of the intervals.
        winkler: their score.
        crps: of the members, after the constraint.
        members: coverage of the members' own intervals after the constraint.
        chances: share of cases whose chance among the members is within 5 to 95 %, where the mass at zero is shared out
            by lot, so that dry cells count for no more than they should.
        violation: largest relative departure of the members from the coarse field.
        spread: spread over error of the members.
    """

    test: str
    model: str
    calibrator: str
    coverage: float
    bounds: tuple[float, float]
    width: float
    winkler: float
    crps: float | None = None
    members: float | None = None
    chances: float | None = None
    violation: float | None = None
    spread: float | None = None


def racmo_pr(bench: Bench) -> list[Figure]:
    """Daily rain of a regional model over Iberia."""
    return _section(bench, "racmo-pr")


def racmo_tas(bench: Bench) -> list[Figure]:
    """Daily temperature of the same model."""
    return _section(bench, "racmo-tas")


def mrms(bench: Bench) -> list[Figure]:
    """Rain by radar, in regions that neither model nor calibrator has seen."""
    return _section(bench, "mrms")


def _section(bench: Bench, name: str) -> list[Figure]:
    tasks, entries = _TASKS[name]
    missing = [task for task in tasks if not find_task(task).available]
    if missing:
        return [Figure(f"calibration on {task}", "", "sample missing", None) for task in missing]
    rows = [row for entry in entries for row in _rows(bench, tasks, entry)]
    bench.out.mkdir(parents=True, exist_ok=True)
    content = json.dumps([asdict(row) for row in rows], indent=1)
    (bench.out / f"calibration-{name}.json").write_text(content + "\n", encoding="utf-8")
    bench.say(table(rows))
    return figures_of(rows)


def _rows(bench: Bench, tasks: Sequence[str], entry: Entry) -> Iterator[Row]:
    fitted = _fitted(bench, tasks[0], entry)
    material = find_task(tasks[0]).material()
    coarse, truth = material.at(material.blocks.validate)
    learnt = fitted.predict(coarse, members=MEMBERS)
    known = Period(fitted, learnt, truth, fitted.read(coarse).load())
    wanted = [name for name in CALIBRATORS if name not in (*_OTHERWISE, *_LEFT_OUT.get(tasks[0], ()))]
    made = {name: known.learn(CALIBRATORS[name]()) for name in wanted}
    table, judged = best(candidates(BEST, several=True), known)
    usual = f"best: {' by '.join([table['name'], *table.get('groups', ())])}"
    made[usual] = known.learn(made_of(table))
    for name in tasks:
        task = find_task(name)
        whole = task.material()
        test = Test(name, *whole.at(whole.blocks.test), task.block)
        raw = fitted.predict(test.coarse, members=MEMBERS)
        yield _raw(entry.label, fitted, raw, test)
        for label, calibration in made.items():
            alone = label == usual and harmed(judged)
            try:
                yield _calibrated(entry.label, label, calibration, raw, test, alone=alone)
            except InputError as error:
                bench.say(f"{entry.label}, {label} on {name}: {error}")


def _fitted(bench: Bench, name: str, entry: Entry) -> Downscaler:
    """The model, which has seen nothing of the validation block."""
    task, bare = find_task(name), named(entry.method)
    own = {key: each for key, each in entry.options.items() if key != "settings"}
    options = {"variables": {each: each for each in task.variables}, **with_shared(task.options, own, bare)}
    if isinstance(bare, NeuralDownscaler):
        settings = Settings(budget=bench.budget)
        options["settings"] = replace(settings, **entry.options.get("settings", {}))
    material = task.material()
    found = named(entry.method, **options)
    bench.say(f"{entry.label} on {name}")
    return found.fit(*material.at(material.blocks.train), static=material.static or None)


def _raw(model: str, fitted: Downscaler, raw: xr.Dataset, test: Test) -> Row:
    found = _judged(over_members(harmonise(raw)[0], _ENDS, "member"), test)
    return _row(model, "none", fitted, found, raw, test)


def _calibrated(
    model: str, label: str, calibration: Calibration, raw: xr.Dataset, test: Test, *, alone: bool = False
) -> Row:
    """A calibrator; members that it would make worse are left alone, as `finegrid downscale` does."""
    calibrator, fitted = calibration.calibrator, calibration.downscaler
    found = _judged(calibrator.adapt(raw).interval(raw, LEVEL), test)
    members = raw if alone else None
    if calibrator.draws and not alone:
        members = calibration.members(raw, fitted.read(test.coarse).load())
    return _row(model, label, fitted, found, members, test)


def _judged(intervals: xr.Dataset, test: Test) -> Coverage:
    return next(iter(coverage(intervals, test.fine, groups=()).values()))


def _row(
    model: str, calibrator: str, fitted: Downscaler, found: Coverage, members: xr.Dataset | None, test: Test
) -> Row:
    row = Row(test.name, model, calibrator, found.coverage, found.bounds, found.width, found.winkler)
    if members is None:
        return row
    name = fitted.domain.outputs[0]
    scores = evaluate(members, test.fine, coarse=test.coarse, method=calibrator, variables=[name], block=test.block)
    value = {key: scores.of(name, key)[calibrator].value for key in ("crps", "violation", "spread-skill")}
    again = _judged(over_members(harmonise(members)[0], _ENDS, "member"), test)
    return replace(
        row,
        crps=value["crps"],
        violation=value["violation"],
        spread=value["spread-skill"],
        members=again.coverage,
        chances=float(np.diff(next(iter(reliability(members, test.fine).values())).quantiles[[0, -1]])[0]),
    )


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown."""
    heads = ["test", "model", "calibrator", "coverage of 90 % (95 %)", "width", "Winkler"]
    heads += ["CRPS", "spread/error", "of members", "by lot"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        held = f"{100 * row.coverage:.1f} ({100 * row.bounds[0]:.1f}-{100 * row.bounds[1]:.1f})"
        more = [_number(each) for each in (row.crps, row.spread)]
        more += [_number(each, 100) for each in (row.members, row.chances)]
        cells = [row.test, row.model, row.calibrator, held, f"{row.width:.3g}", f"{row.winkler:.3g}", *more]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None, times: float = 1.0) -> str:
    return "-" if value is None else f"{times * value:.3g}"


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """What the issue asks of real data, for each model on each test."""
    figures = []
    for test, model in dict.fromkeys((row.test, row.model) for row in rows):
        own = [row for row in rows if (row.test, row.model) == (test, model)]
        raw, others = own[0], own[1:]
        drawn = [row for row in others if row.crps is not None]
        first = min(drawn, key=lambda row: row.crps or 0.0)
        usual = others[-1]
        narrow = min(others, key=lambda row: row.winkler)
        ratio = (usual.crps or 0.0) / (raw.crps or 1.0)
        told = (
            f"{usual.calibrator}: CRPS {usual.crps:.3g} of {raw.crps:.3g} ({ratio:.3f}), coverage "
            f"{100 * raw.coverage:.1f} before, {100 * usual.coverage:.1f} after; least CRPS {first.calibrator} "
            f"{first.crps:.3g}, least Winkler score {narrow.calibrator} {narrow.winkler:.3g} of {raw.winkler:.3g}"
        )
        figures.append(Figure(f"{test}, {model}: calibrate", "CRPS <= 1.01", told, ratio <= _CRPS, _plain(own)))
        worst = max(row.violation or 0.0 for row in drawn)
        away = max(abs((row.members or 0.0) - LEVEL) for row in drawn)
        moved = max(abs((row.members or 0.0) - LEVEL) - abs(row.coverage - LEVEL) for row in drawn)
        words = f"largest departure {worst:.1e}; members' coverage within {away:.3f} of 0.9, at most {moved:.3f} more"
        reached = worst <= _EXACT and moved <= _KEPT
        figures.append(Figure(f"{test}, {model}: projected again", "1e-6 and 0.02", words, reached))
    return figures


def _plain(rows: Sequence[Row]) -> dict[str, Any]:
    return {row.calibrator: asdict(row) for row in rows}
