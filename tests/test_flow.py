"""Flow matching: exact velocities, steps that are learnt as such, and problems whose answer is known."""

import pytest
import torch

import heads_toy
from finegrid.conventions import InputError
from finegrid.heads import Draws
from finegrid.heads.flow import SOLVERS, FlowHead
from finegrid.heads.flow.head import _number


class Course:
    """A walk with an exact estimate and given noise."""

    def __init__(self, estimate, noise):
        self.estimate, self._noise = estimate, noise

    def noise(self):
        return self._noise

    def selected(self, estimate, *others):
        return estimate, *others


def gaussian_estimate(mean, covariance):
    """E[r | (1 - t) e + t r] for r ~ N(mean, covariance), on rows."""
    eye = torch.eye(len(covariance), dtype=mean.dtype)

    def estimate(field, time):
        total = time**2 * covariance + (1 - time) ** 2 * eye
        return mean + (field - time * mean) @ (time * covariance @ torch.linalg.inv(total)).T

    return estimate


def gaussian():
    places = heads_toy.distances(4, 4).double()
    return torch.linspace(-1, 1, 16, dtype=torch.float64), torch.exp(-places / 2)


def untrained(toy=None, **options):
    torch.manual_seed(0)
    return FlowHead((toy or heads_toy.linear_gaussian(8)).problem, **options)


@pytest.mark.parametrize(("name", "steps", "error"), [("euler", 2000, 0.01), ("heun", 200, 1e-3), ("heun", 20, 0.05)])
def test_a_solver_with_the_exact_estimate_gives_the_mean_and_covariance_of_the_closed_form(name, steps, error):
    mean, covariance = gaussian()
    noise = torch.cat([torch.zeros(1, 16), torch.eye(16)]).double()
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    fields = SOLVERS[name](Course(gaussian_estimate(mean, covariance), noise), times)
    assert (fields[0] - mean).abs().max() < error
    matrix = fields[1:] - fields[0]
    assert torch.linalg.norm(matrix.T @ matrix - covariance) / torch.linalg.norm(covariance) < error


def test_one_step_of_the_whole_length_is_the_velocity_from_noise():
    toy = heads_toy.linear_gaussian(4)
    head = untrained(toy, steps=1, mean=False).eval()
    draws = Draws.of(0, [0], range(4))
    with torch.no_grad():
        fields = head.sample(toy.given, draws)[0]
        noise = Draws.of(0, [0], range(4)).normal(1, 4, 4)
        seen = head.space.see(toy.given)
        velocity = head.velocity(noise, torch.zeros(4), torch.ones(4), seen, torch.zeros(4, 0))
    assert torch.allclose(fields, toy.given.reference + noise + velocity, atol=1e-5)


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (2, 2), (4, 4), (8, 8), (5, 9), (16, 31)])
def test_a_walk_costs_one_call_a_learnt_step_and_two_for_other_numbers(steps, calls):
    toy = heads_toy.linear_gaussian(2)
    head = untrained(toy, steps=steps).eval()
    count = []
    head.network.register_forward_hook(lambda *_: count.append(1))
    with torch.no_grad():
        head.sample(toy.given, Draws.of(0, [0], range(2)))
    assert len(count) == calls


def test_the_target_of_a_longer_step_is_two_of_half_the_length():
    # With a velocity that is known: v = a + b t, whatever the field, the mean over a step is that at its middle.
    toy = heads_toy.linear_gaussian(4)
    head = untrained(toy, mean=False)
    head.velocity = lambda field, time, length, *rest: (2 + 3 * (time + length / 2))[:, None, None, None] + 0 * field
    time, length = torch.tensor([0.0, 0.5, 0.25, 0.875]), torch.tensor([1.0, 0.5, 0.25, 0.125])
    joined = head._joined(torch.zeros(4, 1, 4, 4), time, length, None, torch.zeros(4, 0), None)
    assert torch.allclose(joined[:, 0, 0, 0], 2 + 3 * (time + length / 2))


