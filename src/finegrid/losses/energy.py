"""Energy score: the CRPS of whole fields, which sees whether cells and variables belong together.

    loss = <||x_i - t||>_i - <||x_i - x_j||>_(i != j) / 2,      ||d||^2 = sum_c w_c d_c^2 / sum_c w_c

over all channels and cells c of a sample, or over those of a patch, averaged over patches. It is fair as the CRPS is.
The larger the field, the less the score sees of its dependence (the norm is nearly the same for all members): patches
of some cells see it better than whole fields.

Source: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", Journal of the American
Statistical Association 102, 2007, doi:10.1198/016214506000001437.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from finegrid.conventions import InputError
from finegrid.losses.base import departures, shares
from finegrid.losses.pairs import member_differences, root


def energy(prediction: Tensor, truth: Tensor, weight: Tensor | None = None, *, patch: int | None = None) -> Tensor:
    """Weighted energy score of each sample; see `finegrid.losses.base` for shapes.

    Args:
        patch: side of the patches in cells; None takes the whole field as one.

    Raises:
        InputError: on a patch below 1.
    """
    if patch is not None and patch < 1:
        raise InputError(f"got patch: {patch} for the loss energy; expected 1 or more cells; use 8, or leave it out")
    departure = departures(prediction, truth)
    share = shares(torch.isfinite(truth), departure, weight)
    total = _summed(share, patch)
    error = _norm(departure, share, total, patch).mean(0)
    members = len(departure)
    if members > 1:
        distances = sum(_norm(each, share, total, patch).sum(0) for each in member_differences(departure))
        error = error - distances / (members * (members - 1))
    counted = total.sum((-2, -1))
    return (error * total).sum((-2, -1)) / torch.where(counted > 0, counted, 1.0)


def _norm(difference: Tensor, share: Tensor, total: Tensor, patch: int | None) -> Tensor:
    """Root of the weighted mean square (..., batch, patch row, patch column)."""
    return root(_summed(difference.square() * share, patch) / torch.where(total > 0, total, 1.0))


def _summed(values: Tensor, patch: int | None) -> Tensor:
    over_channels = values.sum(-3)
    if patch is None:
        return over_channels.sum((-2, -1), keepdim=True)
    return block_sums(over_channels, patch)


def block_sums(values: Tensor, size: int, before: int = 0) -> Tensor:
    """Sums over blocks of `size` x `size` cells (..., rows, columns); those at the ends may be smaller.

    Args:
        values: fields (..., H, W).
        size: cells along a side.
        before: cells by which the first block begins before the field, at most half a block.
    """
    stacked = values.reshape(-1, 1, *values.shape[-2:])
    # A mean over the cells of a window, of which those beyond the field are zero, with a divisor of one.
    sums = functional.avg_pool2d(stacked, size, stride=size, padding=before, ceil_mode=True, divisor_override=1)
    return sums.reshape(*values.shape[:-2], *sums.shape[-2:])
