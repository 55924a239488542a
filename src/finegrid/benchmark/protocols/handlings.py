"""Ways to live with a source that may be missing, for any method of a task.

    mean-impute          learn from all sources; a missing one is replaced by its mean
    month-impute         the same with the mean of the calendar month
    masked-training      learn from all sources with a random one replaced at half of the times, and a flag for each
                         that says so
    ensemble-of-sources  learn from each source alone, the others replaced by their means; the answer is the plain mean
                         of those whose source is there

Source: input dropout and per-source ensembles as compared by Mena et al. 2024, doi:10.1109/IGARSS53475.2024.10640375.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr

from finegrid.benchmark.folds import Protocol as Division
from finegrid.benchmark.protocols.base import Say, fitted, quiet
from finegrid.benchmark.protocols.filling import Fill, drawn_missing, flag_of
from finegrid.benchmark.task import Task
from finegrid.benchmark.trials import Trial
from finegrid.benchmark.trying import Tried
from finegrid.conventions import InputError
from finegrid.pipeline.material import Material
from finegrid.training import Settings

PART = 0.5
"""Of the training times at which a source is missing in masked training."""
Predictions = Mapping[str, xr.Dataset]
"""Predictions by label of the trial."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """A task whose sources may be missing.

    Attributes:
        task: with all sources but the predicted variables as predictors.
        methods: names of what is fitted.
        material: its fields.
        division: what is held back.
        sources: names of the coarse variables of each source.
        fill: what stands in for them.
        seeds, settings, out, say, progress: see `base.Inquiry`.
    """

    task: Task
    methods: Sequence[str]
    material: Material
    division: Division
    sources: Mapping[str, Sequence[str]]
    fill: Fill
    seeds: int = 1
    settings: Settings | None = None
    out: str | Path | None = None
    say: Say = quiet
    progress: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        """Coarse variables of all sources."""
        return tuple(name for names in self.sources.values() for name in names)

    @cached_property
    def test(self) -> tuple[xr.Dataset, xr.Dataset]:
        """Coarse and fine fields that are held back."""
        return self.material.at(self.division.test)

    @cached_property
    def learning(self) -> tuple[xr.Dataset, xr.Dataset]:
        """Coarse and fine fields that are learnt from."""
        return self.material.at(np.concatenate([part.learning for part in self.division]))

    def lost(self, dropped: str | None) -> Sequence[str]:
        """Coarse variables of a source."""
        return () if dropped is None else self.sources[dropped]

    @cached_property
    def fusion(self) -> Tried:
        """The methods fitted on all sources."""
        return self.tried("all")

    def tried(self, label: str, coarse: xr.Dataset | None = None, *, flags: bool = False) -> Tried:
        """Methods fitted, on other coarse fields than the task's where they are given; `flags` are predictors.

        Args:
            label: says on what.
            coarse: other coarse fields.
            flags: whether flags of missing sources are predictors.
        """
        task, material = self.task, self.material
        if flags:
            task = replace(task, predictors=(*task.predictors, *map(flag_of, self.variables)))
        if coarse is not None:
            material = replace(material, coarse=coarse)
        return fitted(
            task,
            self.methods,
            material,
            self.division,
            seeds=self.seeds,
            settings=self.settings,
            out=self.out,
            label=f"dropped-sources/{label}",
            say=self.say,
            progress=self.progress,
        )


@dataclass(frozen=True, eq=False)
class Handling(ABC):
    """Fitted methods that can do without a source.

    Attributes:
        bench: what they were fitted on.
        found: the fitted methods.
    """

    name: ClassVar[str]
    bench: Bench
    found: Tried

    @property
    def trials(self) -> Sequence[Trial]:
        """The fitted methods."""
        return self.found.trials

    @classmethod
    def fitted(cls, bench: Bench) -> Handling:
        """Fit the methods of a bench.

        Raises:
            InputError: when none applies.
        """
        return cls(bench, bench.fusion)

    @abstractmethod
    def predict(self, coarse: xr.Dataset, dropped: str | None = None) -> Predictions:
        """Predictions from coarse fields, all sources there or one of them missing."""


@dataclass(frozen=True, eq=False)
class Imputed(Handling):
    """Missing sources are replaced by their mean, in training unheard of."""

    name: ClassVar[str] = "mean-impute"

    @cached_property
    def fill(self) -> Fill:
        """What stands in for a source."""
        return self.bench.fill

    def predict(self, coarse: xr.Dataset, dropped: str | None = None) -> Predictions:
        return predicted(self.trials, self.fill.without(coarse, self.bench.lost(dropped)))


@dataclass(frozen=True, eq=False)
class ImputedByMonth(Imputed):
    """The same with the mean of the calendar month."""

    name: ClassVar[str] = "month-impute"

    @cached_property
    def fill(self) -> Fill:
        return Fill.of(self.bench.learning[0], self.bench.variables, by_month=True)


@dataclass(frozen=True, eq=False)
class Masked(Handling):
    """Trained with sources missing at random, and told when."""

    name: ClassVar[str] = "masked-training"

    @classmethod
    def fitted(cls, bench: Bench) -> Handling:
        coarse, names = bench.material.coarse.load(), list(bench.sources)
        generator = np.random.default_rng(0 if bench.settings is None else bench.settings.seed)
        drawn = drawn_missing(coarse.sizes[bench.fill.time], len(names), PART, generator)
        # The test times are complete; a dropped source is put in when it is asked for.
        drawn[bench.division.test] = False
        missing = drawn[:, [index for index, name in enumerate(names) for _ in bench.sources[name]]]
        given = bench.fill.flagged(bench.fill.at_times(coarse, missing), missing)
        return cls(bench, bench.tried(cls.name, given, flags=True))

    def predict(self, coarse: xr.Dataset, dropped: str | None = None) -> Predictions:
        bench, lost = self.bench, self.bench.lost(dropped)
        missing = np.tile(np.isin(bench.variables, list(lost)), (coarse.sizes[bench.fill.time], 1))
        return predicted(self.trials, bench.fill.flagged(bench.fill.without(coarse, lost), missing))


@dataclass(frozen=True, eq=False)
class PerSource(Handling):
    """One copy of a method for each source, and the mean of those whose source is there.

    Attributes:
        by_source: fitted methods by source.
    """

    name: ClassVar[str] = "ensemble-of-sources"
    by_source: Mapping[str, Tried]

    @classmethod
    def fitted(cls, bench: Bench) -> Handling:
        coarse = bench.material.coarse.load()
        found = {each: bench.tried(f"{cls.name}-{each}", _alone(bench, coarse, each)) for each in bench.sources}
        return cls(bench, next(iter(found.values())), found)

    def predict(self, coarse: xr.Dataset, dropped: str | None = None) -> Predictions:
        there = [source for source in self.bench.sources if source != dropped]
        single = [predicted(self.by_source[each].trials, _alone(self.bench, coarse, each)) for each in there]
        return {label: _mean([each[label] for each in single if label in each]) for label in single[0]}


HANDLINGS: dict[str, type[Handling]] = {kind.name: kind for kind in (Imputed, ImputedByMonth, Masked, PerSource)}
"""By name."""


def predicted(trials: Sequence[Trial], coarse: xr.Dataset) -> Predictions:
    """Predictions of fitted methods from other coarse fields, with as many members as on the task's own.

    Raises:
        InputError: when only the prediction of a method is known.
    """
    found = {}
    for trial in trials:
        if trial.downscaler is None:
            raise InputError(f"got only predictions of {trial.label}; expected the fitted method; fit it here")
        members = trial.downscaler.usual_members
        found[trial.label] = trial.downscaler.predict(coarse, members=members)
    return found


def _alone(bench: Bench, coarse: xr.Dataset, source: str) -> xr.Dataset:
    """Coarse fields in which only one source has any weather."""
    return bench.fill.without(coarse, [name for name in bench.variables if name not in bench.sources[source]])


def _mean(predictions: Sequence[xr.Dataset]) -> xr.Dataset:
    """The plain mean of predictions on the same cells and times."""
    first, share = predictions[0], 1 / len(predictions)
    names = [name for name in first.data_vars if _is_field(first[name])]
    means = {name: reduce(add, (each[name] for each in predictions)) * share for name in names}
    return first.assign({name: mean.assign_attrs(first[name].attrs) for name, mean in means.items()})


def _is_field(field: xr.DataArray) -> bool:
    return field.dtype.kind == "f" and field.ndim > 1