def test_lengths_are_told_apart():
    lengths = torch.tensor([0.0, 1 / 8, 1 / 4, 1 / 2, 1.0])
    assert _number(lengths).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_estimate_at_a_level_of_noise_is_that_on_the_line():
    toy = heads_toy.linear_gaussian(4)
    head = untrained(toy, mean=False)
    head.velocity = lambda field, time, *rest: field * time[:, None, None, None]
    field, level = torch.randn(4, 1, 4, 4), torch.full((4,), 3.0)
    # By hand: t = 1/4, x = field / 4, D = x + 3/4 v = x (1 + 3/16).
    assert torch.allclose(head.denoised(field, level, None, torch.zeros(4, 0)), field / 4 * 19 / 16)


@pytest.mark.parametrize("shortcuts", [0.0, 0.25])
def test_missing_truth_teaches_nothing(shortcuts):
    toy = heads_toy.linear_gaussian(8)
    hidden = toy.fine.clone()
    hidden[:, :, 0] = torch.nan
    hidden[3] = torch.nan
    head = untrained(toy, shortcuts=shortcuts).train()
    loss = head.loss(hidden, toy.given)
    loss.mean().backward()
    gradients = [each.grad for each in head.parameters() if each.grad is not None]
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(each).all() for each in gradients)
    assert max(float(each.abs().max()) for each in gradients) > 0
    head.zero_grad()
    head.loss(torch.full_like(toy.fine, torch.nan), toy.given).mean().backward()
    assert all(float(each.grad.abs().max()) == 0 for each in head.parameters() if each.grad is not None)


@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"policy": {"name": "search", "candidates": 4}}])
def test_a_member_is_the_same_whoever_is_drawn_beside_it(options):
    toy = heads_toy.linear_gaussian(4)
    head = untrained(toy, **options).eval()
    with torch.no_grad():
        together = head.sample(toy.given, Draws.of(5, [0, 1, 2], [10, 11, 12, 13]))
        alone = head.sample(toy.given.at(slice(2, 3)), Draws.of(5, [1], [12]))
    assert torch.allclose(together[1, 2], alone[0, 0], atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_the_score_in_evaluation_mode_is_the_same_for_the_same_fields():
    toy = heads_toy.linear_gaussian(8)
    head = untrained(toy).eval()
    assert torch.equal(head.loss(toy.fine, toy.given), head.loss(toy.fine, toy.given))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"steps": 0}, "at least 1 step"), ({"solver": "rk4"}, "euler, heun"), ({"shortcuts": 1.0}, "below 1")],
)
def test_a_wrong_option_is_refused_with_what_to_write(options, words):
    with pytest.raises(InputError, match=words):
        untrained(**options)


def scores(head, toy, steps, members=32, times=64):
    found = {}
    for head.steps in steps:
        residuals = heads_toy.drawn(head, toy, members, times=times)
        found[head.steps] = float(head._score(residuals + toy.given.reference[:times], toy.fine[:times]).mean())
    return found


@pytest.mark.long
def test_a_trained_head_has_the_covariance_of_the_closed_form_and_loses_little_with_few_steps():
    toy = heads_toy.linear_gaussian(16_384)
    head = heads_toy.fitted(FlowHead(toy.problem, mean=False), toy, steps=800, batch=128)
    found = scores(head, toy, (1, 2, 4, 50))
    assert all(found[steps] < 1.03 * found[50] for steps in (1, 2, 4))
    residuals = heads_toy.drawn(head, toy, 128, times=64)
    _, covariance = heads_toy.moments(residuals, toy)
    assert float(torch.linalg.norm(covariance - toy.covariance) / torch.linalg.norm(toy.covariance)) < 0.15
    assert float(covariance.diagonal().mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.long
def test_a_trained_head_has_both_modes_with_few_steps():
    toy = heads_toy.bimodal(8192)
    head = heads_toy.fitted(FlowHead(toy.problem, mean=True), toy, steps=800, batch=128)
    for head.steps in (4, 20):
        residuals = heads_toy.drawn(head, toy, 32, times=32)
        assert heads_toy.share_above(residuals) == pytest.approx(0.3, abs=0.1)
        assert float(residuals.mean((-3, -2, -1)).abs().mean()) == pytest.approx(1.0, abs=0.15)
