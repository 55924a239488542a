"""Climate change of fine fields: planted changes are found, and what a downscaler keeps of the coarse one is told."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.evaluation import ClimateChange, change, climates

PERIODS = {"historical": "1991/1993", "future": "2083/2085"}
ROWS, COLUMNS = 4, 6


def both_periods() -> pd.DatetimeIndex:
    return pd.date_range("1991-01-01", "1993-12-31").append(pd.date_range("2083-01-01", "2085-12-31"))


def placed(values: np.ndarray, *, name: str = "tas", units: str = "K", time=None) -> xr.Dataset:
    dims = ("realization", "time", "lat", "lon")[-values.ndim :]
    return xr.Dataset(
        {name: (dims, values, {"units": units})},
        coords={
            "time": both_periods() if time is None else time,
            "lat": ("lat", 45.75 - 0.5 * np.arange(values.shape[-2]), {"units": "degrees_north"}),
            "lon": ("lon", 5.25 + 0.5 * np.arange(values.shape[-1]), {"units": "degrees_east"}),
        },
    )


def area(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    lat = 45.75 - 0.5 * np.arange(rows)
    width = np.sin(np.deg2rad(lat + 0.25)) - np.sin(np.deg2rad(lat - 0.25))
    return np.repeat(width[:, None], columns, axis=1)


@pytest.fixture(scope="module")
def weather() -> np.ndarray:
    """The same weather in both periods (time, y, x), with a season."""
    random, half = np.random.default_rng(0), 1096
    season = 10 * np.sin(2 * np.pi * np.arange(half) / 365.25)[:, None, None]
    part = 283 + season + random.normal(size=(half, ROWS, COLUMNS)) + 2 * random.normal(size=(half, 1, 1))
    return np.concatenate([part, part])


def later() -> np.ndarray:
    return (both_periods().year > 2000)[:, None, None]


def test_a_planted_warming_is_the_change_of_mean_and_percentiles(weather):
    pattern = 2 + 0.5 * np.arange(COLUMNS) + np.arange(ROWS)[:, None]
    found = change(placed(weather + pattern * later()), **PERIODS)
    assert isinstance(found, ClimateChange)
    for statistic in ("mean", "p05", "p95"):
        row = found.of("prediction", "tas", statistic)
        assert row.value == pytest.approx(np.average(pattern, weights=area()), rel=1e-4) and row.units == "K"
        np.testing.assert_allclose(found.maps["prediction"][f"tas_{statistic}"], pattern, atol=1e-3)
    away = pattern - np.average(pattern, weights=area())
    spread = np.sqrt(np.average(away**2, weights=area()))
    assert found.of("prediction", "tas", "mean").spread == pytest.approx(spread, rel=1e-3)
    assert found.of("prediction", "tas", "variability").value == pytest.approx(0, abs=1e-3)
    assert found.preservation is None


def test_a_planted_change_of_variability_is_found_about_the_months(weather):
    month = xr.DataArray(both_periods().month)
    normal = pd.DataFrame(weather.reshape(len(weather), -1)).groupby(month.values).transform("mean")
    normal = normal.values.reshape(weather.shape)
    wider = np.where(later(), normal + 1.3 * (weather - normal), weather)
    found = change(placed(wider), **PERIODS)
    row = found.of("prediction", "tas", "variability")
    spread = np.sqrt(((weather - normal)[: len(weather) // 2] ** 2).mean(axis=0))
    assert row.historical == pytest.approx(np.average(spread, weights=area()), rel=1e-4)
    assert row.future == pytest.approx(1.3 * row.historical, rel=1e-4)
    assert found.of("prediction", "tas", "mean").value == pytest.approx(0, abs=1e-3)


def test_percentiles_are_those_of_numpy_in_each_period(weather):
    changed = np.where(later(), 1.1 * weather - 20, weather)
    found = change(placed(changed), **PERIODS)
    half = len(weather) // 2
    for statistic, level in (("p05", 0.05), ("p95", 0.95)):
        expected = np.quantile(changed[half:], level, axis=0) - np.quantile(changed[:half], level, axis=0)
        np.testing.assert_allclose(found.maps["prediction"][f"tas_{statistic}"], expected, atol=1e-3)


def test_changes_of_rain_are_relative_and_have_no_low_percentile(weather):
    rain = np.maximum(weather - 283, 0)
    rain[:, 0, 0] = 0.0
    found = change(placed(rain * np.where(later(), 1.25, 1.0), name="pr", units="kg m-2 s-1"), **PERIODS)
    assert [row.statistic for row in found.rows] == ["mean", "p95", "variability"]
    for row in found.rows:
        assert row.value == pytest.approx(25, rel=1e-4) and row.units == "%"
        assert row.statistic_units == "kg m-2 s-1"
    assert np.isnan(found.maps["prediction"]["pr_mean"].values[0, 0])  # no quotient where it never rains
    assert found.of("prediction", "pr", "mean").spread == pytest.approx(0, abs=1e-3)


def test_of_members_each_has_its_own_statistics(weather):
    random = np.random.default_rng(1)
    members = weather + random.normal(size=(3, *weather.shape)) * np.where(later(), 2.0, 1.0)
    found = change(placed(members), **PERIODS)
    each = [change(placed(member), **PERIODS) for member in members]
    for statistic in climates.STATISTICS:
        expected = np.mean([one.maps["prediction"][f"tas_{statistic}"] for one in each], axis=0)
        np.testing.assert_allclose(found.maps["prediction"][f"tas_{statistic}"], expected, atol=1e-4)


def test_truth_and_coarse_stand_beside_the_prediction_in_its_units(weather):
    warmer = placed(weather + 2.0 * later())
    truth = placed((weather - 273.15 + 3.0 * later())[:, ::2, ::2], units="degC")
    found = change(warmer, truth=truth, coarse=coarsen(warmer, 2), **PERIODS)
    values = [found.of(source, "tas", "mean").value for source in ("prediction", "truth", "coarse")]
    assert values == pytest.approx([2, 3, 2], abs=1e-3)
    assert found.of("truth", "tas", "mean").historical == pytest.approx(283, abs=1)
    assert found.maps["truth"]["tas_mean"].shape == (2, 3) and found.maps["coarse"]["tas_mean"].shape == (2, 3)
    assert found.maps["prediction"]["tas_mean"].dims == ("lat", "lon")
    np.testing.assert_array_equal(found.maps["prediction"]["lat"], warmer["lat"])
    lines = found.table().splitlines()
    assert lines[0] == "| variable | change of | prediction | truth | coarse |"
    assert lines[2].startswith("| tas | mean (K) | 2.00 | 3.00 | 2.00 |") and len(lines) == 6


# --- preservation ----------------------------------------------------------------------------------------------


def test_fields_that_conserve_keep_the_change_of_the_mean(weather):
    pattern = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) / 10
    fine = placed(weather + pattern * later())
    kept = change(fine, coarse=coarsen(fine, 2), **PERIODS).preservation
    row = kept.of("tas", "mean")
    assert row.difference == pytest.approx(0, abs=1e-3) and row.error == pytest.approx(0, abs=1e-3)
    assert (
        row.cells == 6 and row.units == "K" and row.fine == pytest.approx(np.average(pattern, weights=area()), rel=1e-3)
    )
    assert kept.map["tas_mean"].dims == ("lat", "lon") and kept.map["tas_mean"].shape == (2, 3)
    assert abs(kept.of("tas", "variability").coarse) < 0.01


def test_the_mean_of_rain_is_kept_in_the_quotient_of_means(weather):
    """Rain that moves from one fine cell to the next, and not between coarse cells."""
    rain = np.maximum(weather - 283, 0)
    west = np.where(np.arange(COLUMNS) % 2 == 0, 0.5, 1.5)
    moved = np.where(later(), np.repeat(rain.reshape(-1, ROWS, 3, 2).mean(axis=3), 2, axis=2) * west, rain)
    fine = placed(moved, name="pr", units="mm/day")
    found = change(fine, coarse=coarsen(fine, 2), **PERIODS)
    assert np.abs(found.maps["prediction"]["pr_mean"]).min() > 20
    assert found.preservation.of("pr", "mean").error == pytest.approx(0, abs=0.05)


def test_a_change_that_was_altered_is_told_where_and_by_how_much(weather):
    coarse = coarsen(placed(weather + 3.0 * later()), 2)
    taken = np.where(np.arange(COLUMNS) < 2, 1.0, 0.0)
    kept = change(placed(weather + (3.0 - taken) * later()), coarse=coarse, **PERIODS).preservation
    np.testing.assert_allclose(kept.map["tas_mean"], [[-1, 0, 0]] * 2, atol=1e-3)
    row = kept.of("tas", "mean")
    assert row.coarse == pytest.approx(3, abs=1e-3) and row.difference == pytest.approx(-1 / 3, abs=1e-3)
    assert row.error == pytest.approx(np.sqrt(1 / 3), abs=1e-3)
    assert kept.table().splitlines()[2].startswith("| tas | mean (K) | 2.67 | 3.00 | −0.333 | 0.577 |")


def test_coarse_cells_beyond_the_fine_domain_are_left_out(weather):
    fine = placed(weather + later())
    part = fine.isel(lon=slice(0, 5), lat=slice(0, 4))
    kept = change(part, coarse=coarsen(fine, 2), **PERIODS).preservation
    assert kept.of("tas", "mean").cells == 4
    assert np.isnan(kept.map["tas_mean"].values[:, 2]).all() and np.isfinite(kept.map["tas_mean"].values[:, :2]).all()


# --- arguments and memory ----------------------------------------------------------------------------------------


def test_cells_that_are_hardly_known_have_no_change(weather):
    holed = weather.copy()
    holed[:, 0, 0] = np.nan
    holed[20:1096, 1, 1] = np.nan  # twenty days of the historical period are left
    found = change(placed(holed + later()), coarse=coarsen(placed(weather + later()), 2), **PERIODS)
    local = found.maps["prediction"]["tas_mean"].values
    assert np.isnan(local[0, 0]) and np.isnan(local[1, 1]) and np.isfinite(local).sum() == ROWS * COLUMNS - 2
    assert found.of("prediction", "tas", "mean").value == pytest.approx(1, abs=1e-3)
    assert found.preservation.of("tas", "mean").cells == 6


def test_lazy_fields_in_small_blocks_change_nothing(weather, monkeypatch):
    fine = placed(weather + 2 * later())
    expected = change(fine, **PERIODS)
    monkeypatch.setattr(climates, "_VALUES_AT_ONCE", 1)
    found = change(fine.chunk({"time": 300, "lat": 1}), **PERIODS)
    assert [row.value for row in found.rows] == pytest.approx([row.value for row in expected.rows])
    xr.testing.assert_allclose(found.maps["prediction"], expected.maps["prediction"])


def test_what_was_found_is_told_as_plain_values(weather):
    fine = placed(weather + later())
    told = json.loads(json.dumps(change(fine, coarse=coarsen(fine, 2), **PERIODS).to_dict(), allow_nan=False))
    assert told["historical"] == "1991/1993" and len(told["changes"]) == 8 and len(told["preservation"]) == 4
    assert told["changes"][0] | {"source": "prediction", "statistic": "mean", "units": "K"} == told["changes"][0]
    with pytest.raises(KeyError):
        change(fine, **PERIODS).of("truth", "tas", "mean")


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_periods_mean_the_calendar_of_the_data(calendar):
    time = xr.date_range("1991-01-01", periods=720, calendar=calendar, use_cftime=True)
    values = np.zeros((720, ROWS, COLUMNS)) + 280 + (np.array([each.year for each in time]) == 1992)[:, None, None]
    found = change(placed(values, time=time), historical="1991", future="1992")
    assert found.of("prediction", "tas", "mean").value == pytest.approx(1)


def test_periods_and_variables_are_refused_in_words(weather):
    fine = placed(weather)
    with pytest.raises(InputError, match=r"got 0 times of 'tas' in prediction in .*1950/1960.*from 1991-01-01"):
        change(fine, historical="1950/1960", future="2083/2085")
    with pytest.raises(InputError, match="which overlap; expected two apart"):
        change(fine, historical="1991/1993", future="1993/2085")
    with pytest.raises(InputError, match="got a period that cannot be read: 'then' is not a period"):
        change(fine, historical="then", future="2083/2085")
    with pytest.raises(InputError, match="there is no variable 'tas' in coarse"):
        change(fine, coarse=fine.rename(tas="psl"), **PERIODS)
    with pytest.raises(InputError, match="there is no variable 'pr' in prediction"):
        change(fine, variables=["pr"], **PERIODS)
