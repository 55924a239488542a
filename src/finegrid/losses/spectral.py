"""Amplitudes by scale as an ensemble loss: has every member the detail that the truth has?

    loss = sum_k CRPS of sqrt(X_ik / sum(w)) against sqrt(Y_k / sum(w)),      i over members, k over rings

X_ik is the power of member i in ring k of the cosine transform, as in `amse`; sqrt(X_ik / sum(w)) is the deviation of
the field which that ring makes. As members of a good ensemble have different amplitudes, as the truth has on
different days, they are scored by the fair CRPS and not each by its own error, which would be least where all have
the mean amplitude. It says nothing about where the detail is: use it beside another, `{name: sum, terms: {crps: 1,
spectral: 0.1}}`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegrid.losses.amse import comparable
from finegrid.losses.cosine import cosine_transform, ring_sums, rings_of
from finegrid.losses.crps import pointwise_crps

# Powers, relative to the truth's, below which the slope of the root is held.
_EPSILON = 1e-4
_NOTHING = 1e-12


def spectral(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """CRPS of the amplitudes of all rings, of each sample; see `finegrid.losses.base` for shapes."""
    rings = rings_of((truth.shape[-2], truth.shape[-1]))
    # Each member makes up its own missing cells, so that the truth beside it has them as well.
    (mine, true), total = comparable(prediction, truth.expand(prediction.shape), weight)
    powers = [ring_sums(cosine_transform(each).square(), rings) for each in (mine, true)]
    least = _EPSILON * powers[1] + _NOTHING
    amplitude, true_amplitude = ((power + least).sqrt() for power in powers)
    # Only the difference counts where members see different truths in their holes.
    values = pointwise_crps(amplitude - true_amplitude)
    total = total[0]
    return values.sum((-2, -1)) / torch.where(total > 0, total, 1.0).sqrt()
