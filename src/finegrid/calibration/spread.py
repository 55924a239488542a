"""One factor for the spread of an ensemble: members too close to each other are moved apart about their mean.

    x_m' = mean + s (x_m - mean),      s^2 = mean of (y - mean)^2 / ((M + 1) / M sigma^2)

over the calibration cases of a group, where sigma^2 is the variance of the members: the s by which normal distributions
with the spread of the members are likeliest. The factor (M + 1) / M is what the mean of M members misses by more than
they miss each other, and (M - 3) / (M - 1) makes up for dividing by a variance of so few.

Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, of which this is the
regression form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.members import quantiles

# Members that agree to this part of the usual spread say nothing of how far they are from the truth.
_SURE = 1e-3
# Members of fewer have a variance whose inverse has no mean.
_FEW = 3


@dataclass(kw_only=True)
class Spread(Calibrator):
    """A factor a group."""

    name: ClassVar[str] = "spread"
    guarantee: ClassVar[str] = "none: right on the average where the shape of the members is"
    least_members: ClassVar[int] = 2

    def _evidence(self, some: Cases) -> Evidence:
        return squares(some)

    def _learn(self, notes: Notes) -> Learnt:
        return {"factor": np.sqrt(notes.means(ratios(notes), shrink=self.shrink))}

    def _members(self, some: Cases, learnt: Learnt, place: Places) -> Array:
        factor, mean = learnt["factor"][place], some.mean
        return np.asarray(mean + factor * (some.members - mean))

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        return quantiles(self._members(some, learnt, place), levels)


def squares(some: Cases) -> Evidence:
    """Squared error of the mean of the members, and what it should be by their spread (time, y, x)."""
    return {"square": (some.known - some.mean) ** 2, "variance": some.deviation**2 * (1 + 1 / some.count)}


def ratios(notes: Notes) -> Array:
    """The first over the second, one on the average of an honest ensemble; NaN where members agree (time, y, x)."""
    variance = notes.evidence["variance"]
    sure = ~(variance > _SURE**2 * np.nanmean(variance))
    few = (notes.members - 3) / (notes.members - 1) if notes.members > _FEW else 1.0
    return np.asarray(np.where(sure, np.nan, few * notes.evidence["square"] / np.where(sure, 1.0, variance)))
