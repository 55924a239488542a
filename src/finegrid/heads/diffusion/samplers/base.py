"""What a sampler is: from pure noise down the levels to fields, by estimates of the field without its noise.

With D the estimate at level s, a field x moves along  dx/ds = (x - D) / s  from the highest level to 0. The noise that
was there at the start then decides the field; no fresh noise is needed, and any base noise is right.

Churn adds some on the way: before a step the level is raised by a share and the noise that belongs to the rise is
added, which forgets errors of earlier steps at the cost of more steps. It presumes normal noise.

Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from finegrid.conventions import InputError

_MOST = 2**0.5 - 1


class Course(Protocol):
    """What a sampler may ask for; `walk.Walk` has the answers."""

    def noise(self) -> Tensor:
        """Noise of unit variance for each field on its way."""

    def estimate(self, field: Tensor, level: Tensor) -> Tensor:
        """Fields without noise, of fields at a level ()."""

    def selected(self, estimate: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """After a step: the estimate and others, of those fields that go on."""


class Sampler(Protocol):
    """From noise to fields."""

    calls: ClassVar[int]
    """Estimates in a step."""
    rho: ClassVar[float]
    """Spacing of the levels that suits it; see `levels`."""

    def __call__(self, course: Course, levels: Tensor) -> Tensor:
        """Fields (n, output, H, W), down falling levels (steps + 1,) of which the last is 0."""

    @property
    def stirs(self) -> bool:
        """Whether it adds noise on its way."""


@dataclass(frozen=True, kw_only=True)
class Churn:
    """Fresh noise on the way; none by default.

    Attributes:
        churn: the sum over the steps of what each raises its level by, as a share; 40 is much.
        churn_from: lowest level at which noise is added.
        churn_to: highest.
        churn_noise: deviation of that noise; a little above 1 makes up for detail that a network loses.
    """

    churn: float = 0.0
    churn_from: float = 0.05
    churn_to: float = 50.0
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        if self.churn < 0 or self.churn_from > self.churn_to or self.churn_noise <= 0:
            raise InputError(
                f"got churn: {self.churn} from {self.churn_from} to {self.churn_to}, churn_noise: {self.churn_noise}; "
                "expected a churn of at least 0, rising levels and a deviation above 0; change head.sampler"
            )

    @property
    def stirs(self) -> bool:
        """Whether it adds noise on its way."""
        return self.churn > 0

    def raised(self, field: Tensor, level: Tensor, course: Course, steps: int) -> tuple[Tensor, Tensor]:
        """Field and level after the noise was added."""
        if not self.stirs or not self.churn_from <= float(level) <= self.churn_to:
            return field, level
        higher = level * (1 + min(self.churn / steps, _MOST))
        rise = (higher.square() - level.square()).sqrt() * self.churn_noise
        return field + rise * course.noise(), higher


def centred(field: Tensor, estimate: Tensor, *, first: bool) -> Tensor:
    """The field; pure noise, at the first step, around the first estimate.

    A field at the highest level is noise around the truth, not around 0, and the estimate is the best guess of it.
    """
    return field + estimate if first else field


def moved(field: Tensor, estimate: Tensor, level: Tensor, lower: Tensor) -> Tensor:
    """The field at a lower level, straight towards the estimate; at 0 the estimate itself."""
    return torch.lerp(estimate, field, lower / level)
