"""Guidance without a classifier: away from what the network would say if it saw nothing.

    D = D_seen + w * (D_seen - D_blind)

For that a share of the training samples is shown without its inputs. The weight w is the same everywhere, or follows
the gap between the two estimates in each coarse cell and at each step:

    w = weight * (1 - 0.5^(gap / halfway)),      gap = root of the mean over the cell of (D_seen - D_blind)^2

Where the inputs matter little the gap is small, and members are left alone; where they matter it is strong.

Sources: Ho and Salimans, "Classifier-free diffusion guidance", 2022; Chang et al., "KL-divergence guided temperature
sampling", 2023, of which the second rule is the counterpart: T = T0 * 0.5^(KL / sigma) is a temperature that falls
with the distance between what is said with and without the source.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from finegrid.backbones.blocks import repeated
from finegrid.conventions import InputError
from finegrid.heads.policies.temperature import Temperature
from finegrid.heads.space import Seen


class Guidance(Temperature):
    """The same weight everywhere.

    Args:
        weight: how far to go; 0 leaves the estimate as it is.
        dropout: share of training samples that are shown without inputs.
        temperature: variance of members in parts of the learnt one.
    """

    def __init__(self, *, weight: float = 0.3, dropout: float = 0.1, temperature: float = 1.0) -> None:
        super().__init__(temperature=temperature)
        if weight < 0 or not 0 < dropout < 1:
            raise InputError(
                f"got weight: {weight} and dropout: {dropout} for a policy of guidance; expected a weight of at least "
                "0 and a dropout between 0 and 1; change head.policy"
            )
        self.weight, self.dropout = weight, dropout

    def steer(self, known: Tensor, blind: Callable[[], Tensor], seen: Seen) -> Tensor:
        if self.weight == 0:
            return known
        gap = known - blind()
        return known + self.weight_of(gap, seen) * gap

    def weight_of(self, gap: Tensor, seen: Seen) -> Tensor | float:
        """The weight at each cell, or everywhere."""
        return self.weight


class GapGuidance(Guidance):
    """A weight for every coarse cell and step.

    Args:
        weight: where the gap is wide.
        halfway: gap, in units of the residual, at which half of it is reached.
        dropout: share of training samples that are shown without inputs.
        temperature: variance of members in parts of the learnt one.
    """

    def __init__(
        self, *, weight: float = 0.6, halfway: float = 0.5, dropout: float = 0.1, temperature: float = 1.0
    ) -> None:
        super().__init__(weight=weight, dropout=dropout, temperature=temperature)
        if not halfway > 0:
            raise InputError(
                f"got halfway: {halfway} for the policy guidance-gap; expected above 0; change head.policy"
            )
        self.halfway = halfway

    def weight_of(self, gap: Tensor, seen: Seen) -> Tensor | float:
        (height, width), (h, w) = gap.shape[-2:], seen.coarse.shape[-2:]
        factor = (height // h, width // w)
        square = functional.avg_pool2d(gap.square().mean(1, keepdim=True), factor)
        weight: Tensor = self.weight * (1 - 0.5 ** (repeated(square.sqrt(), factor) / self.halfway))
        return weight
