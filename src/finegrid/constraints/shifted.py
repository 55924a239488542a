"""A constraint for quantities without negative values, on units whose zero is not nothing: degrees Celsius as kelvin.

The field is shifted there and back, and what rounding leaves of the violation is removed in its own units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import Aggregation, Constraint, per_channel


class ShiftedConstraint(nn.Module):
    """Another constraint on shifted values.

    Args:
        constraint: the constraint.
        offsets: what is added to each channel before it acts.
    """

    conserves: bool = True
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ()
    offsets: Tensor

    def __init__(self, constraint: Constraint, offsets: Sequence[float]) -> None:
        super().__init__()
        self.inner, self._add = constraint, AddConstraint()
        self.conserves = constraint.conserves
        self.register_buffer("offsets", per_channel(offsets))

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self._through("project", fine, coarse, operator)

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self._through("reproject", fine, coarse, operator)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self.inner.violation(fine, coarse, operator)

    def _through(self, method: str, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        zero = self.offsets.to(fine)
        shifted = getattr(self.inner, method)(fine + zero, coarse + zero.to(coarse), operator) - zero
        return self._add.reproject(shifted, coarse, operator)
