"""The hour, the season, the neighbouring times and the place, as numbers that help to predict."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError
from finegrid.data.predictors import CYCLES, cycles, frame_indices, seconds_since_start, static_fields, useful_cycles
from finegrid.grids import Grid
from finegrid.grids.geometry import crs_of

RADIUS = 6_371_000.0


def times(start: str, count: int, freq: str = "D", calendar: str = "standard") -> xr.DataArray:
    values = xr.date_range(start, periods=count, freq=freq, calendar=calendar, use_cftime=calendar != "standard")
    return xr.DataArray(values, dims="time", coords={"time": values})


def plain_grid(ny: int = 8, nx: int = 12, step: float = 0.25, south: float = 45.0, west: float = 5.0) -> Grid:
    y_edges, x_edges = south + step * np.arange(ny + 1), west + step * np.arange(nx + 1)
    return Grid((y_edges[1:] + y_edges[:-1]) / 2, (x_edges[1:] + x_edges[:-1]) / 2, y_edges, x_edges)


def rotated_grid(size: int = 8, step: float = 0.2) -> Grid:
    pole = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 43.0,
        "grid_north_pole_longitude": -172.0,
    }
    edges = step * (np.arange(size + 1) - size / 2)
    middles = (edges[1:] + edges[:-1]) / 2
    return Grid(middles, middles, edges, edges, crs_of(pole))


def elevation(lat: np.ndarray, lon: np.ndarray, values: np.ndarray, name: str = "elevation") -> xr.Dataset:
    return xr.Dataset(
        {name: (("lat", "lon"), values, {"units": "m"})},
        coords={"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )


@pytest.mark.parametrize(
    ("calendar", "date", "phase"),
    [
        ("standard", "2001-07-02T06:00", 182.25 / 365.25),
        ("noleap", "2004-07-02T06:00", 182.25 / 365),
        ("360_day", "2001-07-01T06:00", 180.25 / 360),
    ],
)
def test_the_season_is_the_part_of_the_year_that_has_passed_in_the_calendar_of_the_data(calendar, date, phase):
    found = cycles(times(date, 1, calendar=calendar), ("day_of_year",))[0]
    angle = 2 * np.pi * phase
    np.testing.assert_allclose(found, [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], atol=1e-6)


def test_the_hour_turns_once_a_day_and_columns_follow_the_kinds():
    stamps = times("2001-01-01", 9, "3h")
    both = cycles(stamps, ("hour", "day_of_year"))
    assert both.shape == (9, 8)
    assert both.dtype == np.float32
    angle = 2 * np.pi * np.arange(9) / 8
    np.testing.assert_allclose(both[:, :2], np.stack([np.sin(angle), np.cos(angle)], -1), atol=1e-6)
    np.testing.assert_array_equal(both[:, 4:], cycles(stamps, ("day_of_year",)))


def test_no_kinds_are_no_columns_and_an_unknown_kind_lists_the_known():
    assert cycles(times("2001-01-01", 3), ()).shape == (3, 0)
    with pytest.raises(InputError, match="got the cycle 'moon'; expected one of hour, day_of_year"):
        cycles(times("2001-01-01", 3), ("moon",))


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (times("2001-01-01", 60), ()),
        (times("2001-01-01", 400), ("day_of_year",)),
        (times("2001-01-01", 40, "6h"), ("hour",)),
        (times("2001-01-01", 1500, "6h"), CYCLES),
        (times("2001-01-01", 350, calendar="360_day"), ("day_of_year",)),
        (times("2001-01-01", 1), ()),
        (times("2001-01-01", 0), ()),
    ],
)
def test_only_cycles_that_the_record_can_teach_are_useful(stamps, expected):
    assert useful_cycles(stamps) == expected


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_seconds_are_counted_in_any_calendar(calendar):
    stamps = times("2001-02-27", 4, calendar=calendar)
    np.testing.assert_array_equal(seconds_since_start(stamps), 86400.0 * np.arange(4))


def test_frames_of_monthly_fields_are_months_of_any_length():
    np.testing.assert_array_equal(frame_indices(times("2001-01-01", 30, "MS"), -12)[12:], np.arange(18))


@given(count=st.integers(1, 30), offset=st.integers(-4, 4))
def test_frames_look_as_many_steps_away_or_stay_at_the_ends(count, offset):
    found = frame_indices(times("2001-01-01", count), offset)
    expected = [each + offset if 0 <= each + offset < count else each for each in range(count)]
    np.testing.assert_array_equal(found, expected)


def test_frames_do_not_look_across_a_gap():
    stamps = times("2001-01-01", 10).isel(time=[0, 1, 2, 6, 7, 8, 9])
    np.testing.assert_array_equal(frame_indices(stamps, -1), [0, 0, 1, 3, 3, 4, 5])
    np.testing.assert_array_equal(frame_indices(stamps, 1), [1, 2, 2, 4, 5, 6, 6])
    np.testing.assert_array_equal(frame_indices(stamps, 2), [2, 1, 2, 5, 6, 5, 6])


def test_a_finer_elevation_is_averaged_and_keeps_its_mean():
    grid, step = plain_grid(), 0.05
    lat, lon = 44.5 + step * (np.arange(60) + 0.5), 4.5 + step * (np.arange(80) + 0.5)
    height = np.random.default_rng(0).gamma(2.0, 300.0, (60, 80))
    found = static_fields(elevation(lat, lon, height), grid)
    inner = height[10:50, 10:70]
    sine = np.diff(np.sin(np.deg2rad(45 + step * np.arange(41))))
    expected = (inner * sine[:, None]).sum() / (60 * sine.sum())
    assert (found.elevation.values * grid.area).sum() / grid.area.sum() == pytest.approx(expected, rel=1e-6)
    blocks = (inner.reshape(8, 5, 12, 5) * sine.reshape(8, 5, 1, 1)).sum((1, 3)) / (
        5 * sine.reshape(8, 5).sum(1)[:, None]
    )
    np.testing.assert_allclose(found.elevation, blocks, rtol=1e-6)


def test_a_coarser_field_is_interpolated():
    grid = plain_grid()
    lat, lon = 43.5 + np.arange(6), 3.5 + np.arange(8)
    found = static_fields(elevation(lat, lon, 100 * lat[:, None] + 10 * lon, "roughness"), grid)
    np.testing.assert_allclose(found.roughness, 100 * grid.y[:, None] + 10 * grid.x, rtol=1e-6)
    assert list(found.data_vars) == ["roughness"]


def test_the_slope_of_an_inclined_plane_is_its_inclination():
    grid = plain_grid()
    north = 0.03 * RADIUS * np.deg2rad(grid.y - 45)[:, None] + np.zeros(grid.shape)
    found = static_fields(elevation(grid.y, grid.x, north), grid)
    np.testing.assert_allclose(found.elevation_slope, 0.03, rtol=1e-4)
    east = 0.02 * RADIUS * np.cos(np.deg2rad(grid.y))[:, None] * np.deg2rad(grid.x - 5)
    # Along a parallel exactly; the same plane also rises a little from north to south, as parallels shrink.
    southward = 0.02 * np.sin(np.deg2rad(grid.y))[:, None] * np.deg2rad(grid.x - 5)
    slope = static_fields(elevation(grid.y, grid.x, east), grid).elevation_slope
    np.testing.assert_allclose(slope[1:-1], np.hypot(0.02, southward)[1:-1], rtol=2e-4)


def test_depths_and_missing_values_count_as_the_height_of_the_sea():
    grid = plain_grid()
    height = np.full(grid.shape, 200.0)
    height[:, :3], height[:, 3] = -1000.0, np.nan
    found = static_fields(elevation(grid.y, grid.x, height), grid)
    np.testing.assert_array_equal(found.elevation[:, :4], 0.0)
    np.testing.assert_array_equal(found.elevation[:, 4:], 200.0)
    other = static_fields(elevation(grid.y, grid.x, height, "anomaly"), grid)
    np.testing.assert_array_equal(other.anomaly[:, :3], -1000.0)


def test_several_static_files_become_one_dataset_on_the_grid():
    grid = plain_grid()
    lat, lon = 44.125 + 0.25 * np.arange(16), 4.125 + 0.25 * np.arange(20)
    files = [elevation(lat, lon, np.ones((16, 20)) * 50), elevation(lat, lon, np.ones((16, 20)) * 0.5, "land")]
    found = static_fields(files, grid)
    assert set(found.data_vars) == {"elevation", "elevation_slope", "land"}
    np.testing.assert_array_equal(found.y, grid.y)
    assert not found.elevation_slope.values.any()


@pytest.mark.parametrize("step", [0.02, 0.5])
def test_a_field_on_latitudes_reaches_a_rotated_pole(step):
    grid = rotated_grid()
    lat, lon = np.arange(45, 49.01, step), np.arange(5, 11.01, step)
    found = static_fields(elevation(lat, lon, 50 * (lat[:, None] - 44) + 20 * lon), grid)
    latitude, longitude = grid.centres
    np.testing.assert_allclose(found.elevation, 50 * (latitude - 44) + 20 * longitude, atol=0.05)
    # 50 m a degree northwards and 20 m eastwards, whichever way the rows run
    run = np.deg2rad(1) * RADIUS
    expected = np.hypot(50 / run, 20 / (run * np.cos(np.deg2rad(latitude))))
    np.testing.assert_allclose(found.elevation_slope, expected, rtol=0.01)


def test_a_static_file_of_somewhere_else_is_refused():
    grid = plain_grid()
    with pytest.raises(InputError, match=r"static field 'elevation', which covers \d+% of the fine grid.*whole domain"):
        static_fields(elevation(45.025 + 0.05 * np.arange(12), 5.025 + 0.05 * np.arange(60), np.ones((12, 60))), grid)
