"""Base noise: what a head turns into fields, of mean zero and (where there is one) variance one in every cell."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from finegrid.heads.base import Place
from finegrid.heads.draws import Draws


class Noise(nn.Module, ABC):
    """Random fields on the fine grid of a place.

    Args:
        place: the domain.
        outputs: predicted fields.
    """

    def __init__(self, place: Place, outputs: int) -> None:
        super().__init__()
        self.shape = (place.weight.shape[-2], place.weight.shape[-1])
        self.outputs = outputs

    @abstractmethod
    def forward(self, draws: Draws, channels: int) -> Tensor:
        """Fields (len(draws), channels, H, W)."""

    def fit(self, residuals: Tensor, weight: Tensor) -> None:
        """Learn from what was left in training.

        Args:
            residuals: (n, output, H, W), of order one.
            weight: importance of each value, broadcastable to the residuals; 0 for those that are missing.
        """
