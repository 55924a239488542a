"""Heads that make members, one from each handful of random numbers, in the residual space.

A variant says how it learns (`_loss`) and how it draws (`_draw`). What all share is here: the way in and out of the
residual space, the constraint at the end, the score by which weights are chosen, and a mean network of its own where a
head wants one: with it the head only has to make what the mean leaves,

    r = centre + spread * e,

with the centre trained by the mean square error beside the head, and seen by it.

Source: Mardani et al., "Residual corrective diffusion modeling for km-scale atmospheric downscaling", 2023 (a mean
network and a distribution of what it leaves).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from finegrid.heads.base import Conditions, Head, Projection
from finegrid.heads.draws import Draws
from finegrid.heads.space import Problem, Seen, Space
from finegrid.losses import crps, mse

_JUDGED = 2
_MEMORY = 0.99


class MeanNetwork(nn.Module):
    """The centre of the residuals, and the size of what it leaves."""

    spread: Tensor
    steps: Tensor

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.network = problem.network()
        self.register_buffer("spread", torch.ones(problem.space.outputs, 1, 1))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, seen: Seen) -> Tensor:
        """The centre (batch, output, H, W), in residual units."""
        return seen.through(self.network)

    @torch.no_grad()
    def follow(self, left: Tensor, weight: Tensor) -> None:
        """Move the spread towards that of a batch of what is left."""
        kept = torch.minimum((1 + self.steps) / (10 + self.steps), torch.tensor(_MEMORY).to(self.steps))
        self.spread.copy_((kept * self.spread.square() + (1 - kept) * _variance(left, weight)).sqrt())
        self.steps += 1

    @torch.no_grad()
    def measure(self, left: Tensor, weight: Tensor) -> None:
        """Set the spread to that of what is left of times that the network has not learnt from."""
        self.spread.copy_(_variance(left, weight).sqrt())


class GenerativeHead(Head):
    """What all of them share.

    Args:
        problem: what it is built for.
        mean: whether it has a mean network of its own; then networks are to be made by `problem.about(True)`.
    """

    def __init__(self, problem: Problem, *, mean: bool = False) -> None:
        super().__init__()
        self.space: Space = problem.space
        self.mean = MeanNetwork(problem) if mean else None

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        seen = self.space.see(given)
        if not self.training:
            return self._judged(fine, self._centred(seen))
        if self.mean is None:
            return self._loss(fine, seen)
        centre = self.mean(seen)
        self.mean.follow(self.space.residual(fine, seen) - centre.detach(), self.space.weight_of(fine))
        around = seen.about(centre.detach(), self.mean.spread)
        return self._distance(self.space.admissible(centre, seen), fine) + self._loss(fine, around)

    def sample(self, given: Conditions, draws: Draws, project: Projection | None = None) -> Tensor:
        members = len(draws) // len(given)
        seen = self._centred(self.space.see(given)).repeated(members)
        fields = self.space.admissible(self._draw(seen, draws, project), seen, project)
        return fields.reshape(members, len(given), *fields.shape[1:])

    @torch.no_grad()
    def settle(self, fine: Tensor, given: Conditions) -> None:
        if self.mean is not None:
            seen = self.space.see(given)
            self.mean.measure(self.space.residual(fine, seen) - self.mean(seen), self.space.weight_of(fine))

    @abstractmethod
    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        """Training loss (batch,) for true physical fields (batch, output, H, W), NaN where missing."""

    @abstractmethod
    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        """One residual field for each sample that is seen (n, output, H, W), n = len(draws)."""

    def _judged(self, fine: Tensor, seen: Seen) -> Tensor:
        """Fair CRPS of two members that are always the same ones."""
        draws = Draws.of(0, range(_JUDGED), range(len(seen)), fine.device)
        several = seen.repeated(_JUDGED)
        fields = self.space.admissible(self._draw(several, draws, None), several)
        return self._score(fields.reshape(_JUDGED, *fine.shape), fine)

    def _score(self, members: Tensor, fine: Tensor) -> Tensor:
        scale = self.space.scale
        return crps(members / scale, fine / scale, self.space.place.weight)

    def _distance(self, field: Tensor, fine: Tensor) -> Tensor:
        return mse(field / self.space.scale, fine / self.space.scale, self.space.place.weight)

    def _centred(self, seen: Seen) -> Seen:
        return seen if self.mean is None else seen.about(self.mean(seen), self.mean.spread)


def _variance(left: Tensor, weight: Tensor) -> Tensor:
    """Mean square of each output (output, 1, 1), never zero."""
    total = (left.square() * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3)).clamp(min=1e-12)
    return total.clamp(min=1e-12)[:, None, None]
