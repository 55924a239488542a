"""Predictors on other grids, from further around and from other sources mean what they meant in training."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.climatology import Climatology
from finegrid.data.joining import joined, same_grids
from finegrid.data.open import open_fields
from finegrid.data.surroundings import on_surroundings, surroundings, wide_name
from finegrid.downscalers import DOWNSCALERS, load
from finegrid.grids import Grid
from test_statistical import (
    COARSE_LAT,
    COARSE_LON,
    FINE_LAT,
    FINE_LON,
    coarse_weather,
    dataset,
    fine_weather,
    fitted,
    on_fine,
)


def grid(lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    return dataset(lat, lon, t2m=np.zeros((2, len(lat), len(lon))))


def standard(lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    return grid(lat, lon).rename(lat="y", lon="x")


def test_surroundings_are_the_cells_with_a_fine_cell_within_reach():
    fine = Grid.of(standard(FINE_LAT, FINE_LON))
    coarse = standard(30.5 + np.arange(25), -9.5 + np.arange(40))
    # Fine centres from 42.25 to 43.75 and from 7.25 to 9.75: 2 degrees of latitude to 40.5 and 45.5.
    found = surroundings(coarse, fine, 2.0)
    np.testing.assert_allclose(found.y, np.arange(40.5, 46))
    # From 9.75 to 11.5 it is 1.75 degrees of longitude, 1.27 of a great circle; to 12.5 2.75 and 1.99, and 0.25 north.
    np.testing.assert_allclose(found.x, np.arange(5.5, 12))
    none = surroundings(coarse, fine, 0.0)
    assert none.shape == (4, 5)
    np.testing.assert_allclose(none.y, [41.5, 42.5, 43.5, 44.5])
    everything = surroundings(coarse, fine, 180.0)
    assert everything.shape == (25, 40)


def test_surroundings_across_greenwich_are_near_cells_and_not_the_whole_circle():
    fine = Grid.of(standard(FINE_LAT, -1.25 + 0.5 * np.arange(6)))
    around = standard(-88.75 + 2.5 * np.arange(72), 1.25 + 2.5 * np.arange(144))
    found = surroundings(around, fine, 8.0)
    assert found.shape[1] < 15
    fields = dataset(around.y.values, around.x.values, t2m=np.broadcast_to(around.x.values, (2, 72, 144)))
    dims, values, _ = on_surroundings(fields.rename(lat="y", lon="x"), found, "file")[wide_name("t2m")]
    assert dims == ("time", "wide_row", "wide_column")
    assert values.shape == (2, *found.shape)
    np.testing.assert_allclose(values[0, 0] % 360, found.x % 360)


def plane(lat: np.ndarray, lon: np.ndarray, times: int = 5) -> np.ndarray:
    """Pressure that is linear in latitude and longitude."""
    return 100000 + 30 * lat[:, None] - 20 * lon + 10 * np.arange(times)[:, None, None]


WIDE_LAT, WIDE_LON = 36.25 + 2.5 * np.arange(7), 1.25 + 2.5 * np.arange(7)


def two_files() -> tuple[xr.Dataset, xr.Dataset]:
    """Temperature on one grid, pressure on another, in other words and for more days."""
    first = dataset(COARSE_LAT, COARSE_LON, t2m=np.full((5, 6, 7), 283.0))
    second = dataset(WIDE_LAT, WIDE_LON, start="2000-12-31", psl=plane(WIDE_LAT, WIDE_LON, 7))
    return first, second.rename(lat="latitude", lon="longitude", time="valid_time")


def test_a_linear_field_on_another_grid_is_joined_exactly_and_in_the_words_of_the_first():
    first, second = two_files()
    found = joined([first, second])
    assert list(found.data_vars) == ["t2m", "psl"]
    assert found.psl.dims == ("time", "lat", "lon")
    assert found.psl.units == "Pa"
    xr.testing.assert_identical(found.t2m, first.t2m)
    # A day later than its own first.
    expected = plane(COARSE_LAT, COARSE_LON) + 10
    np.testing.assert_allclose(found.psl, expected, rtol=0, atol=0.05)
    for axis in ("time", "lat", "lon"):
        xr.testing.assert_identical(found[axis], first[axis])


def test_times_that_not_all_have_are_left_out():
    first, second = two_files()
    found = joined([first, second.isel(valid_time=slice(2, 5))])
    np.testing.assert_array_equal(found.time, first.time[1:4])
    np.testing.assert_allclose(found.psl, plane(COARSE_LAT, COARSE_LON)[1:4] + 10, rtol=0, atol=0.05)


def test_joining_is_lazy():
    first, second = two_files()
    found = joined([first.chunk(time=2), second.chunk(valid_time=3)])
    assert found.psl.chunks is not None
    assert found.t2m.chunks is not None
    np.testing.assert_array_equal(found.psl, joined([first, second]).psl)


def test_files_that_cannot_be_joined_are_named():
    first, second = two_files()
    first.encoding["source"], second.encoding["source"] = "one.nc", "two.nc"
    twice = second.assign(t2m=second.psl.assign_attrs(units="K"))
    twice.encoding["source"] = "two.nc"
    with pytest.raises(InputError, match=r"'t2m' is both in one.nc and, on another grid, in two.nc.*leave it out"):
        joined([first, twice])
    small = second.isel(longitude=slice(4))
    small.encoding["source"] = "two.nc"
    with pytest.raises(InputError, match=r"two.nc does not reach over \d+% of the cells of one.nc; expected a grid"):
        joined([first, small])
    later = second.assign_coords(valid_time=second.valid_time + np.timedelta64(900, "D"))
    later.encoding["source"] = "two.nc"
    with pytest.raises(InputError, match=r"one.nc and two.nc have no time in common; expected the same time stamps"):
        joined([first, later])


def test_files_of_the_same_cells_go_together_in_the_order_in_which_they_come():
    first, second = two_files()
    assert same_grids([first, second, first.rename(t2m="pr"), second]) == [[0, 2], [1, 3]]


def test_a_pattern_that_names_files_of_two_grids_opens_them_joined(tmp_path):
    first, second = two_files()
    first.to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    second.to_netcdf(tmp_path / "b.nc", engine="netcdf4")
    found = open_fields(str(tmp_path / "*.nc"))
    np.testing.assert_allclose(found.psl, joined([first, second]).psl, rtol=0, atol=0.05)
    assert found.sizes == {"time": 5, "lat": 6, "lon": 7}


def test_the_climate_of_a_month_is_its_mean_and_deviation_and_that_of_few_days_is_unknown():
    fields = dataset(COARSE_LAT, COARSE_LON, t2m=np.random.default_rng(0).normal(283, 5, (70, 6, 7)))
    fields.t2m[:15, 0, 0] = np.nan
    found = Climatology.of(fields)
    january, february = fields.t2m.values[:31].astype(float), fields.t2m.values[31:59].astype(float)
    np.testing.assert_allclose(found.mean["t2m"][1], february.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.deviation["t2m"][1], february.std(0), rtol=1e-5)
    np.testing.assert_allclose(found.mean["t2m"][0].ravel()[1:], january.mean(0).ravel()[1:], rtol=1e-6)
    assert np.isnan(found.mean["t2m"][0, 0, 0])  # 16 days
    assert np.isnan(found.mean["t2m"][2:]).all()  # 11 days in March


def other_source(coarse: xr.Dataset) -> xr.Dataset:
    """The same weather, warmer month by month, with another variance, and pressure of another level."""
    month = coarse.time.dt.month
    means = coarse.groupby("time.month").mean()
    departure = coarse.groupby("time.month") - means
    t2m = means.t2m.sel(month=month) + 2 + 0.5 * month + 1.5 * departure.t2m
    psl = 0.7 * departure.psl + means.psl.sel(month=month) - 1200
    shaped = {"t2m": t2m, "psl": psl}
    return coarse.assign(
        {
            name: coarse[name].copy(data=each.transpose("time", "lat", "lon").values.astype(np.float32))
            for name, each in shaped.items()
        }
    )


AROUND = ("ridge", "ridge-around", "pcr", "nearest-neighbours", "regimes", "random-features")


@pytest.mark.parametrize("name", AROUND)
def test_another_source_standardised_with_its_own_reference_gives_the_answer_of_training(name):
    coarse = coarse_weather(118)
    fine = fine_weather(coarse, noise=0.3)
    options = {"regimes": {"regimes": 1}, "nearest-neighbours": {"features": {"name": "components", "counts": (8,)}}}
    model = fitted(name, coarse, fine, **options.get(name, {}))
    biased = other_source(coarse)
    expected = model.predict(coarse)
    found = model.predict(biased, reference=biased)
    np.testing.assert_allclose(found.t2m, expected.t2m, atol=0.02)
    assert abs(model.predict(biased).t2m - expected.t2m).mean() > 0.5


def test_changes_against_the_reference_stay():
    coarse = coarse_weather(118)
    model = fitted(
        "ridge-around", coarse, fine_weather(coarse), start="coarse", solver={"name": "ridge", "penalties": (1,)}
    )
    offset = coarse.t2m.copy(data=coarse.t2m.values + np.float32(4))
    source = coarse.assign(t2m=offset)
    warmer = source.assign(t2m=source.t2m.copy(data=source.t2m.values + np.float32(2)))
    found = model.predict(warmer, reference=source).t2m
    direct = model.predict(coarse.assign(t2m=coarse.t2m.copy(data=coarse.t2m.values + np.float32(2)))).t2m
    np.testing.assert_allclose(found, direct, atol=0.01)
    assert abs(float((found - model.predict(coarse).t2m).mean()) - 2) < 0.2


def test_rain_of_another_source_is_scaled_and_dry_days_stay_dry():
    random = np.random.default_rng(0)
    rain = random.gamma(0.7, 5, (118, 6, 7)) * (random.random((118, 6, 7)) < 0.4)
    rain[:, 2, 3] = 0.0
    coarse = dataset(COARSE_LAT, COARSE_LON, pr=rain)
    fine = dataset(FINE_LAT, FINE_LON, pr=on_fine(rain))
    model = DOWNSCALERS["nearest"]().fit(coarse, fine)
    source = coarse.assign(pr=coarse.pr.copy(data=coarse.pr.values * np.float32(2.5)))
    found = model.predict(source, reference=source).pr
    np.testing.assert_allclose(found, model.predict(coarse).pr, rtol=1e-4, atol=1e-5)
    assert (found.values[0][on_fine(rain) == 0] == 0).all()


def test_months_without_a_reference_or_without_training_are_named():
    coarse = coarse_weather(118)  # January to April
    model = fitted("ridge", coarse, fine_weather(coarse))
    january = coarse.sel(time="2001-01")
    january.encoding["source"] = "reference.nc"
    with pytest.raises(InputError, match=r"reference.nc .*February, March, April.*fewer than 20.*longer reference"):
        model.predict(coarse, reference=january)
    may = coarse.assign_coords(time=coarse.time + np.timedelta64(120, "D"))
    with pytest.raises(InputError, match=r"May, June, July, August, and the training times have fewer than 20"):
        model.predict(may, reference=may)


def test_a_reference_is_refused_where_the_bias_of_the_training_source_is_adjusted():
    coarse = coarse_weather(118)
    model = DOWNSCALERS["nearest"](adjust="shift").fit(coarse, fine_weather(coarse))
    with pytest.raises(InputError, match=r"got a reference for a model that adjusts the bias.*expected one of the two"):
        model.predict(coarse, reference=coarse)


def test_a_saved_model_knows_the_climate_that_it_was_trained_in(tmp_path):
    coarse = coarse_weather(118)
    model = fitted("ridge-around", coarse, fine_weather(coarse))
    model.save(tmp_path)
    biased = other_source(coarse)
    xr.testing.assert_identical(
        load(tmp_path).predict(biased, reference=biased), model.predict(biased, reference=biased)
    )


def test_reading_another_source_is_lazy():
    coarse = coarse_weather(118)
    model = fitted("ridge-around", coarse, fine_weather(coarse))
    biased = other_source(coarse)
    fields = model.read(biased.chunk(time=10), reference=biased)
    assert all(each.chunks is not None for each in fields.data_vars.values())
    xr.testing.assert_allclose(fields.load(), model.read(biased, reference=biased))
