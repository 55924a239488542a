"""Ridge regression of every fine cell from one piece of an archive after the other, by its normal equations.

    (sum_t z z' + s I) b = sum_t z y

The sums have as many numbers as predictors, however many times there are. Features, start and strength were chosen on
a sample. Where a target is missing beside others that are known, the weights of the sample stand for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.data.pairs import Pair
from finegrid.downscalers.features import Features, Prepared
from finegrid.downscalers.linear import LinearMap
from finegrid.downscalers.regression import cell_chunks
from finegrid.downscalers.solvers import RidgePenalty

# Bytes of the matrices of some cells, which stay in the caches: sums of all cells are larger than these by far.
_CHUNK_BYTES = 8e6


class NormalEquations:
    """Sums of products for a ridge regression that has learnt from a sample."""

    def __init__(self, of: LinearMap) -> None:
        solver, features, weights, strength = of._solver(), of._known_features(), of._weights, of._strength
        if not isinstance(solver, RidgePenalty) or weights is None or strength is None:
            raise RuntimeError(f"'{of.name}' is no ridge regression that has learnt from a sample")
        self._of, self._features, self._known, self._solver = of, features, weights, solver
        self._strength = strength
        width = weights.shape[1]
        self._gram = torch.zeros(len(weights), width, width, dtype=torch.float64)
        self._moments = torch.zeros_like(weights)

    def fresh(self) -> NormalEquations:
        """The same, with nothing counted in yet."""
        return NormalEquations(self._of)

    @property
    def found(self) -> tuple[Tensor, Tensor]:
        """What was counted in so far: sums of z z' and of z y."""
        return self._gram, self._moments

    def include(self, found: tuple[Tensor, Tensor]) -> None:
        """Take in what others have counted."""
        gram, moments = found
        self._gram += gram
        self._moments += moments

    def add(self, part: Pair, inner: slice) -> None:
        """Count in some times of a pair."""
        seen = _at(self._features, part, inner)
        targets = self._of._targets(part, self._of._start, shared=seen.local is None)[inner]
        for cells in cell_chunks(seen, targets.shape[1], most=_CHUNK_BYTES):
            z = seen.at(cells).matrix()
            y = targets[:, :, cells].permute(2, 0, 1).double().contiguous()
            known = torch.isfinite(y)
            if not known.all():
                z = z * known.any(-1, keepdim=True)
                y = torch.where(known, y, z @ self._known[cells])
            self._gram[cells].baddbmm_(z.mT, z)
            self._moments[cells].baddbmm_(z.mT, y)

    def weights(self) -> Tensor:
        """The weights (cell, predictor, target) of all that was counted in."""
        ridge = self._solver.penalties_of(self._gram.shape[-1], self._strength)
        return torch.cholesky_solve(self._moments, torch.linalg.cholesky(self._gram + torch.diag(ridge)))


def _at(features: Features, part: Pair, inner: slice) -> Prepared:
    seen = features(part.coarse)
    return Prepared(None if seen.local is None else seen.local[inner], seen.common[inner])
