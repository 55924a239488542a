"""Variational heads: what encoder, prior and decoder do, and that the CRPS beats the absolute error as content."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import heads_contract
import heads_toy
from finegrid.conventions import InputError
from finegrid.heads.variational import VariationalHead, _Normal
from finegrid.losses import crps, mae


def head(problem, **options):
    torch.manual_seed(0)
    loss = VariationalHead.losses[options.pop("loss", "crps")]
    return VariationalHead(problem, loss=loss, **options)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("backbone", ["resnet", "unet"])
def test_missing_truth_odd_sizes_and_several_fields_are_no_obstacle(backbone, mean):
    heads_contract.check_missing_truth(head(heads_contract.awkward(backbone), mean=mean))


def test_members_conserve_and_do_not_depend_on_what_is_drawn_beside_them():
    heads_contract.check_members(head(heads_contract.awkward()))


def test_the_numbers_of_a_head_are_all_that_its_members_need():
    heads_contract.check_saved(lambda: VariationalHead(heads_contract.awkward(), loss=crps))


def test_the_divergence_is_that_of_normal_distributions():
    answers = [torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    first, second = (_Normal.of(each) for each in answers)
    theirs = [Normal(each.mean, each.log_deviation.exp()) for each in (first, second)]
    torch.testing.assert_close(first.divergence(second), kl_divergence(*theirs).mean((1, 2, 3)))
    assert (first.divergence(first).abs() < 1e-6).all()


def test_draws_have_the_moments_of_the_distribution():
    normal = _Normal.of(torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1))
    drawn = normal.drawn(torch.randn(20000, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    assert abs(drawn.mean() - 2.0) < 0.02 and abs(drawn.std() / normal.log_deviation.exp() - 1) < 0.03


def test_the_absolute_error_of_members_is_the_mean_of_theirs():
    members, truth = torch.randn(3, 2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    truth[0, 0, 0, 0] = torch.nan
    expected = torch.stack([mae(each, truth) for each in members]).mean(0)
    torch.testing.assert_close(VariationalHead.losses["mae"](members, truth), expected)


@pytest.mark.parametrize("from_prior", [0.0, 1.0])
def test_the_decoder_is_taught_by_members_of_the_encoder_and_of_the_prior(from_prior):
    """The encoder learns from the score only where its members are scored, the prior where its own are."""
    toy = heads_toy.linear_gaussian(16)
    made = head(toy.problem, from_prior=from_prior, divergence=1e-30)
    made.loss(toy.fine, toy.given).mean().backward()
    sizes = [
        max(float(each.grad.abs().max()) for each in part.parameters() if each.grad is not None)
        for part in (made.encoder, made.prior, made.decoder)
    ]
    taught = [size > 1e-12 for size in sizes]
    assert taught == [from_prior == 0, from_prior == 1, True]


@pytest.mark.parametrize("options", [{"fields": 0}, {"divergence": 0.0}, {"from_prior": -1}, {"train_members": 1}])
def test_options_that_make_no_ensemble_are_refused(options):
    with pytest.raises(InputError, match="variational; expected"):
        head(heads_toy.linear_gaussian(2).problem, **options)


@pytest.mark.long
def test_members_have_the_mean_and_nearly_the_covariance_of_the_truth():
    toy = heads_toy.linear_gaussian(4096)
    made = head(toy.problem, loss="energy", train_members=4)
    mean, covariance = heads_toy.moments(
        heads_toy.drawn(heads_toy.fitted(made, toy, steps=300), toy, 512, times=64), toy
    )
    assert (mean - toy.mean[:64]).square().mean().sqrt() < 0.12
    assert abs(covariance.trace() / toy.covariance.trace() - 1) < 0.2
    assert (covariance - toy.covariance).norm() < 0.4 * toy.covariance.norm()


@pytest.mark.long
def test_both_modes_have_their_weights():
    toy = heads_toy.bimodal(4096)
    trained = heads_toy.fitted(head(toy.problem), toy, steps=300)
    assert abs(heads_toy.share_above(heads_toy.drawn(trained, toy, 128)) - 0.3) < 0.1


def crps_and_ratio(toy, **options):
    """CRPS of members that were trained so, and their spread over the error of their mean."""
    made = heads_toy.fitted(head(toy.problem, **options), toy, steps=200)
    members = heads_toy.drawn(made, toy, 16, times=512)
    truth = (toy.fine - toy.given.reference)[:512]
    error = (members.mean(0) - truth).square().mean()
    return float(crps(members, truth).mean()), float((members.var(0).mean() * 17 / 16 / error).sqrt())


@pytest.mark.long
def test_the_crps_with_the_divergence_beats_the_absolute_error_with_it():
    """The check of the source, against the absolute error with and without members of the prior in the score."""
    toy = heads_toy.linear_gaussian(4096)
    ours, honest = crps_and_ratio(toy, loss="crps")
    collapsed, narrow = crps_and_ratio(toy, loss="mae")
    classic, loose = crps_and_ratio(toy, loss="mae", from_prior=0.0)
    assert ours < classic and ours < 0.97 * collapsed
    assert 0.8 < honest < 1.2
    assert abs(honest - 1) < min(abs(narrow - 1), abs(loose - 1))
