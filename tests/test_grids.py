"""Grids: areas against closed forms and an independent ellipsoid, edges, reference systems, round trips."""

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from finegrid.conventions import InputError
from finegrid.grids import Grid, nesting
from finegrid.grids.geometry import EARTH_RADIUS, polygon_areas

SPHERE = 4 * np.pi * EARTH_RADIUS**2

ROTATED_POLE = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
    "earth_radius": 6371229.0,
}
LAMBERT = {
    "grid_mapping_name": "lambert_conformal_conic",
    "standard_parallel": [46.0, 49.0],
    "longitude_of_central_meridian": 13.33,
    "latitude_of_projection_origin": 47.5,
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257223563,
}


def grid_of(y, x, crs: dict | None = None, bounds: dict | None = None) -> Grid:
    coords = {"y": ("y", np.asarray(y)), "x": ("x", np.asarray(x))}
    coords |= {f"{axis}_bounds": ((axis, "bounds"), values) for axis, values in (bounds or {}).items()}
    if crs:
        coords["crs"] = ((), 0, crs)
    return Grid.of(xr.Dataset(coords=coords))


def evenly(start: float, step: float, count: int) -> np.ndarray:
    return start + step * np.arange(count)


def gaussian_latitudes(count: int) -> np.ndarray:
    return np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(count)[0]))


@pytest.mark.parametrize(
    ("y", "x"),
    [
        (evenly(-90, 2.5, 73), evenly(-180, 2.5, 144)),
        (evenly(-89.5, 1, 180), evenly(0.5, 1, 360)),
        (gaussian_latitudes(94), evenly(0, 1.875, 192)),
    ],
    ids=["pole rows", "cell centred", "gaussian"],
)
def test_the_cells_of_a_global_grid_fill_the_sphere(y, x):
    grid = grid_of(y, x)
    assert grid.periodic
    assert grid.area.sum() == pytest.approx(SPHERE, rel=1e-12)


def test_rows_at_the_poles_are_half_cells():
    grid = grid_of(evenly(-90, 2.5, 73), evenly(-180, 2.5, 144))
    np.testing.assert_array_equal(grid.y_edges[[0, 1, -2, -1]], [-90, -88.75, 88.75, 90])
    # R2 dlon (1 - sin 88.75)
    assert grid.area[0, 0] == pytest.approx(EARTH_RADIUS**2 * np.deg2rad(2.5) * (1 - np.sin(np.deg2rad(88.75))))


def test_a_band_without_pole_rows_is_not_stretched_to_the_poles():
    assert grid_of(evenly(-87.5, 2.5, 71), evenly(0, 2.5, 144)).y_edges[0] == -88.75


def test_a_rotated_grid_has_the_areas_of_the_same_grid_unrotated():
    y, x = evenly(-14.85, 0.44, 28), evenly(-22.93, 0.44, 30)
    rotated, plain = grid_of(y, x, ROTATED_POLE), grid_of(y, x)
    assert not rotated.is_latlon
    np.testing.assert_allclose(rotated.area, plain.area, rtol=1e-12)
    # Parallels are not great circles, so polygons of the turned corners agree only to the size of a cell squared.
    np.testing.assert_allclose(polygon_areas(rotated.corners), plain.area, rtol=2e-5)


@pytest.mark.data
def test_centres_of_a_rotated_grid_are_the_latitudes_and_longitudes_in_the_file(data_dir: Path):
    name = "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc"
    with xr.open_dataset(data_dir / name, engine="netcdf4") as file:
        grid = Grid.of(file.set_coords("crs").rename(rlat="y", rlon="x"))
        latitude, longitude = grid.centres
        np.testing.assert_allclose(latitude, file["lat"], atol=1e-4)
        np.testing.assert_allclose(longitude, file["lon"], atol=1e-4)


def test_areas_of_projected_cells_agree_with_the_ellipsoid():
    grid = grid_of(evenly(-2e5, 1e4, 41), evenly(-3e5, 1e4, 61), LAMBERT)
    geod = pyproj.Geod(ellps="WGS84")
    for row, column in [(0, 0), (20, 30), (40, 60)]:
        block = grid.corners[row : row + 2, column : column + 2]
        ring = block[[0, 0, 1, 1], [0, 1, 1, 0]]
        area, _ = geod.polygon_area_perimeter(ring[:, 0], ring[:, 1])
        # The ellipsoid's radii of curvature differ from 6371 km by up to 0.5 %, its area by up to 0.7 %.
        assert grid.area[row, column] == pytest.approx(abs(area), rel=7e-3)


