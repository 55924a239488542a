"""Every format opens lazily, with the user's own names and the right values in the right places."""

import subprocess
import sys
import zipfile

import cftime
import dask.array
import netCDF4
import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.data.open import open_fields

DAY = np.timedelta64(1, "D")


def fields(times=3, start="2001-01-01", name="t2m"):
    values = np.arange(times * 12, dtype="float32").reshape(times, 3, 4)
    time = np.datetime64(start, "ns") + np.arange(times) * DAY
    coords = {
        "time": time,
        "lat": ("lat", [42.0, 41.0, 40.0], {"units": "degrees_north"}),
        "lon": ("lon", [5.0, 6, 7, 8], {"units": "degrees_east"}),
    }
    return xr.Dataset(
        {name: (("time", "lat", "lon"), values, {"units": "K"})}, coords=coords, attrs={"title": "a test"}
    )


def write_netcdf(path, form="NETCDF4", packed=False, **changes):
    """A file made by netCDF4 alone, so that reading is not tested against our own writing."""
    data = fields(**changes)
    with netCDF4.Dataset(path, "w", format=form) as file:
        for dim, size in data.sizes.items():
            file.createDimension(dim, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 2000-01-01"
        time[:] = (data["time"].values - np.datetime64("2000-01-01", "ns")) / DAY
        for name in ("lat", "lon"):
            axis = file.createVariable(name, "f8", (name,))
            axis.setncatts(data[name].attrs)
            axis[:] = data[name].values
        (field,) = data.data_vars
        variable = file.createVariable(
            field, "i2" if packed else "f4", ("time", "lat", "lon"), fill_value=-32768 if packed else None
        )
        variable.units = "K"
        if packed:
            variable.scale_factor, variable.add_offset = 0.5, 100.0
        variable[:] = data[field].values
    return data


def write_grib(path, first=5.0, steps=3, names=("2t",)):
    eccodes = pytest.importorskip("eccodes")
    keys = {"Ni": 4, "Nj": 3, "latitudeOfFirstGridPointInDegrees": 42.0, "latitudeOfLastGridPointInDegrees": 40.0}
    keys |= {"longitudeOfFirstGridPointInDegrees": first, "longitudeOfLastGridPointInDegrees": (first + 3) % 360}
    keys |= {"iDirectionIncrementInDegrees": 1.0, "jDirectionIncrementInDegrees": 1.0, "dataDate": 20010101}
    with path.open("wb") as file:
        for name in names:
            for step in range(steps):
                message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                for key, value in (keys | {"dataTime": 100 * step, "shortName": name}).items():
                    eccodes.codes_set(message, key, value)
                eccodes.codes_set_values(message, np.arange(12.0) + 280 + 12 * step)
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)


@pytest.mark.parametrize(
    "form", ["NETCDF4", "NETCDF4_CLASSIC", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_netcdf_of_every_kind(tmp_path, form, packed):
    written = write_netcdf(tmp_path / "a.nc", form, packed)
    opened = open_fields(tmp_path / "a.nc")
    assert isinstance(opened["t2m"].data, dask.array.Array)
    np.testing.assert_array_equal(opened["t2m"], written["t2m"])
    np.testing.assert_array_equal(opened["time"], written["time"])
    assert opened["t2m"].attrs["units"] == "K"
    assert opened.encoding["source"] == str(tmp_path / "a.nc")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_both_formats(tmp_path, version):
    written = fields()
    written.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=version == 2)
    opened = open_fields(tmp_path / "a.zarr")
    assert isinstance(opened["t2m"].data, dask.array.Array)
    xr.testing.assert_identical(opened, written)


def test_zarr_in_a_zip_file(tmp_path):
    fields().to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        for file in sorted((tmp_path / "a.zarr").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "a.zarr"))
    xr.testing.assert_identical(open_fields(tmp_path / "a.zarr.zip").load(), fields())


def test_grib_has_the_names_of_cfgrib_and_no_index_file(tmp_path):
    write_grib(tmp_path / "a.grib")
    opened = open_fields(tmp_path / "a.grib")
    assert opened["t2m"].dims == ("time", "latitude", "longitude")
    assert isinstance(opened["t2m"].data, dask.array.Array)
    np.testing.assert_allclose(opened["t2m"], 280 + np.arange(36.0).reshape(3, 3, 4))
    assert [file.name for file in tmp_path.iterdir()] == ["a.grib"]
    standard, names = harmonise(opened)
    np.testing.assert_allclose(standard["t2m"][0, 0], [288, 289, 290, 291])
    np.testing.assert_array_equal(standard["y"], [40, 41, 42])
    assert (names.time, names.y, names.x) == ("time", "latitude", "longitude")


