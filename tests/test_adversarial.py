"""Adversarial heads: who learns from which term, and that noise matters."""

from __future__ import annotations

import pytest
import torch

import heads_contract
import heads_toy
from finegrid.conventions import InputError
from finegrid.heads.adversarial import AdversarialHead
from finegrid.losses import crps, energy


def head(problem, **options):
    torch.manual_seed(0)
    return AdversarialHead(problem, **{"loss": crps} | options)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("backbone", ["resnet", "unet", "srresnet"])
def test_missing_truth_odd_sizes_and_several_fields_are_no_obstacle(backbone, mean):
    options = {"embedding": 0} if backbone != "srresnet" else {}
    problem = heads_contract.awkward(backbone, **options)
    if backbone == "srresnet":
        problem.build.keywords.pop("embedding")
    heads_contract.check_missing_truth(head(problem, mean=mean))


def test_members_conserve_and_do_not_depend_on_what_is_drawn_beside_them():
    heads_contract.check_members(head(heads_contract.awkward()))


def test_the_numbers_of_a_head_are_all_that_its_members_need():
    heads_contract.check_saved(lambda: AdversarialHead(heads_contract.awkward(), loss=crps))


def gradients(toy, *, content):
    """Gradients of a fresh head, by the part of it, with the members' score weighted by `content`."""
    made = head(toy.problem, loss=lambda prediction, truth, weight: content * crps(prediction, truth, weight))
    torch.manual_seed(1)
    made.loss(toy.fine, toy.given).mean().backward()
    parts = (made.generator, made.discriminator)
    return [torch.cat([each.grad.flatten() for each in part.parameters()]) for part in parts]


def test_each_network_learns_from_its_own_term_and_both_from_the_contest():
    toy = heads_toy.linear_gaussian(16)
    generator, discriminator = gradients(toy, content=0.0)
    assert generator.abs().max() > 0 and discriminator.abs().max() > 0
    both, same = gradients(toy, content=1.0)
    assert not torch.allclose(both, generator)
    torch.testing.assert_close(same, discriminator)


def test_the_generator_climbs_where_the_discriminator_falls():
    """The slope of the generator's term is the one that fools a discriminator that is held fixed."""
    toy = heads_toy.linear_gaussian(16)
    made = head(toy.problem).train()
    seen = toy.problem.space.see(toy.given)
    residual = torch.randn(16, 1, 4, 4, requires_grad=True)
    field = made.space.admissible(residual, seen)
    made._contest(made.discriminator, field, toy.fine, seen).sum().backward()
    made.eval()
    own = residual.detach().clone().requires_grad_()
    shown = made._shown(made.space.admissible(own, seen), torch.isfinite(toy.fine), seen)
    answers = seen.through(made.discriminator, shown)
    torch.nn.functional.softplus(-answers).mean((1, 2, 3)).sum().backward()
    cosine = torch.nn.functional.cosine_similarity(residual.grad.flatten(), own.grad.flatten(), dim=0)
    assert cosine > 0.95  # not 1: the spectral norms of the layers are estimated anew in each call of training


def test_the_discriminator_does_not_see_where_truth_is_missing():
    toy = heads_toy.linear_gaussian(4)
    made, seen = head(toy.problem), toy.problem.space.see(toy.given)
    known = torch.rand(4, 1, 4, 4) < 0.5
    for field in (toy.fine, toy.fine + torch.randn(4, 1, 4, 4)):
        assert (made._shown(field, known, seen)[~known] == 0).all()


@pytest.mark.parametrize("options", [{"vector": 0}, {"fields": -1}, {"adversarial": -0.1}, {"train_members": 1}])
def test_options_that_make_no_ensemble_are_refused(options):
    with pytest.raises(InputError, match=rf"{next(iter(options))}: .*; expected .*; change downscaler.head"):
        head(heads_toy.linear_gaussian(2).problem, **options)


def test_noise_matters_after_training():
    """In the published network members collapse onto one field; here they keep the spread of the truth."""
    toy = heads_toy.linear_gaussian(256, width=16, depth=1)
    trained = heads_toy.fitted(head(toy.problem), toy, steps=40, batch=32, rate=5e-3)
    residuals = heads_toy.drawn(trained, toy, 32)
    assert 0.6 < residuals.var(0).mean() / toy.covariance.diagonal().mean() < 1.4


@pytest.mark.long
def test_members_have_the_mean_and_the_covariance_of_the_truth():
    toy = heads_toy.linear_gaussian(4096)
    trained = heads_toy.fitted(head(toy.problem, loss=energy, train_members=4, vector=32, fields=1), toy, steps=400)
    mean, covariance = heads_toy.moments(heads_toy.drawn(trained, toy, 512, times=64), toy)
    assert (mean - toy.mean[:64]).square().mean().sqrt() < 0.12
    assert abs(covariance.trace() / toy.covariance.trace() - 1) < 0.15
    assert (covariance - toy.covariance).norm() < 0.3 * toy.covariance.norm()


@pytest.mark.long
def test_both_modes_have_their_weights():
    toy = heads_toy.bimodal(4096)
    trained = heads_toy.fitted(head(toy.problem), toy, steps=300)
    assert abs(heads_toy.share_above(heads_toy.drawn(trained, toy, 128)) - 0.3) < 0.1
