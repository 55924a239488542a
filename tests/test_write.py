"""Files are written block by block, follow CF-1.11, read back as they were, and are whole or absent."""

import resource
import subprocess
import sys

import cftime
import dask.array
import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError, harmonise, restore
from finegrid.data.open import open_fields
from finegrid.data.write import Writer, write

HOUR = np.timedelta64(1, "h")
FORMATS = ["nc", "zarr"]


def fields(times=6, start="2001-01-01", step=6 * HOUR):
    random = np.random.default_rng(0)
    time = np.datetime64(start, "ns") + np.arange(times) * step
    values = random.normal(size=(times, 3, 4)).astype("float32")
    values[:, 0, 0] = np.nan
    north, east = {"units": "degrees_north", "standard_name": "latitude"}, {"units": "degrees_east"}
    data = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K", "cell_methods": "time: mean area: mean"})},
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "lat": ("lat", np.array([42, 41, 40], dtype="float32"), {**north, "bounds": "lat_bnds"}),
            "lon": ("lon", [5.0, 6, 7, 8], east),
            "lat_bnds": (("lat", "bnds"), [[42.5, 41.5], [41.5, 40.5], [40.5, 39.5]]),
            "height": ((), 2.0, {"units": "m"}),
        },
        attrs={"title": "a test", "history": "made by hand"},
    )
    return data


def read(path):
    """What xarray alone reads."""
    if path.suffix == ".zarr":
        return xr.open_dataset(path, engine="zarr", consolidated=False)
    return xr.open_dataset(path, engine="netcdf4")


def same(opened, expected):
    opened = opened.drop_attrs(deep=False).assign_attrs(expected.attrs)
    xr.testing.assert_identical(opened, expected)
    for name in expected.variables:
        assert opened[name].dims == expected[name].dims
        assert opened[name].dtype == expected[name].dtype


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_reads_back_as_it_was(tmp_path, form):
    path = write(fields(), tmp_path / f"a.{form}", note="added")
    assert path == tmp_path / f"a.{form}"
    opened = open_fields(path)
    assert opened.attrs["Conventions"] == "CF-1.11"
    assert opened.attrs["title"] == "a test"
    assert opened.attrs["note"] == "added"
    assert "finegrid" in opened.attrs["history"].splitlines()[0]
    assert opened.attrs["history"].splitlines()[1] == "made by hand"
    assert opened["lat"].encoding["bounds"] == "lat_bnds"
    expected = fields()
    del expected["lat"].attrs["bounds"]
    same(opened, expected)
    assert read(path)["t2m"].encoding.get("coordinates") == "height"


def test_a_netcdf_file_is_what_other_programs_expect(tmp_path):
    data = fields()
    data["t2m"] = data["t2m"].astype("float64")
    data["lat_bnds"].attrs["long_name"] = "edges"  # CF: bounds take everything from their coordinate
    with netCDF4.Dataset(write(data, tmp_path / "a.nc")) as file:
        assert file.dimensions["time"].isunlimited()
        assert file["t2m"].dtype == np.float32
        assert np.isnan(file["t2m"]._FillValue)
        assert file["t2m"].filters()["shuffle"]
        assert file["t2m"].filters()["complevel"] == 1
        assert not hasattr(file["lat"], "_FillValue")
        assert file["lat_bnds"].ncattrs() == []
        assert file["time"].calendar == "standard"


@pytest.mark.parametrize("form", FORMATS)
def test_blocks_follow_each_other(tmp_path, form):
    data = fields(times=7)
    with Writer(tmp_path / f"a.{form}") as writer:
        for start, stop in ((0, 1), (1, 4), (4, 7)):
            writer.append(data.isel(time=slice(start, stop)))
        writer.set_attributes(violation=1e-7)
    opened = open_fields(tmp_path / f"a.{form}")
    assert opened.attrs["violation"] == 1e-7
    np.testing.assert_array_equal(opened["t2m"], data["t2m"])
    np.testing.assert_array_equal(opened["time"], data["time"])


@pytest.mark.parametrize("form", FORMATS)
def test_time_need_not_be_the_first_dimension(tmp_path, form):
    data = fields().transpose("lat", "lon", "time", ...).expand_dims(member=[0, 1])
    with Writer(tmp_path / f"a.{form}") as writer:
        writer.append(data.isel(time=slice(0, 2)))
        writer.append(data.isel(time=slice(2, 6)))
    opened = open_fields(tmp_path / f"a.{form}")
    assert opened["t2m"].dims == ("member", "lat", "lon", "time")
    np.testing.assert_array_equal(opened["t2m"], data["t2m"])


