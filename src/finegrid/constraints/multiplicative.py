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
- Where coarse cells share fine cells the factor of a cell is the weighted geometric mean of those of its coarse cells,
  found by iterative proportional fitting.
- x = 0 gives exactly 0 with gradient 0. So do slightly negative x (packing noise in files): the block
  becomes uniformly x.

Source: Harder et al., JMLR 24(365), 2023, equation of the multiplicative constraint layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.balance import Problem, Response
from finegrid.constraints.base import Aggregation, HardConstraint, rectified
from finegrid.constraints.sparse import SparseMean


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
        positive = rectified(fine)
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

    def _problem(self, fine: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor) -> Problem:
        return proportional(rectified(fine), coarse, operator, active, self.floor)


def proportional(
    prior: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor, floor: float | None = None
) -> Problem:
    """P exp(s), for a prior p >= 0 in columns (fine cells, batch): iterative proportional fitting (see `balance`).

    Every fine cell that a dry coarse cell touches is dry. A wet coarse cell that has no other one cannot be reached.
    With a `floor`, cells of coarse cells whose prior is below this part of their value are raised to it.
    """
    tiny = torch.finfo(coarse.dtype).tiny
    dry = active & (coarse <= 1e3 * tiny)
    free = None
    if bool(dry.any()):
        free = (operator.spread_of(dry.to(prior.dtype)) == 0).to(prior.dtype)
        prior, active = prior * free, active & ~dry
    if floor is not None:
        prior = _raised(prior, torch.where(active, floor * coarse, 0.0), operator, free)
    mean = operator.mean_of(prior).detach()
    active = active & (mean > 0)
    start = torch.where(active, coarse.detach(), 1.0).log() - torch.where(active, mean, 1.0).log()
    return Problem(_Scaled(prior), coarse, start, active)


def _raised(prior: Tensor, least: Tensor, operator: SparseMean, free: Tensor | None) -> Tensor:
    """The prior with cells added to where its mean is below the least: own ones, or neighbours would decide."""
    free = torch.ones_like(prior) if free is None else free
    own = free * operator.exclusive.to(free.dtype)
    if not bool((operator.mean_of(prior * own) < least).any()):
        return prior
    alone = operator.mean_of(own) > 0
    usable = torch.where(operator.blend_of(alone.to(free.dtype)) > 0.999, own, free)
    room = operator.mean_of(usable)
    lacking = torch.where(room > 0, (least - operator.mean_of(prior * usable)).clamp(min=0), 0.0)
    return prior + usable * operator.blend_of(lacking / torch.where(room > 0, room, 1.0))


@dataclass(frozen=True)
class _Scaled(Response):
    prior: Tensor

    def value(self, shift: Tensor) -> Tensor:
        return self.prior * torch.exp(shift)

    def slope(self, shift: Tensor, value: Tensor) -> Tensor:
        return value


def rescaled(fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
    """Removes a small relative violation by a factor per block, which keeps zeros and signs.

    The factor is applied as 1 + e, with e from differences: near 1 a float32 factor itself would be too
    blunt.
    """
    error = operator.mean(operator.spread(coarse) - fine) / torch.where(coarse == 0, 1.0, coarse)
    return fine + fine * operator.spread(error)
