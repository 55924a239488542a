"""What training input looked like: all that a guard keeps of it, of bounded size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, harmonise, natural_limits
from finegrid.conventions.errors import provenance
from finegrid.data.inputs import in_units
from finegrid.data.predictors import usual_step
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.guard.anomalies import anomalies, climate, held_out
from finegrid.evaluation.guard.plan import MONTHS, months_of, stride
from finegrid.evaluation.guard.traits import ANOMALIES, KINDS, Floats, Measured, Places, Trait, measured, traits_of
from finegrid.evaluation.guard.usual import FOLDS

LEAST_TIMES = 16
# Chances of the quantiles that are kept of the values.
LEVELS = np.concatenate([[0.001], np.linspace(0.01, 0.99, 99), [0.999]])
_ENDS = (0.001, 0.999)
_FINE, _ANOMALY = KINDS.index("fine"), KINDS.index(ANOMALIES[0])
_ARRAYS = ("traits", "shares", "months", "ends", "quantiles", "means", "climate")


@dataclass(frozen=True, eq=False)
class Memory:
    """What is kept.

    Attributes:
        variables: their names.
        units: by variable, "" for none.
        amounts: variables that cannot be negative.
        spectral: variables whose fine amplitude is that of the cosine transform.
        every: of the training times, every so many-th was looked at.
        step_seconds: length of a time step.
        seasonal: whether calendar months mean something.
        traits: (row, trait), see `traits.traits_of`.
        shares: part of the values of each row and variable beyond the range of the other nine tenths (row, variable).
        months: calendar month of each row, from 0; all 0 where they mean nothing.
        ends: 0.1st and 99.9th percentile of the values (variable, 2).
        quantiles: of the values (variable, month, level); NaN in months without times.
        means: mean and deviation of each cell (2, variable, month, y, x).
        climate: the same of the cells of which values are kept, as anomalies need it (2, variable, month, cell).
    """

    variables: tuple[str, ...]
    units: Mapping[str, str]
    amounts: tuple[str, ...]
    spectral: tuple[str, ...]
    every: int
    step_seconds: float
    seasonal: bool
    traits: Floats
    shares: Floats
    months: Places
    ends: Floats
    quantiles: Floats
    means: Floats
    climate: Floats

    @classmethod
    def of(cls, coarse: xr.Dataset, variables: Sequence[str] | None, *, seasonal: bool) -> Self:
        """Look at training input once, in blocks of times.

        Raises:
            InputError: with too few times of which something is known.
        """
        standard, _ = harmonise(coarse)
        names = tuple(map(str, standard.data_vars if variables is None else variables))
        step = usual_step(standard.time)
        every = stride(standard.sizes["time"], step)
        places = np.arange(0, standard.sizes["time"], every)
        months = months_of(standard.time.isel(time=places), seasonal=seasonal)
        found = measured(standard, names, places, months, MONTHS if seasonal else 1)
        _check_number(found, provenance(coarse))
        fine = found.traits[found.known, _FINE : len(names) * len(KINDS) : len(KINDS)]
        units = {name: str(standard[name].attrs.get("units", "")) for name in names}
        amounts = tuple(name for name in names if natural_limits(name, standard[name].attrs)[0] == 0)
        spectral = tuple(name for name, each in zip(names, fine.T, strict=True) if np.isfinite(each).all())
        return cls(
            names, units, amounts, spectral, every, step, seasonal, **_numbers(found, names, spectral, months, seasonal)
        )

    def read(self, coarse: xr.Dataset) -> tuple[xr.Dataset, tuple[str, ...]]:
        """Standard fields in the units of training, and which of the variables there are.

        Raises:
            InputError: when there are none, or in other units.
        """
        standard, _ = harmonise(coarse)
        source = provenance(coarse)
        names = tuple(name for name in self.variables if name in standard)
        if not names:
            raise InputError(
                f"{source} has none of the variables {', '.join(self.variables)} of the training input; expected some; "
                f"its variables are {', '.join(map(str, standard.data_vars)) or 'none'}: rename them"
            )
        return standard.assign({name: in_units(standard[name], self.units[name], source) for name in names}), names

    def departures(self, names: Sequence[str], found: Measured) -> Array:
        """Anomalies (row, variable, kind) of new times from training; NaN on other cells, and of patches."""
        if not self.seasonal or found.counts.shape[-2:] != self.means.shape[-2:]:
            return np.full((len(found.groups), len(names), len(ANOMALIES)), np.nan)
        chosen = [self.variables.index(name) for name in names]
        return anomalies(found.samples, self.climate[:, chosen], found.groups)

    def mean_of(self, name: str, parts: Array) -> float:
        """Mean of a variable over the domain, in months (month,) in these parts."""
        column = traits_of(self.variables).index(Trait((name,), "mean"))
        values, months = self.traits[:, column].astype(np.float64), np.arange(len(parts))
        known = np.isfinite(values)
        counts = np.bincount(self.months[known], minlength=len(months)).astype(float)
        sums = np.bincount(self.months[known], values[known], minlength=len(months)).astype(float)
        means = ratio(sums, counts)
        weights = _weights(counts > 0, parts)
        return float(np.average(means[weights > 0], weights=weights[weights > 0]))

    def quantiles_of(self, name: str, parts: Array) -> Array:
        """Quantiles (level,) of a variable at `LEVELS`, in months in these parts."""
        return _mixed(self.quantiles[self.variables.index(name)].astype(np.float64), parts)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Plain values for JSON, and arrays."""
        plain = {key: each for key, each in vars(self).items() if key not in _ARRAYS}
        listed = {key: list(each) if isinstance(each, tuple) else each for key, each in plain.items()}
        return listed, {key: getattr(self, key) for key in _ARRAYS}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What had this `state`."""
        values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in plain.items()}
        return cls(**{**values, **arrays})


def settled(found: Measured, variables: Sequence[str], spectral: Sequence[str], departures: Array) -> Array:
    """All traits (row, trait): with those that need what was measured of other times.

    Args:
        found: what was measured.
        variables: of these variables.
        spectral: variables whose fine amplitude is that of the cosine transform; else differences of neighbours.
        departures: anomalies (row, variable, kind).
    """
    traits = found.traits.copy()
    for number, name in enumerate(variables):
        first = number * len(KINDS)
        traits[:, first + _ANOMALY : first + len(KINDS)] = departures[:, number]
        if name not in spectral:
            traits[:, first + _FINE] = found.neighbours[:, number]
    return traits


def beyond(samples: Floats, ends: Array) -> Array:
    """Part (row,) of the known values (row, cell) beyond both ends."""
    outside = (samples < ends[0]) | (samples > ends[1])
    return np.nan_to_num(ratio(outside.sum(axis=1).astype(float), np.isfinite(samples).sum(axis=1).astype(float)))


def _numbers(
    found: Measured, names: Sequence[str], spectral: Sequence[str], months: Places, seasonal: bool
) -> dict[str, Any]:
    known = found.known
    samples, means = found.samples[:, known], ratio(found.sums, found.counts)
    departures = np.full((len(known), len(names), len(ANOMALIES)), np.nan)
    if seasonal:
        departures[known] = held_out(samples, months[known], means.shape[1])
    deviations = np.sqrt(np.maximum(ratio(found.squares, found.counts) - means**2, 0.0))
    numbers = {
        "traits": settled(found, names, spectral, departures)[known],
        "shares": _held_out_shares(samples),
        "ends": np.stack([np.nanquantile(each, _ENDS) for each in samples]),
        "quantiles": _quantiles(samples, months[known], means.shape[1]),
        "means": np.stack([means, deviations]),
        "climate": climate(samples, months[known], means.shape[1]),
    }
    return {**{key: each.astype(np.float32) for key, each in numbers.items()}, "months": months[known]}


def _held_out_shares(samples: Floats) -> Array:
    """Part of the values of each row and variable (row, variable) beyond the ends of the other nine tenths."""
    result = np.empty((samples.shape[1], len(samples)))
    for fold in np.array_split(np.arange(samples.shape[1]), FOLDS):
        for number, values in enumerate(samples):
            result[fold, number] = beyond(values[fold], np.nanquantile(np.delete(values, fold, axis=0), _ENDS))
    return result


def _quantiles(samples: Floats, months: Places, count: int) -> Array:
    result = np.full((len(samples), count, len(LEVELS)), np.nan)
    for month in np.unique(months):
        for number, values in enumerate(samples):
            chosen = values[months == month]
            if np.isfinite(chosen).any():
                result[number, month] = np.nanquantile(chosen, LEVELS)
    return result


def _mixed(quantiles: Array, parts: Array) -> Array:
    """Quantiles (level,) of training months (month, level) mixed in these parts; of all months where none is known."""
    weights = _weights(np.asarray(np.isfinite(quantiles).all(axis=1)), parts)
    months = np.flatnonzero(weights)
    if len(months) == 1:
        return np.asarray(quantiles[months[0]])
    order = np.argsort(quantiles[months], axis=None)
    mass = np.outer(weights[months], np.gradient(LEVELS)).ravel()[order]
    chances = (mass.cumsum() - mass / 2) / mass.sum()
    return np.asarray(np.interp(LEVELS, chances, quantiles[months].ravel()[order]))


def _weights(known: NDArray[np.bool_], parts: Array) -> Array:
    """Parts of each month, of those that training knows; all known months alike where it knows none of them."""
    weights = np.where(known, parts, 0.0)
    return weights if weights.any() else known.astype(np.float64)


def _check_number(found: Measured, source: str) -> None:
    if found.known.sum() < LEAST_TIMES:
        raise InputError(
            f"got {int(found.known.sum())} times with known values in {source}; expected at least {LEAST_TIMES} to "
            "remember what training input looks like; give a longer record"
        )
