"""How far the values of a field are from those of another one, wherever they lie: the Wasserstein distance.

    W1 = mean over cells of | sort(x) - sort(y) |

A square error asks an estimate to be smooth, and the values of its members to be too moderate; this asks for the right
values without saying where. Missing cells get the same value in both fields, which leaves the distance as it is.

Source: Liu et al., "WassDiff: Wasserstein-regularised diffusion for precipitation downscaling", 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wasserstein(estimate: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Distance between the values of each field (batch, output), in the units of the fields.

    Args:
        estimate: fields (batch, output, H, W).
        truth: likewise; finite also where it is missing.
        known: where it is not.
    """
    first, second = (torch.where(known, each, 0.0).flatten(2).sort(dim=2).values for each in (estimate, truth))
    return (first - second).abs().sum(2) / known.flatten(2).sum(2).clamp(min=1)
