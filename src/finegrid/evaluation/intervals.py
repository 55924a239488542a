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
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, Totals, ratio

LEAST_TIMES = 8
_LEVELS = (0.025, 0.975)
_DAY = 86_400.0


@dataclass(frozen=True)
class Draws:
    """Sets of times drawn with replacement in blocks.

    Attributes:
        starts: first time of each block (draw, block).
        length: times in a block.
        times: number of times there are, and in each draw.
    """

    starts: NDArray[np.int64]
    length: int
    times: int

    @classmethod
    def of(cls, times: int, length: int, *, draws: int = 1000, seed: int = 0) -> Draws:
        """Draw blocks of `length` times until each draw has `times`; the last block is cut."""
        generator = np.random.default_rng(seed)
        starts = generator.integers(0, times - length + 1, size=(draws, -(-times // length)))
        return cls(starts, length, times)

    def means(self, totals: Totals) -> Array:
        """Weighted means (statistic, draw) over each draw."""
        sums = self._over(np.vstack([totals.sums, totals.weights]))
        return ratio(sums[:-1], sums[-1])

    def _over(self, values: Array) -> Array:
        running = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
        ends = self.starts + self.length
        ends[:, -1] -= self.starts.shape[1] * self.length - self.times
        # One by one: all at once would be as many times larger as there are statistics.
        return np.stack([(each[ends] - each[self.starts]).sum(axis=-1) for each in running])


def interval(samples: Array) -> tuple[float, float]:
    """Ends of the interval that holds 95 % of the samples; NaN when there are none."""
    known = samples[~np.isnan(samples)]
    if not known.size:
        return np.nan, np.nan
    # Infinite scores sort like any other, but cannot be interpolated between.
    low, high = np.quantile(known, _LEVELS, method="nearest")
    return float(low), float(high)


def block_length(series: Array, *, step_seconds: float | None = None) -> int:
    """Times in a block, from the error of each time (time,) and the seconds between times."""
    n = len(series)
    day = 1 if not step_seconds else int(np.ceil(_DAY / step_seconds))
    wanted = max(day, int(np.ceil(n ** (1 / 3))), _wilks_length(n, lag_one_correlation(series)))
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
