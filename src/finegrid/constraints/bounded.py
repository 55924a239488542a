"""Bounds and means at once: the nearest field between a lowest and a highest value whose means are exact.

    y_i = min(max(yt_i + s, low), high),      s such that mean(y) = x

It is the orthogonal projection onto the fields that conserve and keep the bounds. Humidity stays below 100 % and rain
above 0 without a change of the cells that are inside anyway; a dry cell is exactly 0 and a saturated one exactly 100.
The mean does not decrease with s, so s is found between x - max(yt) and x - min(yt), by Newton's method with bisection
as its guard; the gradient is that of one more exact step: cells at a bound have none, the others share it.

A coarse value beyond the bounds (humidity of 103 % in a file) cannot be met: its cells all lie at the bound, and the
violation counts it (`unmet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.balance import Problem, Response
from finegrid.constraints.base import Aggregation, HardConstraint, by_column, per_channel, violation
from finegrid.constraints.sparse import SparseMean
from finegrid.conventions import InputError

Limit = float | Sequence[float] | None
_MOST_STEPS = 64
_EXACT, _LEARNING = 1e-12, 1e-6
# Stands for infinity where numbers are averaged.
_FAR = 1e30
_SIDE = 1e-6
_HAIR = 1e-6


class BoundedConstraint(nn.Module):
    """Shifts each block by what its mean lacks, and clips, so that bounds and means hold together.

    Args:
        low: lowest value, one number or one per channel, in the units of the channel; None is what nature allows.
        high: highest value, likewise.
        lowest: lowest value that nature allows each channel (0 for rain); -inf where there is none.
        highest: highest one (100 for a humidity in %); inf where there is none.
    """

    conserves: ClassVar[bool] = True
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("lowest", "highest")
    low: Tensor
    high: Tensor

    def __init__(
        self,
        *,
        low: Limit = None,
        high: Limit = None,
        lowest: float | Sequence[float] = -torch.inf,
        highest: float | Sequence[float] = torch.inf,
    ) -> None:
        super().__init__()
        self.register_buffer("low", per_channel(lowest if low is None else low))
        self.register_buffer("high", per_channel(highest if high is None else high))
        self._add = AddConstraint()
        if not bool((self.low < self.high).all()):
            raise InputError(f"bounded got low={low}, high={high}; it needs low < high for every channel")

    def project(
        self,
        fine: Tensor,
        coarse: Tensor,
        operator: Aggregation,
        *,
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> Tensor:
        """As every constraint; `low` and `high` (..., channel, H, W) are further limits of single cells.

        Where these contradict each other, the lower one holds.
        """
        dtype = torch.promote_types(fine.dtype, coarse.dtype)
        lower, upper = self.low.to(dtype), self.high.to(dtype)
        upper = upper if high is None else torch.minimum(upper, high.to(dtype))
        lower = lower if low is None else torch.maximum(lower, low.to(dtype))
        lower = torch.minimum(lower, upper)
        shifted: Tensor = self._add.project(fine, coarse, operator)
        beyond = operator.max(torch.maximum(lower - shifted, shifted - upper).detach()) > 0
        if bool(beyond.any()):  # where no bound is in the way, the shifted field is the projection already
            clipped = _Clipping(lower, upper).project(fine, coarse, operator)
            shifted = torch.where(_affected(beyond, clipped, operator), clipped, shifted)
        return torch.minimum(torch.maximum(shifted, lower), upper)

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self.project(fine, coarse, operator)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return violation(fine, coarse, operator)


class _Clipping(HardConstraint):
    """The layer between given limits, (channel, 1, 1) or of every cell (..., channel, H, W)."""

    def __init__(self, lower: Tensor, upper: Tensor) -> None:
        super().__init__()
        self._limits = lower, upper

    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        learning = fine.requires_grad or coarse.requires_grad
        exact = not learning or fine.dtype == torch.float64
        work = (fine, coarse) if learning else (fine.double(), coarse.double())
        lower, upper = (limit.to(work[0]) for limit in self._limits)
        clip = _Clip(*work, lower, upper, operator)
        with torch.no_grad():
            level = clip.level(_EXACT if exact else _LEARNING)
        return clip(clip.newton(level) if learning else level).to(fine.dtype)

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return fine

    def _problem(self, fine: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor) -> Problem:
        lower, upper = (_columns(limit, fine, operator) for limit in self._limits)
        lower, upper = (_finite(each).expand_as(fine) for each in (lower, upper))
        # At the means of the limits and beyond them, every cell that a coarse cell touches lies at its limit.
        bottom, top = (operator.mean_of(each.contiguous()) for each in (lower, upper))
        empty, full = active & (coarse <= bottom), active & (coarse >= top)
        emptied, filled = (operator.spread_of(each.to(fine.dtype)) > 0 for each in (empty, full))
        lower, upper = torch.where(filled & ~emptied, upper, lower), torch.where(emptied & ~filled, lower, upper)
        active = active & ~empty & ~full
        # Cells that lie at a limit answer if they will leave it: a hair to the side to which they will go.
        gap = coarse - operator.mean_of(fine)
        start = (_SIDE * coarse.abs().mean(0) * torch.sign(gap)).detach()
        return Problem(_Clipped(fine, lower, upper), coarse, start, active)


@dataclass(frozen=True)
class _Clipped(Response):
    fine: Tensor
    lower: Tensor
    upper: Tensor

    def value(self, shift: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(self.fine + shift, self.lower), self.upper)

    def slope(self, shift: Tensor, value: Tensor) -> Tensor:
        return ((self.fine + shift > self.lower) & (self.fine + shift < self.upper)).to(value.dtype)


class _Clip:
    """Fine cells that answer to the level of their block, cut off at their limits."""

    def __init__(self, fine: Tensor, coarse: Tensor, lower: Tensor, upper: Tensor, operator: Aggregation) -> None:
        self._fine, self._lower, self._upper, self._operator = fine, lower, upper, operator
        # Beyond the means of the limits there is nothing to find.
        bottom, top = (operator.mean(_finite(_of_cells(limit, fine))) for limit in (lower, upper))
        self._coarse = torch.minimum(torch.maximum(coarse, bottom), top)

    def __call__(self, level: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(self._fine + self._operator.spread(level), self._lower), self._upper)

    def newton(self, level: Tensor) -> Tensor:
        """One more step, through which gradients flow."""
        gap, slope = self._gap(level)
        return level + torch.where(slope > 0, gap / torch.where(slope > 0, slope, 1.0).detach(), 0.0)

    def level(self, tolerance: float) -> Tensor:
        """The level at which means are right, between brackets that shrink at every step."""
        left, right = self._brackets()
        level = torch.minimum(torch.maximum(self._coarse - self._operator.mean(self._fine), left), right)
        scale = torch.maximum(self._coarse.abs(), self._coarse.abs().mean((-2, -1), keepdim=True))
        for _ in range(_MOST_STEPS):
            gap, slope = self._gap(level)
            found = gap.abs() <= tolerance * scale
            if bool(found.all()):
                break
            left, right = torch.where(gap > 0, level, left), torch.where(gap < 0, level, right)
            newton = level + gap / torch.where(slope > 0, slope, 1.0)
            newton = torch.where((slope > 0) & (newton > left) & (newton < right), newton, (left + right) / 2)
            level = torch.where(found, level, newton)  # what is found stays: blocks do not wait for each other
        return level

    def _brackets(self) -> tuple[Tensor, Tensor]:
        """Levels at which means are too low and too high."""
        highest, lowest = self._operator.max(self._fine), -self._operator.max(-self._fine)
        # Dry and saturated blocks have their level at an end: a hair beyond it, or halving alone would lead there.
        hair = _HAIR * (highest - lowest + self._coarse.abs())
        left, right = self._coarse - highest - hair, self._coarse - lowest + hair
        if self._lower.shape[-2:] == self._upper.shape[-2:] == (1, 1):
            return left, right
        # Limits of single cells may lie beyond the mean: then all cells at their limits are a bracket.
        span = 1e6 * (highest - lowest + self._coarse.abs() + 1)
        down = _of_cells(self._lower, self._fine) - self._fine
        up = _of_cells(self._upper, self._fine) - self._fine
        left = torch.minimum(left, torch.maximum(-self._operator.max(-_finite(down)), left - span))
        return left, torch.maximum(right, torch.minimum(self._operator.max(_finite(up)), right + span))

    def _gap(self, level: Tensor) -> tuple[Tensor, Tensor]:
        shifted = self._fine + self._operator.spread(level)
        inside = (shifted > self._lower) & (shifted < self._upper)
        value = torch.minimum(torch.maximum(shifted, self._lower), self._upper)
        return self._coarse - self._operator.mean(value), self._operator.mean(inside.to(value.dtype))


def _affected(beyond: Tensor, fine: Tensor, operator: Aggregation) -> Tensor:
    """Fine cells that coarse cells beyond their bounds have to do with: the whole field where cells are shared."""
    if operator.disjoint:
        return operator.spread(beyond.to(fine.dtype)) > 0
    return beyond.flatten(-2).any(-1)[..., None, None]


def _finite(limit: Tensor) -> Tensor:
    return limit.clamp(-_FAR, _FAR)


def _of_cells(limit: Tensor, fine: Tensor) -> Tensor:
    return limit.expand(fine.shape[-3:]) if limit.shape[-2:] == (1, 1) else limit


def _columns(limit: Tensor, fine: Tensor, operator: SparseMean) -> Tensor:
    """A limit per channel, or per cell, for columns (fine cells, batch)."""
    if limit.shape[-2:] == (1, 1):
        return by_column(limit, fine)
    columns = operator.fine_columns(limit).to(fine)
    return columns.repeat(1, fine.shape[1] // columns.shape[1])
