"""Are events where they should be? An event is a value above `reference.threshold`.

With the parts a of hits, b of false alarms, c of misses and d of quiet among all cells and times, by area,

    csi             a / (a + b + c), the critical success index
    sedi            (ln F - ln H - ln(1 - F) + ln(1 - H)) / (ln F + ln H + ln(1 - F) + ln(1 - H)),
                    H = a / (a + c),  F = b / (b + d)
    frequency-bias  (a + b) / (a + c)

`sedi`, the symmetric extremal dependence index (Ferro and Stephenson 2011, doi:10.1175/WAF-D-10-05030.1), does not
tend to zero only because events are rare, as `csi` does. It is one for a perfect prediction, zero for one by chance,
and -1, its limit, where there are only misses and false alarms; it is not defined (NaN) when one of a, b, c, d is zero
otherwise. `frequency-bias` says how often events occur, not
where. Each member is judged by itself, as a mean over members has fewer events by right, and a, b, c, d are means over
the members. Without an event in the truth all are NaN.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric


def contingency(block: Block) -> Array:
    """Part of the members with a hit, a false alarm, a miss and quiet (4, time, y, x); NaN without a truth."""
    return block.once(_contingency)


def _contingency(block: Block) -> Array:
    threshold = block.reference.threshold
    known = block.known & np.isfinite(block.mean)
    truth, members = block.truth > threshold, (block.prediction > threshold).mean(axis=0)
    parts = np.stack([truth * members, ~truth * members, truth * (1 - members), ~truth * (1 - members)])
    return np.where(known, parts, np.nan)


def _critical_success(means: Array) -> Array:
    hits, alarms, misses, _ = means
    return np.where(hits + misses > 0, ratio(hits, hits + alarms + misses), np.nan)


def _extremal_dependence(means: Array) -> Array:
    hits, alarms, misses, quiet = means
    defined = (means > 0).all(axis=0)
    found, false = (
        np.where(defined, ratio(each, each + rest), 0.5) for each, rest in ((hits, misses), (alarms, quiet))
    )
    logs = np.log([false, found, 1 - false, 1 - found])
    # Both sums are negative: that of the formula's denominator always.
    score = ratio(-(logs[0] - logs[1] - logs[2] + logs[3]), -logs.sum(axis=0))
    perfect = (hits > 0) & (alarms == 0) & (misses == 0)
    blind = (hits == 0) & (alarms > 0) & (misses > 0)
    return np.select([perfect, blind, defined], [1.0, -1.0, score], np.nan)


def _frequency(means: Array) -> Array:
    hits, alarms, misses, _ = means
    return ratio(hits + alarms, hits + misses)


CSI = Metric("csi", "critical success", contingency, _critical_success, best=1.0, cellwise=True, asks=("threshold",))
SEDI = Metric(
    "sedi", "extremal dependence", contingency, _extremal_dependence, best=1.0, cellwise=True, asks=("threshold",)
)
FREQUENCY_BIAS = Metric(
    "frequency-bias",
    "frequency of events",
    contingency,
    _frequency,
    best=1.0,
    proportional=True,
    cellwise=True,
    asks=("threshold",),
)
