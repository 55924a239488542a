"""Steps of the second order: the slope is the mean of those at both ends of a step, two estimates each.

    d = (x - D(x; s)) / s,   x1 = x + (s' - s) d,   d' = (x1 - D(x1; s')) / s',   x' = x + (s' - s) (d + d') / 2

The last step, to level 0, is a straight one.

Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, algorithms 1
and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from finegrid.heads.diffusion.samplers.base import Churn, Course, centred, moved


@dataclass(frozen=True, kw_only=True)
class Heun(Churn):
    """Second order, by two estimates."""

    calls: ClassVar[int] = 2
    rho: ClassVar[float] = 7.0

    def __call__(self, course: Course, levels: Tensor) -> Tensor:
        field = levels[0] * course.noise()
        for step, (level, lower) in enumerate(pairwise(levels)):
            field, raised = self.raised(field, level, course, len(levels) - 1)
            estimate, field = course.selected(course.estimate(field, raised), field)
            field = centred(field, estimate, first=not step)
            ahead = moved(field, estimate, raised, lower)
            if lower > 0:
                slope = (field - estimate) / raised + (ahead - course.estimate(ahead, lower)) / lower
                ahead = field + (lower - raised) / 2 * slope
            field = ahead
        return field
