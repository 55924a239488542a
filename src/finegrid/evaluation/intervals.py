"""How sure a score is: 95 % intervals by the moving-block bootstrap over times.

(Kunsch 1989, doi:10.1214/aos/1176347265.)

Errors of neighbouring times resemble each other, so times are not drawn one by one but in blocks of L, which
may start anywhere. A draw needs only the sums of each time (`averaging`); sums over a block are differences
of a running sum, so a thousand draws cost next to nothing. All methods are judged on the same draws, which
makes differences between them paired.

The length of a block has to exceed the memory of the errors. By default it is the largest of

    one day of times                                   errors follow the sun
    n^(1/3)                                            the rate at which the bootstrap is consistent
    (n - L + 1)^(2/3 (1 - n'/n)), n' = n (1 - r) / (1 + r)   the rule of Wilks 1997 for lag-one correlation r
                                                       (doi:10.1175/1520-0442(1997)010<0065:RHTFAF>2.0.CO;2)

and at most a quarter of the times. Below eight times there is no interval.

Blocks cut the memory off at their ends, and few blocks know little of their own spread, so that 95 % of the draws are
too narrow. They are widened by

    w = t(n/L - 1) / z * sqrt(max(V(l, r) / V(L, 0) * n / (n - l), n / (n - L))),    l = n^(1/3)
    V(l, r) = l / (1 - r)^2 * mean over blocks of (mean over l times of u(t) - r u(t - 1))^2

with t and z Student's and the normal quantile 0.975, u(t) what time t adds to the score (day by day, about its mean)
and r its lag-one correlation, corrected for the mean taken out (Kendall 1954, doi:10.1093/biomet/41.3-4.403): V is the
variance of a mean of correlated values, taken from blocks of what an autoregression leaves over and then put together
again (prewhitening, Andrews and Monahan 1992, doi:10.2307/2951574). Differences are stretched about the estimate.
Scores, which have a range that they must not leave, get quantiles farther out instead, of Phi(-w z) (Hesterberg 2015,
doi:10.1080/00031305.2015.1089789). Of months, the wave of the year is taken out first: errors that are large every
summer are no memory.

How often the interval holds the true difference of the mean squared errors of two methods, in % of 4000 pairs whose
errors are autoregressive with the lag-one correlation r over n days (standard error 0.35; in brackets not widened):

    n       r = 0          r = 0.3        r = 0.6        r = 0.8
    100     94.7 (92.3)    94.7 (91.8)    94.0 (88.4)    95.0 (83.8)
    200     94.3 (92.8)    94.6 (93.0)    94.2 (90.4)    94.6 (86.7)
    400     95.1 (94.1)    94.5 (93.0)    94.2 (92.0)    95.1 (89.8)
    1000    94.3 (93.9)    95.3 (94.7)    95.2 (93.5)    95.0 (92.0)

The interval of a single RMSE, which is skewed, holds it in 92 to 95 %, and in 88 % at n = 100 and r = 0.8. Where slow
weather hides beneath fast (correlations 0.95 and 0.3, a third and two thirds of the variance), the difference is held
in 86 to 87 %: the lag-one correlation does not know of it. Errors that swing back are held too often (98 %).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from finegrid.evaluation.averaging import Array, Totals, ratio

LEAST_TIMES = 8
_LEVELS = (0.025, 0.975)
_NORMAL = float(stats.norm.ppf(_LEVELS[1]))
_DAY, _YEAR = 86_400.0, 365.25
# Steps in days, and times in a year, from which on the course of the year is told from chance.
_LONG, _LEAST_IN_A_YEAR = 5, 6
_MOST_PERSISTENT = 0.97


@dataclass(frozen=True)
class Draws:
    """Sets of times drawn with replacement in blocks.

    Attributes:
        starts: first time of each block (draw, block).
        length: times in a block.
        times: number of times there are, and in each draw.
        day: times of a day, whose course is no chance.
        year: times of a year, where these are few and there are two years of them: its course is no chance either.
    """

    starts: NDArray[np.int64]
    length: int
    times: int
    day: int = 1
    year: float = 0.0

    @classmethod
    def of(
        cls, times: int, length: int, *, draws: int = 1000, seed: int = 0, step_seconds: float | None = None
    ) -> Draws:
        """Draw blocks of `length` times until each draw has `times`; the last block is cut.

        Args:
            times: there are.
            length: of a block.
            draws: number of them.
            seed: of the random numbers.
            step_seconds: between times; it says which of them make a day, and a year.
        """
        generator = np.random.default_rng(seed)
        starts = generator.integers(0, times - length + 1, size=(draws, -(-times // length)))
        day = max(1, min(_times_a_day(step_seconds), length))
        return cls(starts, length, times, day, _times_a_year(step_seconds, times))

    def means(self, totals: Totals) -> Array:
        """Weighted means (statistic, draw) over each draw."""
        sums = self._over(np.vstack([self._steady(totals), totals.weights]))
        return ratio(sums[:-1], sums[-1])

    def without(self, totals: Totals) -> Array:
        """Weighted means (statistic, day) over all times but one day's: what each day does to a score (jackknife)."""
        starts = np.arange(0, self.times, self.day)
        sums, weights = (np.add.reduceat(each, starts, axis=-1) for each in (self._steady(totals), totals.weights))
        return ratio(sums.sum(axis=1, keepdims=True) - sums, weights.sum() - weights)

    def widening(self, scores: Array) -> float:
        """How much wider than 95 % of the draws an interval has to be, from the scores without each day (day,)."""
        blocks = max(2.0, self.times / self.length)
        understated = _understated(scores, max(1, round(self.length / self.day)))
        wider = stats.t.ppf(_LEVELS[1], blocks - 1) / _NORMAL
        return float(wider * np.sqrt(max(understated, blocks / (blocks - 1))))

    def _steady(self, totals: Totals) -> Array:
        """Sums (statistic, time) without the wave of the year, which every draw would have in another part."""
        if not self.year:
            return totals.sums
        means = np.stack([_without_course(each, self.year) for each in ratio(totals.sums, totals.weights)])
        return np.nan_to_num(means) * totals.weights

    def _over(self, values: Array) -> Array:
        running = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
        ends = self.starts + self.length
        ends[:, -1] -= self.starts.shape[1] * self.length - self.times
        # One by one: all at once would be as many times larger as there are statistics.
        return np.stack([(each[ends] - each[self.starts]).sum(axis=-1) for each in running])


