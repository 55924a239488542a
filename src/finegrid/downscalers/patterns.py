"""Least squares of many cells on one series, with an offset for every month and a slope for every season.

    y(s, t) = b(s, m) + w(s, g) d(t),        m month of t, g its season

Month by month with n known times, means y' and d' over them,

    w(s, g) = sum_m sum_t (d - d') (y - y') / S,    S = sum_m sum_t (d - d')^2,    b(s, m) = y' - w d'

over the months of g (Frisch and Waugh 1933: the slope with offsets is the slope after the means are taken out). In
relative terms the slope is that of y / y', a part of the mean, and y(s, t) = b(s, m) + w(s, g) y'(s, m) d(t).

The standard error allows for anything that times of one year share (Liang and Zeger 1986, doi:10.1093/biomet/73.1.13):

    var w = n / (n - 1) sum_years (sum_t in year (d - d') e)^2 / S^2,        e what is left of y

With fewer than ten years it is that of independent times, sum e^2 / (times - months - 1) / S.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtrit

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

MONTHS = 12
SEASONS: dict[str, tuple[str, ...]] = {
    "all": ("all",),
    "season": ("DJF", "MAM", "JJA", "SON"),
    "month": tuple(map(str, range(1, 13))),
}
# Season of each month from January on.
_SEASON_OF_MONTH: dict[str, list[int]] = {
    "all": [0] * 12,
    "season": [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0],
    "month": list(range(12)),
}
LEAST_YEARS = 10
# Values in work at once: 32 MB as float64.
_AT_ONCE = 1 << 22
# Part of the variance of the series below which a season has none.
_FLAT = 1e-9


@dataclass(frozen=True)
class When:
    """The series and the dates of a regression.

    Attributes:
        series: d (time,), NaN where it is not known.
        month: 0 to 11 (time,).
        year: calendar year (time,).
        by: a name in SEASONS.
    """

    series: Array
    month: Numbers
    year: Numbers
    by: str

    @property
    def season(self) -> Numbers:
        """Index of the season of each month (month,)."""
        return np.array(_SEASON_OF_MONTH[self.by])


@dataclass(frozen=True)
class Patterns:
    """What was learnt of many cells.

    Attributes:
        weights: w (season, cell), 0 where the series says nothing.
        offsets: b (month, cell); months without data have those of the others.
        scales: what a weight is multiplied with (month, cell): 1, or in relative terms y'.
        errors: standard errors of the weights (season, cell), infinite where they cannot be known.
        freedom: degrees of freedom of these errors (season,).
        months: whether a month has data (month,).
    """

    weights: Array
    offsets: Array
    scales: Array
    errors: Array
    freedom: Array
    months: NDArray[np.bool_]

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Weights whose 95 % interval does not include zero (season, cell)."""
        quantile = stdtrit(np.maximum(self.freedom, 1e-3), 0.975)[:, None]
        return np.asarray(np.abs(self.weights) > quantile * self.errors)


@dataclass(frozen=True)
class _Sums:
    """Sums over the known times of each month (month, cell)."""

    count: Array
    series: Array
    squares: Array
    values: Array
    products: Array

    @property
    def spread(self) -> Array:
        """Sums of (d - d')^2."""
        return self.squares - self.series**2 / np.maximum(self.count, 1)

    @property
    def together(self) -> Array:
        """Sums of (d - d') (y - y')."""
        return self.products - self.series * self.values / np.maximum(self.count, 1)


def regress(values: NDArray[np.float32], when: When, *, relative: bool = False) -> Patterns:
    """Patterns of values (time, cell), NaN where missing."""
    sums = _sums(values, when)
    count = np.maximum(sums.count, 1)
    means = sums.values / count
    scales = np.where(sums.count > 0, means, 0.0) if relative else np.ones_like(means)
    seasons = np.eye(when.season.max() + 1)[:, when.season]
    spread = seasons @ sums.spread
    taught = spread > _FLAT * max(float(np.nanvar(when.series)), np.finfo(float).tiny) * (seasons @ sums.count)
    part = np.divide(sums.together, scales, out=np.zeros_like(scales), where=scales > 0)
    weights = np.divide(seasons @ part, spread, out=np.zeros_like(spread), where=taught)
    offsets = means - scales * weights[when.season] * sums.series / count
    errors, freedom = _errors(values, when, (weights, offsets, scales), sums)
    return Patterns(
        weights,
        _filled(offsets, sums.count, seasons),
        _filled(scales, sums.count, seasons),
        np.where(taught, errors, np.inf),
        freedom,
        np.asarray((sums.count > 0).any(axis=1)),
    )


