"""Differences between the block means of fine data and coarse data, summed cell by cell in one pass over the files.

With A the conservative mean from the fine to the coarse grid, d(t, i) = (A fine)(t, i) - coarse(t, i). Of each
season and cell only sums are kept, about the cell's mean in that season, so that a step from one season to the next
is no weather. Whether the mean of n differences can be told from zero is a t test that knows that neighbouring times
resemble each other (Zwiers and von Storch 1995, doi:10.1175/1520-0442(1995)008<0336:TSCIAI>2.0.CO;2):

    m = n (1 - r) / (1 + r)     independent times, for correlation r of each difference with the next
    error^2 = sum (d - mean)^2 / n / (m - k),    m - k degrees of freedom

k is the number of means taken out: one, or that of the seasons when they are pooled. Taking them out also makes r too
small, by about (1 + 3 r) k / n (Kendall 1954, doi:10.1093/biomet/41.3-4.403), which is put back. Only times of one
season that follow each other without a gap count for r. That weather of one winter differs from that of the next for
slower reasons is not known to r.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from finegrid.data.matching import COVERED
from finegrid.evaluation.averaging import Array, Totals, ratio
from finegrid.evaluation.intervals import LEAST_TIMES
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded
from finegrid.grids import Operator

SEASONS = ("DJF", "MAM", "JJA", "SON")
# Steps longer than this times the usual one are gaps; months of 28 to 31 days are not.
_GAP = 1.5
_MOST_PERSISTENT = 0.99
_LEVEL = 0.975


@dataclass(frozen=True)
class CellSums:
    """Sums over the compared times of each coarse cell, (h, w) each; zero where nothing is compared.

    Attributes:
        times: number of times.
        total: sum of d.
        squares: sum of squares of d about its mean.
        coarse_squares: sum of squares of the coarse field about its mean.
        products: sum of products of coarse field and d about their means.
        pairs: number of times that follow another one.
        lagged: sum of products of d with the one before, about the mean.
        means: number of means taken out, one a season.
    """

    times: Array
    total: Array
    squares: Array
    coarse_squares: Array
    products: Array
    pairs: Array
    lagged: Array
    means: int = 1

    @classmethod
    def of(cls, moments: Array) -> Self:
        """Centred sums from plain ones (10, h, w), in the order of `_moments`."""
        n, c, d, cc, cd, dd, pairs, later, earlier, lagged = moments
        mean, coarse_mean = d / np.maximum(n, 1), c / np.maximum(n, 1)
        squares, coarse_squares = np.maximum(dd - d * mean, 0), np.maximum(cc - c * coarse_mean, 0)
        centred = lagged - mean * (later + earlier) + pairs * mean**2
        return cls(n, d, squares, coarse_squares, cd - c * mean, pairs, centred)

    @classmethod
    def pooled(cls, parts: Sequence[CellSums]) -> Self:
        """Seasons together, each about its own means."""
        names = (each.name for each in fields(cls) if each.name != "means")
        sums = {name: np.sum([getattr(part, name) for part in parts], axis=0) for name in names}
        return cls(**sums, means=sum(part.means for part in parts))

    @property
    def bias(self) -> Array:
        """Mean of d; NaN where nothing is compared."""
        return ratio(self.total, self.times)

    @cached_property
    def persistence(self) -> Array:
        """Correlation of d with the one before, 0..0.99, corrected for the means taken out."""
        found = np.nan_to_num(ratio(self.lagged * self.times, self.squares * self.pairs))
        length = self.times / self.means
        return np.clip((length * found + 1) / np.maximum(length - 3, 1), 0, _MOST_PERSISTENT)

    @cached_property
    def freedom(self) -> Array:
        """Degrees of freedom, at least one; NaN where there are too few times for a test."""
        independent = self.times * (1 - self.persistence) / (1 + self.persistence)
        return np.where(self.times >= LEAST_TIMES, np.maximum(independent - self.means, 1), np.nan)

    @cached_property
    def error(self) -> Array:
        """Standard error of the bias; NaN where there are too few times."""
        return np.sqrt(self.squares / np.maximum(self.times, 1) / self.freedom)

    @property
    def reach(self) -> Array:
        """Half the width of the 95 % interval of the bias."""
        return np.asarray(stats.t.ppf(_LEVEL, self.freedom) * self.error)

    @property
    def chance(self) -> Array:
        """Probability of a bias of this size or more when there is none; NaN where there are too few times."""
        size = np.abs(self.bias)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(size > 0, size / self.error, 0.0)
        return np.asarray(2 * stats.t.sf(distance, self.freedom))


@dataclass(frozen=True)
class Disagreement:
    """All that is kept of the differences.

    Attributes:
        cells: sums of each season that there is.
        season: season of each time (time,).
        totals: area-weighted sums of d over the compared cells of each time.
        weights: area of the compared cells (h, w) in m2, zero elsewhere.
        step: usual seconds between times.
        lowest: smallest coarse value compared.
        highest: largest.
    """

    cells: dict[str, CellSums]
    season: NDArray[np.str_]
    totals: Totals
    weights: Array
    step: float
    lowest: float
    highest: float

    @property
    def difference(self) -> float:
        """Root mean square of d, by area."""
        squares = sum(
            self.weights * (each.squares + each.total**2 / np.maximum(each.times, 1)) for each in self.cells.values()
        )
        times = sum(self.weights * each.times for each in self.cells.values())
        return float(np.sqrt(np.sum(squares) / np.sum(times)))

    @classmethod
    def of(cls, fine: xr.DataArray, coarse: xr.DataArray, operator: Operator) -> Disagreement:
        """Read both fields once, in blocks of times."""
        season, (step, follows) = fine["time"].dt.season.values.astype(str), _steps(fine["time"])
        follows[1:] &= season[1:] == season[:-1]
        moments = {name: np.zeros((10, *operator.target.shape)) for name in SEASONS if (season == name).any()}
        weights = np.where(operator.coverage >= COVERED, operator.target.area, 0.0)
        totals, lowest, highest, offset = [], np.inf, -np.inf, _usual_size(coarse)
        before = np.full((1, *operator.target.shape), np.nan)
        for part, given, difference in _blocks(fine, coarse, operator, weights > 0):
            compared = given[np.isfinite(difference)]
            lowest, highest = compared.min(initial=lowest), compared.max(initial=highest)
            totals.append(Totals.of(difference[None], weights))
            earlier = np.concatenate([before, difference[:-1]])
            earlier[~follows[part]] = np.nan
            for name, sums in moments.items():
                chosen = season[part] == name
                sums += _moments(given[chosen] - offset, difference[chosen], earlier[chosen])
            before = difference[-1:]
        seen = np.sum([sums[0] for sums in moments.values()], axis=0) > 0
        cells = {name: CellSums.of(sums) for name, sums in moments.items()}
        return cls(cells, season, Totals.joined(totals), weights * seen, step, float(lowest), float(highest))


def _steps(time: xr.DataArray) -> tuple[float, NDArray[np.bool_]]:
    """The usual step in seconds, and whether each time comes one step after the one before."""
    steps = np.asarray(pd.to_timedelta(np.diff(time.values)).total_seconds())
    usual = float(np.median(steps))
    return usual, np.concatenate([[False], steps <= _GAP * usual])


def _usual_size(coarse: xr.DataArray) -> float:
    """What is taken off before squares are summed, which would lose digits to that of 300 K."""
    first = loaded(coarse, slice(0, 1))
    return float(np.nansum(first) / max(1, int(np.isfinite(first).sum())))


def _blocks(
    fine: xr.DataArray, coarse: xr.DataArray, operator: Operator, compared: NDArray[np.bool_]
) -> Iterator[tuple[slice, Array, Array]]:
    """Coarse values and differences (time, h, w) of some times after the other; NaN where not compared."""
    ordered = fine.transpose("time", "y", "x")
    for part in parts_of(ordered.sizes["time"], ordered[0].size):
        given = loaded(coarse, part)
        means = operator(ordered.isel(time=part).copy(data=loaded(ordered, part)))
        yield part, given, np.where(compared, means.values - given, np.nan)


def _moments(coarse: Array, difference: Array, earlier: Array) -> Array:
    """Plain sums over times: number, c, d, c c, c d, d d; pairs, d and the d before where both are, their product."""
    known = np.where(np.isfinite(difference), 1.0, np.nan)
    paired = known * np.where(np.isfinite(earlier), 1.0, np.nan)
    c, d = coarse * known, difference
    rows = (known, c, d, c * c, c * d, d * d, paired, d * paired, earlier * paired, d * earlier)
    return np.stack([np.nansum(row, axis=0) for row in rows])
