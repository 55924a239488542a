"""Grids known by two-dimensional latitudes and longitudes only: read, measured, coarsened, given back."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, harmonise, restore
from finegrid.data import coarsen, open_fields, write
from finegrid.grids import OPERATORS, Grid, Operator, nesting
from finegrid.grids.geometry import EARTH_RADIUS
from test_grids import ROTATED_POLE, evenly, grid_of

SPHERE = 4 * np.pi * EARTH_RADIUS**2


def rotated(ny=28, nx=30, step=0.44, south=-14.85, west=-22.93) -> Grid:
    return grid_of(evenly(south, step, ny), evenly(west, step, nx), ROTATED_POLE)


def vertices_of(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    around = grid.corners
    cells = np.stack([around[:-1, :-1], around[:-1, 1:], around[1:, 1:], around[1:, :-1]], axis=2)
    return cells[..., 1], cells[..., 0]


def plane_file(grid: Grid, *, bounds=False, names=("nav_lat", "nav_lon"), dims=("j", "i"), times=3) -> xr.Dataset:
    """Fields on the cells of a grid, which says of itself only where its centres (and vertices) are."""
    latitude, longitude = grid.centres
    values = 280 + latitude + np.arange(times)[:, None, None]
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D"),
        names[0]: (dims, latitude.astype(np.float32), {"units": "degrees_north"}),
        names[1]: (dims, longitude.astype(np.float32), {"units": "degrees_east"}),
    }
    if bounds:
        for name, around in zip(names, vertices_of(grid), strict=True):
            coords[f"{name}_vertices"] = ((*dims, "nv"), around)
            coords[name][2]["bounds"] = f"{name}_vertices"
    return xr.Dataset({"tas": (("time", *dims), values.astype(np.float32), {"units": "K"})}, coords=coords)


@pytest.mark.parametrize("bounds", [False, True])
def test_a_curvilinear_grid_has_the_areas_of_the_rotated_grid_that_it_is(bounds):
    known = rotated()
    grid = Grid.of(harmonise(plane_file(known, bounds=bounds))[0])
    assert grid.is_curvilinear and not grid.is_latlon and not grid.in_degrees and not grid.periodic
    assert grid.shape == known.shape and not grid.aligned(known)
    # Great circles instead of parallels, and float32 coordinates.
    np.testing.assert_allclose(grid.area, known.area, rtol=2e-4)
    np.testing.assert_allclose(grid.corners, known.corners, atol=3e-5 if bounds else 2e-3)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("backwards", [False, True])
def test_vertices_may_start_anywhere_and_run_either_way(turn, backwards):
    file = plane_file(rotated(), bounds=True)
    order = np.roll(np.arange(4)[:: -1 if backwards else 1], turn)
    turned = file.assign_coords({name: file[name].isel(nv=order) for name in ("nav_lat_vertices", "nav_lon_vertices")})
    assert Grid.of(harmonise(turned)[0]) == Grid.of(harmonise(file)[0])


def test_a_global_curvilinear_grid_fills_the_sphere_and_closes_across_the_date_line_and_the_poles():
    globe = grid_of(evenly(-88.5, 3, 60), evenly(-178.5, 3, 120), ROTATED_POLE)
    grid = Grid.of(harmonise(plane_file(globe, bounds=True))[0])
    assert grid.periodic
    assert grid.area.sum() == pytest.approx(SPHERE, rel=1e-6)
    wave = np.cos(np.deg2rad(grid.centres[0])) * np.cos(np.deg2rad(grid.centres[1]))
    field = xr.DataArray(wave, coords={"y": grid.y, "x": grid.x}, dims=("y", "x"))
    target = grid_of(evenly(-87.5, 5, 36), evenly(2.5, 5, 72))
    expected = np.cos(np.deg2rad(target.centres[0])) * np.cos(np.deg2rad(target.centres[1]))
    for name, tolerance in (("nearest", 0.05), ("bilinear", 2e-3), ("bicubic", 2e-3), ("conservative", 0.03)):
        result = OPERATORS[name](grid, target)(field)
        assert np.isfinite(result).all(), name
        assert float(np.abs(result - expected).max()) < tolerance, name


@pytest.mark.parametrize("bounds", [False, True])
def test_reading_and_giving_back_changes_nothing(bounds):
    file = plane_file(rotated(5, 7), bounds=bounds)
    standard, names = harmonise(file)
    assert standard["tas"].dims == ("time", "y", "x")
    again = restore(standard, names)
    assert again["tas"].dims == file["tas"].dims and set(again.coords) == set(file.coords)
    xr.testing.assert_allclose(
        again.drop_vars([n for n in again.coords if "vertices" in n]),
        file.drop_vars([n for n in file.coords if "vertices" in n]),
    )
    twice, _ = harmonise(again)
    assert Grid.of(twice) == Grid.of(standard)


def test_rows_that_descend_are_turned_and_turned_back():
    file = plane_file(rotated(5, 7)).assign_coords(j=np.arange(5)[::-1])
    standard, names = harmonise(file)
    assert (np.diff(standard["y"]) > 0).all()
    xr.testing.assert_allclose(restore(standard, names), file)


def test_coarse_fields_of_a_curvilinear_file_are_whole_blocks_of_it_after_writing_and_reading(tmp_path: Path):
    file = plane_file(rotated(), bounds=True)
    write(file, tmp_path / "fine.nc")
    fine = open_fields(tmp_path / "fine.nc")
    write(coarsen(fine, (4, 5)), tmp_path / "coarse.nc")
    coarse = open_fields(tmp_path / "coarse.nc")
    assert coarse["tas"].dims == ("time", "j", "i") and {"nav_lat", "nav_lon"} <= set(coarse.coords)
    grids = [Grid.of(harmonise(each)[0]) for each in (fine, coarse)]
    assert nesting(*grids) == (4, 5)
    assert Operator.conservative(*grids).factor == (4, 5)


def test_a_model_that_writes_its_latitudes_at_every_time_is_read_once_and_one_that_moves_is_refused():
    file = plane_file(rotated(5, 7), names=("XLAT", "XLONG"), dims=("south_north", "west_east"))
    repeated = file.assign_coords({n: file[n].expand_dims(time=file.time).copy() for n in ("XLAT", "XLONG")})
    standard, _ = harmonise(repeated)
    assert Grid.of(standard) == Grid.of(harmonise(file)[0])
    moving = repeated.assign_coords(XLAT=repeated["XLAT"] + xr.DataArray([0, 0.1, 0.2], dims="time"))
    with pytest.raises(InputError, match="'XLAT' changes along 'time'"):
        harmonise(moving)


def test_a_rotated_file_without_grid_mapping_is_read_by_its_latitudes_and_longitudes():
    known = rotated(5, 7)
    file = plane_file(known, names=("lat", "lon"), dims=("rlat", "rlon"))
    file = file.assign_coords(rlat=("rlat", known.y, {"standard_name": "grid_latitude", "units": "degrees"}))
    standard, names = harmonise(file)
    assert Grid.of(standard).is_curvilinear
    assert restore(standard, names)["rlat"].attrs["standard_name"] == "grid_latitude"


@pytest.mark.data
def test_the_rotated_file_gives_the_same_operator_with_and_without_its_grid_mapping(data_dir: Path):
    fields = open_fields(data_dir / "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc").isel(time=slice(0, 2))
    bare = fields.drop_vars(["crs", "rlat", "rlon"])
    for name in bare.data_vars:
        bare[name].attrs.pop("grid_mapping", None)
        bare[name].encoding.pop("grid_mapping", None)
    target = grid_of(evenly(36.75, 1.5, 5), evenly(-8.25, 1.5, 8))
    results = []
    for each in (fields, bare):
        standard, _ = harmonise(each)
        results.append(Operator.conservative(Grid.of(standard), target)(standard)["tas"].values)
    # Corners half-way between float32 centres, sides along great circles: some metres off.
    np.testing.assert_allclose(results[0], results[1], atol=2e-2)


def test_latitudes_that_are_missing_over_land_cannot_be_guessed():
    file = plane_file(rotated(5, 7))
    file["nav_lat"][2, 3] = np.nan
    with pytest.raises(InputError, match=r"1 cells without latitude.*row 2, column 3"):
        Grid.of(harmonise(file)[0])


def test_a_single_row_needs_vertices():
    row = rotated(2, 7).cropped(slice(0, 1), slice(0, 7))
    with pytest.raises(InputError, match="at least two rows"):
        Grid.of(harmonise(plane_file(row))[0])
    assert Grid.of(harmonise(plane_file(row, bounds=True))[0]).shape == (1, 7)


def test_cells_that_overlap_or_cross_themselves_are_refused():
    folded = plane_file(rotated(6, 7))
    folded["nav_lon"][:] = folded["nav_lon"].values[:, [0, 1, 5, 2, 4, 3, 6]]
    with pytest.raises(InputError, match=r"cells that overlap their neighbours, cross themselves"):
        Grid.of(harmonise(folded)[0])
    crossed = plane_file(rotated(6, 7), bounds=True)
    for name in ("nav_lat_vertices", "nav_lon_vertices"):
        crossed[name][2, 3] = crossed[name][2, 3].isel(nv=[0, 2, 1, 3]).values
    with pytest.raises(InputError, match="gaps or overlaps between"):
        Grid.of(harmonise(crossed)[0])


def test_a_grid_with_vertices_comes_back_from_a_dataset_and_from_json():
    grid = Grid.of(harmonise(plane_file(rotated(6, 8), bounds=True))[0])
    fraction = np.linspace(0, 1, grid.size).reshape(grid.shape)
    full = grid.masked(fraction > 0.2).weighted(fraction)
    assert Grid.from_dict(full.to_dict()) == full
    assert nesting(Grid.of(xr.Dataset(coords=grid.coords())), grid) == (1, 1)
    part = full.cropped(slice(1, 5), slice(2, 6))
    assert part.shape == (4, 4) and part.vertices.shape == (5, 5, 2) and part.fraction.shape == (4, 4)


def test_fractions_are_parts_of_one():
    with pytest.raises(InputError, match="divide percentages by 100"):
        rotated(2, 2).weighted(np.full((2, 2), 50.0))
