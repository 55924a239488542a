"""Cells around a sample of cells: their values, and how far they are away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.base import Away
from finegrid.evaluation.indices.series import values_of
from finegrid.grids.geometry import EARTH_RADIUS

KM = 1000.0
# Cells whose distances to the sample are held at once.
_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class Around:
    """Some rows of one field, and the sampled cells that they lie around.

    Attributes:
        field: the rows, lazily.
        mask: times and cells (time, cell) that count, eight times in a byte; of one cell where it is that of all.
        kept: cells that count.
        middles: of these (cell, 3).
        sampled: middles of the sample (cell, 3).
    """

    field: xr.DataArray
    mask: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    middles: Array
    sampled: Array

    def read(self) -> tuple[Array, Away]:
        """Values (time, member, cell that counts), and the distances of these from the sample."""
        counts = np.unpackbits(self.mask, axis=0, count=self.field.sizes["time"]).astype(bool)
        mask = np.broadcast_to(counts, (len(counts), len(self.kept)))[:, self.kept]
        values = np.where(mask[:, None], values_of(self.field)[..., self.kept], np.nan)
        return values, self.distance

    def distance(self, cells: slice) -> Array:
        """Distances (sampled cell, cell that counts) in km of some cells."""
        return _distance(self.sampled @ self.middles[cells].T)


def farthest(first: Array, second: Array) -> float:
    """The largest distance in km between unit vectors (n, 3) and (m, 3)."""
    pieces = (second[start : start + _AT_ONCE] for start in range(0, len(second), _AT_ONCE))
    return float(_distance(np.array(min((first @ each.T).min() for each in pieces))))


def _distance(cosine: Array) -> Array:
    """Distances in km between unit vectors, from their products."""
    # In place: memory that is new each time takes eight times as long as the arithmetic.
    found = np.asarray(2 - 2 * cosine)
    np.sqrt(np.maximum(found, 0, out=found), out=found)
    found /= 2
    np.arcsin(np.minimum(found, 1, out=found), out=found)
    found *= 2 * EARTH_RADIUS / KM
    return found
