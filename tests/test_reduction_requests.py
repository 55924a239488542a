"""What users may ask of scores over dimensions and groups, in whatever words, and what is refused."""

import numpy as np
import pyproj
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation import score
from finegrid.evaluation.metrics.neighbourhood import fractions_skill
from reductions_toy import LAT, LON, made, regions, whole


def test_names_units_order_and_attributes_are_those_of_the_truth() -> None:
    prediction, truth = made()
    turned = truth.rename(time="day").transpose("lon", "day", "lat")
    rolled = prediction.rename(member="realization", lat="latitude").assign_coords(lon=LON + 360)
    other = rolled.isel(latitude=slice(None, None, -1)).copy(data=rolled.values[:, :, ::-1] / 24).rename("pr")
    other.attrs["units"] = "mm/hour"
    found = score(other.rename(time="when"), turned, metric="crps", over="day")
    expected = score(prediction, truth, metric="crps", over="time")
    assert found.dims == ("lon", "lat") and found.name == "rain"
    np.testing.assert_allclose(found.transpose("lat", "lon"), expected, rtol=1e-12)
    xr.testing.assert_identical(found["lat"], truth["lat"])
    assert found.attrs == {"units": "mm/day", "long_name": "CRPS of daily rain", "source": "made up"}
    assert score(prediction, truth, metric="correlation").attrs["units"] == "1"
    assert truth.attrs["standard_name"] and truth.dtype == prediction.dtype == np.float64


def test_every_variable_of_a_dataset_has_its_score_and_levels_are_one_variable() -> None:
    prediction, truth = made()
    upper = xr.concat([truth, 2 * truth], xr.DataArray([850.0, 500.0], dims="plev", attrs={"units": "hPa"}))
    upper.attrs = dict(truth.attrs)
    upper["plev"].attrs = {"units": "hPa", "standard_name": "air_pressure"}
    both = xr.Dataset({"one": truth, "ta": upper}, attrs={"title": "two"})
    given_fields = xr.Dataset({"one": prediction, "ta": 0 * prediction + upper + 1}, attrs={})
    for name in ("one", "ta"):
        given_fields[name].attrs = dict(truth.attrs)
    found = score(given_fields, both, metric="bias", over="time")
    assert set(found.data_vars) == {"one", "ta"} and found.attrs == {"title": "two"}
    assert set(found["ta"].dims) == {"plev", "lat", "lon"}
    np.testing.assert_allclose(found["ta"].fillna(1.0), 1.0, atol=1e-10)
    xr.testing.assert_allclose(found["one"], score(prediction, truth, metric="bias", over="time").rename("one"))


def test_members_are_judged_one_by_one() -> None:
    prediction, truth = made()
    named = prediction.assign_coords(member=["a", "b", "c", "d"])
    found = score(named, truth, metric="rmse", over="time", by="member")
    assert found.dims == ("member", "lat", "lon") and found["member"].values.tolist() == ["a", "b", "c", "d"]
    for member in "ad":
        alone = score(named.sel(member=member), truth, metric="rmse", over="time")
        np.testing.assert_allclose(found.sel(member=member), alone, rtol=1e-12)
    renamed = score(named.rename(member="realization"), truth, metric="rmse", over="time", by="realization")
    assert renamed.dims == ("realization", "lat", "lon")
    table = score(named.chunk(time=4, member=1), truth, metric="fss", by=("member", "time.season"), threshold=1.0)
    assert table.dims == ("member", "season") and np.isfinite(table.compute()).all()


def test_labels_are_a_coordinate_or_change_with_time_and_place() -> None:
    prediction, truth = made()
    weather = np.where(truth["time"].dt.dayofyear.values % 24 < 12, "wet", "dry")
    with_coordinate = truth.assign_coords(weather=("time", weather))
    by_name = score(prediction, with_coordinate, metric="crps", by="weather")
    assert by_name["weather"].values.tolist() == ["dry", "wet"]
    some = score(prediction[:, weather == "wet"], truth[weather == "wet"], metric="crps")
    assert float(by_name.sel(weather="wet")) == pytest.approx(float(some))
    heavy = (truth > 1.0).where(truth.notnull()).rename("heavy")
    both = score(prediction.chunk(time=5, lat=2), truth, metric="bias", by=heavy).compute()
    expected = whole("bias", prediction, truth.where(truth > 1.0))
    assert float(both.sel(heavy=1.0)) == pytest.approx(expected, rel=1e-10)
    bands = xr.DataArray(np.repeat(["north", "middle", "south"], 3), dims="lat", name="band")
    rows = score(prediction, truth, metric="mae", by=bands)
    assert float(rows.sel(band="north")) == pytest.approx(
        whole("mae", prediction, truth.where(bands == "north")), rel=1e-10
    )


