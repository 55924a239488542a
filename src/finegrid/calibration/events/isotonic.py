"""The monotone map of raw chances that fits best.

    minimise  sum of (y - c(p))^2   over all c that never fall

Pooled adjacent violators find it; between the raw chances of the calibration cases it is linear, beyond them constant.

Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from finegrid.calibration.base import Learnt
from finegrid.calibration.events.base import Separate
from finegrid.calibration.events.chances import Tally
from finegrid.calibration.kernel import Array


@dataclass(kw_only=True)
class Isotonic(Separate):
    """Steps and slopes between knots."""

    name: ClassVar[str] = "isotonic"

    def _one(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        tally = Tally.of(raw, happened)
        found = IsotonicRegression().fit(tally.raw, tally.events / tally.cases, sample_weight=tally.cases)
        return {"knots": np.asarray(found.X_thresholds_), "chances": np.asarray(found.y_thresholds_)}

    def _map(self, raw: Array, learnt: Learnt) -> Array:
        return np.interp(raw, learnt["knots"], learnt["chances"])
