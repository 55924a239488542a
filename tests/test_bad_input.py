"""Files that cannot be used end in one sentence that names the file, the fault and the remedy."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.data.open import open_fields


def write(path, form="NETCDF4", units="days since 2000-01-01", times=(0, 1), lat=(40, 41), name="t2m", size=2):
    with netCDF4.Dataset(path, "w", format=form) as file:
        for dim, values in {"time": times, "lat": lat, "lon": np.arange(size)}.items():
            file.createDimension(dim, len(values))
            axis = file.createVariable(dim, "f8", (dim,))
            axis[:] = values
        file["time"].units = units
        file["lat"].units, file["lon"].units = "degrees_north", "degrees_east"
        file.createVariable(name, "f4", ("time", "lat", "lon"))[:] = 1.0
    return path


def message(*arguments, **options):
    with pytest.raises(InputError) as caught:
        harmonise(open_fields(*arguments, **options))
    return str(caught.value)


def test_a_missing_file_is_named_with_the_folder_that_was_looked_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = message("absent.nc")
    assert "no file 'absent.nc'" in text
    assert str(tmp_path) in text


def test_an_empty_pattern_and_an_empty_list_are_told_apart(tmp_path):
    assert "no file matches" in message(tmp_path / "*.nc")
    assert "empty list" in message([])


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01random bytes\xff", b"time,lat,lon,tas\n2001,1,2,3\n", b"<!DOCTYPE html>"]
)
def test_a_file_of_another_kind_is_no_climate_file(tmp_path, content):
    (tmp_path / "a.nc").write_bytes(content)
    text = message(tmp_path / "a.nc")
    assert "a.nc is not a climate file" in text
    assert "GeoTIFF" in text


def test_a_folder_is_opened_by_a_pattern(tmp_path):
    assert f"'{tmp_path}/*.nc'" in message(tmp_path)


@pytest.mark.parametrize("form", ["NETCDF4", "NETCDF3_CLASSIC"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_netcdf_file_is_not_read_as_zeros(tmp_path, form, part):
    whole = write(tmp_path / "a.nc", form, size=5000).read_bytes()
    (tmp_path / "a.nc").write_bytes(whole[: int(part * len(whole))])
    assert "a.nc is damaged or truncated" in (text := message(tmp_path / "a.nc")) or "a.nc is truncated" in text


def test_a_truncated_grib_file_is_noticed(tmp_path):
    (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(100))
    pytest.importorskip("cfgrib")
    assert "a.grib is truncated" in message(tmp_path / "a.grib")


@pytest.mark.parametrize("content", [b"II*\0\x08\0\0\0\0\0", b"MM\0*\0\0\0\x08\0\0"])
def test_a_broken_geotiff_is_named(tmp_path, content):
    pytest.importorskip("rioxarray")
    (tmp_path / "a.tif").write_bytes(content)
    assert "a.tif cannot be read as GeoTIFF" in message(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("suffix", "start", "module", "extra"),
    [("grib", b"GRIB", "cfgrib", "grib"), ("tif", b"II*\0", "rioxarray", "geotiff")],
)
def test_a_format_that_is_not_installed_names_its_extra(tmp_path, monkeypatch, suffix, start, module, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / f"a.{suffix}").write_bytes(start + bytes(50))
    assert f'pip install "finegrid[{extra}]"' in message(tmp_path / f"a.{suffix}")


def test_a_file_without_variables_says_so(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createGroup("inner").createDimension("x", 2)
    assert "a.nc holds no variables at its top level" in message(tmp_path / "a.nc")


def test_units_of_time_that_nobody_understands(tmp_path):
    assert "a.nc does not follow the CF conventions" in message(write(tmp_path / "a.nc", units="days since the flood"))


def test_a_time_axis_without_units_is_not_taken_for_dates(tmp_path):
    text = message(write(tmp_path / "a.nc", units="1"))
    assert f"'time' in {tmp_path / 'a.nc'} holds no dates" in text


def test_times_that_do_not_ascend_are_named_with_the_file(tmp_path):
    text = message(write(tmp_path / "a.nc", times=(0, 2, 1)))
    assert f"2000-01-02 comes after 2000-01-03 in 'time' of {tmp_path / 'a.nc'}" in text
    assert "2000-01-02 is there twice" in message(write(tmp_path / "b.nc", times=(0, 1, 1)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"times": (1, 2)}, "2000-01-02 is there twice"),
        ({"times": (0.5, 2)}, "do not fit together"),
        ({"times": (5, 6), "lat": (50, 51)}, "do not fit together"),
    ],
)
def test_files_that_do_not_fit_together_are_named(tmp_path, change, words):
    write(tmp_path / "a.nc")
    write(tmp_path / "b.nc", **change)
    text = message(tmp_path / "?.nc")
    assert "a.nc and 1 more" in text
    assert words in text


def test_a_station_file_has_no_horizontal_grid(tmp_path):
    stations = xr.Dataset(
        {"tas": (("station", "time"), np.zeros((2, 2)))}, coords={"time": np.array(["2001", "2002"], "M8[ns]")}
    )
    stations.to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    assert "a.nc has no horizontal grid" in message(tmp_path / "a.nc")
