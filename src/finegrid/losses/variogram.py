"""Variogram score: do two cells differ in the members as much as they do in the truth?

    loss = sum_ab w_ab ((|t_a - t_b|^p - <|x_ia - x_ib|^p>_i)^2 - s_ab^2 / M) / sum_ab w_ab

over pairs of cells a, b of a channel that are at most `distance` cells apart, with w_ab the root of the product of
their weights over their distance. s_ab^2 is the variance over the members of |x_ia - x_ib|^p: without it the square
would grow by the chance of few members, and members would be rewarded for agreeing. The score is blind to a shift of
all cells: use it beside another (`sum`).

Source: Scheuerer and Hamill, "Variogram-Based Proper Scoring Rules for Probabilistic Forecasts of Multivariate
Quantities", Monthly Weather Review 143, 2015, doi:10.1175/MWR-D-14-00269.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.losses.base import departures, shares
from finegrid.losses.pairs import power_of_size


def variogram(
    prediction: Tensor, truth: Tensor, weight: Tensor | None = None, *, power: float = 0.5, distance: float = 2.0
) -> Tensor:
    """Variogram score of each sample; see `finegrid.losses.base` for shapes.

    Args:
        power: p; 0.5 lets a few large differences not rule.
        distance: farthest pairs of cells, in cells.

    Raises:
        InputError: on a distance below 1 cell, or a power that is not positive.
    """
    if distance < 1 or power <= 0:
        raise InputError(
            f"got distance: {distance:g}, power: {power:g} for the loss variogram; expected a distance of at least 1 "
            "cell and a power above 0; use distance: 2, power: 0.5"
        )
    known = torch.isfinite(truth)
    filled = torch.where(known, truth, 0.0)
    members = departures(prediction, truth) + filled
    share = shares(known, members, weight)
    score, total = share.new_zeros(len(truth)), share.new_zeros(len(truth))
    for rows, columns in _offsets(distance, (truth.shape[-2], truth.shape[-1])):
        product = _product(share, rows, columns).sqrt() / math.hypot(rows, columns)
        excess = _excess(members, filled, rows, columns, power)
        score, total = score + (product * excess).sum((-3, -2, -1)), total + product.sum((-3, -2, -1))
    return score / torch.where(total > 0, total, 1.0)


def _excess(members: Tensor, truth: Tensor, rows: int, columns: int, power: float) -> Tensor:
    """Square of the departure of the mean variogram, without what the chance of few members adds."""
    variograms = power_of_size(_difference(members, rows, columns), power)
    square = (power_of_size(_difference(truth, rows, columns), power) - variograms.mean(0)).square()
    count = len(members)
    return square if count == 1 else square - variograms.var(0) / count


def _offsets(distance: float, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Steps from a cell to its neighbours, each pair once."""
    reach = int(distance)
    every = [(row, column) for row in range(reach + 1) for column in range(-reach, reach + 1)]
    return [
        (row, column)
        for row, column in every
        if (row, column) > (0, 0) and math.hypot(row, column) <= distance and row < shape[0] and abs(column) < shape[1]
    ]


def _pair(fields: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The fields, and the fields that many rows and columns on, where both exist."""
    height, width = fields.shape[-2:]
    west, east = max(0, -columns), max(0, columns)
    here = fields[..., : height - rows, west : width - east]
    return here, fields[..., rows:, east : width - west]


def _difference(fields: Tensor, rows: int, columns: int) -> Tensor:
    here, there = _pair(fields, rows, columns)
    return there - here


def _product(fields: Tensor, rows: int, columns: int) -> Tensor:
    here, there = _pair(fields, rows, columns)
    return there * here
