"""White noise: independent in every cell."""

from __future__ import annotations

from torch import Tensor

from finegrid.heads.draws import Draws
from finegrid.heads.noises.base import Noise


class White(Noise):
    """Normal in every cell."""

    def forward(self, draws: Draws, channels: int) -> Tensor:
        return draws.normal(channels, *self.shape)
