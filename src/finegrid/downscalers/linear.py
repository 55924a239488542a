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
from finegrid.data.progress import bar
from finegrid.data.splits import Indices, folds
from finegrid.downscalers.base import State
from finegrid.downscalers.features import Features, Prepared
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.regression import Regression, Table, cell_chunks, completed, judged_every
from finegrid.downscalers.solvers import SOLVERS, Solver

_FOLDS = 6
# Predictors from which half as many folds have to do.
_WIDE = 300
# Fine cells by which is chosen where all see the same predictors.
_TARGETS_JUDGED = 50
# Part of the times that a target may lack beside others and still share their matrix.
_RARE = 0.01
# How often gaps are filled anew.
_TURNS = 8
# Patterns of gaps that are each fitted to their own times.
_PATTERNS = 32


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
            self._features, self._start, self._strength = self._chosen(everything, solver, how)
        seen = self._features(everything.coarse)
        targets = self._targets(everything, self._start, shared=seen.local is None)
        parts = []
        for cells in cell_chunks(seen, targets.shape[1]):
            wanted = targets[:, :, cells].permute(2, 0, 1).double().contiguous()
            parts.append(_solved(solver, seen.at(cells).matrix(), wanted, self._strength))
        self._weights = torch.cat(parts)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._weights is None:
            raise RuntimeError("a linear map without weights")
        seen, weights = self._known_features()(coarse), self._weights.float()
        parts = []
        for cells in cell_chunks(seen, weights.shape[2]):
            parts.append((seen.at(cells).matrix(torch.float32) @ weights[cells]).permute(1, 2, 0))
        return self._placed(torch.cat(parts, dim=-1), coarse, self._start, shared=seen.local is None)

    def _chosen(self, matched: Pair, solver: Solver, how: Fitting) -> tuple[Features, str, float]:
        """Features, start and strength with the least error on blocks of time that were left out."""
        variants = [each.fit(matched.coarse, self.domain) for each in self._planned().variants()]
        starts, strengths = self._starts(), tuple(map(float, solver.strengths))
        if len(variants) * len(starts) * len(strengths) == 1 or len(matched.coarse.time) < 2:
            return variants[0], starts[0], strengths[0]
        found: list[tuple[float, Features, str, float]] = []
        with bar(f"choosing for {self.name}", len(variants) * len(starts), show=how.progress) as step:
            for features in variants:
                seen = features(matched.coarse)
                blocks = folds(seen.times, _FOLDS if seen.width < _WIDE else _FOLDS // 2)
                for start in starts:
                    targets = self._targets(matched, start, shared=seen.local is None)
                    errors = self._errors(seen, targets, self._error_scale(matched), blocks, solver)
                    strength = min(errors, key=lambda each: errors[each])
                    found.append((errors[strength], features, start, strength))
                    step()
        return min(found, key=lambda each: each[0])[1:]

    def _errors(
        self, seen: Prepared, targets: Tensor, scales: Tensor, blocks: Sequence[Indices], solver: Solver
    ) -> dict[float, float]:
        """Squared errors on left-out blocks for each strength, summed over cells."""
        strengths = tuple(map(float, solver.strengths))
        errors = dict.fromkeys(strengths, 0.0)
        scale = scales.repeat_interleave(targets.shape[1] // len(scales))
        if seen.local is None:
            step = math.ceil(targets.shape[1] / _TARGETS_JUDGED)
            targets, scale = targets[:, ::step], scale[::step]
        for predictors, wanted in self._chunks(seen, targets, every=judged_every(seen)):
            for fitted, z, y in _left_out(predictors, wanted, blocks):
                for strength, weights in zip(strengths, solver.path(*fitted, strengths), strict=True):
                    errors[strength] += float(((y - z @ weights).square().sum((0, 1)) * scale).sum())
        return errors

    def _error_scale(self, matched: Pair) -> Tensor:
        """Weight of each variable in the pooled error: one over the variance of its departures from the coarse value.

        Whatever the targets start from, so that errors of several starts can be compared.
        """
        departures = self._targets(matched, "coarse", shared=True).double().nan_to_num(nan=0.0)
        split = departures.reshape(len(departures), len(self.domain.outputs), -1)
        weights: Tensor = 1.0 / split.var((0, 2)).clamp(min=1e-30)
        return weights

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
        return {**super()._summary(), **({} if solver.strengths == (0.0,) else {solver.strength: self._strength})}


def _solved(solver: Solver, predictors: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Weights; those of targets with more than a few gaps of their own owe little to what fills the gaps.

    The mean, which stands for a gap at first, would make weights smaller by the missing part.
    """
    known = torch.isfinite(targets)
    weights = predictors.new_zeros(len(targets), predictors.shape[2], targets.shape[2])
    ever = torch.nonzero(known.any(1).any(0))[:, 0]
    z, filled = completed(predictors, targets[:, :, ever])
    weights[:, :, ever] = solver.weights(z, filled, strength)
    gaps = (~known & known.any(2, keepdim=True)).double().mean(1)
    often = torch.nonzero(((gaps > _RARE) & known.any(1)).any(0))[:, 0]
    if len(often):
        weights[:, :, often] = _with_gaps(solver, z, targets[:, :, often], weights[:, :, often], strength)
    return weights


def _with_gaps(solver: Solver, z: Tensor, targets: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Weights from the known times alone: all targets with the same gaps at once, where there are few such patterns.

    Where there are many, gaps are filled with what the weights say, and the weights found again, in a few turns. That
    comes near the same weights where there are many more times than predictors.
    """
    known = torch.isfinite(targets)
    patterns, of_target = torch.unique(known.flatten(0, 1), dim=1, return_inverse=True)
    values, weights = targets.nan_to_num(nan=0.0), weights.clone()
    if patterns.shape[1] > _PATTERNS:
        for _ in range(_TURNS):
            weights = solver.weights(z, torch.where(known, values, z @ weights), strength)
        return weights
    for index, counts in enumerate(patterns.T):
        alike, mask = of_target == index, counts.reshape(len(targets), -1, 1)
        weights[:, :, alike] = solver.weights(z * mask, values[:, :, alike] * mask, strength)
    return weights


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
