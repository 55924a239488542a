"""No constraint: the raw output of the network and how much it violates conservation, for comparison."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from finegrid.constraints.base import Aggregation, violation


class NoConstraint(nn.Module):
    """Leaves the field as it is and reports its violation."""

    conserves: ClassVar[bool] = False
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ()

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return fine

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return fine

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return violation(fine, coarse, operator)
