"""Walks along a velocity from noise (t = 0) to fields (t = 1), by estimates of where they end.

    v = (D - x) / (1 - t),      Euler: x' = x + d v,      Heun: x' = x + d (v + v') / 2 with v' at the end of the step

The last step goes to the estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from finegrid.heads.diffusion.samplers import Course

Solver = Callable[[Course, Tensor], Tensor]
"""From noise to fields (n, output, H, W), at rising times (steps + 1,) from 0 to 1."""


def euler(course: Course, times: Tensor) -> Tensor:
    """Straight steps, one estimate each."""
    field = course.noise()
    for time, later in pairwise(times):
        estimate, field = course.selected(course.estimate(field, time), field)
        field = torch.lerp(field, estimate, (later - time) / (1 - time))
    return field


def heun(course: Course, times: Tensor) -> Tensor:
    """Steps of the second order, two estimates each."""
    field = course.noise()
    for time, later in pairwise(times):
        estimate, field = course.selected(course.estimate(field, time), field)
        ahead = torch.lerp(field, estimate, (later - time) / (1 - time))
        if later < 1:
            velocity = (estimate - field) / (1 - time) + (course.estimate(ahead, later) - ahead) / (1 - later)
            ahead = field + (later - time) / 2 * velocity
        field = ahead
    return field


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}
