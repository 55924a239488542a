"""Geographic shift: how much worse is a method in a region that it has not learnt from, and what helps?

Every region is judged on one quarter of it, which no method learns from (`regions`, with `quarters`), by what learnt

    inside      in all regions, this one among them
    outside     in all others
    fewer       in one or in half of the others

    gap = CRPS(outside) - CRPS(inside)          relative: over CRPS(inside)

on the same patches, with a paired 95 % interval by the bootstrap over runs of neighbouring patches. What learnt outside
predicts once more from aligned coarse fields (`aligned`). How alike two regions are is the Wasserstein distance of
their coarse values in the root, and the diversity of a set of regions the mean over its pairs.

Source: the protocol of RainShift (leave regions out, gap, number and diversity of training regions, alignment).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import xarray as xr
from scipy.stats import wasserstein_distance

from finegrid.benchmark.fitting import protocol_of
from finegrid.benchmark.protocols.aligned import ALIGNMENTS, predicted
from finegrid.benchmark.protocols.base import Say, quiet
from finegrid.benchmark.protocols.region_tables import EVERYWHERE, NONE, Gap, Seen, Shift
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Order, Shelf, Trial, orders_of
from finegrid.benchmark.trying import found_or_made
from finegrid.conventions import InputError, harmonise
from finegrid.evaluation import Score, evaluate
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.material import Material, at_times, times_of_period
from finegrid.pipeline.naming import named
from finegrid.training import Settings

METRIC = "crps"
_LEAST, _DRAWS, _LEAST_BLOCKS = 3, 2, 4
"""Regions that a task needs, ways to part them into halves, and blocks of patches that an interval needs."""
_WORDS = (
    "{} regions, each judged on a quarter that no method learnt from, by what learnt in all of them, in all but this "
    "one, in halves and in single ones."
)


def regions(
    task: Task,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
) -> Shift:
    """Fit methods on sets of regions and judge each in all regions (`Inquiry`).

    Args:
        task: one with `regions`; all its regions, of training and test, take part.
        methods: names; by default those of the task.
        seeds: 1; the regions are what differs.
        settings: how to train networks.
        out: folder where trials are kept, so that a run that was stopped goes on; None keeps nothing.
        say: told what happens.
        progress: show a bar while a network trains.

    Raises:
        InputError: for a task of one place or of fewer than three regions, or several seeds.
    """
    if seeds != 1:
        raise InputError(
            f"got {seeds} seeds; expected 1 for the protocol regions; run it again with settings of another seed"
        )
    names = list(dict.fromkeys(methods or task.methods))
    for name in names:
        named(name)  # an unknown name ends the run before it costs anything
    with TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder if out is None else out))
        return _asked(_Study.of(task, shelf, settings or Settings(), say, progress), names)


def _asked(study: _Study, methods: Sequence[str]) -> Shift:
    watch = Watch()
    rows: list[Seen] = []
    kept: dict[tuple[str, str, str], dict[str, xr.Dataset]] = {}
    for learnt in sets_of(study.names):
        for method, region, how, prediction in study.predictions(learnt, methods):
            if how == NONE:
                score = study.score(prediction, region)
                rows.append(Seen(method, learnt, region, score.value, score.low, score.high, score.units))
            if len(learnt) == len(study.names):
                kept.setdefault((method, "inside", NONE), {})[region] = prediction
            elif len(learnt) == len(study.names) - 1 and region not in learnt:
                kept.setdefault((method, "outside", how), {})[region] = prediction
    gaps = [
        gap
        for (method, where, how), fields in kept.items()
        if where == "outside"
        for gap in study.gaps(method, how, fields, kept[method, "inside", NONE])
    ]
    return Shift(
        task=study.task.name,
        title=study.task.title,
        words=_WORDS.format(len(study.names)),
        rows=tuple(rows),
        names=study.names,
        gaps=tuple(gaps),
        distances=study.distances(),
        inapplicable=study.inapplicable,
        seconds=watch.seconds,
    )


def sets_of(names: tuple[str, ...], seed: int = 0) -> list[tuple[str, ...]]:
    """What is learnt from: all regions, all but one, some halves with their opposites, and single ones."""
    half = len(names) // 2
    # Those with the first region: their opposites are the others.
    ways = [way for way in combinations(names, half) if names[0] in way] if half > 1 else []
    drawn = np.random.default_rng(seed).permutation(len(ways))[:_DRAWS]
    halves = [each for number in drawn for each in (ways[number], _without(names, ways[number]))]
    others = [_without(names, (left,)) for left in names]
    return list(dict.fromkeys([names, *others, *halves, *((name,) for name in names)]))


def _without(names: Sequence[str], left: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in left)


@dataclass(frozen=True, eq=False)
class _Study:
    """What all trials share.

    Attributes:
        task: with regions.
        names: of all regions.
        truth: the patches on which each is judged, in standard form.
        coarse: coarse fields of the same.
    """

    task: Task
    names: tuple[str, ...]
    truth: Mapping[str, xr.Dataset]
    coarse: Mapping[str, xr.Dataset]
    shelf: Shelf
    settings: Settings
    say: Say
    progress: bool
    inapplicable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, shelf: Shelf, settings: Settings, say: Say, progress: bool) -> Self:
        names = () if task.regions is None else tuple(dict.fromkeys((*task.regions.train, *task.regions.test)))
        if len(names) < _LEAST:
            raise InputError(
                f"got the task {task.name} with {len(names)} regions; expected at least {_LEAST}, such as mrms-x8"
            )
        whole = _learning_in(task, names, names)
        material = whole.material()
        parts = {name: times_of_period(material.fine, period) for name, period in whole.periods().items()}
        fine, coarse = (harmonise(fields)[0] for fields in (material.fine, material.coarse))
        truth = {name: fine.isel(time=part).load() for name, part in parts.items()}
        given = {name: coarse.isel(time=part).load() for name, part in parts.items()}
        return cls(task, names, truth, given, shelf, settings, say, progress)

    def predictions(
        self, learnt: tuple[str, ...], methods: Sequence[str]
    ) -> Iterator[tuple[str, str, str, xr.Dataset]]:
        """Method, region, alignment and prediction: of all regions, and once more of the one that was left out."""
        task = _learning_in(self.task, learnt, self.names)
        material = task.material()
        for order in orders_of(task, methods, seeds=1, settings=self.settings, samples=None, folds=None):
            trial = self._trial(order, material)
            if isinstance(trial, InputError) or trial.downscaler is None:
                self.inapplicable[order.method] = str(trial)
                self.say(f"{order.method}: not applicable: {trial}")
                continue
            self.say(f"{order.method} in {len(learnt)} region(s): fitted in {trial.seconds:.1f} s")
            found = harmonise(trial.prediction)[0]
            first = 0
            for region, truth in self.truth.items():
                part = found.isel(time=slice(first, first + truth.sizes["time"])).load()
                first += truth.sizes["time"]
                yield order.method, region, NONE, part.assign_coords(time=truth.time)
            for left in _without(self.names, learnt) if len(learnt) == len(self.names) - 1 else ():
                known = at_times(material.coarse, material.learning).load()
                given = (trial.downscaler, self.coarse[left], known)
                members = found.sizes.get("member", 1)
                for how in ALIGNMENTS:
                    made = predicted(*given, how, members=members, seed=self.settings.seed)
                    yield order.method, left, how, harmonise(made)[0]

    def score(self, prediction: xr.Dataset, region: str) -> Score:
        """CRPS in a region."""
        truth = self.truth[region]
        found = evaluate(prediction, truth, metrics=[METRIC], block=self._block(truth))
        return found.of(found.variables[0], METRIC)[found.method]

    def _block(self, truth: xr.Dataset) -> int:
        """Patches in a block of the bootstrap: those of the task, of few patches fewer."""
        fewer = truth.sizes["time"] // _LEAST_BLOCKS
        return max(1, fewer if self.task.block is None else min(self.task.block, fewer))

    def gaps(
        self, method: str, how: str, outside: Mapping[str, xr.Dataset], inside: Mapping[str, xr.Dataset]
    ) -> Iterator[Gap]:
        """How much worse each region is predicted from outside, and all of them together."""
        for region, prediction in outside.items():
            yield self._gap(method, how, region, (prediction, inside[region], self.truth[region]))
        if len(outside) > 1:
            days = xr.date_range("2001-01-01", periods=sum(self.truth[each].sizes["time"] for each in outside))
            every = [
                xr.concat([fields[region] for region in outside], "time").assign_coords(time=days)
                for fields in (outside, inside, self.truth)
            ]
            yield self._gap(method, how, EVERYWHERE, (every[0], every[1], every[2]))

    def _gap(self, method: str, how: str, region: str, fields: tuple[xr.Dataset, xr.Dataset, xr.Dataset]) -> Gap:
        outside, inside, truth = fields
        block = self._block(truth)
        found = evaluate(outside, truth, baselines={"inside": inside}, method="outside", metrics=[METRIC], block=block)
        scores = found.of(found.variables[0], METRIC)
        one, other = scores["outside"], scores["inside"]
        # Intervals are of the distance from the better one.
        low, high = (-other.gap_high, -other.gap_low) if one.best and not other.best else (one.gap_low, one.gap_high)
        return Gap(method, region, how, one.value, other.value, low, high, one.units)

    def distances(self) -> dict[tuple[str, str], float]:
        """How far apart the coarse values of two regions are."""
        values = {}
        for name, fields in self.coarse.items():
            field = fields[str(next(iter(fields.data_vars)))].values.ravel()
            values[name] = np.sign(field) * np.sqrt(np.abs(field))
        pairs = combinations(self.names, 2)
        return {(one, other): float(wasserstein_distance(values[one], values[other])) for one, other in pairs}

    def _trial(self, order: Order, material: Material) -> Trial | InputError:
        division = protocol_of(order.task, material)
        return found_or_made(order, self.shelf, material, division, progress=self.progress).trial


def _learning_in(task: Task, learnt: Sequence[str], names: Sequence[str]) -> Task:
    """The task of learning in some regions and being judged in all."""
    if task.regions is None:
        raise ValueError("a task with regions")
    label = "all" if len(learnt) == len(names) else "+".join(learnt)
    regions = replace(task.regions, train=tuple(learnt), test=tuple(names), quarters=True)
    return replace(task, name=f"{task.name}-shift/{label}", regions=regions)
