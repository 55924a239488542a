"""Every head: members that are functions of the seed and the time alone, that conserve, and come back from disk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.downscalers import NeuralDownscaler, load
from finegrid.downscalers import neural as neural_module
from finegrid.heads import HEADS, Draws
from finegrid.training import Settings

SMALL = {"name": "resnet", "width": 8, "depth": 1, "embedding": 2}
# What makes a head quick, where its usual size is not.
QUICK: dict[str, dict[str, object]] = {}
RANDOM = tuple(name for name, head in HEADS.items() if head.random)
FITTED: dict[tuple[str, str], NeuralDownscaler] = {}


def unfitted(head: str, constraint: str = "multiplicative", **options) -> NeuralDownscaler:
    settings = Settings(budget=None, steps=3, batch=8, device="cpu")
    table = {"name": head, **QUICK.get(head, {})}
    options = {"mean": None, **options}
    return NeuralDownscaler(backbone=SMALL, head=table, constraint=constraint, settings=settings, **options)


@pytest.fixture(scope="module")
def rain() -> tuple[xr.Dataset, xr.Dataset]:
    """Sixty days of rain with dry cells, on 4 x 6 coarse and 12 x 12 fine cells: blocks of 3 x 2."""
    generator = np.random.default_rng(5)
    time = xr.date_range("2001-01-01", periods=60, use_cftime=False)
    coarse_rain = generator.gamma(0.5, 4.0, (60, 4, 6)).round(1)
    detail = generator.gamma(1.0, 1.0, (60, 12, 12))
    blocks = detail.reshape(60, 4, 3, 6, 2)
    fine_rain = (blocks / blocks.mean((2, 4), keepdims=True) * coarse_rain[:, :, None, :, None]).reshape(60, 12, 12)
    return _dataset(coarse_rain, time, 3.0, 2.0), _dataset(fine_rain, time, 1.0, 1.0)


def _dataset(values: np.ndarray, time: xr.DataArray, height: float, width: float) -> xr.Dataset:
    rows, columns = values.shape[1:]
    metres = {axis: {"units": "m", "standard_name": f"projection_{axis}_coordinate"} for axis in ("y", "x")}
    coords = {
        "time": time,
        "y": ("y", (np.arange(rows) + 0.5) * height * 1000, metres["y"]),
        "x": ("x", (np.arange(columns) + 0.5) * width * 1000, metres["x"]),
    }
    mapping = {"grid_mapping_name": "lambert_azimuthal_equal_area", "latitude_of_projection_origin": 50.0}
    mapping |= {"longitude_of_projection_origin": 10.0, "false_easting": 0.0, "false_northing": 0.0}
    attributes = {"units": "mm/day", "standard_name": "precipitation_flux", "grid_mapping": "crs"}
    return xr.Dataset({"pr": (("time", "y", "x"), values, attributes), "crs": ((), 0, mapping)}, coords)


@pytest.fixture
def ready(rain) -> Callable[..., NeuralDownscaler]:
    """A head of that name, fitted to the rain once for all tests that do not change it."""

    def fitted(head: str, constraint: str = "multiplicative") -> NeuralDownscaler:
        key = (head, constraint)
        if key not in FITTED:
            FITTED[key] = unfitted(head, constraint).fit(*rain, validate=0.2)
        return FITTED[key]

    return fitted


def values(prediction: xr.Dataset) -> np.ndarray:
    return harmonise(prediction)[0].pr.transpose("member", "time", "y", "x").values


@pytest.mark.parametrize("head", RANDOM)
def test_members_differ_and_are_the_same_with_the_same_seed(head, ready, rain):
    model, coarse = ready(head), rain[0].isel(time=slice(5))
    first, again, other = (values(model.predict(coarse, members=3, seed=seed)) for seed in (1, 1, 2))
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first[0], first[1])


@pytest.mark.parametrize("head", RANDOM)
def test_a_member_does_not_depend_on_how_many_there_are_nor_on_the_times_beside_it(head, ready, rain, monkeypatch):
    model, coarse = ready(head), rain[0].isel(time=slice(8))
    whole = values(model.predict(coarse, members=5, seed=3))
    few = values(model.predict(coarse, members=2, seed=3))
    later = values(model.predict(coarse.isel(time=slice(4, 8)), members=5, seed=3))
    monkeypatch.setattr(neural_module, "_CELLS", 3 * model.domain.grid.area.size)
    pieces = values(model.predict(coarse, members=5, seed=3))
    close = {"rtol": 1e-4, "atol": 1e-5 * float(np.abs(whole).max())}
    np.testing.assert_allclose(few, whole[:2], **close)
    np.testing.assert_allclose(later, whole[:, 4:], **close)
    np.testing.assert_allclose(pieces, whole, **close)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("constraint", ["add", "multiplicative", "softmax", "natural"])
def test_every_member_conserves_and_no_rain_is_negative(head, constraint, ready, rain):
    model, coarse = ready(head, constraint), rain[0].isel(time=slice(12))
    members = values(model.predict(coarse, members=3 if HEADS[head].random else 1)).astype(np.float64)
    means = members.reshape(len(members), 12, 4, 3, 6, 2).mean((3, 5))
    given = coarse.pr.values
    assert np.abs(means - given).max() <= 1e-6 * max(np.abs(members).max(), 1.0)
    if constraint != "add":
        assert members.min() >= 0


@pytest.mark.parametrize("head", HEADS)
def test_what_is_saved_is_what_is_loaded(head, ready, rain, tmp_path):
    model, coarse = ready(head), rain[0].isel(time=slice(3))
    members = 2 if HEADS[head].random else 1
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.options["head"]["name"] == head
    np.testing.assert_array_equal(
        values(loaded.predict(coarse, members=members)), values(model.predict(coarse, members=members))
    )


@pytest.mark.parametrize("head", HEADS)
def test_a_loss_is_one_number_a_sample_and_missing_truth_teaches_nothing(head, ready, rain):
    model = ready(head)
    plan, trained = model._trained
    coarse, fine = (harmonise(each.isel(time=slice(6)))[0] for each in rain)
    given = plan.conditions(coarse, model.conservation.given(coarse), model._reference(coarse))
    truth = torch.from_numpy(fine.pr.values[:, None].astype(np.float32)).clone()
    truth[:, :, :3] = torch.nan
    for training in (True, False):
        trained.train(training)
        trained.zero_grad()
        torch.manual_seed(0)
        loss = trained.loss(truth, given)
        assert loss.shape == (6,) and torch.isfinite(loss).all()
        if training:
            loss.mean().backward()
            slopes = [each.grad for each in trained.parameters() if each.grad is not None]
            assert slopes and all(torch.isfinite(each).all() for each in slopes)
    trained.eval()


@pytest.mark.parametrize("head", RANDOM)
def test_the_loss_that_chooses_weights_is_the_same_for_the_same_fields(head, ready, rain):
    model = ready(head)
    plan, trained = model._trained
    coarse, fine = (harmonise(each.isel(time=slice(4)))[0] for each in rain)
    given = plan.conditions(coarse, model.conservation.given(coarse), model._reference(coarse))
    truth = torch.from_numpy(fine.pr.values[:, None].astype(np.float32))
    with torch.no_grad():
        assert torch.equal(trained.loss(truth, given), trained.loss(truth, given))


def test_a_committee_draws_its_members_from_its_networks_in_turn(rain):
    model = unfitted("noise-injected", networks=2).fit(*rain, validate=0.0)
    coarse = rain[0].isel(time=slice(4))
    _, committee = model._trained
    both = values(model.predict(coarse, members=4, seed=1))
    first, second = committee.heads
    second.load_state_dict(first.state_dict())
    alone = values(model.predict(coarse, members=4, seed=1))
    np.testing.assert_allclose(both[[0, 2]], alone[[0, 2]], rtol=1e-5)
    assert not np.allclose(both[[1, 3]], alone[[1, 3]])


def test_a_loss_of_points_is_no_loss_of_an_ensemble(rain):
    with pytest.raises(InputError, match=r"loss of the head noise-injected 'mse'.*crps"):
        unfitted("noise-injected", loss="mse").fit(*rain)


def test_streams_are_of_the_seed_the_member_and_the_key():
    both = Draws.of(7, [0, 1, 4], [10, -20]).normal(3)
    assert both.shape == (6, 3)
    assert torch.equal(both[5:], Draws.of(7, [4], [-20]).normal(3))
    assert torch.equal(both[3], Draws.of(7, [1], [-20, 10]).normal(3)[0])
    assert len(torch.unique(both)) == 18


def test_streams_go_on_where_they_ended():
    draws = Draws.of(7, [0], [1])
    assert not torch.equal(draws.normal(3), draws.normal(3))


def test_streams_are_normal_and_uniform():
    draws = Draws.of(0, range(4), range(50))
    normal, uniform = draws.normal(40, 40), draws.uniform(40, 40)
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01
    assert abs(uniform.mean() - 0.5) < 0.005 and uniform.min() >= 0 and uniform.max() < 1
    assert abs(torch.corrcoef(normal.flatten(1)).triu(1)).max() < 0.15


def test_ensembles_of_rain_are_drawn_in_its_root_unless_the_user_says_otherwise(ready, rain):
    assert [link.name for link in ready("noise-injected")._trained[0].links] == ["sqrt"]
    assert [link.name for link in ready("point")._trained[0].links] == ["standardise"]
    other = unfitted("noise-injected", transforms={"pr": "log1p"}).fit(*rain, validate=0.2)
    assert [link.name for link in other._trained[0].links] == ["log1p"]


def test_the_same_network_can_be_sampled_in_another_way(ready, rain):
    model, coarse = ready("diffusion"), rain[0].isel(time=slice(3))
    longer, free = model.resampled(steps=30), model.resampled(constraint="none")
    as_it_is, other, loose = (values(each.predict(coarse, members=2)) for each in (model, longer, free))
    assert not np.array_equal(as_it_is, other)
    np.testing.assert_array_equal(as_it_is, values(model.resampled().predict(coarse, members=2)))
    means = loose.reshape(2, 3, 4, 3, 6, 2).mean((3, 5))
    assert np.abs(means - coarse.pr.values).max() > 1e-3
    with pytest.raises(InputError, match="trained with others"):
        model.resampled(vector=8)
