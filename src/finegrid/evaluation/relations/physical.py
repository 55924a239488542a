"""Relations that hold by definition: how often, and by how much, are they broken?

    temperature-order    tasmin <= tas <= tasmax                      violated by more than 1e-6 of the value
    humidity-bounds      0 <= relative humidity <= 100 %              violated by more than 1e-6 of the whole
    wind-speed           speed = sqrt(u^2 + v^2)                      violated by more than 1 % of the speed

The score is the share of violations among members' values, by area; zero is best. The share in the truth, `observed`,
stands beside it: rounding, and speeds that are means over time of something that is more than the speed of the mean
wind, violate relations too. `size` is the mean violation where there is one, by area, and `largest` the largest.

Variables are found by their names and CF standard names; a relation is left out where they are not there. Two of the
three temperatures are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, convert_units, find_variable, natural_limits
from finegrid.conventions.variables import standard_name_of
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.relations.base import Relation, RelationScore, Together

_ROUNDING, _SPEED_PART = 1e-6, 0.01


@dataclass
class _Violations:
    """Sums over blocks, of the members or of the truth."""

    share: float = 0.0
    size: float = 0.0
    whole: float = 0.0
    largest: float = 0.0

    def add(self, excess: Array, tolerance: Array, weights: Array) -> None:
        """Take in by how much a relation is broken (..., time, y, x)."""
        weights = np.broadcast_to(weights, excess.shape)
        broken = np.where(excess > tolerance, weights, 0.0)
        self.whole += float(weights.sum())
        self.share += float(broken.sum())
        self.size += float((broken * np.where(broken > 0, excess, 0.0)).sum())
        self.largest = max(self.largest, float(np.max(excess, where=broken > 0, initial=0.0)))


Broken = Callable[[Array], tuple[Array, Array]]
"""From values (variable, ...) to by how much a relation is broken (...), and how much of that is allowed."""


def _scored(relation: str, fields: Together, names: Sequence[str], broken: Broken) -> RelationScore:
    fields = _in_one_unit(fields, names)
    members, truth = _Violations(), _Violations()
    with np.errstate(invalid="ignore"):
        for cases in fields.blocks(*names):
            members.add(*broken(cases.prediction), cases.weights)
            truth.add(*broken(cases.truth), cases.weights)
    if not members.whole > 0:
        note = "they are never known together"
        return RelationScore(relation, tuple(names), np.nan, 0.0, np.nan, np.nan, note=note)
    predicted, observed = (each.share / each.whole for each in (members, truth))
    size = members.size / members.share if members.share > 0 else 0.0
    units = str(fields.truth[names[0]].attrs.get("units", "1"))
    return RelationScore(relation, tuple(names), predicted, 0.0, predicted, observed, size, members.largest, units)


def _in_one_unit(fields: Together, names: Sequence[str]) -> Together:
    units = fields.truth[names[0]].attrs.get("units")

    def converted(field: xr.DataArray) -> xr.DataArray:
        own = field.attrs.get("units")
        return field if own is None or units is None else convert_units(field, units)

    prediction, truth = ({name: converted(of[name]) for name in names} for of in (fields.prediction, fields.truth))
    return replace(fields, prediction=prediction, truth=truth)


def _found(fields: Together, roles: Sequence[str]) -> list[str]:
    """Names of the variables with these roles, as far as there are any."""
    everything, names = xr.Dataset(dict(fields.truth)), list[str]()
    for role in roles:
        try:
            names.append(find_variable(everything, role, source="truth"))
        except InputError:
            continue
    return list(dict.fromkeys(names))


def _temperatures(fields: Together) -> Iterator[RelationScore]:
    names = _found(fields, ("tasmin", "tas", "tasmax"))
    if len(names) > 1:
        yield _scored("temperature-order", fields, names, _out_of_order)


def _out_of_order(values: Array) -> tuple[Array, Array]:
    return np.asarray((values[:-1] - values[1:]).max(axis=0)), _ROUNDING * np.abs(values).max(axis=0)


def _humidity(fields: Together) -> Iterator[RelationScore]:
    for name, truth in fields.truth.items():
        if standard_name_of(name, truth.attrs) == "relative_humidity":
            low, high = natural_limits(name, truth.attrs)
            yield _scored("humidity-bounds", fields, [name], partial(_out, low=low, high=high))


def _out(values: Array, low: float, high: float) -> tuple[Array, Array]:
    excess = np.maximum(low - values[0], values[0] - high)
    return excess, np.full_like(excess, _ROUNDING * (high if np.isfinite(high) else 1.0))


def _wind(fields: Together) -> Iterator[RelationScore]:
    names = _found(fields, ("sfcWind", "uas", "vas"))
    if len(names) == 3:
        yield _scored("wind-speed", fields, names, _not_of_components)


def _not_of_components(values: Array) -> tuple[Array, Array]:
    speed, own = values[0], np.hypot(values[1], values[2])
    return np.abs(speed - own), _SPEED_PART * np.maximum(np.abs(speed), own)


TEMPERATURE_ORDER = Relation("temperature-order", "temperatures out of order", _temperatures)
HUMIDITY_BOUNDS = Relation("humidity-bounds", "humidity out of bounds", _humidity)
WIND_SPEED = Relation("wind-speed", "speed unlike its components", _wind)
