"""A model that a person can read, from the places that matter to one that nobody can.

The cells with the largest attributions form connected regions. Their means are predictors of the event in a logistic
regression,

    chance(t) = 1 / (1 + exp(-(b + sum_r w_r mean of x(t) over region r)))

If it is nearly as good as the network, these regions are what the network found; if it is not, the network uses more
than where things are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from finegrid.benchmark.attribution.comparing import SHARE, Array, Attributions, sizes, stacked, top
from finegrid.conventions import InputError

# Cells that touch by sides or corners are one region, within one variable.
_TOUCHING = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))]).astype(int)


@dataclass(frozen=True, eq=False)
class SparseModel:
    """A logistic regression on means over regions.

    Attributes:
        regions: number of the region of each cell (variable, y, x), from 1 for the one that matters most; 0 for none.
        weights: change of the log odds with the mean of each region (region,).
        intercept: log odds where all means are 0.
    """

    regions: NDArray[np.int64]
    weights: Array
    intercept: float

    def chance(self, fields: Attributions) -> Array:
        """Chance of the event (time,) from fields (time, variable, y, x), or a Dataset of the same variables."""
        return np.asarray(expit(self.intercept + region_means(stacked(fields), self.regions) @ self.weights))


def sparse_model(
    attributions: Attributions,
    fields: Attributions,
    event: Tensor | NDArray[np.float64],
    *,
    share: float = SHARE,
    least: int = 2,
    most: int = 5,
) -> SparseModel:
    """Regions of the largest attributions, and a logistic regression on their means.

    Args:
        attributions: (sample, variable, y, x), or what `attribute` gave.
        fields: to learn from (time, variable, y, x), or a Dataset on the same cells.
        event: 0 or 1 (time,).
        share: part of the cells that are looked at.
        least: cells of a region; smaller ones are left out.
        most: number of regions.

    Raises:
        InputError: when cells or times do not fit together, there is no region, or the event always or never happens.
    """
    size, values = sizes(attributions), stacked(fields)
    happened = np.asarray(event.cpu().numpy() if isinstance(event, Tensor) else event).astype(int)
    if values.shape[1:] != size.shape or len(values) != len(happened):
        raise InputError(
            f"got attributions {size.shape}, fields {values.shape} and {len(happened)} events; expected fields (time, "
            "variable, y, x) on the cells of the attributions and one event a time"
        )
    if len(np.unique(happened)) < 2:
        raise InputError("got an event that always or never happens; expected times with and without it")
    regions = regions_of(size, share=share, least=least, most=most)
    means = region_means(values, regions)
    scale = np.where((spread := means.std(axis=0)) > 0, spread, 1.0)
    learnt = LogisticRegression().fit(means / scale, happened)
    return SparseModel(regions, learnt.coef_[0] / scale, float(learnt.intercept_[0]))


def regions_of(size: Array, *, share: float, least: int, most: int) -> NDArray[np.int64]:
    """Connected regions (variable, y, x) of the top cells by number, the one with the largest sum first; 0 for none.

    Raises:
        InputError: when all are smaller than the least.
    """
    labels, count = ndimage.label(top(size, share), structure=_TOUCHING)
    numbers = np.arange(1, count + 1)
    cells = ndimage.sum_labels(np.ones_like(size), labels, numbers)
    total = ndimage.sum_labels(size, labels, numbers)
    ranked = [number for number in numbers[np.argsort(-total)] if cells[number - 1] >= least][:most]
    if not ranked:
        raise InputError(
            f"got no connected region of {least} cells among the top {share:.0%}; expected at least one; raise share, "
            "or lower least"
        )
    place = np.zeros(count + 1, dtype=np.int64)
    place[ranked] = np.arange(1, len(ranked) + 1)
    return np.asarray(place[labels])


def region_means(values: Array, regions: NDArray[np.int64]) -> Array:
    """Means (time, region) of fields (time, variable, y, x); missing cells do not count."""
    numbers = np.arange(1, regions.max() + 1)
    inside = (regions.ravel()[:, None] == numbers).astype(np.float64)
    flat = values.reshape(len(values), -1)
    known = np.isfinite(flat)
    count = known.astype(np.float64) @ inside
    return np.asarray(np.nan_to_num(flat) @ inside / np.maximum(count, 1.0))