def test_areas_of_small_cells_keep_their_digits():
    edges = evenly(45, 1e-4, 11)
    corners = np.stack(np.meshgrid(edges, edges), axis=-1)
    grid = grid_of((edges[1:] + edges[:-1]) / 2, (edges[1:] + edges[:-1]) / 2)
    np.testing.assert_allclose(polygon_areas(corners), grid.area, rtol=1e-8)


def test_edges_of_uneven_centres_lie_half_way_unless_bounds_say_otherwise():
    y, x = [10.0, 11.0, 13.0], [0.0, 2.0, 4.0]
    np.testing.assert_array_equal(grid_of(y, x).y_edges, [9.5, 10.5, 12, 14])
    bounds = [[9.0, 10.4], [10.4, 12.5], [12.5, 13.1]]
    np.testing.assert_array_equal(grid_of(y, x, bounds={"y": bounds}).y_edges, [9, 10.4, 12.5, 13.1])


def test_coarse_cells_have_the_area_of_their_fine_cells_also_at_the_poles():
    grid = grid_of(evenly(-90, 2.5, 73), evenly(-180, 2.5, 144)).cropped(slice(0, 72), slice(None))
    blocks = grid.area.reshape(18, 4, 36, 4).sum(axis=(1, 3))
    np.testing.assert_allclose(grid.coarsened(4).area, blocks, rtol=1e-12)
    np.testing.assert_allclose(np.diff(grid.coarsened(4).y), 10.0)


def test_a_coarse_file_without_bounds_still_nests():
    fine = grid_of(evenly(-90, 2.5, 72), evenly(-180, 2.5, 144))
    coarse = fine.coarsened(4)
    assert nesting(fine, grid_of(coarse.y, coarse.x)) == (4, 4)


def test_nesting_forgives_float32_coordinates_but_not_another_domain():
    fine = grid_of(evenly(45.005, 0.01, 40).astype("f4"), evenly(-85.995, 0.01, 60).astype("f4"))
    assert nesting(fine, grid_of(evenly(45.025, 0.05, 8), evenly(-85.975, 0.05, 12))) == (5, 5)
    assert nesting(fine, grid_of(evenly(45.03, 0.05, 8), evenly(-85.975, 0.05, 12))) is None
    assert nesting(fine, grid_of(evenly(45.035, 0.07, 6), evenly(-85.975, 0.05, 12))) is None
    assert nesting(fine, grid_of(evenly(45.025, 0.05, 8), evenly(-85.975, 0.05, 12), ROTATED_POLE)) is None


def test_a_coarser_grid_must_divide():
    with pytest.raises(InputError, match=r"33 x 49.*by 4 x 4.*trim"):
        grid_of(evenly(49, 0.25, 33), evenly(-10, 0.25, 49)).coarsened(4)


@pytest.mark.parametrize(
    ("coords", "words"),
    [
        ({"y": [2.0, 1.0], "x": [0.0, 1.0]}, "ascend"),
        ({"y": [1.0], "x": [0.0, 1.0]}, "one cell along y without bounds"),
        ({"y": [0.0, 1.0], "x": [0.0, 1.0], "crs": {"grid_mapping_name": "flat_earth"}}, "grid mapping"),
    ],
)
def test_what_is_no_grid_is_refused_in_words(coords, words):
    with pytest.raises(InputError, match=words):
        grid_of(**coords)


@given(
    ny=st.integers(2, 9),
    nx=st.integers(2, 9),
    crs=st.sampled_from([None, ROTATED_POLE, LAMBERT]),
    data=st.data(),
)
def test_grids_survive_json_and_files_to_the_last_bit(ny, nx, crs, data):
    step = data.draw(st.floats(0.01, 9.7))
    grid = grid_of(evenly(-40.3, step, ny), evenly(-8.1, step, nx), crs)
    masked = grid.masked(data.draw(arrays(bool, (ny, nx))))
    assert Grid.from_dict(json.loads(json.dumps(masked.to_dict()))) == masked
    assert hash(Grid.from_dict(grid.to_dict())) == hash(grid)
    assert Grid.of(xr.Dataset(coords=grid.coords())) == grid
    assert masked != grid


def test_cropping_keeps_edges_and_areas():
    grid = grid_of(gaussian_latitudes(16), evenly(0, 22.5, 16))
    part = grid.cropped(slice(2, 7), slice(3, None))
    np.testing.assert_array_equal(part.area, grid.area[2:7, 3:])
    assert not part.periodic
