"""Means and integrals over regions and the globe: weights, gaps, units, laziness, and budgets that are corrected."""

import dask.array
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.constraints import CONSTRAINTS, SparseMean
from finegrid.conventions import InputError, unit_conversion
from finegrid.grids import Grid, Operator
from finegrid.grids.geometry import EARTH_RADIUS
from finegrid.grids.regions import RegionOperator
from test_any_grids import cells, fields_on
from test_grids import LAMBERT, ROTATED_POLE

EARTH = 4 * np.pi * EARTH_RADIUS**2
GLOBE = cells(36, 72, 5.0, -90, -180)
SMALL = cells(8, 12, 2.5, 30, -10)
GRIDS = {
    "lat-lon": SMALL,
    "rotated": cells(8, 12, 0.5, -4, -6, ROTATED_POLE),
    "lambert": cells(8, 12, 2e4, 0, 0, LAMBERT),
}


def masks_on(grid: Grid, seed: int = 0, count: int = 3, fractions: bool = False) -> xr.DataArray:
    """Regions that overlap."""
    random = np.random.default_rng(seed).random((count, *grid.shape))
    values = np.where(random > 0.4, random, 0) if fractions else random > 0.4
    names = [f"region {number}" for number in range(count)]
    coords = {"region": names, "y": grid.y, "x": grid.x}
    return xr.DataArray(values, dims=("region", "y", "x"), coords=coords)


def normal(grid: Grid, times: int = 3, seed: int = 0, dtype=np.float64) -> xr.DataArray:
    return fields_on(grid, np.random.default_rng(seed).normal(5, 2, (times, *grid.shape)).astype(dtype))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("fractions", [False, True])
