"""Linear maps from coarse fields to fine cells: any features, any solver, chosen by cross-validation.

    y(t, i) = sum_j b(i, j) z(t, j)

Features, start and the strength of the solver are those with the least error on blocks of time that were left out,
pooled over outputs and up to a hundred cells, each in units of its own variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions.components import build
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices, folds
from finegrid.downscalers.base import State
from finegrid.downscalers.features import Features, Prepared
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.regression import Regression, Table, cell_chunks, judged_every
from finegrid.downscalers.solvers import SOLVERS, Solver

_FOLDS = 6
# Fine cells by which is chosen where all see the same predictors.
_TARGETS_JUDGED = 200


@dataclass(kw_only=True)
class LinearMap(Regression):
    """A linear regression of each fine cell.

    Args:
        solver: how the weights are found, by name or `{name: ..., **arguments}`.
    """

    solver: Table = "ridge"
    _strength: float | None = field(default=None, init=False, repr=False)
    _weights: Tensor | None = field(default=None, init=False, repr=False)

    def _solver(self) -> Solver:
        chosen: Solver = build(self.solver, SOLVERS, "solver")
        return chosen

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        everything, solver = matched.at(fit_block), self._solver()
        if self._features is None or self._strength is None:
            self._features, self._start, self._strength = self._chosen(everything, solver)
        seen = self._features(everything.coarse)
        targets = self._targets(everything, self._start, shared=seen.local is None)
        chunks = self._chunks(seen, targets)
        self._weights = torch.cat([solver.weights(z, y, self._strength) for z, y in chunks])

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._weights is None:
            raise RuntimeError("a linear map without weights")
        seen, weights = self._known_features()(coarse), self._weights.float()
        parts = []
        for cells in cell_chunks(seen, weights.shape[2]):
            parts.append((seen.at(cells).matrix().float() @ weights[cells]).permute(1, 2, 0))
        return self._placed(torch.cat(parts, dim=-1), coarse, self._start, shared=seen.local is None)

    def _chosen(self, matched: Pair, solver: Solver) -> tuple[Features, str, float]:
        """Features, start and strength with the least error on blocks of time that were left out."""
        variants = [each.fit(matched.coarse, self.domain) for each in self._planned().variants()]
        starts, strengths = self._starts(), tuple(solver.strengths)
        blocks = folds(len(matched.coarse.time), _FOLDS)
        if len(variants) * len(starts) * len(strengths) == 1 or len(blocks) < 2:
            return variants[0], starts[0], strengths[0]
        best: tuple[float, Features, str, float] | None = None
        for features in variants:
            seen = features(matched.coarse)
            for start in starts:
                targets = self._targets(matched, start, shared=seen.local is None)
                errors = self._errors(seen, targets, blocks, solver)
                strength = min(errors, key=lambda each: errors[each])
                if best is None or errors[strength] < best[0]:
                    best = errors[strength], features, start, strength
        if best is None:
            raise RuntimeError("no candidate")
        return best[1:]

    def _errors(self, seen: Prepared, targets: Tensor, blocks: Sequence[Indices], solver: Solver) -> dict[float, float]:
        """Squared errors on left-out blocks for each strength, summed over cells."""
        strengths, scale = tuple(solver.strengths), self._error_scale(targets)
        errors = dict.fromkeys(strengths, 0.0)
        if seen.local is None:
            step = math.ceil(targets.shape[1] / _TARGETS_JUDGED)
            targets, scale = targets[:, ::step], scale[::step]
        for predictors, wanted in self._chunks(seen, targets, every=judged_every(seen)):
            for fitted, z, y in _left_out(predictors, wanted, blocks):
                for strength, weights in zip(strengths, solver.path(*fitted, strengths), strict=True):
                    errors[strength] += float(((y - z @ weights).square().sum((0, 1)) * scale).sum())
        return errors

    def _error_scale(self, targets: Tensor) -> Tensor:
        """Weight of each target in the pooled error: one over the variance of its variable in the fine field."""
        outputs, times, cells = len(self.domain.outputs), targets.shape[0], targets.shape[2]
        split = targets.double().nan_to_num(nan=0.0).reshape(times, outputs, -1, cells)
        weights: Tensor = 1.0 / split.var((0, 2, 3)).clamp(min=1e-30)
        return weights.repeat_interleave(split.shape[2])

    def _learnt(self) -> State:
        if self._weights is None:
            return {}, {}
        plain, tensors = super()._learnt()
        return {**plain, "strength": self._strength}, {**tensors, "weights": self._weights.float()}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super()._remember(plain, tensors)
        self._strength = float(plain["strength"])
        self._weights = tensors["weights"].double()

    def _summary(self) -> dict[str, Any]:
        if self._strength is None:
            return {}
        solver = self._solver()
        return {**super()._summary(), **({solver.name: self._strength} if len(solver.strengths) > 1 else {})}


def _left_out(
    predictors: Tensor, targets: Tensor, blocks: Sequence[Indices]
) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor, Tensor]]:
    """For each block predictors and targets of the others, then its own."""
    outside = torch.ones(predictors.shape[1], dtype=torch.bool)
    for block in blocks:
        index = torch.as_tensor(block)
        outside[index] = False
        yield (predictors[:, outside], targets[:, outside]), predictors[:, index], targets[:, index]
        outside[index] = True


@dataclass(kw_only=True)
class Linear(LinearMap):
    """Multiple linear regression on the coarse cells around, by least squares."""

    name: ClassVar[str] = "linear"
    features: Table = field(default_factory=lambda: {"name": "window", "half_widths": (1,)})
    solver: Table = "least-squares"


@dataclass(kw_only=True)
class RidgeAround(LinearMap):
    """Ridge regression on all coarse cells in and around the domain, the steps before and after included."""

    name: ClassVar[str] = "ridge-around"
    features: Table = "around"
    frames: Sequence[int] = (-1, 0, 1)
    solver: Table = field(default_factory=lambda: {"name": "ridge", "penalties": (1, 10, 30, 100, 300, 1000, 3000)})


@dataclass(kw_only=True)
class LassoAround(LinearMap):
    """Lasso on all coarse cells in and around the domain: few predictors, chosen for each fine cell."""

    name: ClassVar[str] = "lasso"
    features: Table = "around"
    frames: Sequence[int] = (-1, 0, 1)
    solver: Table = "lasso"


@dataclass(kw_only=True)
class ComponentRegression(LinearMap):
    """Principal-component regression: least squares on the leading components of all fields around."""

    name: ClassVar[str] = "pcr"
    features: Table = "components"
    frames: Sequence[int] = (-1, 0, 1)
    solver: Table = "least-squares"


@dataclass(kw_only=True)
class SketchedRegression(LinearMap):
    """Sketched minimum-norm least squares on all coarse cells around: many predictors, few times."""

    name: ClassVar[str] = "sketched"
    features: Table = "around"
    frames: Sequence[int] = (-1, 0, 1)
    solver: Table = "sketch"


@dataclass(kw_only=True)
class RandomFeatures(LinearMap):
    """Ridge regression on random convolution features: no training, and not linear in the weather."""

    name: ClassVar[str] = "random-features"
    features: Table = "convolutions"
    solver: Table = "ridge"
