"""What is exceeded once in twenty years (or seasons) on average, by two ways of the theory of extremes.

    rl20        from the largest value of each year: generalised extreme values    relative for rain, else difference
    rl20-pot    from peaks over the 95th percentile: generalised Pareto            relative for rain, else difference

Both are fitted by L-moments, from probability-weighted moments b_r of the n ranked values x_1 <= ... <= x_n
(Hosking 1990, doi:10.1111/j.2517-6161.1990.tb01775.x),

    b_r = sum_j (j - 1)...(j - r) / ((n - 1)...(n - r)) x_j / n
    l1 = b_0,  l2 = 2 b_1 - b_0,  l3 = 6 b_2 - 6 b_1 + b_0

    GEV    c = 2 / (3 + l3 / l2) - ln 2 / ln 3,  k = 7.8590 c + 2.9554 c^2
           a = l2 k / ((1 - 2^-k) G(1 + k)),  x = l1 - a (1 - G(1 + k)) / k
           level of T years = x + a (1 - (-ln(1 - 1/T))^k) / k
    GPD    k = l1 / l2 - 2,  a = (1 + k) l1 of the excesses over u  (Hosking and Wallis 1987, doi:10.2307/1269343)
           level of T years = u + a (1 - (rate T)^-k) / k

with G the gamma function. The shape k has the sign of Hosking and SciPy: negative for heavy tails. Peaks are the
largest values of clusters; a cluster ends where three days in a row stay at or below u. Years are those of `years`;
there have to be ten of them, or twenty peaks, and more than one peak in T years.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import DIFFERENCE, RELATIVE, Cells, Clock, Index, by_day
from finegrid.evaluation.indices.moments import column_quantile
from finegrid.evaluation.indices.years import largest, times_of_a_year, year_starts

YEARS = 20.0
LEAST_YEARS = 10
LEAST_PEAKS = 20
_THRESHOLD = 0.95
_APART = 3
# Below it the formulas lose digits, and their limit for k = 0 is as good.
_NO_SHAPE = 1e-6


def l_moments(values: Array) -> Array:
    """L-moments l1, l2, l3 (3, column) of the known values (n, column); NaN below three of them."""
    ranked = np.sort(values, axis=0)  # NaN last
    known = np.isfinite(ranked)
    below = np.arange(len(values), dtype=np.float64)[:, None]
    number = np.where(known.sum(axis=0) > 2, known.sum(axis=0), np.nan)
    filled = np.where(known, ranked, 0.0)
    b0 = filled.sum(axis=0) / number
    b1 = (below * filled).sum(axis=0) / (number * (number - 1))
    b2 = (below * (below - 1) * filled).sum(axis=0) / (number * (number - 1) * (number - 2))
    return np.stack([b0, 2 * b1 - b0, 6 * b2 - 6 * b1 + b0])


@dataclass(frozen=True)
class Extremes:
    """A fitted distribution of extremes in each column.

    Attributes:
        place: x of the generalised extreme values, u of the generalised Pareto (column,).
        scale: a.
        shape: k, of the sign of Hosking and SciPy.
    """

    place: Array
    scale: Array
    shape: Array

    @classmethod
    def of_maxima(cls, moments: Array) -> Extremes:
        """Generalised extreme values with the L-moments (3, column)."""
        l1, l2, l3 = moments
        away = 2 / (3 + ratio(l3, l2)) - np.log(2) / np.log(3)
        shape = _shape(7.8590 * away + 2.9554 * away**2)
        flat = np.abs(shape) < _NO_SHAPE
        k = np.where(flat, _NO_SHAPE, shape)
        scale = np.where(flat, l2 / np.log(2), l2 * k / ((1 - 2.0**-k) * gamma(1 + k)))
        place = np.where(flat, l1 - np.euler_gamma * scale, l1 - scale * (1 - gamma(1 + k)) / k)
        return cls(np.where(l2 > 0, place, l1), np.where(l2 > 0, scale, l2), shape)

    @classmethod
    def of_excesses(cls, threshold: Array, moments: Array) -> Extremes:
        """Generalised Pareto above a threshold (column,) with the L-moments (3, column) of the excesses."""
        shape = _shape(ratio(moments[0], moments[1]) - 2)
        return cls(threshold, (1 + shape) * moments[0], shape)

    def level(self, rarity: Array) -> Array:
        """Values place + scale (1 - y^k) / k for the rarities y, (column,) or more of them (n, column)."""
        flat = np.abs(self.shape) < _NO_SHAPE
        k = np.where(flat, 1.0, self.shape)
        return np.asarray(self.place + self.scale * np.where(flat, -np.log(rarity), (1 - rarity**k) / k))


def _shape(found: Array) -> Array:
    return np.where(np.isfinite(found), found, 0.0)


@dataclass(frozen=True)
class Maxima:
    """The largest value of each year.

    Attributes:
        values: (year, column); NaN for a year that does not count.
    """

    values: Array

    @cached_property
    def base(self) -> Array:
        """What levels are measured from (column,): their mean."""
        return np.asarray(l_moments(self.values)[0])

    def level(self, years: float) -> Array:
        """Return level (column,) of so many years."""
        enough = np.isfinite(self.values).sum(axis=0) >= LEAST_YEARS
        level = self._fitted.level(np.full(enough.shape, -np.log1p(-1 / years)))
        return np.where(enough, level, np.nan)

    def redrawn(self, random: np.random.Generator) -> Maxima:
        """As many values drawn from the fitted distribution."""
        drawn = self._fitted.level(random.exponential(size=self.values.shape))
        return Maxima(np.where(np.isfinite(self.values), drawn, np.nan))

    @cached_property
    def _fitted(self) -> Extremes:
        return Extremes.of_maxima(l_moments(self.values))


@dataclass(frozen=True)
class Peaks:
    """The largest values of clusters above a threshold.

    Attributes:
        excess: over the threshold (peak, column); NaN behind the last peak of a column.
        base: the threshold u, what levels are measured from (column,).
        years: how many are known (column,).
    """

    excess: Array
    base: Array
    years: Array

    @classmethod
    def of(cls, values: Array, clock: Clock) -> Peaks:
        """Peaks of values (time, column)."""
        threshold = column_quantile(values, _THRESHOLD)
        with np.errstate(invalid="ignore"):
            above = values > threshold
        begins = above & _begins(above, clock)
        # Column by column: the clusters are then runs of the values above the threshold.
        starts = np.flatnonzero(begins.T[above.T])
        column = np.nonzero(above.T)[0][starts]
        peak = np.arange(len(starts)) - np.searchsorted(column, column)
        excess = np.full((int(peak.max(initial=-1)) + 1, values.shape[1]), np.nan)
        if len(starts):
            excess[peak, column] = np.maximum.reduceat(values.T[above.T], starts) - threshold[column]
        return cls(excess, threshold, np.isfinite(values).sum(axis=0) / times_of_a_year(clock))

    def level(self, years: float) -> Array:
        """Return level (column,) of so many years."""
        number = np.isfinite(self.excess).sum(axis=0)
        expected = ratio(number, self.years) * years
        enough = (number >= LEAST_PEAKS) & (expected > 1)
        return np.where(enough, self._fitted.level(1 / np.where(enough, expected, 1.0)), np.nan)

    def redrawn(self, random: np.random.Generator) -> Peaks:
        """Peaks of the fitted distribution, as many as chance has it."""
        number = random.poisson(np.isfinite(self.excess).sum(axis=0))
        shape = int(number.max(initial=0)), len(number)
        drawn = self._fitted.level(random.uniform(size=shape)) - self.base
        return Peaks(np.where(np.arange(shape[0])[:, None] < number, drawn, np.nan), self.base, self.years)

    @cached_property
    def _fitted(self) -> Extremes:
        return Extremes.of_excesses(self.base, l_moments(self.excess))


def _begins(above: NDArray[np.bool_], clock: Clock) -> NDArray[np.bool_]:
    """Where a value above the threshold (time, column) is the first one of its cluster."""
    # Dates in steps; a gap is as good as days below the threshold.
    date = np.cumsum(np.where(clock.follows, 1, _APART + 1))[:, None]
    before = np.full(above.shape, -_APART - 1)
    before[1:] = np.maximum.accumulate(np.where(above, date, -_APART - 1), axis=0)[:-1]
    return np.asarray(date - before > _APART)


def _by_maxima(cells: Cells) -> Array:
    if len(year_starts(cells.clock)) < LEAST_YEARS:
        return _nothing(cells)  # which is what it would come to
    return Maxima(largest(cells.columns, cells.clock)).level(YEARS)[None]


def _by_peaks(cells: Cells) -> Array:
    # No more peaks than values above the threshold, but for those between which it is interpolated.
    if (1 - _THRESHOLD) * len(cells.columns) + 1 < LEAST_PEAKS:
        return _nothing(cells)
    return Peaks.of(cells.columns, cells.clock).level(YEARS)[None]


def _nothing(cells: Cells) -> Array:
    return np.full((1, cells.columns.shape[1]), np.nan)


RETURN_LEVEL = Index(
    "rl20",
    "20-year level, from maxima",
    _by_maxima,
    DIFFERENCE,
    rain_comparison=RELATIVE,
    applies=by_day,
    needs="one value a day or more",
)
RETURN_LEVEL_OF_PEAKS = Index(
    "rl20-pot",
    "20-year level, from peaks",
    _by_peaks,
    DIFFERENCE,
    rain_comparison=RELATIVE,
    applies=by_day,
    needs="one value a day or more",
)