def test_means_are_the_weighted_means_of_xarray(name, fractions):
    grid = GRIDS[name]
    masks, fine = masks_on(grid, fractions=fractions), normal(grid)
    operator = RegionOperator.of(grid, masks)
    weights = masks * xr.DataArray(grid.area, dims=("y", "x"))
    expected = xr.concat([fine.weighted(each).mean(("y", "x")) for each in weights], "region").transpose(
        "time", "region"
    )
    result = operator(fine)
    assert result.dims == ("time", "region") and list(result["region"].values) == list(operator.names)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    np.testing.assert_allclose(operator.matrix.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(operator.areas, weights.sum(("y", "x")), rtol=1e-13)
    np.testing.assert_allclose(operator(fine, integral=True), (fine * weights).sum(("y", "x")), rtol=1e-12)


@given(value=st.floats(-1e6, 1e6), seed=st.integers(0, 99), gaps=st.sampled_from([0.0, 0.5, 0.95]))
def test_constants_are_kept_whatever_is_missing(value, seed, gaps):
    random = np.random.default_rng(seed)
    grid = SMALL.masked(random.random(SMALL.shape) < 0.8)
    operator = RegionOperator.of(grid, masks_on(grid, seed, fractions=True))
    fine = fields_on(grid, np.where(random.random((2, *grid.shape)) >= gaps, value, np.nan))
    result = operator(fine).values
    np.testing.assert_allclose(result[np.isfinite(result)], value, rtol=1e-12, atol=1e-300)
    valid = np.asarray(operator.shared @ np.isfinite(fine.values).reshape(2, -1).T).T
    np.testing.assert_array_equal(np.isfinite(result), valid > 0)


def test_the_globe_is_a_sphere_and_its_mean_is_weighted_by_area():
    operator = RegionOperator.globe(GLOBE)
    assert operator.names == ("globe",) and operator.shared.shape == (1, GLOBE.size)
    assert operator.areas[0] == pytest.approx(EARTH, rel=1e-12)
    # The mean of cos over the sphere is pi / 4; the plain one over latitudes 2 / pi.
    cosine = fields_on(GLOBE, np.cos(np.deg2rad(GLOBE.centres[0])))
    assert float(operator(cosine)[0]) == pytest.approx(np.pi / 4, rel=1e-3)


def test_masks_and_fractions_of_the_grid_are_heeded():
    fraction = np.random.default_rng(1).random(SMALL.shape)
    grid = SMALL.masked(fraction > 0.3).weighted(fraction)
    operator = RegionOperator.globe(grid)
    assert operator.shared.nnz == grid.mask.sum()
    fine = normal(grid, 1).where(xr.DataArray(grid.mask, dims=("y", "x")), 1e20)
    assert operator.areas[0] == pytest.approx((grid.area * fraction)[fraction > 0.3].sum(), rel=1e-13)
    assert float(operator(fine)[0, 0]) == pytest.approx(np.average(fine[0], weights=grid.weights), rel=1e-12)


def test_the_mean_over_a_block_is_the_block_mean():
    coarse = Operator.conservative(SMALL, SMALL.coarsened(4))
    blocks = xr.DataArray(coarse.shared.toarray().reshape(-1, *SMALL.shape) > 0, dims=("region", "y", "x"))
    fine = normal(SMALL)
    operator = RegionOperator.of(SMALL, blocks)
    np.testing.assert_allclose(operator(fine), coarse(fine).values.reshape(3, -1), rtol=1e-12)
    assert operator.names == ("0", "1", "2", "3", "4", "5")


def test_too_few_valid_cells_make_a_missing_value():
    masks = masks_on(SMALL, count=1)
    fine = normal(SMALL, 1)
    half = fine.where(np.arange(12) < 6)
    operator = RegionOperator.of(SMALL, masks)
    assert np.isfinite(operator(half, min_valid=0.3)).all() and np.isnan(operator(half, min_valid=0.9)).all()
    # What is missing counts as the mean of the others.
    assert float(operator(half, integral=True)[0, 0]) == pytest.approx(float(operator(half)[0, 0]) * operator.areas[0])


def test_datasets_keep_what_is_not_on_the_grid_and_say_what_was_done():
    attributes = {"units": "kg m-2", "cell_methods": "time: mean"}
    fine = normal(SMALL, dtype=np.float32).assign_attrs(attributes)
    fields = xr.Dataset({"w": fine, "n": ("time", np.arange(3)), "only": ("y", SMALL.y)}, attrs={"title": "t"})
    fields = fields.assign_coords(SMALL.coords()).assign_coords(time=np.arange(3), crs=0)
    operator = RegionOperator.of(SMALL, masks_on(SMALL))
    result = operator(fields)
    assert list(result.data_vars) == ["w", "n"] and set(result.coords) == {"time", "region"}
    assert result["w"].dtype == np.float32 and result.attrs == {"title": "t"}
    assert result["w"].attrs == {"units": "kg m-2", "cell_methods": "time: mean area: mean"}
    total = operator(fields["w"], integral=True)
    assert total.name == "w" and total.attrs == {"units": "kg m-2 m2", "cell_methods": "time: mean area: sum"}
    assert unit_conversion(total.attrs["units"], "kg") == (1.0, 0.0)
    assert operator(fine.assign_attrs(cell_methods="area: mean")).attrs["cell_methods"] == "area: mean"


@pytest.mark.parametrize(("units", "integrated"), [("mm/day", "mm/day m2"), ("1", "m2"), ("", "m2"), (None, None)])
def test_units_are_multiplied_by_an_area(units, integrated):
    fine = normal(SMALL).assign_attrs({} if units is None else {"units": units})
    assert RegionOperator.globe(SMALL)(fine, integral=True).attrs.get("units") == integrated


def test_degrees_celsius_are_not_integrated():
    fine = normal(SMALL).assign_attrs(units="degC")
    with pytest.raises(InputError, match=r"in 'degC' to be integrated.*'K'"):
        RegionOperator.globe(SMALL)(fine, integral=True)


def test_dask_stays_lazy_and_gives_the_eager_answer():
    fine = normal(SMALL, 6, dtype=np.float32).to_dataset(name="t")
    fine["t"][2, 3, 4] = np.nan
    operator = RegionOperator.of(SMALL, masks_on(SMALL).chunk(y=4))
    lazy = operator(fine.chunk(time=2, y=5, x=4))
    assert isinstance(lazy["t"].data, dask.array.Array) and lazy["t"].dtype == np.float32
    xr.testing.assert_identical(lazy.compute(), operator(fine))


def test_regions_that_cannot_be_are_refused():
    masks = masks_on(SMALL)
    with pytest.raises(InputError, match=r"in the region region 1;.*drop_sel\(region=\['region 1'\]\)"):
        RegionOperator.of(SMALL, masks.where(masks["region"] != "region 1", False))
    land = SMALL.masked(~masks.values[2])
    with pytest.raises(InputError, match="no valid cell in the region region 2"):
        RegionOperator.of(land, masks)
    with pytest.raises(InputError, match="no valid cell in the region globe"):
        RegionOperator.globe(SMALL.masked(np.zeros(SMALL.shape, bool)))
    with pytest.raises(InputError, match=r"masks over y, x; expected region, y, x.*expand_dims"):
        RegionOperator.of(SMALL, masks[0])
    with pytest.raises(InputError, match="more than one region called a"):
        RegionOperator.of(SMALL, masks.assign_coords(region=["a", "b", "a"]))
    for wrong in (-0.1, 1.5, np.nan):
        spoilt = masks.astype(float)
        spoilt[1, 2, 3] = wrong
        with pytest.raises(InputError, match="in the mask of the region region 1"):
            RegionOperator.of(SMALL, spoilt)
    with pytest.raises(InputError, match=r"Grid.of\(fields\)"):
        RegionOperator.of(SMALL, masks.isel(y=slice(4)))
    with pytest.raises(InputError, match=r"Grid.of\(fields\)"):
        RegionOperator.of(SMALL, masks)(normal(SMALL).isel(x=slice(6)))


@pytest.mark.parametrize("name", ["add", "multiplicative", "bounded"])
@pytest.mark.parametrize("regions", ["overlapping", "globe"])
def test_constraints_keep_the_budgets_of_regions_and_of_the_globe(name, regions):
    grid = SMALL if regions == "overlapping" else GLOBE
    operator = RegionOperator.of(grid, masks_on(grid)) if regions == "overlapping" else RegionOperator.globe(grid)
    mean = SparseMean(operator.shared, fine=grid.shape, coarse=(1, len(operator.names)))
    assert mean.disjoint == (regions == "globe")
    generator = torch.Generator().manual_seed(0)
    raw = 2 * torch.randn(4, 2, *grid.shape, generator=generator)
    budget = mean.mean((2 * torch.randn(raw.shape, generator=generator)).relu())
    constraint = CONSTRAINTS[name](**({"lowest": 0.0} if name == "bounded" else {}))
    rain = constraint.project(raw, budget, mean)
    assert rain.dtype == torch.float32
    assert constraint.violation(rain, budget, mean).max() < 1e-6
    touched = torch.as_tensor(np.asarray(operator.shared.sum(axis=0)).reshape(grid.shape) > 0)
    if name == "add":
        # What no region touches stays as it is.
        assert torch.equal(rain[:, :, ~touched], raw[:, :, ~touched])
    else:
        assert rain[:, :, touched].min() >= 0
    result = operator(fields_on(grid, rain[:, 0].numpy()))
    np.testing.assert_allclose(result, budget[:, 0, 0], rtol=1e-6)
