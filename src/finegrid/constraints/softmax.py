"""SmCL: the coarse value is shared out by a softmax over the raw values of its block.

    y_i = exp(z_i) * x / mean(exp(z)),      z = yt / scale

Positive by construction for x > 0, and the best layer in the source for water variables. Only the
differences of z within a block matter; the largest z of each block is subtracted first, so that exp neither
overflows nor sums to zero.

The scale decides how well it trains. To first order y_i - x = (x / scale) * (yt_i - m): with scale = x the
layer answers to its input as AddCL does. The source gets near this by scaling the data to [0, 1]; in raw
kelvin with scale = 1 a difference of 10 K would become a factor of 22026. So `scale` is the usual size of
the channel, the mean of |x| over the training data (not the standard deviation, which at 280 +- 10 K makes
the layer 28 times too sensitive). For rain, where it is close to the standard deviation, the exponent spans
several units, as it must to leave cells nearly dry.

The layer is not idempotent: a softmax of values that are already shares flattens or sharpens them. To
repair a physical field use `reproject`, which scales the block as MultCL does.

Source: Harder et al., JMLR 24(365), 2023, equation of the softmax constraint layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.balance import Problem
from finegrid.constraints.base import Aggregation, HardConstraint, by_column, per_channel
from finegrid.constraints.multiplicative import MultiplicativeConstraint, proportional, rescaled
from finegrid.constraints.sparse import SparseMean

_FARTHEST = 80.0


class SoftmaxConstraint(HardConstraint):
    """Shares the coarse value out among the cells of its block; for units without negative values.

    Args:
        scale: mean of |x| over the training data, one number or one per channel, in the units of the
            channel; 1 when the raw values are without units.
    """

    needs_positive: ClassVar[bool] = True
    statistics: ClassVar[tuple[str, ...]] = ("scale",)
    scale: Tensor

    def __init__(self, *, scale: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", per_channel(scale))
        self._repair = MultiplicativeConstraint()

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self._repair.project(fine, coarse, operator)

    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        exponent = fine / self.scale
        largest = operator.spread(operator.max(exponent.detach()))
        # a missing fine cell may exceed the largest valid one, and must not overflow
        weight = torch.exp((exponent - largest).clamp(max=0))
        return weight * operator.spread(coarse / _one_if_void(operator.mean(weight)))

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return rescaled(fine, coarse, operator)

    def _problem(self, fine: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor) -> Problem:
        exponent = fine / by_column(self.scale, fine)
        # Around the mean of the cells, and never so far from it that float32 overflows.
        centre = operator.blend_of(operator.mean_of(exponent))
        weight = torch.exp((exponent - centre).clamp(-_FARTHEST, _FARTHEST))
        # In the size of the coarse values already: cells that lie in coarse cells by a part answer to them by a part.
        size = torch.where(active, coarse / _one_if_void(operator.mean_of(weight)), 1.0)
        return proportional(weight * operator.blend_of(size), coarse, operator, active)


def _one_if_void(mean: Tensor) -> Tensor:
    return torch.where(mean > 0, mean, 1.0)
