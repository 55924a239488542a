"""Attribution by taking away: how much the scalar changes when a group of inputs is as in the baseline.

    a_G = f(x) - f(x with b on G)

A group is a square of cells of one channel, a single cell where there are not too many; its part is shared equally by
its inputs. Parts of a function that is
not linear do not sum to f(x) - f(b): what two groups do together is counted for both, or for neither.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.benchmark.attribution.base import (
    Attributed,
    Attribution,
    Function,
    blocks,
    chunks,
    completeness,
    ends,
    values_at,
)


@dataclass(frozen=True, kw_only=True)
class Grouped(Attribution):
    """A method that changes groups of inputs.

    Args:
        block: cells along a side of a group, where no groups are given; None is as few as leave few enough groups.
    """

    block: int | None = None

    usual_groups: ClassVar[int] = 64

    def side(self, shape: tuple[int, ...]) -> int:
        """Cells along a side of a group of inputs (..., h, w)."""
        if self.block is not None:
            return self.block
        *lead, height, width = shape
        sides = range(1, max(height, width))
        few = (side for side in sides if math.prod(lead) * _count(height, width, side) <= self.usual_groups)
        return next(few, max(height, width))

    def _explained(self, function: Function, inputs: Tensor, baseline: Tensor, groups: Tensor | None) -> Attributed:
        numbers = blocks(tuple(inputs.shape[1:]), self.side(tuple(inputs.shape[1:]))) if groups is None else groups
        _, numbers = torch.unique(numbers, return_inverse=True)
        at_inputs, at_baseline = ends(function, inputs, baseline, self.batch)
        change = at_inputs - at_baseline
        parts = torch.stack([self._parts(function, *each, numbers) for each in zip(inputs, baseline, strict=True)])
        values = shared(parts, numbers, inputs)
        return Attributed(values, change, completeness(values, change))

    @abstractmethod
    def _parts(self, function: Function, inputs: Tensor, baseline: Tensor, numbers: Tensor) -> Tensor:
        """Parts of the groups (group,) of one sample, in double precision."""


@dataclass(frozen=True, kw_only=True)
class Occlusion(Grouped):
    """One group at a time is taken away."""

    name: ClassVar[str] = "occlusion"
    complete: ClassVar[bool] = False
    usual_groups: ClassVar[int] = 4096

    def _parts(self, function: Function, inputs: Tensor, baseline: Tensor, numbers: Tensor) -> Tensor:
        count = int(numbers.max()) + 1
        present = torch.ones(count, count, dtype=torch.bool)
        present.fill_diagonal_(False)
        whole = values_at(function, iter([inputs[None]]))
        return whole - with_groups(function, inputs, baseline, numbers, present, self.batch)


def _count(height: int, width: int, side: int) -> int:
    """Squares in a field."""
    return -(-height // side) * -(-width // side)


def with_groups(
    function: Function, inputs: Tensor, baseline: Tensor, numbers: Tensor, present: Tensor, batch: int
) -> Tensor:
    """Values (case,) with the groups of each case (case, group) as in the inputs, all others as in the baseline."""
    parts = (present[each] for each in chunks(len(present), batch))
    return values_at(function, (torch.where(part[:, numbers], inputs, baseline) for part in parts))


def shared(parts: Tensor, numbers: Tensor, inputs: Tensor) -> Tensor:
    """Parts of groups (sample, group), shared equally by the inputs that are known and alike those (sample, ...)."""
    known = ~inputs.isnan()
    flat, count = numbers.flatten(), parts.shape[1]
    sizes = torch.zeros(len(inputs), count, dtype=torch.float64)
    sizes.index_add_(1, flat, known.flatten(1).double())
    each = torch.where(sizes > 0, parts / sizes.clamp(min=1.0), 0.0)
    return torch.where(known, each[:, flat].reshape(inputs.shape), 0.0).to(inputs.dtype)
