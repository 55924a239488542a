"""Tasks as data: which sample, which variables, how coarse, which times are for learning and which for the test.

Most coarsen a fine field and ask for the fine field back (perfect coarse input). That isolates the downscaling from
errors of a driving model; scores say nothing about those. A task with a coarse record of its own has these errors, on
cells that are no blocks of the fine ones. The split of every task is by blocks of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr

from finegrid.benchmark.methods import (
    DISAGGREGATION,
    STATISTICAL,
    Options,
    emulators,
    observed,
    sharing,
    two_runs,
    usual,
)
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import nearest
from finegrid.data import samples, scenarios, synthetic
from finegrid.data.coarsen import coarsen
from finegrid.data.joining import joined
from finegrid.pipeline.material import Material, cropped, material
from finegrid.pipeline.recipe import Crop

_LAST_FIFTH: Mapping[str, float | str | int] = {"train": 0.7, "validate": 0.1, "test": 0.2, "gap": 0}
_SYNTHETIC, _SCENARIO = "synthetic", "scenario"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: as on the command line.
        title: in words.
        sample: name of the sample, "synthetic" or "scenario".
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
    methods: Options = field(default_factory=usual)

    @property
    def records(self) -> tuple[str, ...]:
        """Samples of the coarse records from elsewhere."""
        return (self.coarse,) if isinstance(self.coarse, str) else self.coarse or ()

    @property
    def available(self) -> bool:
        """Whether the data can be opened here and now."""
        needed = [name for name in (self.sample, *self.records) if name not in (_SYNTHETIC, _SCENARIO)]
        return all(map(samples.available, needed))

    def material(self) -> Material:
        """Fields of the task with their blocks of time.

        Raises:
            InputError: when the sample is not on this machine.
        """
        if self.sample == _SCENARIO:
            ensemble = _scenario()
            return material(ensemble.coarse, ensemble.fine, (), dict(self.split))
        every = _synthetic() if self.sample == _SYNTHETIC else samples.open(self.sample)
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


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: lists the names and the nearest.
    """
    if name not in TASKS:
        raise InputError(f"There is no task '{name}'. The names are {', '.join(TASKS)}.{nearest(name, TASKS)}")
    return TASKS[name]


def _synthetic() -> xr.Dataset:
    return synthetic.generate(synthetic.REGIONS["alpine"], shape=(32, 48), times=730, seed=1)


def _scenario() -> scenarios.Ensemble:
    # Rain that does not follow the warming in a straight line: pattern scaling would otherwise be the truth itself.
    return scenarios.generate(scenarios.Scenario().curved(pr=0.01), members=50, seed=1)


def _static(name: str, every: xr.Dataset) -> xr.Dataset:
    return every[["orog"]] if name == _SYNTHETIC else samples.open(name)


def _first_cells(fields: xr.Dataset, window: tuple[int, int]) -> xr.Dataset:
    names = harmonise(fields)[1]
    axes = {axis: names.coordinates[axis].dimension for axis in ("y", "x")}
    return fields.isel({axes["y"]: slice(window[0]), axes["x"]: slice(window[1])})


_ERA5 = Task(
    name="era5-uk-t2m-x4",
    title="2 m temperature (ERA5), UK and Ireland, hours of March 2019, 1 degree to 0.25 degrees",
    sample="era5-uk",
    variables=("t2m",),
    static="elevation-uk",
    crop=Crop(y=(49.9, 57.8), x=(-10.1, 1.8)),  # 32 x 48 cells, whichever way the rows of the file run
)
_COMMITTEE: Mapping[str, Any] = {"networks": 3, "settings": {"steps": 3000}, "early_stopping": False}
_RACMO = Task(
    name="racmo-tas-x4",
    title="temperature of winter days (RACMO22E), Iberia, 1.76 to 0.44 degrees",
    sample="racmo-iberia",
    variables=("tas",),
    static="elevation-europe",
    companions=("pr",),
    window=(28, 28),
    methods=sharing((*DISAGGREGATION, *STATISTICAL), predictors=("pr",))
    | usual({"resnet-on-mean-map": {**_COMMITTEE, "networks": 5, "predictors": ("pr",)}}),
)
_VALUE = Task(
    name="value-iberia-tas",
    title="observed temperature of winter days (E-OBS) from a reanalysis (NCEP), Iberia, folds of whole winters",
    sample="eobs-iberia",
    coarse=("ncep-gauss-iberia", "ncep-iberia"),
    variables=("tas",),
    predictors=("pr", "psl", "ta850", "hus850"),
    folds=5,
    methods=observed(),
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="navy-winds-x4",
            title="monthly wind near the surface (US Navy), globe, 10 to 2.5 degrees",
            sample="navy-winds",
            variables=("u10", "v10"),
            static="elevation-global",
            crop=Crop(y=(-80.0, 77.5)),
            split={"train": "1982/1988", "validate": "1989", "test": "1990/1992", "gap": 0},
            methods=usual({"resnet-on-ridge": {"settings": {"batch": 8, "steps": 600}, "backbone": {"dropout": 0.1}}}),
        ),
        _ERA5,
        replace(_ERA5, name="era5-uk-t2m-x8", title=_ERA5.title.replace("1 degree", "2 degrees"), factor=8),
        _RACMO,
        replace(
            _RACMO,
            name="racmo-pr-x4",
            title="precipitation of winter days (RACMO22E), Iberia, 1.76 to 0.44 degrees",
            variables=("pr",),
            companions=("tas",),
            methods=sharing((*DISAGGREGATION, "climatology-ratio", *STATISTICAL), predictors=("tas",))
            | usual({"resnet+softmax": {**_COMMITTEE, "predictors": ("tas",), "settings": {"steps": 1500}}}),
        ),
        Task(
            name="eobs-tas-x4",
            title="observed temperature of winter days (E-OBS, land only), Iberia, 2 to 0.5 degrees",
            sample="eobs-iberia",
            variables=("tas",),
            static="elevation-europe",
            window=(16, 28),
        ),
        Task(
            name="ncep-eobs-tas",
            title="observed temperature of winter days (E-OBS) from another run (NCEP), Iberia, 1.9 to 0.5 degrees",
            sample="eobs-iberia",
            coarse="ncep-gauss-iberia",
            variables=("tas",),
            methods=two_runs(),
        ),
        _VALUE,
        replace(
            _VALUE,
            name="value-iberia-pr",
            title=_VALUE.title.replace("temperature", "precipitation"),
            variables=("pr",),
            predictors=("tas", "psl", "ta850", "hus850"),
        ),
        Task(
            name="inca-t2m-x4",
            title="2 m temperature (INCA), Graz, hours of May 2012, 4 km to 1 km",
            sample="inca-graz",
            variables=("t2m",),
            window=(16, 20),
        ),
        Task(
            name="scenario-t5",
            title="synthetic scenario: mean of 50 members of a region in the warmest years, from other coarse runs",
            sample=_SCENARIO,
            coarse=_SCENARIO,
            variables=("tas", "pr"),
            methods=emulators(),
        ),
        Task(
            name="synthetic-x4",
            title="synthetic alpine temperature and rain with known truth, 1 degree to 0.25 degrees",
            sample=_SYNTHETIC,
            variables=("tas", "pr"),
            static=_SYNTHETIC,
        ),
    )
}
