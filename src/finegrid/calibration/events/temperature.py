"""One factor and one shift of the logit: where an ensemble is too sure, or not sure enough, everywhere alike.

    logit c(p) = a logit p + b,      a > 0,     of the largest likelihood

a is one over the temperature. With b = 0 a chance of a half stays one.

Sources: Platt, "Probabilistic outputs for support vector machines", 1999; Guo, Pleiss, Sun and Weinberger, "On
calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from finegrid.calibration.base import Learnt
from finegrid.calibration.events.base import Separate
from finegrid.calibration.events.chances import Tally
from finegrid.calibration.kernel import Array

# Cases of either kind beside those seen: without them one that is perfectly told apart has an infinite factor.
_PRIOR = 0.5


@dataclass(kw_only=True)
class Temperature(Separate):
    """A factor and a shift.

    Args:
        shifts: whether there is a shift; without it no decision at a half changes.
    """

    shifts: bool = True

    name: ClassVar[str] = "temperature"

    def _one(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        factor, shift = scaling(Tally.of(raw, happened), shifts=self.shifts)
        return {"factor": np.array([factor]), "shift": np.array([shift])}

    def _map(self, raw: Array, learnt: Learnt) -> Array:
        return np.asarray(expit(learnt["factor"] * logit(raw) + learnt["shift"]))


def scaling(tally: Tally, *, shifts: bool = True) -> tuple[float, float]:
    """Factor and shift of the largest likelihood."""
    given = logit(tally.raw)
    events = tally.events + _PRIOR * tally.events.sum() / max(tally.cases.sum(), 1.0) / len(given)
    cases = tally.cases + _PRIOR / len(given)

    def loss(numbers: Array) -> tuple[float, Array]:
        factor, shift = np.exp(numbers[0]), numbers[1] * shifts
        chances = factor * given + shift
        value = -(events * log_expit(chances) + (cases - events) * log_expit(-chances)).sum()
        slope = cases * expit(chances) - events
        return value / cases.sum(), np.array([(slope * given).sum() * factor, slope.sum() * shifts]) / cases.sum()

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-6.0, 6.0), (-30.0, 30.0)]).x
    return float(np.exp(found[0])), float(found[1] * shifts)
