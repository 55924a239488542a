"""Do intervals hold what they promise, everywhere and at all times, and how wide are they for it?

    coverage    share of the truth that is inside [l, h]
    width       h - l
    Winkler     h - l + 2 / (1 - level) (l - y) where y < l,  + 2 / (1 - level) (y - h) where y > h

The Winkler score is least for the true quantiles, so that neither wide nor narrow intervals win. All are means weighted
by area; the 95 % interval of the coverage comes from blocks of times (`intervals`).

Source: Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", Journal of the American
Statistical Association 102, 2007, doi:10.1198/016214506000001437.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.base import DIMENSION
from finegrid.calibration.cases import Cases, matched
from finegrid.calibration.groups import Groups
from finegrid.conventions import InputError, natural_limits
from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.intervals import LEAST_TIMES, Draws, block_length, interval
from finegrid.grids import Grid

_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Group:
    """Intervals in one group of cases."""

    name: str
    coverage: float
    width: float
    cases: int


@dataclass(frozen=True, eq=False)
class Coverage:
    """Intervals of one variable against the truth.

    Attributes:
        variable: its name.
        units: its units.
        level: what was promised.
        coverage: share inside.
        bounds: 95 % interval of the share; NaN with too few times.
        width: mean width.
        winkler: mean Winkler score.
        groups: the same by region and season.
        shares: share inside in each cell (y, x).
        widths: mean width in each cell (y, x).
    """

    variable: str
    units: str
    level: float
    coverage: float
    bounds: tuple[float, float]
    width: float
    winkler: float
    groups: Sequence[Group] = ()
    shares: Array = field(default_factory=lambda: np.zeros((0, 0)))
    widths: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def words(self) -> str:
        """In a sentence."""
        low, high = self.bounds
        sure = "" if np.isnan(low) else f" (95 % {100 * low:.1f} to {100 * high:.1f})"
        return f"{100 * self.coverage:.1f} %{sure} inside, {self.width:.3g} {self.units} wide".replace("  ", " ")


def coverage(
    intervals: xr.Dataset, observed: xr.Dataset, *, groups: Sequence[str] = ("region", "season"), regions: int = 3
) -> dict[str, Coverage]:
    """Judge intervals (quantile, time, y, x), as calibrators make them, by what came true.

    Args:
        intervals: two quantiles, the lower one first.
        observed: the truth (time, y, x).
        groups: of `finegrid.calibration.groups`.
        regions: blocks along each side.

    Raises:
        InputError: when there are not two quantiles, or nothing in common.
    """
    ends = np.asarray(intervals[DIMENSION].values, dtype=np.float64) if DIMENSION in intervals.coords else np.zeros(0)
    if len(ends) != 2 or abs(ends.sum() - 1) > _SAME:
        raise InputError(
            f"got the quantiles {', '.join(f'{each:g}' for each in ends) or 'none'}; expected the two ends of an "
            "interval, such as 0.05 and 0.95; make them with interval(ensemble, 0.9), or finegrid downscale --interval"
        )
    (low, truth), (high, _) = (matched(intervals.isel({DIMENSION: end}, drop=True), observed) for end in (0, 1))
    level, weights = float(ends[1] - ends[0]), Grid.of(truth).area
    found = {}
    for name in map(str, low.data_vars):
        fields = [
            each[name].transpose("time", "y", "x").values.astype(np.float64) for each in (truth, *_ends(low, high))
        ]
        case = Cases(
            name, fields[0][None].astype(np.float32), None, truth.time, 0, natural_limits(name, low[name].attrs)
        )
        of = Groups.of(groups, fields[0], regions=regions)
        found[name] = _judged(name, str(low[name].attrs.get("units", "")), level, fields, weights, of, of(case))
    return found


def _ends(low: xr.Dataset, high: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    return low.isel(member=0), high.isel(member=0)


def winkler(low: Array, high: Array, truth: Array, level: float) -> Array:
    """Of each case."""
    outside = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    return np.asarray(high - low + 2 / (1 - level) * outside)


def _judged(
    name: str,
    units: str,
    level: float,
    fields: Sequence[Array],
    weights: Array,
    groups: Groups,
    place: NDArray[np.int64],
) -> Coverage:
    truth, low, high = fields
    known = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
    inside = np.where(known, (low <= truth) & (truth <= high), np.nan)
    width = np.where(known, high - low, np.nan)
    totals = Totals.of(np.stack([inside, width, winkler(low, high, truth, level)]), weights)
    share, wide, score = totals.mean()
    each = [_group(groups.words(int(number)), known & (place == number), inside, width) for number in np.unique(place)]
    return Coverage(
        name,
        units,
        level,
        float(share),
        _bounds(totals),
        float(wide),
        float(score),
        [group for group in each if group.cases],
        _over_time(inside),
        _over_time(width),
    )


def _group(name: str, chosen: NDArray[np.bool_], inside: Array, width: Array) -> Group:
    count = int(chosen.sum())
    share, wide = (float(each[chosen].mean()) if count else np.nan for each in (inside, width))
    return Group(name, share, wide, count)


def _bounds(totals: Totals) -> tuple[float, float]:
    series = totals.per_time()[0]
    if len(series) < LEAST_TIMES:
        return np.nan, np.nan
    draws = Draws.of(len(series), block_length(series))
    return interval(draws.means(totals)[0], widening=draws.widening(draws.without(totals)[0]))


def _over_time(values: Array) -> Array:
    count = np.isfinite(values).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)
