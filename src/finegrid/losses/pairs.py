"""Members two by two, and roots and powers whose slope is finite at zero."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Below this the power is a straight line; fields that losses see are of order one.
_LEAST = 1e-6


def member_differences(fields: Tensor) -> Iterator[Tensor]:
    """Differences of all pairs of two different members, (some pairs, ...) at a time."""
    for step in range(1, len(fields)):
        yield fields[step:] - fields[:-step]


def root(values: Tensor) -> Tensor:
    """Square root with a slope of 0 where the value is 0."""
    nothing = values <= 0
    return torch.where(nothing, 0.0, torch.where(nothing, 1.0, values).sqrt())


def power_of_size(values: Tensor, power: float) -> Tensor:
    """|v|^power, straight below a millionth, so that the slope at equal values is 0 and nowhere infinite."""
    size = values.abs()
    return torch.where(size > _LEAST, size.clamp(min=_LEAST) ** power, size * _LEAST ** (power - 1))
