"""One pass over an archive: all that has to be known before the first training step.

A sample in memory comes first, from which transforms and the features of regressions are chosen; the pass then
counts every cell and every training time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.pairs import Pair, pair
from finegrid.data.splits import check_training_times
from finegrid.data.working import Workers, alone
from finegrid.downscalers.archive.blocks import Archive
from finegrid.downscalers.archive.counting import one_reading
from finegrid.downscalers.archive.normal import NormalEquations
from finegrid.downscalers.conservation import Conservation
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.fitting import Fitting, whole_or_nothing
from finegrid.downscalers.linear import LinearMap
from finegrid.downscalers.solvers import RidgePenalty

SAMPLE_BYTES = 96_000_000
"""Of the fine fields of a sample."""


class Surveyed(NamedTuple):
    """What a pass has left.

    Attributes:
        pair: the lazy pair with the masks of its grids.
        sums: those of the regression, if there is one.
    """

    pair: Pair
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
    found = one_reading(archive.pair, pieces, sums, halo=of._reach, how=how)
    times, lazy = np.concatenate([np.asarray(piece) for piece in pieces]), found.pair(archive.pair)
    of._domain = Domain.of(lazy.at(times))
    of._conservation = Conservation.built(of.constraint, found.facts(of.domain))
    of._climatology = found.moments.climatology()
    for each in sums:
        learner._features = learner._known_features().remember(learner._known_features().numbers, of.domain)  # type: ignore[union-attr]
        learner._weights = each.weights()  # type: ignore[union-attr]
    return Surveyed(lazy, sums)


def fit_in_pieces(
    of: Any, coarse: xr.Dataset, fine: xr.Dataset, *, progress: bool = False, workers: Workers = alone
) -> Any:
    """Fit a method that learns in one pass, or not at all, to lazy fields, of which it reads one piece after the other.

    Args:
        of: a ridge regression, or an interpolation.
        coarse: coarse fields, in any names.
        fine: fine fields, in any names.
        progress: show a bar.
        workers: who reads the pieces and counts in what is in them.

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
        surveyed(of, learner, archive, sample, archive.pieces, Fitting(progress=progress, workers=workers))
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
