"""Student's t: a location, a scale, and degrees of freedom n that say how heavy the tails are.

    CRPS = s (z (2 F(z) - 1) + 2 f(z) (n + z^2) / (n - 1) - 2 sqrt(n) / (n - 1) B(1/2, n - 1/2) / B(1/2, n/2)^2)

with z = (y - m) / s, f and F density and distribution of the standard t. With z = sqrt(n) tan(a),

    F(z) = 1/2 + c integral from 0 to a of cos(b)^(n - 1) db,      c = Gamma((n + 1) / 2) / (Gamma(n / 2) sqrt(pi))

by the quadrature of Gauss and Legendre, as is the derivative by n, which torch has not. The CRPS hardly sees the tails:
where it matters how heavy they are, learn by the log score, -log(f(z) / s), which does and costs less.

Source: Jordan, Krüger and Lerch, "Evaluating Probabilistic Forecasts with scoringRules", Journal of Statistical
Software 90, 2019, doi:10.18637/jss.v090.i12.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from finegrid.conventions import InputError
from finegrid.heads.distributions.base import Distribution, positive
from finegrid.heads.distributions.tables import student_value

SCORES = ("crps", "log")
# Two has no variance; beyond thirty the CRPS cannot tell it from a normal.
_DEGREES = (2.0, 30.0)
# An untrained network has seven.
_START = -1.5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class StudentT(Distribution):
    """Parameters: degrees of freedom, scale, location.

    Args:
        score: by which it learns, crps or log.

    Raises:
        InputError: on another score.
    """

    count = 3

    def __init__(self, score: str = "crps") -> None:
        if score not in SCORES:
            raise InputError(f"got score: {score} for student-t; expected {' or '.join(SCORES)}; use crps")
        self.scored_by = score

    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        degrees, scale, location = _read(parameters)
        standard = (truth - location) / scale
        log_density = _log_norm(degrees) - (degrees + 1) / 2 * torch.log1p(standard.square() / degrees)
        if self.scored_by == "log":
            return torch.log(scale) - log_density
        within = standard * (2 * student_chance(standard, degrees) - 1)
        beyond = 2 * torch.exp(log_density) * (degrees + standard.square()) / (degrees - 1)
        own = _log_beta(degrees - 0.5) - 2 * _log_beta(degrees / 2) + 0.5 * torch.log(degrees)
        return scale * (within + beyond - 2 * torch.exp(own) / (degrees - 1))

    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        degrees, scale, location = _read(parameters)
        return location + scale * student_value(score, degrees)

    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        degrees, scale, location = _read(parameters)
        return student_chance((values - location) / scale, degrees).clamp(0.0, 1.0)


def student_chance(standard: Tensor, degrees: Tensor) -> Tensor:
    """Distribution function of Student's t (...), with first derivatives by both arguments (...)."""
    found: Tensor = _Chance.apply(standard, degrees)  # type: ignore[no-untyped-call]
    return found


class _Chance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, standard: Tensor, degrees: Tensor) -> Tensor:
        angle = torch.atan(standard / degrees.sqrt())
        area, slope = torch.zeros_like(angle), torch.zeros_like(angle)
        for node, weight in zip((_NODES + 1) / 2, _WEIGHTS / 2, strict=True):
            log = torch.log(torch.cos(float(node) * angle))
            part = float(weight) * torch.exp((degrees - 1) * log)
            area += part
            slope += part * log
        level = torch.exp(_log_norm(degrees) + 0.5 * torch.log(degrees))
        ctx.save_for_backward(standard, degrees, angle, level * angle * area, level * angle * slope)
        return 0.5 + level * angle * area

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        standard, degrees, angle, excess, slope = ctx.saved_tensors
        log_cos = torch.log(torch.cos(angle))
        density = torch.exp(_log_norm(degrees) + (degrees + 1) * log_cos)
        of_level = (torch.digamma((degrees + 1) / 2) - torch.digamma(degrees / 2)) / 2
        # The end of the integral moves with n as well: d(angle) / dn at fixed z.
        moved = -density * standard / (2 * degrees)
        return gradient * density, gradient * (excess * of_level + slope + moved)


def _read(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = _DEGREES
    return low + (high - low) * torch.sigmoid(parameters[0] + _START), positive(parameters[1]), parameters[2]


def _log_norm(degrees: Tensor) -> Tensor:
    """Logarithm of the density at zero."""
    return torch.lgamma((degrees + 1) / 2) - torch.lgamma(degrees / 2) - 0.5 * torch.log(math.pi * degrees)


def _log_beta(second: Tensor) -> Tensor:
    """Log B(1/2, b)."""
    return 0.5 * math.log(math.pi) + torch.lgamma(second) - torch.lgamma(second + 0.5)
