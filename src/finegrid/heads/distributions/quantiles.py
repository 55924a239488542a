"""Quantiles at fixed levels: any shape, with tails that go on as exponentials.

    q_middle = p_1,    q_(j+1) = q_j + d_j softplus(p),    loss = 2 sum_j a_j max(t_j (y - q_j), (t_j - 1) (y - q_j))

Steps are positive, so quantiles do not cross; d_j are the steps of a standard normal, with which an untrained network
begins. a_j is the part of the levels around t_j, so that the loss approaches the CRPS. Between levels the value is
straight in the normal score; beyond the last two it is straight in the logarithm of the probability that is left.

Source: Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978, doi:10.2307/1913643.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.distributions.base import LEAST, Distribution, normal_chance, positive

LEVELS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)


class Quantiles(Distribution):
    """Parameters: one step below each other level, and the middle quantile.

    Args:
        levels: probabilities, increasing, at least two.
    """

    def __init__(self, levels: Sequence[float] = LEVELS) -> None:
        rising = all(a < b for a, b in itertools.pairwise(levels))
        if len(levels) < 2 or not rising or levels[0] <= 0 or levels[-1] >= 1:
            raise InputError(
                f"got levels: {list(levels)} for quantiles; expected at least two increasing numbers between 0 and 1; "
                "use [0.05, 0.25, 0.5, 0.75, 0.95]"
            )
        self.levels, self.count = tuple(levels), len(levels)
        self._levels = torch.tensor(self.levels, dtype=torch.float64)
        self._scores = torch.special.ndtri(self._levels)

    def loss(self, parameters: Tensor, truth: Tensor) -> Tensor:
        quantiles = self.values(parameters)
        levels = self._beside(self._levels, quantiles)
        edges = torch.cat(
            [self._levels.new_zeros(1), (self._levels[1:] + self._levels[:-1]) / 2, self._levels.new_ones(1)]
        )
        above = truth - quantiles
        pinball = torch.maximum(levels * above, (levels - 1) * above)
        return 2 * (self._beside(edges.diff(), quantiles) * pinball).sum(0)

    def values(self, parameters: Tensor) -> Tensor:
        """The quantiles at the levels (level, ...)."""
        steps = self._beside(self._scores.diff(), parameters) * positive(parameters[:-1])
        from_lowest = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])
        return parameters[-1] + from_lowest - from_lowest[self.count // 2]

    def value(self, parameters: Tensor, score: Tensor) -> Tensor:
        quantiles, scores = self.values(parameters), self._scores.to(score)
        place = torch.searchsorted(scores, score.contiguous()).clamp(1, self.count - 1)
        low, high = (quantiles.gather(0, (place + each)[None])[0] for each in (-1, 0))
        part = (score - scores[place - 1]) / (scores[place] - scores[place - 1])
        inside = low + part * (high - low)
        above = quantiles[-1] + self._slope(quantiles, 1) * (self._left(1) - torch.special.log_ndtr(-score))
        below = quantiles[0] - self._slope(quantiles, 0) * (self._left(0) - torch.special.log_ndtr(score))
        return torch.where(score > scores[-1], above, torch.where(score < scores[0], below, inside))

    def chance(self, parameters: Tensor, values: Tensor, uniform: Tensor) -> Tensor:
        quantiles, scores = self.values(parameters), self._scores.to(values)
        place = (values > quantiles).sum(0).clamp(1, self.count - 1)
        low, high = (quantiles.gather(0, (place + each)[None])[0] for each in (-1, 0))
        part = (values - low) / (high - low)
        inside = normal_chance(scores[place - 1] + part * (scores[place] - scores[place - 1]))
        above = 1 - torch.exp(self._left(1) - (values - quantiles[-1]) / self._slope(quantiles, 1))
        below = torch.exp(self._left(0) - (quantiles[0] - values) / self._slope(quantiles, 0))
        return torch.where(values > quantiles[-1], above, torch.where(values < quantiles[0], below, inside))

    def _left(self, side: int) -> float:
        """Logarithm of the probability beyond the last level of a side: 0 below, 1 above."""
        return float(torch.log(1 - self._levels[-1] if side else self._levels[0]))

    def _slope(self, quantiles: Tensor, side: int) -> Tensor:
        """Scale of the exponential beyond the last level."""
        left = torch.log(1 - self._levels[-2:] if side else self._levels[:2].flip(0))
        step = quantiles[-1] - quantiles[-2] if side else quantiles[1] - quantiles[0]
        return (step / float(left[0] - left[1])).clamp(min=LEAST * LEAST)

    def _beside(self, numbers: Tensor, like: Tensor) -> Tensor:
        return numbers.to(like).reshape(-1, *[1] * (like.ndim - 1))
