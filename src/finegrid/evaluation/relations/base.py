"""What a relation between variables is: fields of several variables in, one row of plain values out for each group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded
from finegrid.grids import Grid

# Values of a field, evenly spread, of which quantiles and ranks are taken.
_SAMPLED = 1 << 20


@dataclass(frozen=True)
class RelationScore:
    """One relation of one group of variables.

    Attributes:
        relation: a name in RELATIONS.
        variables: names in the truth.
        score: how well the prediction keeps the relation; NaN where it cannot be said.
        best: the score of a perfect prediction.
        predicted: what was measured of the prediction.
        observed: the same of the truth.
        size: mean violation where there is one; NaN of relations that are not violated but weak or strong.
        largest: the largest one.
        units: of the two.
        note: why there is no score; empty where there is one.
    """

    relation: str
    variables: tuple[str, ...]
    score: float
    best: float
    predicted: float
    observed: float
    size: float = np.nan
    largest: float = np.nan
    units: str = "1"
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None."""
        names = ("score", "best", "predicted", "observed", "size", "largest")
        numbers = {name: _plain(getattr(self, name)) for name in names}
        words = {"relation": self.relation, "variables": list(self.variables)}
        return {**words, **numbers, "units": self.units, "note": self.note}


@dataclass(frozen=True)
class Together:
    """Variables of a prediction and of the truth, harmonised, on one grid and at the same times.

    Attributes:
        prediction: (member, time, y, x) by variable.
        truth: (time, y, x) by variable.
    """

    prediction: Mapping[str, xr.DataArray]
    truth: Mapping[str, xr.DataArray]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(self.truth)

    @cached_property
    def area(self) -> Array:
        """Areas of the cells (y, x)."""
        return Grid.of(self._any).area

    def blocks(self, *names: str) -> Iterator[Cases]:
        """Some variables in blocks of times.

        Raises:
            InputError: where the prediction is missing and the truth is not.
        """
        values = len(names) * (self.prediction[names[0]][:, :1].size + self.area.size)
        for part in parts_of(self._any.sizes["time"], values):
            predicted = np.stack([loaded(self.prediction[name], part) for name in names])
            yield self._cases(predicted, np.stack([loaded(self.truth[name], part) for name in names]), names, self.area)

    def rows(self, *names: str, values: int) -> Iterator[Cases]:
        """Some variables at all times in blocks of rows, each of about so many values."""
        size = len(names) * self.prediction[names[0]][:, :, :1].size
        step = max(1, values // max(1, size))
        for start in range(0, self.area.shape[0], step):
            part = slice(start, start + step)
            predicted, truth = (
                np.stack([loaded(fields[name].isel(y=part), slice(None)) for name in names])
                for fields in (self.prediction, self.truth)
            )
            yield self._cases(predicted, truth, names, self.area[part])

    @property
    def _any(self) -> xr.DataArray:
        return next(iter(self.truth.values()))

    def _cases(self, predicted: Array, truth: Array, names: tuple[str, ...], area: Array) -> Cases:
        known = np.isfinite(truth).all(axis=0)
        missing = int((known & ~np.isfinite(predicted).all(axis=(0, 1))).sum())
        if missing:
            raise InputError(
                f"got {missing} missing values of {' or '.join(names)} in the prediction where the truth has both; "
                "expected a prediction for every one; leave those cells out of the truth too, or predict them"
            )
        return Cases(np.where(known, predicted, np.nan), np.where(known, truth, np.nan), np.where(known, area, 0.0))


@dataclass(frozen=True)
class Cases:
    """Some variables at some times and places, NaN where one of them is not known.

    Attributes:
        prediction: (variable, member, time, y, x).
        truth: (variable, time, y, x).
        weights: areas, 0 where something is not known (time, y, x).
    """

    prediction: Array
    truth: Array
    weights: Array


@dataclass(frozen=True)
class Relation:
    """A relation between variables.

    Attributes:
        name: as in RELATIONS.
        title: for people.
        measure: rows of all groups of variables that it is for; none where it is for none.
    """

    name: str
    title: str
    measure: Callable[[Together], Iterator[RelationScore]]


def every(size: int) -> int:
    """Every which of so many values is taken, so that there are enough: odd, so as not to walk down a column."""
    return max(1, size // _SAMPLED) | 1


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
