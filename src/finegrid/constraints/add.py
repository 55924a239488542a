"""AddCL: the same shift for every fine cell of a block.

    y_i = yt_i + (x - m)                        cells of one coarse cell only
    y = yt + S (A S)^-1 (x - A yt)              coarse cells that share fine cells

It keeps the differences between neighbours that the network predicts, fits every unit, and is the orthogonal
projection (weighted by area) onto the fields that conserve. It does not keep a sign: rain may become negative.

Source: Harder et al., JMLR 24(365), 2023, equation of the additive constraint layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from finegrid.constraints.balance import Problem, Response
from finegrid.constraints.base import Aggregation, HardConstraint
from finegrid.constraints.sparse import SparseMean


class AddConstraint(HardConstraint):
    """Shifts each block by what its mean lacks."""

    def _conserve(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return fine + operator.spread(coarse - operator.mean(fine))

    def _polish(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        # The mean of differences is more exact than the difference of means.
        return fine + operator.spread(operator.mean(operator.spread(coarse) - fine))

    def _balanced(self, fine: Tensor, coarse: Tensor, known: Tensor, operator: SparseMean) -> Tensor:
        """The projection by the inverse itself, where it is at hand and no coarse value is missing."""
        exact = coarse if fine.requires_grad or coarse.requires_grad else coarse.double()
        inverse = operator.inverse_as(exact)
        if inverse is None or not bool(known.all()):
            return super()._balanced(fine, coarse, known, operator)
        raw = operator.fine_columns(fine.to(exact.dtype))
        lacking = operator.coarse_columns(exact.expand(*fine.shape[:-2], *coarse.shape[-2:])) - operator.mean_of(raw)
        projected = operator.as_fine(raw + operator.spread_of(inverse @ lacking), fine).to(fine.dtype)
        return projected if operator.whole else torch.where(operator.touched, projected, fine)

    def _problem(self, fine: Tensor, coarse: Tensor, operator: SparseMean, active: Tensor) -> Problem:
        return Problem(_Shifted(fine), coarse, torch.zeros_like(coarse), active)


@dataclass(frozen=True)
class _Shifted(Response):
    fine: Tensor

    def value(self, shift: Tensor) -> Tensor:
        return self.fine + shift

    def slope(self, shift: Tensor, value: Tensor) -> Tensor:
        return torch.ones_like(value)
