"""MultCL: the same factor for every fine cell of a block.

    y_i = p_i * x / mean(p),      p = max(yt, 0)

For x >= 0 no value is negative, and zeros stay exactly zero, so that a wet block can have dry cells.

Choices where the published form divides by zero or leaves the positive numbers:

- p is a rectifier, not a softplus: it leaves positive raw values as they are (the layer is idempotent) and
  allows exact zeros. In the backward pass it lets gradients through that pull a negative raw value up, so
  that a cell once below zero is not lost to training; those that push it further down are stopped, so that
  it does not drift away.
- The factor is at most 1 / floor. A block whose raw mean is below floor * x first gets what it lacks,
  c = floor * x - mean(p), in equal parts: y_i = (p_i + c) * x / (mean(p) + c). A block with no positive raw
  value becomes uniform, and conserves.
- x = 0 gives exactly 0 with gradient 0. So do slightly negative x (packing noise in files): the block
  becomes uniformly x.

Source: Harder et al., JMLR 24(365), 2023, equation of the multiplicative constraint layer.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from finegrid.constraints.base import Aggregation, HardConstraint


class _Rectify(torch.autograd.Function):
    """max(0, raw), with the gradient that would raise a negative value let through."""

    generate_vmap_rule = True

    @staticmethod
    def forward(raw: Tensor) -> Tensor:
        return raw.clamp(min=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (raw,) = ctx.saved_tensors
        return torch.where(raw > 0, gradient, gradient.clamp(max=0))


class MultiplicativeConstraint(HardConstraint):
    """Scales each block to its coarse value; for units without negative values.

    Args:
        floor: smallest raw block mean, as a part of the coarse value, that is scaled up without help; its
            inverse bounds the gain of the layer and of its gradients.
    """

    needs_positive: ClassVar[bool] = True

    def __init__(self, *, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor

    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        positive: Tensor = _Rectify.apply(fine)  # type: ignore[no-untyped-call]
        mean = operator.mean(positive)
        lacking = (self.floor * coarse - mean).clamp(min=0)
        # below this, floor * x is no normal number of the dtype; physically dry
        wet = coarse > torch.finfo(coarse.dtype).tiny / self.floor
        factor = coarse / torch.where(wet, mean + lacking, 1.0)
        level = torch.where(wet, factor * lacking, coarse)
        scaled = positive * operator.spread(torch.where(wet, factor, 0.0))
        # Nearly always no block lacks anything, and the levels need not be spread.
        return scaled + operator.spread(level) if bool(level.any()) else scaled

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return rescaled(fine, coarse, operator)


def rescaled(fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
    """Removes a small relative violation by a factor per block, which keeps zeros and signs.

    The factor is applied as 1 + e, with e from differences: near 1 a float32 factor itself would be too
    blunt.
    """
    error = operator.mean(operator.spread(coarse) - fine) / torch.where(coarse == 0, 1.0, coarse)
    return fine + fine * operator.spread(error)
