"""Latent heads: the grid and the cost of latents, what learns from what, and codecs of other models."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
import xarray as xr

import heads_contract
import heads_toy
from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.downscalers import NeuralDownscaler, load
from finegrid.downscalers.store import read
from finegrid.heads import Draws
from finegrid.heads.latent import LatentHead
from finegrid.heads.latent.codec import Expected
from finegrid.heads.latent.grid import LatentGrid
from finegrid.losses import crps, energy
from finegrid.training import Settings


def head(problem, **options):
    torch.manual_seed(0)
    return LatentHead(problem, **{"loss": crps, "inner": {"name": "diffusion", "steps": 4}} | options)


@pytest.mark.parametrize("inner", ["diffusion", "flow"])
@pytest.mark.parametrize("backbone", ["resnet", "unet"])
def test_missing_truth_odd_sizes_and_several_fields_are_no_obstacle(backbone, inner):
    problem = heads_contract.awkward(backbone)
    heads_contract.check_missing_truth(head(problem, inner={"name": inner, "steps": 2}, mean=inner == "flow"))


def test_members_conserve_and_do_not_depend_on_what_is_drawn_beside_them():
    heads_contract.check_members(head(heads_contract.awkward()))


def test_the_numbers_of_a_head_are_all_that_its_members_need():
    heads_contract.check_saved(lambda: LatentHead(heads_contract.awkward(), loss=crps))


@pytest.mark.parametrize(("factor", "outputs"), [((8, 8), 1), ((4, 4), 2), ((2, 2), 1), ((2, 3), 2), ((1, 1), 1)])
def test_latents_are_at_least_sixteen_times_fewer_than_fine_values(factor, outputs):
    own = heads_toy.space(shape=(12, 12), factor=factor, outputs=outputs)
    grid = LatentGrid.of(heads_toy.problem(own, shape=(12, 12)), 16)
    fine = (12 * factor[0], 12 * factor[1])
    rows, columns = grid.shape(fine)
    assert grid.channels >= 1 and 16 <= outputs * fine[0] * fine[1] / (grid.channels * rows * columns) < 32


def test_latents_on_the_fine_grid_are_the_inverse_of_means_over_their_cells():
    grid = LatentGrid((2, 3), 2, 1)
    latents = torch.randn(2, 1, 2, 3)
    fine = grid.on_fine(latents, (6, 15))
    assert fine.shape == (2, 1, 6, 15)
    torch.testing.assert_close(grid.over_fine(fine), latents)


def test_the_cost_of_whole_numbers_is_that_of_a_rounded_normal_distribution():
    mean, deviation = torch.tensor([0.3, -1.2, 0.0]), torch.tensor([0.4, 2.0, 5.0])
    latents = torch.arange(-4.0, 5.0)[:, None]
    normal = scipy.stats.norm(mean.numpy(), deviation.numpy())
    expected = -np.log2(normal.cdf(latents.numpy() + 0.5) - normal.cdf(latents.numpy() - 0.5))
    bits = Expected(mean, deviation).bits(latents)
    rare = expected > 20  # where SciPy's difference of two near ones has no digits left
    np.testing.assert_allclose(np.where(rare, 0, bits.numpy()), np.where(rare, 0, expected), rtol=2e-4, atol=1e-4)


def test_the_chances_of_all_whole_numbers_sum_to_one():
    expected = Expected(torch.tensor([0.37]), torch.tensor([1.7]))
    chances = 2.0 ** -expected.bits(torch.arange(-40.0, 41.0)[:, None])
    assert abs(float(chances.sum()) - 1) < 1e-4


def test_the_cost_has_a_finite_slope_far_from_what_is_expected():
    latents = torch.tensor([1e3, -50.0, 0.0], requires_grad=True)
    bits = Expected(torch.zeros(3), torch.full((3,), 0.1)).bits(latents)
    bits.sum().backward()
    assert torch.isfinite(bits).all() and torch.isfinite(latents.grad).all() and latents.grad[0] > 0


def test_whole_numbers_are_coded_in_what_they_are_said_to_cost():
    """The entropy of rounded normal numbers is the mean cost, when what is expected is right."""
    generator = np.random.default_rng(0)
    drawn = torch.as_tensor(np.rint(generator.normal(0.4, 1.5, size=200_000)), dtype=torch.float32)
    cost = float(Expected(torch.tensor(0.4), torch.tensor(1.5)).bits(drawn).mean())
    _, counts = np.unique(drawn.numpy(), return_counts=True)
    assert abs(cost / float(scipy.stats.entropy(counts, base=2)) - 1) < 0.01


def test_the_codec_learns_nothing_from_the_distribution_of_its_latents():
    toy = heads_toy.linear_gaussian(16)
    made = head(toy.problem, rate=0.0)
    made._distortion = lambda latents, fine, seen, draws: torch.zeros(len(fine))
    made.loss(toy.fine, toy.given).mean().backward()
    # The rate counts nothing, and its slope is zero.
    assert all(each.grad is None or not each.grad.any() for each in made.codec.parameters())
    assert any(each.grad is not None and each.grad.any() for each in made.inner.parameters())


def test_a_codec_that_is_given_does_not_learn():
    toy = heads_toy.linear_gaussian(64)
    made = head(toy.problem, codec="folder")
    before = {name: each.clone() for name, each in made.codec.state_dict().items()}
    heads_toy.fitted(made, toy, steps=3, batch=16)
    assert all(torch.equal(each, before[name]) for name, each in made.codec.state_dict().items())


@pytest.mark.parametrize("factor", [(2, 2), (8, 8)])
def test_latents_are_heard_over_the_noise_of_rounding_from_the_start(factor):
    """Otherwise the decoder learns to do without them, and members do not differ."""
    own = heads_toy.space(shape=(4, 4), factor=factor)
    made = head(heads_toy.problem(own, shape=(4, 4)))
    given = heads_toy.conditions(torch.randn(64, 1, 4, 4), factor)
    with torch.no_grad():
        latents = made.codec.encoded(torch.randn(64, 1, 4 * factor[0], 4 * factor[1]), own.see(given))
    assert 0.1 < latents.std(0).mean() < 10


def test_weights_are_judged_without_a_sampler(monkeypatch):
    """Fifty judgements by members would cost more than the training."""
    toy = heads_toy.linear_gaussian(4)
    made = head(toy.problem).eval()
    monkeypatch.setattr(made.inner, "sample", None)
    with torch.no_grad():
        assert torch.equal(made.loss(toy.fine, toy.given), made.loss(toy.fine, toy.given))


def test_latents_of_missing_truth_are_not_learnt():
    toy = heads_toy.linear_gaussian(4)
    made, fine = head(toy.problem, compression=4), toy.fine.clone()
    fine[0, :, :2, :2] = torch.nan
    seen = toy.problem.space.see(toy.given)
    departures = made._departures(made._latents(fine, seen, Draws.fresh(4)), made.codec.expected(seen), fine)
    assert departures[0, :, 0, 0].isnan().all() and departures.isnan().sum() == departures.shape[1]


def test_latents_are_as_wide_as_times_that_were_not_learnt_from_say():
    toy = heads_toy.linear_gaussian(64)
    made = head(toy.problem).eval()
    sizes, spreads = [], []
    for times in (1.0, 4.0):
        made.settle(toy.given.reference + times * (toy.fine - toy.given.reference), toy.given)
        sizes.append(made.size.mean())
        spreads.append(heads_toy.drawn(made, toy, 16).var(0).mean())
    assert sizes[1] > 1.2 * sizes[0] and spreads[1] > spreads[0]


@pytest.mark.parametrize("options", [{"rate": -1.0}, {"texture": -1}, {"compression": 0}, {"codec": "a", "mean": True}])
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        head(heads_toy.linear_gaussian(2).problem, **options)


def test_the_head_of_latents_is_one_that_walks():
    with pytest.raises(InputError, match="diffusion, flow"):
        head(heads_toy.linear_gaussian(2).problem, inner="point")


# --- codecs of other models ---

TINY = {"name": "resnet", "width": 8, "depth": 1, "embedding": 0}


def model(**options):
    table = {"name": "latent", "inner": {"name": "flow", "steps": 1}} | options.pop("head", {})
    settings = Settings(budget=None, steps=2, batch=8, device="cpu")
    return NeuralDownscaler(**{"backbone": TINY, "head": table, "settings": settings, "mean": None} | options)


@pytest.fixture(scope="module")
def pairs():
    random = np.random.default_rng(0)
    fine = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), 280 + random.normal(size=(24, 8, 8)), {"units": "K"})},
        coords={
            "time": pd.date_range("2001-01-01", periods=24),
            "lat": ("lat", 40 + 0.25 * np.arange(8), {"units": "degrees_north"}),
            "lon": ("lon", 5 + 0.25 * np.arange(8), {"units": "degrees_east"}),
        },
    )
    return {factor: (coarsen(fine, factor), fine) for factor in (2, 4)}


@pytest.fixture(scope="module")
def folder(pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("codec") / "model"
    model().fit(*pairs[4]).save(path)
    return path


def test_the_codec_of_a_saved_model_is_taken_as_it_is(pairs, folder, tmp_path):
    fitted = model(head={"codec": str(folder)}, settings=Settings(budget=None, steps=2, batch=8, seed=3, device="cpu"))
    fitted.fit(*pairs[4])
    _, saved = read(folder)
    for name, each in fitted._head.codec.state_dict().items():
        assert torch.equal(each, saved[f"network/codec.{name}"])
    fitted.save(tmp_path / "own")
    shutil.move(folder, tmp_path / "away")
    try:
        # It has the codec in its own folder, and needs the other one no more.
        again = load(tmp_path / "own")
    finally:
        shutil.move(tmp_path / "away", folder)
    coarse = pairs[4][0]
    xr.testing.assert_identical(again.predict(coarse, members=2), fitted.predict(coarse, members=2))


@pytest.mark.parametrize(
    ("options", "factor", "words"),
    [
        ({}, 2, r"factor: \[4, 4\], here \[2, 2\]"),
        ({"transforms": {"t2m": "standardise-per-cell"}}, 4, r"transforms: \['standardise'\], here"),
        ({"backbone": TINY | {"width": 12}}, 4, "backbone"),
        ({"mean": "mean-map"}, 4, "first guess: None, here mean-map"),
        ({"head": {"compression": 8}}, 4, "other sizes"),
    ],
)
def test_a_codec_for_other_fields_is_refused_with_what_differs(options, factor, words, pairs, folder):
    table = {"codec": str(folder), **options.get("head", {})}
    with pytest.raises(InputError, match=words):
        model(**{**options, "head": table}).fit(*pairs[factor])


def test_a_codec_for_another_variable_is_refused(pairs, folder):
    renamed = [each.rename(t2m="pr").map(lambda values: values - 270) for each in pairs[4]]
    for each in renamed:
        each["pr"].attrs["units"] = "mm/day"
    with pytest.raises(InputError, match=r"variables: \['t2m'\], here \['pr'\]"):
        model(head={"codec": str(folder)}).fit(*renamed)


def test_a_folder_without_a_codec_is_told(pairs, tmp_path):
    with pytest.raises(InputError, match="is not a model folder"):
        model(head={"codec": str(tmp_path)}).fit(*pairs[4])
    point = NeuralDownscaler(backbone=TINY, mean=None, settings=Settings(budget=None, steps=1, device="cpu"))
    point.fit(*pairs[4]).save(tmp_path / "point")
    with pytest.raises(InputError, match="holds a model without a codec"):
        model(head={"codec": str(tmp_path / "point")}).fit(*pairs[4])


@pytest.mark.long
def test_members_have_nearly_the_mean_and_the_covariance_of_the_truth():
    """With as many latents as fine values: fewer cannot hold noise that is independent at cells."""
    toy = heads_toy.linear_gaussian(4096)
    made = head(toy.problem, loss=energy, compression=1, inner={"name": "diffusion", "steps": 20})
    trained = heads_toy.fitted(made, toy, steps=300, batch=64)
    mean, covariance = heads_toy.moments(heads_toy.drawn(trained, toy, 512, times=64), toy)
    assert (mean - toy.mean[:64]).square().mean().sqrt() < 0.15
    assert abs(covariance.trace() / toy.covariance.trace() - 1) < 0.15
    assert (covariance - toy.covariance).norm() < 0.3 * toy.covariance.norm()


@pytest.mark.long
def test_both_modes_have_their_weights():
    toy = heads_toy.bimodal(4096)
    made = head(toy.problem, inner={"name": "diffusion", "steps": 20})
    trained = heads_toy.fitted(made, toy, steps=300)
    assert abs(heads_toy.share_above(heads_toy.drawn(trained, toy, 128)) - 0.3) < 0.1