def _filled(numbers: Array, count: Array, seasons: Array) -> Array:
    """Numbers (month, cell), those of months without data the means over the season's other months, or over all."""
    known = (count > 0).astype(np.float64)
    if known.all():
        return numbers
    everywhere = (numbers * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    shared = seasons @ known
    seasonal = np.where(shared > 0, seasons @ (numbers * known) / np.maximum(shared, 1), everywhere)
    return np.where(known > 0, numbers, seasons.T @ seasonal)


def _parts(values: NDArray[np.float32], when: When) -> Iterator[tuple[slice, Array, NDArray[np.bool_]]]:
    """Blocks of times: which, their values with 0 where missing, and where they are known."""
    step = max(1, _AT_ONCE // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        block = values[part].astype(np.float64)
        known = np.isfinite(block) & np.isfinite(when.series[part])[:, None]
        yield part, np.where(known, block, 0.0), known


def _sums(values: NDArray[np.float32], when: When) -> _Sums:
    series = np.nan_to_num(when.series, nan=0.0)
    total = np.zeros((5, MONTHS, values.shape[1]))
    for part, block, known in _parts(values, when):
        d = series[part]
        one = _ones(when.month[part], MONTHS)
        for row, (factor, of) in enumerate(((1, known), (d, known), (d**2, known), (1, block), (d, block))):
            total[row] += one.multiply(factor) @ of
    return _Sums(*total)


def _errors(
    values: NDArray[np.float32], when: When, learnt: tuple[Array, Array, Array], sums: _Sums
) -> tuple[Array, Array]:
    """Standard errors (season, cell) and their degrees of freedom (season,)."""
    weights, offsets, scales = learnt
    every, year = np.unique(when.year, return_inverse=True)
    seasons, series = len(weights), np.nan_to_num(when.series, nan=0.0)
    group = when.season[when.month] * len(every) + year
    scores = np.zeros((seasons * len(every), values.shape[1]))
    squares = np.zeros_like(weights)
    centre = sums.series / np.maximum(sums.count, 1)
    slopes = scales * weights[when.season]
    for part, block, known in _parts(values, when):
        month, d = when.month[part], series[part][:, None]
        scale = np.where(scales > 0, scales, np.inf)[month]
        left = np.where(known, (block - offsets[month] - slopes[month] * d) / scale, 0.0)
        scores += _ones(group[part], len(scores)) @ (left * (d - centre[month]))
        squares += _ones(when.season[month], seasons) @ left**2
    in_season = np.eye(seasons)[:, when.season]
    spread = np.maximum(in_season @ sums.spread, np.finfo(float).tiny)
    clusters = np.array([len(np.unique(year[when.season[when.month] == each])) for each in range(seasons)])
    count = in_season @ sums.count
    alone = count - in_season @ (sums.count > 0) - 1
    plain = np.where(alone > 0, np.sqrt(squares / np.maximum(alone, 1) / spread), np.inf)
    shared = (scores**2).reshape(seasons, len(every), -1).sum(axis=1) * (clusters / np.maximum(clusters - 1, 1))[
        :, None
    ]
    many = clusters >= LEAST_YEARS
    freedom = np.where(many, clusters - 1, np.maximum(alone.max(axis=1), 0))
    return np.where(many[:, None], np.sqrt(shared) / spread, plain), freedom.astype(np.float64)


def _ones(group: Numbers, count: int) -> sparse.csr_array:
    """Ones (group, time) where a time is in a group."""
    return sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(count, len(group)))
