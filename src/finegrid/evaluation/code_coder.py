"""Whole numbers as few bits as a model of their chances allows, and back without loss: range coding in many streams.

A coder keeps a whole number s. A value that has the share f of 2^P, of which c lies below it, makes it

    s' = (s // f) 2^P + s mod f + c,

which is s times 2^P / f, up to rounding: the code grows by -log2(f / 2^P) bits a value. The value is found again from
s' mod 2^P, which lies in [c, c + f), and so is s: what was coded last comes out first. So that s fits into 64 bits, its
lower 32 are written out when it would grow too large, and read when it gets too small. All is in whole numbers: the way
back is exact.

One stream takes a step of a Python loop for each value. Here value i goes to stream i mod S, all streams
take their steps together as arrays, and write to one list of words. A stream costs about 48 bits beside what the model
says, and there are so few that this is less than three thousandths wherever a value has one bit or more, and less than
0.003 bits of a value that has less.

Source: Duda 2013, arXiv:1311.2540; that the size is -log2 p: Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x;
that a model is judged by it: Deletang et al. 2024, arXiv:2309.10668.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError

PRECISION = 24
"""P: chances are shares of 2^P."""
WHOLE = np.uint64(1 << PRECISION)
MOST_SYMBOLS = 1 << 20
"""More symbols would leave too little of 2^P to the likely ones."""
_LEAST_STATE = np.uint64(1 << 31)
_LOWER = np.uint64(0xFFFFFFFF)
_WORD, _BITS = np.uint64(32), np.uint64(PRECISION)
_BITS_A_STREAM, _STEPS, _MOST_STREAMS = 1 << 14, 1 << 14, 1 << 12

Symbols = NDArray[np.int64]
Shares = NDArray[np.uint64]


class Chances(Protocol):
    """How likely each of the symbols 0, ..., K - 1 is, for every value to be coded."""

    @property
    def symbols(self) -> int:
        """K, at most MOST_SYMBOLS."""

    def below(self, at: slice, symbols: Symbols) -> Shares:
        """The share of 2^P that lies below symbols in 0, ..., K of the values `at`; it grows with every symbol."""

    def symbol_of(self, at: slice, shares: Shares) -> Symbols:
        """The symbols in whose share these numbers lie."""


@dataclass(frozen=True, eq=False)
class Streams:
    """Coded values.

    Attributes:
        words: what was written out (word,), in the order in which it is read.
        states: of the streams (stream,).
        count: number of values.
    """

    words: NDArray[np.uint32]
    states: NDArray[np.uint64]
    count: int

    @property
    def bits(self) -> int:
        """Size of words and states."""
        return 32 * len(self.words) + 64 * len(self.states)


def encode(symbols: Symbols, chances: Chances) -> Streams:
    """Code symbols (value,)."""
    starts, shares = _shares(symbols, chances)
    bits = float((PRECISION - np.log2(shares)).sum())
    streams = int(np.clip(max(bits / _BITS_A_STREAM, len(symbols) / _STEPS), 1, _MOST_STREAMS))
    states, written = np.full(streams, _LEAST_STATE), []
    for step in reversed(range(0, len(symbols), streams)):
        share, start = shares[step : step + streams], starts[step : step + streams]
        state = states[: len(share)]
        full = state >= share << np.uint64(63 - PRECISION)
        written.append((state[full] & _LOWER).astype(np.uint32))
        state[full] >>= _WORD
        times, rest = np.divmod(state, share)
        state[:] = (times << _BITS) + rest + start
    words = np.concatenate([*reversed(written), np.zeros(0, np.uint32)])
    return Streams(words, states, len(symbols))


def decode(streams: Streams, chances: Chances) -> Symbols:
    """The symbols (value,) that were coded with the same chances.

    Raises:
        InputError: when the streams are damaged, or were coded with other chances.
    """
    states, words, read = streams.states.copy(), streams.words.astype(np.uint64), 0
    symbols = np.empty(streams.count, np.int64)
    for step in range(0, streams.count, len(states)):
        at = slice(step, min(step + len(states), streams.count))
        state = states[: at.stop - step]
        within = state & (WHOLE - np.uint64(1))
        symbols[at] = chances.symbol_of(at, within)
        start, end = (chances.below(at, symbols[at] + each) for each in (0, 1))
        state[:] = (end - start) * (state >> _BITS) + within - start
        low = np.flatnonzero(state < _LEAST_STATE)
        if read + len(low) > len(words):
            raise _damaged()
        state[low] = (state[low] << _WORD) | words[read : read + len(low)]
        read += len(low)
    if read != len(words) or (states != _LEAST_STATE).any():
        raise _damaged()
    return symbols


def bisected(chances: Chances, at: slice, shares: Shares) -> Symbols:
    """`symbol_of` of chances that have no faster way: the last symbol below which there is no more than that."""
    low, high = np.zeros(len(shares), np.int64), np.full(len(shares), chances.symbols, np.int64)
    for _ in range(int(chances.symbols).bit_length()):
        middle = (low + high) // 2
        under = chances.below(at, middle) <= shares
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return low


def _shares(symbols: Symbols, chances: Chances) -> tuple[Shares, Shares]:
    """Where the share of each symbol begins, and how large it is."""
    every = slice(0, len(symbols))
    start = chances.below(every, symbols)
    return start, chances.below(every, symbols + 1) - start


def _damaged() -> InputError:
    return InputError(
        "got a code that does not end where it should; expected one that was made with the same model and prediction; "
        "read it with those, or code the field again"
    )
