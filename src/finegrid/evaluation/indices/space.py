"""How far the weather of a cell reaches.

    length    L of exp(-d / L), fitted to the correlations of a cell with all others at distance d    ratio

A sample of cells, spread evenly over the domain, is correlated over time with every cell, values being less the mean of
their calendar month. The correlations of each are averaged in rings as wide as a cell, and L is the e-folding distance
in km that fits them best (least squares, every ring alike) out to half of the largest distance: farther rings hold few
cells. L may be larger than the domain. Half a cell is the least and a hundred domains are the most that is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import RATIO, Away, Cells, Clock, Index, Kind, anomalies

_LEAST_RINGS = 3
_LEAST_CELLS = 16
_TRIED = 400
_FARTHEST = 100.0
# Partners at once: a hundred correlations of each stay in the caches.
_AT_ONCE = 1 << 10


def _centred(values: Array, clock: Clock) -> Array:
    """Anomalies (member, time, column) of (time, member, column)."""
    times, members, columns = values.shape
    found = anomalies(Cells(values, clock)).reshape(times, members, columns)
    return found.transpose(1, 0, 2)


def correlations(first: Array, second: Array) -> Array:
    """Correlation over the times that both have (member, cell, partner) of values (member, time, cell or partner)."""
    if np.isfinite(first).all() and np.isfinite(second).all():
        x, y = (_standardised(each) for each in (first, second))
        return np.asarray(x.transpose(0, 2, 1) @ y)
    left, right = np.isfinite(first).astype(np.float64), np.isfinite(second).astype(np.float64)
    x, y = np.where(left > 0, first, 0.0), np.where(right > 0, second, 0.0)
    x_rows, left_rows = x.transpose(0, 2, 1), left.transpose(0, 2, 1)
    count = left_rows @ right
    x_mean, y_mean = ratio(x_rows @ right, count), ratio(left_rows @ y, count)
    shared = ratio(x_rows @ y, count) - x_mean * y_mean
    x_spread = ratio((x_rows**2) @ right, count) - x_mean**2
    y_spread = ratio(left_rows @ y**2, count) - y_mean**2
    return ratio(shared, np.sqrt(np.maximum(x_spread, 0) * np.maximum(y_spread, 0)))


def _standardised(values: Array) -> Array:
    """Values (member, time, cell) without gaps, of mean zero and length one over time; NaN where they do not vary."""
    centred = values - values.mean(axis=1, keepdims=True)
    return ratio(centred, np.sqrt((centred**2).sum(axis=1, keepdims=True)))


@dataclass
class Rings:
    """Sums of correlations in rings around each cell.

    Attributes:
        width: of a ring in km.
        total: sums (member, cell, ring).
        count: numbers of correlations.
        distance: sums of distances.
    """

    width: float
    total: Array
    count: Array
    distance: Array

    @classmethod
    def empty(cls, members: int, cells: int, rings: int, width: float) -> Rings:
        """Nothing yet."""
        return cls(width, *(np.zeros((members, cells, rings)) for _ in range(3)))

    def fresh(self) -> Rings:
        """The same rings, with nothing taken in yet."""
        members, cells, rings = self.total.shape
        return Rings.empty(members, cells, rings, self.width)

    def include(self, other: Rings) -> None:
        """Take in what was summed elsewhere."""
        self.total += other.total
        self.count += other.count
        self.distance += other.distance

    def add(self, found: Array, distance: Array) -> None:
        """Take in correlations (member, cell, partner) at distances (cell, partner)."""
        _, cells, rings = self.total.shape
        # One ring more for what lies beyond the last.
        ring = np.minimum(np.rint(distance / self.width).astype(np.intp), rings)
        ring += np.arange(cells)[:, None] * (rings + 1)

        def summed(weights: Array) -> Array:
            sums = np.bincount(ring.ravel(), weights.ravel(), cells * (rings + 1)).reshape(cells, -1)
            sums[:, 0] = 0  # the ring around zero is the cell itself
            return np.asarray(sums[:, :rings], dtype=np.float64)

        for member, values in enumerate(found):
            known = np.isfinite(values)
            self.total[member] += summed(np.where(known, values, 0.0))
            self.count[member] += summed(known)
            self.distance[member] += summed(np.where(known, distance, 0.0))

    def lengths(self) -> Array:
        """E-folding distances (member, cell) in km."""
        mean, distance = ratio(self.total, self.count), ratio(self.distance, self.count)
        return e_folding(mean, distance, self.width / 2, self.width * self.total.shape[-1])


def e_folding(correlation: Array, distance: Array, shortest: float, reach: float) -> Array:
    """L (...) of exp(-d / L) nearest to correlations (..., ring) out to `reach`; NaN with fewer than three rings."""
    known = np.isfinite(correlation)
    tried = np.geomspace(shortest, reach * _FARTHEST, _TRIED)
    errors = np.stack([_misfit(correlation, distance, known, each) for each in tried])
    best = np.clip(errors.argmin(axis=0), 1, _TRIED - 2)
    before, at, after = (np.take_along_axis(errors, (best + step)[None], axis=0)[0] for step in (-1, 0, 1))
    # The lowest point of the parabola through three neighbours.
    shift = 0.5 * np.clip(ratio(before - after, before - 2 * at + after), -1, 1)
    step = np.log(tried[1] / tried[0])
    found = tried[best] * np.exp(np.nan_to_num(shift) * step)
    return np.where(known.sum(axis=-1) >= _LEAST_RINGS, found, np.nan)


def _misfit(correlation: Array, distance: Array, known: NDArray[np.bool_], length: float) -> Array:
    difference = np.where(known, correlation - np.exp(-np.where(known, distance, 0.0) / length), 0.0)
    return np.asarray((difference**2).sum(axis=-1))


def _length(cells: Cells) -> Array:
    if cells.partners is None:
        raise ValueError("correlations in space need partners")
    own = _centred(cells.values, cells.clock)
    rings = Rings.empty(own.shape[0], own.shape[2], 1 + int(np.ceil(cells.reach / cells.width)), cells.width)
    for found in cells.partners(partial(_around, own, cells.clock, rings)):
        rings.include(found)
    return rings.lengths().reshape(1, -1)


def _around(own: Array, clock: Clock, empty: Rings, partners: tuple[Array, Away]) -> Rings:
    """Rings of the correlations with partners, of which these are the values and the distances."""
    values, distance = partners
    rings = empty.fresh()
    for start in range(0, values.shape[-1], _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        rings.add(correlations(own, _centred(values[..., some], clock)), distance(some))
    return rings


def _many_cells(kind: Kind) -> bool:
    return kind.cells >= _LEAST_CELLS


LENGTH = Index(
    "length",
    "correlation length",
    _length,
    RATIO,
    units="km",
    applies=_many_cells,
    needs=f"a grid of {_LEAST_CELLS} cells or more",
    is_spatial=True,
)
