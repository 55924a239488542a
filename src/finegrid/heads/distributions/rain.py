"""Rain: nothing with a probability, and a gamma amount otherwise.

    loss = -log(1 - p) where dry;      -log p - log gamma(y - threshold; mean, shape) where wet

The log score, since the CRPS of gamma variables needs derivatives by the shape in each cell. Amounts below a
thousandth of a unit count as that: the density of a small shape has no bound at zero, and a record's last digit would
rule.

Source: Williams, "Modelling Nonstationarity in Rainfall", 1998, for networks; Cannon, "Probabilistic multisite
precipitation downscaling by an expanded Bernoulli-gamma density network", Journal of Hydrometeorology 9, 2008,
doi:10.1175/2008JHM960.1.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from finegrid.conventions import InputError
from finegrid.heads.distributions.base import Distribution, normal_chance, positive
from finegrid.heads.distributions.tables import gamma_value

_LEAST_AMOUNT = 1e-3
SHAPES = (0.05, 100.0)
"""Least and largest shape of a gamma variable."""


class BernoulliGamma(Distribution):
    """Parameters: log odds of rain, shape, mean on wet cells.

    Args:
        threshold: what counts as wet, in units of the first guess's error.
    """

    of_residual: ClassVar[bool] = False
    count = 3

    def __init__(self, threshold: float = 0.01) -> None:
        if threshold < 0:
            raise InputError(f"got threshold: {threshold:g} for rain; expected at least 0; use 0.01")
        self.threshold = threshold

    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        odds, shape, mean = _read(parameters)
        wet = truth > self.threshold
        amount = torch.where(wet, truth - self.threshold, 1.0).clamp(min=_LEAST_AMOUNT)
        rate = shape / mean
        density = shape * torch.log(rate) + (shape - 1) * torch.log(amount) - rate * amount - torch.lgamma(shape)
        return torch.where(wet, functional.softplus(-odds) - density, functional.softplus(odds))

    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        odds, shape, mean = _read(parameters)
        # By the probability of more, which keeps its digits where rain is rare and heavy.
        more = normal_chance(-score) / torch.sigmoid(odds)
        within = -torch.special.ndtri(more.clamp(1e-37, 1.0)).clamp(-9.0, 9.0)
        return torch.where(more < 1, self.threshold + gamma_value(within, shape) * mean / shape, 0.0)

    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        odds, shape, mean = _read(parameters)
        amount = (values - self.threshold).clamp(min=0.0)
        more = torch.sigmoid(odds) * torch.special.gammaincc(shape, amount * shape / mean)
        return torch.where(values > self.threshold, 1 - more, uniform * torch.sigmoid(-odds))


def bounded_shape(shape: Tensor) -> Tensor:
    """A shape within what the tables and the density bear."""
    return shape.clamp(*SHAPES)


def _read(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return parameters[0], bounded_shape(positive(parameters[1])), positive(parameters[2])
