"""Any CF-like Dataset takes the standard form and gets its own form back."""

import json

import cftime
import dask.array
import numpy as np
import pyproj
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError, Names, check_times, check_values, find_variable, harmonise, restore

DAY = np.timedelta64(1, "D")


def dataset(lat=(40, 41, 42), lon=(5, 6, 7, 8), times=4, dims=("time", "lat", "lon"), dtype="float64"):
    """A field whose value tells where it belongs: 10000 t + 100 lat + (lon mod 360)."""
    lat, lon = np.asarray(lat, dtype=dtype), np.asarray(lon, dtype=dtype)
    time = np.datetime64("2001-01-01", "ns") + np.arange(times) * DAY
    truth = 10000 * np.arange(times)[:, None, None] + 100 * lat[:, None] + lon % 360
    coords = {
        "time": ("time", time, {"standard_name": "time", "axis": "T"}),
        "lat": ("lat", lat, {"units": "degrees_north", "long_name": "Latitude"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    field = xr.DataArray(truth.astype("float32"), dims=("time", "lat", "lon"), coords=coords).transpose(*dims)
    return xr.Dataset({"t2m": field.assign_attrs(units="K", cell_methods="time: mean")}, attrs={"title": "a test"})


def same(one, other):
    xr.testing.assert_identical(one, other)
    for name in other.variables:
        assert one[name].dims == other[name].dims
        assert one[name].dtype == other[name].dtype


def rotated(member=False):
    """A rotated-pole file with 2-D coordinates and a mapping variable, as CORDEX has."""
    y, x = np.linspace(-1, 1, 5), np.linspace(358, 362, 6)
    crs = pyproj.CRS.from_cf({
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0,
    })  # fmt: skip
    fields = dataset(y, x).rename(lat="rlat", lon="rlon")
    fields["rlat"].attrs = {"standard_name": "grid_latitude", "units": "degrees", "axis": "Y"}
    fields["rlon"].attrs = {"standard_name": "grid_longitude", "units": "degrees", "axis": "X"}
    plane = np.arange(30.0, dtype="float32").reshape(5, 6)
    fields = fields.assign_coords(
        lat=(("rlat", "rlon"), plane, {"units": "degrees_north"}),
        lon=(("rlat", "rlon"), -plane, {"units": "degrees_east"}),
        rotated_pole=((), np.int32(0), {k: v for k, v in crs.to_cf().items() if k != "crs_wkt"}),
        height=((), 2.0, {"units": "m"}),
    )
    fields["t2m"].attrs["grid_mapping"] = "rotated_pole"
    return fields


# What the user may have; each ends with the same standard form and gets its own back.
LONGITUDES = {
    "0 to 360": ([350, 355, 0, 5], [-10, -5, 0, 5]),
    "beyond 360": ([350, 355, 360, 365], [-10, -5, 0, 5]),
    "sorted across Greenwich": ([0, 5, 350, 355], [-10, -5, 0, 5]),
    "across the date line": ([170, 175, -180, -175], [170, 175, 180, 185]),
    "sorted across the date line": ([-180, -175, 170, 175], [170, 175, 180, 185]),
    "from east to west": ([5, 0, -5, -10], [-10, -5, 0, 5]),
    "from east to west across Greenwich": ([5, 0, 355, 350], [-10, -5, 0, 5]),
    "in the west": ([240, 250, 260, 270], [-120, -110, -100, -90]),
    "global from 0": (np.arange(0, 360, 90), np.arange(0, 360, 90)),
    "global from -180": (np.arange(-180, 180, 45), np.arange(-180, 180, 45)),
    "one column": ([350], [-10]),
}


@pytest.mark.parametrize("case", LONGITUDES)
@pytest.mark.parametrize("lat", [(40, 41, 42), (42, 41, 40)])
def test_longitudes_become_continuous_and_come_back(case, lat):
    users, expected = LONGITUDES[case]
    fields = dataset(lat, users)
    standard, names = harmonise(fields)
    np.testing.assert_array_equal(standard["x"], expected)
    np.testing.assert_array_equal(standard["y"], [40, 41, 42])
    where = 100 * standard["y"] + standard["x"] % 360
    np.testing.assert_array_equal(standard["t2m"].isel(time=0), where.transpose("y", "x"))
    same(restore(standard, names), fields)


@given(
    count=st.integers(2, 12),
    start=st.integers(-180, 359),
    spacing=st.sampled_from([0.25, 1.0, 1.40625, 30.0, 90.0]),
    wrap=st.sampled_from([None, 0.0, -180.0]),
    ordered=st.booleans(),
    west=st.booleans(),
    dims=st.permutations(("time", "lat", "lon")),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_restoring_undoes_harmonising(count, start, spacing, wrap, ordered, west, dims, dtype):
    count = min(count, int(360 // spacing))
    lon = start + spacing * np.arange(count)
    lon = lon if wrap is None else (lon - wrap) % 360 + wrap
    lon = np.sort(lon) if ordered else lon
    fields = dataset((41, 40), lon[::-1] if west else lon, 2, dims, dtype)
    standard, names = harmonise(fields)
    assert standard["t2m"].dims == ("time", "y", "x")
    assert (standard["x"].diff("x") > 0).all()
    assert float(standard["x"][-1] - standard["x"][0]) < 360
    again, _ = harmonise(standard)
    xr.testing.assert_identical(again, standard)
    names = Names.from_dict(json.loads(json.dumps(names.to_dict())))
    same(restore(standard, names), fields)


def test_harmonised_fields_are_what_the_rest_of_the_program_expects():
    standard, _ = harmonise(dataset((42, 41, 40), dtype="float32").astype("int16").chunk(time=2))
    assert standard["t2m"].dtype == np.float32
    assert isinstance(standard["t2m"].data, dask.array.Array)
    assert standard["y"].dtype == standard["x"].dtype == np.float64
    assert standard["y"].attrs == {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    assert standard["t2m"].attrs["units"] == "K"
    assert "crs" not in standard.coords


def test_a_crop_with_new_times_and_members_comes_back_in_the_users_form():
    fields = dataset((42, 41, 40), (350, 355, 0, 5), dims=("lat", "lon", "time"))
    standard, names = harmonise(fields)
    part = standard.isel(y=slice(0, 2), x=slice(1, 4)).assign_coords(time=standard["time"] + 1000 * DAY)
    back = restore(part.expand_dims(member=[0, 1]), names)
    assert back["t2m"].dims == ("member", "lat", "lon", "time")
    assert back["member"].attrs["standard_name"] == "realization"
    np.testing.assert_array_equal(back["lat"], [41, 40])
    np.testing.assert_array_equal(back["lon"], [355, 0, 5])
    assert back["time"].attrs == fields["time"].attrs


def test_a_finer_global_grid_keeps_its_longitudes_without_a_jump():
    standard, names = harmonise(dataset(lon=np.arange(45, 360, 90)))
    fine = standard.reindex(x=np.arange(0.0, 360.0, 30.0))
    np.testing.assert_array_equal(restore(fine, names)["lon"], np.arange(0.0, 360.0, 30.0))


def test_a_rotated_pole_keeps_its_mapping_and_two_dimensional_coordinates():
    fields = rotated()
    standard, names = harmonise(fields)
    assert standard["crs"].attrs["grid_north_pole_latitude"] == 39.25
    np.testing.assert_allclose(standard["x"], np.linspace(-2, 2, 6), atol=1e-12)
    assert standard["lat"].dims == standard["lon"].dims == ("y", "x")
    assert standard["y"].attrs["units"] == "degrees"
    assert "grid_mapping" not in standard["t2m"].attrs
    same(restore(standard, names), fields)


def test_a_projection_in_kilometres_is_computed_in_metres():
    fields = dataset((3, 2, 1), (10, 11, 12, 13)).rename(lat="y", lon="x")
    for axis in "yx":
        fields[axis].attrs = {"units": "km", "standard_name": f"projection_{axis}_coordinate"}
    fields["crs"] = ((), 0, pyproj.CRS("EPSG:3035").to_cf())
    fields["t2m"].encoding["grid_mapping"] = "crs"
    standard, names = harmonise(fields)
    np.testing.assert_array_equal(standard["y"], [1000, 2000, 3000])
    assert standard["x"].attrs["units"] == "m"
    assert pyproj.CRS.from_cf(standard["crs"].attrs) == pyproj.CRS("EPSG:3035")
    back = restore(standard, names)
    same(back, fields.set_coords("crs"))
    assert back["t2m"].encoding["grid_mapping"] == "crs"


def test_a_projection_without_a_grid_mapping_says_how_to_add_one():
    fields = dataset().rename(lat="y", lon="x")
    for axis in "yx":
        fields[axis].attrs = {"units": "m"}
    with pytest.raises(InputError, match=r"without a grid mapping.*write_crs"):
        harmonise(fields)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars_of_models_are_kept(calendar):
    times = [cftime.datetime(2000, 2, day, calendar=calendar) for day in (26, 27, 28)]
    fields = dataset(times=3).assign_coords(time=times)
    standard, names = harmonise(fields)
    assert standard["time"].values[0].calendar == calendar
    same(restore(standard, names), fields.assign_coords(time=times))


def test_levels_become_variables_labelled_in_hectopascals_and_stack_again():
    one = dataset()
    fields = xr.concat([one, one + 1], dim="plev").assign_coords(
        plev=("plev", [85000.0, 50000.0], {"units": "Pa", "axis": "Z"})
    )
    fields = fields.transpose("time", "plev", "lat", "lon").assign(ps=one["t2m"])
    fields["ps"].attrs = {"units": "Pa"}
    standard, names = harmonise(fields)
    assert set(standard.data_vars) == {"t2m@850", "t2m@500", "ps"}
    np.testing.assert_array_equal(standard["t2m@500"], one["t2m"] + 1)
    same(restore(standard, names), fields)
    assert set(restore(standard[["t2m@850"]], names).data_vars) == {"t2m@850"}


@pytest.mark.parametrize("dim", ["height", "number", "surface", "band"])
def test_dimensions_of_one_value_go_and_come_back(dim):
    fields = dataset().expand_dims(dim, axis=1)
    if dim != "band":
        fields = fields.assign_coords({dim: (dim, [2.0], {"units": "m"})})
    standard, names = harmonise(fields)
    assert standard["t2m"].dims == ("time", "y", "x")
    assert dim not in standard.coords
    same(restore(standard, names), fields)


def test_a_dimension_that_means_nothing_to_us_is_named():
    fields = dataset().expand_dims(tile=3)
    with pytest.raises(InputError, match=r"dimension 'tile' of 3 values.*isel\(tile=0\)"):
        harmonise(fields)


def test_members_keep_the_users_place_and_name():
    fields = dataset().expand_dims(number=[3, 5], axis=1)
    standard, names = harmonise(fields)
    assert standard["t2m"].dims == ("member", "time", "y", "x")
    same(restore(standard, names), fields)


@pytest.mark.parametrize("ordered", [True, False])
def test_bounds_that_touch_are_kept_and_others_are_not(ordered):
    fields = dataset((42, 41, 40), (355, 0, 5))
    lat = np.stack([fields["lat"] - 0.5, fields["lat"] + 0.5], 1)[:, :: 1 if ordered else -1]
    fields = fields.assign_coords(
        lat_bnds=(("lat", "bnds"), lat), lon_bnds=(("lon", "bnds"), [[354.0, 356.0], [359.0, 361.0], [4.0, 6.0]])
    )
    fields["lat"].attrs["bounds"], fields["lon"].attrs["bounds"] = "lat_bnds", "lon_bnds"
    standard, names = harmonise(fields)
    np.testing.assert_array_equal(standard["y_bounds"], [[39.5, 40.5], [40.5, 41.5], [41.5, 42.5]])
    assert "x_bounds" not in standard.coords
    xr.testing.assert_identical(restore(standard, names)["lat_bnds"].variable, fields["lat_bnds"].variable)


def test_bounds_of_longitudes_turn_with_them():
    fields = dataset(lon=(355, 0, 5))
    fields = fields.assign_coords(lon_bnds=(("lon", "bnds"), [[352.5, 357.5], [357.5, 2.5], [2.5, 7.5]]))
    fields["lon"].attrs["bounds"] = "lon_bnds"
    standard, names = harmonise(fields)
    np.testing.assert_array_equal(standard["x_bounds"], [[-7.5, -2.5], [-2.5, 2.5], [2.5, 7.5]])
    np.testing.assert_array_equal(restore(standard, names)["lon_bnds"][0], [352.5, 357.5])


def test_bounds_of_a_new_grid_get_names_like_the_users_coordinates():
    standard, names = harmonise(dataset((42, 41)))
    standard = standard.assign_coords(y_bounds=(("y", "bounds"), [[40.5, 41.5], [41.5, 42.5]]))
    back = restore(standard, names)
    assert back["lat_bnds"].dims == ("lat", "bnds")
    assert back["lat"].encoding["bounds"] == "lat_bnds"


def test_coordinates_on_dimensions_of_another_name_are_found():
    fields = dataset().swap_dims(lat="nj", lon="ni")
    standard, names = harmonise(fields)
    assert standard["t2m"].dims == ("time", "y", "x")
    same(restore(standard, names), fields)


def test_names_are_enough_where_attributes_are_missing():
    fields = dataset()
    fields["lat"].attrs = fields["lon"].attrs = {}
    standard, _ = harmonise(fields.rename(lat="latitude", lon="longitude"))
    assert standard["y"].attrs["units"] == "degrees_north"


def test_static_fields_have_no_time():
    fields = dataset()[["t2m"]].isel(time=0, drop=True)
    standard, names = harmonise(fields, static=True)
    assert standard["t2m"].dims == ("y", "x")
    same(restore(standard, names), fields)
    one = dataset(times=1)
    standard, names = harmonise(one, static=True)
    assert standard["t2m"].dims == ("y", "x")
    same(restore(standard, names), one)


def test_a_single_date_becomes_a_dimension():
    standard, _ = harmonise(dataset().isel(time=1))
    assert standard["t2m"].dims == ("time", "y", "x")
    assert standard["time"].values[0] == np.datetime64("2001-01-02")


def test_forecasts_are_on_the_time_of_validity():
    fields = dataset().rename(time="step").assign_coords(step=np.arange(1, 5) * np.timedelta64(6, "h"))
    start = np.datetime64("2001-01-01", "ns")
    fields = fields.assign_coords(time=start, valid_time=("step", start + fields["step"].values))
    standard, names = harmonise(fields)
    np.testing.assert_array_equal(standard["time"], start + np.arange(1, 5) * np.timedelta64(6, "h"))
    assert "valid_time" in restore(standard, names).dims


def test_starts_and_lead_times_become_one_time():
    fields = dataset(times=4)
    table = fields.assign_coords(start=("time", [0, 0, 1, 1]), lead=("time", [0, 1, 0, 1]))
    table = table.rename(time="valid_time").set_index(valid_time=("start", "lead")).unstack("valid_time")
    starts, leads = fields["time"].values[[0, 2]], np.arange(2) * DAY
    table = table.rename(start="time", lead="step").assign_coords(time=starts, step=leads)
    table = table.assign_coords(valid_time=(("time", "step"), starts[:, None] + leads))
    standard, _ = harmonise(table.chunk(time=1))
    np.testing.assert_array_equal(standard["time"], fields["time"])
    np.testing.assert_array_equal(standard["t2m"], fields["t2m"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.isel(time=[0, 1, 1, 2]), r"2001-01-02 is there twice.*drop_duplicates\('time'\)"),
        (lambda f: f.isel(time=[0, 2, 1, 3]), r"2001-01-02 comes after 2001-01-03.*sortby\('time'\)"),
        (lambda f: f.assign_coords(time=[0.0, 1, 2, 3]), r"'time' in a\.nc holds no dates.*decode_cf"),
        (
            lambda f: f.convert_calendar("noleap", use_cftime=True).isel(time=slice(0)),
            r"a\.nc has no time at all.*'time'",
        ),
        (lambda f: f.isel(time=0, drop=True), r"a\.nc has no time axis.*t2m \(lat, lon\).*static=True"),
        (lambda f: f.isel(lat=[0, 2, 1]), r"'lat' of a\.nc does not run one way: 41 after 42"),
        (lambda f: f.isel(lon=[0, 0, 1]), r"'lon' of a\.nc does not run one way"),
        (lambda f: f.assign_coords(lat=f.lat + 60), r"latitudes 'lat' of a\.nc reach 102"),
        (lambda f: f.rename(lat="a", lon="b").drop_attrs(), r"a\.nc has no horizontal grid.*standard_name"),
    ],
)
def test_what_is_wrong_with_coordinates_is_said_in_the_users_words(change, words):
    with pytest.raises(InputError, match=words):
        harmonise(change(dataset()), source="a.nc")


def test_a_static_field_with_many_times_asks_for_one():
    with pytest.raises(InputError, match=r"4 times where a static field.*isel\(time=0\)"):
        harmonise(dataset(), static=True)


@pytest.mark.parametrize("last", [360.0, 360.0 - 1e-12])
def test_a_global_grid_with_its_first_column_twice_is_refused(last):
    with pytest.raises(InputError, match="first column twice"):
        harmonise(dataset(lon=[0, 90, 180, 270, last]))


def test_longitudes_that_binary_numbers_cannot_hold_come_back_exactly():
    fields = dataset(lon=(169.9, -140.1, -90.1, -40.3))
    standard, names = harmonise(fields)
    np.testing.assert_allclose(standard["x"], [169.9, 219.9, 269.9, 319.7], rtol=0, atol=1e-12)
    same(restore(standard, names), fields)


def test_missing_dates_are_named():
    time = xr.DataArray([np.datetime64("2001-01-01", "ns"), np.datetime64("NaT")], dims="time", name="time")
    with pytest.raises(InputError, match="time 2 of 2"):
        check_times(time, source="a.nc")


def test_values_are_checked_block_by_block():
    def block(block_info=None):
        start = block_info[None]["array-location"][0][0]
        assert block_info[None]["chunk-shape"][0] == 1
        return np.full((1, 2, 2), np.inf if start == 6 else start, dtype="float32")

    lazy = dask.array.map_blocks(block, chunks=((1,) * 8, (2,), (2,)), dtype="float32", meta=np.empty((0, 0, 0), "f4"))
    time = np.datetime64("2001-01-01", "ns") + np.arange(8) * DAY
    fields = xr.Dataset({"pr": (("time", "y", "x"), lazy)}, coords={"time": time})
    with pytest.raises(InputError, match=r"'pr' of a\.nc has infinite values at time 2001-01-07.*isfinite"):
        check_values(fields, source="a.nc")
    check_values(fields.isel(time=slice(0, 6)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"missing \(NaN\) everywhere"),
        (-np.inf, "infinite"),
        (9.96921e36, "fill value that the file does not declare"),
    ],
)
def test_values_that_cannot_be_computed_with_are_named(value, words):
    fields = dataset()
    fields["t2m"][1:] = value
    if np.isnan(value):
        check_values(fields)  # some times may be missing
        fields["t2m"][:] = value
    with pytest.raises(InputError, match=words):
        check_values(fields)


def test_variables_are_found_by_any_of_their_names():
    fields = dataset().assign(ta850=dataset()["t2m"], tp=dataset()["t2m"])
    fields["t2m"].attrs["standard_name"] = fields["ta850"].attrs["standard_name"] = "air_temperature"
    fields["tp"].attrs["standard_name"] = "lwe_thickness_of_precipitation_amount"
    assert find_variable(fields, "tp") == "tp"
    assert find_variable(fields, "tas") == "t2m"
    assert find_variable(fields, "pr") == "tp"
    assert find_variable(fields, "ta@850") == "ta850"
    assert find_variable(fields, "lwe_thickness_of_precipitation_amount") == "tp"
    with pytest.raises(InputError, match=r"fits 2 variables.*t2m, ta850"):
        find_variable(fields, "air_temperature")
    with pytest.raises(InputError, match=r"no variable 't2n' in a\.nc.*Did you mean 't2m'"):
        find_variable(fields, "t2n", source="a.nc")
