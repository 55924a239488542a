"""The learning rate as a part of its largest value, from the first step to the last.

cosine     linear warm-up, then half a cosine down to zero
constant   linear warm-up, then constant, then linear to zero over the last fifth
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int, float], float]

_COOLDOWN = 0.2


def cosine(step: int, steps: int, warmup: float) -> float:
    """Warm-up, then half a cosine."""
    start = _warmup_steps(steps, warmup)
    if step < start:
        return (step + 1) / start
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(steps - start, 1)))


def constant(step: int, steps: int, warmup: float) -> float:
    """Warm-up, constant, cool-down."""
    start, end = _warmup_steps(steps, warmup), max(int(_COOLDOWN * steps), 1)
    if step < start:
        return (step + 1) / start
    return min(1.0, (steps - step) / end)


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "constant": constant}


def _warmup_steps(steps: int, warmup: float) -> int:
    return max(int(warmup * steps), 1)
