"""Next-scale heads: the steps of a factor, what a scale may change, and what they make of known problems."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import heads_contract
import heads_toy
from finegrid.backbones.blocks import repeated
from finegrid.conventions import InputError
from finegrid.heads import Draws
from finegrid.heads.next_scale import NextScaleHead, growth, mean_over
from finegrid.losses import crps, energy


def head(problem, **options):
    torch.manual_seed(0)
    return NextScaleHead(problem, **{"loss": crps} | options)


@pytest.mark.parametrize(
    ("factor", "steps"),
    [
        ((8, 8), [(2, 2)] * 3),
        ((2, 3), [(2, 3)]),
        ((6, 6), [(3, 3), (2, 2)]),
        ((4, 2), [(2, 1), (2, 2)]),
        ((1, 5), [(1, 5)]),
        ((1, 1), [(1, 1)]),
    ],
)
def test_a_factor_grows_by_its_primes(factor, steps):
    assert growth(factor) == steps


def test_means_over_blocks_are_weighted_and_zero_where_nothing_counts():
    fields, weight = torch.tensor([[[[1.0, 3.0, 5.0, 7.0]]]]), torch.tensor([[[[1.0, 3.0, 0.0, 0.0]]]])
    torch.testing.assert_close(mean_over(fields, weight, (1, 2)), torch.tensor([[[[2.5, 0.0]]]]))


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("backbone", ["resnet", "unet"])
def test_missing_truth_odd_sizes_and_several_fields_are_no_obstacle(backbone, mean):
    heads_contract.check_missing_truth(head(heads_contract.awkward(backbone), mean=mean))


def test_members_conserve_and_do_not_depend_on_what_is_drawn_beside_them():
    heads_contract.check_members(head(heads_contract.awkward()))


def test_the_numbers_of_a_head_are_all_that_its_members_need():
    heads_contract.check_saved(lambda: NextScaleHead(heads_contract.awkward(), loss=crps))


def test_a_finer_scale_leaves_the_means_of_the_coarser_one():
    own = heads_toy.space(shape=(3, 2), factor=(6, 4))
    own.place.weight.copy_(torch.rand(18, 8) + 0.5)
    made = head(heads_toy.problem(own, shape=(3, 2)))
    given = heads_toy.conditions(torch.randn(2, 1, 3, 2), (6, 4))
    seen = own.see(given)
    with torch.no_grad():
        for number, step in enumerate(made.steps):
            below = torch.randn(2, 1, 3 * 6, 2 * 4)
            block = made._block(number)
            below = functional.avg_pool2d(below, block)
            change = made._change(number, below, seen, Draws.of(0, [0], [0, 1]))
            assert change.shape == below.shape and change.abs().max() > 0
            if number:
                weight = functional.avg_pool2d(own.place.weight[None, None], block)
                assert mean_over(change, weight.expand_as(change), step).abs().max() < 1e-5


def test_every_scale_is_taught_by_the_true_coarser_one():
    toy = heads_toy.linear_gaussian(16)
    made = head(toy.problem, own=0.0)
    made.loss(toy.fine, toy.given).mean().backward()
    for network in made.networks:
        assert max(each.grad.abs().max() for each in network.parameters() if each.grad is not None) > 0


def test_half_of_the_samples_run_on_their_own_scales_whatever_the_batch(monkeypatch):
    toy = heads_toy.linear_gaussian(400)
    made, own = head(toy.problem), []
    monkeypatch.setattr(made, "_rolled", lambda fine, seen: own.append(len(fine)) or fine.mean((1, 2, 3)))
    monkeypatch.setattr(made, "_taught", lambda fine, seen: fine.mean((1, 2, 3)))
    for start in range(400):
        fine, given = toy.samples.at(slice(start, start + 1))
        assert made.loss(fine, given).shape == (1,)
    assert 150 < sum(own) < 250


@pytest.mark.parametrize("options", [{"vector": 0}, {"fields": 0}, {"own": 1.5}, {"train_members": 1}])
def test_options_that_make_no_ensemble_are_refused(options):
    with pytest.raises(InputError, match="next-scale; expected"):
        head(heads_toy.linear_gaussian(2).problem, **options)


def test_the_ensemble_is_nearly_right_after_a_few_steps():
    toy = heads_toy.linear_gaussian(256, width=16, depth=1)
    trained = heads_toy.fitted(head(toy.problem), toy, steps=40, batch=32, rate=1e-2)
    residuals = heads_toy.drawn(trained, toy, 32)
    assert 0.6 < residuals.var(0).mean() / toy.covariance.diagonal().mean() < 1.4


def two_steps(count: int) -> heads_toy.Toy:
    """The linear-Gaussian pair on one coarse cell of 4 x 4 fine ones, which takes two steps."""
    generator = torch.Generator().manual_seed(0)
    coarse, covariance = torch.randn(count, 1, 1, 1, generator=generator), torch.exp(-heads_toy.distances(4, 4) / 2)
    mean = 0.5 * repeated(coarse, (4, 4))
    noise = torch.randn(count, 16, generator=generator) @ torch.linalg.cholesky(covariance).T
    own, given = heads_toy.space(shape=(1, 1), factor=(4, 4)), heads_toy.conditions(coarse, (4, 4))
    fine = given.reference + mean + noise.reshape(count, 1, 4, 4)
    return heads_toy.Toy(heads_toy.problem(own, shape=(1, 1)), given, fine, mean, covariance)


@pytest.mark.long
def test_two_scales_together_have_the_mean_and_the_covariance_of_the_truth():
    toy = two_steps(4096)
    trained = heads_toy.fitted(head(toy.problem, loss=energy, train_members=4), toy, steps=400)
    mean, covariance = heads_toy.moments(heads_toy.drawn(trained, toy, 512, times=64), toy)
    assert (mean - toy.mean[:64]).square().mean().sqrt() < 0.1
    assert abs(covariance.trace() / toy.covariance.trace() - 1) < 0.1
    assert (covariance - toy.covariance).norm() < 0.25 * toy.covariance.norm()


@pytest.mark.long
def test_both_modes_have_their_weights():
    toy = heads_toy.bimodal(4096)
    trained = heads_toy.fitted(head(toy.problem), toy, steps=300)
    assert abs(heads_toy.share_above(heads_toy.drawn(trained, toy, 128)) - 0.3) < 0.1
