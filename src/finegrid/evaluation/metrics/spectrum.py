"""Variance by scale: does the prediction have as much fine detail as the truth?

Two-dimensional cosine transform (Denis, Cote and Laprise 2002,
doi:10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2): on a limited domain it does not leak large scales into
small ones as the Fourier transform does. With the orthonormal transform F(m, n) of a field of M x N cells
the variance of a wavenumber, and its distance from the origin, are

    s(m, n) = F(m, n)^2 / (M N),    a(m, n) = sqrt((m / M)^2 + (n / N)^2),    wavelength = 2 cells / a.

The sum of s without s(0, 0) is the variance of the field. `power-ratio` is the variance of the members
(their mean) over that of the truth for 2/3 <= a < 1, the top third of wavenumbers: wavelengths of two to
three cells. One is best; blurred fields are far below. The mean over members is not used here: it is smooth
by right. With missing cells the largest complete rectangle is transformed.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights

_LEAST_CELLS = 6


def variances(fields: Array) -> Array:
    """Variance of each wavenumber (..., y, x) of complete fields (..., y, x)."""
    ny, nx = fields.shape[-2:]
    anomalies = fields - fields.mean(axis=(-2, -1), keepdims=True)
    return np.asarray(dctn(anomalies, axes=(-2, -1), norm="ortho") ** 2 / (ny * nx))


def wavenumbers(shape: tuple[int, int]) -> Array:
    """Distance of each wavenumber from the origin (y, x): 1 is a wave of two cells."""
    ny, nx = shape
    return np.asarray(np.hypot(np.arange(ny)[:, None] / ny, np.arange(nx)[None] / nx))


def radial(power: Array) -> tuple[Array, Array]:
    """Wavenumbers (bin,) and the variance (..., bin) in rings one wavenumber of the shorter side wide."""
    shortest = min(power.shape[-2:])
    ring = np.floor(wavenumbers((power.shape[-2], power.shape[-1])) * shortest + 1e-9).astype(int)
    inner = range(1, shortest)
    summed = np.stack([power[..., ring == each].sum(axis=-1) for each in inner], axis=-1)
    return (np.arange(1, shortest) + 0.5) / shortest, summed


def truth_and_members(block: Block) -> tuple[Array, Array] | None:
    """Variances (time, y, x) of the truth, and of the members on average; None on tiny domains."""
    return block.once(_truth_and_members)


def _truth_and_members(block: Block) -> tuple[Array, Array] | None:
    rows, columns = block.reference.rectangle
    if min(rows.stop - rows.start, columns.stop - columns.start) < _LEAST_CELLS:
        return None
    truth = variances(block.truth[:, rows, columns])
    members = sum(variances(member[:, rows, columns].astype(np.float64)) for member in block.stored)
    return truth, np.asarray(members / len(block.stored))


def _fine_power(block: Block) -> Array:
    pair = truth_and_members(block)
    if pair is None:
        return np.full((2, len(block.truth), 1), np.nan)
    distance = wavenumbers((pair[0].shape[-2], pair[0].shape[-1]))
    return np.stack([power[..., (distance >= 2 / 3) & (distance < 1)] for power in pair])


def _members_over_truth(means: Array) -> Array:
    return ratio(means[1], means[0])


POWER_RATIO = Metric(
    "power-ratio",
    "fine-scale power",
    _fine_power,
    _members_over_truth,
    best=1.0,
    weights=equal_weights,
    proportional=True,
)
