"""Is one prediction better than another, or was it luck? Tests that know that neighbouring times resemble each other.

    n' = n (1 - r) / (1 + r)                             effective size for an autoregression of lag-one correlation r
    n' = n / (1 + 2 sum_k (1 - k/n) r_k)                 the same from the correlations r_k up to the first one <= 0

(Wilks 2019, Statistical Methods in the Atmospheric Sciences, 4th ed., chapter 5). The test of Diebold and Mariano 1995
(doi:10.1080/07350015.1995.10524599) of the mean of differences d(t) of scores, for forecasts h steps ahead, with the
correction of Harvey, Leybourne and Newbold 1997 (doi:10.1016/S0169-2070(96)00719-4) for short series:

    S = mean(d) / sqrt((c_0 + 2 sum_k w_k c_k) / n) * sqrt((n + 1 - 2h + h (h - 1) / n) / n)
    c_k = sum_t (d(t) - mean) (d(t - k) - mean) / n,    t distribution with n - 1 degrees of freedom

over k = 1 ... lags, by default h - 1, with the weights w_k = 1 (rectangular: what h - 1 shared steps leave, but it may
be negative and has no test then) or 1 - k / (lags + 1) (Bartlett; Newey and West 1987, doi:10.2307/1913610).

On a map one test in twenty comes out by chance. Cells count that control the false discovery rate (Benjamini and
Hochberg 1995; Wilks 2016, doi:10.1175/BAMS-D-15-00267.1): of p values p_(1) <= ... <= p_(N) those up to the largest
p_(i) <= i / N level. Without any difference the chance of any significant cell on the map is then the level, and about
half of it with fields as smooth as the weather's.

>>> better = difference_map(ridge, bicubic, truth)                     # doctest: +SKIP
>>> better["difference"].where(better["significant"]).plot()           # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from finegrid.conventions import InputError, harmonise, restore
from finegrid.evaluation.alignment import Case, align, only_variable, step_seconds
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.disagreement import CellSums
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded

Mask = NDArray[np.bool_]
Error = Literal["squared", "absolute"]
# Steps longer than this times the usual one are gaps.
_GAP = 1.5


@dataclass(frozen=True, eq=False)
class MeanTest:
    """A test that a mean is zero, in each cell.

    Attributes:
        mean: of the series (...); negative where the first of two methods has the smaller score.
        statistic: S (...); NaN where there is no test.
        p_value: probability of a statistic as large or larger, on either side, when the mean is zero (...).
        times: number of known times (...).
    """

    mean: Array
    statistic: Array
    p_value: Array
    times: Array


def correlations_in_time(series: Array, lags: int) -> Array:
    """Correlations r_1 ... r_lags (lag, ...) of series (time, ...) with themselves, over the pairs that are known."""
    anomaly, _ = _centred(series)
    squares = (anomaly**2).sum(axis=0)
    products = [(anomaly[lag:] * anomaly[:-lag]).sum(axis=0) for lag in range(1, lags + 1)]
    return np.stack([ratio(product, squares) for product in products])


def effective_size(series: Array, *, how: Literal["lag-one", "summed"] = "lag-one") -> Array:
    """How many independent times series (time, ...) are worth, 1 to the number of known times; NaN when constant.

    Args:
        series: values, NaN where missing.
        how: "lag-one" takes them for an autoregression of first order; "summed" sums correlations up to the first one
            that is not positive, or a quarter of the times.

    Raises:
        InputError: on an unknown way, or fewer than three times.
    """
    if how not in ("lag-one", "summed"):
        raise InputError(f'got how={how!r}; expected "lag-one" or "summed"; use effective_size(..., how="lag-one")')
    _check_times(series, 3)
    times = np.isfinite(series).sum(axis=0).astype(np.float64)
    if how == "lag-one":
        one = np.clip(correlations_in_time(series, 1)[0], 0.0, None)
        return np.asarray(np.maximum(times * (1 - one) / (1 + one), 1.0))
    lags = max(1, len(series) // 4)
    found = correlations_in_time(series, lags)
    positive = np.logical_and.accumulate(found > 0, axis=0)
    away = 1 - np.arange(1, lags + 1).reshape(-1, *[1] * times.ndim) / np.maximum(times, 1)
    inflation = 1 + 2 * np.where(positive, away * found, np.where(np.isnan(found), np.nan, 0.0)).sum(axis=0)
    return np.asarray(np.maximum(times / inflation, 1.0))


def diebold_mariano(
    differences: Array,
    *,
    horizon: int = 1,
    lags: int | None = None,
    weights: Literal["rectangular", "bartlett"] = "rectangular",
) -> MeanTest:
    """Whether the mean of differences of scores (time, ...) is zero.

    Args:
        differences: score of the first method minus that of the second at each time; NaN where missing.
        horizon: steps h that the forecasts look ahead; 1 for independent differences.
        lags: correlations that count; by default h - 1. Downscaled days need as many as errors remember.
        weights: of the correlations.

    Raises:
        InputError: on unknown weights, a horizon below one, or lags that the series is too short for.
    """
    if weights not in ("rectangular", "bartlett"):
        raise InputError(
            f'got weights={weights!r}; expected "rectangular" or "bartlett"; use diebold_mariano(..., '
            'weights="bartlett")'
        )
    lags = horizon - 1 if lags is None else lags
    if horizon < 1 or lags < 0:
        raise InputError(
            f"got a horizon of {horizon} and {lags} lags; expected one or more, and none or more; use horizon=1"
        )
    _check_times(differences, max(horizon, lags) + 2)
    anomaly, times = _centred(differences)
    variance = (anomaly**2).sum(axis=0)
    for lag in range(1, lags + 1):
        weight = 1.0 if weights == "rectangular" else 1 - lag / (lags + 1)
        variance += 2 * weight * (anomaly[lag:] * anomaly[:-lag]).sum(axis=0)
    mean = ratio(np.nansum(differences, axis=0), times)
    corrected = np.maximum(times + 1 - 2 * horizon + horizon * (horizon - 1) / np.maximum(times, 1), 0)
    error = np.sqrt(ratio(np.maximum(variance, 0.0), times**2))
    statistic = np.where(variance > 0, ratio(mean, error) * np.sqrt(ratio(corrected, times)), np.nan)
    freedom = np.where(times > 1, times - 1, np.nan)
    return MeanTest(mean, statistic, np.asarray(2 * stats.t.sf(np.abs(statistic), freedom)), times)


def discoveries(p_values: Array, *, level: float = 0.1) -> Mask:
    """Where tests (...) count, all judged together; NaN is no test.

    Args:
        p_values: of the tests.
        level: the false discovery rate, and the chance of any significant one where there is nothing to be found.

    Raises:
        InputError: for a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise InputError(f"got a level of {level}; expected one between 0 and 1; use level=0.1")
    tested = np.isfinite(p_values)
    adjusted = np.ones(p_values.shape)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p_values[tested])
    return np.asarray(tested & (adjusted <= level))


