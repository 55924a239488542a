"""The part of the CRPS above a threshold: how good an ensemble is at what is high, without rewarding false alarms.

    twcrps    <|v(x) - v(t)|> - <|v(x) - v(x')|> / 2,    v(z) = max(z, q)    (x, x' two different members, t the truth)

This is the integral of (F(z) - 1[t <= z])^2 over z above the threshold q alone, estimated so that the number of members
does not bias it. Scores of those cases whose truth is above q are not proper: who always predicts a flood wins there.
This one judges every case, and what falls below q counts as q. Nothing is left to judge where q is above all members
and the truth: the score is 0 there.

One member has no second one: its score is |v(x) - v(t)|, so that a single forecast stands in the same column.

Sources: Gneiting and Ranjan 2011, doi:10.1198/jbes.2010.08110; Allen, Ginsbourger and Ziegel 2023,
doi:10.1137/22M1532184; Ferro 2014, doi:10.1002/qj.2270.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.pointwise import first
from finegrid.evaluation.metrics.probabilistic import crps_of


def threshold_weighted_crps(block: Block) -> Array:
    """Fair CRPS of what is above the threshold of the event (1, time, y, x), in the variable's units."""
    threshold = block.reference.threshold
    # Single precision does where it has the very threshold.
    members = block.stored if float(block.stored.dtype.type(threshold)) == threshold else block.prediction
    return crps_of(np.maximum(members, members.dtype.type(threshold)), np.maximum(block.truth, threshold))[None]


TWCRPS = Metric(
    "twcrps",
    "CRPS above the threshold",
    threshold_weighted_crps,
    first,
    in_units=True,
    cellwise=True,
    asks=("threshold",),
)
