"""How often it is dry: the frequency of values under a threshold in a new record, adapted as in training.

Values under the threshold T are first replaced by noise in [0, T), in training and in every record: hundreds of equal
zeros have no ranks. Days that were dry and stay under T come out as 0.

With P0 the part of values at or under the threshold T in the training goal (ref), in the training coarse values (hist)
and in the new record (sim), where hist is too dry, a part of the dry values of sim becomes rain between T and Pth:

    replaced    values whose rank lies in [P0_sim P0_ref / P0_hist, P0_sim], by T + (Pth - T) u, u uniform in [0, 1)
    Pth         the value of ref that has the rank P0_hist

after Themessl et al. (2012, Climatic Change, doi:10.1007/s10584-011-0224-4), as xsdba has it in `adapt_freq`. Equal
values are ranked by chance. xsdba teaches P0_ref, P0_hist and Pth; noise comes from a generator with a seed of its own.
"""

from __future__ import annotations

import numpy as np

from finegrid.data.adjustments.base import Numbers, Values
from finegrid.data.adjustments.quantiles import ordered_ranks
from finegrid.data.adjustments.training import UNITS


def jittered(values: Values, wet: float, noise: np.random.Generator) -> Values:
    """Values (time, cell) with noise for those under the threshold."""
    return np.where(values < wet, wet * noise.random(values.shape), values)


def dried(adjusted: Values, values: Values, wet: float) -> Values:
    """Adjusted values, 0 where the given ones were dry and these are too."""
    return np.where((values < wet) & (adjusted < wet), 0.0, adjusted)


def wet_options(wet: float | None) -> dict[str, str]:
    """What xsdba is told about dry values; nothing where there is no threshold."""
    if wet is None:
        return {}
    threshold = f"{wet!r} {UNITS}"
    return {"adapt_freq_thresh": threshold, "jitter_under_thresh_value": threshold}


def adapted_frequency(values: Values, dry: Numbers, wet: float, noise: np.random.Generator) -> Values:
    """Values (time, cell) of one group, of which as many are dry as training says.

    Args:
        values: coarse values.
        dry: "P0_ref", "P0_hist" and "pth", (cell,) each.
        wet: the threshold.
        noise: of the randomness.
    """
    known = np.isfinite(values)
    now = (values <= wet).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    lacking = (dry["P0_hist"] > dry["P0_ref"]) & np.isfinite(dry["pth"])
    if not lacking.any():
        return values
    ranks = ordered_ranks(values, noise.random(values.shape))
    kept = dry["P0_ref"] / np.where(lacking, dry["P0_hist"], 1.0) * now
    rain = wet + (dry["pth"] - wet) * noise.random(values.shape)
    return np.where(lacking & (ranks >= kept) & (ranks <= now) & known, rain, values)
