"""Mean square error: its best answer is the conditional mean, in squared units of the field."""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.losses.base import averaged


def mse(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean square error of each sample; see `finegrid.losses.base` for shapes."""
    return averaged(torch.square, prediction, truth, weight)
