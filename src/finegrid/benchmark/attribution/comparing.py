"""Whether two attributions show the same places: of two models, of one before and after fine-tuning, and of the truth.

size          m_j = mean over times of |a_j|
correlation   of m and m' over all cells of all variables (Pearson)
top           the k cells with the largest m, k = share of all cells
overlap       |A and B| / |A or B| of two sets of cells (intersection over union)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.benchmark.attribution.aggregate import LAG
from finegrid.conventions import InputError, harmonise

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Attributions = xr.Dataset | Tensor | NDArray[Any]
"""What `attribute` gives: a Dataset, or (sample, ...)."""

SHARE = 0.05
"""Part of the cells that are the top."""


@dataclass(frozen=True)
class Agreement:
    """How alike two attributions are.

    Attributes:
        correlation: of their sizes over the cells.
        overlap: intersection over union of their top cells.
    """

    correlation: float
    overlap: float


def agreement(first: Attributions, second: Attributions, *, share: float = SHARE) -> Agreement:
    """How alike two attributions are.

    Args:
        first: attributions of some samples or times; these need not be the same in both.
        second: likewise, on the same cells.
        share: part of the cells that are the top.

    Raises:
        InputError: when they are on other cells, or the share is none.
    """
    one, other = sizes(first), sizes(second)
    if one.shape != other.shape:
        raise InputError(
            f"got attributions on {one.shape} and {other.shape} cells; expected the same variables and cells in both; "
            "attribute both models to the same coarse fields"
        )
    varies = one.std() > 0 and other.std() > 0
    correlation = float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if varies else np.nan
    return Agreement(correlation, overlap(top(one, share), top(other, share)))


def sizes(attributions: Attributions) -> Array:
    """Mean sizes (variable, y, x), or like one sample; missing ones are 0."""
    return np.asarray(np.nan_to_num(np.nanmean(np.abs(stacked(attributions)), axis=0)))


def stacked(attributions: Attributions) -> Array:
    """All of it as (sample, variable, y, x) or (sample, ...); neighbouring steps added up."""
    if isinstance(attributions, Tensor):
        return attributions.detach().cpu().double().numpy()
    if isinstance(attributions, np.ndarray):
        return attributions.astype(np.float64)
    alone = attributions.sum(LAG, min_count=1) if LAG in attributions.dims else attributions
    standard, _ = harmonise(alone)
    fields = [field.transpose("time", "y", "x").values for field in standard.data_vars.values()]
    return np.stack(fields, axis=1).astype(np.float64)


def top(size: Array, share: float = SHARE) -> Mask:
    """The cells with the largest sizes, as many as the share says.

    Raises:
        InputError: when that is none or more than all.
    """
    if not 0 < share <= 1:
        raise InputError(f"got share={share:g}; expected a part of the cells, above 0 and up to 1, such as 0.05")
    count = max(1, round(share * size.size))
    chosen = np.zeros(size.size, dtype=bool)
    chosen[np.argsort(-size, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(size.shape)


def overlap(first: Mask, second: Mask) -> float:
    """Intersection over union of two sets of cells; 1 where both are empty."""
    union = int((first | second).sum())
    return float((first & second).sum()) / union if union else 1.0
