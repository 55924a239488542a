"""A distribution of a fine value given the weather, whose parameters are linear in the predictors behind a link.

Shapes: predictors z (cell, time, predictor), the last one 1; values y (cell, time, target); known is 1 where a value
counts and 0 elsewhere. Learnt numbers are (cell, target, ...), so that cells may be fitted some at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

Numbers = Mapping[str, Tensor]
# Of the penalty of the one: as good as none.
_FREE = 1e-6


class Family(ABC):
    """What a kind of distribution can be asked; the numbers are those that `fit` found."""

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ("mean",)
    """What has weights, and so a penalty, of its own."""

    @abstractmethod
    def fit(self, z: Tensor, y: Tensor, known: Tensor, penalties: Sequence[float]) -> dict[str, Tensor]:
        """Maximum likelihood with a penalty on the squares of the weights of each part."""

    @abstractmethod
    def mean(self, z: Tensor, numbers: Numbers) -> Tensor:
        """Expected values (cell, time, target)."""

    @abstractmethod
    def chance(self, z: Tensor, y: Tensor, numbers: Numbers, uniform: Tensor) -> Tensor:
        """Probability of a smaller value (cell, time, target); where it jumps, a `uniform` part of the jump."""

    @abstractmethod
    def quantile(self, z: Tensor, chance: Tensor, numbers: Numbers) -> Tensor:
        """The value that is not exceeded with this probability (cell, time, target)."""

    @abstractmethod
    def losses(self, z: Tensor, y: Tensor, numbers: Numbers) -> list[Tensor]:
        """Proper scores of the values by each part, the smaller the better; NaN where a part has no say."""


def ridge_of(z: Tensor, penalty: float) -> Tensor:
    """Penalty of each weight."""
    ridge = torch.full((z.shape[-1],), penalty, dtype=z.dtype)
    ridge[-1] = _FREE
    return ridge


def curvature(z: Tensor, weights: Tensor, ridge: Tensor) -> Tensor:
    """Second derivatives (cell, target, predictor, predictor) for weights of times (cell, time, target)."""
    weighted = z.mT[:, None] * weights.mT[:, :, None, :]
    return weighted @ z[:, None] + torch.diag(ridge)


def linear(z: Tensor, weights: Tensor) -> Tensor:
    """Z b for weights (cell, target, predictor)."""
    return z @ weights.mT


def count_of(known: Tensor) -> Tensor:
    """Values that count (cell, target), at least 1."""
    return known.sum(1).clamp(min=1.0)
