"""The way of a batch from noise to fields: what a sampler may ask for at each step.

A sampler knows levels and steps; what stands behind an estimate (network, guidance, the constraint) and how many
candidates a member has is known here. Diffusion and flow matching share it: both estimate the field without its noise.

The constraint inside a sampler replaces an estimate by one that obeys it,

    D <- T(project(y))  where that differs from T(y),      y = T^-1(D),

and leaves the other cells alone: where y is cut at zero (rain), the residual below zero says how dry a cell is, which
the way there and back would lose.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from finegrid.heads.base import Projection
from finegrid.heads.diffusion.network import chosen
from finegrid.heads.draws import Draws
from finegrid.heads.policies import Policy
from finegrid.heads.space import Seen, Space

Noise = Callable[[Draws, int], Tensor]
Estimate = Callable[[Tensor, Tensor, Seen, "Tensor | None"], Tensor]
"""Denoised fields of (noisy fields, how noisy (n,), what is seen, for which samples nothing is to be seen (n,))."""
Correction = Callable[[Tensor, Seen], Tensor]


class Walk:
    """One batch on its way.

    Args:
        estimate: the denoiser.
        seen: what it sees of n samples.
        draws: random numbers of n samples.
        noise: base noise of unit variance.
        policy: how to sample.
        space: where residuals live.
        project: constraint that estimates obey; None for none.
        steps: steps of the sampler.
        rough: estimates of (pure noise of size one, what is seen), by which the policy sees how sure the head is.
    """

    def __init__(
        self,
        estimate: Estimate,
        seen: Seen,
        draws: Draws,
        *,
        noise: Noise,
        policy: Policy,
        space: Space,
        project: Projection | None,
        steps: int,
        rough: Callable[[Tensor, Seen], Tensor],
    ) -> None:
        self._estimate, self._draws, self._noise, self._policy = estimate, draws, noise, policy
        self._space, self._project, self._steps = space, project, steps
        self._candidates, self._done = policy.candidates, 0
        self._scale = policy.scale(seen, self._doubt(rough, seen)).expand(len(seen))
        copies = torch.arange(len(seen), device=seen.start.device).repeat_interleave(self._candidates)
        self.seen = seen if self._candidates == 1 else chosen(seen, copies)

    def noise(self) -> Tensor:
        """Fresh noise for each field on its way (n * candidates, output, H, W), at the temperature of the policy."""
        fields = [self._noise(self._draws, self._space.outputs) for _ in range(self._candidates)]
        drawn = fields[0] if len(fields) == 1 else torch.stack(fields, dim=1).flatten(0, 1)
        return drawn * self._scale.repeat_interleave(self._candidates)[:, None, None, None]

    def estimate(self, field: Tensor, level: Tensor) -> Tensor:
        """Residuals without noise of fields at a level (), steered and, where it is wanted, admissible."""
        levels = level.expand(len(field))
        known = self._estimate(field, levels, self.seen, None)
        hidden = torch.ones(len(field), dtype=torch.bool, device=field.device)
        steered = self._policy.steer(known, lambda: self._estimate(field, levels, self.seen, hidden), self.seen)
        return steered if self._project is None else corrected(steered, self.seen, self._space, self._project)

    def selected(self, estimate: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """After a step: the estimate and other fields, of those candidates that go on."""
        self._done += 1
        # What is left after the last step is one candidate, whatever the number of steps.
        done = 1.0 if self._done >= self._steps else self._done / self._steps
        if self._candidates > 1:
            kept = self._policy.keep(
                estimate, self.seen, reward=self.consistency, done=done, candidates=self._candidates
            )
            if kept is not None:
                self._candidates = self._candidates * len(kept) // len(estimate)
                self.seen = chosen(self.seen, kept)
                return tuple(each[kept] for each in (estimate, *others))
        return estimate, *others

    def consistency(self, estimate: Tensor, seen: Seen) -> Tensor:
        """Minus the mean square misfit of block means with the coarse values, in units of the residual (n,)."""
        factor, weight = self._space.factor, self._space.place.weight
        physical = self._space.physical(estimate, seen)
        area = torch.nn.functional.avg_pool2d(weight[None, None], factor)
        means = torch.nn.functional.avg_pool2d(physical * weight, factor) / area.clamp(min=1e-12)
        misfit = (means - seen.given.coarse) / self._space.scale
        return -torch.where(torch.isfinite(misfit), misfit, 0.0).square().mean((1, 2, 3))

    def _doubt(self, rough: Callable[[Tensor, Seen], Tensor], seen: Seen) -> Callable[[], Tensor]:
        def measured() -> Tensor:
            first, second = (rough(self._noise(self._draws, self._space.outputs), seen) for _ in range(2))
            return (first - second).square().mean((1, 2, 3)).div(2).sqrt()

        return measured


def corrected(estimate: Tensor, seen: Seen, space: Space, project: Projection) -> Tensor:
    """Residuals (n, output, H, W), changed as the constraint changes their fields; see the module docstring."""
    before = space.physical(estimate, seen).to(seen.given.reference.dtype)
    after = project(before, seen.given)
    known = torch.isfinite(after)
    old, new = space.residual(before, seen), space.residual(torch.where(known, after, before), seen)
    return torch.where(new == old, estimate, new.to(estimate.dtype))
