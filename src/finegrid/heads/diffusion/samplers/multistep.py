"""Steps of the second order from one estimate each, by remembering the last one (DPM-Solver++ 2M).

    h_i = log(s_i / s_i+1),   D* = D_i + h_i / (2 h_i-1) (D_i - D_i-1),   x_i+1 = D* + s_i+1 / s_i (x_i - D*)

The first step and the last one, to level 0, are straight ones. It is made for even steps of log s.

Source: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022, algorithm 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from finegrid.heads.diffusion.samplers.base import Course, centred, moved


@dataclass(frozen=True)
class Multistep:
    """Second order, by one estimate."""

    calls: ClassVar[int] = 1
    rho: ClassVar[float] = math.inf

    @property
    def stirs(self) -> bool:
        """It adds no noise: a remembered estimate would not belong to the field."""
        return False

    def __call__(self, course: Course, levels: Tensor) -> Tensor:
        field = last = levels[0] * course.noise()
        before = levels[0]
        for step, (level, lower) in enumerate(pairwise(levels)):
            estimate, field, last = course.selected(course.estimate(field, level), field, last)
            field, ahead = centred(field, estimate, first=not step), estimate
            if step and lower > 0:
                ahead = estimate + (level / lower).log() / (before / level).log() / 2 * (estimate - last)
            field, last, before = moved(field, ahead, level, lower), estimate, level
        return field
