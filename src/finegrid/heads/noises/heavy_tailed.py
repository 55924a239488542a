"""Noise with the tails of what was left in training: Student's t where they are heavy, normal where they are not.

    e_j = t(d_j) sqrt((d_j - 2) / d_j),      d_j = 1 / tail index of output j

A smooth network cannot make heavy tails of light ones: what it draws has the tails of its base noise. The outputs
have degrees of freedom of their own, and tails are not shared. Draws go through normal scores, one normal number
each. Where there is no variance, or one that no sample shows (d below 2.5), the scale is that of d = 2.5.

Source: Laszkiewicz, Lederer and Fischer, "Marginal Tail-Adaptive Normalizing Flows", ICML 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.heads.base import Place
from finegrid.heads.distributions.tables import student_value
from finegrid.heads.draws import Draws
from finegrid.heads.noises.base import Noise
from finegrid.heads.noises.tails import tail_index

_LEAST_DEGREES = 2.5
# Values by which a tail is judged: a sample of a few million cells says no more.
_JUDGED = 2_000_000


class HeavyTailed(Noise):
    """Student's t or normal, independent in every cell; normal before it has learnt."""

    index: Tensor

    def __init__(self, place: Place, outputs: int) -> None:
        super().__init__(place, outputs)
        self.register_buffer("index", torch.zeros(outputs))

    @property
    def degrees(self) -> Tensor:
        """Degrees of freedom of each output (output,), infinite for a normal one."""
        return 1 / self.index

    def forward(self, draws: Draws, channels: int) -> Tensor:
        # More channels than outputs are several of each.
        which = torch.arange(channels, device=self.index.device) % self.outputs
        degrees = self.degrees[which][:, None, None]
        scale = torch.sqrt(1 - 2 / degrees.clamp(min=_LEAST_DEGREES))
        return scale * student_value(draws.normal(channels, *self.shape), degrees)

    @torch.no_grad()
    def fit(self, residuals: Tensor, weight: Tensor) -> None:
        counted = weight.expand(residuals.shape) > 0
        for output in range(self.outputs):
            values = residuals[:, output][counted[:, output]]
            self.index[output] = tail_index(values[:: -(-len(values) // _JUDGED) or 1])
