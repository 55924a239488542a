"""A codec of residual fields: few numbers on a grid of large cells, what they cost, and the field that they stand for.

    z = a * mean over latent cells of E(seen, r) + u,   u uniform in (-1/2, 1/2): as rounding to whole numbers would do
    p(z | seen) = N(m(seen), d(seen)^2) * uniform     what is expected before the field is known
    R = -log2 p(z | seen) / fine values               bits a fine value
    r' = G(seen, (z - m) / d, e)                      e noise, for texture that z does not say

    loss = S(r' of two e, y) + lambda R

S is the fair CRPS of two decoded fields, so that G need not blur what z leaves open; without noise fields S is the
mean absolute error. Both ends see the coarse fields, which cost nothing here since they are known; they take the
place of the hierarchy of the source (a hyperprior says what to expect of the latents, as the coarse fields do here).
The noise u gives latents a unit: what z says finer than that is lost, so that a distribution of them has no detail to
waste itself on.

Source: Ballé et al., "Variational image compression with a scale hyperprior", ICLR 2018 (noise for rounding, rate of
a normal distribution that side information gives); "Scaling learned image compression", 2025 (R + lambda D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.heads.draws import Draws
from finegrid.heads.latent.grid import LatentGrid
from finegrid.heads.space import Problem, Seen

# The noise of rounding alone has a deviation of 0.29.
_LEAST = 0.1
# Networks begin with small answers, and means over cells of them are smaller by the root of the number of cells; the
# noise of rounding would drown them.
_LOUDER = 16.0


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of latents: normal, with mean and deviation (n, channel, rows, columns)."""

    mean: Tensor
    deviation: Tensor

    def standardised(self, latents: Tensor) -> Tensor:
        """Latents about their mean, of order one."""
        return (latents - self.mean) / self.deviation

    def bits(self, latents: Tensor) -> Tensor:
        """What latents cost, each rounded to a cell of one (n, channel, rows, columns)."""
        distance = (latents - self.mean).abs()
        upper = torch.special.log_ndtr((0.5 - distance) / self.deviation)
        lower = torch.special.log_ndtr((-0.5 - distance) / self.deviation)
        # log(a - b) from log(a) and log(b), which far from the mean are what is left of the numbers.
        bits: Tensor = -(upper + torch.log1p(-(lower - upper).clamp(max=-1e-6).exp())) / math.log(2)
        return bits


class Codec(nn.Module):
    """Encoder, decoder and what is expected.

    Args:
        problem: of the fields.
        grid: of the latents.
        texture: fields of noise that the decoder sees.
    """

    def __init__(self, problem: Problem, grid: LatentGrid, *, texture: int) -> None:
        super().__init__()
        self.grid, self.texture = grid, texture
        self._louder = _LOUDER * math.sqrt(grid.side**2 * grid.factor[0] * grid.factor[1])
        self.encoder = problem.network(outputs=grid.channels, fine=problem.space.outputs)
        self.decoder = problem.network(fine=grid.channels + texture)
        self.expectation = grid.problem(problem).network(outputs=2 * grid.channels)

    def encoded(self, residual: Tensor, seen: Seen) -> Tensor:
        """Latents (n, channel, rows, columns) of residuals (n, output, H, W), before rounding."""
        latents: Tensor = self._louder * self.grid.over_fine(seen.through(self.encoder, residual))
        return latents

    def rounded(self, latents: Tensor, draws: Draws) -> Tensor:
        """Latents with the noise of rounding."""
        return latents + draws.uniform(*latents.shape[1:]) - 0.5

    def decoded(self, departures: Tensor, seen: Seen, draws: Draws) -> Tensor:
        """Residuals (n, output, H, W) of standardised latents, which are of order one in dry and in wet cells."""
        height, width = seen.start.shape[-2:]
        fields = [self.grid.on_fine(departures, (height, width))]
        if self.texture:
            fields.append(draws.normal(self.texture, height, width))
        return seen.through(self.decoder, *fields)

    def expected(self, seen: Seen) -> Expected:
        """What the coarse fields say about the latents."""
        static = None if seen.static is None else self.grid.over_fine(seen.static)
        answer = self.expectation(self.grid.over_coarse(seen.coarse), static)
        mean, size = answer.chunk(2, dim=1)
        # Deviations begin at about one.
        return Expected(mean, _LEAST + functional.softplus(size + 0.4))
