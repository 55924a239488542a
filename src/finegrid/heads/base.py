"""What a head is: a distribution over fine fields given the coarse ones, which can be trained and sampled.

Whether it takes one network call or forty, the caller cannot tell. What belongs to the domain is in `Place`, what
belongs to a batch in `Conditions`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a head is told about a batch.

    Attributes:
        features: transformed coarse fields and cycles (batch, channel, h, w).
        coarse: coarse values of the predicted fields on blocks in physical units (batch, output, h, w), NaN where
            missing.
        conserved: the values that the constraint refers to, on cells of their own; those on blocks where these are the
            same cells.
        reference: first guess of the fine fields in physical units (batch, output, H, W).
        high: upper limits of single cells, likewise, for constraints that want some.
    """

    features: Tensor
    coarse: Tensor
    conserved: Tensor
    reference: Tensor
    high: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def at(self, indices: Tensor | slice) -> Self:
        """The conditions of some samples."""
        return self._each(lambda values: values[indices])

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        kept: dict[str, Any] = {name: each if each is None else change(each) for name, each in vars(self).items()}
        return type(self)(**kept)


Projection = Callable[[Tensor, Conditions], Tensor]


@dataclass(frozen=True, eq=False)
class Place:
    """A domain as a head sees it.

    Attributes:
        static: fields without time (1, S, H, W), None for none.
        weight: importance of each fine cell (H, W), areas times validity.
        project: the constraint of the domain, `project(fine, given)`.
        penalty: what a soft constraint adds to the loss per sample, `penalty(fine, given)`; None for none.
    """

    static: Tensor | None
    weight: Tensor
    project: Projection
    penalty: Projection | None = None

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; the constraint's own tensors are its owner's to move."""
        static = None if self.static is None else self.static.to(device)
        return replace(self, static=static, weight=self.weight.to(device))


class Head(nn.Module, ABC):
    """A trainable distribution over fine fields."""

    @abstractmethod
    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        """One value per sample (batch,), for true fine fields (batch, output, H, W) with NaN where missing."""

    @abstractmethod
    def sample(
        self, given: Conditions, members: int, generator: torch.Generator, project: Projection | None = None
    ) -> Tensor:
        """Fine fields in physical units (members, batch, output, H, W).

        Args:
            given: what is known of the batch.
            members: number of draws; a head without randomness returns equal ones.
            generator: source of randomness.
            project: another constraint than the domain's own, for use inside samplers and always at the end.
        """
