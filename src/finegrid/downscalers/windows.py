"""How a record is cut along time: into blocks that are predicted at once, each with the neighbours it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A block of times, and those that have to be read for it.

    Attributes:
        read: times of the record that are read.
        inner: which of these are predicted; the others are looked at.
        part: whether the record has more times than are read.
    """

    read: slice
    inner: slice
    part: bool = False


def windows(wanted: range, count: int, *, steps: int, reach: int) -> Iterator[Window]:
    """Consecutive blocks of some times of a record.

    Args:
        wanted: times that are predicted.
        count: number of times in the record.
        steps: times in a block; the last may have fewer.
        reach: neighbouring times on either side that a prediction looks at.
    """
    for start in range(wanted.start, wanted.stop, steps):
        stop = min(start + steps, wanted.stop)
        first, last = max(0, start - reach), min(count, stop + reach)
        yield Window(slice(first, last), slice(start - first, stop - first), part=last - first < count)
