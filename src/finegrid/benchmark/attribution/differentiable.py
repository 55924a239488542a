"""The same function of a network, by way of its tensors, so that gradients pass.

    z  ->  features, coarse values, first guess  ->  head  ->  constraint  ->  mean over members  ->  target

All of it is torch already but the first guess, whose gradient is in `mean`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from finegrid.backbones.blocks import repeated
from finegrid.benchmark.attribution.mean import AffineGuess, Guess
from finegrid.benchmark.attribution.moment import Moment
from finegrid.bridge import features_of
from finegrid.conventions import InputError
from finegrid.data.predictors import steps_since_epoch
from finegrid.downscalers import Downscaler, NeuralDownscaler
from finegrid.heads import Conditions, Draws
from finegrid.training.device import chosen_device


@dataclass(frozen=True, eq=False, kw_only=True)
class DifferentiableMoment(Moment):
    """One time of a network.

    Attributes:
        model: the downscaler.
        first_guess: that of vectors (batch, output, H, W), differentiable.
    """

    model: NeuralDownscaler
    first_guess: Guess

    def __call__(self, points: Tensor) -> Tensor:
        """The number (batch,) for vectors (batch, value) of the window."""
        _, head = self.model._trained
        device = chosen_device(self.model.settings.device)
        self.model.conservation.to(device)
        head.placed(device)
        given = self._conditions(points).to(device)
        now = self.window["time"].isel(time=np.full(len(points), self.position))
        keys = [int(step) for step in steps_since_epoch(now, self.model.domain.step_seconds)]
        fine = head.sample(given, Draws.of(self.seed, range(self.members), keys, device)).mean(0)
        known = repeated(torch.isfinite(given.coarse), self.model.domain.factor)
        return self.aim(torch.where(known, fine, torch.nan)).cpu()

    def _conditions(self, points: Tensor) -> Conditions:
        model, rows = self.model, torch.as_tensor(self.rows(len(points)))
        planes = [each for _, each in self.inputs.planes(points.reshape(-1, self.inputs.size))]
        coarse = planes[0][rows, : len(model.domain.outputs)]
        conserved = coarse if model.domain.inputs.own is None else planes[1][rows]
        high = model.conservation.given(self.window.isel(time=[self.position])).high
        high = None if high is None else high.expand(len(points), *high.shape[1:])
        return Conditions(self._features(planes[0])[rows], coarse, conserved, self.first_guess(points), high)

    def _features(self, blocks: Tensor) -> Tensor:
        layout, times = self.model._trained[0].layout, self.times(len(blocks) // self.steps)
        if self.steps == 1 and len(layout.frames) > 1:
            each = zip(torch.split(blocks, 1), range(len(blocks)), strict=True)
            return torch.cat([features_of(block, times[[index]], layout) for block, index in each])
        return features_of(blocks, times, layout)


def differentiable(moment: Moment, affine: AffineGuess, baseline: Tensor, usual: Tensor) -> DifferentiableMoment:
    """The moment of a network, ready for gradients between its own vector and baselines (baseline, value).

    Args:
        moment: by predictions.
        affine: what is known of the first guess from other times.
        baseline: vectors (baseline, value).
        usual: by how much each value usually differs from the baseline (value,).

    Raises:
        InputError: when the downscaler has no gradients.
    """
    model = network_of(moment.downscaler)
    mean = model._mean

    def spread(points: Tensor) -> Tensor:
        _, blocks = next(iter(moment.inputs.planes(points.reshape(-1, moment.inputs.size))))
        own = blocks[torch.as_tensor(moment.rows(len(points))), : len(model.domain.outputs)]
        return repeated(torch.nan_to_num(own, nan=0.0), model.domain.factor)

    guess: Guess = spread
    if mean is not None:
        guess = affine.settle(lambda points: moment.guess(mean, points), moment.values, baseline, usual, mean.name)
    known = {each.name: getattr(moment, each.name) for each in fields(moment)}
    return DifferentiableMoment(**known, model=model, first_guess=guess)


def network_of(downscaler: Downscaler) -> NeuralDownscaler:
    """The downscaler, which has to be a network.

    Raises:
        InputError: when it is none.
    """
    if not isinstance(downscaler, NeuralDownscaler):
        raise InputError(
            f"got a method that needs gradients for the downscaler '{downscaler.name}', which has none; expected a "
            "network; use --method shapley or --method occlusion, which only need predictions"
        )
    return downscaler
