"""Parts that add up to a total at every cell, such as rain + snow = precipitation, none of them negative.

The total is the nearest field without negative values that has the means (`bounded`). Each part but the last lies
between zero and what the parts before it leave of the total, with its own exact means; the last part is the rest,

    y_1 = bounded(yt_1, x_1; 0 <= y_1 <= total),      y_2 = bounded(yt_2, x_2; 0 <= y_2 <= total - y_1),   ...

and its means are right where the coarse values add up. Where they do not, the violation counts it (`unmet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.base import Aggregation
from finegrid.constraints.bounded import BoundedConstraint
from finegrid.constraints.relation import Relation, checked, excess


class TotalConstraint(Relation):
    """Keeps a total and its parts together.

    Args:
        variables: names of the total and of two parts or more, in one unit.
    """

    roles: ClassVar[tuple[str, ...]] = ("pr", "prsn", "prra")

    def __init__(self, *, variables: Sequence[str]) -> None:
        super().__init__()
        self.variables = checked("total", variables, least=3)
        self._bounded = BoundedConstraint(low=0.0)

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        total: Tensor = self._bounded.project(fine[..., :1, :, :], coarse[..., :1, :, :], operator)
        parts, rest = [], total
        for index in range(1, len(self.variables) - 1):
            one = slice(index, index + 1)
            part = self._bounded.project(fine[..., one, :, :], coarse[..., one, :, :], operator, high=rest)
            parts.append(part)
            rest = rest - part
        return torch.cat([total, *parts, rest], dim=-3)

    def disorder(self, fine: Tensor, operator: Aggregation) -> Tensor:
        """The largest difference between total and sum, or negative value, over the size of the fields; (...,)."""
        gap = (fine[..., :1, :, :] - fine[..., 1:, :, :].sum(-3, keepdim=True)).abs()
        return excess(torch.cat([gap, -fine], dim=-3), fine[..., :1, :, :], operator)
