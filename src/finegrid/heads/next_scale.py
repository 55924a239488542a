"""Members scale by scale: from the coarse cells to the fine ones in a few steps, each drawn given all coarser ones.

    r_1 = network_1(seen; noise)                                    residuals of the cells of the first step
    r_k = up(r_(k-1)) + d_k,     d_k = D network_k(seen, up(r_(k-1)); noise),     k = 2 ... K

The factor is split into its primes (8 = 2 * 2 * 2): each step divides every cell into a few, `up` repeats the value of
a cell, and D takes away the mean over the cell, so that what a coarser scale has decided stays. A token is a cell of
r_(k-1) with the departures of all its children, continuous and drawn at once for the whole field; one network a scale.
Where the backbone works on the coarse grid, a member costs K calls; where it works on that of its answer, all scales
together cost a third more than the finest.

Training sees half of the samples with true coarser scales (teacher forcing): the energy score of d_k over cells, over
tokens and over two by two tokens, which is least where members are drawn from the joint distribution of the children.
The other half runs through all scales on its own values, and is scored as whole members, so that errors of coarser
scales are met in training as they are in prediction.

Source: Tian et al., "Visual autoregressive modeling: scalable image generation via next-scale prediction", NeurIPS
2024; Ren et al., "M-VAR", 2024. Departures: values are continuous, and scored instead of counted; a cell sees the
next coarser scale and the inputs, by convolution, where the sources attend to all scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones.blocks import repeated
from finegrid.backbones.srresnet import primes
from finegrid.conventions import InputError
from finegrid.heads.base import Projection
from finegrid.heads.diffusion.network import chosen
from finegrid.heads.draws import Draws
from finegrid.heads.ensemble_score import ensemble_score
from finegrid.heads.generative import GenerativeHead
from finegrid.heads.space import Problem, Seen
from finegrid.losses import ENSEMBLE_LOSSES, Loss, energy

Step = tuple[int, int]


class NextScaleHead(GenerativeHead):
    """One small network a scale.

    Args:
        problem: what it is built for.
        loss: score of the members that run through all scales.
        vector: length of the noise vector of each scale.
        fields: fields of noise at each scale.
        own: part of the samples that are trained on their own coarser scales; the others on the true ones.
        train_members: members by which the score is estimated in a training step.
        mean: whether a mean network makes the centre.
    """

    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = ENSEMBLE_LOSSES
    usual_loss: ClassVar[str] = "multi-scale-crps"

    def __init__(
        self,
        problem: Problem,
        *,
        loss: Loss,
        vector: int = 16,
        fields: int = 1,
        own: float = 0.5,
        train_members: int = 2,
        mean: bool = False,
    ) -> None:
        super().__init__(problem, mean=mean)
        if vector < 1 or fields < 1 or not 0 <= own <= 1 or train_members < 2:
            raise InputError(
                f"got vector: {vector}, fields: {fields}, own: {own}, train_members: {train_members} for the head "
                "next-scale; expected a vector and fields of at least 1, a part between 0 and 1, and at least 2 "
                "members, without which there is no score of spread; change downscaler.head"
            )
        self.vector, self.fields, self.own, self.train_members = vector, fields, own, train_members
        self.steps = growth(problem.space.factor)
        self._ensemble_loss = loss
        around, more = problem.about(mean), problem.space.outputs + fields
        factors = [self._factor(number) for number in range(len(self.steps))]
        self.networks = nn.ModuleList(around.network(fine=more, condition=vector, factor=factor) for factor in factors)

    def _loss(self, fine: Tensor, seen: Seen) -> Tensor:
        # Rounded by chance, so that the part is right for batches of any size.
        own = int(self.own * len(fine) + float(torch.rand(())))
        parts = []
        every = torch.arange(len(fine), device=fine.device)
        if own:
            parts.append(self._rolled(fine[:own], chosen(seen, every[:own])))
        if own < len(fine):
            parts.append(self._taught(fine[own:], chosen(seen, every[own:])))
        return torch.cat(parts)

    def _rolled(self, fine: Tensor, seen: Seen) -> Tensor:
        """Score of members that run through all scales on their own values."""
        several = seen.repeated(self.train_members)
        residual = self._draw(several, Draws.fresh(len(several), fine.device), None)
        return ensemble_score(self.space, self._ensemble_loss, residual, several, fine)

    def _taught(self, fine: Tensor, seen: Seen) -> Tensor:
        """Mean over scales of the score of what is added to the true coarser scale."""
        truth, weight = self.space.residual(fine, seen), self.space.weight_of(fine)
        several, draws = seen.repeated(self.train_members), Draws.fresh(self.train_members * len(seen), fine.device)
        height, width = _coarse_shape_of(truth, self.space.factor)
        below, losses = truth.new_zeros(*truth.shape[:2], height, width), []
        for number, step in enumerate(self.steps):
            block = self._block(number)
            target = mean_over(truth, weight, block)
            below = repeated(below, step)
            change = self._change(number, below.repeat(self.train_members, 1, 1, 1), several, draws)
            members = change.reshape(self.train_members, *target.shape)
            losses.append(_of_tokens(members, target - below, functional.avg_pool2d(weight, block), max(step)))
            below = target
        return torch.stack(losses).mean(0)

    def _draw(self, seen: Seen, draws: Draws, project: Projection | None) -> Tensor:
        height, width = _coarse_shape_of(seen.start, self.space.factor)
        made = seen.start.new_zeros(*seen.start.shape[:2], height, width)
        for number, step in enumerate(self.steps):
            below = repeated(made, step)
            made = below + self._change(number, below, seen, draws)
        return made

    def _change(self, number: int, below: Tensor, seen: Seen, draws: Draws) -> Tensor:
        """What a scale adds to the repeated coarser one (n, output, height, width)."""
        noise = draws.normal(self.fields, *below.shape[-2:])
        at_scale = self._at_scale(number, seen)
        made = at_scale.through(self.networks[number], below, noise, condition=draws.normal(self.vector))
        step = self.steps[number]
        if number == 0:
            return made
        weight = functional.avg_pool2d(self.space.place.weight[None, None], self._block(number))
        return made - repeated(mean_over(made, weight.expand_as(made[:1]), step), step)

    def _at_scale(self, number: int, seen: Seen) -> Seen:
        """What the network of a scale sees: inputs of the fine grid as means over cells of the scale."""
        block = self._block(number)
        fine = None if seen.fine is None else functional.avg_pool2d(seen.fine, block)
        static = None if seen.static is None else functional.avg_pool2d(seen.static, block)
        return replace(seen, fine=fine, static=static)

    def _block(self, number: int) -> Step:
        """Fine cells in a cell of a scale."""
        after = self.steps[number + 1 :]
        return math.prod(step[0] for step in after), math.prod(step[1] for step in after)

    def _factor(self, number: int) -> Step:
        """Cells of a scale in a coarse cell."""
        done = self.steps[: number + 1]
        return math.prod(step[0] for step in done), math.prod(step[1] for step in done)


def growth(factor: Step) -> list[Step]:
    """The steps of a factor, along y and x, coarse to fine: (8, 8) is three of (2, 2), (2, 3) is one.

    Large primes come first, where the grid is small. A side with fewer primes grows in the last steps. There is always
    a step, if only of (1, 1).
    """
    rows, columns = (sorted(primes(side)) for side in factor)
    pairs = list(zip_longest(rows, columns, fillvalue=1))
    return pairs[::-1] or [(1, 1)]


def mean_over(fields: Tensor, weight: Tensor, block: Step) -> Tensor:
    """Weighted means over blocks (..., height, width); 0 where nothing counts."""
    total = functional.avg_pool2d(weight, block)
    means = functional.avg_pool2d(fields * weight, block) / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, means, 0.0)


def _of_tokens(members: Tensor, truth: Tensor, weight: Tensor, side: int) -> Tensor:
    """Mean energy score over cells, tokens and two by two tokens."""
    sizes = sorted({1, side, 2 * side})
    return torch.stack([energy(members, truth, weight, patch=size) for size in sizes]).mean(0)


def _coarse_shape_of(field: Tensor, factor: Step) -> Step:
    return field.shape[-2] // factor[0], field.shape[-1] // factor[1]
