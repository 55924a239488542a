"""Adjusted mean square error: amplitude and coherence by scale, without the reward for blurring.

    loss = 1 / sum(w) sum_k (sqrt(X_k) - sqrt(Y_k))^2 + 2 max(X_k, Y_k) (1 - C_k),      C_k = <x_k, y_k> / sqrt(X_k Y_k)

with x_k and y_k the coefficients of prediction and truth in ring k of the cosine transform (`cosine`), X_k and Y_k
their sums of squares. With sqrt(X_k Y_k) instead of max(X_k, Y_k) this is the mean square error, which a prediction
lowers by losing amplitude where it is not coherent with the truth; here that does not pay. It has no parameter to
choose, and is meant to go on with where training by the mean square error ended.

Weights enter as sqrt(w) times the fields, so that rings of equal power give the weighted mean square error. Where the
truth is missing (or a cell has no weight), prediction and truth both have the prediction's value, without gradient:
they do not differ there, and the holes have no edges that would look like detail. The truth's mean is taken from
both, and ring 0, the error of the mean, is counted as in the mean square error.

`epsilon`, part of the truth's power, keeps the slope of sqrt(X_k) finite. 1 - C_k is computed as half the squared
distance of the two normalised vectors, which is exactly 0 at the truth.

Source: Subich et al., "Fixing the Double Penalty in Data-Driven Weather Forecasting Through a Modified Spherical
Harmonic Loss Function", 2025, arXiv:2501.19374.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.losses.base import shares
from finegrid.losses.cosine import cosine_transform, ring_sums, rings_of

# Power of a field without variation; fields that losses see are of order one.
_NOTHING = 1e-12


def amse(prediction: Tensor, truth: Tensor, weight: Tensor | None = None, *, epsilon: float = 1e-4) -> Tensor:
    """Adjusted mean square error of each sample; see `finegrid.losses.base` for shapes.

    Args:
        epsilon: part of the truth's power in a ring that is added to both powers.
    """
    fields, total = comparable(prediction, truth, weight)
    mine, true = (cosine_transform(each) for each in fields)
    rings = rings_of((truth.shape[-2], truth.shape[-1])).to(mine.device)
    power, true_power = ring_sums(mine.square(), rings), ring_sums(true.square(), rings)
    least = epsilon * true_power + _NOTHING
    size, true_size = (power + least).sqrt(), (true_power + least).sqrt()
    apart = ring_sums((mine / _spread(size, rings) - true / _spread(true_size, rings)).square(), rings)
    apart = apart + least * (1 / size - 1 / true_size).square()
    adjusted = (size - true_size).square() + torch.maximum(size, true_size).square() * apart
    loss = torch.cat([(mine - true)[..., 0, :1].square(), adjusted[..., 1:]], dim=-1)
    return loss.sum((-2, -1)) / torch.where(total > 0, total, 1.0)


def comparable(prediction: Tensor, truth: Tensor, weight: Tensor | None) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Complete fields of prediction and truth whose squares are weighted, and the sum of the weights of each sample.

    Both are without the truth's mean. Cells that do not count are equal in both.
    """
    share = shares(torch.isfinite(truth), prediction, weight)
    counted = share > 0
    filling = torch.where(torch.isfinite(prediction), prediction, 0.0).detach()
    number = counted.sum((-2, -1), keepdim=True).clamp(min=1)
    middle = torch.where(counted, truth, 0.0).sum((-2, -1), keepdim=True) / number
    usual = share.sum((-2, -1), keepdim=True) / number
    factor = torch.where(counted, share, usual).sqrt()
    mine, true = (torch.where(counted, each, filling) - middle for each in (prediction, truth))
    return (mine * factor, true * factor), share.sum((-3, -2, -1))


def _spread(of_rings: Tensor, rings: Tensor) -> Tensor:
    """The value of its ring for each wavenumber."""
    return of_rings[..., rings]
