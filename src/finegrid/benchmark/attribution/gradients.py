"""Attribution by gradients along the way from the baseline to the inputs.

Integrated gradients, by Gauss-Legendre quadrature with nodes t_i and weights w_i on [0, 1]:

    a_j = (x_j - b_j) int_0^1 df/dx_j (b + t (x - b)) dt  ~  (x_j - b_j) sum_i w_i df/dx_j (b + t_i (x - b))

The nodes are doubled for samples whose sum is not complete to `tolerance`: networks of ReLUs have kinks on the way.

Expected gradients (gradient SHAP) average that over baselines b_k, one of a few random t for each, stratified so that
every stretch of the way is seen equally often:

    a_j = 1/K sum_k (x_j - b_kj) 1/m sum_i df/dx_j (b_k + t_ki (x - b_k)),     sum_j a_j ~ f(x) - 1/K sum_k f(b_k)

What quadrature or sampling leaves of the change is measured, then shared out in proportion to |a_j|.

Sources: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, equation 1; Erion, Janizek,
Sturmfels, Lundberg and Lee, "Improving performance of deep learning models with axiomatic attribution priors and
expected gradients", Nature Machine Intelligence 3, 2021, doi:10.1038/s42256-021-00343-w, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from finegrid.benchmark.attribution.base import (
    Attributed,
    Attribution,
    Function,
    chunks,
    completeness,
    ends,
    without_missing,
)
from finegrid.conventions import InputError


@dataclass(frozen=True, kw_only=True)
class ByGradients(Attribution):
    """A method that needs gradients.

    Args:
        correct: whether what is left of the change is shared out.
    """

    needs_gradients: ClassVar[bool] = True
    correct: bool = True

    def _attributed(self, values: Tensor, change: Tensor) -> Attributed:
        error = completeness(values, change)
        return Attributed(corrected(values, change) if self.correct else values, change, error)


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(ByGradients):
    """Gradients integrated along the straight way from the baseline.

    Args:
        steps: nodes to begin with.
        most: nodes at most.
        tolerance: relative departure from completeness at which there are enough of them.
    """

    name: ClassVar[str] = "integrated-gradients"
    steps: int = 16
    most: int = 256
    tolerance: float = 1e-3

    def _explained(self, function: Function, inputs: Tensor, baseline: Tensor, groups: Tensor | None) -> Attributed:
        difference = inputs - baseline
        at_inputs, at_baseline = ends(function, inputs, baseline, self.batch)
        change = at_inputs - at_baseline
        values, steps = torch.zeros_like(inputs), self.steps
        open_ones = torch.arange(len(inputs))
        while len(open_ones):
            found = self._integrated(function, baseline[open_ones], difference[open_ones], steps)
            values[open_ones] = found
            steps *= 2
            if steps > self.most:
                break
            open_ones = open_ones[completeness(found, change[open_ones]) > self.tolerance]
        return self._attributed(values, change)

    def _integrated(self, function: Function, start: Tensor, difference: Tensor, steps: int) -> Tensor:
        """Parts by quadrature with so many nodes."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        along = torch.from_numpy((nodes + 1) / 2).to(start)
        share = torch.from_numpy(weights / 2).to(start)
        total = torch.zeros_like(start)
        for pair in chunks(steps * len(start), self.batch):
            node, sample = pair // len(start), pair % len(start)
            points = start[sample] + _wide(along[node], start) * difference[sample]
            total.index_add_(0, sample, _wide(share[node], start) * gradient(function, points))
        return without_missing(difference * total, difference)


@dataclass(frozen=True, kw_only=True)
class ExpectedGradients(ByGradients):
    """Gradients averaged over baselines and over the way from each.

    Args:
        steps: points on the way from each baseline.
        seed: of their places.
    """

    name: ClassVar[str] = "gradient-shap"
    several: ClassVar[bool] = True
    steps: int = 8
    seed: int = 0

    def _explained(self, function: Function, inputs: Tensor, baseline: Tensor, groups: Tensor | None) -> Attributed:
        at_inputs, at_baseline = ends(function, inputs, baseline, self.batch)
        change = at_inputs - at_baseline.mean()
        return self._attributed(self._expected(function, inputs, baseline), change)

    def _expected(self, function: Function, inputs: Tensor, baseline: Tensor) -> Tensor:
        places = stratified(len(baseline), self.steps, self.seed).to(inputs)
        total, count = torch.zeros_like(inputs), places.numel()
        for pair in chunks(count * len(inputs), self.batch):
            place, sample = pair // len(inputs), pair % len(inputs)
            start = baseline[place // self.steps]
            difference = inputs[sample] - start
            points = start + _wide(places.flatten()[place], inputs) * difference
            parts = without_missing(difference * gradient(function, points), difference)
            total.index_add_(0, sample, parts / count)
        return total


def stratified(count: int, steps: int, seed: int) -> Tensor:
    """Places in (0, 1) (count, steps): one in each of `steps` stretches, and of a stretch one in each of its parts."""
    random = np.random.default_rng(seed)
    order = np.stack([random.permutation(count) for _ in range(steps)], axis=1)
    within = (order + random.random((count, steps))) / count
    return torch.from_numpy((np.arange(steps) + within) / steps)


def gradient(function: Function, points: Tensor) -> Tensor:
    """Gradient of the function at every point, like the points.

    Raises:
        InputError: when the function does not depend on them in a way that torch can follow.
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        value = function(points)
        if not value.requires_grad:
            raise InputError(
                "got a function without a gradient; expected one that torch can differentiate; use the method shapley "
                "or occlusion, which only need its values"
            )
        (found,) = torch.autograd.grad(value.sum(), points)
    return torch.where(points.isnan(), 0.0, found).detach()


def corrected(values: Tensor, change: Tensor) -> Tensor:
    """Parts whose sums are the change: what is lacking is shared out in proportion to their sizes."""
    wide = values.double()
    size = wide.abs().flatten(1).sum(1)
    lacking = change - wide.flatten(1).sum(1)
    share = torch.where(size > 0, lacking / torch.where(size > 0, size, 1.0), 0.0)
    return (wide + _wide(share, wide) * wide.abs()).to(values.dtype)


def _wide(numbers: Tensor, like: Tensor) -> Tensor:
    """One number a sample, ready to multiply (sample, ...)."""
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
