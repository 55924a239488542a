"""Levels of noise: which ones are trained, which ones a sampler visits, and the scalings that make them alike.

Residuals x have the deviation d, and a field at level s is x + s * e with e of unit variance. The denoiser is

    D(x; s) = c_skip x + c_out F(c_in x; c_noise)
    c_skip = d^2 / (s^2 + d^2),   c_out = s d / sqrt(s^2 + d^2),   c_in = 1 / sqrt(s^2 + d^2),   c_noise = log(s) / 4

so that input and target of the network F have unit variance at every level; its loss is (s^2 + d^2) / (s d)^2 times
the square error of D, which is the plain square error of F. Samplers visit

    s_i = (highest^(1/rho) + i / (n - 1) * (lowest^(1/rho) - highest^(1/rho)))^rho,   i = 0 ... n - 1,   then 0,

which with an infinite rho are even steps of the logarithm. What suits a sampler is its own.

Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022. The levels of
training are higher there than in the source, where d = 0.5: they are relative to the deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from finegrid.conventions import InputError

# Levels at which a head is judged, always the same ones.
_JUDGED = 8


@dataclass(frozen=True)
class Levels:
    """Levels of noise.

    Attributes:
        lowest: at which a sampler ends, before 0.
        highest: at which it begins.
        centre: mean of the logarithm of the levels of training.
        width: its deviation.
        deviation: of the residuals.
    """

    lowest: float
    highest: float
    centre: float
    width: float
    deviation: float

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest or not self.width > 0 or not self.deviation > 0:
            raise InputError(
                f"got levels of noise from {self.lowest} to {self.highest}, width {self.width}, deviation "
                f"{self.deviation}; expected all above 0 and the first below the second; change downscaler.head"
            )

    def visited(self, steps: int, *, rho: float, device: torch.device | str = "cpu") -> Tensor:
        """Falling levels (steps + 1,), of which the last is 0; the larger `rho`, the more of them are low."""
        if math.isinf(rho):
            ramp = torch.linspace(math.log(self.highest), math.log(self.lowest), steps, dtype=torch.float64).exp()
        else:
            first, last = self.highest ** (1 / rho), self.lowest ** (1 / rho)
            ramp = torch.linspace(first, last, steps, dtype=torch.float64).pow(rho)
        return torch.cat([ramp, torch.zeros(1, dtype=torch.float64)]).float().to(device)

    def trained(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Random levels (count,), spread evenly over their distribution."""
        chance = (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count
        return self._at(chance)

    def judged(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Levels (count,) that are always the same ones."""
        return self._at((torch.arange(count, device=device) % _JUDGED + 0.5) / _JUDGED)

    def _at(self, chance: Tensor) -> Tensor:
        normal: Tensor = torch.special.ndtri(chance.clamp(1e-4, 1 - 1e-4))
        return (self.centre + self.width * normal).exp()

    def skip(self, level: Tensor) -> Tensor:
        """c_skip."""
        return self.deviation**2 / (level.square() + self.deviation**2)

    def out(self, level: Tensor) -> Tensor:
        """c_out."""
        return level * self.deviation * self.into(level)

    def into(self, level: Tensor) -> Tensor:
        """c_in."""
        return (level.square() + self.deviation**2).rsqrt()

    def weight(self, level: Tensor) -> Tensor:
        """By which square errors of the denoised estimate are multiplied."""
        return self.out(level).square().reciprocal()
