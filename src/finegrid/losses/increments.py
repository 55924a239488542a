"""CRPS of the differences between neighbours: detail has to be as strong as in the truth, and where it is.

    loss = sum_d <CRPS of x(i + d) - x(i)> / (number of d),      d one cell along y, and one along x

The CRPS of cells leaves open how noise is spread over scales. Means over blocks (`scales`) see too much or too little
of it at large scales, differences at small ones: members that are noisier than the truth from cell to cell are too
uncertain about them. It says nothing about the level of the field; use it beside another, `{name: sum, terms:
{multi-scale-crps: 1, increment-crps: 1}}`.

Source: a proper score of a linear function of the field, as the variogram score of Scheuerer and Hamill, Monthly
Weather Review 143, 2015, doi:10.1175/MWR-D-14-00269.1, is of the moments of such differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.losses.base import departures, shares, weighted_mean
from finegrid.losses.crps import pointwise_crps


def increment_crps(prediction: Tensor, truth: Tensor, weight: Tensor | None = None, *, fairness: float = 1.0) -> Tensor:
    """Weighted mean of the CRPS of differences between neighbours; see `finegrid.losses.base` for shapes.

    Args:
        fairness: as in `finegrid.losses.crps`.
    """
    departure = departures(prediction, truth)
    share = shares(torch.isfinite(truth), prediction, weight)
    along = [(departure.diff(dim=dim), _of_both(share, dim)) for dim in (-2, -1)]
    losses = [weighted_mean(pointwise_crps(step, fairness=fairness), both) for step, both in along]
    return torch.stack(losses).mean(0)


def _of_both(share: Tensor, dim: int) -> Tensor:
    """How much a pair of neighbours counts: as the lesser of the two, and not at all where one is missing."""
    count = share.shape[dim] - 1
    return torch.minimum(share.narrow(dim, 0, count), share.narrow(dim, 1, count))
