"""A mixture of normals: several answers that are each possible.

    CRPS = sum_k w_k A(y - m_k, s_k^2) - 1/2 sum_kl w_k w_l A(m_k - m_l, s_k^2 + s_l^2)
    A(m, v) = 2 sqrt(v) phi(m / sqrt(v)) + m (2 Phi(m / sqrt(v)) - 1)

A quantile lies between those of the components at the same probability, and is found by halving that interval.

Source: Grimit et al., "The continuous ranked probability score for circular variables and its application to
mesoscale forecast ensemble verification", Quarterly Journal of the Royal Meteorological Society 132, 2006,
doi:10.1256/qj.05.235.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.distributions.base import Distribution, normal_chance, normal_density, positive

_HALVINGS = 22


class Mixture(Distribution):
    """Parameters: log weights, deviations, means, of each component.

    Args:
        components: number of normals.
    """

    def __init__(self, components: int = 3) -> None:
        if components < 1:
            raise InputError(f"got components: {components} for a mixture; expected at least 1; use 3")
        self.components, self.count = components, 3 * components

    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        weights, deviations, means = self._read(parameters)
        from_truth = (weights * _distance(truth - means, deviations.square())).sum(0)
        if self.components == 1:
            return from_truth - _distance(torch.zeros_like(truth), 2 * deviations[0].square()) / 2
        apart = torch.zeros_like(truth)
        for k in range(self.components):
            variances = deviations[k].square() + deviations[k:].square()
            products = weights[k] * weights[k:] * _distance(means[k] - means[k:], variances)
            apart = apart + 2 * products.sum(0) - products[0]
        return from_truth - apart / 2

    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        weights, deviations, means = self._read(parameters)
        ends = means + deviations * score
        low, high = ends.amin(0), ends.amax(0)
        # In the upper half by what is above: near one a single-precision probability has no digits left.
        side = torch.where(score > 0, -1.0, 1.0).to(score.dtype)
        wanted = normal_chance(side * score)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            found = (weights * normal_chance(side * (middle - means) / deviations)).sum(0)
            below = side * (found - wanted) < 0
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        weights, deviations, means = self._read(parameters)
        return (weights * normal_chance((values - means) / deviations)).sum(0).clamp(max=1.0)

    def about(self, parameters: Tensor, guess: Tensor) -> Tensor:
        return torch.cat([parameters[: -self.components], parameters[-self.components :] + guess])

    def _read(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, deviations and means (component, ...); untrained ones have different means, or none would part."""
        logits, wide, means = parameters.reshape(3, self.components, *parameters.shape[1:])
        starts = torch.linspace(-1, 1, self.components).to(means) if self.components > 1 else means.new_zeros(1)
        return torch.softmax(logits, 0), positive(wide), means + starts.reshape(-1, *[1] * (means.ndim - 1))


def _distance(mean: Tensor, variance: Tensor) -> Tensor:
    """Mean size of a normal variable."""
    deviation = variance.sqrt()
    standard = mean / deviation
    return 2 * deviation * normal_density(standard) + mean * torch.erf(standard * math.sqrt(0.5))
