"""One pass over an archive: all that has to be known before the first training step.

A sample in memory comes first, from which transforms and the features of regressions are chosen; the pass then
counts every cell and every training time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.climatology import Moments
from finegrid.data.pairs import Pair, pair
from finegrid.data.progress import bar
from finegrid.data.splits import check_training_times
from finegrid.data.working import ahead
from finegrid.downscalers.archive.blocks import Archive
from finegrid.downscalers.archive.normal import NormalEquations
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.facts import Facts
from finegrid.downscalers.fitting import Fitting, whole_or_nothing
from finegrid.downscalers.linear import LinearMap
from finegrid.downscalers.solvers import RidgePenalty

SAMPLE_BYTES = 96_000_000
"""Of the fine fields of a sample."""


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


def _of(part: Pair, inner: slice) -> Pair:
    return replace(part, coarse=part.coarse.isel(time=inner), fine=part.fine.isel(time=inner))


class Surveyed(NamedTuple):
    """What a pass has left.

    Attributes:
        survey: its counts.
        sums: those of the regression, if there is one.
    """

    survey: Survey
    sums: list[NormalEquations]


def surveyed(
    of: Any, learner: LinearMap | None, archive: Archive, sample: Pair, pieces: Sequence[range], how: Fitting
) -> Surveyed:
    """Read the archive once: domain, constraint and climatology of a downscaler, and the weights of a regression.

    Args:
        of: the downscaler, which knows the domain of the sample.
        learner: the regression that learns on the way: its first guess, or itself.
        archive: what is read.
        sample: some of the times in memory, by which the regression chooses its features.
        pieces: the times to learn from.
        how: the circumstances of the fit.
    """
    everything, sums = np.arange(sample.fine.sizes["time"]), []
    if learner is not None:
        learner._learn(sample, everything, everything[:0], Fitting(how.static))
        sums = [NormalEquations(learner)]
    found = Survey(archive).go(pieces, sums, halo=of._reach, progress=how.progress)
    times = np.concatenate([np.asarray(piece) for piece in pieces])
    of._domain = Domain.of(found.pair().at(times))
    of._conservation = Conservation.built(of.constraint, found.facts(of.domain))
    of._climatology = found.moments.climatology()
    for each in sums:
        learner._features = learner._known_features().remember(learner._known_features().numbers, of.domain)  # type: ignore[union-attr]
        learner._weights = each.weights()  # type: ignore[union-attr]
    return Surveyed(found, sums)


def fit_in_pieces(of: Any, coarse: xr.Dataset, fine: xr.Dataset, *, progress: bool = False) -> Any:
    """Fit a method that learns in one pass, or not at all, to lazy fields, of which it reads one piece after the other.

    Args:
        of: a ridge regression, or an interpolation.
        coarse: coarse fields, in any names.
        fine: fine fields, in any names.
        progress: show a bar.

    Returns:
        The same downscaler, fitted.

    Raises:
        InputError: on files that do not fit together, another method, and a bias adjustment.
    """
    learner = one_pass(of)
    if of.adjust is not None:
        raise InputError(
            f"got adjust: {of.adjust} for an archive that is read in pieces; expected none, because it needs the whole "
            "record; leave it out"
        )
    lazy = pair(coarse, fine, variables=of.variables, predictors=of.predictors, reach=of.surroundings, lazy=True)
    archive, times = Archive.of(lazy), np.arange(lazy.fine.sizes["time"])
    check_training_times(times, lazy.coarse.time)
    sample = archive.sample(times, SAMPLE_BYTES)
    with whole_or_nothing(of):
        of._settle(sample)
        surveyed(of, learner, archive, sample, archive.pieces, Fitting(progress=progress))
    return of


def one_pass(of: Any) -> LinearMap | None:
    """The regression that learns in one pass; None for a method that does not learn.

    Raises:
        InputError: for all others.
    """
    if of is None or not of.learns:
        return None
    if not isinstance(of, LinearMap) or not isinstance(of._solver(), RidgePenalty):
        raise InputError(
            f"got '{of.name}' for an archive that is read in pieces; expected a method that learns in one pass (ridge) "
            "or not at all (bilinear, conservative); choose one of these, also as downscaler.mean, or give fewer years"
        )
    return of
