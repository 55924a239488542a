"""Several heads of a kind as one: each learns on its own, and members are drawn from them in turn.

What one network does not know shows as the difference between networks that started elsewhere; members of a committee
have that besides what each network says of chance.

Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS
2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from finegrid.heads.base import Conditions, Head, Projection
from finegrid.heads.draws import Draws


class Committee(Head):
    """Heads that share the batches."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        return torch.stack([head.loss(fine, given) for head in self._every()]).mean(0)

    def sample(self, given: Conditions, draws: Draws, project: Projection | None = None) -> Tensor:
        heads = self._every()
        turns = [(heads[number % len(heads)], draws.member(position)) for position, number in enumerate(draws.members)]
        return torch.cat([head.sample(given, mine, project) for head, mine in turns])

    def settle(self, fine: Tensor, given: Conditions) -> None:
        for head in self._every():
            head.settle(fine, given)

    def _every(self) -> list[Head]:
        return [each for each in self.heads if isinstance(each, Head)]
