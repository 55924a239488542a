"""Models of the chances of whole numbers 0, ..., K - 1, by which fields are coded (`code_coder`).

    table      p(k) = (how often k was counted) / n, the same for all values
    dressed    p(k) = (1 - e) (Phi((k + 1/2 - m) / d) - Phi((k - 1/2 - m) / d)) + e / K

m is the mean of an ensemble of M members in units of the quantum, and d^2 = (1 + 1/M) s^2 + 1/16: their variance (with
M - 1 in the denominator), that of the mean itself, and a kernel of a quarter of a quantum, so that members which agree
are not taken for certain. What the normal distribution has beyond 0 and K - 1 belongs to these, such as the chance of
no rain. The even part e = 1/256 keeps the cost of a surprise finite: log2(256 K) bits.

In whole numbers below 2^P a symbol k begins at k + floor((2^P - K) F(k)), F the chance of less: it grows with
every symbol, so each has a share, whatever the model thinks of it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.code_coder import MOST_SYMBOLS, WHOLE, Shares, Symbols, bisected

EVEN = 1 / 256
"""e: part of the chances of a dressed ensemble that all symbols share evenly."""
_KERNEL = 0.25
_SPARE = int(WHOLE)


@dataclass(frozen=True, eq=False)
class Table:
    """Symbols as often as they were counted.

    Attributes:
        counts: (symbol,).
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, symbols: Symbols) -> Self:
        """Count symbols (value,) that are not negative."""
        return cls(np.bincount(symbols, minlength=1).astype(np.int64))

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """What `packed` made."""
        return cls(np.frombuffer(zlib.decompress(data), "<u4").astype(np.int64))

    def packed(self) -> bytes:
        """The counts, to be kept beside what they code."""
        return zlib.compress(self.counts.astype("<u4").tobytes(), 9)

    @property
    def symbols(self) -> int:
        return len(self.counts)

    def below(self, at: slice, symbols: Symbols) -> Shares:
        return np.asarray(self._starts[symbols], dtype=np.uint64)

    def symbol_of(self, at: slice, shares: Shares) -> Symbols:
        return np.searchsorted(self._starts, shares, side="right") - 1

    def bits(self, symbols: Symbols) -> float:
        """Sum of -log2 p over symbols (value,)."""
        return float(-np.log2(self.counts[symbols] / self.counts.sum()).sum())

    @cached_property
    def _starts(self) -> Shares:
        """Where each symbol begins (symbol + 1,), in whole numbers, so that it is the same on all machines."""
        counted = np.concatenate([[0], self.counts.cumsum()])
        free = _SPARE - self.symbols
        starts = np.arange(self.symbols + 1) + counted * free // max(int(counted[-1]), 1)
        return np.asarray(starts, dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class Dressed:
    """Symbols normally distributed about the mean of an ensemble.

    Attributes:
        mean: m (value,), in units of the quantum from symbol 0.
        deviation: d (value,).
        symbols: K.
    """

    mean: Array
    deviation: Array
    symbols: int

    def below(self, at: slice, symbols: Symbols) -> Shares:
        chance = less(symbols, self.mean[at], self.deviation[at], self.symbols)
        return (symbols + np.floor(chance * (_SPARE - self.symbols)).astype(np.int64)).astype(np.uint64)

    def symbol_of(self, at: slice, shares: Shares) -> Symbols:
        return bisected(self, at, shares)

    def bits(self, symbols: Symbols) -> float:
        """Sum of -log2 p over symbols (value,)."""
        return float(-np.log2(chances_of(symbols, self.mean, self.deviation, self.symbols)).sum())


def dressing(members: Array, lowest: float, quantum: float) -> tuple[Array, Array]:
    """Mean m and deviation d (...) of members (member, ...), at least two, in quanta from the lowest value."""
    count = len(members)
    variance = (1 + 1 / count) * members.var(axis=0, ddof=1) / quantum**2
    return np.asarray((members.mean(axis=0) - lowest) / quantum), np.sqrt(variance + _KERNEL**2)


def chances_of(symbols: Symbols, mean: Array, deviation: Array, count: int) -> Array:
    """Chances p of symbols (...) of a dressed ensemble with so many of them."""
    return less(symbols + 1, mean, deviation, count) - less(symbols, mean, deviation, count)


def less(symbols: Symbols, mean: Array, deviation: Array, count: int) -> Array:
    """F: the chance of fewer than these symbols in 0, ..., K of a dressed ensemble."""
    normal = ndtr((symbols - 0.5 - mean) / deviation)
    inside = (1 - EVEN) * normal + EVEN * symbols / count
    return np.where(symbols <= 0, 0.0, np.where(symbols >= count, 1.0, inside))


def checked_count(symbols: int, quantum: float) -> int:
    """Number of symbols.

    Raises:
        InputError: when there are too many.
    """
    if symbols > MOST_SYMBOLS:
        raise InputError(
            f"got values that take {symbols} steps of {quantum:g}; expected at most {MOST_SYMBOLS}; choose a larger "
            "quantum"
        )
    return symbols