def test_lazy_fields_are_computed_a_block_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["finegrid.data.write"], "_BLOCK_BYTES", 5 * 12 * 4)
    appended = []
    plain = Writer.append
    monkeypatch.setattr(
        Writer, "append", lambda self, block: (appended.append(block.sizes["time"]), plain(self, block))
    )
    write(fields(times=10).chunk(time=2), tmp_path / "a.nc")
    assert appended == [4, 4, 2]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_steps(tmp_path):
    code = (
        "import sys, resource, numpy as np, xarray as xr, dask.array as da; from finegrid.data.write import write\n"
        "n = int(sys.argv[1]); time = np.datetime64('2001-01-01', 'ns') + np.arange(n) * np.timedelta64(1, 'h')\n"
        "lazy = da.random.random((n, 256, 256), chunks=(8, 256, 256)).astype('float32')\n"
        "coords = {'time': time, 'lat': np.linspace(40, 50, 256), 'lon': np.linspace(0, 10, 256)}\n"
        "write(xr.Dataset({'t': (('time', 'lat', 'lon'), lazy)}, coords=coords), sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code]
    few, many = (
        int(subprocess.run([*command, n, str(tmp_path / "a.nc")], capture_output=True, text=True, check=True).stdout)
        for n in ("400", "1000")
    )
    assert many < few + 50_000  # kB; the longer series is 157 MB longer


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_calendars_of_models_come_back(tmp_path, form, calendar):
    times = [cftime.datetime(1850, 2, day, 12, calendar=calendar) for day in range(1, 7)]
    bounds = np.array([[time.replace(hour=0), time.replace(hour=18)] for time in times])
    data = fields().assign_coords(time=("time", times, {"bounds": "time_bnds"}), time_bnds=(("time", "bnds"), bounds))
    data["time"].encoding = {"units": "days since 1850-01-01", "calendar": calendar}
    path = write(data, tmp_path / f"a.{form}")
    decoder = xr.coders.CFDatetimeCoder(use_cftime=True)
    engine = {"engine": "zarr", "consolidated": False} if form == "zarr" else {"engine": "netcdf4"}
    opened = xr.open_dataset(path, decode_times=decoder, decode_coords="all", **engine)
    np.testing.assert_array_equal(opened["time"], times)
    np.testing.assert_array_equal(opened["time_bnds"], bounds)
    assert opened["time"].encoding["units"] == "days since 1850-01-01"
    assert opened["time"].encoding["calendar"] == calendar


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "step", [HOUR, 7 * np.timedelta64(1, "s"), np.timedelta64(1, "ms"), 20 * np.timedelta64(1, "m")]
)
def test_later_dates_between_the_units_of_the_first_are_exact(tmp_path, form, step):
    data = fields()
    first, second = data.isel(time=slice(0, 2)), data.isel(time=slice(2, 6))
    data["time"].encoding["units"] = first["time"].encoding["units"] = "hours since 2000-01-01"
    later = second.assign_coords(time=second["time"] + np.arange(4) * step)
    with Writer(tmp_path / f"a.{form}") as writer:
        writer.append(first)
        writer.append(later)
    np.testing.assert_array_equal(open_fields(tmp_path / f"a.{form}")["time"], np.r_[first["time"], later["time"]])


@given(
    offsets=st.lists(st.integers(0, 10**15), min_size=1, max_size=5, unique=True),
    unit=st.sampled_from(["days", "hours", "minutes"]),
)
def test_any_dates_are_counted_exactly(offsets, unit):
    from finegrid.data.dates import DateCodec

    times = np.datetime64("1990-05-17T01:02:03", "ns") + np.sort(np.array(offsets)) * np.timedelta64(1, "us")
    block = xr.Dataset(coords={"time": times})
    block["time"].encoding["units"] = f"{unit} since 1950-01-01"
    codec = DateCodec(block, "time")
    raw = xr.Dataset({"time": ("time", codec.encode(block["time"]), codec.attributes())})
    np.testing.assert_array_equal(xr.decode_cf(raw)["time"], times)


