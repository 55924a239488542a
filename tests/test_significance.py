"""Tests of differences: against the package scores, formulas written out, SciPy, and what chance does on a map."""

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import signal, stats
from scores.stats.statistical_tests import diebold_mariano as theirs
from statsmodels.stats.stattools import durbin_watson

from finegrid.conventions import InputError
from finegrid.evaluation.significance import (
    correlations_in_time,
    diebold_mariano,
    difference_map,
    discoveries,
    effective_size,
)


def autoregressive(shape: tuple[int, ...], correlation: float, seed: int = 0) -> np.ndarray:
    """Series (time, ...) of variance one."""
    noise = np.random.default_rng(seed).normal(size=(shape[0] + 200, *shape[1:]))
    return signal.lfilter([np.sqrt(1 - correlation**2)], [1, -correlation], noise, axis=0)[200:]


# --- series ----------------------------------------------------------------------------------------------------


def test_correlations_in_time_are_those_summed_by_hand():
    values = autoregressive((60, 2), 0.5)
    values[7, 1] = np.nan
    found = correlations_in_time(values, 3)
    for column in range(2):
        series = values[:, column]
        anomaly = series - np.nanmean(series)
        for lag in (1, 2, 3):
            products = [anomaly[t] * anomaly[t - lag] for t in range(lag, 60)]
            assert found[lag - 1, column] == pytest.approx(np.nansum(products) / np.nansum(anomaly**2))
    whole = values[:, 0] - values[:, 0].mean()
    ends = whole[0] ** 2 + whole[-1] ** 2
    assert found[0, 0] == pytest.approx(1 - durbin_watson(whole) / 2 - ends / (2 * (whole**2).sum()))


@pytest.mark.parametrize("how", ["lag-one", "summed"])
@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.8])
def test_effective_sizes_are_those_of_the_variance_of_the_mean(how, correlation):
    values = autoregressive((1000, 400), correlation)
    found = effective_size(values, how=how)
    assert np.median(found) == pytest.approx(1000 * (1 - correlation) / (1 + correlation), rel=0.1)
    assert (found <= 1000).all() and (found >= 1).all()
    assert 1 / values.mean(axis=0).var() == pytest.approx(np.median(found), rel=0.25)


def test_effective_sizes_are_those_written_out():
    series = autoregressive((80,), 0.6, seed=3)
    anomaly = series - series.mean()
    each = [(anomaly[lag:] * anomaly[: 80 - lag]).sum() / (anomaly**2).sum() for lag in range(1, 21)]
    assert effective_size(series) == pytest.approx(80 * (1 - each[0]) / (1 + each[0]))
    total = 0.0
    for lag, value in enumerate(each, start=1):
        if value <= 0:
            break
        total += (1 - lag / 80) * value
    assert effective_size(series, how="summed") == pytest.approx(80 / (1 + 2 * total))


def test_the_sum_of_correlations_knows_slow_weather_that_the_first_one_does_not():
    values = np.sqrt(0.6) * autoregressive((2000, 50), 0.0) + np.sqrt(0.4) * autoregressive((2000, 50), 0.95, seed=1)
    true = 2000 / (0.6 + 0.4 * 1.95 / 0.05)
    assert np.median(effective_size(values, how="summed")) == pytest.approx(true, rel=0.3)
    assert np.median(effective_size(values)) > 5 * true


@pytest.mark.parametrize("how", ["lag-one", "summed"])
def test_constant_and_short_series_have_no_effective_size(how):
    assert np.isnan(effective_size(np.ones((50, 1)), how=how)).all()
    with pytest.raises(InputError, match="got a series of 2 times"):
        effective_size(np.ones(2), how=how)
    with pytest.raises(InputError, match='expected "lag-one" or "summed"'):
        effective_size(np.ones(9), how="sum")


