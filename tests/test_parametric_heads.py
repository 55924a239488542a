"""Parametric and dressed heads: known truth comes back, members conserve, noise joins cells as errors are joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from finegrid.backbones.blocks import repeated
from finegrid.conventions import InputError
from finegrid.heads import HEADS, Draws, Problem
from finegrid.heads.dressed import DressedHead
from finegrid.heads.noises.tails import tail_index
from finegrid.heads.parametric import ParametricHead
from finegrid.losses import mse
from heads_toy import conditions, drawn, fitted, linear_gaussian, moments, problem, space

NAMES = ["gaussian", "student-t", "bernoulli-gamma", "csgd", "quantiles", "mixture"]


class Constant(nn.Module):
    """A network whose answer is the same everywhere: what heads learn is then a distribution without weather."""

    def __init__(self, outputs: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.numbers, self.shape = nn.Parameter(torch.zeros(outputs)), shape

    def forward(self, coarse: Tensor, static: Tensor | None, fine: Tensor | None, condition: Tensor | None) -> Tensor:
        return self.numbers[:, None, None].expand(len(coarse), -1, *self.shape)


def constant(outputs: int = 1, *, shape: tuple[int, int] = (4, 4), **options: object) -> Problem:
    own = space(shape=(shape[0] // 2, shape[1] // 2), outputs=outputs, **options)
    names = tuple("abc"[:outputs])
    return Problem(own, lambda *, outputs, **_: Constant(outputs, shape), fine=outputs, variables=names)


def learn(head: nn.Module, fine: Tensor, *, steps: int = 150, rate: float = 0.1) -> None:
    given = conditions(torch.zeros(len(fine), fine.shape[1], fine.shape[2] // 2, fine.shape[3] // 2))
    optimiser = torch.optim.Adam(head.parameters(), lr=rate)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimiser.zero_grad()
        head.loss(fine, given).mean().backward()
        optimiser.step()
    head.eval()
    head.settle(fine, given)


def sampled(head: nn.Module, members: int, outputs: int = 1, shape: tuple[int, int] = (4, 4)) -> Tensor:
    given = conditions(torch.zeros(1, outputs, shape[0] // 2, shape[1] // 2))
    with torch.no_grad():
        return head.sample(given, Draws.of(0, range(members), [0]))[:, 0]


@pytest.mark.parametrize("name", NAMES)
def test_every_distribution_has_a_head_of_its_name(name: str) -> None:
    head = HEADS[name](constant())
    assert isinstance(head, ParametricHead) and head.random
    assert sampled(head, 3).shape == (3, 1, 4, 4)


@pytest.mark.parametrize("name", ["gaussian", "student-t", "quantiles", "mixture"])
def test_a_known_normal_distribution_comes_back_with_its_correlation(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(300, 1, 1, 1, generator=generator)
    fine = 0.4 + 0.7 * (0.8 * common + 0.6 * torch.randn(300, 1, 4, 4, generator=generator))
    torch.manual_seed(0)
    head = HEADS[name](constant())
    learn(head, fine, steps=100)
    members = sampled(head, 1500)
    assert float(members.mean()) == pytest.approx(float(fine.mean()), abs=0.06)
    assert float(members.std()) == pytest.approx(float(fine.std()), rel=0.06)
    pair = [float(torch.corrcoef(torch.stack([each[:, 0, 0, 0], each[:, 0, 3, 3]]))[0, 1]) for each in (members, fine)]
    assert pair[0] == pytest.approx(pair[1], abs=0.12)


@pytest.mark.parametrize("name", ["bernoulli-gamma", "csgd"])
def test_known_rain_comes_back_dry_and_wet(name: str) -> None:
    random = np.random.default_rng(0)
    amount = random.gamma(2.0, 1.0, (250, 1, 4, 4))
    rain = np.where(random.random(amount.shape) < 0.4, amount, 0.0) if name != "csgd" else np.maximum(amount - 1.2, 0.0)
    fine = torch.from_numpy(rain).float()
    head = HEADS[name](constant())
    learn(head, fine, steps=150, rate=0.2)
    members = sampled(head, 1500)
    assert (members >= 0).all()
    assert float((members > 0).float().mean()) == pytest.approx(float((fine > 0).float().mean()), abs=0.04)
    assert float(members.mean()) == pytest.approx(float(fine.mean()), rel=0.06)
    assert float(members.quantile(0.99)) == pytest.approx(float(fine.quantile(0.99)), rel=0.12)


def test_heavy_tails_come_back_and_light_ones_stay_light() -> None:
    """The contract of tail-adaptive flows: index within 15 %, the 99.9th percentile, and no leak between outputs."""
    random = np.random.default_rng(1)
    heavy, light = random.standard_t(3, (400, 16, 16)) / 3**0.5, random.normal(size=(400, 16, 16))
    fine = torch.from_numpy(np.stack([heavy, light], axis=1)).float()
    quantiles = {}
    for name, options in (("student-t", {"score": "log"}), ("gaussian", {})):
        head = HEADS[name](constant(2, shape=(16, 16)), noise="white", **options)
        learn(head, fine[::3], steps=60, rate=0.3)
        members = sampled(head, 400, 2, (16, 16))
        quantiles[name] = members[:, 0].quantile(0.999)
        if name == "student-t":
            assert 1 / tail_index(members[:, 0].flatten()) == pytest.approx(3, rel=0.15)
            assert tail_index(members[:, 1].flatten()) == 0.0
    errors = {name: abs(float(each / fine[:, 0].quantile(0.999) - 1)) for name, each in quantiles.items()}
    assert errors["student-t"] < errors["gaussian"] / 2


def test_a_mixture_head_has_both_modes_with_their_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(256, 1, 1, 1, generator=generator) < 0.3
    fine = torch.where(first, 1.0, -1.0) + 0.1 * torch.randn(256, 1, 4, 4, generator=generator)
    torch.manual_seed(0)
    head = HEADS["mixture"](constant(), components=2)
    learn(head, fine)
    members = sampled(head, 800)
    assert float((members > 0).float().mean()) == pytest.approx(0.3, abs=0.05)
    assert float(members[members > 0].mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "gaussian",
        "quantiles",
        "dressed",
        *(pytest.param(each, marks=pytest.mark.long) for each in ("student-t", "mixture")),
    ],
)
def test_a_network_finds_the_mean_and_the_covariance_of_a_linear_gaussian_pair(name: str) -> None:
    toy = linear_gaussian(4096)
    head = fitted(_made(name, toy.problem), toy, steps=500)
    residuals = drawn(head, toy, 256)
    mean, covariance = moments(residuals, toy)
    assert float((mean - toy.mean[:32]).square().mean().sqrt()) < 0.1
    assert float(covariance.diagonal().mean()) == pytest.approx(float(toy.covariance.diagonal().mean()), rel=0.06)
    error = torch.linalg.norm(covariance - toy.covariance) / torch.linalg.norm(toy.covariance)
    assert float(error) < 0.08


def _made(name: str, given: Problem) -> nn.Module:
    return HEADS[name](given, loss=mse) if name == "dressed" else HEADS[name](given)


def by_addition(fine: Tensor, given: object) -> Tensor:
    """The constraint of addition, on blocks of 2 x 2."""
    means = nn.functional.avg_pool2d(fine, 2)
    return fine + repeated(given.coarse - means, (2, 2))


@pytest.mark.parametrize("name", [*NAMES, "dressed"])
def test_members_conserve_and_another_constraint_may_be_given(name: str) -> None:
    own = problem(space(project=by_addition))
    head, given = _made(name, own).eval(), conditions(torch.rand(3, 1, 2, 2))
    draws = [Draws.of(0, range(4), range(3)) for _ in range(2)]
    with torch.no_grad():
        members = head.sample(given, draws[0])
        free = head.sample(given, draws[1], lambda fine, given: fine)
    assert members.shape == (4, 3, 1, 4, 4)
    torch.testing.assert_close(nn.functional.avg_pool2d(members.flatten(0, 1), 2), given.coarse.repeat(4, 1, 1, 1))
    assert not torch.allclose(members, free) and not torch.allclose(free[0], free[1])


@pytest.mark.parametrize("name", [*NAMES, "dressed"])
def test_missing_truth_counts_nothing_and_gradients_are_finite(name: str) -> None:
    head, given = _made(name, problem(space())), conditions(torch.rand(3, 1, 2, 2))
    fine = torch.rand(3, 1, 4, 4)
    fine[0, 0, 1, 1] = fine[2] = torch.nan
    loss = head.loss(fine, given)
    loss.sum().backward()
    assert loss.shape == (3,) and torch.isfinite(loss).all() and loss[2] == 0
    assert all(torch.isfinite(each.grad).all() for each in head.parameters() if each.grad is not None)
    head.eval()
    head.settle(fine, given)
    with torch.no_grad():
        assert torch.isfinite(head.sample(given, Draws.of(0, range(2), range(3)))).all()
        assert torch.equal(head.loss(fine, given), head.loss(fine, given))


def test_variables_may_have_distributions_of_their_own() -> None:
    head = ParametricHead(constant(2), distribution="gaussian", variables={"b": {"name": "csgd"}})
    random = np.random.default_rng(0)
    temperature, rain = random.normal(1, 2, (150, 4, 4)), np.maximum(random.gamma(2.0, 1.0, (150, 4, 4)) - 1, 0)
    fine = torch.from_numpy(np.stack([temperature, rain], axis=1)).float()
    learn(head, fine, steps=100, rate=0.2)
    members = sampled(head, 500, 2)
    assert (members[:, 1] >= 0).all() and float(members[:, 0].min()) < 0
    torch.testing.assert_close(members.mean((0, 2, 3)), fine.mean((0, 2, 3)), rtol=0.12, atol=0.05)
    with pytest.raises(InputError, match="variable 'c'; expected one of a, b"):
        ParametricHead(constant(2), variables={"c": "csgd"})


def test_a_first_guess_of_rain_is_where_untrained_amounts_are() -> None:
    head = HEADS["csgd"](constant()).eval()
    low, high = (conditions(torch.full((1, 1, 2, 2), each)) for each in (0.5, 8.0))
    with torch.no_grad():
        members = [head.sample(each, Draws.of(0, range(200), [0])).mean() for each in (low, high)]
    assert float(members[1] - members[0]) > 6


@pytest.mark.parametrize("deviation", ["output", "cell"])
def test_a_dressed_head_has_the_deviation_of_its_networks_errors(deviation: str) -> None:
    torch.manual_seed(0)
    size = torch.linspace(0.5, 2.0, 16).reshape(4, 4)
    fine = 1.5 + size * torch.randn(500, 1, 4, 4)
    head = DressedHead(constant(), loss=mse, deviation=deviation, noise="white")
    learn(head, fine)
    members = sampled(head, 3000)
    expected = size if deviation == "cell" else size.square().mean().sqrt().expand(4, 4)
    torch.testing.assert_close(members.std(0)[0], expected, rtol=0.12, atol=0)
    assert float(members.mean()) == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize("name", ["gaussian", "dressed"])
def test_what_a_head_settled_is_in_its_state(name: str) -> None:
    torch.manual_seed(0)
    fine = torch.randn(50, 1, 4, 4) * 3
    head = _made(name, constant())
    learn(head, fine, steps=3)
    other = _made(name, constant()).eval()
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(sampled(other, 3), sampled(head, 3))


@pytest.mark.parametrize("name", ["gaussian", "dressed"])
def test_noise_with_tails_of_its_own_is_refused(name: str) -> None:
    options = {"loss": mse} if name == "dressed" else {}
    with pytest.raises(InputError, match="distribution: student-t"):
        HEADS[name](constant(), noise="heavy-tailed", **options)


def test_an_unknown_deviation_is_refused() -> None:
    with pytest.raises(InputError, match="output or cell"):
        DressedHead(constant(), loss=mse, deviation="day")
