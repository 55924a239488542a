"""Continuous ranked probability score of an ensemble: the absolute error of members less half their distance.

    loss = <|x_i - t|>_i - <|x_i - x_j|>_(i != j) / 2

This is the fair estimator (Ferro 2014, doi:10.1002/qj.2270): its expectation does not depend on the number of members
M and is least where members are drawn from the distribution of the truth. With two members it costs three
differences; with more, members are sorted:

    <|x_i - x_j|>_(i != j) / 2 = 1 / (M (M - 1)) sum_i (2 i - M - 1) x_(i)

A fair score of M members does not see where M - 1 of them agree with the truth and the last one is anywhere.
`fairness` below one takes part of the plain estimator, which divides by M^2 and sees it (Lang et al. 2024, AIFS-CRPS:
0.95). One member has no second one: the loss is its absolute error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.losses.base import departures, shares, weighted_mean


def crps(prediction: Tensor, truth: Tensor, weight: Tensor | None = None, *, fairness: float = 1.0) -> Tensor:
    """Weighted mean of the CRPS of all cells, of each sample; see `finegrid.losses.base` for shapes.

    Args:
        fairness: part of the fair estimator; the rest is the plain one.
    """
    known = torch.isfinite(truth)
    values = pointwise_crps(departures(prediction, truth), fairness=fairness)
    return weighted_mean(values, shares(known, prediction, weight))


def pointwise_crps(departure: Tensor, *, fairness: float = 1.0) -> Tensor:
    """CRPS (...) of members (member, ...) of which the truth has been taken away: the score does not see a shift."""
    members = len(departure)
    error = departure.abs().mean(0)
    if members == 1:
        return error
    return error - (1 - (1 - fairness) / members) * half_distance(departure)


def half_distance(fields: Tensor) -> Tensor:
    """Half the mean absolute difference of two different members (...)."""
    members = len(fields)
    if members == 2:
        return (fields[0] - fields[1]).abs() / 2
    rank = 2.0 * torch.arange(1, members + 1, dtype=fields.dtype, device=fields.device) - members - 1
    ranked = fields.sort(dim=0).values
    weighted: Tensor = torch.tensordot(rank, ranked, dims=1)
    return weighted / (members * (members - 1))
