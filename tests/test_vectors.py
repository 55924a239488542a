"""Winds on turned axes: the angle against spherical trigonometry and against pyproj, speeds kept, there and back."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import harmonise
from finegrid.data import open_fields
from finegrid.grids import Grid
from finegrid.grids.vectors import to_earth, to_grid, turn
from test_any_grids import GLOBAL, REGIONS, cells
from test_curvilinear import plane_file
from test_grids import LAMBERT, ROTATED_POLE

GRIDS = {
    **REGIONS,
    "rotated globe": GLOBAL["rotated"],
    "curvilinear": Grid.of(harmonise(plane_file(REGIONS["rotated"], bounds=True))[0]),
}


def of_rotated_pole(grid: Grid, pole: tuple[float, float]) -> np.ndarray:
    """Angle from the east to the x axis: that from the north to the rotated pole, by the spherical triangle."""
    latitude, longitude = (np.deg2rad(each) for each in grid.centres)
    west, north = np.deg2rad(pole[0]) - longitude, np.deg2rad(pole[1])
    opposite = np.sin(west) * np.cos(north)
    beside = np.cos(latitude) * np.sin(north) - np.sin(latitude) * np.cos(north) * np.cos(west)
    return -np.arctan2(opposite, beside)


def of_pyproj(grid: Grid, crs: dict) -> np.ndarray:
    """The same from the azimuth of a step of ten metres along x."""
    system = pyproj.CRS.from_cf(crs)
    way = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    x, y = np.meshgrid(grid.x, grid.y)
    before, after = (np.stack(way.transform(x + step, y)) for step in (-5, 5))
    azimuth, _, _ = system.get_geod().inv(*before, *after)
    return np.deg2rad(90 - azimuth)


def angle(grid: Grid) -> np.ndarray:
    cosine, sine = turn(grid)
    return np.arctan2(sine, cosine)


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(np.exp(1j * first) - np.exp(1j * second)).max())


@pytest.mark.parametrize("name", ["rotated", "rotated globe", "curvilinear"])
def test_the_axes_of_a_rotated_grid_are_turned_by_the_angle_of_the_spherical_triangle(name):
    pole = ROTATED_POLE["grid_north_pole_longitude"], ROTATED_POLE["grid_north_pole_latitude"]
    found, expected = angle(GRIDS[name]), of_rotated_pole(GRIDS[name], pole)
    assert np.ptp(expected) > 0.1
    # Of the curvilinear grid only float32 centres and the corners are known.
    assert apart(found, expected) < (1e-4 if name == "curvilinear" else 1e-8)


@pytest.mark.parametrize("south", [-60, 30])
def test_the_axes_of_a_projected_grid_are_turned_as_pyproj_says(south):
    crs = LAMBERT if south > 0 else {**LAMBERT, "standard_parallel": -50.0, "latitude_of_projection_origin": -50.0}
    grid = cells(20, 24, 5e4, -5e5, -6e5, crs)
    expected = of_pyproj(grid, crs)
    # Directions on the sphere and on the ellipsoid differ by some hundredths of a degree.
    assert np.ptp(expected) > 0.1 and apart(angle(grid), expected) < 1e-3
    assert np.sign(angle(grid)[10, 0]) == -np.sign(angle(grid)[10, -1])


def test_the_axes_of_latitudes_and_longitudes_are_those_of_the_earth():
    for grid in (GLOBAL["gaussian"], cells(10, 36, 10.0, -50, 100)):
        assert np.abs(angle(grid)).max() < 1e-9


@given(name=st.sampled_from(sorted(GRIDS)), seed=st.integers(0, 999))
def test_turning_keeps_speeds_and_turning_back_undoes_it(name, seed):
    grid = GRIDS[name]
    u, v = np.random.default_rng(seed).normal(0, 10, (2, 3, *grid.shape))
    east, north = to_earth(u, v, grid)
    np.testing.assert_allclose(np.hypot(east, north), np.hypot(u, v), rtol=1e-12)
    assert np.abs(east - u).max() > 0.1
    np.testing.assert_allclose(to_grid(east, north, grid), (u, v), atol=1e-12)


def test_a_wind_along_x_blows_to_where_x_grows():
    grid = GRIDS["lambert"]
    east, north = to_earth(np.ones(grid.shape), np.zeros(grid.shape), grid)
    latitude, longitude = (np.diff(each, axis=1) for each in grid.centres)
    scale = np.cos(np.deg2rad(grid.centres[0][:, 1:]))
    np.testing.assert_allclose((north / east)[:, 1:], latitude / (longitude * scale), atol=0.02)


@pytest.mark.data
@pytest.mark.parametrize("known", ["grid mapping", "latitudes only"])
def test_the_axes_of_the_regional_model_are_turned_by_the_angle_of_its_pole(data_dir: Path, known):
    fields = open_fields(data_dir / "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc").isel(time=slice(0, 1))
    pole = fields["crs"].attrs
    if known == "latitudes only":
        fields = fields.drop_vars(["crs", "rlat", "rlon"])
        for field in fields.data_vars.values():
            field.attrs.pop("grid_mapping", None)
            field.encoding.pop("grid_mapping", None)
    grid = Grid.of(harmonise(fields)[0])
    assert grid.is_curvilinear == (known == "latitudes only")
    expected = of_rotated_pole(grid, (pole["grid_north_pole_longitude"], pole["grid_north_pole_latitude"]))
    inner = (slice(1, -1), slice(1, -1)) if grid.is_curvilinear else ()  # outer corners are continued from inner ones
    assert apart(angle(grid), expected) < 2e-3
    assert apart(angle(grid)[inner], expected[inner]) < (1e-4 if grid.is_curvilinear else 1e-8)
