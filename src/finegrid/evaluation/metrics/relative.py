"""The square error beside what the truth offers: its range, and its variance. The mean over members is judged.

    psnr    20 log10(L / sqrt(<(p - t)^2>)),    L the range of the truth over all times, in decibels
    r2      1 - <(p - t)^2> / (<t^2> - <t>^2)

<.> is the mean over times and cells, weighted by area. A perfect prediction has an infinite `psnr`; how far a score is
from that is measured by the amplitude lost, 10^(-psnr / 20), which is the error over the range. `r2`, also the
efficiency of Nash and Sutcliffe (1970, doi:10.1016/0022-1694(70)90255-6), is one at best and zero for the mean of the
truth.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.pointwise import square_error


def _error_and_range(block: Block) -> Array:
    error = square_error(block)[0]
    extent = block.reference.highest - block.reference.lowest
    return np.stack([error, np.full(error.shape, extent**2)])


def _decibels(means: Array) -> Array:
    error, extent = means
    with np.errstate(divide="ignore"):
        return np.where(extent > 0, -10 * np.log10(error / np.where(extent > 0, extent, 1.0)), np.nan)


def _error_and_moments(block: Block) -> Array:
    # Shifted by a value within the truth's range: the variance does not mind, and squares lose no digits.
    t = block.truth - (block.reference.lowest + block.reference.highest) / 2
    return np.stack([square_error(block)[0], t, t * t])


def _explained(means: Array) -> Array:
    error, t, tt = means
    return 1 - ratio(error, np.maximum(tt - t * t, 0))


PSNR = Metric("psnr", "peak signal to noise (dB)", _error_and_range, _decibels, best=np.inf, cellwise=True)
R2 = Metric("r2", "variance explained", _error_and_moments, _explained, best=1.0, cellwise=True)
