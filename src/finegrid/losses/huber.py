"""Huber loss: square for errors d below delta, linear above, so that a few extremes do not rule.

    l(d) = d^2 / 2  where |d| <= delta,  else  delta * (|d| - delta / 2)

Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964.
"""

from __future__ import annotations

from torch import Tensor

from finegrid.losses.base import averaged


def huber(prediction: Tensor, truth: Tensor, weight: Tensor | None = None, *, delta: float = 1.0) -> Tensor:
    """Weighted Huber loss of each sample; see `finegrid.losses.base` for shapes.

    Args:
        delta: error where the loss turns linear, in the units of the fields; 1 suits fields of unit variance.
    """

    def pointwise(difference: Tensor) -> Tensor:
        size = difference.abs()
        near = size.clamp(max=delta)
        return near * (size - near / 2)

    return averaged(pointwise, prediction, truth, weight)
