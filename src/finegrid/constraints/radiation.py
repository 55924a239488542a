"""Sunshine between nothing and what reaches the top of the atmosphere, with exact means: `bounded` by the sun.

    0 <= rsds <= S(time, latitude, longitude)

The upper limit differs from cell to cell and from time to time; whoever calls passes it as `high` (`data.solar`).
At night the limit is zero, and a coarse value above it is counted as one that cannot be met (`unmet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.base import Aggregation
from finegrid.constraints.bounded import BoundedConstraint
from finegrid.constraints.relation import Relation, checked, excess


class RadiationConstraint(Relation):
    """Keeps shortwave radiation below that of the sun.

    Args:
        variables: name of the downwelling shortwave radiation.
    """

    roles: ClassVar[tuple[str, ...]] = ("rsds",)
    takes_high: ClassVar[bool] = True
    sunlit: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, variables: Sequence[str]) -> None:
        super().__init__()
        self.variables = checked("radiation", variables, least=1, most=1)
        self._bounded = BoundedConstraint(low=0.0)

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation, *, high: Tensor | None = None) -> Tensor:
        found: Tensor = self._bounded.project(fine, coarse, operator, high=high)
        return found

    def disorder(self, fine: Tensor, operator: Aggregation) -> Tensor:
        """Largest negative value over the size of the field; the limits are not known here; (...,)."""
        return excess(-fine, torch.maximum(fine, torch.zeros_like(fine)), operator)
