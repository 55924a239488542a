"""What a head is: a distribution over fine fields given the coarse ones, which can be trained and sampled.

Whether it takes one network call or forty, the caller cannot tell. What belongs to the domain is in `Place`, what
belongs to a batch in `Conditions`, and where the randomness comes from in `Draws`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from finegrid.backbones.manner import Manner
from finegrid.backbones.windows import Window
from finegrid.heads.draws import Draws


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

    def within(self, window: Window) -> Self:
        """The conditions on a window of the domain."""
        return self._each(window.of)

    def repeated(self, members: int) -> Self:
        """The conditions of several members, one member after the other."""
        return self._each(lambda values: values.repeat(members, *[1] * (values.ndim - 1)))

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
        latitude: of the centres of the fine cells (H, W) in degrees; None where the grid is no
            latitude-longitude one.
        longitude: likewise.
    """

    static: Tensor | None
    weight: Tensor
    project: Projection
    penalty: Projection | None = None
    latitude: Tensor | None = None
    longitude: Tensor | None = None

    def within(self, window: Window, project: Projection, penalty: Projection | None = None) -> Self:
        """A window of the domain, with the constraint there."""
        cut: dict[str, Any] = {name: window.of(each) for name, each in vars(self).items() if isinstance(each, Tensor)}
        return replace(self, project=project, penalty=penalty, **cut)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; the constraint's own tensors are its owner's to move."""
        tensors: dict[str, Any] = {
            name: each.to(device) for name, each in vars(self).items() if isinstance(each, Tensor)
        }
        return replace(self, **tensors)


class Head(nn.Module, ABC):
    """A trainable distribution over fine fields."""

    random: ClassVar[bool] = True
    """Whether its members differ."""
    losses: ClassVar[Mapping[str, Callable[..., Tensor]]] = {}
    """By which it can be trained, by name; empty where the head brings its own."""
    usual_loss: ClassVar[str | Mapping[str, Any]] = ""
    settles_shapes: ClassVar[bool] = False
    """Whether `settle` learns all that is bound to the shape of the domain, so that patches can teach the rest."""
    usual_backbone: ClassVar[Mapping[str, Any]] = {"name": "resnet"}
    """The network that it works best with; heads that see fields on the fine grid need one that has room for them."""

    @abstractmethod
    def loss(self, fine: Tensor, given: Conditions) -> Tensor:
        """One value per sample (batch,), for true fine fields (batch, output, H, W) with NaN where missing.

        In evaluation mode it is the score by which weights are chosen, the same for the same fields.
        """

    @abstractmethod
    def sample(self, given: Conditions, draws: Draws, project: Projection | None = None) -> Tensor:
        """Fine fields in physical units (members, batch, output, H, W).

        Args:
            given: what is known of the batch.
            draws: random numbers of `len(draws) / len(given)` members; a head without randomness returns equal ones.
            project: another constraint than the domain's own, for use inside samplers and always at the end.
        """

    def settle(self, fine: Tensor, given: Conditions) -> None:
        """Learn what only times can teach that the weights have not learnt from; called once, after training."""

    def answering(self, manner: Manner) -> Self:
        """The head, its networks answering in this manner, such as tile by tile."""
        for module in self.modules():
            if isinstance(getattr(module, "manner", None), Manner):
                module.manner = manner  # type: ignore[assignment]
        return self

    def moved(self, place: Place | None) -> Self:
        """The head at another place of the same size, such as another patch of a domain; None leaves it where it is."""
        if place is not None:
            own = next(module.place for module in self.modules() if isinstance(getattr(module, "place", None), Place))
            for module in self.modules():
                if getattr(module, "place", None) is own:
                    module.place = place  # type: ignore[assignment]
        return self

    def placed(self, device: torch.device | str) -> Self:
        """The head and its place on a device."""
        for module in self.modules():
            place = getattr(module, "place", None)
            if isinstance(place, Place):
                module.place = place.to(device)  # type: ignore[assignment]
        # Convolutions are faster where the channels of a cell are neighbours in memory.
        return self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
