"""A task of the benchmark: which sample, which variables, how coarse, which times are for learning and for the test.

Most coarsen a fine field and ask for the fine field back (perfect coarse input). That isolates the downscaling from
errors of a driving model; scores say nothing about those. A task with a coarse record of its own has these errors, on
cells that are no blocks of the fine ones. The split of every task is by blocks of time, or by regions whose patches are
a record (`regions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from finegrid.benchmark.methods import Options, usual
from finegrid.benchmark.regions import Regions
from finegrid.conventions import harmonise
from finegrid.data import samples, scenarios, synthetic
from finegrid.data.coarsen import coarsen
from finegrid.data.joining import joined
from finegrid.pipeline.material import Material, cropped, material
from finegrid.pipeline.recipe import Crop

SYNTHETIC, SCENARIO, PATCHES = "synthetic", "scenario", "patches"
"""Samples that no file holds."""
_LAST_FIFTH: Mapping[str, float | str | int] = {"train": 0.7, "validate": 0.1, "test": 0.2, "gap": 0}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: as on the command line.
        title: in words.
        sample: name of the sample, "synthetic", "scenario", or "patches" of `regions`.
        variables: what is predicted.
        coarse: sample of a coarse record from elsewhere, or of several, the first with the variables and the others
            with predictors on cells of their own; without one the fine field is coarsened.
        factor: fine cells in a coarse cell along either side, where the fine field is coarsened.
        static: sample of a static field.
        companions: further variables whose coarse fields a method may have as predictors.
        predictors: coarse variables that every method has as predictors unless its options say otherwise.
        crop: limits in the coordinates of the sample.
        window: the first rows and columns that are kept, where a crop has no round limits.
        split: arguments of `data.split_times`.
        folds: number of folds of the record that are predicted in turn, unless another is asked for; None holds back
            the test block of the split.
        regions: the regions whose patches are the record.
        options: of every method that has them; nominal times and places must not be learnt.
        block: times in a block of the bootstrap of scores; None is as the data say.
        methods: what is run unless other methods are asked for, with options of the downscaler. `settings` among them
            are those of training that the task fixes, `early_stopping: False` lets a network learn from all times,
            `members` is the size of the ensemble that is predicted. Options were chosen on blocks inside the training
            period.
    """

    name: str
    title: str
    sample: str
    variables: tuple[str, ...]
    coarse: str | tuple[str, ...] | None = None
    factor: int = 4
    static: str | None = None
    companions: tuple[str, ...] = ()
    predictors: tuple[str, ...] = ()
    crop: Crop = field(default_factory=Crop)
    window: tuple[int, int] | None = None
    split: Mapping[str, float | str | int] = field(default_factory=lambda: dict(_LAST_FIFTH))
    folds: int | None = None
    regions: Regions | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    block: int | None = None
    methods: Options = field(default_factory=usual)

    @property
    def records(self) -> tuple[str, ...]:
        """Samples of the coarse records from elsewhere."""
        return (self.coarse,) if isinstance(self.coarse, str) else self.coarse or ()

    @property
    def available(self) -> bool:
        """Whether the data can be opened here and now."""
        regions = () if self.regions is None else self.regions.samples
        nominal = (SYNTHETIC, SCENARIO, PATCHES)
        needed = [name for name in (self.sample, *self.records, *regions) if name not in nominal]
        return all(map(samples.available, needed))

    @property
    def dated(self) -> bool:
        """Whether the times are those of weather, which has a climate; nominal ones are not."""
        return self.regions is None

    @property
    def comparable(self) -> bool:
        """Whether the coarse field is one of what is predicted, so that it can be conserved."""
        return True

    @property
    def command(self) -> str:
        """What to type for it behind `finegrid benchmark`."""
        return self.name

    def periods(self) -> Mapping[str, str]:
        """Periods of the regions that are predicted, by sample; nothing where the record is of one place.

        Raises:
            InputError: when a sample is not on this machine.
        """
        if self.regions is None:
            return {}
        periods = self.regions.record(self.variables).periods
        return {name: periods[self.regions.tested(name)] for name in self.regions.test}

    def material(self) -> Material:
        """Fields of the task with their blocks of time.

        Raises:
            InputError: when the sample is not on this machine.
        """
        if self.sample == SCENARIO:
            ensemble = _scenario()
            return material(ensemble.coarse, ensemble.fine, (), dict(self.split))
        if self.regions is not None:
            record = self.regions.record(self.variables)
            return material(self._low(record.fields), record.fields, (), self.regions.split(record))
        every = _synthetic() if self.sample == SYNTHETIC else samples.open(self.sample)
        static = () if self.static is None else (_static(self.static, every),)
        more = self.companions if self.coarse is None else ()
        fine = cropped(every[[*self.variables, *more]], self.crop)
        fine = fine if self.window is None else _first_cells(fine, self.window)
        fine = fine.load()
        # Predictors are coarse only: a fine one would be the answer.
        return material(self._low(fine), fine[list(self.variables)], static, dict(self.split))

    def _low(self, fine: xr.Dataset) -> xr.Dataset:
        if self.records:
            wanted = tuple(dict.fromkeys((*self.variables, *self.companions, *self.predictors)))
            records = [samples.open(name) for name in self.records]
            return joined([each[[name for name in wanted if name in each]] for each in records]).load()
        low = coarsen(fine, self.factor)
        low.encoding["source"] = f"{self.sample}, coarsened {self.factor} times"
        return low


def _synthetic() -> xr.Dataset:
    return synthetic.generate(synthetic.REGIONS["alpine"], shape=(32, 48), times=730, seed=1)


def _scenario() -> scenarios.Ensemble:
    # Rain that does not follow the warming in a straight line: pattern scaling would otherwise be the truth itself.
    return scenarios.generate(scenarios.Scenario().curved(pr=0.01), members=50, seed=1)


def _static(name: str, every: xr.Dataset) -> xr.Dataset:
    return every[["orog"]] if name == SYNTHETIC else samples.open(name)


def _first_cells(fields: xr.Dataset, window: tuple[int, int]) -> xr.Dataset:
    names = harmonise(fields)[1]
    axes = {axis: names.coordinates[axis].dimension for axis in ("y", "x")}
    return fields.isel({axes["y"]: slice(window[0]), axes["x"]: slice(window[1])})
