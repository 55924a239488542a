"""Scaling and local intensity scaling: means, and of rain the means of wet days.

    scaling    x' = x + (mean of A fine - mean of x), or x * (mean of A fine / mean of x)
    loci       x' = max(T + s (x - Tx), 0)       rain; Tx: the value that x exceeds as often as A fine exceeds T
               s  = (mean of A fine above T - T) / (mean of x above Tx - Tx)

LOCI after Schmidli et al. (2006, International Journal of Climatology, doi:10.1002/joc.1287); it scales what is no
precipitation. Both take one time after the other, so they stay lazy, and keep trends of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.data.adjustments.base import Numbers, Values
from finegrid.data.adjustments.grouped import Grouped
from finegrid.data.adjustments.groups import Times
from finegrid.data.adjustments.kinds import Kind
from finegrid.data.adjustments.training import UNITS, library


@dataclass
class Scaling(Grouped):
    """The mean of every group of times, added or multiplied.

    Args:
        by: groups of times: "month", "season", "day_of_year" (with a moving window) or "all".
        window: days of the window around a day of the year, an odd number.
        kind: "additive" or "multiplicative"; None for what suits the variable.
    """

    name = "scaling"

    def _taught(self, goal: xr.DataArray, given: xr.DataArray, kind: Kind) -> Numbers:
        learnt = library().Scaling.train(goal, given, group="time", kind=kind.sign).ds
        factors = learnt.af.values.reshape(-1)
        return {"factors": np.where(np.isfinite(factors), factors, kind.neutral)}

    def _adapted(self, values: Values, learnt: Numbers, kind: Kind, times: Times, seed: Sequence[int]) -> Values:
        result = np.empty_like(values)
        for place, members in times.groups:
            result[members] = kind.applied(values[members], learnt["factors"][place])
        return result


@dataclass
class LocalIntensity(Scaling):
    """The frequency of wet days and the intensity of their rain; scaling for what is no precipitation.

    Args:
        by: groups of times: "month", "season", "day_of_year" (with a moving window) or "all".
        window: days of the window around a day of the year, an odd number.
        kind: of variables that are no precipitation.
        wet: rain of a wet day in mm/day.
    """

    name = "loci"
    wet: float = 1.0

    @property
    def _threshold(self) -> float | None:
        return self.wet

    def _taught(self, goal: xr.DataArray, given: xr.DataArray, kind: Kind) -> Numbers:
        if kind.wet is None:
            return super()._taught(goal, given, kind)
        learnt = library().LOCI.train(goal, given, group="time", thresh=f"{kind.wet!r} {UNITS}").ds
        factors, threshold = learnt.af.values.reshape(-1), learnt.hist_thresh.values.reshape(-1)
        dry = ~np.isfinite(factors)  # no wet day in one of the two: nothing is known of their intensity
        return {"factors": np.where(dry, 1.0, factors), "threshold": np.where(dry, np.nan, threshold)}

    def _adapted(self, values: Values, learnt: Numbers, kind: Kind, times: Times, seed: Sequence[int]) -> Values:
        if kind.wet is None:
            return super()._adapted(values, learnt, kind, times, seed)
        result = np.empty_like(values)
        for place, members in times.groups:
            above = values[members] - learnt["threshold"][place]
            result[members] = np.maximum(kind.wet + learnt["factors"][place] * above, 0.0)
        return result
