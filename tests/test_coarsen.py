"""Coarse fields out of fine ones, in the user's own names."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError, harmonise
from finegrid.data.coarsen import coarsen
from finegrid.grids import Grid, nesting


def fine_fields(ny=8, nx=12, descending=False, order=("time", "lat", "lon"), west=-3.0, seed=0) -> xr.Dataset:
    generator = np.random.default_rng(seed)
    lat, lon = 50.125 + 0.25 * np.arange(ny), (west + 0.25 * np.arange(nx)) % 360
    fields = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), generator.normal(280, 5, (3, ny, nx)).astype("f4"))},
        coords={
            "time": np.datetime64("2001-01-01", "ns") + np.arange(3) * np.timedelta64(1, "D"),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    )
    fields["t2m"].attrs = {"units": "K", "cell_methods": "time: mean"}
    fields = fields.isel(lat=slice(None, None, -1)) if descending else fields
    return fields.transpose(*order)


def weighted(fields: xr.DataArray, factor: tuple[int, int]) -> xr.DataArray:
    """The independent way: xarray's own coarsen with exact weights, the sine of latitude at the edges."""
    sine = np.sin(np.deg2rad(fields["lat"] + 0.125)) - np.sin(np.deg2rad(fields["lat"] - 0.125))
    weights = (sine * xr.ones_like(fields.astype(float))).where(fields.notnull())
    sizes = {"lat": factor[0], "lon": factor[1]}
    total, weight = ((part).coarsen(sizes).sum() for part in (fields.astype(float) * weights, weights))
    return (total / weight).transpose(*fields.dims)


@given(
    factor=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    blocks=st.tuples(st.integers(1, 3), st.integers(2, 3)),
    descending=st.booleans(),
    order=st.permutations(["time", "lat", "lon"]),
    west=st.sampled_from([-3.0, 359.0, 100.0]),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 99),
)
def test_coarse_values_are_area_weighted_means_of_the_users_own_fields(
    factor, blocks, descending, order, west, missing, seed
):
    ny, nx = max(factor[0] * blocks[0], 2 * factor[0] if factor[0] == 1 else 0), factor[1] * blocks[1]
    fine = fine_fields(ny, nx, descending, tuple(order), west, seed)
    fine = fine.where(np.random.default_rng(seed).random(fine["t2m"].shape) >= missing)
    coarse = coarsen(fine, factor)
    assert coarse["t2m"].dims == tuple(order) and coarse["t2m"].dtype == np.float32
    np.testing.assert_allclose(coarse["t2m"], weighted(fine["t2m"], factor), rtol=2e-7)
    np.testing.assert_allclose(coarse["lat"], fine["lat"].coarsen(lat=factor[0]).mean())
    assert ((coarse["lon"] >= 0) & (coarse["lon"] < 360)).all()  # as the user's own, also over Greenwich


def test_coarse_fields_carry_bounds_and_say_that_they_are_means():
    fine = fine_fields(descending=True).assign(
        land=(
            ("lat", "lon"),
            np.ones((8, 12), "i1"),
            {"units": "1", "flag_values": [0, 1], "flag_meanings": "a b"},
        )
    )
    coarse = coarsen(fine, 4)
    assert coarse["t2m"].attrs["cell_methods"] == "time: mean area: mean"
    assert coarse["t2m"].attrs["units"] == "K"
    assert coarse["land"].attrs == {"units": "1", "cell_methods": "area: mean"}
    assert coarse["land"].dims == ("lat", "lon")
    # The lowest row of blocks is the last one: rows run from north to south.
    np.testing.assert_allclose(sorted(coarse["lat_bnds"].values[-1]), [50, 51])
    grid, coarse_grid = (Grid.of(harmonise(fields)[0]) for fields in (fine, coarse))
    assert nesting(grid, coarse_grid) == (4, 4)
    assert coarsen(coarse, (2, 3)).sizes["lat"] == 1


def test_what_does_not_divide_is_an_error_that_names_the_fix_or_is_trimmed_at_the_users_end():
    fine = fine_fields(9, 13, descending=True)
    with pytest.raises(InputError, match=r'9 x 13 cells.*by 4 x 4.*boundary="trim"'):
        coarsen(fine, 4)
    trimmed = coarsen(fine, 4, boundary="trim")
    xr.testing.assert_equal(trimmed, coarsen(fine.isel(lat=slice(0, 8), lon=slice(0, 12)), 4))
    with pytest.raises(InputError, match="boundary='pad'"):
        coarsen(fine, 4, boundary="pad")  # type: ignore[arg-type]


def test_static_fields_and_lazy_fields_are_coarsened_too():
    fine = fine_fields()
    xr.testing.assert_allclose(
        coarsen(fine.isel(time=0, drop=True), 2)["t2m"], coarsen(fine, 2)["t2m"][0].drop_vars("time")
    )
    lazy = coarsen(fine.chunk(time=1, lat=3), 2)
    assert lazy["t2m"].chunks is not None
    xr.testing.assert_equal(lazy.compute(), coarsen(fine, 2))


def test_too_few_valid_cells_make_a_missing_coarse_cell():
    fine = fine_fields()
    fine["t2m"][:, :2, :3] = np.nan
    assert np.isfinite(coarsen(fine, 4)["t2m"][0, 0, 0])
    assert np.isnan(coarsen(fine, 4, min_valid=0.7)["t2m"][0, 0, 0])


@pytest.mark.data
def test_a_rotated_grid_keeps_its_latitudes_and_longitudes(data_dir: Path):
    name = "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc"
    with xr.open_dataset(data_dir / name, engine="netcdf4") as file:
        fine = file.isel(time=slice(2))
        coarse = coarsen(fine, 2)
        assert coarse["tas"].dims == ("time", "rlat", "rlon")
        assert coarse["crs"].attrs["grid_mapping_name"] == "rotated_latitude_longitude"
        # Between the four centres, to the curvature of the coordinate lines over 0.44 degrees.
        np.testing.assert_allclose(coarse["lat"], fine["lat"].coarsen(rlat=2, rlon=2).mean(), atol=1e-3)