def test_labels_of_time_go_with_the_times_that_both_fields_have() -> None:
    prediction, truth = made()
    later = score(prediction[:, 10:], truth[:25], metric="rmse", by="time.month")
    expected = score(prediction[:, 10:25], truth[10:25], metric="rmse", by="time.month")
    known = expected["month"].values
    np.testing.assert_allclose(later.sel(month=known), expected, rtol=1e-12)
    assert np.isnan(later.drop_sel(month=known)).all()


def test_other_calendars_have_seasons_too() -> None:
    prediction, truth = made()
    dates = xr.date_range("2001-01-01", periods=30, freq="12D", calendar="360_day", use_cftime=True)
    found = score(
        prediction.assign_coords(time=dates), truth.assign_coords(time=dates), metric="rmse", by="time.season"
    )
    assert set(found["season"].values) == {"DJF", "MAM", "JJA", "SON"} and np.isfinite(found).all()


def test_a_metric_need_not_be_one_of_the_dictionary() -> None:
    prediction, truth = made()
    wide, usual = (score(prediction, truth, metric=fractions_skill(cells), threshold=1.0) for cells in (7, 5))
    assert float(usual) == float(score(prediction, truth, metric="fss", threshold=1.0)) < float(wide)


BAD = [
    ({"metric": "crp"}, "no metric 'crp'.*crps"),
    ({"over": "latt"}, "'latt' to average over; expected .*time, lat, lon"),
    ({"over": "y"}, "'y' to average over"),
    ({"metric": "ssim", "over": "time"}, "keep lat and lon of the metric 'ssim'.*maps of rmse, mae, crps"),
    ({"metric": "roc-area", "over": "time"}, "counts cases"),
    ({"metric": "fss", "by": regions()}, "groups 'region' of the metric 'fss'.*roc-area"),
    ({"metric": "violation"}, "coarse=... to finegrid.evaluate"),
    ({"metric": "negatives", "units": "K"}, "for the variable"),
    ({"by": "time.saison"}, "'time.saison' to group by.*season"),
    ({"by": "region"}, "'region' to group by; expected a part of the time"),
    ({"by": "lat.season"}, "'lat.season' to group by"),
    ({"by": regions().isel(lat=slice(5))}, "labels 'region' for 5 values of 'lat'; expected .* 9 in the same places"),
    ({"by": regions().assign_coords(lat=LAT + 1)}, "in the same places"),
    ({"by": regions().rename(lat="rows")}, "labels 'region' over rows"),
    ({"by": regions().where(False)}, "no label in 'region'"),
    ({"by": "time.season", "over": ("lat", "lon")}, "'season' to group by, which are labels along 'time'"),
    ({"by": (regions(), regions())}, "two dimensions called region"),
    ({"by": "member", "metric": "rank"}, "nothing about a single member"),
    ({"by": "member", "members": 0}, "prediction without members"),
]


@pytest.mark.parametrize(("asked", "words"), BAD)
def test_what_cannot_be_had_is_refused_in_words(asked: dict[str, object], words: str) -> None:
    prediction, truth = made()
    asked = {"metric": "rmse", **asked}
    if asked.pop("members", 1) == 0:
        prediction = prediction[0]
    units = asked.pop("units", "mm/day")
    for each in (prediction, truth):
        each.attrs["units"] = units
    with pytest.raises(InputError, match=words):
        score(prediction, truth, **asked)  # type: ignore[arg-type]


def test_other_grids_times_and_types_are_refused() -> None:
    prediction, truth = made()
    with pytest.raises(InputError, match="grid"):
        score(prediction.isel(lat=slice(4)), truth, metric="rmse")
    with pytest.raises(InputError, match="no time that all fields have"):
        score(prediction[:, :5], truth[9:], metric="rmse")
    with pytest.raises(InputError, match="got a ndarray as prediction"):
        score(prediction.values, truth, metric="rmse")  # type: ignore[type-var]


def test_a_map_on_a_projected_grid_keeps_its_reference_system_and_a_series_has_none() -> None:
    prediction, truth = made()
    crs = xr.DataArray(0, attrs=pyproj.CRS.from_epsg(3035).to_cf())
    metres = {"y": ("y", 1e5 * LAT, {"units": "m"}), "x": ("x", 1e5 * LON, {"units": "m"}), "laea": crs}
    flat = []
    for each in (prediction, truth):
        placed = each.rename(lat="y", lon="x").assign_coords(metres)
        flat.append(placed.assign_attrs(each.attrs, grid_mapping="laea"))
    found = score(*flat, metric="mae", over="time")
    assert found.attrs["grid_mapping"] == "laea" and found["laea"].attrs["grid_mapping_name"]
    xr.testing.assert_equal(found["y"], flat[1]["y"])
    np.testing.assert_allclose(found, score(prediction, truth, metric="mae", over="time"), rtol=1e-12)
    assert set(score(*flat, metric="mae", over=("y", "x")).coords) == {"time"}
    assert set(score(*flat, metric="mae", over=("time", "x")).coords) == {"y"}
