"""The space in which a head works: departures from a first guess, of order one whatever the variable.

    y = T^-1( start + unit * r ),      start = T(reference),   unit = gain

T is the transform of the variable, and `gain` the deviation of the first guess's error in transformed units. A head
that has a mean network of its own moves the start there, and measures in units of what is left (`Seen.about`).
Constraints act on y, in physical units; for samplers that work with r, `corrected` is the way there and back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegrid.backbones import Backbone
from finegrid.backbones.blocks import repeated
from finegrid.backbones.manner import Manner
from finegrid.heads.base import Conditions, Place, Projection


class Link(Protocol):
    """An invertible map of one variable on tensors, as `data.transforms` provides it."""

    def forward(self, values: Any, xp: Any = ..., /) -> Any:
        """Physical to transformed."""

    def inverse(self, values: Any, xp: Any = ..., /) -> Any:
        """Transformed to physical."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the networks of a head see of a batch, and where their answers begin.

    Attributes:
        coarse: inputs on the coarse grid (batch, channel, h, w).
        fine: inputs on the fine grid (batch, channel, H, W); None for none.
        static: fields without time (1, S, H, W); None for none.
        start: transformed first guess (batch, output, H, W).
        unit: what a residual of one is in transformed units (output, 1, 1).
        given: what the batch was made from.
        manner: how networks answer.
    """

    coarse: Tensor
    fine: Tensor | None
    static: Tensor | None
    start: Tensor
    unit: Tensor
    given: Conditions
    manner: Manner = field(default_factory=Manner)

    def __len__(self) -> int:
        return len(self.coarse)

    def repeated(self, members: int) -> Self:
        """The same for several members, one member after the other."""
        if members == 1:
            return self
        fine = None if self.fine is None else self.fine.repeat(members, 1, 1, 1)
        coarse, start = (each.repeat(members, 1, 1, 1) for each in (self.coarse, self.start))
        return replace(self, coarse=coarse, fine=fine, start=start, given=self.given.repeated(members))

    def about(self, centre: Tensor, spread: Tensor) -> Self:
        """The same about another centre (batch, output, H, W), in residual units, which networks see as well.

        Args:
            centre: where residuals begin.
            spread: size of what is left, (output, 1, 1), in residual units.
        """
        fine = centre if self.fine is None else torch.cat([self.fine, centre], dim=1)
        return replace(self, fine=fine, start=self.start + self.unit * centre, unit=self.unit * spread)

    def through(self, network: nn.Module, *more: Tensor, condition: Tensor | None = None) -> Tensor:
        """The answer of a network that sees the batch and further fields on the fine grid."""
        fields = [each for each in (self.fine, *more) if each is not None]
        joined = torch.cat(fields, dim=1) if fields else None
        return self.manner.answer(network, self.coarse, self.static, joined, condition)


class Space(nn.Module):
    """Departures from the first guess.

    Args:
        links: transform of each output.
        gain: deviation of the first guess's error in transformed units (output,).
        scale: deviation of the first guess's error in physical units (output,), by which losses are measured.
        factor: fine cells in a coarse cell along y and x.
        place: static fields, weights and constraint of the domain.
        sees_reference: whether the first guess is an input.
    """

    gain: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        links: Sequence[Link],
        gain: Tensor,
        scale: Tensor,
        factor: tuple[int, int],
        place: Place,
        sees_reference: bool = True,
    ) -> None:
        super().__init__()
        self.links, self.factor, self.sees_reference = tuple(links), factor, sees_reference
        self.place = place
        self.manner = Manner()
        self.register_buffer("gain", gain.float().reshape(-1, 1, 1), persistent=False)
        self.register_buffer("scale", scale.float().reshape(-1, 1, 1), persistent=False)

    @property
    def outputs(self) -> int:
        """Number of predicted fields."""
        return len(self.links)

    def see(self, given: Conditions) -> Seen:
        """What networks see: the features, and departures of the first guess from its block means."""
        start = self._each(given.reference, lambda link, values: link.forward(values, torch))
        departure = self._departure(start, given) if self.sees_reference else None
        return Seen(given.features, departure, self.place.static, start, self.gain, given, self.manner)

    def residual(self, fine: Tensor, seen: Seen) -> Tensor:
        """Physical fields as residuals (batch, output, H, W); 0 where they are missing."""
        known = torch.isfinite(fine)
        filled = torch.where(known, fine, seen.given.reference.to(fine.dtype))
        transformed = self._each(filled, lambda link, values: link.forward(values, torch))
        return torch.where(known, (transformed - seen.start) / seen.unit, 0.0)

    def physical(self, residual: Tensor, seen: Seen) -> Tensor:
        """Residuals as physical fields, before the constraint."""
        return self._each(seen.start + seen.unit * residual, lambda link, values: link.inverse(values, torch))

    def admissible(self, residual: Tensor, seen: Seen, project: Projection | None = None) -> Tensor:
        """Residuals as physical fields that obey the constraint."""
        field = self.physical(residual, seen).to(seen.given.reference.dtype)
        return (project or self.place.project)(field, seen.given)

    def corrected(self, residual: Tensor, seen: Seen, project: Projection | None = None) -> Tensor:
        """The residual of the admissible field."""
        return self.residual(self.admissible(residual, seen, project), seen)

    def weight_of(self, fine: Tensor) -> Tensor:
        """Importance of each value of true fields (batch, output, H, W), 0 where they are missing."""
        return torch.where(torch.isfinite(fine), self.place.weight, 0.0)

    def _departure(self, start: Tensor, given: Conditions) -> Tensor:
        means = repeated(functional.avg_pool2d(start, self.factor), self.factor)
        # A first guess without a coarse value is no guess: its neighbours must not see it.
        known = repeated(torch.isfinite(given.coarse), self.factor)
        return torch.where(known, (start - means) / self.gain, 0.0)

    def _each(self, fields: Tensor, apply: Callable[[Link, Tensor], Tensor]) -> Tensor:
        return torch.stack([apply(link, fields[:, output]) for output, link in enumerate(self.links)], dim=1)


@dataclass(frozen=True, eq=False)
class Problem:
    """What a head is built for.

    Attributes:
        space: where its answers live.
        build: makes the backbone of the recipe: `build(outputs=..., fine=..., condition=..., **overrides)`.
        fine: inputs on the fine grid that `space.see` gives.
        variables: names of the predicted fields.
        inputs: number of fields on the coarse grid that networks see.
    """

    space: Space
    build: Callable[..., Backbone]
    fine: int
    variables: tuple[str, ...] = ()
    inputs: int = 0

    def network(self, *, outputs: int | None = None, fine: int = 0, condition: int = 0, **overrides: Any) -> nn.Module:
        """An untrained network.

        Args:
            outputs: output fields; by default one for each predicted field.
            fine: inputs on the fine grid besides those of `Seen.fine`.
            condition: length of the condition.
            **overrides: of what the backbone is told about the domain: factor, shape, inputs, static, padding.
        """
        count = self.space.outputs if outputs is None else outputs
        made = self.build(outputs=count, fine=self.fine + fine, condition=condition, **overrides)
        if not isinstance(made, nn.Module):
            raise TypeError(f"{type(made).__name__} is no network that can be trained")
        return made

    def about(self, mean: bool) -> Self:
        """The problem of what a mean network leaves, which is an input as well; the same one without."""
        return replace(self, fine=self.fine + self.space.outputs) if mean else self
