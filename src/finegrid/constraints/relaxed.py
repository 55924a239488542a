"""A constraint of any strength, from nothing (0) to exact means (1), for coarse and fine data that disagree.

    y = constraint(yt, x'),      x' = (1 - strength) A yt + strength x

Between the two, the field gives in to the coarse values by a part of what its own means lack. What the constraint says
of limits holds at any strength: rain is never negative, and x' is never beyond what nature allows. The strength is
given, or learned where the truth is known, as the one with the least square error on times that the raw fields had not
learnt from (`fitted`); a coarse field that is wrong where the prediction is right gets a low one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from finegrid.constraints.base import Aggregation, per_channel, violation
from finegrid.constraints.composed import Make, Table
from finegrid.conventions import InputError

LEARNED = "learned"
_CANDIDATES = 21


class RelaxedConstraint(nn.Module):
    """Another constraint, in part.

    Args:
        constraint: the constraint at full strength, by name or table; by default what suits each variable.
        strength: 0..1, one number or one per channel; "learned" fits it.
        variables: names of the channels.
        lowest: lowest value that nature allows each of them; -inf where there is none.
        highest: highest one.
        make: builds the constraint of a table for some variables.
    """

    conserves: ClassVar[bool] = False
    needs_positive: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("variables", "lowest", "highest", "make")
    strength: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(
        self,
        *,
        constraint: Table = "natural",
        strength: float | str | Sequence[float] = LEARNED,
        variables: Sequence[str],
        lowest: Sequence[float],
        highest: Sequence[float],
        make: Make,
    ) -> None:
        super().__init__()
        self.register_buffer("lowest", per_channel(lowest))
        self.register_buffer("highest", per_channel(highest))
        self.learns = strength == LEARNED
        values = per_channel(0.0 if isinstance(strength, str) else strength)
        if (isinstance(strength, str) and not self.learns) or not bool(((values >= 0) & (values <= 1)).all()):
            raise InputError(f"relaxed got strength={strength}; expected 0 (free) to 1 (exact), or {LEARNED}")
        self.inner = make(constraint, list(variables))
        self.register_buffer("strength", values.expand(len(variables), 1, 1).clone())

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        own, part = operator.mean(fine), self.strength.to(fine)
        goal = own + part * (coarse - own)
        possible = torch.minimum(torch.maximum(goal, self.lowest.to(goal)), self.highest.to(goal))
        return self.inner.project(fine, possible, operator)

    def reproject(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return self.project(fine, coarse, operator)

    def violation(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        return violation(fine, coarse, operator)

    def fitted(self, fine: Tensor, coarse: Tensor, truth: Tensor, operator: Aggregation, weight: Tensor) -> list[float]:
        """The strength of each channel with the least square error; it is kept.

        Args:
            fine: raw fields (time, channel, H, W), of times that they had not learnt from.
            coarse: coarse values (time, channel, h, w).
            truth: true fields, NaN where missing.
            operator: the mean.
            weight: importance of each fine cell (H, W).
        """
        candidates, errors = torch.linspace(0, 1, _CANDIDATES), []
        known = torch.isfinite(truth)
        for candidate in candidates:
            self.strength = torch.full((fine.shape[-3], 1, 1), float(candidate))
            difference = torch.where(known, self.project(fine, coarse, operator) - truth, 0.0)
            errors.append((difference.double().square() * weight).sum((0, -2, -1)))
        best = candidates[torch.stack(errors).argmin(0)]
        self.strength = best.reshape(-1, 1, 1).float()
        return best.tolist()
