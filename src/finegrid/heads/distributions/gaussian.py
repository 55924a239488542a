"""Normal: a mean and a deviation.

    CRPS = s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)),      z = (y - m) / s

Source: Gneiting et al., "Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics and Minimum CRPS
Estimation", Monthly Weather Review 133, 2005, doi:10.1175/MWR2904.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finegrid.heads.distributions.base import Distribution, normal_chance, normal_density, positive


class Gaussian(Distribution):
    """Parameters: deviation, mean."""

    count = 2

    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        return normal_crps(truth, parameters[1], positive(parameters[0]))

    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        return parameters[1] + positive(parameters[0]) * score

    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        return normal_chance((values - parameters[1]) / positive(parameters[0]))


def normal_crps(truth: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """CRPS of a normal distribution, in the units of the values."""
    standard = (truth - mean) / deviation
    within = standard * torch.erf(standard * math.sqrt(0.5))
    return deviation * (within + 2 * normal_density(standard) - 1 / math.sqrt(math.pi))
