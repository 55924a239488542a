"""Straight steps, one estimate each:  x' = D + s' / s (x - D)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from finegrid.heads.diffusion.samplers.base import Churn, Course, centred, moved


@dataclass(frozen=True, kw_only=True)
class Euler(Churn):
    """First order."""

    calls: ClassVar[int] = 1
    rho: ClassVar[float] = 7.0

    def __call__(self, course: Course, levels: Tensor) -> Tensor:
        field = levels[0] * course.noise()
        for step, (level, lower) in enumerate(pairwise(levels)):
            field, raised = self.raised(field, level, course, len(levels) - 1)
            estimate, field = course.selected(course.estimate(field, raised), field)
            field = moved(centred(field, estimate, first=not step), estimate, raised, lower)
        return field
