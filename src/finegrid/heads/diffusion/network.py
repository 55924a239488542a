"""A network that sees a noisy field and a few numbers, such as how noisy it is.

The field is an input on the fine grid. The numbers become waves of a few lengths and their mix one vector, which acts
through the conditional norms of the backbone.

    vector = MLP( numbers, sin(f * numbers), cos(f * numbers) ),      f = pi/2, pi, 2 pi, 4 pi
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from finegrid.heads.space import Problem, Seen

_WAVES = (0.5, 1.0, 2.0, 4.0)


class NumberedNetwork(nn.Module):
    """The backbone of the recipe with a noisy field and numbers of order one as further inputs.

    Args:
        problem: what it is built for.
        numbers: how many.
        vector: length of the vector that they become.
        blind: whether it can be told nothing, which is a number more.
    """

    waves: Tensor

    def __init__(self, problem: Problem, *, numbers: int, vector: int = 64, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind
        self.register_buffer("waves", math.pi * torch.tensor(_WAVES), persistent=False)
        entries = (numbers + blind) * (1 + 2 * len(_WAVES))
        self.embed = nn.Sequential(nn.Linear(entries, vector), nn.SiLU(), nn.Linear(vector, vector), nn.SiLU())
        self.network = problem.network(fine=problem.space.outputs, condition=vector)

    def forward(self, field: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The answer (n, output, H, W).

        Args:
            field: noisy fields (n, output, H, W), of order one.
            seen: what else is seen.
            numbers: (n, numbers).
            hidden: for which samples nothing else is to be seen (n,); None for none.
        """
        if self.blind:
            flag = torch.zeros(len(field), device=field.device) if hidden is None else hidden.float()
            numbers = torch.cat([numbers, flag[:, None]], dim=1)
        condition = self.embed(self._waved(numbers))
        shown = seen if hidden is None else without(seen, hidden)
        return shown.through(self.network, field, condition=condition).float()

    def _waved(self, numbers: Tensor) -> Tensor:
        phases = (numbers[..., None] * self.waves).flatten(1)
        return torch.cat([numbers, phases.sin(), phases.cos()], dim=1)


def without(seen: Seen, hidden: Tensor) -> Seen:
    """The same with nothing to see for some samples (n,); where residuals begin stays."""
    open_ = (~hidden)[:, None, None, None]
    fine = None if seen.fine is None else torch.where(open_, seen.fine, 0.0)
    return replace(seen, coarse=torch.where(open_, seen.coarse, 0.0), fine=fine)


def chosen(seen: Seen, indices: Tensor) -> Seen:
    """Some of the samples, as often as they are named."""
    fine = None if seen.fine is None else seen.fine[indices]
    given = seen.given.at(indices)
    return replace(seen, coarse=seen.coarse[indices], fine=fine, start=seen.start[indices], given=given)