def interval(samples: Array, *, widening: float = 1.0, centre: float | None = None) -> tuple[float, float]:
    """Ends of the interval that holds 95 % of the samples, or more of them where it is widened; NaN without any.

    Args:
        samples: of the bootstrap (draw,).
        widening: see `Draws.widening`.
        centre: the estimate, for a difference that can have any size; the interval is stretched about it.
    """
    known = samples[~np.isnan(samples)]
    if not known.size:
        return np.nan, np.nan
    stretched = centre is not None and np.isfinite(centre)
    beyond = float(stats.norm.cdf(-_NORMAL * (1.0 if stretched else widening)))
    # Infinite scores sort like any other, but cannot be interpolated between.
    low, high = np.quantile(known, (beyond, 1 - beyond), method="nearest")
    if stretched:
        low, high = centre + widening * (low - centre), centre + widening * (high - centre)
    return float(low), float(high)


def _times_a_day(step_seconds: float | None) -> int:
    """Times in a day for the seconds between times; one for longer steps, or unknown ones."""
    return 1 if not step_seconds else int(np.ceil(_DAY / step_seconds))


def _times_a_year(step_seconds: float | None, times: int) -> float:
    """Times in a year for long steps and at least two years of them; zero otherwise."""
    if not step_seconds or step_seconds < _LONG * _DAY:
        return 0.0
    year = _YEAR * _DAY / step_seconds
    return year if _LEAST_IN_A_YEAR <= year <= times / 2 else 0.0


def _without_course(series: Array, year: float) -> Array:
    """Values (time,) less the wave of a year that fits them best; as they are where there is none."""
    if not year:
        return series
    phase = 2 * np.pi * np.arange(len(series)) / year
    waves, known = np.stack([np.ones(len(series)), np.cos(phase), np.sin(phase)], axis=1), np.isfinite(series)
    fitted = np.linalg.lstsq(waves[known], series[known], rcond=None)[0]
    # A wave that fits takes a part of chance with it.
    left = (series - waves @ fitted) * np.sqrt(known.sum() / max(1, known.sum() - 2))
    return np.asarray(series[known].mean() + left)


def block_length(series: Array, *, step_seconds: float | None = None) -> int:
    """Times in a block, from the error of each time (time,) and the seconds between times."""
    n = len(series)
    persistence = lag_one_correlation(_without_course(series, _times_a_year(step_seconds, n)))
    wanted = max(_times_a_day(step_seconds), int(np.ceil(n ** (1 / 3))), _wilks_length(n, persistence))
    return max(1, min(wanted, n // 4))


def lag_one_correlation(series: Array) -> float:
    """Correlation of each value with the next one, between 0 and 0.99; zero for constants."""
    known = series[np.isfinite(series)]
    if len(known) < 3 or not known.std() > 0:
        return 0.0
    anomaly = known - known.mean()
    return float(np.clip((anomaly[1:] * anomaly[:-1]).sum() / (anomaly**2).sum(), 0.0, 0.99))


def _wilks_length(n: int, correlation: float) -> int:
    # The right-hand side falls as the length grows, so the first length that reaches it is the solution.
    power = 2 / 3 * (1 - (1 - correlation) / (1 + correlation))
    return next(length for length in range(1, n + 1) if length >= (n - length + 1) ** power)


def _understated(series: Array, length: int) -> float:
    """Variance of a mean of correlated values (time,) as a multiple of what blocks of `length` make of it."""
    n, mean = len(series), series[np.isfinite(series)].mean() if np.isfinite(series).any() else 0.0
    anomaly = np.where(np.isfinite(series), series - mean, 0.0)
    seen = _of_blocks(anomaly, length)
    if n < LEAST_TIMES or not seen > 0:
        return 1.0
    short, persistence = int(np.ceil(n ** (1 / 3))), _persistence(anomaly)
    left = anomaly[1:] - persistence * anomaly[:-1]
    return _of_blocks(left - left.mean(), short) / (1 - persistence) ** 2 * n / (n - short) / seen


def _persistence(anomaly: Array) -> float:
    n = len(anomaly)
    return float(np.clip((n * lag_one_correlation(anomaly) + 1) / (n - 3), 0.0, _MOST_PERSISTENT))


def _of_blocks(anomaly: Array, length: int) -> float:
    """Mean square of the means of all blocks, times their length."""
    running = np.concatenate([[0.0], anomaly.cumsum()])
    return float(((running[length:] - running[:-length]) ** 2).mean() / length)
