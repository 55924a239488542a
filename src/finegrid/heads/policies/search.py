"""Search: many beginnings of each member, of which the better half goes on, until one is left.

At the first steps an estimate shows the large scales, by which beginnings can already be told apart; there they are
cheap, because few steps have been spent on them. Candidates belong to one member, so that members stay independent of
each other, and the spread of the ensemble stays.

    candidates 16, until 0.5:   16 for the first eighth of the steps, then 8, 4, 2, and 1 for the second half

The reward is consistency: minus the mean square misfit between the means of the estimate over coarse cells and the
coarse values, before the constraint. A field that needs little correction has more of its own structure left.

Source: Chen et al., "TTS-VAR: a test-time scaling framework for visual auto-regressive generation", 2025 (a batch that
descends with scale, selection by a reward). There candidates may be copied; here they are only dropped, since copies
would stay the same without fresh noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.policies.base import Reward
from finegrid.heads.policies.temperature import Temperature
from finegrid.heads.space import Seen


class Search(Temperature):
    """The better half of the candidates goes on.

    Args:
        candidates: beginnings of each member, a power of two.
        until: share of the steps after which one is left.
        reward: another one than consistency; only from Python.
        temperature: variance of members in parts of the learnt one.
    """

    def __init__(
        self, *, candidates: int = 8, until: float = 0.5, reward: Reward | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__(temperature=temperature)
        if candidates < 1 or candidates & (candidates - 1) or not 0 < until <= 1:
            raise InputError(
                f"got candidates: {candidates} and until: {until} for the policy search; expected 1, 2, 4, 8, ... "
                "candidates and a share of the steps above 0 and at most 1; change head.policy"
            )
        self.candidates, self.until, self.reward = candidates, until, reward
        self._halvings = candidates.bit_length() - 1

    def keep(self, estimate: Tensor, seen: Seen, *, reward: Reward, done: float, candidates: int) -> Tensor | None:
        left = self.candidates >> min(self._halvings, int(done / self.until * self._halvings + 1e-9))
        if left >= candidates:
            return None
        value = (self.reward or reward)(estimate, seen).reshape(-1, candidates)
        best = value.topk(left, dim=1).indices
        first = torch.arange(len(value), device=value.device)[:, None] * candidates
        return (first + best).flatten()
