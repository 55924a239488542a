"""Variables in ascending order at every cell, such as tasmin <= tas <= tasmax, each with its exact means.

The one in the middle is shifted as by `add`. Below and above it the differences to the next variable are what is
constrained: they may not be negative, and their means are the differences of the coarse values (`bounded`),

    middle = add(yt_middle, x_middle),      high = middle + bounded(yt_high - yt_middle, x_high - x_middle; 0 <= d)

so that order and means hold together. A coarse field out of order cannot be met, and is counted (`unmet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import Aggregation
from finegrid.constraints.bounded import BoundedConstraint
from finegrid.constraints.relation import Relation, checked, excess


class OrderedConstraint(Relation):
    """Keeps an ascending order.

    Args:
        variables: names of two variables or more, the lowest first.
    """

    roles: ClassVar[tuple[str, ...]] = ("tasmin", "tas", "tasmax")

    def __init__(self, *, variables: Sequence[str]) -> None:
        super().__init__()
        self.variables = checked("ordered", variables, least=2)
        self._middle, self._difference = AddConstraint(), BoundedConstraint(low=0.0)

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        start = len(self.variables) // 2
        found: dict[int, Tensor] = {}
        found[start] = self._middle.project(_one(fine, start), _one(coarse, start), operator)
        for step in (-1, 1):
            edge = start
            while 0 <= edge + step < len(self.variables):
                raw = step * (_one(fine, edge + step) - _one(fine, edge))
                given = step * (_one(coarse, edge + step) - _one(coarse, edge))
                found[edge + step] = found[edge] + step * self._difference.project(raw, given, operator)
                edge += step
        return torch.cat([found[index] for index in range(len(self.variables))], dim=-3)

    def disorder(self, fine: Tensor, operator: Aggregation) -> Tensor:
        """By how much neighbours in the order are the wrong way round, at most, over the size of the field; (...,)."""
        wrong = fine[..., :-1, :, :] - fine[..., 1:, :, :]
        return excess(wrong, fine, operator)


def _one(fields: Tensor, index: int) -> Tensor:
    return fields[..., index : index + 1, :, :]
