"""Invertible transforms between physical values and numbers that a network or a regression likes.

Each is fitted on training data only and undone exactly: `inverse(forward(y)) == y` to rounding, for every finite y
that the transform is defined for. They work on NumPy arrays and, given its namespace, on any array library with the
same function names, so that the same fitted numbers serve the network and the labelled side.

    standardise   z = (y - mean) / deviation, one mean per variable or one per cell
    log1p         z = log(1 + y / scale)                   rain: many small values, few large ones
    sqrt          z = sqrt(y / scale)                      the same, milder
    quantile      z = Phi^-1(F(y)), piecewise linear in the training quantiles, linear beyond them
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError

Array = NDArray[Any]

# A field without variation would be divided by nothing: its deviation counts as this part of its size.
_SMALLEST = 1e-6
# Part of the mean by which packed integers miss zero.
_PACKING = 1e-4


class Transform(ABC):
    """A monotone map with its inverse; `numbers` are all that it learnt, ready for a model file."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, values: Array) -> Self:
        """Learn from training values (time, y, x); NaN is left out."""

    @abstractmethod
    def forward(self, values: Any, xp: Any = np) -> Any:
        """Physical values to transformed ones; `xp` is the namespace of the arrays (numpy or torch)."""

    @abstractmethod
    def inverse(self, values: Any, xp: Any = np) -> Any:
        """Transformed values to physical ones."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, Array]:
        """What was learnt; `type(self)(**numbers)` is the same transform."""


def _like(number: Array, values: Any, xp: Any) -> Any:
    """A learnt number as an array of the library, type and device of `values`."""
    if xp is np:
        return number.astype(np.result_type(values), copy=False)
    return xp.as_tensor(number, dtype=values.dtype, device=values.device)


@dataclass(frozen=True, eq=False)
class Standardise(Transform):
    """Mean zero and deviation one over time and cells."""

    name: ClassVar[str] = "standardise"
    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, values: Array) -> Self:
        return cls(*_moments(values, axis=None))

    def forward(self, values: Any, xp: Any = np) -> Any:
        return (values - _like(self.mean, values, xp)) / _like(self.deviation, values, xp)

    def inverse(self, values: Any, xp: Any = np) -> Any:
        return values * _like(self.deviation, values, xp) + _like(self.mean, values, xp)

    @property
    def numbers(self) -> Mapping[str, Array]:
        return {"mean": self.mean, "deviation": self.deviation}


class StandardisePerCell(Standardise):
    """Mean zero and deviation one at every cell: the map of means is no longer the network's to learn."""

    name: ClassVar[str] = "standardise-per-cell"

    @classmethod
    def fit(cls, values: Array) -> Self:
        return cls(*_moments(values, axis=0))


@dataclass(frozen=True, eq=False)
class _Scaled(Transform):
    """Of values that cannot be negative, relative to their mean; negative input counts as zero."""

    scale: Array

    @classmethod
    def fit(cls, values: Array) -> Self:
        lowest, mean = float(np.nanmin(values)), float(np.nanmean(values))
        if lowest < -_PACKING * abs(mean):
            raise InputError(
                f"got values down to {lowest:g} for the transform {cls.name}; expected none below zero; "
                "choose the transform standardise or quantile for this variable"
            )
        return cls(np.asarray(mean if mean > 0 else 1.0, dtype=np.float32))

    @property
    def numbers(self) -> Mapping[str, Array]:
        return {"scale": self.scale}

    def _relative(self, values: Any, xp: Any) -> Any:
        relative = values / _like(self.scale, values, xp)
        return xp.where(relative > 0, relative, xp.zeros_like(relative))


class Log1p(_Scaled):
    """`log(1 + y / mean)`."""

    name: ClassVar[str] = "log1p"

    def forward(self, values: Any, xp: Any = np) -> Any:
        return xp.log1p(self._relative(values, xp))

    def inverse(self, values: Any, xp: Any = np) -> Any:
        return xp.expm1(values) * _like(self.scale, values, xp)


class SquareRoot(_Scaled):
    """`sqrt(y / mean)`; transformed values below zero count as zero."""

    name: ClassVar[str] = "sqrt"

    def forward(self, values: Any, xp: Any = np) -> Any:
        return xp.sqrt(self._relative(values, xp))

    def inverse(self, values: Any, xp: Any = np) -> Any:
        positive = xp.where(values > 0, values, xp.zeros_like(values))
        return positive * positive * _like(self.scale, values, xp)


@dataclass(frozen=True, eq=False)
class Quantile(Transform):
    """Training quantiles mapped to those of a normal distribution; straight lines between and beyond."""

    name: ClassVar[str] = "quantile"
    values_at: Array
    normal_at: Array

    @classmethod
    def fit(cls, values: Array, *, knots: int = 101) -> Self:
        from scipy.stats import norm

        probabilities = (np.arange(knots) + 0.5) / knots
        quantiles = np.nanquantile(np.asarray(values, dtype=np.float64), probabilities)
        normal = norm.ppf(probabilities)
        # Ties (dry days) are one knot, in the middle of the normal values that they stand for.
        distinct, place = np.unique(quantiles, return_inverse=True)
        if len(distinct) < 2:
            raise InputError(
                f"got a field that is {distinct[0]:g} nearly everywhere for the transform quantile; expected several "
                "values; choose the transform standardise for this variable"
            )
        middle = np.bincount(place, weights=normal) / np.bincount(place)
        return cls(distinct.astype(np.float32), middle.astype(np.float32))

    def forward(self, values: Any, xp: Any = np) -> Any:
        return self._line(values, self.values_at, self.normal_at, xp)

    def inverse(self, values: Any, xp: Any = np) -> Any:
        return self._line(values, self.normal_at, self.values_at, xp)

    @property
    def numbers(self) -> Mapping[str, Array]:
        return {"values_at": self.values_at, "normal_at": self.normal_at}

    @staticmethod
    def _line(values: Any, source: Array, target: Array, xp: Any) -> Any:
        source, target = _like(source, values, xp), _like(target, values, xp)
        # The first and last pieces go on beyond their knots, so that the inverse exists everywhere.
        piece = xp.searchsorted(source[1:-1], values)
        slope = (target[1:] - target[:-1]) / (source[1:] - source[:-1])
        return target[piece] + slope[piece] * (values - source[piece])


TRANSFORMS: dict[str, type[Transform]] = {
    each.name: each for each in (Standardise, StandardisePerCell, Log1p, SquareRoot, Quantile)
}


def fit_transform(name: str, values: Array) -> Transform:
    """The transform of that name, fitted.

    Raises:
        InputError: on an unknown name, or values that it cannot take.
    """
    if name not in TRANSFORMS:
        from finegrid.conventions.components import nearest

        valid = ", ".join(TRANSFORMS)
        raise InputError(f"There is no transform '{name}'. The names are {valid}.{nearest(name, TRANSFORMS)}")
    return TRANSFORMS[name].fit(values)


def _moments(values: Array, axis: int | None) -> tuple[Array, Array]:
    wide = np.asarray(values, dtype=np.float64)
    known = np.isfinite(wide)
    count = np.maximum(known.sum(axis=axis), 1)
    mean = np.where(known, wide, 0.0).sum(axis=axis) / count
    deviation = np.sqrt((np.where(known, wide - mean, 0.0) ** 2).sum(axis=axis) / count)
    floor = _SMALLEST * np.maximum(np.abs(mean), np.finfo(np.float32).tiny / _SMALLEST)
    deviation = np.where(deviation > floor, deviation, 1.0)
    return np.asarray(mean, dtype=np.float32), np.asarray(deviation, dtype=np.float32)
