"""Flow matching: straight lines from noise to fields, and their velocity as what a network learns.

    x_t = (1 - t) e + t r,      loss = | v(x_t; t, 0) - (r - e) |^2,      dx/dt = v from t = 0 to 1

Such a flow is straight for each pair and curved on the average, so that it takes many steps. Therefore the network is
told the length d of a step as well, and learns by itself to go as far in one step as in two of half the length:

    v(x_t; t, 2d) = 1/2 ( v(x_t; t, d) + v(x_t + d v(x_t; t, d); t + d, d) )

for a share of each batch, from the shortest steps, which are of the second order along velocities at points, to a
single one. There is no second stage of training, and 1, 2, 4 or 8 steps are 1, 2, 4 or 8 network calls.

Sources: Lipman et al., "Flow matching for generative modeling", ICLR 2023; Frans et al., "One step diffusion via
shortcut models", ICLR 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.diffusion.network import NumberedNetwork, chosen
from finegrid.heads.diffusion.stepped import SteppedHead, Table
from finegrid.heads.diffusion.walk import Walk
from finegrid.heads.draws import Draws
from finegrid.heads.flow.solvers import SOLVERS
from finegrid.heads.space import Problem, Seen

# Times at which a head is judged, always the same ones.
_JUDGED = 8
# Doublings from the shortest step that is learnt to a single one: 1/8, 1/4, 1/2, 1.
_DOUBLINGS = 4


class FlowHead(SteppedHead):
    """Members by following a velocity.

    Args:
        problem: what it is built for.
        steps: of the walk; 1, 2, 4 and 8 are taken as such where `shortcuts` are learnt.
        shortcuts: share of each training batch that learns longer steps; 0 for none.
        solver: of other numbers of steps, ``euler`` or ``heun`` (two network calls a step).
        mean: whether it has a mean network of its own.
        noise: base noise, by name or table.
        constrain: where the constraint acts, at the ``end`` or besides at all ``steps``.
        policy: how it is sampled, by name or table.
        vector: length of the vector that carries the time.
        seeds: channels of each of several given members; see `stepped.SteppedHead`.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        steps: int = 4,
        shortcuts: float = 0.25,
        solver: str = "heun",
        mean: bool = False,
        noise: Table = "white",
        constrain: str = "end",
        policy: Table = "fixed",
        vector: int = 64,
        seeds: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__(problem, steps=steps, mean=mean, noise=noise, constrain=constrain, policy=policy, seeds=seeds)
        if not 0 <= shortcuts < 1 or solver not in SOLVERS:
            raise InputError(
                f"got shortcuts: {shortcuts} and solver: {solver!r} for the head flow; expected a share of at least 0 "
                f"and below 1, and one of {', '.join(SOLVERS)}; change downscaler.head"
            )
        self.shortcuts, self.solver = shortcuts, solver
        own, told = problem.about(mean), 2 + self.policy.numbers
        self.network = NumberedNetwork(own, numbers=told, vector=vector, blind=self.policy.dropout > 0)

    def velocity(
        self, field: Tensor, time: Tensor, length: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """The mean velocity over a step (n, output, H, W).

        Args:
            field: where it begins (n, output, H, W).
            time: when (n,), from 0 (noise) to 1.
            length: of the step (n,); 0 for the velocity at the point.
            seen: what is seen.
            numbers: of the policy (n, numbers).
            hidden: for which samples nothing is to be seen (n,).
        """
        told = torch.cat([time[:, None], _number(length)[:, None], numbers], dim=1)
        velocity: Tensor = self.network(field, seen, told, hidden)
        return velocity

    def denoised(
        self, field: Tensor, level: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        # A field at a level of noise is a field on the line, out of scale.
        time = 1 / (1 + level)
        on_line = field * time[:, None, None, None]
        velocity = self.velocity(on_line, time, torch.zeros_like(time), seen, numbers, hidden)
        return on_line + (1 - time)[:, None, None, None] * velocity

    @property
    def strides(self) -> bool:
        """Whether its steps are those that were learnt as such."""
        return self.shortcuts > 0 and self.steps in {2**power for power in range(_DOUBLINGS)}

    def _estimate(self, field: Tensor, level: Tensor, seen: Seen, hidden: Tensor | None) -> Tensor:
        numbers = self.policy.told(len(field), field.device)
        length = torch.full_like(level, 1 / self.steps if self.strides else 0.0)
        velocity = self.velocity(field, level, length, seen, numbers, hidden)
        return field + (1 - level)[:, None, None, None] * velocity

    def _walked(self, walk: Walk) -> Tensor:
        times = torch.linspace(0, 1, self.steps + 1, device=walk.seen.start.device)
        return SOLVERS["euler" if self.strides else self.solver](walk, times)

    def _value(self, fine: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None) -> Tensor:
        count, device = len(fine), fine.device
        time = (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count
        length = torch.zeros_like(time)
        truth, noise = self.space.residual(fine, seen), self.noise(Draws.fresh(count, device), fine.shape[1])
        target, some = truth - noise, self._striding(count, device)
        if len(some):
            power = torch.randint(_DOUBLINGS, (len(some),), device=device)
            length[some] = 0.5**power
            # A step begins where one of a walk of such steps does.
            time[some] = (torch.rand(len(some), device=device) * 2**power).floor() * length[some]
        field = torch.lerp(noise, truth, time[:, None, None, None])
        if len(some):
            told = None if hidden is None else hidden[some]
            target[some] = self._joined(field[some], time[some], length[some], chosen(seen, some), numbers[some], told)
        answer = self.velocity(field, time, length, seen, numbers, hidden)
        return self._averaged((answer - target).square(), fine) + self._penalty(field, answer, time, seen)

    def _striding(self, count: int, device: torch.device) -> Tensor:
        """Which samples learn longer steps."""
        number = min(count - 1, max(1, round(self.shortcuts * count))) if self.shortcuts else 0
        return torch.randperm(count, device=device)[:number]

    @torch.no_grad()
    def _joined(
        self, field: Tensor, time: Tensor, length: Tensor, seen: Seen, numbers: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """The mean velocity of two steps of half the length."""
        half = length / 2
        # The shortest step is one of the second order along velocities at points, at its two ends.
        shortest = half < 0.5 ** (_DOUBLINGS - 1)
        told, between = torch.where(shortest, 0.0, half), torch.where(shortest, length, half)
        first = self.velocity(field, time, told, seen, numbers, hidden)
        middle = field + between[:, None, None, None] * first
        second = self.velocity(middle, time + between, told, seen, numbers, hidden)
        return (first + second) / 2

    def _learnt(self, fine: Tensor, seen: Seen, draws: Draws) -> Tensor:
        count, device = len(fine), fine.device
        time = (torch.arange(count, device=device) % _JUDGED + 0.5) / _JUDGED
        truth, noise = self.space.residual(fine, seen), self.noise(draws, fine.shape[1])
        field = torch.lerp(noise, truth, time[:, None, None, None])
        numbers = self.policy.told(count, device)
        answer = self.velocity(field, time, torch.zeros_like(time), seen, numbers)
        return self._averaged((answer - truth + noise).square(), fine) + self._penalty(field, answer, time, seen)

    def _penalty(self, field: Tensor, velocity: Tensor, time: Tensor, seen: Seen) -> Tensor:
        """What a soft constraint adds, the more the less noise there is."""
        if self.space.place.penalty is None:
            return torch.zeros_like(time)
        estimate = field + (1 - time)[:, None, None, None] * velocity
        return time.square() * self.space.place.penalty(self.space.physical(estimate, seen), seen.given)


def _number(length: Tensor) -> Tensor:
    """The length of a step as a number that a network tells apart: 0 for none, to 1 for a single one."""
    doublings = _DOUBLINGS + length.clamp(min=0.5**_DOUBLINGS).log2()
    return doublings / _DOUBLINGS
