"""Noise as smooth as what was left in training: independent draws of cells become fields.

In the cosine transform of the fields (`losses.cosine`) the coefficients a of the outputs at one wavenumber are
independent of those at others, and

    cov(a) = C = (n S + n_0 R) / (n + n_0)

with S the mean of x x' over n transformed training fields x, and R the mean of S over the ring of wavenumbers of the
same size. It holds how much variance each scale has and how outputs go together at that scale; few fields say it for
rings only. Noise is divided by its deviation in each cell, which the edges would change.

Source: Denis, Cote and Laprise 2002, doi:10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2, for the transform.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.base import Place
from finegrid.heads.draws import Draws
from finegrid.heads.noises.base import Noise
from finegrid.losses.cosine import basis, cosine_transform, inverse_cosine_transform, ring_sums, rings_of

# n_0: fields from which a wavenumber counts as much on its own as its ring does.
_FEW = 20
# Part of the mean variance of a coefficient that every one has, so that none is nothing.
_LEAST = 1e-6


class Smooth(Noise):
    """Normal, with the scales of given fields; white before it has learnt."""

    factors: Tensor
    rings: Tensor

    def __init__(self, place: Place, outputs: int) -> None:
        super().__init__(place, outputs)
        rings = rings_of(self.shape)
        self.register_buffer("rings", rings, persistent=False)
        self.register_buffer("factors", torch.eye(outputs).repeat(*self.shape, 1, 1))

    def forward(self, draws: Draws, channels: int) -> Tensor:
        if channels != self.outputs:
            raise InputError(
                f"got {channels} fields of smooth noise for {self.outputs} outputs; expected one for each; "
                "use noise: white"
            )
        white = draws.normal(channels, *self.shape)
        coefficients = torch.einsum("yxij,njyx->niyx", self.factors, white)
        return inverse_cosine_transform(coefficients) / self._deviation()

    @torch.no_grad()
    def fit(self, residuals: Tensor, weight: Tensor) -> None:
        counted = torch.where(weight.expand(residuals.shape) > 0, residuals, 0.0)
        coefficients = cosine_transform(counted)
        single = torch.einsum("niyx,njyx->ijyx", coefficients, coefficients) / len(residuals)
        size = ring_sums(torch.ones_like(single), self.rings).clamp(min=1)
        common = (ring_sums(single, self.rings) / size)[..., self.rings]
        part = len(residuals) / (len(residuals) + _FEW)
        covariances = torch.lerp(common, single, part).permute(2, 3, 0, 1).double()
        usual = covariances.diagonal(dim1=-2, dim2=-1).mean((0, 1))
        # An output that the first guess has right everywhere has no scales; white noise of any size stands for it.
        covariances = covariances + torch.diag(_LEAST * torch.where(usual > 0, usual, 1.0))
        self.factors.copy_(torch.linalg.cholesky(covariances))

    def _deviation(self) -> Tensor:
        """Deviation of each cell (output, H, W): the squares of the transform's basis carry the variances there."""
        variances = self.factors.square().sum(-1).permute(2, 0, 1)
        rows, columns = (basis(size).to(variances).square() for size in self.shape)
        return (rows.mT @ variances @ columns).sqrt()
