"""One best answer: the first guess plus what networks add to it.

    y = T^-1( T(reference) + gain * mean over k of network_k(features, reference, static) )

T is the transform of the variable and `gain` the deviation of the first guess's error in transformed units, so that the
networks' output is of order one whatever the units. Several networks are a committee: they share the batches, each has
a loss of its own, and their mean has less variance than any of them. The constraint is part of the training: the loss
sees the projected field.

Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS
2017 (the committee).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from finegrid.backbones import Backbone
from finegrid.backbones.blocks import repeated, unshuffle
from finegrid.heads.base import Conditions, Head, Place, Projection
from finegrid.losses import Loss


class Link(Protocol):
    """An invertible map of one variable on tensors, as `data.transforms` provides it."""

    def forward(self, values: Any, xp: Any = ..., /) -> Any:
        """Physical to transformed."""

    def inverse(self, values: Any, xp: Any = ..., /) -> Any:
        """Transformed to physical."""


class PointHead(Head):
    """A deterministic head.

    Args:
        backbones: networks whose inputs are the features and, when `sees_reference`, the first guess's departures from
            its block means.
        links: transform of each output.
        gain: deviation of the first guess's error in transformed units (output,).
        scale: deviation of the first guess's error in physical units (output,), by which the loss is measured.
        loss: distance of fine fields.
        factor: fine cells in a coarse cell along y and x.
        place: static fields, weights and constraint of the domain.
        sees_reference: whether the first guess is an input.
    """

    gain: Tensor
    scale: Tensor

    def __init__(
        self,
        backbones: Sequence[Backbone],
        *,
        links: Sequence[Link],
        gain: Tensor,
        scale: Tensor,
        loss: Loss,
        factor: tuple[int, int],
        place: Place,
        sees_reference: bool = True,
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleList([each for each in backbones if isinstance(each, nn.Module)])
        self.links, self.factor, self.sees_reference = tuple(links), factor, sees_reference
        self.place = place
        self._loss = loss
        self.register_buffer("gain", gain.float().reshape(-1, 1, 1), persistent=False)
        self.register_buffer("scale", scale.float().reshape(-1, 1, 1), persistent=False)

    def forward(self, given: Conditions) -> Tensor:
        """The field before the constraint (batch, output, H, W)."""
        start, seen = self._start(given)
        change = torch.stack([self._change(each, seen) for each in self.backbones]).mean(0)
        return self._physical(start, change)

    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        if not self.training:
            return self._loss_of(self(given), fine, given)
        start, seen = self._start(given)
        fields = [self._physical(start, self._change(each, seen)) for each in self.backbones]
        return torch.stack([self._loss_of(field, fine, given) for field in fields]).mean(0)

    def sample(
        self, given: Conditions, members: int, generator: torch.Generator, project: Projection | None = None
    ) -> Tensor:
        admissible = (project or self.place.project)(self(given).to(given.reference.dtype), given)
        return admissible[None].expand(members, *admissible.shape)

    def placed(self, device: torch.device | str) -> PointHead:
        """The head and its place on a device."""
        self.place = self.place.to(device)
        return self.to(device)

    def _start(self, given: Conditions) -> tuple[Tensor, Tensor]:
        """The transformed first guess, and what the networks see."""
        transformed = self._each(given.reference, lambda link, values: link.forward(values, torch))
        if not self.sees_reference:
            return transformed, given.features
        means = repeated(nn.functional.avg_pool2d(transformed, self.factor), self.factor)
        # A first guess without a coarse value is no guess: its neighbours must not see it.
        known = repeated(torch.isfinite(given.coarse), self.factor)
        departure = torch.where(known, (transformed - means) / self.gain, 0.0)
        return transformed, torch.cat([given.features, unshuffle(departure, self.factor)], dim=1)

    def _change(self, backbone: nn.Module, seen: Tensor) -> Tensor:
        change: Tensor = backbone(seen, self.place.static)
        return change

    def _physical(self, start: Tensor, change: Tensor) -> Tensor:
        return self._each(start + self.gain * change, lambda link, values: link.inverse(values, torch))

    def _loss_of(self, field: Tensor, fine: Tensor, given: Conditions) -> Tensor:
        place, field = self.place, field.to(fine.dtype)
        admissible = place.project(field, given)
        value = self._loss(admissible / self.scale, fine / self.scale, place.weight)
        return value if place.penalty is None else value + place.penalty(field, given)

    def _each(self, fields: Tensor, apply: Callable[[Link, Tensor], Tensor]) -> Tensor:
        return torch.stack([apply(link, fields[:, output]) for output, link in enumerate(self.links)], dim=1)
