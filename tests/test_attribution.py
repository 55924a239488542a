"""Attribution of tensors: linear functions, closed forms and slow loops, then every backbone and planted signals."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finegrid.backbones import BACKBONES
from finegrid.benchmark.attribution import (
    ATTRIBUTIONS,
    ExpectedGradients,
    IntegratedGradients,
    Occlusion,
    Shapley,
    agreement,
    blocks,
    overlap,
    sizes,
    sparse_model,
    top,
)
from finegrid.benchmark.attribution.gradients import stratified
from finegrid.benchmark.attribution.planted import EventNetwork, Planted, learn, log_score
from finegrid.benchmark.attribution.transfer import Experiment
from finegrid.conventions import InputError

COMPLETE = [name for name, kind in ATTRIBUTIONS.items() if kind.complete]
# A twentieth of the field, as is the top that is compared with it; its sides are those of blocks of two.
SMALL = Planted(shape=(18, 18), corner=(4, 8), size=(4, 4))
BACKBONE = {"name": "resnet", "width": 8, "depth": 1, "dropout": 0.0}


def made(name, **options):
    """A method that takes single cells away."""
    kind = ATTRIBUTIONS[name]
    return kind(**options, **({"block": 1} if kind in (Occlusion, Shapley) else {}))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uneven(points):
    """A function of five inputs with interactions of two and three."""
    a, b, c, d, e = points.unbind(1)
    return a * b * c + torch.sin(d + a) + e**2 - 2 * b


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_of_a_linear_function_every_input_has_its_weight_times_its_departure(name):
    weights, inputs, baseline = random(2, 4, 5), random(3, 2, 4, 5, seed=1), random(1, 2, 4, 5, seed=2)
    found = made(name).attribute(lambda x: (weights * x).flatten(1).sum(1) + 3, inputs, baseline)
    torch.testing.assert_close(found, weights * (inputs - baseline), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_single_precision_is_enough_for_a_linear_function(name):
    weights, inputs, baseline = (random(*shape).float() for shape in ((2, 3, 3), (2, 2, 3, 3), (1, 2, 3, 3)))
    found = made(name).attribute(lambda x: (weights * x).flatten(1).sum(1), inputs, baseline)
    expected = weights * (inputs - baseline)
    assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_parts_sum_to_the_change_on_every_backbone(name, backbone):
    torch.manual_seed(0)
    network = BACKBONES[backbone](inputs=2, outputs=1, factor=(2, 2), shape=(6, 6)).eval()
    options = {"integrated-gradients": {"most": 32}, "gradient-shap": {"steps": 4}, "shapley": {"block": 3}}
    method, inputs = ATTRIBUTIONS[name](**options[name]), torch.randn(2, 2, 6, 6)
    baseline = torch.randn(8 if method.several else 1, 2, 6, 6)
    found = method.explain(lambda x: network(x).mean((1, 2, 3)), inputs, baseline)
    total = found.values.double().flatten(1).sum(1)
    assert found.values.shape == inputs.shape
    assert float(((total - found.change) / found.change).abs().max()) < 1e-3


def test_integrated_gradients_of_a_product_share_it_equally():
    inputs = torch.tensor([[3.0, -2.0], [1.0, 4.0]])
    found = IntegratedGradients(correct=False).explain(lambda x: x.prod(1), inputs, torch.zeros(1, 2))
    torch.testing.assert_close(found.values, torch.tensor([[-3.0, -3.0], [2.0, 2.0]]))
    assert float(found.error.max()) < 1e-6


def test_integrated_gradients_take_more_nodes_where_the_function_has_kinks():
    inputs, calls = torch.tensor([[1.0], [1.0]]), []

    def kinked(points):
        calls.append(len(points))
        return (points[:, 0] - 1 / 3).relu()

    few = IntegratedGradients(steps=2, most=2, correct=False).explain(kinked, inputs, torch.zeros(1, 1))
    many = IntegratedGradients(steps=2, most=512, tolerance=0.01, correct=False).explain(
        kinked, inputs, torch.zeros(1, 1)
    )
    assert float(few.error.max()) > 0.1 > 0.01 >= float(many.error.max())
    assert float(many.values[0, 0]) == pytest.approx(2 / 3, rel=0.01)


def test_what_is_left_is_measured_before_it_is_shared_out():
    inputs = torch.tensor([[1.0, 2.0]])
    options = {"steps": 1, "most": 1}
    raw = IntegratedGradients(correct=False, **options).explain(lambda x: (x**4).sum(1), inputs, torch.zeros(1, 2))
    whole = IntegratedGradients(**options).explain(lambda x: (x**4).sum(1), inputs, torch.zeros(1, 2))
    assert float(raw.values.sum()) == pytest.approx(17 / 2)  # 4 x^4 / 8 at the middle
    assert float(raw.error) == float(whole.error) == pytest.approx(0.5)
    assert float(whole.values.sum()) == pytest.approx(17)
    torch.testing.assert_close(whole.values / raw.values, torch.full((1, 2), 2.0))


def test_expected_gradients_are_integrated_gradients_averaged_over_baselines():
    inputs, baseline = random(3, 5), random(40, 5, seed=1)
    found = ExpectedGradients(steps=200, correct=False).attribute(uneven, inputs, baseline)
    each = [IntegratedGradients(correct=False).attribute(uneven, inputs, b[None]) for b in baseline]
    torch.testing.assert_close(found, torch.stack(each).mean(0), atol=1e-3, rtol=1e-3)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000))
def test_places_on_the_way_are_one_in_each_stretch(count, steps, seed):
    places = np.sort(stratified(count, steps, seed).numpy().ravel())
    assert (np.floor(places * count * steps).astype(int) == np.arange(count * steps)).all()


def test_shapley_values_are_the_mean_gain_over_all_orders():
    inputs, baseline = random(5), random(5, seed=1)
    expected = np.zeros(5)
    for order in permutations(range(5)):
        now = baseline.clone()
        for which in order:
            before = float(uneven(now[None]))
            now[which] = inputs[which]
            expected[which] += (float(uneven(now[None])) - before) / 120
    found = Shapley(block=1).attribute(lambda x: uneven(x.flatten(1)), inputs.reshape(1, 1, 5), baseline[None, None])
    np.testing.assert_allclose(found.flatten(), expected, rtol=1e-10)


def test_least_squares_over_all_cases_are_the_counted_shapley_values():
    inputs, baseline = random(1, 1, 5), random(1, 1, 5, seed=1)
    exact, fitted = (
        Shapley(block=1, exact=few, samples=32).attribute(lambda x: uneven(x.flatten(1)), inputs, baseline)
        for few in (12, 2)
    )
    torch.testing.assert_close(exact, fitted, rtol=1e-8, atol=1e-10)


def test_a_sample_of_cases_comes_near_the_shapley_values_and_sums_exactly():
    weights = random(12, 12, seed=3)

    def pairwise(points):
        flat = points.flatten(1)
        return ((flat @ weights) * flat).sum(1).tanh() + flat.sum(1)

    inputs, baseline = random(1, 3, 4), torch.zeros(1, 3, 4, dtype=torch.float64)
    exact = Shapley(block=1).attribute(pairwise, inputs, baseline)
    some = Shapley(block=1, exact=2, samples=1000).explain(pairwise, inputs, baseline)
    assert float((some.values - exact).abs().max()) < 0.1 * float(exact.abs().max())
    assert float(some.values.sum() - some.change) == pytest.approx(0, abs=1e-10)


def test_occlusion_is_the_change_when_a_block_is_taken_away():
    inputs, baseline = random(2, 3, 5, seed=4), random(1, 3, 5, seed=5)
    found = Occlusion(block=2).attribute(lambda x: (x**2).flatten(1).sum(1).sqrt(), inputs, baseline)
    for sample in range(2):
        for row, column in ((0, 0), (0, 2), (0, 4), (2, 0), (2, 2), (2, 4)):
            without, block = inputs[sample].clone(), (slice(row, row + 2), slice(column, column + 2))
            without[block] = baseline[0][block]
            change = float(inputs[sample].square().sum().sqrt() - without.square().sum().sqrt())
            assert float(found[sample][block].sum()) == pytest.approx(change, rel=1e-10)
            assert float(found[sample][block].std(unbiased=False)) < 1e-12


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_blocks_are_squares_of_one_channel(channels, rows, columns, size):
    numbers = blocks((channels, rows, columns), size)
    assert sorted(set(numbers.flatten().tolist())) == list(range(channels * -(-rows // size) * -(-columns // size)))
    for number in numbers.unique():
        channel, row, column = torch.nonzero(numbers == number).T
        assert len(channel.unique()) == 1 and int(row.max() - row.min()) < size > int(column.max() - column.min())


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_missing_inputs_and_those_like_the_baseline_have_no_part(name):
    inputs, baseline = random(1, 2, 3, 3), random(1, 2, 3, 3, seed=1)
    inputs[0, 0, 1, 1] = baseline[0, 0, 1, 1] = torch.nan
    inputs[0, 1, 2, 2] = baseline[0, 1, 2, 2]
    found = made(name).explain(lambda x: x.nan_to_num(nan=0.0).square().sqrt().flatten(1).sum(1), inputs, baseline)
    assert torch.isfinite(found.values).all()
    assert found.values[0, 0, 1, 1] == 0 and float(found.values[0, 1, 2, 2]) == pytest.approx(0, abs=1e-12)


def test_what_does_not_fit_is_said():
    inputs, baseline = torch.ones(2, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    with pytest.raises(InputError, match="without a gradient"):
        IntegratedGradients().attribute(lambda x: x.detach().flatten(1).sum(1), inputs, baseline)
    with pytest.raises(InputError, match="got a baseline of shape"):
        Occlusion().attribute(lambda x: x.flatten(1).sum(1), inputs, torch.zeros(3, 1, 3, 3))
    with pytest.raises(InputError, match=r"attribution\.blocks"):
        Shapley().attribute(lambda x: x.flatten(1).sum(1), inputs, baseline, groups=torch.zeros(9))


def test_agreement_knows_the_same_places_and_others():
    here, there = np.zeros((4, 1, 10, 10)), np.zeros((4, 1, 10, 10))
    here[:, 0, :1, :5], there[:, 0, :1, 2:7] = -1.0, 2.0
    assert agreement(here, 3 * here).correlation == pytest.approx(1)
    assert agreement(here, -here).overlap == 1
    found = agreement(torch.from_numpy(here), torch.from_numpy(there))
    assert found.overlap == pytest.approx(3 / 7)
    flat = here[0, 0].ravel() != 0, there[0, 0].ravel() != 0
    assert found.correlation == pytest.approx(np.corrcoef(*flat)[0, 1])
    with pytest.raises(InputError, match="same variables and cells"):
        agreement(here, there[..., :5])
    with pytest.raises(InputError, match="share=0"):
        top(sizes(here), 0)


def test_a_sparse_model_finds_two_regions_and_their_weights():
    numbers = np.random.default_rng(0)
    fields = numbers.standard_normal((10_000, 2, 8, 8))
    first, second = fields[:, 0, 1:3, 1:3].mean((1, 2)), fields[:, 1, 5:7, 4:7].mean((1, 2))
    odds = 4 * first - 3 * second - 0.5
    event = numbers.random(10_000) < 1 / (1 + np.exp(-odds))
    parts = np.zeros((1, 2, 8, 8))
    parts[0, 0, 1:3, 1:3], parts[0, 1, 5:7, 4:7], parts[0, 0, 6, 6] = 0.1, -0.2, 0.3
    found = sparse_model(parts, fields, event, share=11 / 128)
    assert (found.regions[1, 5:7, 4:7] == 1).all() and (found.regions[0, 1:3, 1:3] == 2).all()
    assert found.regions[0, 6, 6] == 0  # a single cell is no region
    np.testing.assert_allclose([*found.weights, found.intercept], [-3, 4, -0.5], atol=0.2)
    np.testing.assert_allclose(found.chance(fields), 1 / (1 + np.exp(-odds)), atol=0.05)
    with pytest.raises(InputError, match="no connected region"):
        sparse_model(parts, fields, event, share=1 / 128)
    with pytest.raises(InputError, match="always or never"):
        sparse_model(parts, fields, np.ones(10_000))


@pytest.fixture(scope="module")
def learnt():
    """A network that learnt an event, its record and times that it has not seen."""
    record, test = SMALL.record(3000), SMALL.record(500, seed=1)
    torch.manual_seed(0)
    return learn(EventNetwork(BACKBONE, channels=1, shape=SMALL.shape), record, steps=250), record, test


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradient-shap", "integrated-gradients", "shapley", "occlusion"])
def test_the_planted_region_is_found(name, learnt):
    network, record, test = learnt
    method = ATTRIBUTIONS[name](block=2, samples=300) if name == "shapley" else ATTRIBUTIONS[name]()
    inputs = test.fields[: 10 if name == "shapley" else 40]
    baseline = record.fields[::150] if method.several else torch.zeros(1, *inputs.shape[1:])
    found = method.explain(network, inputs, baseline)
    assert overlap(top(sizes(found.values), float(test.mask.mean())), test.mask) > 0.5
    if method.complete:
        total = found.values.double().flatten(1).sum(1)
        assert float(((total - found.change) / found.change).abs().max()) < 1e-3
        assert float(found.error.median()) < {"gradient-shap": 0.02}.get(name, 1e-3)


@pytest.mark.slow
def test_regions_of_a_network_make_a_sparse_model_that_is_as_good(learnt):
    network, record, test = learnt
    parts = IntegratedGradients().attribute(network, test.fields[:40], torch.zeros(1, 1, *SMALL.shape))
    found = sparse_model(parts, record.fields, record.event)
    assert found.regions.max() <= 2
    chance, event = found.chance(test.fields), test.event.numpy()
    score = -np.log(np.where(event > 0, chance, 1 - chance)).mean()
    assert score < log_score(network, test) + 0.02


@pytest.mark.long
def test_a_network_that_learnt_before_beats_one_that_knows_a_short_record_alone():
    idealised = Planted(shape=SMALL.shape, corner=SMALL.corner, size=SMALL.size, amplitude=2.0)
    found = Experiment(idealised=idealised, real=SMALL, long=2000, backbone=BACKBONE, steps=200).run()
    assert found.scores["transferred"] < found.scores["direct"] - 0.02
    assert found.overlaps["transferred"] > 0.5
    assert found.kept.correlation > 0.9 and found.kept.overlap > 0.5
