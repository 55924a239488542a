"""Structural similarity of two fields seen as pictures (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

In a Gaussian window (11 cells, standard deviation 1.5) around each cell, with means m, variances v and
covariance c,

    SSIM = (2 m_p m_t + C1) (2 c + C2) / ((m_p^2 + m_t^2 + C1) (v_p + v_t + C2)),
    C1 = (0.01 L)^2, C2 = (0.03 L)^2,

and L the range of the truth over all times. Windows that reach over the edge of the domain are left out, as
in the paper. Within a window only known cells count, with their weights brought to sum to one. Small domains
get a smaller window. The mean over members is compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.pointwise import first

WINDOW, _DEVIATION = 11, 1.5


def window_radius(shape: tuple[int, int]) -> int:
    """Cells on either side of the centre of the window: five, less on domains narrower than eleven cells."""
    return (min(WINDOW, *shape) - 1) // 2


def similarity(block: Block) -> Array:
    """SSIM of the ensemble mean around each cell (1, time, y, x); NaN within half a window of the edge."""
    ny, nx = block.truth.shape[-2:]
    radius = window_radius((ny, nx))
    extent = block.reference.highest - block.reference.lowest
    result = np.full(block.truth.shape, np.nan)
    if radius < 1 or not extent > 0:
        return result[None]
    interior = (..., slice(radius, ny - radius), slice(radius, nx - radius))
    luminance, structure = luminance_and_structure(block.mean, block.truth, block.known, extent)
    result[interior] = np.where(block.known, luminance * structure, np.nan)[interior]
    return result[None]


def luminance_and_structure(p: Array, t: Array, known: NDArray[np.bool_], extent: float) -> tuple[Array, Array]:
    """The two factors of SSIM around each cell (time, y, x): that of the means, and that of the covariance."""
    radius = window_radius((t.shape[-2], t.shape[-1]))
    weight = _smoothed(known.astype(np.float64), radius)
    p, t = np.where(known, p, 0.0), np.where(known, t, 0.0)
    mean_p, mean_t, pp, tt, pt = (ratio(_smoothed(each, radius), weight) for each in (p, t, p * p, t * t, p * t))
    c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
    covariance, variances = pt - mean_p * mean_t, pp - mean_p**2 + tt - mean_t**2
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    return np.asarray(luminance), np.asarray((2 * covariance + c2) / (variances + c2))


def _smoothed(values: Array, radius: int) -> Array:
    deviation = _DEVIATION * (2 * radius + 1) / WINDOW
    for axis in (-2, -1):
        values = gaussian_filter1d(values, deviation, axis=axis, mode="constant", radius=radius)
    return values


SSIM = Metric("ssim", "structural similarity", similarity, first, best=1.0)
