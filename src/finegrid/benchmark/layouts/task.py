"""Tasks made from folders in the layouts of public benchmarks (`data.layouts`).

    fields      coarse and fine fields are a task like any other; the parts of the benchmark are its blocks of time
    states      the atmosphere day by day: forecasts are verified against it
    columns     columns of air and their tendencies
    stations    weather stations, now and some hours later

Where a benchmark has no coarse field of what it wants, such as rain from wind and humidity aloft, its inputs are
predictors alone. Methods that ask for a coarse field get one that says nothing: everywhere and always the mean of the
predicted variable over the training times. Nothing can be conserved then, and conservation is not measured.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.task import Task
from finegrid.benchmark.worlds import Forecasts, ForecastTask
from finegrid.conventions import InputError, convert_units, harmonise
from finegrid.data import open_fields
from finegrid.data.layouts import LAYOUTS, Opened
from finegrid.data.splits import Blocks, holdout, split_times
from finegrid.pipeline.material import Material

# Of the training times, where a benchmark has no validation times of its own.
_VALIDATE = 0.1


@dataclass(frozen=True, kw_only=True)
class LayoutTask(Task):
    """A task from a folder.

    Attributes:
        folder: where the files are.
        layout: its name in LAYOUTS.
        opening: options of `open_layout`.
        chosen: those of them that were asked for.
        thin: of each part every so many-th time is taken.
        entries: files of predictions by others, by name, where the question is not one of downscaling.
        asked: name of the question, where it is not one of downscaling.
        nominal: whether dates are nominal.
    """

    folder: str
    layout: str
    opening: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    thin: int = 1
    entries: Mapping[str, str] = field(default_factory=dict)
    asked: str = ""
    nominal: bool = False

    @property
    def available(self) -> bool:
        return Path(self.folder).is_dir()

    @property
    def dated(self) -> bool:
        return not self.nominal

    @property
    def command(self) -> str:
        told = {**self.chosen, **({"thin": self.thin} if self.thin > 1 else {})}
        options = [word for key, value in told.items() for word in ("--option", f"{key}={_word(value)}")]
        return shlex.join([self.folder, *options])

    def opened(self) -> Opened:
        """The folder, lazily.

        Raises:
            InputError: as the layout has it.
        """
        return LAYOUTS[self.layout].open(self.folder, **self.opening)

    def blocks(self, opened: Opened) -> Blocks:
        """The parts of the benchmark; the last fifth of the times is the test where it keeps the truth of its tests."""
        parts = {name: each[:: self.thin] for name, each in opened.splits.items()}
        train, test = parts["train"], parts.get("scored", parts.get("test", np.arange(0)))
        if not len(test):
            time = opened.fine.time.isel(time=train)
            cut = split_times(time)
            return Blocks(train[cut.train], train[cut.validate], train[cut.test])
        if len(validate := parts.get("validate", np.arange(0))):
            return Blocks(train, validate, test)
        learnt, held = holdout(len(train), _VALIDATE)
        return Blocks(train[learnt], train[held], test)

    def material(self) -> Material:
        """Fields of the task with their blocks of time.

        Raises:
            InputError: where there are no fields.
        """
        raise InputError(
            f"{self.folder} ({self.layout}) holds {self.asked}, which are no fields to downscale; expected a folder of "
            f"fields; run finegrid benchmark {self.command} without --protocol and --export"
        )


@dataclass(frozen=True, kw_only=True)
class FieldsTask(LayoutTask):
    """Coarse and fine fields.

    Attributes:
        matched: coarse names of predicted variables, where these differ.
        alone: whether no coarse field of what is predicted is there, or may be used: inputs are predictors alone.
    """

    matched: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False

    @property
    def comparable(self) -> bool:
        return not self.alone

    def material(self) -> Material:
        opened = self.opened()
        fine, blocks = opened.fine[list(self.variables)], self.blocks(opened)
        coarse = self._alone(opened.coarse, self.means(fine, blocks)) if self.alone else self._named(opened, fine)
        return Material(_sourced(coarse, opened.coarse), _sourced(fine, opened.fine), opened.static, blocks)

    def means(self, fine: xr.Dataset, blocks: Blocks) -> xr.Dataset:
        """What stands for a coarse field that is not there: the mean of each variable over the training times."""
        chosen = fine.isel(time=np.sort(np.concatenate([blocks.train, blocks.validate])))
        return chosen.mean(keep_attrs=True).compute()

    def inputs(self, given: xr.Dataset, means: xr.Dataset) -> xr.Dataset:
        """The inputs of other times, such as those of a test whose truth is kept, as methods get them."""
        return _sourced(self._alone(given, means) if self.alone else given, given)

    def _alone(self, coarse: xr.Dataset, means: xr.Dataset) -> xr.Dataset:
        like = next(coarse[name] for name in self.predictors if coarse[name].ndim > 1)
        # Numbers over time, such as a concentration, are fields that are the same everywhere.
        series = {
            name: coarse[name].broadcast_like(like).transpose(*like.dims).assign_attrs(coarse[name].attrs)
            for name in self.predictors
            if coarse[name].ndim == 1
        }
        kept = coarse[list(self.predictors)].assign(series)
        constant = {
            name: xr.full_like(like, float(value)).assign_attrs(_about(value))
            for name, value in means.data_vars.items()
        }
        return kept.assign(constant)

    def _named(self, opened: Opened, fine: xr.Dataset) -> xr.Dataset:
        """Coarse fields with those of the predicted variables under their names and in their units."""
        coarse = opened.coarse
        for name, theirs in self.matched.items():
            own = convert_units(coarse[theirs], str(fine[name].attrs["units"]), source=f"{self.folder}, {theirs}")
            coarse = coarse.drop_vars(theirs).assign({name: own.assign_attrs(_about(fine[name]))})
        return coarse


@dataclass(frozen=True, kw_only=True)
class StatesTask(LayoutTask):
    """The atmosphere time by time: the record from which simple forecasts are made."""

    def material(self) -> Material:
        opened = self.opened()
        fields = harmonise(opened.fine)[0][list(self.variables)]
        return Material(fields, _sourced(fields, opened.fine), (), self.blocks(opened))


@dataclass(frozen=True, kw_only=True)
class ForecastsTask(StatesTask, ForecastTask):
    """The same with forecasts of others."""

    def forecasts(self) -> Forecasts:
        material = self.material()
        systems = {name: open_fields(path) for name, path in self.entries.items()}
        return Forecasts(systems, {"analysis": material.fine}, material.fine.isel(time=material.learning))


def _about(values: xr.DataArray) -> dict[str, Any]:
    return {key: values.attrs[key] for key in ("units", "standard_name") if key in values.attrs}


def _sourced(fields: xr.Dataset, origin: xr.Dataset) -> xr.Dataset:
    if "source" in origin.encoding:
        fields.encoding["source"] = origin.encoding["source"]
    return fields


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
