"""Ensemble dressing: each member, freed from the bias of all, is the middle of a normal kernel.

    y ~ mean over m of N(a + b x_m, h^2),      h^2 = < (y - a - b mean)^2 > - (1 + 1/M) b^2 < sigma^2 >

with a and b by least squares in each group and h what the error of the mean has beyond the spread of the members
(Wang and Bishop 2005); where members spread more than that, they are moved together instead of dressed.

Sources: Roulston and Smith, "Combining dynamical and statistical ensembles", Tellus A 55, 2003,
doi:10.3402/tellusa.v55i1.12082; Wang and Bishop, "Improvement of ensemble reliability with a new dressing kernel",
Quarterly Journal of the Royal Meteorological Society 131, 2005, doi:10.1256/qj.04.120.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array, Places

_HALVINGS = 24
_SMALL = 1e-12


@dataclass(kw_only=True)
class Dressing(Calibrator):
    """A kernel about each member."""

    name: ClassVar[str] = "dressing"
    guarantee: ClassVar[str] = "none: right on the average where errors are normal"
    least_members: ClassVar[int] = 2

    def _evidence(self, some: Cases) -> Evidence:
        return {"mean": some.mean, "variance": some.deviation**2 * (1 + 1 / some.count), "truth": some.known}

    def _learn(self, notes: Notes) -> Learnt:
        mean, variance, truth = (notes.evidence[key] for key in ("mean", "variance", "truth"))

        def averaged(values: Array) -> Array:
            return notes.means(values, shrink=self.shrink)

        centre, middle = averaged(mean), averaged(truth)
        covariance, own = averaged(mean * truth) - centre * middle, averaged(mean**2) - centre**2
        slope = np.where(own > _SMALL, covariance / np.maximum(own, _SMALL), 1.0)
        start = middle - slope * centre
        error = averaged(truth**2) - middle**2 - slope * covariance
        spread = slope**2 * averaged(variance)
        width = np.sqrt(np.maximum(error - spread, 0.0))
        kept = np.sqrt(np.clip(error, 0.0, None) / np.maximum(spread, _SMALL))
        return {"start": start, "slope": slope, "width": width, "kept": np.minimum(kept, 1.0)}

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        start, slope, width, kept = (learnt[key][place] for key in ("start", "slope", "width", "kept"))
        mean = some.mean
        centres = (start + slope * (mean + kept * (some.members - mean))).astype(np.float32)
        width = np.maximum(width, _SMALL).astype(np.float32)
        return np.stack([_mixture(centres, width, float(level)) for level in levels])


def _mixture(centres: NDArray[np.float32], width: NDArray[np.float32], level: float) -> Array:
    """The value at a chance of a mixture of normal kernels about centres (member, ...), by halving what holds it."""
    reach = width * abs(ndtri(level)) + _SMALL
    low, high = centres.min(axis=0) - reach, centres.max(axis=0) + reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = ndtr((middle - centres) / width).mean(axis=0) > level
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.asarray((low + high) / 2, dtype=np.float64)