def test_grib_across_greenwich_has_its_values_in_their_places(tmp_path):
    # cfgrib sorts the longitudes to 1, 358, 359, 360 but not the values: github.com/ecmwf/cfgrib/issues/402
    write_grib(tmp_path / "a.grib", first=358.0)
    standard, _ = harmonise(open_fields(tmp_path / "a.grib"))
    np.testing.assert_array_equal(standard["x"], [-2, -1, 0, 1])
    np.testing.assert_allclose(standard["t2m"][0, 2], [280, 281, 282, 283])


def test_grib_variables_at_different_heights_are_put_together(tmp_path):
    write_grib(tmp_path / "a.grib", names=("2t", "10u", "sp"))
    opened = open_fields(tmp_path / "a.grib")
    assert set(opened.data_vars) == {"t2m", "u10", "sp"}
    assert set(harmonise(opened)[0].data_vars) == {"t2m", "u10", "sp"}


def test_a_grib_file_of_one_field_has_one_time(tmp_path):
    write_grib(tmp_path / "a.grib", steps=1)
    assert harmonise(open_fields(tmp_path / "a.grib"))[0]["t2m"].shape == (1, 3, 4)


geotiff = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def write_geotiff(path, values, crs="EPSG:4326", names=None):
    pytest.importorskip("rioxarray")
    data = xr.DataArray(values, dims=("band", "y", "x"), coords={"y": [42.0, 41.0, 40.0], "x": [5.0, 6, 7, 8]})
    data.rio.write_crs(crs).assign_attrs({"long_name": names} if names else {}).rio.to_raster(path)


@geotiff
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32630"])
def test_a_geotiff_of_one_band_is_a_static_field(tmp_path, crs):
    values = np.arange(12.0, dtype="float32").reshape(1, 3, 4)
    write_geotiff(tmp_path / "elevation.tif", values, crs)
    opened = open_fields(tmp_path / "elevation.tif")
    assert opened["elevation"].dims == ("y", "x")
    standard, names = harmonise(opened, static=True)
    np.testing.assert_array_equal(standard["elevation"], values[0, ::-1])
    assert standard["y"].attrs["units"] == ("degrees_north" if crs == "EPSG:4326" else "m")
    assert names.grid_mapping == "spatial_ref"


@geotiff
def test_bands_described_by_dates_are_times_and_others_are_fields(tmp_path):
    values = np.arange(24.0, dtype="float32").reshape(2, 3, 4)
    write_geotiff(tmp_path / "pr.tif", values, names=("2001-01-01", "2001-01-02"))
    opened = open_fields(tmp_path / "pr.tif")
    assert opened["pr"].dims == ("time", "y", "x")
    assert opened["time"].values[1] == np.datetime64("2001-01-02")
    write_geotiff(tmp_path / "land.tif", values, names=("forest", "city"))
    assert set(open_fields(tmp_path / "land.tif").data_vars) == {"forest", "city"}


@geotiff
def test_geotiffs_named_by_dates_follow_each_other_in_time(tmp_path):
    values = np.arange(12.0, dtype="float32").reshape(1, 3, 4)
    for day in (2, 1):
        write_geotiff(tmp_path / f"pr_2001010{day}.tif", values * day)
    opened = open_fields(tmp_path / "*.tif")
    np.testing.assert_array_equal(opened["pr"][:, 0, 1], [1, 2])
    assert opened["time"].values[0] == np.datetime64("2001-01-01")


@geotiff
def test_the_affine_transform_follows_a_crop(tmp_path):
    from finegrid.conventions import restore

    write_geotiff(tmp_path / "a.tif", np.zeros((1, 3, 4), dtype="float32"), "EPSG:32630")
    standard, names = harmonise(open_fields(tmp_path / "a.tif"), static=True)
    assert "GeoTransform" not in standard["crs"].attrs
    transform = "4.5 1.0 0.0 42.5 0.0 -1.0"
    assert restore(standard, names)["spatial_ref"].attrs["GeoTransform"] == transform
    cropped = restore(standard.isel(y=slice(0, 2), x=slice(1, 4)), names)
    assert cropped["spatial_ref"].attrs["GeoTransform"] == "5.5 1.0 0.0 41.5 0.0 -1.0"


