"""Threshold-weighted CRPS: the score of what happens above a threshold, proper as the CRPS itself.

    loss = CRPS of v(x_i) against v(t),      v(x) = b x + (1 - b) integral to x of g(z) dz

g is the weight of the value z: 1 above the threshold q and 0 below it, so that v(x) = max(x, q) for b = 0; or, with a
width s, the smooth g(z) = Phi((z - q) / s), for which

    v(x) = (x - q) Phi((x - q) / s) + s phi((x - q) / s)

Scores of events alone are not proper; this one is, since it is the CRPS of transformed values. With b = 0 it says
nothing about values below the threshold; b > 0 keeps that part of the CRPS there.

Source: Gneiting and Ranjan, "Comparing Density Forecasts Using Threshold- and Quantile-Weighted Scoring Rules",
Journal of Business & Economic Statistics 29, 2011, doi:10.1198/jbes.2010.08110; Allen et al., "Evaluating Forecasts
for High-Impact Events Using Transformed Kernel Scores", SIAM/ASA Journal on Uncertainty Quantification 11, 2023,
doi:10.1137/22M1532184.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.losses.crps import crps


def tail_crps(
    prediction: Tensor,
    truth: Tensor,
    weight: Tensor | None = None,
    *,
    threshold: float | Sequence[float] = 2.0,
    width: float = 0.0,
    below: float = 0.1,
    fairness: float = 1.0,
) -> Tensor:
    """Weighted mean of the threshold-weighted CRPS of each sample; see `finegrid.losses.base` for shapes.

    Args:
        threshold: q in the units of the fields, or one for each channel; heads measure fields in deviations of the
            first guess's error.
        width: s, over which the weight grows; 0 is a step.
        below: b, the weight far below the threshold.
        fairness: as in `finegrid.losses.crps`.

    Raises:
        InputError: on a negative width, or a part below that is not between 0 and 1.
    """
    if width < 0 or not 0 <= below <= 1:
        raise InputError(
            f"got width: {width:g}, below: {below:g} for the loss tail-crps; expected a width of at least 0 and a part "
            "between 0 and 1; use width: 0, below: 0.1"
        )
    level = torch.as_tensor(threshold, dtype=truth.dtype, device=truth.device).reshape(-1, 1, 1)
    members, true = (below * each + (1 - below) * _above(each - level, width) for each in (prediction, truth))
    return crps(members, true, weight, fairness=fairness)


def _above(excess: Tensor, width: float) -> Tensor:
    """Integral of the weight up to a value this much above the threshold; NaN stays NaN."""
    if width == 0:
        return excess.clamp(min=0.0)
    standard = excess / width
    density = torch.exp(-0.5 * standard.square()) / math.sqrt(2 * math.pi)
    part = torch.erfc(standard * -math.sqrt(0.5)) / 2
    return excess * part + width * density
