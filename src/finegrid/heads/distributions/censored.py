"""Rain as a shifted gamma variable of which what is below zero is no rain: one distribution for whether and how much.

    y = max(0, x + d),      x ~ gamma(shape k, scale q),  d < 0

With c = -d / q, v = (y - d) / q and F_k the distribution function of gamma(k, 1)

    CRPS = q [ v (2 F_k(v) - 1) - c F_k(c)^2 + k (1 + 2 F_k(c) F_k+1(c) - F_k(c)^2 - 2 F_k+1(v))
               - k / pi B(1/2, k + 1/2) (1 - F_2k(2 c)) ]

and F_k+1(x) = F_k(x) - x^k exp(-x) / Gamma(k + 1).

Source: Scheuerer and Hamill, "Statistical Postprocessing of Ensemble Precipitation Forecasts by Fitting Censored,
Shifted Gamma Distributions", Monthly Weather Review 143, 2015, doi:10.1175/MWR-D-15-0061.1.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from finegrid.heads.distributions.base import Distribution, positive
from finegrid.heads.distributions.rain import bounded_shape
from finegrid.heads.distributions.tables import gamma_value


class CensoredShiftedGamma(Distribution):
    """Parameters: shift, deviation, mean of the gamma variable."""

    of_residual: ClassVar[bool] = False
    count = 3

    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        shape, scale, shift = _read(parameters)
        nothing, value = -shift / scale, (truth.clamp(min=0.0) - shift) / scale
        dry, below = gamma_chance(shape, nothing), gamma_chance(shape, value)
        dry_next, below_next = (f - _step(shape, x) for f, x in ((dry, nothing), (below, value)))
        within = value * (2 * below - 1) - nothing * dry.square()
        moments = shape * (1 + 2 * dry * dry_next - dry.square() - 2 * below_next)
        own = torch.exp(torch.lgamma(shape + 0.5) - torch.lgamma(shape)) / math.sqrt(math.pi)
        return scale * (within + moments - own * (1 - gamma_chance(2 * shape, 2 * nothing)))

    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        shape, scale, shift = _read(parameters)
        return (gamma_value(score, shape) * scale + shift).clamp(min=0.0)

    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        shape, scale, shift = _read(parameters)
        below = torch.special.gammainc(shape, (values.clamp(min=0.0) - shift) / scale)
        return torch.where(values > 0, below, uniform * below)


def gamma_chance(shape: Tensor, values: Tensor) -> Tensor:
    """Distribution function of a gamma variable of scale 1 (...), with first derivatives by both arguments (...)."""
    found: Tensor = _Chance.apply(shape, values)  # type: ignore[no-untyped-call]
    return found


class _Chance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(shape, values)
        found: Tensor = torch.special.gammainc(shape, values)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        shape, values = ctx.saved_tensors
        least = values.clamp(min=1e-12)
        density = torch.exp((shape - 1) * torch.log(least) - least - torch.lgamma(shape))
        # The derivative of a draw by the shape, by which torch differentiates its own gamma variables, is
        # -(dF / dk) / f at that draw.
        by_shape = -density * torch._standard_gamma_grad(shape, least)
        return gradient * by_shape.nan_to_num(0.0, 0.0, 0.0), gradient * density


def _step(shape: Tensor, values: Tensor) -> Tensor:
    """F_k(x) - F_k+1(x)."""
    least = values.clamp(min=1e-12)
    return torch.exp(shape * torch.log(least) - least - torch.lgamma(shape + 1))


def _read(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, scale and shift (...)."""
    deviation, mean = positive(parameters[1]), positive(parameters[2])
    shape = bounded_shape((mean / deviation).square())
    return shape, mean / shape, -positive(parameters[0])
