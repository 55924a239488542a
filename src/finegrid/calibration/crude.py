"""Standardised errors as they are: no distribution is assumed, and a bias of the mean goes, too.

    z = (y - mean) / d,      d^2 = sigma^2 + (f e)^2
    value at the chance p:   mean + d Q_p(z)

with sigma the deviation of the members, e the usual error of their mean, f a small part of it (an ensemble that agrees
is not as sure as that) and Q_p the quantiles of the calibration cases of a group.

Source: Zelikman, Healy, Zhou and Avati, "CRUDE: calibrating regression uncertainty distributions empirically", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finegrid.calibration.base import Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array
from finegrid.calibration.pooled import Scored


@dataclass(kw_only=True)
class Standardised(Scored):
    """Scores in units of the spread.

    Args:
        floor: part of the usual error that is added to the deviation of the members.
    """

    floor: float = 0.1

    least_members: ClassVar[int] = 2

    def _evidence(self, some: Cases) -> Evidence:
        return {"error": some.known - some.mean, "deviation": some.deviation}

    def _learn(self, notes: Notes) -> Learnt:
        error, deviation = notes.evidence["error"], notes.evidence["deviation"]
        least = np.array([self.floor * np.sqrt(np.nanmean(error**2))])
        return self._kept(error / np.hypot(deviation, least), notes) | {"least": least}

    def _brought(self, some: Cases, learnt: Learnt, scores: Array) -> Array:
        return np.asarray(some.mean + np.hypot(some.deviation, learnt["least"]) * scores)


@dataclass(kw_only=True)
class Crude(Standardised):
    """Quantiles of standardised errors."""

    name: ClassVar[str] = "crude"
    guarantee: ClassVar[str] = (
        "marginal: every chance holds for a case that can change places with those of calibration"
    )
