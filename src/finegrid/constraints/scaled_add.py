"""ScAddCL: the shift of a block goes to the cells that have room for it between a lowest and a highest value.

The published form, for data scaled to [-1, 1] (u the scaled raw value, g = sign(m - x)):

    y_i = u_i + (x - m) * (g + u_i) / (g + m)

For g = +1 that is (1 + u_i) / (1 + m), for g = -1 it is (1 - u_i) / (1 - m): the room of a cell towards the
bound, over the mean room of its block. Written with rooms the scaling cancels and the layer runs in
physical units, without the rounding error of scaling a small rain:

    r_i = yt_i - low if m > x else high - yt_i;      y_i = yt_i + (x - m) * r_i / mean(r)

Two additions make it conserve for every raw value, also beyond the bounds, where mean(r) may be 0 or
negative: a raw value beyond the bound that the block moves towards has room 0 (it stays), and when x itself
demands more than all room, |x - m| > mean(r), every cell goes to the bound and the rest is shared equally.
Inside the bounds the result is the published one; an x within the bounds never sends a cell out of them
that was inside.

With ``low = 0`` rain keeps its sign and exact zeros, provided that the raw values are not negative.

Where coarse cells share fine cells, y_j = yt_j + s_j r_j for |s_j| <= 1, with s spread from one number per coarse cell.

Source: Harder et al., JMLR 24(365), 2023, equation of the scaled additive constraint layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.balance import Problem, Response
from finegrid.constraints.base import Aggregation, HardConstraint, by_column, per_channel
from finegrid.constraints.sparse import SparseMean
from finegrid.conventions import InputError

_SIDE = 1e-6


class ScaledAddConstraint(HardConstraint):
    """Shifts each block by what its mean lacks, most where there is most room.

    Args:
        low: lowest fine value of the training data, one number or one per channel, in the units of the
            channel.
        high: highest fine value, likewise.
    """

    statistics: ClassVar[tuple[str, ...]] = ("low", "high")
    low: Tensor
    high: Tensor

    def __init__(self, *, low: float | Sequence[float], high: float | Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("low", per_channel(low))
        self.register_buffer("high", per_channel(high))
        if not bool((self.low < self.high).all()):
            raise InputError(
                f"scaled-add got low={low}, high={high}; it needs low < high for every channel; "
                "give the smallest and largest value of the training data, or use the constraint 'add'"
            )

    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        gap = operator.mean(operator.spread(coarse) - fine)
        room = torch.where(operator.spread(gap.detach()) < 0, fine - self.low, self.high - fine).clamp(min=0)
        mean_room = operator.mean(room)
        lacking = (gap.abs() - mean_room).clamp(min=0)
        share = mean_room + lacking
        rate = gap / torch.where(share > 0, share, 1.0)
        constrained = fine + operator.spread(rate) * room
        # Nearly always the room suffices, and the equal shares need not be spread.
        return constrained + operator.spread(rate * lacking) if bool(lacking.any()) else constrained

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self._conserve(fine, coarse, operator)

    def _problem(self, fine: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor) -> Problem:
        low, high = by_column(self.low, fine), by_column(self.high, fine)
        up, down = (high - fine).clamp(min=0), (fine - low).clamp(min=0)
        response = _Roomy(fine, up, down, *(_around(room, operator) for room in (up, down)))
        # Off the kink at 0, to the side to which the cell will go.
        start = _SIDE * torch.sign(coarse - operator.mean_of(fine)).detach()
        return Problem(response, coarse, start, active)


@dataclass(frozen=True)
class _Roomy(Response):
    """Up to s = 1 a cell goes through its room, beyond it by equal parts."""

    fine: Tensor
    up: Tensor
    down: Tensor
    further_up: Tensor
    further_down: Tensor

    def value(self, shift: Tensor) -> Tensor:
        within = shift.clamp(-1, 1)
        room, further = self._sides(shift)
        return self.fine + within * room + (shift - within) * further

    def slope(self, shift: Tensor, value: Tensor) -> Tensor:
        return torch.where(shift.abs() < 1, *self._sides(shift))

    def _sides(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(shift > 0, self.up, self.down), torch.where(shift > 0, self.further_up, self.further_down)


def _around(room: Tensor, operator: SparseMean) -> Tensor:
    """The mean room of the coarse cells of each fine cell, and where these have next to none a part of the usual."""
    usual = room.mean(0)
    least = _SIDE * torch.where(usual > 0, usual, 1.0)
    return torch.maximum(operator.blend_of(operator.mean_of(room)), least)
