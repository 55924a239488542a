"""What an index of the climate is: a statistic of each cell over time, compared with the truth's, averaged by area.

    value = <compare(finish(mean over members(s(prediction))), finish(s(truth)))>

with <.> the mean over cells by area. A score says how near a forecast is day by day; an index says whether the fields
have the right climate: free-running simulations, weather generators and ensembles can be judged by it. The set and the
way it is compared are those of VALUE (Maraun et al. 2015, doi:10.1002/2014EF000259; Gutierrez et al. 2019,
doi:10.1002/joc.5462).

Statistics see columns: cells of all members side by side, values missing where the truth is, so that truth and
predictions are sampled alike. A column with too few values has no index, and no other one suffers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio

_YEAR = 365.25


@dataclass(frozen=True, eq=False)
class Clock:
    """What indices have to know of the times.

    Attributes:
        month: calendar month of each time (time,), 1..12.
        follows: whether a time is one step after the one before it (time,); false for the first one.
        step_days: days from one time to the next.
        years: year of the calendar of each time (time,); by default all times are of one.
    """

    month: NDArray[np.intp]
    follows: NDArray[np.bool_]
    step_days: float = 1.0
    years: NDArray[np.intp] | None = None

    @property
    def year(self) -> NDArray[np.intp]:
        """Year of the calendar of each time (time,)."""
        return np.zeros(len(self.month), dtype=np.intp) if self.years is None else self.years

    @property
    def is_daily(self) -> bool:
        """Whether a value stands for a day."""
        return abs(self.step_days - 1.0) < 0.1


Away = Callable[[slice], Array]
"""Distances (cell, partner) in km from each cell to some partners."""
Partners = Callable[[Callable[[tuple[Array, Away]], Any]], Iterator[Any]]
"""Cells with which others are correlated, block by block: what is to be made of their values (time, member, partner)
and of their distances goes in; that comes out."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Values of some cells over all times.

    Attributes:
        values: (time, member, cell), NaN where missing; precipitation in mm/day.
        clock: about the times.
        partners: all cells, for indices of space.
        width: typical distance in km between neighbouring cells.
        reach: distance in km up to which correlations count.
        truth: the truth of the same cells (time, member, cell), for thresholds that are its own; by default the values.
    """

    values: Array
    clock: Clock
    partners: Partners | None = None
    width: float = np.nan
    reach: float = np.nan
    truth: Array | None = None

    @property
    def columns(self) -> Array:
        """Values (time, member x cell)."""
        return self.values.reshape(len(self.values), -1)


def _difference(prediction: Array, truth: Array) -> Array:
    return prediction - truth


def _ratio(prediction: Array, truth: Array) -> Array:
    return ratio(prediction, truth)


def _relative(prediction: Array, truth: Array) -> Array:
    return 100.0 * (ratio(prediction, truth) - 1.0)


def _around_the_year(prediction: Array, truth: Array) -> Array:
    return (prediction - truth + _YEAR / 2) % _YEAR - _YEAR / 2


@dataclass(frozen=True)
class Comparison:
    """How a predicted statistic is set against the true one.

    Attributes:
        name: in one word.
        of: from predicted and true statistics (cell,) to one value per cell; NaN where the truth is zero in a quotient.
        best: its value for equal statistics.
        units: of the result; None is those of the statistic.
    """

    name: str
    of: Callable[[Array, Array], Array]
    best: float = 0.0
    units: str | None = None


DIFFERENCE = Comparison("difference", _difference)
RATIO = Comparison("ratio", _ratio, best=1.0, units="1")
RELATIVE = Comparison("relative difference", _relative, units="%")
POINTS = Comparison("difference", _difference, units="points")
CIRCULAR = Comparison("difference within the year", _around_the_year)

IN_UNITS = "of the variable"
"""Units of a statistic that has those of the variable."""


@dataclass(frozen=True)
class Kind:
    """What decides which indices there are, and how they are compared.

    Attributes:
        is_rain: whether the variable is precipitation.
        is_daily: whether a value stands for a day.
        months: number of calendar months that the times have.
        cells: number of cells.
        is_temperature: whether the variable is one.
    """

    is_rain: bool
    is_daily: bool
    months: int
    cells: int
    is_temperature: bool = False


def always(kind: Kind) -> bool:
    """Every variable."""
    return True


def rain_by_day(kind: Kind) -> bool:
    """Daily precipitation."""
    return kind.is_rain and kind.is_daily


def temperature_by_day(kind: Kind) -> bool:
    """Daily temperature."""
    return kind.is_temperature and kind.is_daily


def by_day(kind: Kind) -> bool:
    """Daily values."""
    return kind.is_daily


def _only(parts: Array) -> Array:
    return np.asarray(parts[0])


@dataclass(frozen=True)
class Index:
    """One property of the climate of a cell.

    Attributes:
        name: as in INDICES.
        title: for people, short enough for a column.
        statistic: from cells to statistics (part, member x cell).
        comparison: how prediction and truth are compared.
        units: of the statistic: IN_UNITS, or its own.
        rain_comparison: the same for precipitation, where that is another one.
        finish: from parts (part, ...) to the statistic (...).
        applies: for which variables and times there is one.
        needs: what these have to be, for an error message.
        is_spatial: whether it is about pairs of cells and needs `partners`.
    """

    name: str
    title: str
    statistic: Callable[[Cells], Array]
    comparison: Comparison
    units: str = IN_UNITS
    rain_comparison: Comparison | None = None
    finish: Callable[[Array], Array] = _only
    applies: Callable[[Kind], bool] = always
    needs: str = "any variable"
    is_spatial: bool = False

    def compared(self, kind: Kind) -> Comparison:
        """How it is compared for a variable."""
        return self.rain_comparison if kind.is_rain and self.rain_comparison is not None else self.comparison

    def of(self, cells: Cells) -> Array:
        """Statistics (part, cell), averaged over the members that have one."""
        parts = self.statistic(cells)
        return mean_of_known(parts.reshape(len(parts), *cells.values.shape[1:]), axis=1)


def mean_of_known(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Mean over the values that are there, NaN without any."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis).astype(np.float64))


def anomalies(cells: Cells) -> Array:
    """Values (time, column) less the mean of their calendar month over all years."""
    values, result = cells.columns, np.empty_like(cells.columns)
    for month in np.unique(cells.clock.month):
        chosen = cells.clock.month == month
        result[chosen] = values[chosen] - mean_of_known(values[chosen], axis=0)
    return result