@pytest.mark.parametrize("form", FORMATS)
def test_a_rotated_pole_keeps_its_mapping_and_two_dimensional_coordinates(tmp_path, form):
    data = fields().drop_vars(["lat_bnds"]).rename(lat="rlat", lon="rlon")
    data["rlat"].attrs = {"standard_name": "grid_latitude", "units": "degrees"}
    data["rlon"].attrs = {"standard_name": "grid_longitude", "units": "degrees"}
    pole = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": 18.0,
    }
    plane = np.arange(12.0).reshape(3, 4)
    data = data.assign_coords(
        lat=(("rlat", "rlon"), plane, {"units": "degrees_north"}),
        lon=(("rlat", "rlon"), plane, {"units": "degrees_east"}),
        rotated_pole=((), b"", pole),
    )
    data["t2m"].encoding["grid_mapping"] = "rotated_pole"
    standard, names = harmonise(data)
    path = write(restore(standard, names), tmp_path / f"a.{form}")
    opened = open_fields(path)
    assert opened["rotated_pole"].attrs == pole
    assert opened["t2m"].encoding["grid_mapping"] == "rotated_pole"
    assert opened["lat"].dims == ("rlat", "rlon")
    assert set(read(path)["t2m"].encoding["coordinates"].split()) == {"height", "lat", "lon"}
    xr.testing.assert_identical(harmonise(opened)[0].drop_attrs(deep=False), standard.drop_attrs(deep=False))


@pytest.mark.parametrize("form", FORMATS)
def test_static_fields_and_odd_types(tmp_path, form):
    data = fields().isel(time=0, drop=True).assign(land=(("lat", "lon"), np.eye(3, 4, dtype="int16")))
    data = data.assign_coords(
        zone=("lat", np.array(["north", "middle", "south"], dtype=object)), lead=np.timedelta64(6, "h")
    )
    opened = open_fields(write(data, tmp_path / f"a.{form}"))
    assert opened["land"].dtype == np.int16
    np.testing.assert_array_equal(opened["zone"], data["zone"])
    assert (int(opened["lead"]), opened["lead"].attrs["units"]) == (6, "hours")


@pytest.mark.parametrize("form", FORMATS)
def test_the_users_file_comes_back_after_the_whole_way(tmp_path, form):
    data = (
        fields()
        .assign_coords(lon=("lon", [357.0, 358, 359, 0], {"units": "degrees_east"}))
        .transpose("lat", "time", "lon", ...)
    )
    data["time"].encoding = {"units": "days since 1990-01-01", "calendar": "proleptic_gregorian"}
    first = open_fields(write(data, tmp_path / f"first.{form}"))
    standard, names = harmonise(first)
    second = open_fields(write(restore(standard, names), tmp_path / f"second.{form}"))
    same(second, first)
    assert second["time"].encoding["units"] == "days since 1990-01-01"
    assert second["time"].encoding["calendar"] == "proleptic_gregorian"


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_may_be_replaced_by_what_is_computed_from_it(tmp_path, form):
    path = write(fields(), tmp_path / f"a.{form}")
    lazy = open_fields(path)
    lazy["t2m"] = lazy["t2m"] + 1
    write(lazy, path)
    np.testing.assert_array_equal(open_fields(path)["t2m"], fields()["t2m"] + 1)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("older", [False, True])
def test_an_interruption_leaves_nothing_half_written(tmp_path, form, error, older):
    path = tmp_path / f"a.{form}"
    if older:
        write(fields(), path)

    def interrupted(block, block_info=None):
        if block_info[0]["array-location"][0][0] >= 4:
            raise error
        return block

    lazy = fields().chunk(time=2)
    lazy["t2m"] = lazy["t2m"].copy(
        data=lazy["t2m"].data.map_blocks(interrupted, dtype="float32", meta=np.empty((0, 0, 0), "f4"))
    )
    with pytest.raises(error), Writer(path) as writer:
        for start in range(0, 6, 2):
            writer.append(lazy.isel(time=slice(start, start + 2)))
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if older else [])
    if older:
        np.testing.assert_array_equal(open_fields(path)["t2m"], fields()["t2m"])


def test_a_failed_append_cleans_up_without_a_with_statement_too(tmp_path):
    writer = Writer(tmp_path / "a.nc")
    writer.append(fields())
    with pytest.raises(InputError):
        writer.append(fields().drop_vars("height"))
    assert list(tmp_path.iterdir()) == []


def test_bounds_of_time_may_need_finer_units_than_time(tmp_path):
    data = fields(step=24 * HOUR)
    bounds = np.stack([data["time"].values - HOUR, data["time"].values + HOUR], axis=1)
    data = data.assign_coords(time_bnds=(("time", "bnds"), bounds))
    data["time"].attrs["bounds"], data["time"].encoding["units"] = "time_bnds", "days since 2000-01-01"
    opened = open_fields(write(data, tmp_path / "a.nc"))
    np.testing.assert_array_equal(opened["time_bnds"], bounds)
    np.testing.assert_array_equal(opened["time"], data["time"])


