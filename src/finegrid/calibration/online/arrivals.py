"""The scores of one time, by group, and what a group says of them on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.kernel import Array, Places


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Scores of one time in the order of their groups.

    Attributes:
        scores: (case,).
        group: of each case (case,), ascending.
        seen: groups that have a case, ascending.
        starts: where each of these begins.
        count: number of all groups.
    """

    scores: Array
    group: Places
    seen: Places
    starts: Places
    count: int

    @classmethod
    def of(cls, scores: Array, place: Places, count: int) -> Self:
        """Sort scores (y, x) by group (y, x); leaves out unknown ones and those without a group."""
        kept = np.isfinite(scores) & (place >= 0)
        score, group = scores[kept], place[kept]
        if len(group) > 1 and not (group[1:] > group[:-1]).all():
            order = np.argsort(group, kind="stable")
            score, group = score[order], group[order]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        return cls(score, group, group[starts], starts, count)

    @property
    def _alone(self) -> bool:
        return len(self.scores) == len(self.seen) == self.count

    def spread(self, values: Array) -> Array:
        """Values of groups (..., group) at the cases (..., case)."""
        return values if self._alone else values[..., self.group]

    def means(self, values: NDArray[Any]) -> Array:
        """Means of values (..., case) over the cases of each group (..., group); 0 of groups without a case."""
        if self._alone:
            return np.asarray(values, dtype=np.float64)
        means = np.zeros((*values.shape[:-1], self.count))
        if len(self.seen):
            sums = np.add.reduceat(values, self.starts, axis=-1, dtype=np.float64)
            means[..., self.seen] = sums / np.diff(self.starts, append=len(self.scores))
        return means

    def marked(self) -> NDArray[np.bool_]:
        """Whether each group has a case (group,)."""
        marks = np.zeros(self.count, dtype=bool)
        marks[self.seen] = True
        return marks
