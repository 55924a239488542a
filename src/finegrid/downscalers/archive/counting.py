"""One reading of an archive, by this process or by many: what is counted of a stretch of it, and how counts add up.

Stretches are the same whoever reads them, so that sums do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.climatology import Moments
from finegrid.data.pairs import Pair
from finegrid.data.progress import bar
from finegrid.data.working import ahead
from finegrid.downscalers.archive.blocks import Archive
from finegrid.downscalers.archive.normal import NormalEquations
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.facts import Facts
from finegrid.downscalers.fitting import Fitting

# Stretches of an archive, and pieces of one at the least: what is found in a stretch is as large as a regression.
_STRETCHES, _TOGETHER = 64, 8


@dataclass(eq=False)
class Counts:
    """What is counted of fields.

    Attributes:
        seen: fine cells that have held a value, of every variable (variable, H, W).
        moments: of the coarse fields, month by month.
        limits: lowest and highest fine value of every variable.
        size: sum and number of |coarse| of every variable.
    """

    seen: NDArray[np.bool_] | None = None
    moments: Moments = field(default_factory=Moments)
    limits: NDArray[np.float64] | None = None
    size: NDArray[np.float64] | None = None

    def add(self, part: Pair) -> None:
        """Count in some times."""
        fine = [part.fine[name].values for name in part.variables]
        known = [np.isfinite(each) for each in fine]
        ends = [
            (np.min(each, initial=np.inf, where=there), np.max(each, initial=-np.inf, where=there))
            for each, there in zip(fine, known, strict=True)
        ]
        coarse = [np.abs(part.coarse[name].values.astype(np.float64)) for name in part.variables]
        sizes = [(np.nansum(each), np.isfinite(each).sum()) for each in coarse]
        seen = np.stack([each.any(axis=0) for each in known])
        self.include(Counts(seen, Moments().add(part.coarse), np.array(ends, dtype=np.float64), np.array(sizes)))

    def include(self, other: Counts) -> None:
        """Take in what others have counted."""
        if other.seen is None or other.limits is None or other.size is None:
            return
        self.moments.include(other.moments)
        if self.seen is None or self.limits is None or self.size is None:
            self.seen, self.limits, self.size = other.seen, other.limits, other.size
            return
        lows, highs = (
            np.minimum(self.limits[:, 0], other.limits[:, 0]),
            np.maximum(self.limits[:, 1], other.limits[:, 1]),
        )
        self.seen, self.limits, self.size = self.seen | other.seen, np.stack([lows, highs], 1), self.size + other.size

    def pair(self, lazy: Pair) -> Pair:
        """The lazy pair with the masks of its grids.

        Raises:
            InputError: where a variable never has a value.
        """
        if self.seen is None or not self.seen.any(axis=(1, 2)).all():
            raise InputError(
                "a fine variable is missing (NaN) everywhere in the training times; expected values; choose another "
                "variable or period"
            )
        seen = np.asarray(self.seen.all(axis=0))
        rows, columns = lazy.true_grid.shape
        own = np.asarray(seen[:rows, :columns])
        return replace(
            lazy,
            grid=lazy.grid if seen.all() else lazy.grid.masked(seen),
            true_grid=lazy.true_grid if own.all() else lazy.true_grid.masked(own),
        )

    def facts(self, domain: Domain) -> Facts:
        """What constraints want to know."""
        size: Any = np.zeros((0, 2)) if self.size is None else self.size
        ends: Any = np.zeros((0, 2)) if self.limits is None else self.limits
        scale = size[:, 0] / np.maximum(size[:, 1], 1)
        return Facts.known(domain, scale.tolist(), ends[:, 0].tolist(), ends[:, 1].tolist())


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive pieces of an archive, lazily, with the times on either side that regressions look at.

    Attributes:
        coarse: coarse fields.
        fine: fine fields of the same times.
        pieces: times of these that are read together.
    """

    coarse: xr.Dataset
    fine: xr.Dataset
    pieces: tuple[range, ...]

    @classmethod
    def all(cls, lazy: Pair, pieces: Sequence[range], halo: int) -> Iterator[Stretch]:
        """Those of an archive, one after the other."""
        count, together = lazy.fine.sizes["time"], _together(pieces)
        for start in range(0, len(pieces), together):
            some = pieces[start : start + together]
            first, last = max(0, some[0].start - halo), min(count, some[-1].stop + halo)
            own = tuple(range(each.start - first, each.stop - first) for each in some)
            yield cls(lazy.coarse.isel(time=slice(first, last)), lazy.fine.isel(time=slice(first, last)), own)


@dataclass(frozen=True, eq=False)
class Counting:
    """What is done with a stretch.

    Attributes:
        like: the pair, without times.
        sums: regressions that learn from it.
        halo: times on either side of a piece that they look at.
        counts: whether anything else is counted.
    """

    like: Pair
    sums: Sequence[NormalEquations]
    halo: int
    counts: bool

    def __call__(self, stretch: Stretch) -> tuple[Counts, list[tuple[Tensor, Tensor]]]:
        archive = Archive(replace(self.like, coarse=stretch.coarse, fine=stretch.fine), stretch.pieces)
        counts, sums = Counts(), [each.fresh() for each in self.sums]
        for part, inner in ahead(partial(archive.read, halo=self.halo), archive.pieces):
            if self.counts:
                counts.add(replace(part, coarse=part.coarse.isel(time=inner), fine=part.fine.isel(time=inner)))
            for each in sums:
                each.add(part, inner)
        return counts, [each.found for each in sums]


def one_reading(
    lazy: Pair,
    pieces: Sequence[range],
    sums: Sequence[NormalEquations],
    *,
    halo: int,
    how: Fitting,
    counts: bool = True,
) -> Counts:
    """Read some times of an archive once, for the regressions and, if it `counts`, for everything else."""
    like = replace(lazy, coarse=lazy.coarse.isel(time=slice(0)).load(), fine=lazy.fine.isel(time=slice(0)).load())
    stretches, found = Stretch.all(lazy, pieces, halo), Counts()
    with bar("reading the archive", -(-len(pieces) // _together(pieces)), show=how.progress) as step:
        for counted, learnt in how.workers(_lazily, Counting(like, sums, halo, counts), stretches):
            found.include(counted)
            for each, theirs in zip(sums, learnt, strict=True):
                each.include(theirs)
            step()
    return found


def _together(pieces: Sequence[range]) -> int:
    return max(_TOGETHER, len(pieces) // _STRETCHES)


def _lazily(stretch: Stretch) -> Stretch:
    """A stretch is read piece by piece while it is worked on."""
    return stretch
