"""What a loss is, and the one way in which losses average over cells that count differently or are missing.

A loss is a function ``(prediction, truth, weight) -> (batch,)``: one value per sample, so that the caller
can weight samples. Weights carry the cell areas (a row of cells near the pole counts less), the validity of
cells and, where wanted, the importance of channels. A NaN in the truth drops that cell from its sample.

    loss = sum_i w_i * l(p_i - t_i) / sum_i w_i,      i over the channels and cells whose truth is known
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """A distance of fine fields ``(..., channel, H, W)``, least where prediction and truth agree."""

    def __call__(self, prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor: ...


def averaged(pointwise: Callable[[Tensor], Tensor], prediction: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted mean of ``pointwise(prediction - truth)`` in each sample, ``(...,)``; 0 without any truth.

    Args:
        weight: broadcastable to ``(channel, H, W)``, not negative; None counts every cell alike.
    """
    known = torch.isfinite(truth)
    # masked before the loss is taken, not after: the gradient of NaN times a weight of 0 would be NaN
    difference = torch.where(known, prediction - truth, 0.0)
    share = known.to(difference.dtype) if weight is None else torch.where(known, weight, 0.0)
    share = share.expand(difference.shape)
    total = share.sum((-3, -2, -1))
    return (pointwise(difference) * share).sum((-3, -2, -1)) / torch.where(total > 0, total, 1.0)
