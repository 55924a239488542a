"""Diffusion: a network learns to take noise away, and members are what it makes of pure noise.

    loss = weight(s) * | D(r + s e; s, seen) - r |^2,      log s ~ N(centre, width^2),   e from the base noise
    member:  from s_0 e down to level 0 (`samplers`)

With `mean: true` the residuals are those about a mean network that is trained beside it, so that the diffusion need
only make the detail. What such a network leaves of times that it has learnt from is smaller than what it leaves of
others, which makes members that spread too little unless the training data are many; so it is not the default.

A term of the Wasserstein distance between the values of the estimate and the truth, in transformed units after the way
there and back (a dry cell is dry, however far below zero its residual), makes extremes as frequent as they are. It is
weighted by c_skip, because an estimate from much noise has to be smooth.

Sources: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022; Mardani et
al., "Residual corrective diffusion modeling for km-scale atmospheric downscaling", 2023; Liu et al., "WassDiff", 2024;
Pandey et al., "Heavy-tailed diffusion models", 2024 (Student-t as base noise). Members from given members, as in Li et
al., "SEEDS", 2023, are diffusion with those as predictors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.components import build, word_of
from finegrid.heads.diffusion.levels import Levels
from finegrid.heads.diffusion.network import NumberedNetwork
from finegrid.heads.diffusion.samplers import SAMPLERS, Sampler
from finegrid.heads.diffusion.stepped import SteppedHead, Table
from finegrid.heads.diffusion.walk import Walk
from finegrid.heads.diffusion.wasserstein import wasserstein
from finegrid.heads.draws import Draws
from finegrid.heads.space import Problem, Seen


class DiffusionHead(SteppedHead):
    """Members by taking noise away.

    Args:
        problem: what it is built for.
        steps: of the sampler.
        sampler: ``euler``, ``heun`` (two network calls a step) or ``multistep``, by name or table.
        mean: whether it has a mean network of its own; see above.
        noise: base noise, by name or table.
        constrain: where the constraint acts, at the ``end`` or besides at all ``steps``.
        policy: how it is sampled, by name or table.
        wasserstein: weight of the distance between values.
        lowest: level at which the sampler ends, in units of the residual.
        highest: level at which it begins.
        centre: mean of the logarithm of the levels of training.
        width: its deviation.
        deviation: of the residuals, about 1 by construction.
        vector: length of the vector that carries the level.
        seeds: channels of each of several given members; see `stepped.SteppedHead`.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        steps: int = 20,
        sampler: Table = "multistep",
        mean: bool = False,
        noise: Table = "white",
        constrain: str = "end",
        policy: Table = "fixed",
        wasserstein: float = 0.0,
        lowest: float = 0.03,
        highest: float = 40.0,
        centre: float = 0.0,
        width: float = 1.4,
        deviation: float = 1.0,
        vector: int = 64,
        seeds: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__(problem, steps=steps, mean=mean, noise=noise, constrain=constrain, policy=policy, seeds=seeds)
        self.levels = Levels(lowest, highest, centre, width, deviation)
        self.sampler: Sampler = build(sampler, SAMPLERS, "sampler")
        if wasserstein < 0:
            raise InputError(f"got wasserstein: {wasserstein}; expected 0 or more; change downscaler.head")
        self.wasserstein = wasserstein
        _checked_churn(self.sampler, noise)
        own, told = problem.about(mean), 1 + self.policy.numbers
        self.network = NumberedNetwork(own, numbers=told, vector=vector, blind=self.policy.dropout > 0)

    def denoised(
        self, field: Tensor, level: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        # Fields and levels in units of the size that residuals have at the numbers of the policy.
        size = self.policy.size(numbers)
        levels, relative = self.levels, level / size
        wide = relative[:, None, None, None]
        told = torch.cat([relative.log()[:, None] / 4, numbers], dim=1)
        answer: Tensor = self.network(levels.into(wide) * field / size[:, None, None, None], seen, told, hidden)
        return levels.skip(wide) * field + size[:, None, None, None] * levels.out(wide) * answer

    def _estimate(self, field: Tensor, level: Tensor, seen: Seen, hidden: Tensor | None) -> Tensor:
        return self.denoised(field, level, seen, self.policy.told(len(field), field.device), hidden)

    def _walked(self, walk: Walk) -> Tensor:
        return self.sampler(walk, self.levels.visited(self.steps, rho=self.sampler.rho, device=walk.seen.start.device))

    def _value(self, fine: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None) -> Tensor:
        count, device = len(fine), fine.device
        return self._error(fine, seen, self.levels.trained(count, device), Draws.fresh(count, device), numbers, hidden)

    def _learnt(self, fine: Tensor, seen: Seen, draws: Draws) -> Tensor:
        level = self.levels.judged(len(fine), fine.device)
        return self._error(fine, seen, level, draws, self.policy.told(len(fine), fine.device), None)

    def _error(
        self, fine: Tensor, seen: Seen, level: Tensor, draws: Draws, numbers: Tensor, hidden: Tensor | None
    ) -> Tensor:
        truth = self.space.residual(fine, seen)
        noisy = truth + level[:, None, None, None] * self.noise(draws, truth.shape[1])
        estimate = self.denoised(noisy, level, seen, numbers, hidden)
        value = self.levels.weight(level) * self._averaged((estimate - truth).square(), fine)
        return value + self._terms(estimate, truth, fine, seen, level)

    def _terms(self, estimate: Tensor, truth: Tensor, fine: Tensor, seen: Seen, level: Tensor) -> Tensor:
        """What is asked of an estimate besides being near: values, and a soft constraint."""
        share, value = self.levels.skip(level), torch.zeros_like(level)
        if self.wasserstein:
            made = self.space.residual(self.space.physical(estimate, seen), seen)
            made, true = (seen.start + seen.unit * each for each in (made, truth))
            distance = (wasserstein(made, true, torch.isfinite(fine)) / seen.unit.flatten()).mean(1)
            value = value + self.wasserstein * share * distance
        if self.space.place.penalty is not None:
            value = value + share * self.space.place.penalty(self.space.physical(estimate, seen), seen.given)
        return value


def _checked_churn(sampler: Sampler, noise: Table) -> None:
    if sampler.stirs and word_of(noise) == "heavy-tailed":
        raise InputError(
            "got a sampler with churn and heavy-tailed noise; expected normal noise, since the sum of two heavy-tailed "
            "fields is no longer of their kind; set churn: 0, or another noise"
        )