def written_out(d: list[float], h: int, lags: int, bartlett: bool) -> float:
    """The statistic of Harvey, Leybourne and Newbold with plain sums."""
    n = len(d)
    mean = sum(d) / n
    covariance = [sum((d[t] - mean) * (d[t - k] - mean) for t in range(k, n)) / n for k in range(lags + 1)]
    weights = [1 - k / (lags + 1) if bartlett else 1 for k in range(lags + 1)]
    variance = (covariance[0] + 2 * sum(weights[k] * covariance[k] for k in range(1, lags + 1))) / n
    return mean / variance**0.5 * ((n + 1 - 2 * h + h * (h - 1) / n) / n) ** 0.5


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_diebold_mariano_is_that_of_the_package_scores(horizon):
    values = autoregressive((120, 6), 0.3) + 0.2
    found = diebold_mariano(values, horizon=horizon)
    series = xr.DataArray(values.T, dims=("series", "time"), coords={"h": ("series", np.full(6, horizon))})
    expected = theirs(series, "series", "h", method="HLN", statistic_distribution="t")
    np.testing.assert_allclose(found.statistic, expected["dm_test_stat"], rtol=1e-8)
    np.testing.assert_allclose(found.mean, expected["mean"], rtol=1e-12)
    greater = expected["confidence_gt_0"].values
    np.testing.assert_allclose(found.p_value, 2 * np.minimum(greater, 1 - greater), rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize(
    ("horizon", "lags", "weights"), [(1, 0, "rectangular"), (3, 2, "bartlett"), (1, 6, "bartlett")]
)
def test_diebold_mariano_is_the_formula_written_out(horizon, lags, weights):
    values = autoregressive((70, 3), 0.4, seed=2) + 0.1
    found = diebold_mariano(values, horizon=horizon, lags=lags, weights=weights)
    for column in range(3):
        expected = written_out(values[:, column].tolist(), horizon, lags, weights == "bartlett")
        assert found.statistic[column] == pytest.approx(expected, rel=1e-10)
        assert found.p_value[column] == pytest.approx(2 * stats.t.sf(abs(expected), 69))


def test_diebold_mariano_of_independent_differences_is_the_t_test():
    values = np.random.default_rng(0).normal(0.1, 1, size=(50, 4))
    found, expected = diebold_mariano(values), stats.ttest_1samp(values, 0)
    np.testing.assert_allclose(found.statistic, expected.statistic)
    np.testing.assert_allclose(found.p_value, expected.pvalue)
    values[::7, 0] = np.nan
    found, expected = diebold_mariano(values), stats.ttest_1samp(values, 0, nan_policy="omit")
    np.testing.assert_allclose(found.p_value, expected.pvalue)
    assert found.times.tolist() == [42, 50, 50, 50]


def test_a_variance_that_is_not_positive_has_no_test():
    swinging = np.tile([1.0, -1.0], 20)[:, None] + 0.5
    assert np.isnan(diebold_mariano(swinging, horizon=2).statistic).all()
    assert np.isfinite(diebold_mariano(swinging, horizon=2, weights="bartlett").statistic).all()
    assert np.isnan(diebold_mariano(np.ones((20, 1))).p_value).all()


def test_diebold_mariano_refuses_in_words():
    with pytest.raises(InputError, match='expected "rectangular" or "bartlett"'):
        diebold_mariano(np.ones(20), weights="parzen")
    with pytest.raises(InputError, match="got a horizon of 0"):
        diebold_mariano(np.ones(20), horizon=0)
    with pytest.raises(InputError, match="got a series of 6 times; expected at least 9"):
        diebold_mariano(np.ones(6), horizon=7)


# --- many tests at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.05, 0.1, 0.3])
def test_discoveries_are_those_of_scipy_and_of_the_rule_written_out(level):
    random = np.random.default_rng(0)
    p_values = np.concatenate([random.uniform(size=60), random.uniform(size=20) * 1e-2])
    found = discoveries(p_values, level=level)
    np.testing.assert_array_equal(found, stats.false_discovery_control(p_values) <= level)
    ranked = sorted(p_values)
    kept = [p for rank, p in enumerate(ranked, start=1) if p <= rank / 80 * level]
    np.testing.assert_array_equal(found, p_values <= max(kept, default=-1.0))


def test_what_was_not_tested_is_no_discovery_and_does_not_count():
    p_values = np.array([[1e-3, np.nan], [0.06, 0.9]])
    assert discoveries(p_values, level=0.1).tolist() == [[True, False], [True, False]]
    assert not discoveries(np.full(3, np.nan)).any()
    with pytest.raises(InputError, match="got a level of 5"):
        discoveries(p_values, level=5)


# --- maps ------------------------------------------------------------------------------------------------------

ROWS, COLUMNS = 10, 20


def placed(values: np.ndarray, *, units: str = "K", name: str = "t2m") -> xr.Dataset:
    """Fields (time, lat, lon) with latitudes from north to south, or with members."""
    dims = ("realization", "time", "lat", "lon")[-values.ndim :]
    return xr.Dataset(
        {name: (dims, values, {"units": units})},
        coords={
            "time": pd.date_range("2001-01-01", periods=values.shape[-3]),
            "lat": ("lat", 50 - 0.5 * np.arange(values.shape[-2]), {"units": "degrees_north"}),
            "lon": ("lon", 5 + 0.5 * np.arange(values.shape[-1]), {"units": "degrees_east"}),
        },
    )


def three(seed: int, times: int = 200, correlation: float = 0.5, worse: float = 1.0) -> tuple[np.ndarray, ...]:
    truth, *errors = (autoregressive((times, ROWS, COLUMNS), correlation, 3 * seed + each) for each in range(3))
    return truth + errors[0], truth + worse * errors[1], truth


def test_a_map_has_the_mean_difference_in_the_users_names():
    first, second, truth = three(0)
    found = difference_map(placed(first), placed(second), placed(truth))
    expected = ((first - truth) ** 2 - (second - truth) ** 2).mean(axis=0)
    np.testing.assert_allclose(found["difference"], expected, rtol=1e-3, atol=1e-4)
    assert found["difference"].dims == ("lat", "lon") and found["difference"].attrs["units"] == "K2"
    assert found["significant"].dtype == bool and set(found.data_vars) == {"difference", "p_value", "significant"}
    assert found["lat"].values[0] == 50
    absolute = difference_map(placed(first), placed(second), placed(truth), error="absolute")
    expected = (np.abs(first - truth) - np.abs(second - truth)).mean(axis=0)
    np.testing.assert_allclose(absolute["difference"], expected, rtol=1e-3, atol=1e-4)
    assert absolute["difference"].attrs["units"] == "K"


def test_p_values_are_those_of_a_t_test_with_the_effective_size():
    first, second, truth = three(1, times=800)
    found = difference_map(placed(first), placed(second), placed(truth))
    d = (first - truth) ** 2 - (second - truth) ** 2
    one = (800 * correlations_in_time(d, 1)[0] + 1) / 797
    freedom = 800 * (1 - np.clip(one, 0, None)) / (1 + np.clip(one, 0, None)) - 1
    expected = 2 * stats.t.sf(np.abs(d.mean(axis=0)) / (d.std(axis=0) / np.sqrt(freedom)), freedom)
    np.testing.assert_allclose(found["p_value"], expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("error", ["squared", "absolute"])
def test_where_nothing_is_different_a_map_cries_wolf_as_rarely_as_promised(error):
    """160 maps of 200 independent cells, one map a row; the share with any significant cell is near the level."""
    first, second = (autoregressive((200, 160, 200), 0.5, seed) for seed in (1, 2))
    given = placed(first), placed(second), placed(np.zeros(first.shape))
    chances = difference_map(*given, error=error)["p_value"].values
    for level in (0.1, 0.2):
        alarms = np.mean([discoveries(row, level=level).any() for row in chances])
        assert alarms == pytest.approx(level, abs=0.05)
    assert (chances < 0.05).mean() == pytest.approx(0.05, abs=0.01)


def test_planted_differences_are_found():
    first, second, truth = three(2, times=400)
    second[:, :5] = truth[:, :5] + 1.6 * (second - truth)[:, :5]  # the north is worse
    found = difference_map(placed(first), placed(second), placed(truth))
    assert float(found["significant"][:5].mean()) > 0.95
    assert float(found["significant"][5:].mean()) < 0.1
    assert (found["difference"].where(found["significant"])[:5].max() < 0) and (found["p_value"][:5].max() < 0.2)


def test_lazy_fields_in_small_blocks_give_the_same_map(monkeypatch):
    first, second, truth = three(3)
    expected = difference_map(*map(placed, (first, second, truth)))
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", ROWS * COLUMNS * 14)
    lazy = [placed(each).map(lambda field: field.copy(data=dask.array.from_array(field.values, chunks=(9, 10, 20))))
            for each in (first, second, truth)]  # fmt: skip
    xr.testing.assert_allclose(difference_map(*lazy), expected, rtol=1e-9)


def test_gaps_and_cells_without_truth_are_left_out():
    first, second, truth = three(4, times=300)
    truth[:, 0, 0] = np.nan
    truth[:295, 0, 1] = np.nan
    truth[10:20, 1, 1] = np.nan
    found = difference_map(*map(placed, (first, second, truth)))
    assert np.isnan(found["p_value"].values[0, :2]).all() and not found["significant"].values[0, :2].any()
    assert np.isnan(found["difference"].values[0, 0])
    winters = placed(first)["time"].dt.month.isin([1, 2, 12])
    apart = difference_map(*(placed(each).sel(time=winters) for each in (first, second, truth)))
    assert np.isfinite(apart["p_value"].values[1:]).all()


def test_days_on_both_sides_of_a_gap_do_not_resemble_each_other():
    """Three days a week, the last of which is like the first of the next: within a week there is no memory."""
    random, weeks = np.random.default_rng(0), 200
    fresh = random.normal(size=(weeks, 3, ROWS, COLUMNS))
    fresh[1:, 0] = fresh[:-1, 2]
    errors = fresh.reshape(-1, ROWS, COLUMNS)
    time = [day + pd.Timedelta(weeks=week) for week in range(weeks) for day in pd.date_range("2001-01-01", periods=3)]
    given = [placed(each).assign_coords(time=time) for each in (errors, 0 * errors, 0 * errors)]
    found = difference_map(*given)["p_value"]
    d = errors**2 - (errors**2).mean(axis=0)
    within = np.delete(d[1:] * d[:-1], np.arange(2, 3 * weeks - 1, 3), axis=0)
    one = np.clip((600 * within.mean(axis=0) / (d**2).mean(axis=0) + 1) / 597, 0, None)
    freedom = 600 * (1 - one) / (1 + one) - 1
    error = d.std(axis=0) / np.sqrt(freedom)
    distance = stats.t.isf(found / 2, freedom)
    far = found.values > 1e-200
    np.testing.assert_allclose(distance[far], ((errors**2).mean(axis=0) / error)[far], rtol=0.01)
    assert far.any()


def test_of_members_the_mean_is_judged():
    first, second, truth = three(5)
    members = np.stack([first + 1, first - 1])
    found = difference_map(placed(members), placed(second), placed(truth))
    expected = difference_map(placed(first), placed(second), placed(truth))
    np.testing.assert_allclose(found["difference"], expected["difference"], rtol=1e-3, atol=1e-5)


def test_maps_refuse_in_words():
    first, second, truth = map(placed, three(6))
    both = truth.assign(pr=truth["t2m"])
    with pytest.raises(InputError, match="got truth with t2m, pr; expected one variable; say which"):
        difference_map(first, second, both)
    with pytest.raises(InputError, match='expected "squared" or "absolute"'):
        difference_map(first, second, truth, error="cubed")
    with pytest.raises(InputError, match="expected the grid of the truth"):
        difference_map(first.isel(lon=slice(5)), second, truth)
