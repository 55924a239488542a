"""Bias adjustment of coarse fields before anything else sees them: adjust, then downscale, then constrain.

A coarse model and observations differ in their climate even where they show the same weather. Forcing fine fields to
agree with a coarse field that is 2 K too cold makes them 2 K too cold. An adjustment learns, cell by cell and for every
month, what the coarse field lacks on the training times compared with the means of the fine field over its cells,

    shift    x' = x + (mean of A fine - mean of x)            temperature, pressure, wind
    scale    x' = x * (mean of A fine / mean of x)            rain, humidity, radiation: no value changes its sign
    natural  scale for what cannot be negative, shift for all else

Trends are kept: additive ones by shift, relative ones by scale. Months without training times take the mean over all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, natural_limits
from finegrid.conventions.components import build
from finegrid.data.inputs import own_name
from finegrid.data.pairs import Pair
from finegrid.grids import Operator

Array = NDArray[np.float32]

_GROUPS: Mapping[str, Callable[[xr.DataArray], NDArray[np.int64]]] = {
    "month": lambda time: time.dt.month.values,
    "season": lambda time: time.dt.month.values % 12 // 3 + 1,
    "all": lambda time: np.ones(len(time), dtype=np.int64),
}
# Largest factor by which rain may be scaled: a dry coarse cell knows nothing.
_MOST = 10.0


@dataclass
class Adjustment(ABC):
    """One number per group of times and cell, for every field that it knows.

    Args:
        by: groups of times: "month", "season" or "all".
    """

    name: ClassVar[str]
    by: str = "month"

    def __post_init__(self) -> None:
        if self.by not in _GROUPS:
            raise InputError(f"the adjustment '{self.name}' got by: {self.by}; expected one of {', '.join(_GROUPS)}")
        self.numbers: dict[str, Array] = {}

    def fit(self, matched: Pair) -> Self:
        """Learn from a pair: for the values on blocks, and on the coarse file's own cells where there are some."""
        blocks = Operator.conservative(matched.grid, matched.inputs.grid)(matched.fine)
        goals = {name: blocks[name] for name in matched.variables}
        if matched.inputs.own is not None:
            cells = matched.operator(matched.true_fine)
            goals |= {own_name(name): cells[name] for name in matched.variables}
        self.numbers = {name: self._learnt(matched.coarse[name], goal) for name, goal in goals.items()}
        return self

    def __call__(self, coarse: xr.Dataset) -> xr.Dataset:
        """Coarse fields as `CoarseInputs.read` gives them, adjusted; lazy when they come lazy."""
        groups = _GROUPS[self.by](coarse.time)
        changed = {}
        for name, numbers in self.numbers.items():
            field = coarse[name]
            changed[name] = field.copy(data=self._kind(field)._changed(field.data, numbers[groups]))
        return coarse.assign(changed)

    def _learnt(self, coarse: xr.DataArray, wanted: xr.DataArray) -> Array:
        """Numbers (13, y, x) by group, the first of all times, which stands in for groups without any."""
        groups, kind = _GROUPS[self.by](coarse.time), self._kind(coarse)
        given, goal = np.asarray(coarse.values, np.float64), np.asarray(wanted.values, np.float64)
        known = np.isfinite(given) & np.isfinite(goal)
        result = np.empty((13, *given.shape[1:]))
        result[:] = kind._difference(given, goal, known)
        for group in np.unique(groups):
            chosen = groups == group
            result[group] = kind._difference(given[chosen], goal[chosen], known[chosen])
        return np.where(np.isfinite(result), result, kind.neutral).astype(np.float32)

    def _kind(self, field: xr.DataArray) -> Adjustment:
        """The adjustment that a field gets."""
        return self

    def _difference(self, given: NDArray[Any], goal: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        count = known.sum(axis=0)
        means = [np.where(known, each, 0.0).sum(axis=0) / np.maximum(count, 1) for each in (given, goal)]
        return np.where(count > 0, self._lacking(*means), np.nan)

    neutral: ClassVar[float] = 0.0

    @abstractmethod
    def _lacking(self, given: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """The number that turns one mean into the other."""

    @abstractmethod
    def _changed(self, values: Any, numbers: Array) -> Any:
        """Values (time, y, x) by their numbers."""


class Shift(Adjustment):
    """Adds what the mean lacks."""

    name = "shift"
    neutral = 0.0

    def _lacking(self, given: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
        return goal - given

    def _changed(self, values: Any, numbers: Array) -> Any:
        return values + numbers


class Scale(Adjustment):
    """Multiplies by what the mean lacks."""

    name = "scale"
    neutral = 1.0

    def _lacking(self, given: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
        factor = np.divide(goal, given, out=np.ones_like(goal), where=given > 0)
        return np.clip(factor, 1 / _MOST, _MOST)

    def _changed(self, values: Any, numbers: Array) -> Any:
        return values * numbers


class Natural(Shift):
    """Scales what cannot be negative, and shifts all else."""

    name = "natural"

    def _kind(self, field: xr.DataArray) -> Adjustment:
        name = str(field.name).removesuffix(own_name(""))
        return Scale(self.by) if natural_limits(name, field.attrs)[0] == 0 else Shift(self.by)


ADJUSTMENTS: dict[str, type[Adjustment]] = {each.name: each for each in (Shift, Scale, Natural)}


def adjustment(table: str | Mapping[str, Any] | None) -> Adjustment | None:
    """The unfitted adjustment of a table, None for none.

    Raises:
        InputError: on an unknown name or argument.
    """
    return None if table is None else build(table, ADJUSTMENTS, "adjustment")
