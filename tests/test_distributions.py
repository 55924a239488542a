"""Distributions of a cell: scores as independent implementations have them, draws and chances that undo each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import scoringrules
import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.heads.distributions import (
    DISTRIBUTIONS,
    BernoulliGamma,
    CensoredShiftedGamma,
    Distribution,
    Gaussian,
    Mixture,
    Quantiles,
    StudentT,
)
from finegrid.heads.distributions.base import positive
from finegrid.heads.distributions.censored import gamma_chance
from finegrid.heads.distributions.student import student_chance
from finegrid.heads.distributions.tables import gamma_value, student_value

CONTINUOUS = ["gaussian", "student-t", "quantiles", "mixture"]


def field(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters_of(distribution: Distribution, *shape: int, seed: int = 0) -> Tensor:
    return 0.8 * field(distribution.count, *shape, seed=seed)


def truth_of(distribution: Distribution, *shape: int, seed: int = 1) -> Tensor:
    truth = 1.5 * field(*shape, seed=seed)
    return truth if distribution.of_residual else truth.clamp(min=0.0)


def numbers(values: Tensor) -> np.ndarray:
    return values.numpy()


def test_the_crps_of_a_normal_is_that_of_scoringrules() -> None:
    parameters, truth = field(2, 500), 2 * field(500, seed=1)
    expected = scoringrules.crps_normal(numbers(truth), numbers(parameters[1]), numbers(positive(parameters[0])))
    np.testing.assert_allclose(numbers(Gaussian().loss(parameters, truth)), expected, rtol=1e-10)


def test_the_crps_of_students_t_is_that_of_scoringrules() -> None:
    parameters, truth = 2 * field(3, 500), 5 * field(500, seed=1)
    degrees = 2 + 28 * scipy.special.expit(numbers(parameters[0]) - 1.5)
    scale, location = numbers(positive(parameters[1])), numbers(parameters[2])
    expected = scoringrules.crps_t(numbers(truth), degrees, location, scale)
    np.testing.assert_allclose(numbers(StudentT().loss(parameters, truth)), expected, rtol=1e-6, atol=1e-8)


def test_students_t_may_be_scored_by_its_log_density() -> None:
    parameters, truth = field(3, 200), 5 * field(200, seed=1)
    degrees = 2 + 28 * scipy.special.expit(numbers(parameters[0]) - 1.5)
    expected = scipy.stats.t.logpdf(numbers(truth), degrees, numbers(parameters[2]), numbers(positive(parameters[1])))
    np.testing.assert_allclose(numbers(StudentT(score="log").loss(parameters, truth)), -expected, rtol=1e-9)


def test_the_crps_of_a_mixture_is_that_of_scoringrules() -> None:
    mixture, truth = Mixture(3), 2 * field(500, seed=1)
    parameters = parameters_of(mixture, 500)
    weights = scipy.special.softmax(numbers(parameters[:3]), axis=0)
    means = numbers(parameters[6:]) + np.array([-1.0, 0.0, 1.0])[:, None]
    deviations = numbers(positive(parameters[3:6]))
    expected = scoringrules.crps_mixnorm(numbers(truth), means.T, deviations.T, weights.T)
    np.testing.assert_allclose(numbers(mixture.loss(parameters, truth)), expected, rtol=1e-9)


def test_the_crps_of_a_censored_shifted_gamma_is_that_of_scoringrules() -> None:
    family = CensoredShiftedGamma()
    parameters, truth = field(3, 500), truth_of(family, 500)
    shift, deviation, mean = (numbers(positive(each)) for each in parameters)
    shape = np.clip((mean / deviation) ** 2, 0.05, 100.0)
    expected = scoringrules.crps_csg0(numbers(truth), shape, scale=mean / shape, shift=shift)
    np.testing.assert_allclose(numbers(family.loss(parameters, truth)), expected, rtol=1e-8, atol=1e-10)


def test_the_score_of_rain_is_the_log_density() -> None:
    parameters, family = field(3, 500), BernoulliGamma(threshold=0.1)
    truth = truth_of(family, 500)
    wet, shape, mean = (
        scipy.special.expit(numbers(parameters[0])),
        *(numbers(positive(each)) for each in parameters[1:]),
    )
    amount = scipy.stats.gamma.logpdf(np.maximum(numbers(truth) - 0.1, 1e-3), shape, scale=mean / shape)
    expected = np.where(numbers(truth) > 0.1, -np.log(wet) - amount, -np.log1p(-wet))
    np.testing.assert_allclose(numbers(family.loss(parameters, truth)), expected, rtol=1e-9)


def test_the_pinball_loss_is_that_of_scoringrules_where_levels_are_evenly_spaced() -> None:
    levels = np.arange(0.05, 1.0, 0.1)
    family, truth = Quantiles(levels.tolist()), field(100, seed=1)
    parameters = parameters_of(family, 100)
    quantiles = numbers(family.values(parameters))
    expected = scoringrules.crps_quantile(numbers(truth), quantiles.T, levels)
    np.testing.assert_allclose(numbers(family.loss(parameters, truth)), expected, rtol=1e-9)


def test_many_quantiles_of_a_normal_have_nearly_its_crps() -> None:
    family, truth = Quantiles(), field(400, seed=1)
    untrained = torch.zeros(family.count, 400, dtype=torch.float64)
    normal = Gaussian().loss(torch.zeros(2, 400, dtype=torch.float64), truth)
    assert float(family.loss(untrained, truth).mean()) == pytest.approx(float(normal.mean()), rel=0.02)


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_the_chance_of_a_quantile_is_its_probability(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    parameters, chance = parameters_of(family, 400), torch.linspace(0.0005, 0.9995, 400, dtype=torch.float64)
    values = family.quantile(parameters, chance)
    found = family.chance(parameters, values, torch.ones(400, dtype=torch.float64))
    none = values <= (getattr(family, "threshold", 0.0) if not family.of_residual else -math.inf)
    torch.testing.assert_close(found[~none], chance[~none], rtol=0, atol=1e-3)
    assert (found[none] >= chance[none] - 1e-3).all() and torch.isfinite(values).all()
    assert (~none).sum() > 100 and (family.of_residual or none.sum() > 20)


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_draws_from_it_have_uniform_chances(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    parameters = parameters_of(family, 20000)
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    chances = family.chance(parameters, family.value(parameters, field(20000, seed=2)), uniform)
    assert scipy.stats.kstest(numbers(chances), "uniform").statistic < 0.015
    scores = family.score(parameters, family.value(parameters, field(20000, seed=2)), uniform)
    assert float(scores.mean()) == pytest.approx(0, abs=0.03) and float(scores.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_values_rise_with_the_score_far_into_single_precision_tails(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    scores = torch.linspace(-8, 8, 801)[:, None].expand(801, 30)
    values = family.value(parameters_of(family, 30).float()[:, None].expand(-1, 801, 30), scores)
    assert values.dtype == torch.float32 and torch.isfinite(values).all()
    steps = values.diff(dim=0)
    assert (steps >= -1e-4 * (1 + values[1:].abs())).all()
    assert (values[-1] > values[750] + 1e-3).all()
    assert family.of_residual or (values >= 0).all()


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    parameters, truth = parameters_of(family, 60).requires_grad_(), truth_of(family, 60)
    family.loss(parameters, truth).sum().backward()
    step = 1e-5
    for which in range(family.count):
        moved = torch.zeros_like(parameters)
        moved[which] = step
        with torch.no_grad():
            expected = (family.loss(parameters + moved, truth) - family.loss(parameters - moved, truth)) / (2 * step)
        assert parameters.grad is not None
        torch.testing.assert_close(parameters.grad[which], expected, rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_single_precision_is_enough_and_extremes_have_finite_scores_and_gradients(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    parameters, truth = parameters_of(family, 300), truth_of(family, 300)
    double = family.loss(parameters, truth)
    torch.testing.assert_close(family.loss(parameters.float(), truth.float()).double(), double, rtol=1e-3, atol=1e-4)
    wild = (10 * field(family.count, 300)).float().requires_grad_()
    far = (50 * truth).float()
    loss = family.loss(wild, far)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and wild.grad is not None and torch.isfinite(wild.grad).all()
    assert torch.isfinite(family.value(wild.detach(), field(300, dtype=torch.float32))).all()
    chances = family.chance(wild.detach(), far, torch.full((300,), 0.5))
    assert ((chances >= 0) & (chances <= 1)).all()


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_the_score_is_least_for_the_right_parameters(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    right = parameters_of(family, 1)
    truth = family.value(right.expand(-1, 20000), field(20000, seed=5))
    best = float(family.loss(right.expand(-1, 20000), truth).mean())
    for which in range(family.count):
        for change in (-0.7, 0.7):
            wrong = right.clone()
            wrong[which] += change
            assert float(family.loss(wrong.expand(-1, 20000), truth).mean()) > best - 1e-4


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_a_first_guess_moves_the_location(name: str) -> None:
    family = DISTRIBUTIONS[name]()
    parameters, guess = parameters_of(family, 50), torch.full((50,), 2.0, dtype=torch.float64)
    before, after = (
        family.value(each, torch.zeros(50, dtype=torch.float64))
        for each in (parameters, family.about(parameters, guess))
    )
    if family.of_residual:
        torch.testing.assert_close(after, before + 2)
    else:
        assert (after >= before).all() and (after > before).sum() > 10


def test_quantile_tables_agree_with_scipy() -> None:
    score, uniform = np.random.default_rng(0).uniform(-6, 6, 5000), np.random.default_rng(1).uniform(0, 1, 5000)
    degrees = 1 / np.maximum(uniform, 1e-3)
    expected = -np.sign(score) * scipy.stats.t.ppf(scipy.special.ndtr(-np.abs(score)), degrees)
    found = student_value(torch.from_numpy(score), torch.from_numpy(degrees))
    np.testing.assert_allclose(numbers(found), expected, rtol=1e-3)
    shape = np.exp(np.log(0.05) + uniform * np.log(1000 / 0.05))
    amounts = np.where(
        score < 0,
        scipy.stats.gamma.ppf(scipy.special.ndtr(score), shape),
        scipy.stats.gamma.isf(scipy.special.ndtr(-score), shape),
    )
    np.testing.assert_allclose(
        numbers(gamma_value(torch.from_numpy(score), torch.from_numpy(shape))), amounts, rtol=3e-3, atol=1e-5
    )


def test_distribution_functions_agree_with_scipy() -> None:
    standard, degrees = 20 * field(3000), 2 + 28 * torch.rand(3000, dtype=torch.float64)
    expected = scipy.stats.t.cdf(numbers(standard), numbers(degrees))
    np.testing.assert_allclose(numbers(student_chance(standard, degrees)), expected, atol=2e-6)
    shape, values = degrees / 5, standard.abs()
    np.testing.assert_allclose(
        numbers(gamma_chance(shape, values)), scipy.special.gammainc(numbers(shape), numbers(values)), atol=1e-12
    )


def test_a_mixture_has_both_of_two_modes() -> None:
    mixture, known = Mixture(2), torch.Generator().manual_seed(0)
    first = torch.arange(1000) < 300
    truth = torch.where(first, -3.0, 2.0) + 0.3 * torch.randn(1000, generator=known)
    parameters = torch.zeros(6, 1, requires_grad=True)
    optimiser = torch.optim.Adam([parameters], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        mixture.loss(parameters.expand(-1, 1000), truth).mean().backward()
        optimiser.step()
    drawn = mixture.value(parameters.detach().expand(-1, 4000), torch.randn(4000, generator=known))
    assert float((drawn < -0.5).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(drawn[drawn < -0.5].mean()) == pytest.approx(-3, abs=0.1)
    assert float(drawn[drawn > -0.5].mean()) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mixture", {"components": 0}, "at least 1"),
        ("quantiles", {"levels": [0.5]}, "at least two increasing"),
        ("quantiles", {"levels": [0.5, 0.2]}, "increasing"),
        ("quantiles", {"levels": [0.5, 1.0]}, "between 0 and 1"),
        ("bernoulli-gamma", {"threshold": -1.0}, "at least 0"),
        ("student-t", {"score": "mse"}, "crps or log"),
    ],
)
def test_options_without_sense_are_refused_in_words(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DISTRIBUTIONS[name](**options)
