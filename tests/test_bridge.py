"""Labelled fields to tensors and back without loss, and the block mean as tensors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.bridge import BlockMean, Layout, to_dataset, to_features, to_tensor
from finegrid.conventions import InputError
from finegrid.data.predictors import CYCLES, cycles
from finegrid.data.transforms import fit_transform
from finegrid.grids import Grid, Operator


def plain_grid(ny: int, nx: int, *, south: float = 40.0, step: float = 0.5) -> Grid:
    y_edges, x_edges = south + step * np.arange(ny + 1), step * np.arange(nx + 1)
    return Grid((y_edges[1:] + y_edges[:-1]) / 2, (x_edges[1:] + x_edges[:-1]) / 2, y_edges, x_edges)


def layout(factor: tuple[int, int] = (2, 3), shape: tuple[int, int] = (5, 6), mask: np.ndarray | None = None) -> Layout:
    fine = plain_grid(shape[0] * factor[0], shape[1] * factor[1]).masked(mask)
    units = {"tas": "K", "pr": "mm/day", "psl": "Pa"}
    return Layout(("tas", "pr"), ("tas", "pr", "psl"), units, fine, fine.coarsened(factor), factor)


def fields(names: tuple[str, ...], shape: tuple[int, int], *, count: int = 7, seed: int = 0) -> xr.Dataset:
    random = np.random.default_rng(seed)
    time = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    values = {name: (("time", "y", "x"), random.normal(5, 2, (count, *shape)).astype(np.float32)) for name in names}
    return xr.Dataset(values, coords={"time": time})


def featured(coarse: xr.Dataset, **features) -> Layout:
    transforms = {name: fit_transform("standardise", coarse[name].values) for name in coarse.data_vars}
    return layout().with_features(transforms=transforms, **{"cycles": (), **features})


def test_fields_survive_the_way_to_tensors_and_back_to_the_last_bit():
    place = layout()
    fine = fields(place.outputs, place.grid.shape)
    tensor = to_tensor(fine, place.outputs)
    assert tensor.shape == (7, 2, 10, 18)
    back = to_dataset(torch.stack([tensor, tensor + 1]), place, fine.time)
    assert back.tas.dims == ("member", "time", "y", "x")
    for name in place.outputs:
        np.testing.assert_array_equal(back[name][0], fine[name])
        assert back[name].units == place.units[name]
    np.testing.assert_array_equal(back.time, fine.time)
    np.testing.assert_array_equal(back.y, place.grid.y)
    assert Grid.of(back) == place.grid


def test_channels_come_in_the_order_that_is_asked_for():
    fine = fields(("tas", "pr"), (4, 6))
    swapped = to_tensor(fine, ("pr", "tas"))
    np.testing.assert_array_equal(swapped[:, 1], fine.tas)


def test_static_fields_are_a_batch_of_one():
    assert to_tensor(fields(("tas", "pr"), (4, 6)).isel(time=0), ("tas", "pr")).shape == (1, 2, 4, 6)


def test_a_missing_field_is_named():
    with pytest.raises(InputError, match="expected also psl"):
        to_tensor(fields(("tas",), (4, 6)), ("tas", "psl"))


def test_masked_cells_come_back_missing():
    mask = np.random.default_rng(0).random((10, 18)) > 0.3
    place = layout(mask=mask)
    fine = fields(place.outputs, place.grid.shape)
    back = to_dataset(to_tensor(fine, place.outputs)[None], place, fine.time)
    np.testing.assert_array_equal(back.tas.notnull().all(("member", "time")), mask)


@pytest.mark.parametrize("frames", [(0,), (-1, 0, 1)])
@pytest.mark.parametrize("views", [("value",), ("departure",), ("departure", "value")])
@pytest.mark.parametrize("kinds", [(), ("hour",), CYCLES])
def test_features_are_views_of_fields_at_frames_and_then_cycles(frames, views, kinds):
    coarse = fields(("tas", "pr", "psl"), (5, 6))
    place = featured(coarse, frames=frames, views=views, cycles=kinds)
    found = to_features(coarse, place)
    assert found.shape == (7, place.channels, 5, 6)
    channel = iter(range(place.channels))
    for offset, view, name in itertools.product(frames, views, place.inputs):
        values = coarse[name].values.astype(np.float64)
        standard = (values - values.mean()) / values.std()
        at = standard[np.clip(np.arange(7) + offset, 0, 6)]
        if view == "departure":
            # Independent of the code: the mean over 5 x 5 cells by shifts of a field with its edges repeated.
            padded = np.pad(at, ((0, 0), (2, 2), (2, 2)), mode="edge")
            at = 3 * (at - sum(padded[:, j : j + 5, i : i + 6] for j in range(5) for i in range(5)) / 25)
        np.testing.assert_allclose(found[:, next(channel)], at, atol=2e-5)
    expected = cycles(coarse.time, kinds)
    for column in range(4 * len(kinds)):
        np.testing.assert_array_equal(found[:, next(channel)], expected[:, column, None, None] + np.zeros((5, 6)))
    assert next(channel, None) is None


@given(constant=st.floats(-20, 20), seed=st.integers(0, 99))
def test_departures_do_not_know_how_warm_it_is(constant, seed):
    coarse = fields(("tas", "pr", "psl"), (5, 6), seed=seed)
    place = featured(coarse, views=("departure",), frames=(0, 1))
    np.testing.assert_allclose(to_features(coarse + np.float32(constant), place), to_features(coarse, place), atol=1e-4)


def test_departures_go_around_the_globe():
    coarse = fields(("tas", "pr", "psl"), (5, 12))
    globe = plain_grid(5, 12, step=30.0, south=-75.0)
    assert globe.periodic
    place = Layout(("tas",), tuple(coarse.data_vars), {}, globe, globe, (1, 1)).with_features(
        views=("departure",), cycles=(), transforms=featured(coarse).transforms
    )
    turned = to_features(coarse.roll(x=5, roll_coords=False), place)
    np.testing.assert_allclose(turned, torch.roll(to_features(coarse, place), 5, -1), atol=1e-5)


def test_missing_coarse_values_count_as_usual_ones():
    coarse = fields(("tas", "pr", "psl"), (5, 6))
    coarse.tas[2, 1, 3] = np.nan
    place = featured(coarse, views=("value", "departure"), frames=(0, -1))
    found = to_features(coarse, place)
    assert torch.isfinite(found).all()
    assert found[2, 0, 1, 3] == 0
    assert torch.isnan(to_tensor(coarse, place.inputs)[2, 0, 1, 3])


@pytest.mark.parametrize("views", [(), ("value", "gradient")])
def test_unknown_views_are_refused_with_the_known_ones(views):
    with pytest.raises(InputError, match=r"expected some of value, departure; set downscaler.views"):
        layout().with_features(cycles=(), transforms={}, views=views)


@given(
    factor=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    seed=st.integers(0, 999),
    part=st.sampled_from([None, 0.2, 0.7]),
)
def test_the_block_mean_is_the_conservative_operator_over_valid_cells(factor, seed, part):
    random = np.random.default_rng(seed)
    shape = (3 * factor[0], 4 * factor[1])
    mask = None if part is None else random.random(shape) > part
    fine = plain_grid(*shape, south=-20.0, step=4.0).masked(mask)
    values = random.normal(280, 10, (2, *shape))
    expected = Operator.conservative(fine, fine.coarsened(factor))(
        xr.DataArray(values, dims=("time", "y", "x"), coords={"y": fine.y, "x": fine.x})
    )
    found = BlockMean(fine.area, factor, mask=mask).mean(torch.as_tensor(values))
    # Coarse cells without any valid fine cell: missing there, 0 here.
    np.testing.assert_allclose(found, expected.fillna(0.0), rtol=1e-12)


@given(seed=st.integers(0, 999), factor=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_spread_and_largest_value_belong_to_the_blocks(seed, factor):
    random = np.random.default_rng(seed)
    shape = (3 * factor[0], 2 * factor[1])
    mask = random.random(shape) > 0.4
    mean = BlockMean(np.ones(shape), factor, mask=mask)
    coarse, fine = random.normal(size=(2, 3, 2)), random.normal(size=(2, *shape))
    blocks = coarse.repeat(factor[0], axis=1).repeat(factor[1], axis=2)
    np.testing.assert_array_equal(mean.spread(torch.as_tensor(coarse)), blocks)
    for j, i in itertools.product(range(3), range(2)):
        rows, columns = (slice(each * width, (each + 1) * width) for each, width in ((j, factor[0]), (i, factor[1])))
        valid = fine[:, rows, columns][:, mask[rows, columns]]
        expected = valid.max(-1) if valid.size else np.zeros(2)
        np.testing.assert_array_equal(mean.max(torch.as_tensor(fine))[:, j, i], expected)


def test_invalid_cells_reach_no_result_and_no_gradient():
    mask = np.ones((4, 4), dtype=bool)
    mask[0, 0] = mask[2:, 2:] = False
    mean = BlockMean(np.ones((4, 4)), (2, 2), mask=mask)
    fine = torch.arange(16.0).reshape(4, 4)
    poisoned = torch.where(torch.as_tensor(mask), fine, torch.nan).requires_grad_()
    for found in (mean.mean(poisoned), mean.max(poisoned)):
        assert torch.isfinite(found).all()
        assert found[1, 1] == 0
    mean.mean(poisoned).sum().backward()
    assert torch.isfinite(poisoned.grad).all()
    assert (poisoned.grad[~torch.as_tensor(mask)] == 0).all()


def test_the_block_mean_is_accurate_in_single_precision():
    random = np.random.default_rng(0)
    values = random.normal(285, 8, (20, 64, 64))
    fine = plain_grid(64, 64, step=0.25)
    mean = BlockMean(fine.area, (8, 8))
    found = mean.mean(torch.as_tensor(values, dtype=torch.float32))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, mean.mean(torch.as_tensor(values)), rtol=3e-7)


def test_the_mean_of_a_layout_is_that_of_its_grids():
    mask = np.random.default_rng(1).random((10, 18)) > 0.3
    place = layout(mask=mask)
    values = torch.rand(10, 18, dtype=torch.float64)
    expected = BlockMean(place.grid.area, (2, 3), mask=mask).mean(values)
    np.testing.assert_array_equal(BlockMean.of(place).mean(values), expected)
