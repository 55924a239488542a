"""One variable of several systems against one truth: everything at hand, and one pass over the leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.leads.climate import Climate
from finegrid.evaluation.leads.metrics import LeadBlock, LeadMetric
from finegrid.evaluation.leads.times import Forecast, Leads, Truth, at_times, in_days, valid_times
from finegrid.grids import Grid

Sums = Mapping[str, Mapping[str, list[Totals]]]
"""Totals of each lead, by system and metric."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the weather of a system.

    Attributes:
        field: the truth (time, y, x).
        climate: what anomalies are taken from.
        threshold: above which there is an event (y, x).
    """

    field: xr.DataArray
    climate: Climate
    threshold: Array

    @classmethod
    def of(cls, field: xr.DataArray, record: xr.DataArray, threshold: float | None, level: float) -> Self:
        """A truth with the climate and the thresholds of a record."""
        fixed = np.full(record.shape[1:], threshold, dtype=np.float64) if threshold is not None else None
        return cls(field, Climate.of(record), quantile(record, level) if fixed is None else fixed)


@dataclass(frozen=True, eq=False)
class Scene:
    """All that is wanted of one variable against one truth.

    Attributes:
        variable: its name.
        truth: name of the truth.
        systems: the forecasts.
        known: the truth of each system by its name.
        metrics: what is scored.
        inits: initial times that all have.
        leads: that all have.
        level: of the quantile score.
    """

    variable: str
    truth: str
    systems: Sequence[Forecast]
    known: Mapping[str, Known]
    metrics: Sequence[LeadMetric]
    inits: pd.Index
    leads: Leads
    level: float

    @property
    def units(self) -> str:
        """Of the variable."""
        return str(next(iter(self.known.values())).field.attrs.get("units", "1"))

    def summed(self) -> Sums:
        """Totals of all leads; each lead is read on its own.

        Raises:
            InputError: when a forecast is missing where there is a truth, or there is none at any valid time.
        """
        area = Grid.of(self.systems[0].at[0]).area
        names = [metric.name for metric in self.metrics]
        sums: dict[str, dict[str, list[Totals]]] = {each.name: {name: [] for name in names} for each in self.systems}
        for lead in self.leads:
            for system in self.systems:
                block = self._block(system, lead, area)
                for metric in self.metrics:
                    sums[system.name][metric.name].append(metric.totals(block))
        self._check_known(sums)
        return sums

    def _check_known(self, sums: Sums) -> None:
        for name, each in sums.items():
            if not any(totals.weights.any() for totals in next(iter(each.values()))):
                raise InputError(
                    f"got no value of '{self.variable}' in {self.truth} at any time for which {name} is "
                    "valid; expected some; give a truth of the same period and calendar"
                )

    def _block(self, system: Forecast, lead: np.timedelta64, area: Array) -> LeadBlock:
        known, times = self.known[system.name], valid_times(self.inits, lead)
        forecast = system.fields(lead, self.variable, known.field, self.inits)
        truth = at_times(known.field, times)
        block = LeadBlock(forecast, truth, known.climate.at(times), known.threshold, area, self.level)
        if block.missing:
            raise InputError(
                f"got {block.missing} missing values of '{self.variable}' in {system.name} at a lead of "
                f"{in_days(lead):g} days where {self.truth} has values; expected a forecast for every one; leave those "
                "cells or times out of the truth"
            )
        return block


def known_of(
    own: Mapping[str, Truth], variable: str, record: Truth | None, threshold: float | None, level: float
) -> dict[str, Known]:
    """The truth of each system with its climate; one that several share is read once."""
    base = None if record is None else record.field(variable)
    distinct: dict[int, Known] = {}
    for truth in own.values():
        if id(truth) not in distinct:
            field = truth.field(variable)
            distinct[id(truth)] = Known.of(field, field if base is None else base, threshold, level)
    return {name: distinct[id(truth)] for name, truth in own.items()}


def quantile(record: xr.DataArray, level: float) -> Array:
    """The quantile over time in each cell (y, x); NaN where nothing is known."""
    values = np.asarray(record.values, dtype=np.float64)
    known = np.isfinite(values)
    found = np.full(values.shape[1:], np.nan)
    complete, part = known.all(axis=0), known.any(axis=0) & ~known.all(axis=0)
    if complete.any():
        found[complete] = np.quantile(values[:, complete], level, axis=0)
    if part.any():  # cell by cell, and slow
        found[part] = np.nanquantile(np.where(known, values, np.nan)[:, part], level, axis=0)
    return found
