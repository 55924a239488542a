"""Rain: wet with probability 1 / (1 + exp(-z a)), and on wet days the threshold and a gamma amount above it.

The occurrence by Newton's method. A cell that is always dry (or always wet) in training has the same odds on all days.

Source: Chandler and Wheater, Water Resources Research 38(10), 1192, 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.downscalers.families.base import Family, Numbers, curvature, linear, ridge_of
from finegrid.downscalers.families.gamma import Gamma, gamma_quantile

_STEPS = 10


class BernoulliGamma(Family):
    """Dry or wet, and how much.

    Args:
        threshold: what counts as wet, in the units of the values.
    """

    name: ClassVar[str] = "bernoulli-gamma"
    parts: ClassVar[tuple[str, ...]] = ("occurrence", "amount")

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold
        self._amount = Gamma()

    def fit(self, z: Tensor, y: Tensor, known: Tensor, penalties: Sequence[float]) -> dict[str, Tensor]:
        wet = (y > self.threshold).to(z.dtype) * known
        odds = _newton(z, wet, known, ridge_of(z, penalties[0]))
        return {"odds": odds, **self._amount.fit(z, y - self.threshold, wet, penalties[1:])}

    def mean(self, z: Tensor, numbers: Numbers) -> Tensor:
        return self._wet(z, numbers) * (self.threshold + self._amount.mean(z, numbers))

    def chance(self, z: Tensor, y: Tensor, numbers: Numbers, uniform: Tensor) -> Tensor:
        wet = self._wet(z, numbers)
        amount = self._amount.chance(z, y - self.threshold, numbers, uniform)
        return torch.where(y > self.threshold, 1 - wet + wet * amount, uniform * (1 - wet))

    def quantile(self, z: Tensor, chance: Tensor, numbers: Numbers) -> Tensor:
        wet = self._wet(z, numbers)
        rains = chance > 1 - wet
        within = ((chance - 1 + wet) / wet.clamp(min=1e-12))[rains]
        mean, shape = self._amount.moments(z, numbers)
        result = torch.zeros_like(chance)
        result[rains] = self.threshold + gamma_quantile(within.clamp(min=0.0), mean[rains], shape[rains])
        return result

    def losses(self, z: Tensor, y: Tensor, numbers: Numbers) -> list[Tensor]:
        wet, rains = self._wet(z, numbers).clamp(1e-6, 1 - 1e-6), y > self.threshold
        amount = self._amount.losses(z, y - self.threshold, numbers)[0]
        return [-torch.log(torch.where(rains, wet, 1 - wet)), torch.where(rains, amount, torch.nan)]

    def _wet(self, z: Tensor, numbers: Numbers) -> Tensor:
        return torch.sigmoid(linear(z, numbers["odds"]))


def _newton(z: Tensor, wet: Tensor, known: Tensor, ridge: Tensor) -> Tensor:
    """Weights (cell, target, predictor) of the log odds of a wet day."""
    days, rainy = known.sum(1), wet.sum(1)
    usual = z.new_zeros(wet.shape[0], wet.shape[2], z.shape[2])
    usual[..., -1] = torch.log((rainy + 0.5) / (days - rainy + 0.5))
    weights = usual
    for _ in range(_STEPS):
        chance = torch.sigmoid(linear(z, weights))
        gradient = ((wet - chance) * known).mT @ z - ridge * weights
        hessian = curvature(z, (chance * (1 - chance)).clamp(min=1e-4) * known, ridge)
        step = torch.linalg.solve(hessian, gradient).clamp(-2.0, 2.0)
        weights = weights + step
        if step.abs().max() < 1e-4:
            break
    single = (rainy == 0) | (rainy == days)
    return torch.where(single[..., None], usual, weights)
