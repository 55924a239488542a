"""Structural similarity at several scales (Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216).

    MS-SSIM = l_J^w_J prod_j s_j^w_j,    w = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333

At each scale j the fields are half as fine as at the one before, by means over 2 x 2 cells; s_j is the mean over the
cells of the covariance factor of SSIM, and l_J s_J at the coarsest scale J that of both factors (`similarity`). A mean
below zero counts as zero. Scales at which the window of eleven cells does not fit any more are dropped and the weights
brought to sum to one; the first scale stays, with a smaller window on small domains. Cells without a truth do not
count, a mean over 2 x 2 cells is that of the known ones, and a row or column that is left over is dropped. The score
is the mean over times, of the mean over members.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights
from finegrid.evaluation.metrics.pointwise import first
from finegrid.evaluation.metrics.similarity import WINDOW, luminance_and_structure, window_radius

_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])

Mask = NDArray[np.bool_]


def multiscale_similarity(block: Block) -> Array:
    """MS-SSIM of the ensemble mean at each time (1, time, 1)."""
    extent = block.reference.highest - block.reference.lowest
    if window_radius((block.truth.shape[-2], block.truth.shape[-1])) < 1 or not extent > 0:
        return np.full((1, len(block.truth), 1), np.nan)
    factors = list(_factors(block, extent))
    weights = _WEIGHTS[: len(factors)] / _WEIGHTS[: len(factors)].sum()
    chosen = np.stack([*(structure for _, structure in factors[:-1]), factors[-1][0]], axis=-1)
    return np.asarray((np.maximum(chosen, 0.0) ** weights).prod(axis=-1)[None, :, None])


def _factors(block: Block, extent: float) -> Iterator[tuple[Array, Array]]:
    """Means over the cells of both factors, and of that of the covariance (time,), the finest scale first."""
    p, t, known, area = block.mean, block.truth, block.known & np.isfinite(block.mean), block.reference.grid.area
    for scale in range(len(_WEIGHTS)):
        if scale:
            if min(known.shape[-2:]) // 2 < WINDOW:
                return
            p, t, area = _halved(p, known), _halved(t, known), _halved(area, np.ones(area.shape, bool))
            known = np.isfinite(t)
        luminance, structure = luminance_and_structure(p, t, known, extent)
        yield _inner_mean(luminance * structure, known, area), _inner_mean(structure, known, area)


def _halved(values: Array, known: Mask) -> Array:
    """Means (..., y, x) over the known ones of 2 x 2 cells; NaN where there is none."""
    ny, nx = (2 * (side // 2) for side in known.shape[-2:])
    blocks = (*values.shape[:-2], ny // 2, 2, nx // 2, 2)
    counts = known[..., :ny, :nx].reshape(blocks).sum(axis=(-3, -1))
    return ratio(np.where(known, values, 0.0)[..., :ny, :nx].reshape(blocks).sum(axis=(-3, -1)), counts)


def _inner_mean(values: Array, known: Mask, area: Array) -> Array:
    """Means (time,) over the known cells around which the whole window lies in the domain, by area."""
    radius = window_radius((known.shape[-2], known.shape[-1]))
    inner = (..., slice(radius, -radius), slice(radius, -radius))
    weights = np.where(known, area, 0.0)[inner]
    return ratio((np.where(known, values, 0.0)[inner] * weights).sum(axis=(1, 2)), weights.sum(axis=(1, 2)))


MS_SSIM = Metric("ms-ssim", "multiscale similarity", multiscale_similarity, first, best=1.0, weights=equal_weights)
