"""One best answer: the first guess plus what networks add to it.

    y = T^-1( T(reference) + gain * mean over k of network_k(features, reference, static) )

The networks' output is of order one whatever the units (`space`). Several networks are a committee: they share the
batches, each has a loss of its own, and their mean has less variance than any of them. The constraint is part of the
training: the loss sees the projected field.

Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS
2017 (the committee).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from finegrid.heads.base import Conditions, Head, Projection
from finegrid.heads.draws import Draws
from finegrid.heads.space import Problem, Seen
from finegrid.losses import LOSSES, Loss


class PointHead(Head):
    """A deterministic head.

    Args:
        problem: what it is built for.
        loss: distance of fine fields.
        networks: size of the committee.
    """

    random: ClassVar[bool] = False
    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = LOSSES
    usual_loss: ClassVar[str] = "mse"

    def __init__(self, problem: Problem, *, loss: Loss, networks: int = 1) -> None:
        super().__init__()
        self.space = problem.space
        self.backbones = nn.ModuleList([problem.network() for _ in range(networks)])
        self._loss = loss

    def forward(self, given: Conditions) -> Tensor:
        """The field before the constraint (batch, output, H, W)."""
        seen = self.space.see(given)
        return self.space.physical(self.centre(seen), seen)

    def centre(self, seen: Seen) -> Tensor:
        """Mean of the networks, in residual units."""
        return torch.stack([seen.through(each) for each in self.backbones]).mean(0)

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        seen = self.space.see(given)
        changes = [seen.through(each) for each in self.backbones] if self.training else [self.centre(seen)]
        return torch.stack([self._loss_of(change, fine, seen) for change in changes]).mean(0)

    def sample(self, given: Conditions, draws: Draws, project: Projection | None = None) -> Tensor:
        seen = self.space.see(given)
        admissible = self.space.admissible(self.centre(seen), seen, project)
        return admissible[None].expand(len(draws) // len(given), *admissible.shape)

    def _loss_of(self, change: Tensor, fine: Tensor, seen: Seen) -> Tensor:
        space, place = self.space, self.space.place
        field = space.physical(change, seen).to(fine.dtype)
        admissible = place.project(field, seen.given)
        value = self._loss(admissible / space.scale, fine / space.scale, place.weight)
        return value if place.penalty is None else value + place.penalty(field, seen.given)
