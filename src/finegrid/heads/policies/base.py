"""What a sampling policy is: everything that may be turned while fields are made, without touching how they are made.

A head that goes from noise to a field in steps asks its policy at each turn:

    how strong is the noise?            scale       fields of variance T times the learnt one: noise times sqrt(T)
    what is estimated, in the end?      steer       the estimate, with or without a look at the one that knows nothing
    which candidates go on?             keep        of several beginnings of a member
    what is the network told besides?   told        further numbers, which it was trained with (`asked`, `weights`)

The neutral answers are here, so that a policy says only what it changes. That noise times sqrt(T) gives fields of
variance T is exact where residuals are Gaussian and the sampler adds no noise on its way; elsewhere it draws members
towards what is likely.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from finegrid.heads.space import Problem, Seen

Reward = Callable[[Tensor, Seen], Tensor]
"""How good estimated residuals (n, output, H, W) are, (n,)."""
Trial = Callable[[float], Tensor]
"""The score of an ensemble that is drawn with this scale of the noise, one for each sample (batch,); low is good."""


class Policy(nn.Module):
    """The neutral policy: noise as it was learnt, the estimate as it is, one candidate."""

    numbers: int = 0
    """Further numbers that networks are told."""
    dropout: float = 0.0
    """Share of training samples for which the network is told nothing; above 0 there is a blind estimate."""
    candidates: int = 1
    """Beginnings of each member."""
    learns: bool = False
    """Whether `learn` wants to be called after training."""

    def prepare(self, problem: Problem) -> None:
        """Make what depends on the problem; called once, when the head is built."""

    def scale(self, seen: Seen, probe: Callable[[], Tensor]) -> Tensor:
        """By what the noise of each sample is multiplied (n,) or ().

        Args:
            seen: what the head sees.
            probe: how uncertain the head is about each sample (n,): the deviation over cells between estimates from
                pure noise of size one, 0 where they agree; costs two network calls.
        """
        return torch.ones((), device=seen.start.device)

    def steer(self, known: Tensor, blind: Callable[[], Tensor], seen: Seen) -> Tensor:
        """The estimate to go on with (n, output, H, W).

        Args:
            known: the estimate of a network that sees the batch.
            blind: makes that of one that sees nothing, at the cost of a call.
            seen: what the head sees.
        """
        return known

    def keep(self, estimate: Tensor, seen: Seen, *, reward: Reward, done: float, candidates: int) -> Tensor | None:
        """Indices of the candidates that go on, the same number for each member; None for all.

        Args:
            estimate: residuals as they look now (n * candidates, output, H, W); those of a member are neighbours.
            seen: what the head sees of each.
            reward: how good an estimate is.
            done: share of the steps that is done.
            candidates: how many each member has.
        """
        return None

    def told(self, count: int, device: torch.device) -> Tensor:
        """The further numbers in sampling (count, numbers)."""
        return torch.zeros(count, self.numbers, device=device)

    def asked(self, count: int, device: torch.device) -> Tensor:
        """The further numbers in a training step (count, numbers)."""
        return self.told(count, device)

    def size(self, numbers: Tensor) -> Tensor:
        """What the deviation of residuals is expected to be for these numbers, in parts of the learnt one (n,)."""
        return torch.ones(len(numbers), device=numbers.device)

    def weights(self, likelihood: Callable[[], Tensor], numbers: Tensor) -> Tensor | None:
        """Importance of the samples of a training step (n,), given the numbers of each; None for equal ones.

        Args:
            likelihood: makes the logarithm of the density of each sample (n,), up to a constant, at some cost.
            numbers: as `asked` gave them.
        """
        return None

    def learn(self, trial: Trial, seen: Seen) -> None:
        """Learn from fields that the weights have not learnt from; called once, after training."""
