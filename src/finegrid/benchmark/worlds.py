"""Tasks whose whole truth is known, for protocols that need more than a coarse and a fine record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import xarray as xr

from finegrid.benchmark.methods import Options
from finegrid.benchmark.task import SYNTHETIC, Task
from finegrid.data import four_sources, toy_weather
from finegrid.data.coarsen import coarsen
from finegrid.evaluation.leads.verifying import Truths
from finegrid.pipeline.material import Material, material

_SMALL: Options = {
    "ridge+none": {"half_widths": (1,)},
    "resnet+none": {"settings": {"steps": 600}, "backbone": {"width": 16, "embedding": 0}},
}


@dataclass(frozen=True, kw_only=True)
class FourSources(Task):
    """Four sources of the same weather, three with errors of known size and one without time (`data.four_sources`)."""

    def material(self) -> Material:
        """Coarse fields of the sources and the fine truth."""
        coarse, fine = four_sources.generate(times=1460, seed=1)
        return material(coarse, fine, (), dict(self.split))


@dataclass(frozen=True, eq=False)
class Forecasts:
    """What systems forecast, and what is known of the weather.

    Attributes:
        systems: fields (init, lead, [member], y, x) by name.
        truths: fields (time, y, x) by name, the one that forecasts start from first.
        record: the truth of the times before the first forecast.
    """

    systems: Mapping[str, xr.Dataset]
    truths: Truths
    record: xr.Dataset


@dataclass(frozen=True, kw_only=True)
class ForecastTask(Task, ABC):
    """A task that has forecasts of its own."""

    @abstractmethod
    def forecasts(self) -> Forecasts:
        """Forecasts of systems, with what they are verified against."""


@dataclass(frozen=True, kw_only=True)
class ToyWeather(ForecastTask):
    """A toy of weather, and systems that differ in one thing each (`data.toy_weather`)."""

    def material(self) -> Material:
        """The analysis and its means over blocks."""
        fine = toy_weather.generate(toy_weather.Toy(systems={}), seed=1).analysis
        return material(coarsen(fine, self.factor), fine, (), dict(self.split))

    def forecasts(self) -> Forecasts:
        season = toy_weather.generate(seed=1)
        truths = {"analysis": season.analysis, "observations": season.observations}
        return Forecasts(season.forecasts, truths, season.record)


WORLDS: tuple[Task, ...] = (
    FourSources(
        name="four-sources",
        title="synthetic temperature from four sources with errors of known size, 1 degree to 0.25 degrees",
        sample=SYNTHETIC,
        coarse=SYNTHETIC,
        variables=("tas",),
        predictors=("zg", "psl", "orog"),
        methods=_SMALL,
    ),
    ToyWeather(
        name="toy-weather",
        title="a toy of weather that moves, and systems that forecast it, one blurred and one with a drift",
        sample=SYNTHETIC,
        variables=("tas",),
        methods={"bicubic": {}, "mean-map": {}, "ridge": {}},
    ),
)
