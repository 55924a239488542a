"""Mean absolute error: its best answer is the conditional median, in the units of the field."""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.losses.base import averaged


def mae(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean absolute error of each sample; see `finegrid.losses.base` for shapes."""
    return averaged(torch.abs, prediction, truth, weight)
