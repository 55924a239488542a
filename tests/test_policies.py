"""Sampling policies, on heads whose denoiser is exact: what a policy does is told from what a network does."""

import pytest
import torch
from scipy.optimize import brentq

import heads_toy
from finegrid.conventions import InputError
from finegrid.heads import Draws
from finegrid.heads.diffusion import DiffusionHead
from finegrid.heads.flow import FlowHead
from finegrid.heads.policies import POLICIES, HorizonTemperature, Temperature


def exact_head(slope, deviation, *, policy, times=64, seed=0, factor=(4, 4), steps=20):
    """A head whose residuals are N(slope x, deviation(x)^2) in every cell of a block with the coarse value x.

    Without a look at the coarse field it knows the mean over blocks alone. Returns it with conditions.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(times, 1, 2, 2, generator=generator)
    head = DiffusionHead(
        heads_toy.problem(heads_toy.space(factor=factor)), mean=False, policy=policy, steps=steps
    ).eval()

    def spread(seen):
        return seen.start  # the coarse value at each cell

    def denoised(field, level, seen, numbers, hidden=None):
        noise = level[:, None, None, None].square()
        known, own = slope * spread(seen), deviation(spread(seen)) ** 2
        if hidden is not None and hidden.all():
            known, own = 0.0, own.mean() + slope**2
        return known + own / (own + noise) * (field - known)

    head.denoised = denoised
    return head, heads_toy.conditions(coarse, factor)


@torch.no_grad()
def drawn(head, given, members=16, seed=1):
    fields = head.sample(given, Draws.of(seed, range(members), range(len(given))))
    return fields - given.reference


def even(value=1.0):
    return lambda x: torch.full_like(x, value)


def spread_of(residuals):
    return float(residuals.var(0).mean().sqrt())


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 1.5])
def test_the_variance_of_members_is_the_learnt_one_times_the_temperature(temperature):
    policy = {"name": "fixed", "temperature": temperature}
    head, given = exact_head(0.5, even(0.8), policy=policy, steps=60)
    residuals = drawn(head, given)
    assert float(residuals.var(0).mean()) == pytest.approx(0.64 * temperature, rel=0.05)
    assert float((residuals.mean(0) - 0.5 * given.reference).abs().mean()) < 0.2


@pytest.mark.parametrize("kind", [DiffusionHead, FlowHead])
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_serves_every_head_that_walks(kind, name):
    toy = heads_toy.linear_gaussian(6)
    torch.manual_seed(0)
    head = kind(toy.problem, policy=name, steps=2)
    assert torch.isfinite(head.train().loss(toy.fine, toy.given)).all()
    head.eval().settle(toy.fine, toy.given)
    fields = head.sample(toy.given, Draws.of(0, [0, 1], range(6)))
    assert fields.shape == (2, 6, 1, 4, 4)
    assert torch.isfinite(fields).all()


def test_the_entropy_rule_is_the_formula():
    policy = POLICIES["edt"](temperature=1.2, strength=0.5, base=0.8)
    scale = policy.scale(
        heads_toy.space().see(heads_toy.conditions(torch.zeros(2, 1, 2, 2))), lambda: torch.tensor([0.5, 0.1])
    )
    # By hand: 1.2 * 0.8^(0.5 / 0.5) = 0.96 and 1.2 * 0.8^(0.5 / 0.1) = 0.393216.
    assert scale.square().tolist() == pytest.approx([0.96, 0.393216])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_equal_spread_the_entropy_rule_scores_better_where_spreads_are_too_much_alike(seed):
    # Truth deviates by 0.2 or 1.4; the head knows the square root of that.
    def true(x):
        return torch.where(x[:, :, :1, :1] > 0, 1.4, 0.2).expand_as(x)

    def known(x):
        return true(x) ** 0.5

    rule, given = exact_head(0.0, known, policy={"name": "edt", "strength": 1.0}, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    truth = given.reference + true(given.reference) * torch.randn(given.reference.shape, generator=generator)
    ruled = drawn(rule, given)
    fixed, _ = exact_head(0.0, known, policy="fixed", seed=seed)
    # Members of a linear sampler are proportional to the root of the temperature.
    equal = drawn(fixed, given) * (spread_of(ruled) / spread_of(drawn(fixed, given)))
    scores = [float(rule._score(each + given.reference, truth).mean()) for each in (ruled, equal)]
    assert spread_of(equal) == pytest.approx(spread_of(ruled), rel=1e-4)
    assert scores[0] < 0.99 * scores[1]


def test_guidance_goes_away_from_the_blind_estimate():
    policy = POLICIES["guidance"](weight=0.5)
    known, blind = torch.full((1, 1, 4, 4), 2.0), torch.full((1, 1, 4, 4), 1.0)
    assert torch.equal(policy.steer(known, lambda: blind, None), torch.full((1, 1, 4, 4), 2.5))


def test_guidance_of_weight_zero_costs_no_call():
    def blind():
        raise AssertionError("called")

    known = torch.ones(1, 1, 4, 4)
    assert POLICIES["guidance"](weight=0.0).steer(known, blind, None) is known


def test_the_gap_sets_the_weight_of_each_coarse_cell():
    policy = POLICIES["guidance-gap"](weight=0.8, halfway=1.0)
    seen = heads_toy.space().see(heads_toy.conditions(torch.zeros(1, 1, 2, 2)))
    gap = torch.zeros(1, 1, 4, 4)
    gap[..., :2, :2] = 1.0
    gap[..., 2:, 2:] = -3.0
    weight = policy.weight_of(gap, seen)[0, 0]
    # By hand: 0.8 (1 - 2^-gap), in blocks of 2 x 2 cells.
    assert weight[::2, ::2].flatten().tolist() == pytest.approx([0.4, 0.0, 0.0, 0.7])
    assert torch.equal(weight[::2, ::2], weight[1::2, 1::2])


def test_inputs_are_hidden_from_a_share_of_the_training_samples():
    toy = heads_toy.linear_gaussian(2048)
    torch.manual_seed(0)
    head = DiffusionHead(toy.problem, mean=False, policy={"name": "guidance", "dropout": 0.25}).train()
    shown = []
    head.network.network.register_forward_pre_hook(lambda _, arguments: shown.append(arguments[0]))
    head.loss(toy.fine, toy.given)
    nothing = (shown[0] == 0).all(dim=(1, 2, 3)) if shown[0].ndim == 4 else None
    assert float(nothing.float().mean()) == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_equal_spread_guidance_by_the_gap_misses_the_coarse_value_less(seed):
    # The head knows only 0.6 of what the coarse value says about the mean of its block, which is the whole of it.
    def misfit_and_spread(policy):
        head, given = exact_head(0.6, even(0.5), policy=policy, seed=seed)
        given = heads_toy.conditions(
            given.coarse * (torch.rand(given.coarse.shape, generator=torch.Generator().manual_seed(seed)) < 0.5) * 2,
            (4, 4),
        )
        residuals = drawn(head, given)
        means = torch.nn.functional.avg_pool2d(residuals.flatten(0, 1), 4).reshape(16, -1, 1, 2, 2)
        return float((means - given.coarse).square().mean().sqrt()), spread_of(residuals)

    gap, spread = misfit_and_spread({"name": "guidance-gap", "weight": 1.0, "halfway": 0.5})

    def difference(weight):
        return misfit_and_spread({"name": "guidance", "weight": weight})[1] - spread

    weight = brentq(difference, 0.0, 2.0, xtol=1e-3)
    constant, _ = misfit_and_spread({"name": "guidance", "weight": weight})
    assert gap <= 0.9 * constant


def test_the_learnt_temperature_is_the_right_one_of_its_regime():
    # Truth has a third of the variance that the head knows, or twice as much, by the sign of the coarse field.
    def variance(given):
        return torch.where(given.reference.mean((1, 2, 3), keepdim=True) > 0, 2.0, 0.3)

    policy = {"name": "learned", "temperatures": [0.3, 1.0, 2.0], "times": 200}
    torch.manual_seed(0)
    head, given = exact_head(0.0, even(1.0), policy=policy, times=400, factor=(2, 2))
    shift = 2 * (torch.rand(400, 1, 1, 1, generator=torch.Generator().manual_seed(5)) < 0.5) - 1.0
    given = heads_toy.conditions(given.coarse * 0.3 + shift)
    generator = torch.Generator().manual_seed(1)
    truth = given.reference + variance(given).sqrt() * torch.randn(given.reference.shape, generator=generator)
    learn, judge = slice(0, 200), slice(200, 400)
    head.settle(truth[learn], given.at(learn))
    judged = given.at(judge)
    picked = head.policy.scale(head.space.see(judged), None).square()
    assert float((picked - variance(judged)[:, 0, 0, 0]).abs().lt(1e-5).float().mean()) >= 0.9

    def score(kind):
        head.policy = kind
        return float(head._score(drawn(head, judged, 8) + judged.reference, truth[judge]).mean())

    own = score(head.policy)
    assert own <= min(score(Temperature(temperature=each)) for each in (0.3, 1.0, 2.0))


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_weights_of_the_joint_temperature_make_the_covariance_that_of_the_temperature(temperature):
    # An autoregression of the second order, x_i = 0.5 x_i-1 + 0.3 x_i-2 + e: p^(1/T) is its Gaussian of T times the
    # covariance.
    generator = torch.Generator().manual_seed(0)
    length, count = 12, 20_000
    inverse = (
        torch.eye(length) - 0.5 * torch.diag(torch.ones(length - 1), -1) - 0.3 * torch.diag(torch.ones(length - 2), -2)
    )
    covariance = torch.linalg.inv(inverse) @ torch.linalg.inv(inverse).T
    series = torch.randn(count, length, generator=generator) @ torch.linalg.inv(inverse).T
    density = -(series @ inverse.T).square().sum(1) / 2
    policy = HorizonTemperature(learnt=(0.5, 2.0))
    # Every sample is asked for this temperature.
    numbers = torch.full((200, 1), float(torch.tensor(temperature).log()))
    weights = torch.cat([policy.weights(lambda part=part: part, numbers) for part in density.split(200)])
    assert float(weights.mean()) == pytest.approx(1.0)
    made = (weights[:, None] * series).T @ series / weights.sum()
    assert float(made.trace() / covariance.trace()) == pytest.approx(temperature, rel=0.1)


def test_weights_of_the_joint_temperature_move_weight_between_modes():
    # Modes of weight 0.3 and 0.7 at temperature one half: 0.09 to 0.49.
    share = torch.tensor(0.3).log().expand(300), torch.tensor(0.7).log().expand(700)
    weights = HorizonTemperature(learnt=(0.5, 2.0)).weights(lambda: torch.cat(share), torch.full((1000, 1), 0.5).log())
    assert float(weights[:300].sum() / weights.sum()) == pytest.approx(0.09 / 0.58, rel=1e-4)


def test_weights_of_the_joint_temperature_leave_more_than_one_sample_of_large_fields():
    density = 1000 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    weights = HorizonTemperature().weights(lambda: density, torch.full((64, 1), 0.7).log())
    assert float(weights.max()) < 0.5 * 64


@pytest.mark.long
def test_a_head_that_has_learnt_temperatures_makes_members_of_their_variance():
    toy = heads_toy.linear_gaussian(8192, slope=0.0, length=1.0)
    head = DiffusionHead(toy.problem, mean=False, policy={"name": "horizon", "learnt": [0.7, 1.3]})
    heads_toy.fitted(head, toy, steps=500, batch=128)
    for temperature in (0.7, 1.0, 1.3):
        head.policy.temperature = temperature
        residuals = heads_toy.drawn(head, toy, 64, times=32)
        assert float(residuals.var()) == pytest.approx(temperature, rel=0.1)


def test_candidates_are_halved_until_one_is_left():
    policy = POLICIES["search"](candidates=16, until=0.5)
    kept, candidates = [], 16
    for step in range(1, 9):
        estimate = torch.zeros(3 * candidates, 1, 1, 1)
        chosen = policy.keep(
            estimate, None, reward=lambda each, _: each.sum((1, 2, 3)), done=step / 8, candidates=candidates
        )
        candidates = candidates if chosen is None else len(chosen) // 3
        kept.append(candidates)
    assert kept == [8, 4, 2, 1, 1, 1, 1, 1]


def test_the_best_candidates_of_each_member_go_on():
    policy = POLICIES["search"](candidates=4, until=1.0)
    value = torch.tensor([0.0, 3.0, 1.0, 2.0, 9.0, 5.0, 8.0, 7.0])[:, None, None, None]
    kept = policy.keep(value, None, reward=lambda each, _: each[:, 0, 0, 0], done=0.5, candidates=4)
    assert kept.tolist() == [1, 3, 4, 6]


def test_search_misses_the_coarse_value_less_than_the_best_of_four_and_keeps_the_spread():
    def misfit(residuals):
        return (
            torch.nn.functional.avg_pool2d(residuals.flatten(0, 1), 4)
            .square()
            .mean((1, 2, 3))
            .reshape(residuals.shape[:2])
        )

    head, given = exact_head(0.0, even(1.0), policy={"name": "search", "candidates": 16, "until": 0.5})
    searched = drawn(head, given, 16)
    plain, _ = exact_head(0.0, even(1.0), policy="fixed")
    four = drawn(plain, given, 64).reshape(16, 4, *searched.shape[1:])
    missed = torch.stack([misfit(four[:, each]) for each in range(4)], dim=1)
    best = missed.min(1).values
    assert float(misfit(searched).mean().sqrt()) <= 0.8 * float(best.mean().sqrt())
    assert spread_of(searched) >= 0.8 * spread_of(four[:, 0])


WRONG = [
    ({"name": "fixed", "temperature": -1.0}, "0 or more"),
    ({"name": "edt", "base": 1.5}, "at most 1"),
    ({"name": "guidance", "dropout": 0.0}, "between 0 and 1"),
    ({"name": "guidance-gap", "halfway": 0.0}, "above 0"),
    ({"name": "learned", "temperatures": [1.0]}, "two temperatures"),
    ({"name": "horizon", "temperature": 3.0}, "between them"),
    ({"name": "search", "candidates": 3}, "1, 2, 4"),
    ({"name": "serch"}, "Did you mean 'search'"),
]


@pytest.mark.parametrize(("policy", "words"), WRONG)
def test_a_wrong_policy_is_refused_with_what_to_write(policy, words):
    with pytest.raises(InputError, match=words):
        DiffusionHead(heads_toy.linear_gaussian(2).problem, policy=policy)
