"""Soft constraint: a penalty on the violation in the training loss, and nothing at prediction.

    penalty = alpha * mean over coarse cells of ((mean(y) - x) / scale)^2

The division by the channel's scale lets kelvin and kg m-2 s-1 be added. The published loss is
``(1 - a) * MSE + a * penalty`` with a = 0.99, which for `alpha` here is a / (1 - a) = 99.

Source: Harder et al., JMLR 24(365), 2023, section "Soft constraining".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from finegrid.constraints.base import Aggregation, per_channel, violation


class SoftConstraint(nn.Module):
    """Pulls towards conservation while training; the field itself stays as it is."""

    conserves: ClassVar[bool] = False
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("scale",)
    scale: Tensor

    def __init__(self, *, alpha: float = 1.0, scale: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("scale", per_channel(scale))

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return fine

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return fine

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return violation(fine, coarse, operator)

    def penalty(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        """Weighted mean square violation of each sample, ``(...,)``, dimensionless; add it to the loss."""
        known = torch.isfinite(coarse)
        target = torch.where(known, coarse, 0.0)
        # Where no cells are shared, the mean of differences is more exact than the difference of means.
        lacking = operator.mean(fine - operator.spread(target)) if operator.disjoint else operator.mean(fine) - target
        gap = torch.where(known & _filled(fine, operator), lacking / self.scale, 0.0)
        count = known.expand(gap.shape).sum((-3, -2, -1)).clamp(min=1)
        return self.alpha * gap.square().sum((-3, -2, -1)) / count


def _filled(fine: Tensor, operator: Aggregation) -> Tensor:
    """Coarse cells that have fine cells."""
    return operator.mean(torch.ones(fine.shape[-3:], dtype=fine.dtype, device=fine.device)) > 0
