"""How a record is cut along time: into blocks that are predicted at once, each with the neighbours it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import xarray as xr


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


@dataclass(frozen=True, eq=False)
class Seen:
    """A window of a record.

    Attributes:
        fields: coarse fields of the times that are read, lazily or not.
        window: which times these are.
    """

    fields: xr.Dataset
    window: Window

    def read(self) -> Seen:
        """The same in memory."""
        return Seen(self.fields.load(), self.window)


def seen_by(given: xr.Dataset, wanted: range, *, steps: int, reach: int) -> Iterator[Seen]:
    """Consecutive blocks of some times of a record, lazily; see `windows`."""
    for window in windows(wanted, given.sizes["time"], steps=steps, reach=reach):
        yield Seen(given.isel(time=window.read), window)


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
