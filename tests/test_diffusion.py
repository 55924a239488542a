"""Diffusion: its scalings, samplers on exact denoisers, and what it makes of problems whose answer is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch

import heads_toy
from finegrid.conventions import InputError
from finegrid.data.transforms import Log1p
from finegrid.heads import Conditions, Draws
from finegrid.heads.diffusion import SAMPLERS, DiffusionHead, Levels
from finegrid.heads.diffusion.density import log_density
from finegrid.heads.diffusion.samplers import Euler, Heun, Multistep
from finegrid.heads.diffusion.walk import corrected
from finegrid.heads.diffusion.wasserstein import wasserstein

LEVELS = Levels(lowest=0.01, highest=200.0, centre=-0.3, width=1.4, deviation=1.0)


class Course:
    """A walk with an exact denoiser and given noise."""

    def __init__(self, denoised, noises):
        self.denoised, self.noises = denoised, iter(noises)

    def noise(self):
        return next(self.noises)

    def estimate(self, field, level):
        return self.denoised(field, level)

    def selected(self, estimate, *others):
        return estimate, *others


def gaussian_denoiser(mean, covariance):
    """E[x | x + s e] for x ~ N(mean, covariance), on rows."""

    def denoised(field, level):
        gain = covariance @ torch.linalg.inv(covariance + level**2 * torch.eye(len(covariance), dtype=mean.dtype))
        return mean + (field - mean) @ gain.T

    return denoised


def bimodal_denoiser(chance, noise):
    """E[x | x + s e] for x = +1 or -1 with noise of each cell, on rows of cells that share the sign."""

    def denoised(field, level):
        total = noise**2 + level**2
        odds = (2 * field.sum(1, keepdim=True) / total + np.log(chance / (1 - chance))).clamp(-60, 60)
        share = torch.sigmoid(odds)
        return sum(
            weight * (sign + noise**2 / total * (field - sign)) for weight, sign in ((share, 1.0), (1 - share, -1.0))
        )

    return denoised


def untrained(toy=None, **options):
    torch.manual_seed(0)
    return DiffusionHead((toy or heads_toy.linear_gaussian(8)).problem, **options)


def gaussian():
    places = heads_toy.distances(4, 4).double()
    return torch.linspace(-1, 1, 16, dtype=torch.float64), torch.exp(-places / 2)


def test_the_scalings_are_those_of_the_source():
    # By hand, at level 2 and deviation 0.5: s^2 + d^2 = 4.25.
    levels = Levels(lowest=0.01, highest=80.0, centre=0.0, width=1.0, deviation=0.5)
    level = torch.tensor(2.0, dtype=torch.float64)
    assert float(levels.skip(level)) == pytest.approx(0.25 / 4.25)
    assert float(levels.out(level)) == pytest.approx(2 * 0.5 / 4.25**0.5)
    assert float(levels.into(level)) == pytest.approx(4.25**-0.5)
    assert float(levels.weight(level)) == pytest.approx(4.25 / 1.0)


def test_a_sampler_visits_the_levels_of_the_source():
    levels = LEVELS.visited(18, rho=7)
    assert float(levels[0]) == pytest.approx(200.0)
    assert float(levels[-2]) == pytest.approx(0.01, rel=1e-5)
    assert float(levels[-1]) == 0
    # The schedule is a straight line in the seventh root.
    roots = levels[:-1] ** (1 / 7)
    assert (roots.diff() - roots.diff().mean()).abs().max() < 1e-5
    assert len(LEVELS.visited(1, rho=7)) == 2
    even = LEVELS.visited(18, rho=math.inf)[:-1].log()
    assert (even.diff() - even.diff().mean()).abs().max() < 1e-5


def test_levels_of_training_are_log_normal_and_cover_their_distribution():
    torch.manual_seed(0)
    logarithms = LEVELS.trained(4096).log()
    assert float(logarithms.mean()) == pytest.approx(-0.3, abs=0.01)
    assert float(logarithms.std()) == pytest.approx(1.4, abs=0.02)


def test_the_preconditioned_network_is_the_exact_denoiser_when_its_answer_is_the_target():
    toy = heads_toy.linear_gaussian(6)
    head = untrained(toy, mean=False)
    exact = gaussian_denoiser(torch.zeros(16, dtype=torch.float64), toy.covariance.double())
    level = torch.tensor([0.05, 0.3, 1.0, 2.0, 10.0, 60.0])
    noisy = (toy.fine - toy.given.reference).double() * level[:, None, None, None]
    wanted = torch.stack([exact(each.reshape(1, 16), s)[0] for each, s in zip(noisy, level.double(), strict=True)])
    wide = level[:, None]
    # By hand: F = (D - x d^2 / (s^2 + d^2)) sqrt(s^2 + d^2) / (s d), with d = 1.
    target = (wanted - noisy.reshape(6, 16) / (1 + wide**2)) * (1 + wide**2).sqrt() / wide
    assert target.abs().max() < 50
    head.network.forward = lambda field, seen, numbers, hidden: target.reshape(6, 1, 4, 4)
    answer = head.denoised(noisy, level, None, torch.zeros(6, 0))
    assert (answer.reshape(6, 16) - wanted).abs().max() < 1e-3


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_with_the_exact_denoiser_gives_the_mean_and_covariance_of_the_closed_form(name):
    # The denoiser is affine, and so is the sampler: fields of unit noise give its matrix, without sampling error.
    mean, covariance = gaussian()
    sampler = SAMPLERS[name]()
    steps, error = (2000, 0.01) if name == "euler" else (200, 1e-3)
    levels = LEVELS.visited(steps, rho=sampler.rho).double()
    noise = torch.cat([torch.zeros(1, 16), torch.eye(16)]).double()
    fields = sampler(Course(gaussian_denoiser(mean, covariance), [noise]), levels)
    assert (fields[0] - mean).abs().max() < 1e-3
    matrix = fields[1:] - fields[0]
    assert torch.linalg.norm(matrix.T @ matrix - covariance) / torch.linalg.norm(covariance) < error


@pytest.mark.parametrize("sampler", [Heun(), Multistep()])
def test_twenty_steps_of_the_second_order_are_within_five_percent_of_the_closed_form(sampler):
    mean, covariance = gaussian()
    noise = torch.cat([torch.zeros(1, 16), torch.eye(16)]).double()
    levels = untrained().levels.visited(20, rho=sampler.rho).double()
    fields = sampler(Course(gaussian_denoiser(mean, covariance), [noise]), levels)
    matrix = fields[1:] - fields[0]
    assert torch.linalg.norm(matrix.T @ matrix - covariance) / torch.linalg.norm(covariance) < 0.05


@pytest.mark.parametrize(("sampler", "order"), [(Euler(), 1), (Heun(), 2), (Multistep(), 2)])
def test_halving_the_steps_of_a_sampler_shows_its_order(sampler, order):
    mean, covariance = gaussian()
    noise = torch.cat([torch.zeros(1, 16), torch.eye(16)]).double()

    def made(kind, steps):
        levels = LEVELS.visited(steps, rho=kind.rho).double()
        return kind(Course(gaussian_denoiser(mean, covariance), [noise]), levels)

    exact = made(Heun(), 1200)
    coarse, fine = (torch.linalg.norm(made(sampler, steps) - exact) for steps in (60, 120))
    assert float(coarse / fine) == pytest.approx(2**order, rel=0.15)


def test_churn_keeps_the_distribution():
    mean, covariance = gaussian()
    generator = torch.Generator().manual_seed(0)
    noises = (torch.randn(8_000, 16, generator=generator, dtype=torch.float64) for _ in range(200))
    course = Course(gaussian_denoiser(mean, covariance), noises)
    fields = Heun(churn=20.0)(course, LEVELS.visited(40, rho=7).double())
    difference = torch.linalg.norm(torch.cov(fields.T) - covariance) / torch.linalg.norm(covariance)
    assert difference < 0.08
    assert (fields.mean(0) - mean).abs().max() < 0.05


def test_churn_draws_fresh_noise_and_none_is_drawn_without_it():
    mean, covariance = gaussian()
    noises = iter(torch.zeros(50, 1, 16, dtype=torch.float64))
    Euler()(Course(gaussian_denoiser(mean, covariance), noises), LEVELS.visited(10, rho=7).double())
    assert len(list(noises)) == 49
    noises = iter(torch.zeros(50, 1, 16, dtype=torch.float64))
    Euler(churn=10.0)(Course(gaussian_denoiser(mean, covariance), noises), LEVELS.visited(10, rho=7).double())
    assert len(list(noises)) < 48


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_with_the_exact_denoiser_gives_both_modes_with_their_weights(name):
    sampler, generator = SAMPLERS[name](), torch.Generator().manual_seed(1)
    noise = torch.randn(4_000, 4, generator=generator, dtype=torch.float64)
    course = Course(bimodal_denoiser(0.3, 0.1), [noise])
    fields = sampler(course, LEVELS.visited(60, rho=sampler.rho).double())
    assert float((fields.mean(1) > 0).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float((fields.mean(1).abs() - 1).abs().max()) < 0.5


def test_the_density_of_a_field_comes_back_from_its_denoiser():
    generator = torch.Generator().manual_seed(2)
    truth = torch.randn(64, 1, 2, 2, generator=generator)

    def noise(draws):
        return torch.randn(1, 1, 2, 2, generator=generator)

    def denoised(field, level):
        return field / (1 + level[:, None, None, None] ** 2)

    made = log_density(denoised, truth, torch.ones_like(truth, dtype=torch.bool), noise)
    exact = -truth.square().sum((1, 2, 3)) / 2
    assert np.polyfit(exact.numpy(), made.numpy(), 1)[0] == pytest.approx(0.98, abs=0.05)
    assert np.corrcoef(exact.numpy(), made.numpy())[0, 1] > 0.99


def test_missing_truth_teaches_nothing():
    toy = heads_toy.linear_gaussian(8)
    hidden = toy.fine.clone()
    hidden[:, :, 0] = torch.nan
    hidden[3] = torch.nan
    gradients = []
    for other in (0.0, 5.0):
        head = untrained(toy, wasserstein=0.5).train()
        torch.manual_seed(1)
        given = toy.given
        loss = head.loss(hidden + other * torch.isnan(hidden), given)
        assert torch.isfinite(loss).all()
        loss.mean().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in head.parameters() if each.grad is not None]))
    assert torch.isfinite(gradients[0]).all()
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_the_score_in_evaluation_mode_is_the_same_for_the_same_fields():
    toy = heads_toy.linear_gaussian(8)
    head = untrained(toy).eval()
    assert torch.equal(head.loss(toy.fine, toy.given), head.loss(toy.fine, toy.given))


@pytest.mark.parametrize("options", [{}, {"sampler": {"name": "euler", "churn": 5.0}}, {"policy": {"name": "search"}}])
def test_a_member_is_the_same_whoever_is_drawn_beside_it(options):
    toy = heads_toy.linear_gaussian(4)
    head = untrained(toy, steps=4, **options).eval()
    with torch.no_grad():
        together = head.sample(toy.given, Draws.of(5, [0, 1, 2], [10, 11, 12, 13]))
        alone = head.sample(toy.given.at(slice(2, 3)), Draws.of(5, [1], [12]))
    assert together.shape == (3, 4, 1, 4, 4)
    assert torch.allclose(together[1, 2], alone[0, 0], atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_several_outputs_static_fields_uneven_factors_and_odd_sizes_are_no_obstacle():
    space = heads_toy.space(shape=(3, 5), factor=(2, 3), outputs=2, static=torch.randn(1, 1, 6, 15))
    problem = heads_toy.problem(space, shape=(3, 5), inputs=2, backbone="unet", resolution="half", width=8, depth=1)
    head = DiffusionHead(problem, steps=2)
    given = heads_toy.conditions(torch.randn(4, 2, 3, 5), (2, 3))
    assert head.train().loss(given.reference + torch.randn(4, 2, 6, 15), given).shape == (4,)
    with torch.no_grad():
        assert head.eval().sample(given, Draws.of(0, range(2), range(4))).shape == (2, 4, 2, 6, 15)


def test_the_wasserstein_distance_is_that_of_an_independent_implementation():
    generator = torch.Generator().manual_seed(3)
    estimate, truth = torch.randn(2, 5, 1, 6, 7, generator=generator).mul(torch.tensor([1.0, 2.0])[:, *[None] * 4])
    known = torch.rand(5, 1, 6, 7, generator=generator) > 0.3
    made = wasserstein(estimate, truth, known)
    for sample in range(5):
        mask = known[sample, 0]
        exact = scipy.stats.wasserstein_distance(estimate[sample, 0][mask], truth[sample, 0][mask])
        assert float(made[sample, 0]) == pytest.approx(exact, rel=1e-5)


def test_the_wasserstein_distance_does_not_care_where_values_lie():
    field = torch.randn(2, 1, 4, 4)
    turned = field.flip(-1)
    assert float(wasserstein(turned, field, torch.ones_like(field, dtype=torch.bool)).abs().max()) < 1e-6


def test_the_wasserstein_term_is_about_values_of_fields_and_not_of_residuals():
    toy = heads_toy.linear_gaussian(3)
    head = untrained(toy, mean=False, wasserstein=2.0)
    seen = head.space.see(toy.given)
    truth = head.space.residual(toy.fine, seen)
    level = torch.tensor([0.1, 1.0, 3.0])
    turned = head.space.residual(toy.fine.flip(-1), seen)
    assert float(head._terms(turned, truth, toy.fine, seen, level).abs().max()) < 1e-5
    # By hand: all values larger by 0.5, so a distance of 0.5, weighted by 2 / (1 + s^2).
    raised = head._terms(truth + 0.5, truth, toy.fine, seen, level)
    assert raised.tolist() == pytest.approx((1 / (1 + level**2)).tolist(), rel=1e-4)


def wet_space():
    """Rain on 4 x 4 cells under a constraint that keeps block means, by a factor for each block."""

    def project(fine, given):
        positive = fine.clamp(min=0)
        means = torch.nn.functional.avg_pool2d(positive, 2)
        ratio = torch.where(means > 0, given.coarse / means.clamp(min=1e-12), 0.0)
        return positive * ratio.repeat_interleave(2, -1).repeat_interleave(2, -2)

    return heads_toy.space(project=project, links=(Log1p(np.float32(1.0)),))


def test_the_constraint_on_the_way_changes_wet_cells_only():
    space = wet_space()
    coarse = torch.rand(3, 1, 2, 2) + 0.5
    given = heads_toy.conditions(coarse)
    seen = space.see(given)
    estimate = torch.randn(3, 1, 4, 4)
    before = space.physical(estimate, seen)
    after = corrected(estimate, seen, space, space.place.project)
    dry = before <= 0
    assert dry.any()
    assert torch.equal(after[dry], estimate[dry])
    wet_blocks = torch.nn.functional.avg_pool2d(before.clamp(min=0), 2) > 0
    made = torch.nn.functional.avg_pool2d(space.physical(after, seen).clamp(min=0), 2)
    assert (made - coarse)[wet_blocks].abs().max() < 1e-5


@pytest.mark.parametrize("constrain", ["end", "steps"])
def test_members_obey_the_constraint_wherever_else_it_acts(constrain):
    space = wet_space()
    torch.manual_seed(0)
    head = DiffusionHead(heads_toy.problem(space), steps=5, constrain=constrain).eval()
    given = heads_toy.conditions(torch.rand(3, 1, 2, 2) + 0.5)
    with torch.no_grad():
        fields = head.sample(given, Draws.of(0, range(4), range(3)))
    means = torch.nn.functional.avg_pool2d(fields.flatten(0, 1), 2).reshape(4, 3, 1, 2, 2)
    wet = means > 0
    assert wet.any()
    assert (means - given.coarse)[wet].abs().max() < 1e-5
    assert fields.min() >= 0


@pytest.mark.parametrize(("constrain", "times"), [("end", 1), ("steps", 5 + 1)])
def test_the_constraint_acts_once_or_besides_at_every_step(constrain, times):
    toy, count = heads_toy.linear_gaussian(2), []

    def project(fine, given):
        count.append(1)
        return fine

    with torch.no_grad():
        untrained(toy, steps=5, constrain=constrain).eval().sample(toy.given, Draws.of(0, [0], range(2)), project)
    assert len(count) == times


def test_a_constraint_that_is_given_acts_instead_of_that_of_the_domain():
    toy = heads_toy.linear_gaussian(4)
    head = untrained(toy, steps=3, constrain="steps").eval()
    with torch.no_grad():
        fields = head.sample(toy.given, Draws.of(0, [0], range(4)), lambda fine, given: torch.full_like(fine, 7.0))
    assert (fields == 7).all()


def test_heavy_tails_of_residuals_are_those_of_the_noise():
    toy = heads_toy.linear_gaussian(512)
    generator = np.random.default_rng(0)
    heavy = torch.as_tensor(generator.standard_t(3.0, size=(512, 1, 4, 4)), dtype=torch.float32)
    head = untrained(toy, mean=False, noise="heavy-tailed").train()
    assert float(head.noise.degrees[0]) == float("inf")
    head.loss(toy.given.reference + heavy, toy.given)
    assert 2 < float(head.noise.degrees[0]) < 5
    with torch.no_grad():
        assert torch.isfinite(head.eval().sample(toy.given.at(slice(0, 2)), Draws.of(0, [0], [0, 1]))).all()


def test_seeds_are_shuffled_in_training_so_that_none_is_special():
    toy = heads_toy.linear_gaussian(4)
    problem = heads_toy.problem(heads_toy.space(), inputs=3)
    head = DiffusionHead(problem, seeds=[[0], [2]]).train()
    coarse = torch.arange(3.0)[None, :, None, None].expand(4, 3, 2, 2)
    seen = head.space.see(Conditions(coarse, toy.given.coarse, toy.given.coarse, toy.given.reference))
    orders = {tuple(head._mixed(seen).coarse[0, :, 0, 0].tolist()) for _ in range(20)}
    assert orders == {(0.0, 1.0, 2.0), (2.0, 1.0, 0.0)}


WRONG = [
    ({"steps": 0}, "at least 1 step"),
    ({"constrain": "middle"}, "'end' or 'steps'"),
    ({"sampler": "hoin"}, "heun"),
    ({"sampler": {"name": "multistep", "churn": 3}}, "no argument"),
    ({"policy": "fixd"}, "Did you mean 'fixed'"),
    ({"noise": "wite"}, "Did you mean 'white'"),
    ({"wasserstein": -1.0}, "0 or more"),
    ({"lowest": 5.0, "highest": 1.0}, "first below the second"),
    ({"sampler": {"name": "euler", "churn": 5.0}, "noise": "heavy-tailed"}, "churn: 0"),
    ({"seeds": [[0], [1, 2]]}, "same number of channels"),
    ({"sampler": {"name": "heun", "churn": -1.0}}, "at least 0"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_a_wrong_option_is_refused_with_what_to_write(options, words):
    with pytest.raises(InputError, match=words):
        untrained(**options)


def crps(head, toy, residuals):
    times = residuals.shape[1]
    return float(head._score(residuals + toy.given.reference[:times], toy.fine[:times]).mean())


@pytest.mark.slow
def test_a_trained_head_has_the_mean_and_covariance_of_the_closed_form():
    toy = heads_toy.linear_gaussian(16_384)
    head = heads_toy.fitted(DiffusionHead(toy.problem, mean=False), toy, steps=800, batch=128)
    residuals = heads_toy.drawn(head, toy, 128, times=64)
    mean, covariance = heads_toy.moments(residuals, toy)
    # Means of 128 members scatter by 1 / sqrt(128) of their deviation around the mean of the head.
    error = (mean - toy.mean[:64]).square().mean() - covariance.diagonal().mean() / 128
    assert float(error.clamp(min=0).sqrt()) < 0.1
    # What training of some seconds leaves; the sampler alone is held to the closed form above.
    assert float(torch.linalg.norm(covariance - toy.covariance) / torch.linalg.norm(toy.covariance)) < 0.15
    assert float(covariance.diagonal().mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.long
def test_a_trained_head_has_both_modes_and_needs_twenty_steps():
    toy = heads_toy.bimodal(8192)
    head = heads_toy.fitted(DiffusionHead(toy.problem, mean=True), toy, steps=600, batch=128)
    few = heads_toy.drawn(head, toy, 32, times=32)
    assert heads_toy.share_above(few) == pytest.approx(0.3, abs=0.1)
    head.steps = 200
    many = heads_toy.drawn(head, toy, 32, times=32)
    assert crps(head, toy, few) == pytest.approx(crps(head, toy, many), rel=0.02)


@pytest.mark.long
def test_members_from_two_given_members_score_as_more_of_the_true_ones():
    # Members of a coarse ensemble share an anomaly of the whole field and differ by noise of each cell, so that two
    # of them, as predictors, tell nearly all that there is to know.
    generator = torch.Generator().manual_seed(0)
    anomaly = torch.randn(8192, 1, 1, 1, generator=generator)
    seeds = anomaly + torch.randn(8192, 2, 2, 2, generator=generator)
    fine = anomaly + 0.5 * torch.randn(8192, 1, 4, 4, generator=generator)
    problem = heads_toy.problem(heads_toy.space(), inputs=2)
    nothing = torch.zeros(8192, 1, 2, 2)
    given = Conditions(seeds, nothing, nothing, torch.zeros(8192, 1, 4, 4))
    toy = heads_toy.Toy(problem, given, fine, torch.zeros_like(fine), torch.eye(16))
    head = heads_toy.fitted(DiffusionHead(problem, mean=False, seeds=[[0], [1]]), toy, steps=500, batch=128)
    made = heads_toy.drawn(head, toy, 32, times=128)
    # The closed form: given eight values of deviation 1, the anomaly is normal around their sum / 9, variance 1 / 9.
    centre = seeds[:128].sum((1, 2, 3), keepdim=True) / 9
    noise = torch.randn(32, 128, 1, 1, 1, generator=generator) / 3 + 0.5 * torch.randn(
        32, 128, 1, 4, 4, generator=generator
    )
    scores = [float(head._score(each, fine[:128]).mean()) for each in (made, centre + noise)]
    assert scores[0] == pytest.approx(scores[1], rel=0.05)


def test_levels_fall():
    assert all(lower < level for level, lower in pairwise(LEVELS.visited(30, rho=7).tolist()))
