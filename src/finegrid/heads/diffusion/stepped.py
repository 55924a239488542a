"""What heads share that go from noise to fields in steps: base noise, constraint on the way, policy.

A head says what it estimates at a level of noise (`_estimate`), how it walks (`_walked`), and how it learns.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.components import build
from finegrid.heads.base import Conditions, Projection
from finegrid.heads.diffusion.density import log_density
from finegrid.heads.diffusion.walk import Walk
from finegrid.heads.draws import Draws
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.noises import NOISES
from finegrid.heads.policies import POLICIES, Policy, Temperature
from finegrid.heads.space import Problem, Seen

CONSTRAINED = ("end", "steps")
# Members by which a temperature is judged.
_TRIED = 4
# Batches from which the base noise learns how heavy the tails of residuals are: early, while a mean network settles.
_FITTING = tuple(2**power for power in range(9))

Table = str | Mapping[str, Any]


class SteppedHead(GenerativeHead):
    """A head that walks. Its network sees fields with noise, which it can only take away where it has room for them.

    Args:
        problem: what it is built for.
        steps: of the walk.
        mean: whether it has a mean network of its own.
        noise: base noise, by name or `{name: ..., **arguments}`.
        constrain: where the constraint acts, at the ``end`` or besides at all ``steps``.
        policy: how it is sampled, by name or `{name: ..., **arguments}`.
        seeds: channels of the inputs that belong to each of several given members of a coarse ensemble, such as
            [[0], [1]]; they are shuffled in training, so that none of them is special.
    """

    usual_backbone: ClassVar[Mapping[str, Any]] = {"name": "unet", "resolution": "half", "width": 32}

    def __init__(
        self,
        problem: Problem,
        *,
        steps: int,
        mean: bool,
        noise: Table,
        constrain: str,
        policy: Table,
        seeds: Sequence[Sequence[int]],
    ) -> None:
        super().__init__(problem, mean=mean)
        if steps < 1 or constrain not in CONSTRAINED:
            raise InputError(
                f"got steps: {steps} and constrain: {constrain!r}; expected at least 1 step, and 'end' or 'steps'; "
                "change downscaler.head"
            )
        self.steps, self.constrain = steps, constrain
        self.seeds = _checked_seeds(seeds)
        self.noise = build(noise, NOISES, "noise", place=problem.space.place, outputs=problem.space.outputs)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.policy: Policy = build(policy, POLICIES, "policy")
        self.policy.prepare(problem)

    batches: Tensor

    @abstractmethod
    def _estimate(self, field: Tensor, level: Tensor, seen: Seen, hidden: Tensor | None) -> Tensor:
        """Residuals without noise (n, output, H, W), of noisy fields at levels (n,); see `walk.Estimate`."""

    @abstractmethod
    def _walked(self, walk: Walk) -> Tensor:
        """Residuals (n, output, H, W) at the end of the walk."""

    @abstractmethod
    def denoised(
        self, field: Tensor, level: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """The estimate of residuals without noise (n, output, H, W).

        Args:
            field: residuals with noise (n, output, H, W).
            level: deviation of the noise of each (n,).
            seen: what is seen.
            numbers: of the policy (n, numbers).
            hidden: for which samples nothing is to be seen (n,).
        """

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        return self._walked(self._walk(seen, draws, self.policy, project))

    def _walk(self, seen: Seen, draws: Draws, policy: Policy, project: Projection | None) -> Walk:
        inside = (project or self.space.place.project) if self.constrain == "steps" else None
        return Walk(
            self._estimate,
            seen,
            draws,
            noise=self.noise,
            policy=policy,
            space=self.space,
            project=inside,
            steps=self.steps,
            rough=self._rough,
        )

    def _rough(self, noise: Tensor, seen: Seen) -> Tensor:
        """Estimates from pure noise of size one."""
        count, device = len(noise), noise.device
        return self.denoised(noise, torch.ones(count, device=device), seen, self.policy.told(count, device))

    def _density(self, fine: Tensor, seen: Seen) -> Tensor:
        """Logarithm of the density of true fields (n,), up to a constant."""
        numbers = torch.zeros(len(fine), self.policy.numbers, device=fine.device)
        noise = functools.partial(self.noise, channels=fine.shape[1])
        truth, known = self.space.residual(fine, seen), torch.isfinite(fine)
        return log_density(lambda field, level: self.denoised(field, level, seen, numbers), truth, known, noise)

    def _judged(self, fine: Tensor, seen: Seen) -> Tensor:
        """The mean network's error, and the training loss at noise that is always the same.

        Members would say more, at the cost of all their steps for each judgement.
        """
        draws = Draws.of(0, (0,), range(len(seen)), fine.device)
        value = self._learnt(fine, seen, draws)
        if self.mean is None:
            return value
        centre = torch.zeros_like(seen.start)
        return value + self._distance(self.space.admissible(centre, seen), fine)

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        self.batches += 1
        if int(self.batches) in _FITTING:
            self.noise.fit(self.space.residual(fine, seen), self.space.weight_of(fine))
        count, device = len(fine), fine.device
        numbers = self.policy.asked(count, device)
        hidden = torch.rand(count, device=device) < self.policy.dropout if self.policy.dropout else None
        seen = self._mixed(seen)
        value = self._value(fine, seen, numbers, hidden)
        weights = self.policy.weights(lambda: self._density(fine, seen), numbers)
        return value if weights is None else value * weights

    @abstractmethod
    def _value(self, fine: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None) -> Tensor:
        """The loss (batch,) at random levels, for numbers of the policy and samples to which nothing is shown."""

    @abstractmethod
    def _learnt(self, fine: Tensor, seen: Seen, draws: Draws) -> Tensor:
        """The loss (batch,) of the walk's network at levels that are always the same ones."""

    @torch.no_grad()
    def settle(self, fine: Tensor, given: Conditions) -> None:
        super().settle(fine, given)
        times = getattr(self.policy, "times", 0)
        if times:
            some = torch.linspace(0, len(given) - 1, min(times, len(given)), device=fine.device).round().long()
            seen = self._centred(self.space.see(given.at(some)))
            self.policy.learn(lambda scale: self._tried(scale, fine[some], seen), seen)

    def _tried(self, scale: float, fine: Tensor, seen: Seen) -> Tensor:
        """Fair CRPS of members whose noise is scaled."""
        draws = Draws.of(1, range(_TRIED), range(len(seen)), fine.device)
        several = seen.repeated(_TRIED)
        residual = self._walked(self._walk(several, draws, Temperature(temperature=scale**2), None))
        fields = self.space.admissible(residual, several)
        return self._score(fields.reshape(_TRIED, *fine.shape), fine)

    def _mixed(self, seen: Seen) -> Seen:
        """The same with the seeds in another order."""
        if not self.seeds:
            return seen
        own = torch.tensor(self.seeds)
        coarse = seen.coarse.clone()
        coarse[:, own.flatten()] = seen.coarse[:, own[torch.randperm(len(own))].flatten()]
        return replace(seen, coarse=coarse)

    def _averaged(self, error: Tensor, fine: Tensor) -> Tensor:
        """Weighted mean of an error (batch, output, H, W) over known cells, (batch,)."""
        weight = self.space.weight_of(fine)
        return (error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-12)


def _checked_seeds(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    """The channels of each seed, as many for each."""
    lengths = {len(each) for each in seeds}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"got seeds: {list(seeds)}; expected for each given member the same number of channels, such as "
            "[[0], [1]]; change head.seeds"
        )
    return [list(each) for each in seeds]
