"""What a loss is, and the one way in which losses average over cells that count differently or are missing.

A loss is a function ``(prediction, truth, weight) -> (batch,)``: one value per sample, so that the caller
can weight samples. Weights carry the cell areas (a row of cells near the pole counts less), the validity of
cells and, where wanted, the importance of channels. A NaN in the truth drops that cell from its sample.

    loss = sum_i w_i * l(p_i - t_i) / sum_i w_i,      i over the channels and cells whose truth is known

Losses of ensembles are the same function with the members in front of the prediction, `(member, batch, channel, H,
W)`; the truth has no members, and the result is again one value per sample.
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
    return weighted_mean(pointwise(departures(prediction, truth)), shares(known, prediction, weight))


def departures(prediction: Tensor, truth: Tensor) -> Tensor:
    """What the prediction is above the truth, 0 where that is missing."""
    # masked before the loss is taken, not after: the gradient of NaN times a weight of 0 would be NaN
    return torch.where(torch.isfinite(truth), prediction - truth, 0.0)


def shares(known: Tensor, like: Tensor, weight: Tensor | None) -> Tensor:
    """How much each cell of each sample counts: its weight where the truth is known, else 0, in the type of `like`."""
    counted = known.to(like.dtype) if weight is None else torch.where(known, weight.to(like.dtype), 0.0)
    return counted.expand(known.shape)


def weighted_mean(values: Tensor, share: Tensor) -> Tensor:
    """Mean over channel and cells `(...,)`; 0 where nothing counts."""
    total = share.sum((-3, -2, -1))
    return (values * share).sum((-3, -2, -1)) / torch.where(total > 0, total, 1.0)