def test_many_files_follow_each_other_in_time(tmp_path):
    for year in (2002, 2001):
        write_netcdf(tmp_path / f"t_{year}.nc", start=f"{year}-01-01")
    for paths in (str(tmp_path / "t_*.nc"), [tmp_path / "t_2001.nc", tmp_path / "t_2002.nc"]):
        opened = open_fields(paths)
        assert opened.sizes["time"] == 6
        assert (opened["time"].diff("time") > np.timedelta64(0, "s")).all()
        assert opened.encoding["source"].endswith("t_2001.nc and 1 more")


def test_many_files_of_different_variables_are_one_dataset(tmp_path):
    write_netcdf(tmp_path / "a.nc")
    write_netcdf(tmp_path / "b.nc", name="pr")
    assert set(open_fields(tmp_path / "?.nc").data_vars) == {"t2m", "pr"}


def test_only_the_wanted_variables_are_kept(tmp_path):
    write_netcdf(tmp_path / "a.nc")
    write_netcdf(tmp_path / "b.nc", name="pr")
    assert set(open_fields(tmp_path / "?.nc", variables=["tas"]).data_vars) == {"t2m"}
    with pytest.raises(InputError, match=r"no variable 'wind' in .*a\.nc"):
        open_fields(tmp_path / "?.nc", variables=["wind"])


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars_of_models(tmp_path, calendar):
    fields().assign_coords(time=[cftime.datetime(2001, 2, day, calendar=calendar) for day in (26, 27, 28)]).to_netcdf(
        tmp_path / "a.nc", engine=xr.backends.NetCDF4BackendEntrypoint and "netcdf4"
    )
    assert open_fields(tmp_path / "a.nc")["time"].values[0].calendar == calendar


def test_blocks_hold_many_whole_fields_but_not_everything(tmp_path, monkeypatch):
    monkeypatch.setattr("finegrid.data.open._BLOCK_BYTES", 2 * 12 * 4)
    write_netcdf(tmp_path / "a.nc", "NETCDF3_CLASSIC", times=5)
    assert open_fields(tmp_path / "a.nc")["t2m"].chunks == ((2, 2, 1), (3,), (4,))
    assert open_fields(tmp_path / "a.nc", chunks={"lat": 1})["t2m"].chunks == ((5,), (1, 1, 1), (4,))


def test_opening_netcdf_imports_no_other_reader(tmp_path):
    # cfgrib next to pyproj can crash the process, and takes a second to import.
    write_netcdf(tmp_path / "a.nc")
    code = (
        "import sys; from finegrid.data.open import open_fields; "
        f"open_fields({str(tmp_path / 'a.nc')!r}).load(); "
        "print([name for name in ('cfgrib', 'rioxarray') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.data
def test_every_real_file_harmonises_and_comes_back(data_dir):
    from finegrid.conventions import restore

    for file in sorted(data_dir.glob("*.nc")):
        opened = open_fields(file)
        standard, names = harmonise(opened, static="time" not in opened.dims)
        back = restore(standard, names)
        expected = opened.astype("float32").assign_coords({name: opened[name] for name in opened.coords})
        xr.testing.assert_identical(back, expected)
        assert all(back[name].dims == opened[name].dims for name in opened.variables), file


@pytest.mark.parametrize(("section", "number"), [(7, 6), (7, 3), (3, 1), (1, 2), (6, 7)])
def test_sections_of_a_grib_message_in_another_order_are_refused(tmp_path, section, number):
    # ecCodes frees some of these twice, and ends the process.
    path = tmp_path / "a.grib"
    write_grib(path, steps=1)
    content, place = bytearray(path.read_bytes()), 16
    while content[place + 4] != section:
        place += int.from_bytes(content[place : place + 4], "big")
    content[place + 4] = number
    path.write_bytes(content)
    with pytest.raises(InputError, match="message 1 has no end where it says, or sections that do not fill it"):
        open_fields(path)


def test_a_dimension_without_a_name_is_refused(tmp_path):
    fields = xr.Dataset({"tas": (("time", "lat", "lon"), np.zeros((2, 3, 4)))})
    fields.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    described = tmp_path / "a.zarr" / "tas" / "zarr.json"
    described.write_text(described.read_text().replace('"lat"', "null"))
    with pytest.raises(InputError, match=r"'tas' of .*a\.zarr has a dimension without a name"):
        open_fields(tmp_path / "a.zarr")
