"""What the parameters of a cell mean: a distribution of its value, to score, to draw from and to ask.

A network gives P numbers for each value, without bounds and of order one: `parameters` (P, ...). The distribution
says which range each of them has. Values are of order one: residuals, or (rain) fields in units of the first guess's
error.

Drawing goes by normal scores z, of which Phi(z) is the probability: correlated normal noise becomes correlated
values, and the upper tail keeps its precision where 1 - Phi(z) is below that of a single-precision number near one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

LEAST = 1e-3
"""Smallest deviation, in units of the values."""
# softplus(x + _UNIT) is one at x = 0, where an untrained network is.
_UNIT = math.log(math.e - 1)
# Probabilities nearer to 0 and 1 have no score in single precision.
_EDGE = 1e-7


class Distribution(ABC):
    """A family of distributions of one value.

    Attributes:
        of_residual: whether its values are residuals; else they are physical values that cannot be negative, in units
            of the first guess's error.
        count: number P of parameters of a value.
    """

    of_residual: ClassVar[bool] = True
    count: int

    @abstractmethod
    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """Proper score of each value (...), for parameters (P, ...) and finite truth (...): CRPS or the log score."""

    @abstractmethod
    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        """The value (...) that is not exceeded with probability Phi(score), for normal scores (...)."""

    @abstractmethod
    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        """Probability (...) of values below those given.

        Args:
            parameters: (P, ...).
            values: (...).
            uniform: numbers between 0 and 1 (...), by which a value that has a probability of its own (no rain) takes a
                place within it; then chances are uniform where the distribution is right.
        """

    def quantile(self, parameters: Tensor, chance: Tensor) -> Tensor:
        """The value (...) that is not exceeded with these probabilities (...)."""
        return self.value(parameters, torch.special.ndtri(chance))

    def score(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        """Normal score (...) of the chance of values, finite."""
        chance = self.chance(parameters, values, uniform)
        normal: Tensor = torch.special.ndtri(chance.clamp(_EDGE, 1 - _EDGE))
        return normal

    def about(self, parameters: Tensor, guess: Tensor) -> Tensor:
        """The parameters with the first guess (...), in the units of the values, added to their location."""
        return torch.cat([parameters[:-1], (parameters[-1] + guess)[None]])


def positive(parameter: Tensor) -> Tensor:
    """A positive number, one at 0."""
    return functional.softplus(parameter + _UNIT) + LEAST


def normal_density(standard: Tensor) -> Tensor:
    """Of the standard normal distribution."""
    return torch.exp(-0.5 * standard.square()) / math.sqrt(2 * math.pi)


def normal_chance(standard: Tensor) -> Tensor:
    """Probability below, of the standard normal distribution; `torch.special.ndtr` has no lower tail in float32."""
    return torch.erfc(standard * -math.sqrt(0.5)) / 2
