"""One pass over an archive: all that has to be known before the first training step.

A sample in memory comes first, from which transforms and the features of regressions are chosen; the pass then
counts every cell and every training time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.climatology import Climatology, Moments
from finegrid.data.pairs import Pair
from finegrid.data.progress import bar
from finegrid.downscalers.archive.blocks import Archive, ahead
from finegrid.downscalers.archive.normal import NormalEquations
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.facts import Facts


@dataclass(eq=False)
class Survey:
    """What a pass has counted.

    Attributes:
        archive: what is read.
        seen: fine cells that have held a value in every variable (H, W).
        moments: of the coarse fields, month by month.
    """

    archive: Archive
    seen: NDArray[np.bool_] | None = None
    moments: Moments = field(default_factory=Moments)
    _low: list[float] = field(default_factory=list)
    _high: list[float] = field(default_factory=list)
    _size: NDArray[np.float64] | None = None

    def go(
        self, times: Sequence[range], sums: Sequence[NormalEquations], *, halo: int, progress: bool, counts: bool = True
    ) -> Survey:
        """Read these times once, for the regressions and, if it `counts`, for everything else."""
        with bar("reading the archive", len(times), show=progress) as step:
            for part, inner in ahead(lambda piece: self.archive.read(piece, halo), times):
                if counts:
                    self._count(_of(part, inner))
                for each in sums:
                    each.add(part, inner)
                step()
        return self

    def _count(self, part: Pair) -> None:
        fine = [part.fine[name].values for name in part.variables]
        known = [np.isfinite(each).any(axis=0) for each in fine]
        every = np.stack(known)
        self.seen = every if self.seen is None else self.seen | every
        lows = [float(np.min(each, initial=np.inf, where=np.isfinite(each))) for each in fine]
        highs = [float(np.max(each, initial=-np.inf, where=np.isfinite(each))) for each in fine]
        self._low = list(map(min, lows, self._low or lows))
        self._high = list(map(max, highs, self._high or highs))
        coarse = [np.abs(part.coarse[name].values.astype(np.float64)) for name in part.variables]
        sizes = np.array([[np.nansum(each), np.isfinite(each).sum()] for each in coarse])
        self._size = sizes if self._size is None else self._size + sizes
        self.moments.add(part.coarse)

    def pair(self) -> Pair:
        """The lazy pair with the masks of its grids.

        Raises:
            InputError: where a variable never has a value.
        """
        pair = self.archive.pair
        if self.seen is None or not self.seen.any(axis=(1, 2)).all():
            raise InputError(
                "a fine variable is missing (NaN) everywhere in the training times; expected values; choose another "
                "variable or period"
            )
        seen = np.asarray(self.seen.all(axis=0))
        rows, columns = pair.true_grid.shape
        own = np.asarray(seen[:rows, :columns])
        return replace(
            pair,
            grid=pair.grid if seen.all() else pair.grid.masked(seen),
            true_grid=pair.true_grid if own.all() else pair.true_grid.masked(own),
        )

    def facts(self, domain: Domain) -> Facts:
        """What constraints want to know."""
        size: Any = np.zeros((len(self._low), 2)) if self._size is None else self._size
        scale = size[:, 0] / np.maximum(size[:, 1], 1)
        return Facts.known(domain, scale.tolist(), self._low, self._high)

    def climatology(self) -> Climatology:
        """That of the coarse fields."""
        return self.moments.climatology()


def _of(part: Pair, inner: slice) -> Pair:
    return replace(part, coarse=part.coarse.isel(time=inner), fine=part.fine.isel(time=inner))