def difference_map(
    first: xr.Dataset,
    second: xr.Dataset,
    truth: xr.Dataset,
    *,
    variable: str | None = None,
    error: Error = "squared",
    level: float = 0.1,
) -> xr.Dataset:
    """Where one prediction is better than another: mean difference of their errors in each cell, tested.

    The test is a t test with the effective size of each cell's differences (`disagreement.CellSums`). Fields are read
    once, in blocks of times. Of members the mean is judged.

    Args:
        first: a prediction in the user's names.
        second: another one, on the same grid.
        truth: fine fields on the same grid.
        variable: its name in the truth; by default the only one.
        error: "squared" or "absolute".
        level: the false discovery rate.

    Returns:
        On the grid of the truth and in its names: `difference`, the error of the first less that of the second
        (negative where the first is better), `p_value` and `significant`; NaN where nothing or too little is known.

    Raises:
        InputError: when fields cannot be compared, or an argument is unknown.
    """
    if error not in ("squared", "absolute"):
        raise InputError(f'got error={error!r}; expected "squared" or "absolute"; use error="squared"')
    standard, names = harmonise(truth, source="truth")
    name = only_variable(standard, variable, source="truth")
    (case,) = align({"first": first, "second": second}, truth, None, variables=[name])
    sums = _summed(case, error)
    units = str(case.truth.attrs.get("units", "")) or "1"
    words = {"units": (f"{units}2" if units.isalpha() else f"({units})2") if error == "squared" else units}
    about = {"long_name": f"difference of {error} errors of {name}"}
    maps = {
        "difference": (("y", "x"), sums.bias, words | about),
        "p_value": (("y", "x"), sums.chance, {"units": "1", "long_name": "probability of a larger one by chance"}),
        "significant": (("y", "x"), discoveries(sums.chance, level=level), {"false_discovery_rate": level}),
    }
    bare = standard.drop_vars([*standard.data_vars, "time", "time_bounds", "member"], errors="ignore")
    return restore(bare.assign(maps), names)


