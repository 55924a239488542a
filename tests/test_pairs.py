"""Coarse and fine files that belong together become a pair; those that do not are refused with the remedy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.data.pairs import pair
from finegrid.data.synthetic import generate


def global_field(times: xr.DataArray, *, west: float, step: float = 1.0) -> xr.Dataset:
    """t2m on a band of latitudes around the globe; every cell tells where it is: 200 + latitude + longitude / 10."""
    lat, lon = np.arange(44 + step / 2, 50, step), west + step / 2 + step * np.arange(round(360 / step))
    values = 200 + lat[:, None] + (lon % 360)[None, :] / 10 + np.zeros((len(times), 1, 1))
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values.astype(np.float32), {"units": "K"})},
        coords={
            "time": times.values,
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    )


def moved(fields: xr.Dataset, degrees: float) -> xr.Dataset:
    """The same fields further east."""
    return fields.assign_coords(lon=("lon", (fields.lon.values + degrees + 180) % 360 - 180, fields.lon.attrs))


def message(coarse: xr.Dataset, fine: xr.Dataset, **options) -> str:
    """What the user is told; the two come from files."""
    coarse.encoding["source"], fine.encoding["source"] = "era5.nc", "stations.nc"
    with pytest.raises(InputError) as caught:
        pair(coarse, fine, **options)
    return str(caught.value)


def test_block_means_and_their_source_are_a_pair(toy_coarse, toy_fine):
    found = pair(toy_coarse, toy_fine)
    assert (found.factor, found.remapped, found.variables) == ((4, 4), False, ("t2m", "pr"))
    assert found.grid.mask is None
    np.testing.assert_array_equal(found.fine.t2m, toy_fine.t2m)
    np.testing.assert_array_equal(found.coarse.pr, toy_coarse.pr)
    np.testing.assert_allclose(found.operator(found.fine).t2m, found.coarse.t2m, rtol=3e-7)


def test_only_common_times_are_kept_in_order(toy_coarse, toy_fine):
    found = pair(toy_coarse.isel(time=slice(10, 50)), toy_fine.isel(time=[3, 12, 20, 49, 55]))
    np.testing.assert_array_equal(found.coarse.time, toy_fine.time[[12, 20, 49]])
    np.testing.assert_array_equal(found.fine.t2m, toy_fine.t2m[[12, 20, 49]])


def test_some_times_of_a_pair_are_a_pair(toy_coarse, toy_fine):
    found = pair(toy_coarse, toy_fine).at(np.array([4, 7]))
    np.testing.assert_array_equal(found.fine.time, toy_fine.time[[4, 7]])
    np.testing.assert_array_equal(found.coarse.t2m, toy_coarse.t2m[[4, 7]])


def test_coarse_values_come_in_the_units_of_the_fine_file(toy_coarse, toy_fine):
    other = toy_coarse.assign(t2m=toy_coarse.t2m - np.float32(273.15), pr=toy_coarse.pr / np.float32(86400))
    other.t2m.attrs["units"], other.pr.attrs["units"] = "degC", "kg m-2 s-1"
    found = pair(other, toy_fine)
    np.testing.assert_allclose(found.coarse.t2m, toy_coarse.t2m, atol=3e-5)
    np.testing.assert_allclose(found.coarse.pr, toy_coarse.pr, rtol=1e-6)
    assert (found.coarse.t2m.units, found.coarse.pr.units, found.inputs.units) == (
        "K",
        "mm/day",
        {"t2m": "K", "pr": "mm/day"},
    )


@pytest.mark.parametrize(
    ("renamed", "variables"),
    [
        ({"t2m": "tas", "pr": "tp"}, None),
        ({"t2m": "TT", "pr": "RR"}, {"t2m": "TT", "pr": "RR"}),
        ({"t2m": "2t", "pr": "rr"}, ["pr", "t2m"]),
    ],
)
def test_variables_are_found_by_alias_standard_name_or_map_and_named_as_in_the_fine_file(
    toy_coarse, toy_fine, renamed, variables
):
    found = pair(toy_coarse.rename(renamed), toy_fine, variables=variables)
    assert set(found.coarse.data_vars) == set(found.fine.data_vars) == {"t2m", "pr"}
    assert dict(found.inputs.variables) == renamed
    np.testing.assert_array_equal(found.coarse.t2m, toy_coarse.t2m)


def test_predictors_follow_the_variables_in_units_of_the_coarse_file(toy_coarse, toy_fine):
    coarse = toy_coarse.assign(psl=(toy_coarse.t2m + 1e5).assign_attrs(units="Pa", standard_name="air_pressure"))
    found = pair(coarse, toy_fine[["pr"]], predictors=["psl", "t2m"])
    assert found.inputs.channels == ("pr", "psl", "t2m")
    assert list(found.coarse.data_vars) == ["pr", "psl", "t2m"]
    assert found.coarse.psl.units == "Pa"


def test_a_larger_coarse_domain_is_cropped_to_the_blocks_over_the_fine_one(toy_coarse, toy_fine):
    found = pair(toy_coarse, toy_fine.isel(lat=slice(4, 12), lon=slice(8, 20)))
    assert not found.remapped
    np.testing.assert_array_equal(found.coarse.t2m, toy_coarse.t2m[:, 1:3, 2:5])


@pytest.mark.parametrize("west", [0, -180])
@pytest.mark.parametrize("east", [-8.0, 170.0, 190.0])
def test_cells_of_a_global_file_are_found_over_greenwich_and_the_date_line_however_it_counts(toy_fine, west, east):
    fine = moved(toy_fine[["t2m"]], east)
    found = pair(global_field(toy_fine.time, west=west), fine)
    middles = toy_fine.lon.values.reshape(-1, 4).mean(1) + east
    expected = 200 + (45.5 + np.arange(4))[:, None] + (middles % 360) / 10
    assert not found.remapped
    np.testing.assert_allclose(found.coarse.t2m[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found.inputs.read(global_field(toy_fine.time, west=west)).t2m[0], expected, rtol=1e-6)


def test_a_domain_over_the_pacific_counts_its_longitudes_from_any_meridian(toy_fine):
    # 100 to 300 degrees east against -165 to -159: the same place
    pacific = global_field(toy_fine.time, west=0).sel(lon=slice(100, 300))
    found = pair(pacific, moved(toy_fine[["t2m"]], 190.0))
    np.testing.assert_allclose(found.coarse.t2m[0, 0], 245.5 + (195.5 + np.arange(6)) / 10, rtol=1e-6)


def test_rows_from_north_to_south_are_turned_and_remembered(toy_coarse, toy_fine):
    upside_down = toy_fine.isel(lat=slice(None, None, -1))
    found = pair(toy_coarse.isel(lat=slice(None, None, -1)), upside_down)
    assert not found.remapped
    np.testing.assert_array_equal(found.fine.t2m, toy_fine.t2m)
    np.testing.assert_array_equal(found.coarse.t2m, toy_coarse.t2m)
    assert found.names.y == "lat"


def test_other_coarse_cells_are_remapped_to_blocks_and_keep_the_mean(toy_fine):
    # Blocks of 1.5 degrees, a quarter of a degree off: no whole number of fine cells from any common edge.
    rng = np.random.default_rng(3)
    lat, lon = np.arange(43.625, 51, 1.5), np.arange(3.625, 13, 1.5)
    values = rng.normal(280, 3, (60, len(lat), len(lon))).astype(np.float32)
    coarse = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": toy_fine.time.values,
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    )
    fine = toy_fine[["t2m"]].isel(lat=slice(2, 14))
    found = pair(coarse, fine)
    assert found.remapped
    assert found.factor == (6, 6)
    # The integral over the domain from overlaps of intervals, in longitude and in the sine of latitude.
    columns = np.clip(np.minimum(lon + 0.75, 11.0) - np.maximum(lon - 0.75, 5.0), 0, None)
    sine = [np.sin(np.deg2rad(np.clip(lat + side * 0.75, 45.5, 48.5))) for side in (-1, 1)]
    rows = sine[1] - sine[0]
    expected = np.einsum("tyx,y,x->t", values.astype(np.float64), rows, columns) / (rows.sum() * columns.sum())
    area = found.inputs.grid.area
    np.testing.assert_allclose((found.coarse.t2m.values * area).sum((1, 2)) / area.sum(), expected, rtol=3e-7)


def test_cells_without_any_truth_are_masked_and_others_are_not(toy_coarse, toy_fine):
    lake = toy_fine.copy(deep=True)
    lake.pr[:, 2:4, 5] = np.nan
    lake.t2m[:30, 9, 9] = np.nan
    mask = pair(toy_coarse, lake).grid.mask
    expected = np.ones((16, 24), dtype=bool)
    expected[2:4, 5] = False
    np.testing.assert_array_equal(mask, expected)


def test_the_inputs_come_back_from_json(toy_coarse, toy_fine):
    inputs = pair(toy_coarse, toy_fine[["t2m"]], predictors=["pr"]).inputs
    again = type(inputs).from_dict(json.loads(json.dumps(inputs.to_dict())))
    assert again == inputs


def test_no_common_variable_lists_both_files(toy_coarse, toy_fine):
    text = message(toy_coarse[["pr"]], toy_fine[["t2m"]])
    assert "era5.nc and stations.nc have no variable in common: pr and t2m" in text
    assert "data.variables: {fine name: coarse name}" in text


def test_an_unknown_variable_is_named_with_its_file_and_the_nearest(toy_coarse, toy_fine):
    text = message(toy_coarse, toy_fine, variables={"t2m": "t3m"})
    assert "no variable 't3m' in era5.nc" in text
    assert "Did you mean 't2m'?" in text
    assert "no variable 'humidity' in stations.nc" in message(toy_coarse, toy_fine, variables=["humidity"])


def test_a_missing_predictor_is_named_with_its_file(toy_coarse, toy_fine):
    assert "no variable 'psl' in era5.nc" in message(toy_coarse, toy_fine, predictors=["psl"])


def test_a_variable_is_not_also_a_predictor(toy_coarse, toy_fine):
    text = message(toy_coarse, toy_fine, predictors=["pr"])
    assert "'pr' is both a variable to predict and a predictor" in text
    assert "leave it out of data.predictors" in text


def test_units_that_cannot_be_converted_name_variable_and_file(toy_coarse, toy_fine):
    toy_coarse.t2m.attrs["units"] = "Pa"
    text = message(toy_coarse, toy_fine)
    assert all(word in text for word in ("era5.nc", "t2m", "'Pa'", "'K'"))


def test_times_that_never_meet_are_told_with_both_spans(toy_coarse, toy_fine):
    noon = toy_coarse.assign_coords(time=toy_coarse.time + np.timedelta64(12, "h"))
    text = message(noon, toy_fine)
    assert "era5.nc (2001-01-01T12:00 to 2001-03-01T12:00)" in text
    assert "stations.nc (2001-01-01T00:00 to 2001-03-01T00:00)" in text
    assert "fields.time.dt.floor('D')" in text


def test_a_pair_of_two_calendars_is_in_that_of_the_coarse_file(toy_coarse, toy_fine):
    coarse = toy_coarse.convert_calendar("noleap", use_cftime=True)
    both = pair(coarse, toy_fine)
    assert both.fine.time.dt.calendar == both.coarse.time.dt.calendar == "noleap"
    assert (both.fine.time == coarse.time.values).all()
    np.testing.assert_array_equal(both.fine.pr, pair(toy_coarse, toy_fine).fine.pr)


def test_equal_calendars_without_leap_days_pair_up(toy_coarse, toy_fine):
    both = [fields.convert_calendar("noleap", use_cftime=True) for fields in (toy_coarse, toy_fine)]
    assert len(pair(*both).coarse.time) == 60


def test_exchanged_files_are_noticed(toy_coarse, toy_fine):
    text = message(toy_fine, toy_coarse)
    assert "coarse cells 0.25 times the size of fine cells" in text
    assert "not exchanged" in text


def test_a_coarse_domain_that_does_not_cover_the_fine_one_is_told_with_both_extents(toy_coarse, toy_fine):
    text = message(toy_coarse.isel(lon=slice(0, 4)), toy_fine)
    assert "the domain of era5.nc (y 45 to 49, x 5 to 9) does not cover the fine one (y 45 to 49, x 5 to 11)" in text
    assert "data.crop" in text


def test_a_fine_grid_that_is_no_multiple_of_blocks_is_extended_by_missing_cells(toy_coarse, toy_fine):
    odd = toy_fine.isel(lat=slice(0, 15), lon=slice(0, 22))
    found = pair(toy_coarse, odd)
    assert (found.factor, found.true_grid.shape, found.grid.shape) == ((4, 4), (15, 22), (16, 24))
    assert not found.grid.mask[15:].any() and not found.grid.mask[:, 22:].any() and found.grid.mask[:15, :22].all()
    assert np.isnan(found.fine.t2m[:, 15:]).all() and found.true_fine.t2m.shape == (60, 15, 22)
    # Only whole coarse cells can be conserved, and their values are those of the file.
    assert found.inputs.own.shape == (4, 6)
    whole = (np.arange(4) < 3)[:, None] & (np.arange(6) < 5)
    np.testing.assert_array_equal(found.operator.coverage >= 0.99, whole)
    np.testing.assert_allclose(found.given.t2m, toy_coarse.t2m.values, rtol=1e-6)


def globe(lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    times = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
    values = np.random.default_rng(0).normal(280, 5, (4, len(lat), len(lon))).astype(np.float32)
    coords = {"time": times, "lat": ("lat", lat, {"units": "degrees_north"})}
    coords["lon"] = ("lon", lon, {"units": "degrees_east"})
    return xr.Dataset({"tas": (("time", "lat", "lon"), values, {"units": "K"})}, coords=coords)


def test_columns_around_the_globe_cannot_be_added_and_get_the_crop_that_fits():
    fine = globe(np.linspace(-90, 90, 37), np.linspace(0, 360, 73, endpoint=False))
    text = message(globe(np.arange(-80, 81, 20.0), np.arange(0, 360, 20.0)), fine)
    assert "73 columns around the globe, which blocks of 4 (one coarse cell) do not fill" in text
    assert "leave out 1 column(s) with data.crop: {x: [0, 350.137]}" in text


def test_rows_that_end_at_a_pole_are_filled_up_and_keep_their_latitudes():
    fine = globe(np.linspace(-90, 90, 37), np.arange(0, 360, 5.0))
    matched = pair(globe(np.arange(-80, 81, 20.0), np.arange(0, 360, 20.0)), fine)
    assert (matched.grid.shape, matched.inputs.grid.shape, matched.true_grid.shape) == ((40, 72), (10, 18), (37, 72))
    np.testing.assert_array_equal(matched.true_fine.y, fine.lat)
    np.testing.assert_allclose(matched.grid.y[:37], fine.lat, atol=1e-5)
    assert not matched.grid.mask[37:].any() and matched.grid.area[37:].sum() < 1e-12 * matched.grid.area.sum()


def test_a_variable_that_is_missing_everywhere_is_named_with_its_file(toy_coarse, toy_fine):
    assert "'pr' of stations.nc is missing (NaN) everywhere" in message(
        toy_coarse, toy_fine.assign(pr=toy_fine.pr * np.nan)
    )
    assert "'t2m' of era5.nc is missing (NaN) everywhere" in message(
        toy_coarse.assign(t2m=toy_coarse.t2m * np.nan), toy_fine
    )


def test_infinite_values_are_named_with_their_file_and_time(toy_coarse, toy_fine):
    toy_coarse.t2m[7, 1, 1] = np.inf
    text = message(toy_coarse, toy_fine)
    assert "'t2m' of era5.nc has infinite values at time 2001-01-08" in text


def test_infinite_values_outside_the_fine_domain_do_not_matter(toy_coarse, toy_fine):
    toy_coarse.t2m[7, 0, 0] = np.inf
    assert pair(toy_coarse, toy_fine.isel(lat=slice(4, 16))).factor == (4, 4)


def test_a_rotated_pole_grid_takes_interpolated_coarse_values(toy_coarse):
    fine = rotated(generate(shape=(8, 8), times=60, spacing=0.1, seed=1)[["tas"]])
    found = pair(toy_coarse[["t2m"]].assign(t2m=toy_coarse.t2m * 0 + 280), fine)
    assert found.remapped
    np.testing.assert_allclose(found.coarse.tas, 280.0)


def rotated(fields: xr.Dataset) -> xr.Dataset:
    """The same values on a rotated grid about 8 degrees east, 47 degrees north."""
    steps = 0.1 * (np.arange(8) - 3.5)
    renamed = fields.rename(lat="rlat", lon="rlon").assign_coords(
        rlat=("rlat", steps, {"units": "degrees", "standard_name": "grid_latitude"}),
        rlon=("rlon", steps, {"units": "degrees", "standard_name": "grid_longitude"}),
    )
    pole = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 43.0,
        "grid_north_pole_longitude": -172.0,
    }
    renamed["tas"].attrs["grid_mapping"] = "rotated_pole"
    return renamed.assign_coords(rotated_pole=((), np.int32(0), pole)).drop_vars(["lat", "lon"], errors="ignore")


def test_what_was_settled_reads_another_file_like_the_training_one(toy_coarse, toy_fine):
    inputs = pair(toy_coarse, toy_fine.isel(lon=slice(0, 16))).inputs
    other = toy_coarse.isel(time=[5], lat=slice(None, None, -1)).assign(extra=toy_coarse.t2m)
    other.t2m.attrs["units"] = "degC"
    read = inputs.read(other.transpose("lon", "lat", "time"))
    assert list(read.data_vars) == ["t2m", "pr"]
    np.testing.assert_allclose(read.t2m, toy_coarse.t2m[[5], :, :4] + np.float32(273.15), atol=3e-5)


def test_a_block_mean_of_the_fine_file_pairs_without_remapping(toy_fine):
    found = pair(coarsen(toy_fine, (8, 2)), toy_fine)
    assert (found.factor, found.remapped) == ((8, 2), False)
