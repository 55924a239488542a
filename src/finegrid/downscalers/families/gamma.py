"""y ~ Gamma with mean m = exp(z b) and variance d_i m^(2 + b): humidity, radiation, the amounts of rain.

Fisher scoring, whose expected second derivative does not change from step to step. z b does not leave the range of all
but the driest and the wettest hundredth of the training days: an exponential must not extrapolate. A cell with fewer
than `LEAST` values has the same mean on all days and the dispersion of all cells together. The dispersion changes with
the mean by a power that all cells share, since rain on the wettest days is less uncertain, relative to its amount, than
drizzle.

Source: McCullagh and Nelder, Generalized Linear Models, 1989, chapter 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy.special import beta, gammainc, gammaincinv
from torch import Tensor

from finegrid.downscalers.families.base import Family, Numbers, count_of, curvature, linear, ridge_of

LEAST = 20
"""Values from which the weights of a cell can be learnt."""
_STEPS = 25
# Part of the training days within whose range z b may move.
_USUAL = 0.99
# Powers of the expected value with which the dispersion may change.
_POWERS = (-1.0, 0.5)
_LEAST_SHAPE, _MOST_SHAPE = 0.05, 1e4
# A quantile above this probability is taken at it: 1 - 1/65536 is the highest rank, and draws beyond are not meant.
_HIGHEST = 1 - 1e-7


class Gamma(Family):
    """Positive values, of which the deviation grows with the mean."""

    name: ClassVar[str] = "gamma"

    def fit(self, z: Tensor, y: Tensor, known: Tensor, penalties: Sequence[float]) -> dict[str, Tensor]:
        usual = ((y * known).sum(1) / count_of(known)).clamp(min=1e-12)
        enough = known.sum(1) >= LEAST
        relative = torch.where(known > 0, y / usual[:, None], 1.0).clamp(min=1e-6)
        weights = _scored(z, relative, known, ridge_of(z, penalties[0])) * enough[..., None]
        link, counted = linear(z, weights), known > 0
        seen = torch.where(counted, link, torch.nan)
        low, high = (torch.nanquantile(seen, part, dim=1).nan_to_num(nan=0.0) for part in (1 - _USUAL, _USUAL))
        expected = torch.exp(torch.minimum(torch.maximum(link, low[:, None]), high[:, None]))
        dispersion, tilt = _dispersion((relative / expected - 1).square(), expected, known, enough)
        weights[..., -1] += torch.log(usual)
        span = torch.stack([low, high], dim=-1) + torch.log(usual)[..., None]
        few = (~enough).to(z.dtype)
        return {"mean": weights, "span": span, "usual": usual, "dispersion": dispersion, "tilt": tilt, "few": few}

    def mean(self, z: Tensor, numbers: Numbers) -> Tensor:
        low, high = numbers["span"][:, None, :, 0], numbers["span"][:, None, :, 1]
        return torch.exp(torch.minimum(torch.maximum(linear(z, numbers["mean"]), low), high))

    def chance(self, z: Tensor, y: Tensor, numbers: Numbers, uniform: Tensor) -> Tensor:
        mean, shape = self.moments(z, numbers)
        scaled = torch.nan_to_num(y, nan=0.0).clamp(min=0.0) * shape / mean
        return torch.from_numpy(gammainc(shape.numpy(), scaled.numpy()))

    def quantile(self, z: Tensor, chance: Tensor, numbers: Numbers) -> Tensor:
        mean, shape = self.moments(z, numbers)
        return gamma_quantile(chance, mean, shape)

    def losses(self, z: Tensor, y: Tensor, numbers: Numbers) -> list[Tensor]:
        mean, shape = self.moments(z, numbers)
        scale, y = mean / shape, y.clamp(min=0.0)
        below, lower = (torch.from_numpy(gammainc((shape + more).numpy(), (y / scale).numpy())) for more in (0, 1))
        spread = scale / torch.from_numpy(beta(0.5, shape.numpy()))
        return [y * (2 * below - 1) - mean * (2 * lower - 1) - spread]  # CRPS (Scheuerer and Möller 2015, eq. 5)

    def moments(self, z: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Mean and shape (cell, time, target)."""
        mean = self.mean(z, numbers)
        relative = mean / numbers["usual"][:, None]
        dispersion = numbers["dispersion"][:, None] * relative ** numbers["tilt"][:, None]
        return mean, (1.0 / dispersion.clamp(min=1e-12)).clamp(_LEAST_SHAPE, _MOST_SHAPE)


def gamma_quantile(chance: Tensor, mean: Tensor, shape: Tensor) -> Tensor:
    """Values of a gamma variable (any shape) that are not exceeded with these probabilities."""
    found = gammaincinv(shape.numpy(), np.minimum(chance.numpy(), _HIGHEST))
    return torch.from_numpy(np.asarray(found)) * mean / shape


def _dispersion(squares: Tensor, expected: Tensor, known: Tensor, enough: Tensor) -> tuple[Tensor, Tensor]:
    """Dispersion of each cell and its power of the expected value, (cell, target); the power is common to all.

    By alternating the two least deviances of squares (y / mean - 1)^2 about d_i mean^b.
    """
    count, log, power = count_of(known), torch.log(expected), squares.new_zeros(())
    for _ in range(_STEPS):
        shrunk = squares / expected**power
        level = ((shrunk * known).sum(1) / count).clamp(min=1e-12)
        ratio = shrunk / level[:, None] * known * enough[:, None]
        change = (log * (ratio - known * enough[:, None])).sum() / (log.square() * ratio).sum().clamp(min=1e-12)
        power = (power + change.clamp(-0.2, 0.2)).clamp(*_POWERS)
    common = (level * enough).sum() / enough.sum().clamp(min=1)
    fallback = torch.where(common > 0, common, torch.ones_like(common))
    return torch.where(enough, level, fallback), power.expand(level.shape).clone()


def _scored(z: Tensor, relative: Tensor, known: Tensor, ridge: Tensor) -> Tensor:
    """Weights (cell, target, predictor) of the log mean of values that are 1 on average."""
    factor = torch.linalg.cholesky(curvature(z, known, ridge))
    weights = z.new_zeros(relative.shape[0], relative.shape[2], z.shape[2])
    for _ in range(_STEPS):
        ratio = relative / torch.exp(linear(z, weights).clamp(-10.0, 10.0))
        # One day of fifty times the expected amount must not throw all weights about.
        gradient = ((ratio - 1).clamp(max=5.0) * known).mT @ z - ridge * weights
        step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        weights = weights + step
        if step.abs().max() < 1e-3:
            break
    return weights
