"""How far is the power spectrum of a prediction from that of the truth?

    spectral-divergence    sum_k S'(k) ln(S'(k) / P'(k))
    spectral-residual      sqrt(mean_k (P'(k) - S'(k))^2)
    log-spectral-distance  sqrt(mean_k (10 log10(S(k) / P(k)))^2), in decibels

S is the spectrum of the truth and P that of the members, means over members and times: a mean over members is smooth
by right. The first two (SpecDiv and SpecRes of ChaosBench: Nathaniel et al. 2024, arXiv:2402.00712) look at the finest
tenth of the wavenumbers only, k >= their quantile 0.9 but two at least, where S' and P' are S and P brought to sum to
one: they ask how power is shared among the finest scales, not how much there is. The third sees all wavenumbers and
the amount.

k is the total wavenumber of spherical harmonics on a complete global grid (`sphere`), and elsewhere a ring of the
cosine transform (`spectrum`), with missing cells that of the largest complete rectangle. All are zero at best.
"""

from __future__ import annotations

import numpy as np
from scipy.special import rel_entr

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights, rounding
from finegrid.evaluation.metrics.spectrum import radial, truth_and_members
from finegrid.evaluation.metrics.sphere import is_global, spherical_power

_FINEST = 0.9
_LEAST_WAVENUMBERS = 2


def spectra(block: Block) -> Array:
    """Power in each wavenumber, the coarsest first, of the truth and then of the members (2 * wavenumber, time, 1)."""
    found = block.once(_spectra)
    if found is None:
        return np.full((2, len(block.truth), 1), np.nan)
    power = np.where(found <= rounding(block.reference) ** 2, 0.0, found)
    return np.concatenate(np.moveaxis(power, -1, 1))[..., None]


def _spectra(block: Block) -> Array | None:
    """Power (truth or members, time, wavenumber); None on tiny domains."""
    reference = block.reference
    if is_global(reference.grid) and reference.complete.all():
        power = spherical_power(np.concatenate([block.truth[None], block.prediction]), reference.grid)[..., 1:]
        return np.stack([power[0], power[1:].mean(axis=0)])
    pair = truth_and_members(block)
    return None if pair is None else radial(np.stack(pair))[1]


def _finest_shares(means: Array) -> Array:
    """Shares of the finest wavenumbers in their power (truth or members, wavenumber, ...)."""
    power = np.stack(np.split(means, 2))
    count = power.shape[1]
    start = min(int(np.ceil(_FINEST * (count - 1))), count - _LEAST_WAVENUMBERS)
    fine = power[:, max(0, start) :]
    return ratio(fine, fine.sum(axis=1, keepdims=True))


def _divergence(means: Array) -> Array:
    truth, members = _finest_shares(means)
    # Never negative but by rounding.
    return np.asarray(np.maximum(rel_entr(truth, members).sum(axis=0), 0.0))


def _residual(means: Array) -> Array:
    truth, members = _finest_shares(means)
    return np.asarray(np.sqrt(((members - truth) ** 2).mean(axis=0)))


def _decibels(means: Array) -> Array:
    truth, members = np.split(means, 2)
    with np.errstate(divide="ignore"):
        squares = (10 * np.log10(ratio(members, truth))) ** 2
    known = ~np.isnan(squares)
    return np.sqrt(ratio(np.where(known, squares, 0.0).sum(axis=0), known.sum(axis=0)))


SPECTRAL_DIVERGENCE = Metric("spectral-divergence", "spectral divergence", spectra, _divergence, weights=equal_weights)
SPECTRAL_RESIDUAL = Metric("spectral-residual", "spectral residual", spectra, _residual, weights=equal_weights)
LOG_SPECTRAL_DISTANCE = Metric(
    "log-spectral-distance", "spectral distance (dB)", spectra, _decibels, weights=equal_weights
)
