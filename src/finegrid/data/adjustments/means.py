"""Adjustments of the mean: what the coarse field lacks, for every cell and month, is added or multiplied.

    shift    x' = x + (mean of A fine - mean of x)            temperature, pressure, wind
    scale    x' = x * (mean of A fine / mean of x)            rain, humidity, radiation: no value changes its sign
    natural  scale for what cannot be negative, shift for all else

Trends are kept: additive ones by shift, relative ones by scale. Months without training times take the mean over all.
These need no other package.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import natural_limits
from finegrid.data.adjustments.base import Adjustment, Values, bare_name
from finegrid.data.adjustments.groups import group_numbers

# Largest factor by which rain may be scaled: a dry coarse cell knows nothing.
_MOST = 10.0


class MeanAdjustment(Adjustment):
    """One number per group of times and cell, for every field that it knows.

    Args:
        by: groups of times: "month", "season" or "all".
    """

    neutral: ClassVar[float] = 0.0

    def __call__(self, coarse: xr.Dataset, *, progress: bool = False) -> xr.Dataset:
        groups = group_numbers(coarse.time, self.by)
        fields = {}
        for name, numbers in self.numbers.items():
            field = coarse[name]
            fields[name] = field.copy(data=self._kind(field)._changed(field.data, numbers[groups]))
        return coarse.assign(fields)

    def _learn(self, coarse: xr.Dataset, goals: Mapping[str, xr.DataArray], progress: bool) -> None:
        self.numbers = {name: self._learnt(coarse[name], goal) for name, goal in goals.items()}

    def _learnt(self, coarse: xr.DataArray, wanted: xr.DataArray) -> NDArray[np.float32]:
        """Numbers (13, y, x) by group, the first of all times, which stands in for groups without any."""
        groups, kind = group_numbers(coarse.time, self.by), self._kind(coarse)
        given, goal = np.asarray(coarse.values, np.float64), np.asarray(wanted.values, np.float64)
        known = np.isfinite(given) & np.isfinite(goal)
        result = np.empty((13, *given.shape[1:]))
        result[:] = kind._difference(given, goal, known)
        for group in np.unique(groups):
            chosen = groups == group
            result[group] = kind._difference(given[chosen], goal[chosen], known[chosen])
        return np.where(np.isfinite(result), result, kind.neutral).astype(np.float32)

    def _kind(self, field: xr.DataArray) -> MeanAdjustment:
        """The adjustment that a field gets."""
        return self

    def _difference(self, given: Values, goal: Values, known: NDArray[np.bool_]) -> Values:
        count = known.sum(axis=0)
        means = [np.where(known, each, 0.0).sum(axis=0) / np.maximum(count, 1) for each in (given, goal)]
        return np.where(count > 0, self._lacking(*means), np.nan)

    @abstractmethod
    def _lacking(self, given: Values, goal: Values) -> Values:
        """The number that turns one mean into the other."""

    @abstractmethod
    def _changed(self, values: Any, numbers: NDArray[Any]) -> Any:
        """Values (time, y, x) by their numbers."""


class Shift(MeanAdjustment):
    """Adds what the mean lacks."""

    name = "shift"
    neutral = 0.0

    def _lacking(self, given: Values, goal: Values) -> Values:
        return goal - given

    def _changed(self, values: Any, numbers: NDArray[Any]) -> Any:
        return values + numbers


class Scale(MeanAdjustment):
    """Multiplies by what the mean lacks."""

    name = "scale"
    neutral = 1.0

    def _lacking(self, given: Values, goal: Values) -> Values:
        factor = np.divide(goal, given, out=np.ones_like(goal), where=given > 0)
        return np.clip(factor, 1 / _MOST, _MOST)

    def _changed(self, values: Any, numbers: NDArray[Any]) -> Any:
        return values * numbers


class Natural(Shift):
    """Scales what cannot be negative, and shifts all else."""

    name = "natural"

    def _kind(self, field: xr.DataArray) -> MeanAdjustment:
        limits = natural_limits(bare_name(field.name), field.attrs)
        return Scale(self.by) if limits[0] == 0 else Shift(self.by)
