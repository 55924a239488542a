"""One longitude axis out of every way to write it down, and the way back.

Files count from 0 to 360 or from -180 to 180, store a domain across Greenwich or the date line wrapped (350,
355, 0, 5) or sorted (0, 5, 350, 355), and run east or west. Harmonised longitudes ascend without a jump. A
domain that does not close around the globe starts in [-180, 180), so that the same place has the same
longitude in every file: 330..30 becomes -30..30 and 170..-170 becomes 170..190. A global axis keeps its
start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CIRCLE = 360.0
# A gap this much wider than the typical spacing is where the domain ends; else it closes around the globe.
_OPEN = 1.5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Turned:
    """How the user's longitudes become continuous ones.

    Attributes:
        order: index of the user's column for every harmonised column.
        turns: whole circles to take off the user's value, per harmonised column.
        westward: the user's columns run from east to west.
        ascending: the user's values ascend although the domain is cut in their middle (0, 5, 350, 355).
        lowest: the user's values lie in [lowest, lowest + 360).
    """

    order: NDArray[np.intp]
    turns: Array
    westward: bool
    ascending: bool
    lowest: float


def continuous(longitudes: Array) -> Turned:
    """Order and turns that make the user's longitudes (n,) ascend without a jump."""
    count = len(longitudes)
    steps = (np.diff(longitudes) + 180.0) % _CIRCLE - 180.0
    westward = bool(count > 1 and np.median(steps) < 0)
    columns = np.arange(count)[::-1] if westward else np.arange(count)
    eastward = longitudes[columns]
    first, closed = _start(eastward)
    start = eastward[first] if closed else (eastward[first] + 180.0) % _CIRCLE - 180.0
    position = (eastward - eastward[first]) % _CIRCLE
    # Rounding can make the first column, or its neighbour, look a whole circle away from where it is.
    position[np.isclose(position, _CIRCLE, rtol=0, atol=1e-9)] = 0.0
    order = np.argsort(position, kind="stable")
    turns = np.round((eastward - position - start) / _CIRCLE)[order]
    unmoved = bool(np.array_equal(order, np.arange(count)) and np.ptp(turns) == 0)
    ascending = not unmoved and bool(np.all(np.diff(eastward) > 0))
    return Turned(columns[order], turns, westward, ascending, _lowest(longitudes, unmoved))


def returned(longitudes: Array, lowest: float) -> Array:
    """Longitudes within [lowest, lowest + 360)."""
    turned: Array = longitudes - _CIRCLE * np.floor((longitudes - lowest) / _CIRCLE)
    # Adding a circle rounds (-179.9 -> 180.1 and back); no file gives longitudes to 1e-12 degrees.
    return np.where(turned == longitudes, longitudes, np.round(turned, 12))


def _start(eastward: Array) -> tuple[int, bool]:
    """The westernmost column, and whether the columns close around the globe."""
    wrapped = eastward % _CIRCLE
    around = np.argsort(wrapped, kind="stable")
    gaps = np.diff(wrapped[around], append=wrapped[around[0]] + _CIRCLE)
    if len(gaps) > 1 and gaps.max() < _OPEN * np.median(gaps):
        return 0, True
    return int(around[(np.argmax(gaps) + 1) % len(around)]), False


def _lowest(longitudes: Array, unmoved: bool) -> float:
    """Where the user's circle starts: in the middle of what the domain leaves out; at 0 or -180 if it wraps."""
    low, high = float(longitudes.min()), float(longitudes.max())
    if unmoved:
        return low - (_CIRCLE - (high - low)) / 2
    base = -180.0 if low < 0 else 0.0
    # A hair's breadth, so that rounding does not send 0 to 360, or to keep a 360 where the user has one.
    return base + (1e-9 if high >= base + _CIRCLE else -1e-9)
