"""The climate of a source, month by month and cell by cell, and the fields of one source in the climate of another.

A method that learnt from a reanalysis knows what a pressure means that is two deviations above the reanalysis' own
mean. A climate model has another mean and another deviation, and the same weather in other numbers. Standardised with
the climatology of its own reference period, and put back with that of the training fields, its fields mean what they
meant in training; changes against its reference period stay.

    x' = m + s (x - m_own) / s_own              what may be negative
    x' = x m / m_own                            what may not

Source: the standardisation of predictors in perfect prognosis, Gutiérrez et al., International Journal of Climatology
39, 2019.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, natural_limits

_Sums = tuple[NDArray[Any], ...]

_MONTHS = 12
# Times of a month from which its climate is known.
_LEAST = 20
# Largest factor by which what cannot be negative is changed: a dry cell knows nothing.
_MOST = 10.0


@dataclass(frozen=True, eq=False)
class Climatology:
    """Moments of fields as `CoarseInputs.read` gives them.

    Attributes:
        mean: by name (month, ...), NaN in months without times.
        deviation: likewise, within the month.
    """

    mean: Mapping[str, NDArray[np.float32]]
    deviation: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, fields: xr.Dataset) -> Self:
        """The climatology of all fields; reads them once."""
        found = Moments().add(fields).climatology()
        return cls(found.mean, found.deviation)

    def adopt(self, fields: xr.Dataset, own: Climatology, source: str) -> xr.Dataset:
        """Fields of another source, whose climatology is `own`, as if they were of this one; lazily.

        Raises:
            InputError: on months that one of the two does not know.
        """
        months = fields.time.dt.month.values
        self._check(months, own, source)
        known = [name for name in fields.data_vars if name in self.mean]
        changed = {str(name): self._adopted(fields[name], own, months) for name in known}
        return fields.assign(changed)

    def _adopted(self, field: xr.DataArray, own: Climatology, months: NDArray[np.int64]) -> xr.DataArray:
        name = str(field.name)
        # A cell that one of the two hardly ever knows in a month stays as it is.
        both = np.isfinite(self.mean[name]) & np.isfinite(own.mean[name])
        mean, theirs = (np.where(both, each.mean[name], 0.0)[months - 1] for each in (self, own))
        base = name.partition(" (")[0]
        if natural_limits(base, field.attrs)[0] == 0.0:
            ratio = np.divide(mean, theirs, out=np.ones_like(mean), where=theirs > 0)
            return field.copy(data=field.data * np.clip(ratio, 1 / _MOST, _MOST))
        deviation, spread = (np.where(both, each.deviation[name], 1.0)[months - 1] for each in (self, own))
        scale = np.divide(deviation, spread, out=np.ones_like(deviation), where=spread > 0)
        return field.copy(data=mean + scale * (field.data - theirs))

    def _check(self, months: NDArray[np.int64], own: Climatology, source: str) -> None:
        for known, whose in ((self, "the training times"), (own, "the reference")):
            first = next(iter(known.mean.values()))
            empty = np.asarray(~np.isfinite(first.reshape(_MONTHS, -1)).any(axis=1))
            missing = [calendar.month_name[month] for month in np.unique(months) if empty[month - 1]]
            if missing:
                raise InputError(
                    f"{source} has times in {', '.join(missing)}, and {whose} have fewer than {_LEAST} there; expected "
                    "a climatology of every month; give a longer reference, or leave these months out"
                )


class Moments:
    """Moments of fields month by month, from one block of times after the other.

    Two blocks of counts n, m, means a, b and sums of squared departures s, t are one of n + m with the mean
    a + (b - a) m / (n + m) and the sum s + t + (b - a)^2 n m / (n + m).

    Source: Chan, Golub and LeVeque, The American Statistician 37(3), 1983.
    """

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def add(self, fields: xr.Dataset) -> Moments:
        """Count in the next block of times."""
        months = fields.time.dt.month.values
        for name, field in fields.data_vars.items():
            values = np.asarray(field.values)
            if str(name) not in self._sums:
                self._sums[str(name)] = tuple(np.zeros((_MONTHS, *values.shape[1:])) for _ in range(3))
            for month in np.unique(months):
                self._merge(self._sums[str(name)], month - 1, values[months == month].astype(np.float64))
        return self

    def include(self, other: Moments) -> None:
        """Take in what others have counted, of the same fields."""
        for name, theirs in other._sums.items():
            self._sums[name] = _pooled(self._sums[name], theirs) if name in self._sums else theirs

    @staticmethod
    def _merge(sums: _Sums, month: int, values: NDArray[np.float64]) -> None:
        known = np.isfinite(values)
        count = known.sum(axis=0)
        mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(known, values - mean, 0.0) ** 2).sum(axis=0)
        found = _pooled(tuple(each[month] for each in sums), (count, mean, squares))
        for each, value in zip(sums, found, strict=True):
            each[month] = value

    def climatology(self) -> Climatology:
        """The climatology of all that was counted in; months with few times have none."""
        means, deviations = {}, {}
        for name, (count, mean, squares) in self._sums.items():
            enough = count >= _LEAST
            deviation = np.sqrt(squares / np.maximum(count, 1))
            means[name] = np.where(enough, mean, np.nan).astype(np.float32)
            deviations[name] = np.where(enough, deviation, np.nan).astype(np.float32)
        return Climatology(means, deviations)


def _pooled(own: _Sums, other: _Sums) -> _Sums:
    """Count, mean and sum of squared departures of two blocks as one."""
    (count, mean, squares), (more, theirs, further) = own, other
    share = more / np.maximum(count + more, 1)
    squares = squares + further + (theirs - mean) ** 2 * count * share
    return count + more, mean + (theirs - mean) * share, squares
