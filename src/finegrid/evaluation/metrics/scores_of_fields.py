"""Scores of whole fields: do members have cells that belong together as those of the truth do?

The CRPS judges each cell alone. An ensemble with the right distribution in every cell and members that are mere noise
in space gets the same CRPS as one whose members are weather.

    energy       <||x - t||> - <||x - x'||> / 2        ||d||^2 = sum_c a_c d_c^2 / sum_c a_c
    variogram    sum_ab w_ab ((|t_a - t_b|^p - <|x_a - x_b|^p>)^2 - s_ab^2 / M) / sum_ab w_ab        p = 1/2

x and x' are two different members of M, t the truth, a_c the area of cell c. The norm is divided by the root of the
area, so that the energy score is in the units of the variable whatever the domain, and that of one member is its
root-mean-square error. s_ab^2 is the variance over the members of |x_a - x_b|^p, with M - 1 in the denominator:
without it the square would grow by the chance of few members. Both scores are what infinitely many members would get on
average (Ferro 2014, doi:10.1002/qj.2270). The variogram score of one member leaves s_ab out.

All pairs of cells are too many (10 000 cells have fifty million): those that lie 1, 2 or 4 cells apart along a row or a
column are taken, with the weight w_ab = 1 / lag. The areas of the two cells do not enter. The score is blind to what
is added to all cells, such as a bias: it stands beside others.

Distances between members are had from their products, ||x - x'||^2 = ||x||^2 + ||x'||^2 - 2 x.x' about the mean of the
members, so that no field of differences is held for each pair of them. Cells without a truth are left out. Every time
counts the same.

Sources: Gneiting and Raftery 2007, doi:10.1198/016214506000001437; Scheuerer and Hamill 2015,
doi:10.1175/MWR-D-14-00269.1.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights
from finegrid.evaluation.metrics.pointwise import first

LAGS = (1, 2, 4)
"""Cells between the two of a pair in the variogram score."""


def energy_score(block: Block) -> Array:
    """Fair energy score of the field of each time (1, time, 1), in the variable's units; NaN where nothing is known."""
    known = block.known & np.isfinite(block.mean)
    area = np.where(known, block.reference.grid.area, 0.0)
    whole = area.sum(axis=(-2, -1))
    root = np.sqrt(ratio(area, whole[:, None, None]))
    error = np.sqrt((_vectors(block.prediction - block.truth, root) ** 2).sum(axis=-1)).mean(axis=1)
    members = len(block.prediction)
    if members > 1:
        among = _distances(_vectors(block.prediction - block.mean, root)).sum(axis=(-2, -1))
        error = error - among / (2 * members * (members - 1))
    return np.where(whole > 0, error, np.nan)[None, :, None]


def _vectors(fields: Array, root: Array) -> Array:
    """Fields (member, time, y, x) as vectors (time, member, cell) with the roots of the weights in them."""
    weighted = np.where(root > 0, fields, 0.0) * np.nan_to_num(root)
    return np.ascontiguousarray(weighted.swapaxes(0, 1)).reshape(fields.shape[1], len(fields), -1)


def _distances(vectors: Array) -> Array:
    """Distances between all members (time, member, member)."""
    products = vectors @ vectors.swapaxes(-2, -1)
    squares = np.diagonal(products, axis1=-2, axis2=-1)
    return np.asarray(np.sqrt(np.maximum(squares[:, :, None] + squares[:, None] - 2 * products, 0.0)))


def variogram_score(block: Block) -> Array:
    """Variogram score of order 1/2 of each time (1, time, 1), in the variable's units; NaN where no pair is known."""
    sums, weights = np.zeros(len(block.truth)), np.zeros(len(block.truth))
    for lag in LAGS:
        for axis in (-2, -1):
            excess = _excess(block, lag, axis)
            known = np.isfinite(excess)
            sums += np.where(known, excess, 0.0).sum(axis=(-2, -1)) / lag
            weights += known.sum(axis=(-2, -1)) / lag
    return ratio(sums, weights)[None, :, None]


def _excess(block: Block, lag: int, axis: int) -> Array:
    """Squared departure of the variogram of each pair (time, y, x), without what the chance of few members adds."""
    members, truth = (_root_differences(fields, lag, axis) for fields in (block.prediction, block.truth))
    square = (truth - members.mean(axis=0)) ** 2
    count = len(members)
    return np.asarray(square if count == 1 else square - members.var(axis=0, ddof=1) / count)


def _root_differences(fields: Array, lag: int, axis: int) -> Array:
    along = np.moveaxis(fields, axis, -1)
    return np.asarray(np.sqrt(np.abs(along[..., lag:] - along[..., : max(along.shape[-1] - lag, 0)])))


ENERGY = Metric("energy", "energy score", energy_score, first, in_units=True, weights=equal_weights)
VARIOGRAM = Metric("variogram", "variogram score", variogram_score, first, in_units=True, weights=equal_weights)
