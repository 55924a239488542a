"""A point network dressed with noise: the deviation of its own errors, and fields as smooth as they are.

    r_m = network(seen) + s * z_m,      z = noise,      then the constraint

s is what the network leaves of times that its weights have not seen (`settle`), one for each output or one for each
cell, in transformed units: where the transform is a logarithm, members of heavy rain differ by more. It knows nothing
of the weather of the day; whatever learns more has to be better than this.

Source: Roulston and Smith, "Combining dynamical and statistical ensembles", Tellus A 55, 2003,
doi:10.3402/tellusa.v55i1.12082.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.base import Conditions, Head, Projection
from finegrid.heads.draws import Draws
from finegrid.heads.parametric import Table, normal_noise
from finegrid.heads.point import PointHead
from finegrid.heads.space import Problem
from finegrid.losses import LOSSES, Loss

DEVIATIONS = ("output", "cell")

# Times from which the errors of a cell count as much as those of all cells.
_FEW = 10
_BATCH = 32


class DressedHead(Head):
    """A deterministic head with errors like its own.

    Args:
        problem: what it is built for.
        loss: distance of fine fields.
        noise: base noise, by name or table; its values have to be normal.
        deviation: one for each `output`, or one for each `cell`.

    Raises:
        InputError: on another deviation.
    """

    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = LOSSES
    usual_loss: ClassVar[str] = "mse"
    settles_shapes: ClassVar[bool] = True
    deviations: Tensor

    def __init__(self, problem: Problem, *, loss: Loss, noise: Table = "smooth", deviation: str = "output") -> None:
        super().__init__()
        if deviation not in DEVIATIONS:
            raise InputError(f"got deviation: {deviation} for the head dressed; expected output or cell; use output")
        self.space, self.by_cell = problem.space, deviation == "cell"
        self.point = PointHead(problem, loss=loss)
        self.noise = normal_noise(problem, noise)
        # Before it has learnt, errors count as those of the first guess.
        self.register_buffer("deviations", torch.ones(self.space.outputs, *self.space.place.weight.shape[-2:]))

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        return self.point.loss(fine, given)

    def sample(self, given: Conditions, draws: Draws, project: Projection | None = None) -> Tensor:
        members, seen = len(draws) // len(given), self.space.see(given)
        centre = self.point.centre(seen).repeat(members, 1, 1, 1)
        residual = centre + self.deviations * self.noise(draws, self.space.outputs)
        fields = self.space.admissible(residual, seen.repeated(members), project)
        return fields.reshape(members, len(given), *fields.shape[1:])

    @torch.no_grad()
    def settle(self, fine: Tensor, given: Conditions) -> None:
        starts = range(0, len(fine), _BATCH)
        parts = [self._left(fine[s : s + _BATCH], given.at(slice(s, s + _BATCH))) for s in starts]
        if parts:
            left, weight = torch.cat(parts), self.space.weight_of(fine)
            self.deviations.copy_(self._deviations(left, weight))
            self.noise.fit(left / self.deviations, weight)

    def _left(self, fine: Tensor, given: Conditions) -> Tensor:
        """What the network leaves (n, output, H, W), in residual units."""
        seen = self.space.see(given)
        return self.space.residual(fine, seen) - self.point.centre(seen)

    def _deviations(self, left: Tensor, weight: Tensor) -> Tensor:
        """Deviations (output, H, W)."""
        squares = left.square() * weight
        total = weight.sum((0, 2, 3)).clamp(min=1e-12)
        common = (squares.sum((0, 2, 3)) / total).clamp(min=1e-12)[:, None, None]
        if not self.by_cell:
            return common.sqrt().expand(self.deviations.shape)
        known = (weight > 0).sum(0)
        own = squares.sum(0) / weight.sum(0).clamp(min=1e-12)
        return ((known * own + _FEW * common) / (known + _FEW)).sqrt()
