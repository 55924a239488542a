"""How unusual a number is among those of training blocks, which resemble their neighbours and may be few.

With l the logarithms of a number of all blocks, m and s their mean and deviation, k how many independent ones they are
worth, and l0 the mean logarithm over the c parts of the new input, the p value is the larger one of

    P(T_{k-1} > (l0 - m) / (s sqrt(q + (1 - q) / c + 1 / k)))          Student's prediction interval, q = 1/4
    (1 + #{l >= l0}) / (1 + #l)                                        conformal: a block among blocks

Where no block reaches l0, the second says only that p is below one in so many. Then it is left out, but for numbers
whose logarithms are far from normal, as shares that mostly are 0, and shifts by what varies slowly. For these it
becomes, beyond the largest l1,

    (1 + (l0 - l1) / (n b))^-n / (k + 1)                  n = k / 4, b: mean excess over the upper quartile,

an exponential tail whose scale is known from so few. q is the part of the variance that the parts of a long input may
share: what is slower than the record cannot be learnt from it. k is the number of blocks over
b var(means of b) / var(l), b an eighth of them, and at most that of blocks side by side.

Sources: Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005 (conformal p value); Flegal and Jones,
Annals of Statistics 38, 2010, doi:10.1214/09-AOS735 (overlapping batch means); the tail is Lomax' distribution, the
predictive one of an exponential whose scale has a conjugate posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import stats

from finegrid.evaluation.averaging import Array

_SHARED = 0.25
_UPPER = 0.75
_BATCHES = 8


@dataclass(frozen=True, eq=False)
class Chances:
    """What is usual, and the chance of more.

    Attributes:
        ordered: logarithms of all blocks, ascending (start,).
        scale: their deviation, not below the least that counts.
        blocks: how many independent ones they are worth.
        skewed: whether what lies beyond them has an exponential tail.
    """

    ordered: Array
    scale: float
    blocks: float
    skewed: bool

    @classmethod
    def of(cls, logs: Array, length: int, *, least: float, skewed: bool) -> Self:
        """Chances from the logarithms of every block of so many rows, in the order of time."""
        return cls(np.sort(logs), max(float(logs.std(ddof=1)), least), independent(logs, length), skewed)

    @property
    def mean(self) -> float:
        """The usual logarithm."""
        return float(self.ordered.mean())

    def p(self, value: float, parts: int) -> float:
        """Chance of a value as large, which is the mean over so many parts."""
        student = float(stats.t.sf((value - self.mean) / self._wide(parts), self.blocks - 1))
        reached = int((self.ordered >= value).sum())
        if reached:
            return max(student, (1 + reached) / (1 + len(self.ordered)))
        return max(student, self._tail(value)) if self.skewed else student

    def limit(self, level: float, parts: int) -> float:
        """The value at which the chance is so small."""
        student = self.mean + self._wide(parts) * float(stats.t.isf(level, self.blocks - 1))
        reached = max(0, int(level * (1 + len(self.ordered))) - 1)
        limit = max(student, float(self.ordered[-1 - reached]))
        return max(limit, self._tail_limit(level)) if self.skewed else limit

    def _wide(self, parts: int) -> float:
        return self.scale * widening(parts, self.blocks)

    def _tail(self, value: float) -> float:
        shape = self.blocks / 4
        return float((1 + (value - self.ordered[-1]) / (shape * self._excess)) ** -shape / (self.blocks + 1))

    def _tail_limit(self, level: float) -> float:
        shape, chance = self.blocks / 4, level * (self.blocks + 1)
        if chance >= 1:  # reached within the blocks
            return -np.inf
        return float(self.ordered[-1] + shape * self._excess * (chance ** (-1 / shape) - 1))

    @property
    def _excess(self) -> float:
        """Mean excess over the upper quartile."""
        quartile = float(np.quantile(self.ordered, _UPPER))
        above = self.ordered[self.ordered > quartile]
        return max(float((above - quartile).mean()) if len(above) else 0.0, self.scale / 10)


def widening(parts: int, blocks: float) -> float:
    """Deviation of the mean over parts from the mean over blocks, in deviations of a block."""
    return float(np.sqrt(_SHARED + (1 - _SHARED) / parts + 1 / blocks))


def block_means(series: Array, length: int) -> Array:
    """Means (start, ...) over every block of so many rows."""
    sums = np.concatenate([np.zeros((1, *series.shape[1:])), series.cumsum(axis=0)])
    return np.asarray((sums[length:] - sums[:-length]) / length)


def independent(series: Array, length: int) -> float:
    """How many independent blocks the numbers of all blocks of so many rows are worth."""
    size, variance = max(1, len(series) // _BATCHES), series.var()
    inflation = size * block_means(series, size).var() / variance if variance > 0 else 1.0
    return float(max(2.0, min(len(series) / max(inflation, 1.0), (len(series) + length - 1) / length)))
