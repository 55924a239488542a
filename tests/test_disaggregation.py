"""Spatial disaggregation: hand-computed cases, planted truths, what holds always, and data that cannot be had."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data import samples
from finegrid.data.coarsen import coarsen
from finegrid.downscalers import (
    Bcsd,
    ClimatologyRatio,
    Delta,
    LapseRate,
    MeanMap,
    NeuralDownscaler,
    base,
    load,
    method,
)
from finegrid.downscalers.disaggregation.climatology import Climatology, at
from finegrid.downscalers.disaggregation.quantiles import QuantileMap, quantiles_of
from finegrid.downscalers.disaggregation.seasons import Seasons
from finegrid.training import Settings

TEMPERATURE = {"units": "K", "standard_name": "air_temperature"}
RAIN = {"units": "mm/day", "standard_name": "lwe_precipitation_rate"}


def dataset(values: np.ndarray, time: np.ndarray | xr.DataArray, name: str, attributes: dict, step: float = 0.5):
    """Fields (time, y, x) on a grid of `step` degrees that starts at the same corner whatever the step."""
    rows, columns = values.shape[1:]
    lat = ("lat", 40.0 + step * (np.arange(rows) + 0.5), {"units": "degrees_north"})
    lon = ("lon", 5.0 + step * (np.arange(columns) + 0.5), {"units": "degrees_east"})
    field = (("time", "lat", "lon"), np.asarray(values, dtype=np.float32), attributes)
    return xr.Dataset({name: field}, coords={"time": ("time", np.asarray(time)), "lat": lat, "lon": lon})


def days(start: str, count: int) -> np.ndarray:
    return np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(1, "D")


def even(series: list[float], time: np.ndarray, name: str, attributes: dict, pattern=None) -> xr.Dataset:
    """The same value in all cells at each time: coarse 2 x 2, or fine 4 x 4 with a pattern (4, 4) of amounts to add."""
    if pattern is None:
        return dataset(np.array(series)[:, None, None] * np.ones((1, 2, 2)), time, name, attributes, step=1.0)
    return dataset(np.array(series)[:, None, None] + pattern, time, name, attributes)


@pytest.fixture(scope="module")
def weather() -> xr.Dataset:
    """Three years of daily temperature and rain, 8 x 12 fine cells, with a season, relief and dry days."""
    random = np.random.default_rng(3)
    time = days("2001-01-01", 1095)
    phase = 2 * np.pi * np.arange(1095)[:, None, None] / 365.25
    noise = random.normal(size=(1095, 1, 1)) + 0.5 * random.normal(size=(1095, 8, 12))
    relief = random.normal(size=(8, 12))
    warm = dataset(
        283 - 8 * np.cos(phase) + 2 * noise - 3 * relief * (1 + 0.3 * np.sin(phase)), time, "tas", TEMPERATURE
    )
    wet = dataset(np.maximum(4 * noise + 2 * relief - 3 * np.cos(phase), 0), time, "pr", RAIN)
    return warm.merge(wet)


def values(fitted, coarse: xr.Dataset, name: str, member: int = 0, **options) -> np.ndarray:
    return fitted.predict(coarse, **options)[name].isel(member=member).values.astype(np.float64)


# Numbers by hand -------------------------------------------------------------------------------------------------


def test_delta_is_the_fine_climatology_plus_the_coarse_anomaly():
    time, pattern = days("2001-01-01", 4), np.zeros((4, 4))
    pattern[0, 0] = 2.0
    coarse = even([280, 282, 284, 286], time, "tas", TEMPERATURE)  # mean 283
    fine = even([281, 281, 285, 285], time, "tas", TEMPERATURE, pattern)  # mean 283, 285 in the corner
    new = even([290.5], days("2002-01-15", 1), "tas", TEMPERATURE)  # 7.5 above the mean
    found = values(Delta().fit(coarse, fine), new, "tas")[0]
    assert found[0, 0] == pytest.approx(292.5, abs=1e-4)
    assert found[2, 3] == pytest.approx(290.5, abs=1e-4)


def test_delta_of_rain_is_the_fine_climatology_times_the_coarse_ratio():
    time, pattern = days("2001-01-01", 4), np.zeros((4, 4))
    pattern[0, 0] = 3.0
    coarse = even([0, 2, 4, 2], time, "pr", RAIN)  # mean 2
    fine = even([0, 2, 2, 0], time, "pr", RAIN, pattern)  # mean 1, 4 in the corner
    new = even([5.0], days("2002-01-15", 1), "pr", RAIN)  # 2.5 times the mean
    found = values(Delta().fit(coarse, fine), new, "pr")[0]
    assert found[0, 0] == pytest.approx(10.0, rel=1e-6)
    assert found[3, 1] == pytest.approx(2.5, rel=1e-6)
    # By shifts: 1 + 3 and 4 + 3.
    shifted = values(Delta(kind="additive").fit(coarse, fine), new, "pr")[0]
    assert (shifted[0, 0], shifted[3, 1]) == (pytest.approx(7.0), pytest.approx(4.0))


def test_climatology_ratio_is_the_interpolated_rain_times_the_ratio_of_the_climates():
    time = days("2001-01-01", 4)
    coarse = dataset(np.array([[[1.0, 3.0]] * 2]) * np.array([0, 1, 2, 1])[:, None, None], time, "pr", RAIN, step=1.0)
    fine = dataset(np.full((4, 4, 4), 6.0) * np.array([0, 1, 0, 0])[:, None, None], time, "pr", RAIN)
    new = dataset(np.array([[[2.0, 4.0]] * 2]), days("2002-01-15", 1), "pr", RAIN, step=1.0)
    # Fine centres lie at -1/4, 1/4, 3/4, 5/4 between the coarse ones; beyond the outer ones the edge is repeated.
    # Climatologies: coarse (1, 3), interpolated 1, 1.5, 2.5, 3; fine 1.5. New rain, interpolated: 2, 2.5, 3.5, 4.
    found = values(ClimatologyRatio(interpolation="bilinear").fit(coarse, fine), new, "pr")[0]
    np.testing.assert_allclose(found, [[3.0, 2.5, 2.1, 2.0]] * 4, rtol=1e-6)


def test_daily_bcsd_maps_quantiles_and_disaggregates_the_anomaly():
    time, pattern = days("2001-01-01", 5), np.zeros((4, 4))
    pattern[:2, :2] = [[3.0, -1.0], [-1.0, -1.0]]  # mean 0 over the coarse cell, by equal areas
    coarse = even([270, 272, 274, 276, 278], time, "tas", TEMPERATURE)
    fine = even([284, 280, 281, 290, 282], time, "tas", TEMPERATURE, pattern)
    # Sorted: 270 272 274 276 278 goes to 280 281 282 284 290, whose mean is 283.4.
    new = even([272, 275, 279, 268], days("2002-01-10", 4), "tas", TEMPERATURE)
    # 272 -> 281; 275 -> 283; 279 -> 290 + 1 (constant difference of 12); 268 -> 280 - 2 (constant difference of 10).
    fitted = Bcsd().fit(coarse, fine)
    found = values(fitted, new, "tas")
    # Areas of rows differ by 0.4 %, the mean over the block by as much of 3 K.
    np.testing.assert_allclose(found[:, 3, 3], [281, 283, 291, 278], atol=1e-4)
    np.testing.assert_allclose(found[:, 0, 0], [284, 286, 294, 281], atol=0.02)
    (words,) = fitted.notes_on(new)
    assert "8 of 16 coarse values of tas lie beyond the training quantiles" in words


def test_daily_bcsd_of_rain_keeps_dry_days_and_scales_beyond_the_quantiles():
    time, none = days("2001-01-01", 5), np.zeros((4, 4))
    coarse = even([0, 0, 1, 2, 4], time, "pr", RAIN)
    fine = even([0, 6, 0, 3, 1], time, "pr", RAIN, none)  # sorted 0 0 1 3 6
    new = even([0, 1.5, 8, 3], days("2002-01-10", 4), "pr", RAIN)
    # 0 -> 0; 1.5 -> 2; 8 -> 8 * 6 / 4; 3 -> 4.5
    found = values(Bcsd().fit(coarse, fine), new, "pr")
    np.testing.assert_allclose(found[:, 1, 2], [0, 2, 12, 4.5], rtol=1e-6)


def test_monthly_bcsd_shifts_the_days_of_a_drawn_month_to_the_mapped_monthly_mean():
    time = np.concatenate([days(f"{year}-01-01", 31) for year in (2001, 2002, 2003)])
    wave = np.tile(np.linspace(-3, 3, 31), 3)
    coarse = even((np.repeat([270, 272, 276], 31) + wave).tolist(), time, "tas", TEMPERATURE)
    inner = np.tile(np.linspace(5, -5, 31), 3)  # the fine days run the other way
    fine = even((np.repeat([280, 281, 285], 31) + inner).tolist(), time, "tas", TEMPERATURE, np.zeros((4, 4)))
    new = even((274 + np.linspace(-1, 1, 31)).tolist(), days("2010-01-01", 31), "tas", TEMPERATURE)
    fitted = Bcsd(period="month").fit(coarse, fine)
    # A month of 274 K lies half way between 272 and 276, which go to 281 and 285.
    np.testing.assert_allclose(values(fitted, new, "tas")[:, 2, 1], 283 + np.linspace(5, -5, 31), atol=1e-3)


def test_lapse_rate_adds_the_rate_times_the_height_above_the_coarse_mean():
    time, pattern = days("2001-01-01", 4), np.zeros((4, 4))
    coarse = even([280, 281, 282, 283], time, "tas", TEMPERATURE)
    fine = even([280, 281, 282, 283], time, "tas", TEMPERATURE, pattern)
    height = dataset(np.tile([[0.0, 2000.0], [0.0, 2000.0]], (2, 2))[None], time[:1], "orog", {"units": "m"})
    fitted = LapseRate(rate=-6.0).fit(coarse, fine, static=height.isel(time=0, drop=True))
    # 1 km above and below the mean of every coarse cell.
    np.testing.assert_allclose(values(fitted, coarse, "tas")[1], [[287, 275, 287, 275]] * 4, atol=1e-3)
    assert fitted.info()["lapse rate (K/km)"] == {"tas": -6.0}
    for each in (coarse, fine):
        each.tas.attrs["units"] = "degF"
    fitted = LapseRate(rate=-6.0).fit(coarse, fine, static=height.isel(time=0, drop=True))
    np.testing.assert_allclose(values(fitted, coarse, "tas")[1], [[291.8, 270.2, 291.8, 270.2]] * 4, atol=1e-3)


# What holds always ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tas", "pr"])
@pytest.mark.parametrize("by", ["month", "season", "all"])
def test_delta_reproduces_the_fine_climatology_of_the_training_period(name, by, weather):
    fine = weather[[name]]
    coarse = coarsen(fine, 4)
    found = Delta(by=by, cap=1e6).fit(coarse, fine).predict(coarse)[name].isel(member=0).astype(np.float64)
    groups = {"month": "time.month", "season": "time.season"}
    means = [
        each.groupby(groups[by]).mean() if by in groups else each.mean("time")
        for each in (found, fine[name].astype(np.float64))
    ]
    np.testing.assert_allclose(*means, rtol=2e-4 if name == "pr" else 1e-7)


def test_delta_reproduces_the_fine_mean_also_of_cells_with_gaps(weather):
    fine = weather.copy(deep=True)
    fine.tas[:400, 2, 3] = np.nan
    fine.pr[500:, 2, 3] = np.nan
    fine.tas[:, 5, 5] = np.nan
    fine.pr[:, 5, 5] = np.nan
    coarse = coarsen(weather, 4)
    found = Delta(by="all", cap=1e6).fit(coarse, fine).predict(coarse).isel(member=0)
    for name in ("tas", "pr"):
        known = fine[name].notnull()
        means = [each[name].where(known).mean("time") for each in (found, fine)]
        np.testing.assert_allclose(*means, rtol=1e-5)
    assert found.tas[:, 5, 5].isnull().all()
    assert found.tas.notnull().all("time").sum() == 95


def test_a_cell_without_truth_in_some_month_has_the_climatology_of_all_its_times(weather):
    fine, januaries = weather.copy(deep=True), (weather["time.month"] == 1).values
    fine.tas[januaries, 2, 3] = np.nan
    fine.tas[januaries, 4:, 8:] = np.nan  # all of a coarse cell
    coarse = coarsen(weather, 4)
    for each in (Delta(), Bcsd()):
        found = values(each.fit(coarse, fine), coarse, "tas")[januaries]
        assert np.abs(found - weather.tas.values[januaries]).max() < 12
    time = january(31).values
    time = xr.DataArray(np.concatenate([time, time + np.timedelta64(31, "D")]), dims="time", name="time")
    given = torch.arange(62, dtype=torch.float64)[:, None, None, None].clone()
    given[:31] = torch.nan
    fitted = QuantileMap.of(time, given, given + 5, quantiles=101, ratio=torch.tensor([False]), cap=10.0)
    np.testing.assert_allclose(mapped(fitted, [40.5]), [45.5], rtol=1e-6)


def test_coarse_cells_at_sea_help_to_interpolate_anomalies(weather):
    coarse, fine = coarsen(weather, 4)[["tas"]], weather[["tas"]].copy(deep=True)
    fine.tas[:, :4, :4] = np.nan
    warmer = coarse.copy(deep=True)
    warmer.tas[:, 0, 0] += 4
    for each in (Delta(), Bcsd()):
        fitted = each.fit(coarse, fine)
        rise = values(fitted, warmer, "tas") - values(fitted, coarse, "tas")
        assert rise[:, 0, 4].min() > 0.5  # beside the sea
        np.testing.assert_allclose(rise[:, 0, 11], 0, atol=1e-4)


def test_bicubic_delta_of_all_times_is_the_mean_map(weather):
    fine = weather[["tas"]]
    coarse = coarsen(fine, 4)
    found = values(Delta(by="all").fit(coarse, fine), coarse, "tas")
    np.testing.assert_allclose(found, values(MeanMap().fit(coarse, fine), coarse, "tas"), atol=1e-4)


@pytest.mark.parametrize("name", ["delta", "bcsd", "climatology-ratio"])
def test_a_trend_of_the_coarse_field_is_kept(name, weather):
    coarse = coarsen(weather, 4)
    if name != "climatology-ratio":
        fitted = method(name).fit(coarse[["tas"]], weather[["tas"]])
        warmer, warmest = (
            coarse[["tas"]].assign(tas=(coarse.tas + np.float32(more)).assign_attrs(TEMPERATURE)) for more in (40, 44)
        )
        rise = values(fitted, warmest, "tas") - values(fitted, warmer, "tas")
        np.testing.assert_allclose(rise, 4.0, atol=2e-4)  # beyond all quantiles
    fitted = method(name).fit(coarse[["pr"]], weather[["pr"]])
    wetter, wettest = (
        coarse[["pr"]].assign(pr=(coarse.pr * np.float32(times)).assign_attrs(RAIN)) for times in (50, 75)
    )
    np.testing.assert_allclose(values(fitted, wettest, "pr"), 1.5 * values(fitted, wetter, "pr"), rtol=1e-4)


def test_bcsd_of_perfect_coarse_fields_is_the_delta_method(weather):
    coarse = coarsen(weather, 4)
    for name in ("tas", "pr"):
        found, expected = (
            values(each.fit(coarse[[name]], weather[[name]]), coarse[[name]], name) for each in (Bcsd(), Delta())
        )
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_bcsd_removes_a_bias_and_delta_too(weather):
    coarse = coarsen(weather[["tas"]], 4)
    biased = coarse.assign(tas=(0.5 * (coarse.tas - 283) + 270).assign_attrs(TEMPERATURE))
    found = values(Bcsd().fit(biased, weather[["tas"]]), biased, "tas")
    expected = values(Delta().fit(coarse, weather[["tas"]]), coarse, "tas")
    np.testing.assert_allclose(found, expected, atol=2e-2)
    # The delta method removes the mean bias and leaves the damped variability.
    kept = values(Delta().fit(biased, weather[["tas"]]), biased, "tas")
    np.testing.assert_allclose(kept.mean(), expected.mean(), atol=1e-3)
    assert kept.std() < 0.97 * expected.std()


@pytest.mark.parametrize("name", ["delta", "bcsd", "climatology-ratio"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@hypothesis.given(seed=st.integers(0, 1000), by=st.sampled_from(["month", "season", "day-of-year", "all"]))
@hypothesis.settings(max_examples=6)
def test_ratios_are_never_negative_nor_above_their_cap(name, interpolation, seed, by):
    random = np.random.default_rng(seed)
    rain = np.maximum(random.gamma(0.3, 5, size=(90, 8, 8)) - random.gamma(1, 3, size=(90, 1, 1)), 0)
    rain[random.random(90) < 0.3] = 0
    fine = dataset(rain - 1e-7, days("2001-02-01", 90), "pr", RAIN)  # packed integers
    coarse = coarsen(fine, 4)
    new = coarse.isel(time=slice(10, 40)) * np.float32(random.choice([0.1, 1.0, 30.0]))
    new.pr.attrs = coarse.pr.attrs
    options = {"interpolation": interpolation, "by": by, "cap": 3.0}
    fitted = method(name, constraint="none", **options).fit(coarse, fine)
    found = values(fitted, new, "pr")
    assert np.isfinite(found).all()
    assert found.min() >= 0
    if interpolation == "bilinear" and name != "bcsd":
        assert found.max() <= 3.0 * new.pr.max() * (1 + 1e-6)


def test_humidity_does_not_exceed_saturation(weather):
    about = {"units": "%", "standard_name": "relative_humidity"}
    fine = (60 + 4 * weather.pr).clip(0, 100).assign_attrs(about).to_dataset(name="hurs")
    coarse = coarsen(fine, 4)
    for each in ("delta", "bcsd", "climatology-ratio"):
        found = values(method(each, constraint="none").fit(coarse, fine), coarse, "hurs")
        assert found.min() >= 0
        assert found.max() <= 100


@pytest.mark.parametrize("name", ["delta", "bcsd", "climatology-ratio"])
@pytest.mark.parametrize("constraint", ["add", "multiplicative"])
def test_constraints_restore_the_coarse_means(name, constraint, weather):
    coarse = coarsen(weather[["pr"]], 4)
    fitted = method(f"{name}+{constraint}").fit(coarse, weather[["pr"]])
    again = coarsen(fitted.predict(coarse).isel(member=0)[["pr"]], 4)
    np.testing.assert_allclose(again.pr, coarse.pr, atol=1e-5)


def test_degrees_celsius_and_kelvin_give_the_same(weather):
    kelvin = weather[["tas"]].isel(time=slice(365))
    celsius = kelvin.assign(tas=(kelvin.tas - np.float32(273.15)).assign_attrs(TEMPERATURE | {"units": "degC"}))
    height = relief(kelvin)
    for each in (Delta(), Bcsd(), LapseRate(), LapseRate(rate="seasonal")):
        found = [values(each.fit(coarsen(f, 4), f, static=height), coarsen(f, 4), "tas") for f in (kelvin, celsius)]
        np.testing.assert_allclose(found[0], found[1] + 273.15, atol=2e-3)


def test_cells_that_do_not_nest_and_missing_cells_stay_apart(weather):
    weather = weather.isel(time=slice(365))
    coarse = dataset(np.zeros((365, 3, 4)), weather.time, "tas", TEMPERATURE, step=1.5)
    # 8 rows of half a degree are not made of cells of 1.5 degrees.
    padded = np.pad(weather.tas.values, ((0, 0), (0, 1), (0, 0)), mode="edge")
    coarse["tas"].values[:] = padded.reshape(365, 3, 3, 4, 3).mean((2, 4))
    masked = weather[["tas"]].copy(deep=True)
    masked.tas[:, :2, :2] = np.nan
    gappy = coarse.copy(deep=True)
    gappy.tas[4, 1, 2] = np.nan
    for each in (Delta(), Bcsd(), LapseRate()):
        fitted = each.fit(coarse, masked, static=relief(weather))
        whole, found = values(fitted, coarse, "tas"), values(fitted, gappy, "tas")
        assert np.isnan(whole[:, :2, :2]).all()
        assert np.isfinite(whole[:, 2:]).all()
        kept = np.isfinite(found)
        assert 0 < (~kept)[4].sum() - 4 <= 16
        np.testing.assert_array_equal(found[5:], whole[5:])
        assert np.abs(found - whole)[kept].max() < 8


# Planted truths ---------------------------------------------------------------------------------------------------


def relief(fine: xr.Dataset, seed: int = 5) -> xr.Dataset:
    """An elevation (lat, lon) in metres on the cells of fine fields."""
    height = 800 * np.random.default_rng(seed).random((fine.sizes["lat"], fine.sizes["lon"]))
    field = (("lat", "lon"), height, {"units": "m", "standard_name": "surface_altitude"})
    return xr.Dataset({"orog": field}, coords={"lat": fine.lat, "lon": fine.lon})


def planted(rates: np.ndarray, *, time: np.ndarray, noise: float = 0.0) -> tuple[xr.Dataset, xr.Dataset]:
    """Fine temperature that follows the elevation by a rate (K/km) at every time, and the elevation."""
    fine = dataset(np.zeros((len(time), 8, 12)), time, "tas", TEMPERATURE)
    height = relief(fine)
    random = np.random.default_rng(0)
    level = 283 + random.normal(size=(len(time), 1, 1)) + noise * random.normal(size=(len(time), 8, 12))
    fine.tas.values[:] = level + np.broadcast_to(rates, len(time))[:, None, None] * height.orog.values / 1000
    return fine, height


@pytest.mark.parametrize("units", ["K", "degC", "degF"])
def test_a_planted_lapse_rate_is_found_to_one_percent(units):
    fine, height = planted(np.array(-5.3), time=days("2001-01-01", 120), noise=0.2)
    if units != "K":
        scale, offset = (1.0, -273.15) if units == "degC" else (1.8, -459.67)
        fine["tas"] = (fine.tas * scale + offset).astype(np.float32).assign_attrs(TEMPERATURE | {"units": units})
    fitted = LapseRate(rate="regressed").fit(coarsen(fine, 4), fine, static=height)
    assert fitted.info()["lapse rate (K/km)"]["tas"] == pytest.approx(-5.3, rel=0.01)


def test_a_planted_lapse_rate_is_found_in_spite_of_a_bias_and_of_missing_cells():
    fine, height = planted(np.array(-5.3), time=days("2001-01-01", 60))
    fine.tas[:, 3:, 7:] = np.nan
    coarse = coarsen(fine, 4)
    coarse["tas"] = (coarse.tas + np.float32(4)).assign_attrs(TEMPERATURE)
    fine.tas[10:20, :2] = np.nan
    fitted = LapseRate(rate="regressed").fit(coarse, fine, static=height)
    assert fitted.info()["lapse rate (K/km)"]["tas"] == pytest.approx(-5.3, rel=0.01)


@pytest.mark.parametrize("by", ["month", "season", "day-of-year"])
def test_a_planted_annual_cycle_of_the_lapse_rate_is_found(by):
    time = days("2001-01-01", 730)
    truth = -5.5 + 1.5 * np.cos(2 * np.pi * (np.arange(730) % 365) / 365.25)
    fine, height = planted(truth, time=time, noise=0.05)
    coarse = coarsen(fine, 4)
    fitted = LapseRate(rate="seasonal", by=by).fit(coarse, fine, static=height)
    shown = fitted.info()["lapse rate (K/km)"]["tas"]
    if by == "day-of-year":
        assert shown == pytest.approx(truth.mean(), rel=0.01)
        difference = values(fitted, coarse, "tas") - fine.tas.values
        assert np.sqrt((difference**2).mean()) < 0.12
        return
    groups = xr.DataArray(truth, coords={"time": time}).groupby(f"time.{by}").mean()
    expected = groups.sel({by: list(shown)}) if by == "season" else groups
    np.testing.assert_allclose(list(shown.values()), expected, rtol=0.01)


def test_an_annual_cycle_is_recovered_by_waves_and_in_any_calendar():
    for calendar, length in (("standard", 365.25), ("noleap", 365.0), ("360_day", 360.0)):
        time = xr.date_range("2001-01-01", periods=720, calendar=calendar, use_cftime=calendar != "standard")
        time = xr.DataArray(time, dims="time", coords={"time": time})
        truth = 10 + 4 * np.cos(2 * np.pi * (time.dt.dayofyear.values - 1) / length)
        seasons = Seasons.of("day-of-year", time)
        sums = Climatology(seasons, (1, 1, 1))
        sums.add(time, torch.from_numpy(truth)[:, None, None, None])
        found = at(sums.coefficients, seasons, time).flatten()
        np.testing.assert_allclose(found, truth, atol=1e-3)


def test_delta_with_waves_follows_the_fine_climatology(weather):
    fine = weather[["tas"]]
    coarse = coarsen(fine, 4)
    found = values(Delta(by="day-of-year").fit(coarse, fine), coarse, "tas")
    monthly = values(Delta(by="month").fit(coarse, fine), coarse, "tas")
    truth = fine.tas.values
    assert ((found - truth) ** 2).mean() < 1.02 * ((monthly - truth) ** 2).mean()
    np.testing.assert_allclose(found.mean(0), truth.mean(0), atol=1e-2)


# Quantiles --------------------------------------------------------------------------------------------------------


def test_quantiles_are_those_of_numpy_also_with_gaps():
    random = np.random.default_rng(0)
    given = random.normal(size=(50, 2, 3, 4))
    given[random.random(given.shape) < 0.2] = np.nan
    given[:, 0, 1, 1] = np.nan
    found = quantiles_of(torch.from_numpy(given), 21).reshape(2, 3, 4, 21)
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        expected = np.nanquantile(given, np.linspace(0, 1, 21), axis=0)
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), rtol=1e-6)


def fitted_map(given: np.ndarray, wanted: np.ndarray, *, ratio: bool = False, cap: float = 10.0, quantiles: int = 101):
    """A map of one cell; series of one January after the other."""
    time = january(len(given))
    fields = (torch.from_numpy(np.asarray(each, np.float64))[:, None, None, None] for each in (given, wanted))
    return QuantileMap.of(time, *fields, quantiles=quantiles, ratio=torch.tensor([ratio]), cap=cap)


def january(count: int) -> xr.DataArray:
    years = [days(f"{2001 + year}-01-01", min(31, count - 31 * year)) for year in range(-(-count // 31))]
    time = np.concatenate(years)
    return xr.DataArray(time, dims="time", coords={"time": time})


def mapped(fitted: QuantileMap, x: list[float] | np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(np.asarray(x, np.float64))[:, None, None, None]
    return fitted(tensor, january(len(x))).flatten().numpy()


def test_quantile_mapping_gives_the_training_values_the_distribution_of_the_goal():
    random = np.random.default_rng(1)
    given, wanted = random.normal(size=100), random.gamma(2, size=100)
    found = mapped(fitted_map(given, wanted), given.astype(np.float32))
    np.testing.assert_allclose(np.sort(found), np.sort(wanted), rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(given))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantile_mapping_is_that_of_xsdba():
    xsdba = pytest.importorskip("xsdba")
    random = np.random.default_rng(2)
    given, wanted = 280 + random.normal(size=620), 283 + 2 * random.gamma(2, size=620)
    new = np.concatenate([280 + random.normal(size=600), np.linspace(270, 290, 20)])
    time = january(620)
    fields = [
        xr.DataArray(each, dims="time", coords={"time": time.values}, attrs={"units": "K"})
        for each in (wanted, given, new)
    ]
    # Theirs has the quantiles in float32 too, and linear ones between order statistics, constant beyond.
    nodes = np.linspace(0, 1, 51)
    theirs = xsdba.EmpiricalQuantileMapping.train(*fields[:2], nquantiles=nodes, kind="+", group="time")
    expected = theirs.adjust(fields[2], interp="linear", extrapolation="constant")
    found = mapped(fitted_map(given, wanted, quantiles=51), new)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_tied_values_go_to_the_mean_of_theirs_and_dry_ones_to_the_lowest():
    assert mapped(fitted_map([1, 2, 2, 2, 3], [1, 4, 5, 9, 10]), [2.0]) == pytest.approx(6.0)
    assert mapped(fitted_map([0, 0, 0, 2, 3], [0, 1, 2, 4, 6], ratio=True), [0.0]) == pytest.approx(0.0)
    # Between the last dry quantile and the first wet one: half way between 2 and 4.
    assert mapped(fitted_map([0, 0, 0, 2, 3], [0, 1, 2, 4, 6], ratio=True), [1.0]) == pytest.approx(3.0)


def test_a_constant_and_a_dry_cell_have_a_mapping():
    constant = fitted_map([5.0] * 4, [6, 7, 8, 9])
    np.testing.assert_allclose(mapped(constant, [5, 6, 4]), [7.5, 10, 5])
    dry = fitted_map([0.0] * 4, [0, 0, 0, 0], ratio=True)
    np.testing.assert_allclose(mapped(dry, [0, 3]), [0, 3])
    wet = fitted_map([0, 0, 0, 0.001], [0, 0, 5, 9], ratio=True)
    np.testing.assert_allclose(mapped(wet, [1.0]), [10.0])  # capped


def test_missing_values_stay_missing_and_are_not_counted():
    fitted = fitted_map([1, 2, 3, 4], [2, 4, 6, 8])
    np.testing.assert_array_equal(np.isnan(mapped(fitted, [np.nan, 2, 9])), [True, False, False])
    tensor = torch.tensor([np.nan, 2.0, 9.0, -1.0])[:, None, None, None]
    assert fitted.beyond(tensor, january(4)).tolist() == [2]


# Monthly BCSD -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def monthly(weather) -> Bcsd:
    return Bcsd(period="month").fit(coarsen(weather, 4), weather)


def new_days(weather: xr.Dataset, start: str, count: int) -> xr.Dataset:
    """Coarse fields of other days, warmer and wetter."""
    coarse = coarsen(weather, 4).isel(time=slice(0, count)).assign_coords(time=days(start, count))
    changed = coarse.assign(tas=coarse.tas + np.float32(1), pr=coarse.pr * np.float32(1.3))
    for name in ("tas", "pr"):
        changed[name].attrs = coarse[name].attrs
    return changed


def test_the_members_of_monthly_bcsd_share_the_monthly_means_and_differ_in_days(monthly, weather):
    new = new_days(weather, "2011-01-01", 365)
    found = monthly.predict(new, members=3)
    means = found.groupby("time.month").mean()
    for name in ("tas", "pr"):
        np.testing.assert_allclose(means[name][:, 1], means[name][:, 0], rtol=1e-4, atol=1e-4)
        assert abs(found[name][1] - found[name][0]).mean() > 0.1
    assert float(found.pr.min()) >= 0
    # Weather is that of a historical day, shifted: departures from the monthly mean are to be found in the history.
    departures = (found.tas[0] - found.tas[0].groupby("time.month").mean("time").sel(month=found["time.month"])).values
    history = weather.tas.sel(time="2002-01").values
    years = [weather.tas.sel(time=f"{year}-01").values for year in (2001, 2002, 2003)]
    candidates = [year - year.mean(0) for year in years]
    assert min(abs(departures[:31] - each).max() for each in candidates) < 1e-3
    assert history.shape == (31, 8, 12)


def test_monthly_bcsd_repeats_itself_by_seed_and_whatever_else_is_predicted(monthly, weather, monkeypatch, tmp_path):
    new = new_days(weather, "2011-01-01", 200)
    whole = monthly.predict(new, members=2, seed=4)
    xr.testing.assert_identical(whole, monthly.predict(new, members=2, seed=4))
    assert not whole.equals(monthly.predict(new, members=2, seed=5))
    xr.testing.assert_identical(whole.isel(member=[0]), monthly.predict(new, members=1, seed=4))
    monthly.save(tmp_path / "model")
    xr.testing.assert_identical(whole, load(tmp_path / "model").predict(new, members=2, seed=4))
    monkeypatch.setattr(base, "_BLOCK_VALUES", 17 * 2 * 2 * 96)
    blocks = list(monthly.predict_blocks(new, members=2, seed=4))
    assert len(blocks) == 12
    xr.testing.assert_allclose(xr.concat(blocks, "time", data_vars="minimal"), whole, rtol=1e-6, atol=1e-4)


def test_the_29th_of_february_has_a_day_to_stand_for_it(monthly, weather):
    found = monthly.predict(new_days(weather, "2012-02-01", 29))
    assert found.sizes["time"] == 29
    # The years of training have 28 days in February: their last one stands for it once more.
    np.testing.assert_array_equal(found.tas[0, 28], found.tas[0, 27])
    assert (found.tas[0, 27] != found.tas[0, 26]).any()


def test_rain_of_a_month_falls_on_the_days_of_rain_around_where_the_drawn_month_is_dry():
    time = np.concatenate([days(f"{year}-07-01", 31) for year in range(2001, 2005)])
    rain = np.zeros((124, 4, 4))
    rain[::5] = 4.0
    rain[:, 0, 0] = 0.0
    rain[10, 0, 0] = 2.0  # one day in four years
    fine = dataset(rain, time, "pr", RAIN)
    coarse = coarsen(fine, 2)
    new = coarse.isel(time=slice(31)).assign_coords(time=days("2010-07-01", 31))
    fitted = Bcsd(period="month").fit(coarse, fine)
    for seed in range(4):
        found = values(fitted, new, "pr", seed=seed)
        wet = found[:, 1, 1] > 0
        assert 6 <= wet.sum() <= 7
        assert (found[~wet, 0, 0] == 0).all()
        assert found[:, 0, 0].sum() > 0
        assert found.max() < 50


@pytest.mark.parametrize("step", ["hourly", "uneven", "monthly"])
def test_monthly_bcsd_of_other_than_daily_fields_is_refused(step, weather):
    fine = weather.isel(time=slice(0, 200))
    hours = np.datetime64("2001-01-01", "ns") + np.arange(200) * np.timedelta64(1, "h")
    uneven = np.sort(days("2001-01-01", 200) + np.random.default_rng(0).integers(0, 20, 200) * np.timedelta64(1, "h"))
    months = np.array([np.datetime64(f"{2001 + each // 12}-{each % 12 + 1:02d}-15", "ns") for each in range(200)])
    fine = fine.assign_coords(time={"hourly": hours, "uneven": uneven, "monthly": months}[step])
    with pytest.raises(InputError, match=r"period: month got .*expected daily fields.*set period: day"):
        Bcsd(period="month").fit(coarsen(fine, 4), fine)


def test_monthly_bcsd_needs_several_years_and_months_as_in_training(weather):
    year = weather.sel(time="2001")
    with pytest.raises(InputError, match=r"in more than 1 year\(s\); expected at least 3 years.*set period: day"):
        Bcsd(period="month").fit(coarsen(year, 4), year)
    winters = weather.isel(time=weather["time.month"].isin([12, 1, 2]).values)
    fitted = Bcsd(period="month").fit(coarsen(winters, 4), winters)
    fitted.predict(coarsen(winters, 4))
    with pytest.raises(InputError, match="got times in July, of which the training period has no month of 20 days"):
        fitted.predict(coarsen(weather.sel(time="2001-07"), 4))


# What cannot be had -----------------------------------------------------------------------------------------------


def test_months_that_training_has_not_seen_have_the_climatology_of_all_and_are_told(weather):
    winters = weather.isel(time=weather["time.month"].isin([12, 1, 2]).values)
    july = coarsen(weather.sel(time="2002-07"), 4)
    for each in (Delta(), Bcsd()):
        fitted = each.fit(coarsen(winters, 4), winters)
        assert np.isfinite(values(fitted, july, "tas")).all()
        words = fitted.notes_on(july)[0]
        assert words.startswith("31 of 31 times are in Jul, of which the training period has none or few")
        assert fitted.notes_on(coarsen(winters, 4)) == []
    found = values(Delta().fit(coarsen(winters, 4), winters), july, "tas")
    expected = values(MeanMap().fit(coarsen(winters, 4), winters), july, "tas")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_month_of_one_day_is_no_climatology(weather):
    fine = weather.sel(time=slice("2001-01-01", "2001-03-01"))
    assert Seasons.of("month", fine.time).seen == (1, 2)
    assert Seasons.of("season", weather.time).seen == (1, 2, 3, 4)


def test_a_dry_climatology_gives_the_coarse_rain_and_is_told(weather):
    fine = weather[["pr"]].copy(deep=True)
    fine.pr[:, :4, :4] = 0.0
    coarse = coarsen(fine, 4)
    new = coarse.copy(deep=True)
    new.pr[:, 0, 0] = 7.0
    # The interpolated value of the corner is that of the cell only where the interpolation is linear.
    ways = {"delta": {}, "bcsd": {}, "climatology-ratio": {"interpolation": "bilinear"}}
    for name, options in ways.items():
        fitted = method(name, constraint="none", **options).fit(coarse, fine)
        assert values(fitted, new, "pr")[:, 0, 0] == pytest.approx(7.0)
        assert (values(fitted, coarse, "pr")[:, 0, 0] == 0).all()
        (words,) = fitted.info()["notes"]
        assert "dry" in words


def test_an_all_dry_and_a_constant_field_have_a_prediction(weather):
    fine = xr.zeros_like(weather)
    fine["tas"] = (fine.tas + np.float32(280)).assign_attrs(TEMPERATURE)
    for each in (Delta(), Bcsd(), Bcsd(period="month"), ClimatologyRatio(others="interpolate")):
        found = each.fit(coarsen(fine, 4), fine).predict(coarsen(weather, 4))
        assert np.isfinite(found.pr).all()
        assert np.isfinite(found.tas).all()
        assert float(found.pr.min()) >= 0


def test_the_factor_of_a_wet_slope_is_capped_and_told():
    time = days("2001-01-01", 31)
    rain = np.ones((31, 4, 4))
    rain[:, 0, 0] = 100.0
    fine = dataset(rain, time, "pr", RAIN)
    coarse = even([1.0] * 31, time, "pr", RAIN)  # of another run
    fitted = ClimatologyRatio().fit(coarse, fine)
    assert values(fitted, coarse, "pr")[0, 0, 0] == pytest.approx(10.0)
    assert fitted.notes() == ["the factor of 1 fine cells is capped at 10"]
    assert values(Delta(cap=20.0).fit(coarse, fine), coarse, "pr")[0, 0, 0] == pytest.approx(20.0)


def test_ratios_of_what_can_be_negative_are_refused(weather):
    winds = (weather.tas - 283).assign_attrs(units="m s-1", standard_name="eastward_wind").to_dataset(name="u10")
    for name in ("delta", "bcsd"):
        with pytest.raises(InputError, match=r"takes ratios of 'u10', which goes down to -.*kind: additive"):
            method(name, kind="ratio").fit(coarsen(winds, 4), winds)
    with pytest.raises(InputError, match=r"'climatology-ratio' got 'tas', which can be negative.*others: interpolate"):
        ClimatologyRatio().fit(coarsen(weather, 4), weather)


def test_a_lapse_rate_needs_an_elevation_and_a_temperature(weather):
    coarse, warm = coarsen(weather, 4), weather[["tas"]]
    with pytest.raises(InputError, match=r"got no static fields.*--static elevation.nc"):
        LapseRate().fit(coarse, warm)
    land = relief(weather).orog.rename("lsm").assign_attrs(units="1", standard_name="land_area_fraction").to_dataset()
    with pytest.raises(InputError, match=r"needs the elevation of the fine grid.*--static elevation.nc"):
        LapseRate().fit(coarse, warm, static=land)
    with pytest.raises(InputError, match=r"'lapse-rate' got 'pr' with the units 'mm/day'; expected temperatures"):
        LapseRate().fit(coarse, weather, static=relief(weather))
    flat = xr.zeros_like(relief(weather))
    with pytest.raises(InputError, match=r"an elevation that does not differ.*rate: -6.5"):
        LapseRate(rate="regressed").fit(coarse, warm, static=flat)
    bicubic = method("bicubic").fit(coarse, weather).predict(coarse)
    for rate in (-6.5, "regressed"):
        both = LapseRate(rate=rate, others="interpolate").fit(coarse, weather, static=relief(weather))
        assert list(both.info()["lapse rate (K/km)"]) == ["tas"]
        np.testing.assert_allclose(both.predict(coarse).pr, bicubic.pr.clip(min=0), atol=1e-6)


def test_an_elevation_in_kilometres_or_on_other_cells_is_understood(weather):
    coarse, warm, height = coarsen(weather, 4), weather[["tas"]], relief(weather)
    expected = values(LapseRate().fit(coarse, warm, static=height), coarse, "tas")
    kilometres = height.assign(orog=(height.orog / 1000).assign_attrs(height.orog.attrs | {"units": "km"}))
    found = values(LapseRate().fit(coarse, warm, static=kilometres), coarse, "tas")
    np.testing.assert_allclose(found, expected, atol=1e-3)
    half = np.repeat(np.repeat(height.orog.values, 2, 0), 2, 1)[None]
    finer = dataset(half, weather.time[:1], "orog", height.orog.attrs, step=0.25).isel(time=0, drop=True)
    found = values(LapseRate().fit(coarse, warm, static=finer), coarse, "tas")
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_relaxed_constraints_learn_their_strength_with_the_elevation_that_the_fit_had(weather):
    warm = weather[["tas"]].isel(time=slice(120))
    fitted = method("lapse-rate+relaxed").fit(coarsen(warm, 4), warm, static=relief(weather))
    assert np.isfinite(values(fitted, coarsen(warm, 4), "tas")).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Delta(by="week"), "'delta' got by: week; expected one of month, season, day-of-year, all"),
        (lambda: Delta(interpolation="cubic"), "got interpolation: cubic; expected one of bicubic, bilinear"),
        (lambda: Bcsd(period="year"), "'bcsd' got period: year; expected one of day, month"),
        (lambda: Bcsd(quantiles=1), "got quantiles: 1; expected at least 2"),
        (lambda: LapseRate(rate="steep"), "got rate: steep; expected a number in K per km such as -6.5"),
        (lambda: ClimatologyRatio(others="drop"), "got others: drop; expected one of refuse, interpolate"),
    ],
)
def test_a_misspelt_option_lists_what_is_valid(build, words):
    with pytest.raises(InputError, match=words):
        build()


def test_a_network_on_a_lapse_rate_gets_the_elevation_too(weather):
    warm = weather[["tas"]].isel(time=slice(60))
    small = {"name": "resnet", "width": 4, "depth": 1, "embedding": 2}
    settings = Settings(budget=None, steps=2, device="cpu")
    network = NeuralDownscaler(mean={"name": "lapse-rate", "rate": "regressed"}, backbone=small, settings=settings)
    found = values(network.fit(coarsen(warm, 4), warm, static=relief(weather)), coarsen(warm, 4), "tas")
    assert np.isfinite(found).all()


# Real data --------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("name", ["tas", "pr"])
def test_observations_with_the_sea_missing_and_cells_of_another_run(name, data_dir):
    fine = samples.open("eobs-iberia")[[name]].isel(time=slice(0, 500)).load()
    coarse = samples.open("ncep-gauss-iberia")[[name]].load()
    height = samples.open("elevation-europe")
    methods = {"tas": (Delta(), Bcsd(), Bcsd(period="month"), LapseRate()), "pr": (Delta(), Bcsd(), ClimatologyRatio())}
    for each in methods[name]:
        found = each.fit(coarse, fine, static=height).predict(coarse.isel(time=slice(500, 560)))[name].isel(member=0)
        seen = fine[name].notnull().any("time")
        np.testing.assert_array_equal(found.notnull().all("time"), seen)
        np.testing.assert_array_equal(found.notnull().any("time"), seen)
        around = 15 if name == "tas" else 3 * float(fine[name].max())
        assert float(found.max()) < float(fine[name].max()) + around
        assert float(found.min()) >= (float(fine[name].min()) - around if name == "tas" else 0)
