"""Does the prediction say the same as the coarse field where both can be compared?

    violation = max of |mean of prediction over the coarse cell - coarse| / max(|coarse|, m)

over members, times and coarse cells, with m the mean of |coarse|, so that a nearly dry cell does not ask
for more than the data can give. Means are weighted by area, over the cells in which the truth is ever
known, in float64. Coarse cells that stick out of the fine domain are left out.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights
from finegrid.evaluation.metrics.pointwise import first
from finegrid.evaluation.metrics.reference import Reference

CONSERVED = 1e-5
"""Largest violation that counts as rounding: fields are kept as float32."""


def _violation(block: Block) -> Array:
    if block.coarse is None:
        raise ValueError("conservation needs a coarse field")
    difference = np.abs(block.reference.block_means(block.prediction) - block.coarse)
    scale = np.maximum(np.abs(block.coarse), block.reference.typical)
    relative = difference / np.maximum(scale, np.finfo(np.float32).tiny)
    # A member that is missing is found elsewhere; here the others speak.
    return np.asarray(np.where(np.isfinite(relative), relative, -np.inf).max(axis=0)[None])


def _has_coarse(reference: Reference) -> bool:
    return reference.operator is not None


VIOLATION = Metric(
    "violation",
    "departure from coarse",
    _violation,
    first,
    weights=equal_weights,
    applies=_has_coarse,
    extreme=True,
    resolution=CONSERVED,
)