def _summed(case: Case, error: Error) -> CellSums:
    """Sums over time of the difference of errors, and of its products with the one before."""
    rows, columns = case.truth.sizes["y"], case.truth.sizes["x"]
    moments, before = np.zeros((10, rows, columns)), np.full((1, rows, columns), np.nan)
    follows = _follows(case)
    for part, difference in _differences(case, error):
        earlier = np.concatenate([before, difference[:-1]])
        earlier[~follows[part]] = np.nan
        moments += _moments(difference, earlier)
        before = difference[-1:]
    return CellSums.of(moments)


def _differences(case: Case, error: Error) -> Iterator[tuple[slice, Array]]:
    """Error of the first prediction less that of the second (time, y, x), block by block."""
    fields = list(case.predictions.values())
    values_a_time = sum(field[:, 0].size for field in fields)
    for part in parts_of(case.truth.sizes["time"], values_a_time):
        truth = loaded(case.truth, part)
        away = [np.abs(loaded(field, part).mean(axis=0) - truth) for field in fields]
        yield part, away[0] ** 2 - away[1] ** 2 if error == "squared" else away[0] - away[1]


def _follows(case: Case) -> Mask:
    """Whether each time comes one step after the one before (time,)."""
    step = step_seconds(case.truth)
    if step is None:
        return np.zeros(case.truth.sizes["time"], dtype=bool)
    steps = np.asarray(pd.to_timedelta(np.diff(case.truth["time"].values)).total_seconds())
    return np.concatenate([[False], steps <= _GAP * step])


def _moments(difference: Array, earlier: Array) -> Array:
    """Plain sums over times (10, y, x) in the order of `CellSums.of`, those of a coarse field being zero."""
    known, paired = np.isfinite(difference), np.isfinite(difference) & np.isfinite(earlier)
    d, before = np.where(known, difference, 0.0), np.where(paired, earlier, 0.0)
    nothing = np.zeros_like(d)
    later = np.where(paired, d, 0.0)
    rows = (known, nothing, d, nothing, nothing, d**2, paired, later, before, later * before)
    return np.stack([row.sum(axis=0, dtype=np.float64) for row in rows])


def _centred(series: Array) -> tuple[Array, Array]:
    """Series less their means, zero where missing, and the number of known times."""
    known = np.isfinite(series)
    times = known.sum(axis=0).astype(np.float64)
    mean = ratio(np.where(known, series, 0.0).sum(axis=0), times)
    return np.where(known, series - mean, 0.0), times


def _check_times(series: Array, least: int) -> None:
    if len(series) < least:
        raise InputError(
            f"got a series of {len(series)} times; expected at least {least}; give a longer one, or a smaller horizon"
        )
