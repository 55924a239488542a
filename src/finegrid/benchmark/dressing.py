"""The plainest ensemble about a single best answer: its own error on other times, drawn anew in every cell.

    member = prediction + sigma(prediction) e,      e ~ N(0, 1) in every cell, cut off at the limits of nature

sigma is the root-mean-square error of the times that chose the weights, in classes of the predicted value: an error of
rain grows with the rain, so that the classes are finest among the largest values. Every head has to beat this; it has
no structure in space and conserves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import harmonise, natural_limits, restore

Array = NDArray[np.float64]

# Parts of the predicted values below the edges of classes.
_LEVELS = (*np.linspace(0.05, 0.95, 19), 0.975, 0.99, 0.995, 0.998, 0.999)


@dataclass(frozen=True, eq=False)
class Dressing:
    """How far off a prediction is, by its value.

    Attributes:
        values: mean predicted value of each class by variable, ascending (class,).
        errors: root-mean-square error in it (class,).
    """

    values: dict[str, Array]
    errors: dict[str, Array]

    @classmethod
    def of(cls, prediction: xr.Dataset, truth: xr.Dataset) -> Self:
        """Learn from predictions (member, time, y, x) of times that they had not learnt from, and the truth."""
        given, right = harmonise(prediction)[0], harmonise(truth)[0]
        values, errors = {}, {}
        for name in map(str, given.data_vars):
            field = given[name].isel(member=0) if "member" in given[name].dims else given[name]
            known = np.isfinite(right[name].values)
            predicted = field.values[known].astype(np.float64)
            squares = (predicted - right[name].values[known]) ** 2
            values[name], errors[name] = _by_class(predicted, squares)
        return cls(values, errors)

    def members(self, prediction: xr.Dataset, count: int, *, seed: int) -> xr.Dataset:
        """An ensemble of so many members about a single prediction, in its own words."""
        given, names = harmonise(prediction)
        random = np.random.default_rng(seed)
        single = given.isel(member=0, drop=True) if "member" in given.dims else given
        dressed = {}
        for name, field in single.data_vars.items():
            spread = np.interp(field.values, self.values[str(name)], self.errors[str(name)]).astype(np.float32)
            noise = random.standard_normal((count, *field.shape), dtype=np.float32)
            low, high = natural_limits(str(name), field.attrs)
            values = np.clip(field.values + spread * noise, low, high)
            dressed[name] = (("member", *map(str, field.dims)), values, field.attrs)
        ensemble = single.assign(dressed).assign_coords(member=np.arange(count))
        return restore(ensemble, names)


def _by_class(predicted: Array, squares: Array) -> tuple[Array, Array]:
    """Mean predicted value and error of each class that has members; equal values are in one class."""
    number = np.searchsorted(np.unique(np.quantile(predicted, _LEVELS)), predicted, side="left")
    counts = np.bincount(number)
    kept = counts > 0
    sums = (np.bincount(number, each)[kept] / counts[kept] for each in (predicted, squares))
    value, square = sums
    return value, np.sqrt(square)
