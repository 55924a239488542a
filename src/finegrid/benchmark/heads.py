"""Heads beside each other on a task: how sharp, how honest, how heavy their extremes, what they conserve and cost.

Per task: simple methods, the best deterministic network, a Gaussian dressing of it (`dressing`), and heads on the same
backbone with the same time to train. Fitted once, predicted for every test region: `mrms-x8` and `mrms-fmi-x8` share
their training patches.

    python -m finegrid.benchmark.heads --arena mrms --heads noise-injected --budget 5min --out bench/
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid.benchmark.arenas import ARENAS, Arena, Entry
from finegrid.benchmark.dressing import Dressing
from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.fitting import with_shared
from finegrid.benchmark.heads_table import Row, figures_of, tables
from finegrid.benchmark.task import Task
from finegrid.benchmark.tasks import find_task
from finegrid.conventions import InputError
from finegrid.conventions.spans import seconds as seconds_of
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.evaluation import evaluate
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.material import Material, in_period
from finegrid.pipeline.naming import named
from finegrid.training import Settings

Say = Callable[[str], None]

MEMBERS = 20


def mrms(bench: Bench) -> list[Figure]:
    """Rain by radar: four regions are learnt from, two others and two days of Finland are predicted."""
    return _section(bench, "mrms")


def era5(bench: Bench) -> list[Figure]:
    """Hourly temperature over the United Kingdom."""
    return _section(bench, "era5")


def racmo(bench: Bench) -> list[Figure]:
    """Daily rain of a regional model over Iberia."""
    return _section(bench, "racmo")


def _section(bench: Bench, name: str) -> list[Figure]:
    arena = ARENAS[name]
    missing = [task for task in arena.tasks if not find_task(task).available]
    if missing:
        return [Figure(f"heads on {task}", "", "sample missing", None) for task in missing]
    rows = compare(arena, settings=Settings(budget=bench.budget), seeds=bench.seeds, say=bench.say)
    write(rows, bench.out, name)
    bench.say(tables(rows))
    return figures_of(rows, arena.target)


def compare(
    arena: Arena,
    entries: Sequence[Entry] | None = None,
    *,
    settings: Settings,
    seeds: int = 1,
    members: int = MEMBERS,
    say: Say = lambda words: None,
) -> list[Row]:
    """Fit every entry with every seed and score it on every test.

    Args:
        arena: the tasks and the options that are common.
        entries: what to compare; by default all heads beside the simple methods and the network.
        settings: how long to train and how, unless an entry says otherwise; the seed is set here.
        seeds: seeds of every network.
        members: size of the ensembles.
        say: told what happens, in short sentences.

    Raises:
        InputError: when a sample is not on this machine.
    """
    task = find_task(arena.tasks[0])
    material, tests = task.material(), tests_of(arena)
    rows: list[Row] = []
    for entry in arena.entries() if entries is None else entries:
        neural = isinstance(named(entry.method), NeuralDownscaler)
        for seed in range(seeds if neural else 1):
            try:
                rows += _tried(entry, task, material, tests, _with_seed(settings, entry, seed), members, say)
            except InputError as error:
                say(f"{entry.label}: not applicable: {error}")
                break
    return rows


@dataclass(frozen=True, eq=False)
class Test:
    """What is judged: a whole test, or after it each of its regions.

    Attributes:
        task: its name.
        coarse: fields of the test or the region.
        fine: the truth.
        block: times in a block of the bootstrap.
        region: name; None for the whole.
        period: of the region.
    """

    task: str
    coarse: xr.Dataset
    fine: xr.Dataset
    block: int | None
    region: str | None = None
    period: str | None = None

    @property
    def name(self) -> str:
        """As in tables."""
        return self.task if self.region is None else f"{self.task}: {self.region}"

    def of(self, prediction: xr.Dataset) -> xr.Dataset:
        """The prediction of the whole test at the times of the region."""
        return in_period(prediction, self.period)


def tests_of(arena: Arena) -> list[Test]:
    """The tests of all tasks; of the first one, its regions apart as well."""
    found = []
    for name in arena.tasks:
        task = find_task(name)
        material = task.material()
        whole = Test(name, *material.at(material.blocks.test), task.block)
        found.append(whole)
        for region, period in task.periods().items() if name == arena.tasks[0] else ():
            coarse, fine = (in_period(each, period) for each in (whole.coarse, whole.fine))
            found.append(Test(name, coarse, fine, task.block, region, period))
    return found


def _with_seed(settings: Settings, entry: Entry, seed: int) -> Settings:
    known = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    return Settings(**{**known, **entry.options.get("settings", {}), "seed": settings.seed + seed})


def _tried(
    entry: Entry,
    task: Task,
    material: Material,
    tests: Sequence[Test],
    settings: Settings,
    members: int,
    say: Say,
) -> list[Row]:
    fitted, seconds = _fitted(entry, task, material, settings)
    say(f"{entry.label}, seed {settings.seed}: fitted in {seconds:.0f} s")
    count = members if fitted.random else 1
    dressing = _dressing(fitted, material) if entry.dressed else None
    told = {"fit_seconds": seconds, **{key: fitted.info().get("training", {}).get(key) for key in ("steps", "seconds")}}
    rows: list[Row] = []
    for test in tests:
        if test.region is None:
            watch = Watch()
            whole = fitted.predict(test.coarse, members=count, seed=settings.seed)
            told |= {"predict_seconds": watch.seconds / count}
        prediction = test.of(whole)
        rows.append(_scored(entry.label, fitted, settings.seed, prediction, test, told))
        if dressing is not None:
            dressed = dressing.members(prediction, members, seed=settings.seed)
            label = f"{entry.label}, dressed"
            rows.append(_scored(label, fitted, settings.seed, dressed, test, {}))
    return rows


def fitted_entry(
    entry: Entry, task: Task, settings: Settings, *, judged: bool = True
) -> tuple[NeuralDownscaler, float]:
    """The network of an entry, trained on a task, and the seconds that took.

    Args:
        entry: a network with a head.
        task: what is learnt from.
        settings: how long to train and how, unless the entry says otherwise.
        judged: whether the validation times choose the weights.
    """
    fitted, seconds = _fitted(entry, task, task.material(), _with_seed(settings, entry, 0), judged=judged)
    if not isinstance(fitted, NeuralDownscaler):
        raise TypeError(f"{entry.method} is no network")
    return fitted, seconds


def _fitted(
    entry: Entry, task: Task, material: Material, settings: Settings, *, judged: bool = True
) -> tuple[Downscaler, float]:
    bare = named(entry.method)
    own = {key: each for key, each in entry.options.items() if key != "settings"}
    options = {"variables": {each: each for each in task.variables}, **with_shared(task.options, own, bare)}
    neural = isinstance(bare, NeuralDownscaler)
    downscaler = named(entry.method, **options, **({"settings": settings} if neural else {}))
    watch = Watch()
    validate: float | xr.DataArray = material.times(material.blocks.validate) if neural and judged else 0.0
    downscaler.fit(*material.at(material.learning), static=material.static or None, validate=validate)
    return downscaler, watch.seconds


def _dressing(fitted: Downscaler, material: Material) -> Dressing:
    coarse, fine = material.at(material.blocks.validate)
    return Dressing.of(fitted.predict(coarse), fine)


def _scored(
    label: str, fitted: Downscaler, seed: int, prediction: xr.Dataset, test: Test, told: Mapping[str, Any]
) -> Row:
    names = list(fitted.domain.outputs)
    found = evaluate(prediction, test.fine, coarse=test.coarse, method=label, variables=names, block=test.block, seed=0)
    scores = {f"{name} {metric}": found.of(name, metric)[label] for name in names for metric in found.metrics(name)}
    outside = {view.variable: view.ensemble.outside for view in found.views if view.ensemble is not None}
    single = prediction.sizes.get("member", 1) == 1
    return Row(test.name, label, seed, names[0], single, scores, outside, dict(told))


def write(rows: Sequence[Row], out: Path, name: str) -> None:
    """Keep the numbers and the tables in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    content = json.dumps([row.to_dict() for row in rows], indent=1)
    (out / f"heads-{name}.json").write_text(content + "\n", encoding="utf-8")
    (out / f"heads-{name}.md").write_text(tables(rows) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare heads on one arena from the command line."""
    parser = argparse.ArgumentParser(prog="python -m finegrid.benchmark.heads", description=__doc__)
    parser.add_argument("--arena", choices=list(ARENAS), required=True)
    parser.add_argument("--heads", help="names, parted by commas; by default all, and '' for the baselines alone")
    parser.add_argument("--budget", default="5min", help="training time of each network")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    asked = parser.parse_args(arguments)
    arena = ARENAS[asked.arena]
    heads = None if asked.heads is None else [name for name in asked.heads.split(",") if name]
    settings = Settings(budget=seconds_of(asked.budget))
    entries = arena.entries(heads)
    rows = compare(arena, entries, settings=settings, seeds=asked.seeds, members=asked.members, say=_say)
    write(rows, asked.out, asked.arena)
    _say(tables(rows))


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