@pytest.mark.parametrize("form", FORMATS)
def test_an_error_between_blocks_leaves_nothing_behind(tmp_path, form):
    with pytest.raises(ZeroDivisionError), Writer(tmp_path / f"a.{form}") as writer:
        writer.append(fields())
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_said_in_words_and_leaves_nothing_behind(tmp_path, form):
    # A limit on the size of files fails as a full disk does, at whatever call meets it first.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = fields(times=1).isel(lat=[0] * 400, lon=[0] * 400)
    data = data.assign_coords(lat=np.arange(400.0) / 10, lon=np.arange(400.0) / 10).drop_vars("lat_bnds")
    data["t2m"] = data["t2m"].copy(data=np.random.default_rng(0).normal(size=(1, 400, 400)).astype("float32"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(InputError, match=rf"could not write {tmp_path}/a\.{form} .*space") as caught:
            write(data, tmp_path / f"a.{form}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "choose another path" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent/a.nc", "no folder .*absent.*mkdir"),
        ("a.txt", r"cannot tell the format of .*a\.txt.*\.nc"),
        ("old.nc", r"old\.nc exists already.*overwrite=True"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_any_work(tmp_path, name, words):
    (tmp_path / "old.nc").write_bytes(b"old")
    with pytest.raises(InputError, match=words):
        Writer(tmp_path / name, overwrite=False)
    assert (tmp_path / "old.nc").read_bytes() == b"old"


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    # Tests may run as root, whom permissions do not stop.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="read-only"):
        write(fields(), tmp_path / "a.nc")


def test_a_folder_that_turns_read_only_is_said_in_words(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("finegrid.data.stores.netCDF4.Dataset", refused)
    with pytest.raises(InputError, match=r"could not write .*a\.nc .*Permission denied"):
        write(fields(), tmp_path / "a.nc")


def test_a_block_with_other_variables_is_refused(tmp_path):
    with pytest.raises(InputError, match="differs from the first in extra"), Writer(tmp_path / "a.nc") as writer:
        writer.append(fields())
        writer.append(fields().assign_coords(extra=1.0))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_without_blocks_says_so(tmp_path):
    with pytest.raises(InputError, match="nothing was written"), Writer(tmp_path / "a.nc"):
        pass


def test_compression_is_an_option(tmp_path):
    with Writer(tmp_path / "a.nc", compression=0) as writer:
        writer.append(fields(times=100))
    with netCDF4.Dataset(tmp_path / "a.nc") as file:
        assert not file["t2m"].filters()["zlib"]


def test_chunks_are_about_a_megabyte():
    from finegrid.data.stores import Layout

    def chunks(dims, shape, dtype="float32"):
        return Layout(dims, shape, np.dtype(dtype), record="time").chunks()

    assert chunks(("time", "y", "x"), (8, 512, 512)) == (1, 512, 512)
    assert chunks(("time", "y", "x"), (8, 100, 100)) == (25, 100, 100)
    assert chunks(("member", "time", "y", "x"), (5, 8, 100, 100)) == (1, 25, 100, 100)
    assert chunks(("time", "y", "x"), (8, 4000, 4000)) == (1, 62, 4000)
    assert chunks(("time",), (8,), "int64") == (4096,)
    assert chunks(("y", "x"), (33, 49)) == (33, 49)


def test_reading_lazy_fields_and_writing_share_one_lock(tmp_path):
    # HDF5 is not thread-safe: a thread that reads ahead while a block is written would crash the process.
    from concurrent.futures import ThreadPoolExecutor

    path = write(fields(times=300), tmp_path / "in.nc")
    opened = open_fields(path, chunks={"time": 3})
    with ThreadPoolExecutor(2) as pool, Writer(tmp_path / "out.nc") as writer:
        ahead = [pool.submit(lambda i=i: opened.isel(time=slice(i, i + 30)).compute()) for i in range(0, 300, 30)]
        for start in range(0, 300, 30):
            writer.append(opened.isel(time=slice(start, start + 30)))
        for each in ahead:
            each.result()
    assert isinstance(opened["t2m"].data, dask.array.Array)
    np.testing.assert_array_equal(open_fields(tmp_path / "out.nc")["t2m"], fields(times=300)["t2m"])
