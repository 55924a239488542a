"""How far predictions are from members in means over time and in means over the area: all that group errors need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finegrid.evaluation.alignment import Case
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics import Reference
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded


@dataclass(frozen=True, eq=False)
class Means:
    """Means over times in each cell, and over cells at each time, of members and predictions.

    Attributes:
        cells: differences of predictions and members (method, member, y, x).
        times: the same (method, member, time).
        area: of each cell (y, x), 0 where nothing is known.
    """

    cells: Array
    times: Array
    area: Array

    @classmethod
    def of(cls, case: Case) -> Means:
        """One pass over the fields."""
        area, blocks = Reference.of(case.truth).grid.area, []
        for members, predicted, known in _loaded(case):
            apart = (predicted[:, None] - members) * known
            blocks.append(
                (apart.sum(axis=2), known.sum(axis=0), (apart * area).sum((-2, -1)), (known * area).sum((-2, -1)))
            )
        cells, counts = (np.sum([block[index] for block in blocks], axis=0) for index in (0, 1))
        times, weights = (np.concatenate([block[index] for block in blocks], axis=-1) for index in (2, 3))
        return cls(np.nan_to_num(ratio(cells, counts)), ratio(times, weights), np.where(counts > 0, area, 0.0))

    def errors(self, size: int) -> tuple[Array, Array]:
        """Spatial and global errors (method,) over all disjoint groups of so many members, before they are scaled."""
        cells, times = (_grouped(each, size) for each in (self.cells, self.times))
        share = self.area / self.area.sum()
        spatial = np.sqrt((cells**2 * share).sum((-2, -1)).mean(axis=1))
        return spatial, np.sqrt(np.nanmean(times**2, axis=(1, 2)))


def _grouped(values: Array, size: int) -> Array:
    """Means (method, group, ...) over disjoint groups of members of values (method, member, ...)."""
    groups = values.shape[1] // size
    shaped = values[:, : groups * size].reshape(values.shape[0], groups, size, *values.shape[2:])
    return np.asarray(shaped.mean(axis=2))


def _loaded(case: Case) -> Iterator[tuple[Array, Array, Array]]:
    """Block by block: members (member, time, y, x), predictions (method, time, y, x), what is known (time, y, x)."""
    if case.members is None:
        return
    values = case.members.sizes["member"] * case.truth.sizes["y"] * case.truth.sizes["x"] * len(case.predictions)
    for part in parts_of(case.truth.sizes["time"], values):
        members = loaded(case.members, part)
        known = np.isfinite(loaded(case.truth, part)) & np.isfinite(members).all(axis=0)
        predicted = np.stack([loaded(each, part).mean(axis=0) for each in case.predictions.values()])
        yield np.where(known, members, 0.0), np.where(known, predicted, 0.0), known.astype(np.float64)
