"""The tasks as data: real records, radar regions, and synthetic ones with known truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from finegrid.benchmark.methods import (
    DISAGGREGATION,
    STATISTICAL,
    emulators,
    observed,
    patchwork,
    sharing,
    two_runs,
    usual,
)
from finegrid.benchmark.regions import Regions
from finegrid.benchmark.task import PATCHES, SCENARIO, SYNTHETIC, Task
from finegrid.benchmark.worlds import WORLDS
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.pipeline.recipe import Crop


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: lists the names and the nearest.
    """
    if name not in TASKS:
        raise InputError(f"There is no task '{name}'. The names are {', '.join(TASKS)}.{nearest(name, TASKS)}")
    return TASKS[name]


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
_RADAR = Regions(
    train=("mrms-michigan", "mrms-ohiovalley", "mrms-carolinas", "mrms-alabama"),
    test=("mrms-lakesuperior", "mrms-florida"),
)
_MRMS = Task(
    name="mrms-x8",
    title="rain rate (radar, MRMS), 0.08 to 0.01 degrees, learnt in four regions of the United States, judged in two",
    sample=PATCHES,
    variables=("rain_rate",),
    factor=8,
    regions=_RADAR,
    options={"cycles": (), "backbone": {"embedding": 0}},
    block=16,  # four places that are neighbours, with their four frames
    methods=patchwork(),
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
        _MRMS,
        replace(
            _MRMS,
            name="mrms-fmi-x8",
            title="rain rate (radar, FMI), southern Finland, 8 km to 1 km, learnt in four regions of the United States",
            regions=replace(_RADAR, test=("fmi-20160928", "fmi-20170509")),
            block=20,  # four places that are neighbours, with their five frames
        ),
        Task(
            name="scenario-t5",
            title="synthetic scenario: mean of 50 members of a region in the warmest years, from other coarse runs",
            sample=SCENARIO,
            coarse=SCENARIO,
            variables=("tas", "pr"),
            methods=emulators(),
        ),
        Task(
            name="synthetic-x4",
            title="synthetic alpine temperature and rain with known truth, 1 degree to 0.25 degrees",
            sample=SYNTHETIC,
            variables=("tas", "pr"),
            static=SYNTHETIC,
        ),
        *WORLDS,
    )
}
