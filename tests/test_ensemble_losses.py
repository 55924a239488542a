"""Losses of ensembles: as others compute them, fair, blind to missing cells, with finite gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scoringrules
import torch
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.losses import (
    ENSEMBLE_LOSSES,
    LOSSES,
    crps,
    energy,
    mae,
    mse,
    multi_scale_crps,
    spectral,
    tail_crps,
    variogram,
)

SINGLE = [name for name in ENSEMBLE_LOSSES if name != "sum"]
FAIR = ["crps", "multi-scale-crps", "tail-crps", "energy", "variogram", "spectral"]


def field(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def holed(truth: Tensor) -> Tensor:
    copy = truth.clone()
    copy[0, 0, 1, 2] = copy[1, :, :2, :2] = torch.nan
    return copy


@pytest.mark.parametrize("members", [1, 2, 3, 7])
def test_the_crps_is_that_of_scoringrules(members: int) -> None:
    prediction, truth, weight = field(members, 3, 2, 4, 5), field(3, 2, 4, 5, seed=1), field(2, 4, 5, seed=2).abs()
    estimator = "fair" if members > 1 else "nrg"
    points = scoringrules.crps_ensemble(truth.numpy(), prediction.numpy(), m_axis=0, estimator=estimator)
    expected = (torch.as_tensor(points) * weight).sum((1, 2, 3)) / weight.sum()
    torch.testing.assert_close(crps(prediction, truth, weight), expected)


@pytest.mark.parametrize("members", [2, 5])
def test_without_fairness_the_crps_is_the_plain_one(members: int) -> None:
    prediction, truth = field(members, 3, 1, 4, 5), field(3, 1, 4, 5, seed=1)
    points = scoringrules.crps_ensemble(truth.numpy(), prediction.numpy(), m_axis=0, estimator="nrg")
    torch.testing.assert_close(crps(prediction, truth, fairness=0.0), torch.as_tensor(points).mean((1, 2, 3)))


def test_one_member_has_its_absolute_error() -> None:
    prediction, truth = field(1, 3, 2, 4, 5), holed(field(3, 2, 4, 5, seed=1))
    torch.testing.assert_close(crps(prediction, truth), mae(prediction[0], truth))


@pytest.mark.parametrize("members", [2, 5])
def test_the_energy_score_of_whole_fields_is_that_of_scoringrules(members: int) -> None:
    prediction, truth = field(members, 3, 2, 4, 5), field(3, 2, 4, 5, seed=1)
    flat = prediction.reshape(members, 3, 40).numpy(), truth.reshape(3, 40).numpy()
    expected = scoringrules.es_ensemble(flat[1], flat[0], m_axis=0, estimator="fair") / math.sqrt(40)
    torch.testing.assert_close(energy(prediction, truth), torch.as_tensor(expected))


def test_the_energy_score_of_patches_is_the_mean_of_the_scores_of_patches() -> None:
    prediction, truth = field(3, 2, 1, 5, 6), holed(field(2, 1, 5, 6, seed=1))
    parts = [(slice(y, y + 4), slice(x, x + 4)) for y in (0, 4) for x in (0, 4)]
    scores = torch.stack([energy(prediction[..., y, x], truth[..., y, x]) for y, x in parts])
    counts = torch.stack([torch.isfinite(truth[..., y, x]).sum((1, 2, 3)) for y, x in parts])
    torch.testing.assert_close(energy(prediction, truth, patch=4), (scores * counts).sum(0) / counts.sum(0))


@pytest.mark.parametrize("distance", [1.0, 1.5, 9.0])
def test_the_variogram_score_is_that_of_all_pairs_one_by_one(distance: float) -> None:
    prediction, truth, weight = field(3, 1, 1, 4, 5), field(1, 1, 4, 5, seed=1), field(1, 4, 5, seed=2).abs()
    cells = list(itertools.product(range(4), range(5)))
    total = counted = 0.0
    for a, b in itertools.combinations(cells, 2):
        apart = math.hypot(a[0] - b[0], a[1] - b[1])
        if apart <= distance:
            x = (prediction[:, 0, 0][(slice(None), *a)] - prediction[:, 0, 0][(slice(None), *b)]).abs() ** 0.7
            t = (truth[(0, 0, *a)] - truth[(0, 0, *b)]).abs() ** 0.7
            w = float((weight[(0, *a)] * weight[(0, *b)]).sqrt()) / apart
            total, counted = total + w * float((t - x.mean()) ** 2 - x.var() / 3), counted + w
    found = variogram(prediction, truth, weight, power=0.7, distance=distance)
    assert float(found) == pytest.approx(total / counted, rel=1e-6)


def test_the_variogram_score_without_its_correction_is_that_of_scoringrules() -> None:
    prediction, truth = field(40, 1, 1, 1, 6), field(1, 1, 1, 6, seed=1)
    steps = np.abs(np.subtract.outer(np.arange(6), np.arange(6))).astype(float)
    inverse = np.divide(1.0, steps, out=np.zeros_like(steps), where=steps > 0)
    flat = prediction.reshape(40, 6).numpy()
    plain = scoringrules.vs_ensemble(truth.reshape(6).numpy(), flat, inverse, m_axis=0, p=0.5)
    powers = np.abs(flat[:, :, None] - flat[:, None]) ** 0.5
    expected = (plain - (inverse * powers.var(axis=0, ddof=1) / 40).sum()) / inverse.sum()
    assert float(variogram(prediction, truth, distance=9)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("width", [0.0, 0.4])
def test_the_tail_crps_is_that_of_scoringrules(width: float) -> None:
    prediction, truth = field(5, 3, 1, 4, 5), field(3, 1, 4, 5, seed=1)

    def chained(x: np.ndarray) -> np.ndarray:
        if width == 0:
            return np.maximum(x, 0.7)
        from scipy.stats import norm

        z = (x - 0.7) / width
        return (x - 0.7) * norm.cdf(z) + width * norm.pdf(z)

    points = scoringrules.twcrps_ensemble(
        truth.numpy(), np.moveaxis(prediction.numpy(), 0, -1), v_func=chained, estimator="fair"
    )
    found = tail_crps(prediction, truth, threshold=0.7, width=width, below=0.0)
    torch.testing.assert_close(found, torch.as_tensor(points).mean((1, 2, 3)))


def test_the_tail_crps_with_its_whole_weight_below_is_the_crps_and_channels_have_thresholds_of_their_own() -> None:
    prediction, truth = field(3, 2, 2, 4, 5), holed(field(2, 2, 4, 5, seed=1))
    torch.testing.assert_close(tail_crps(prediction, truth, below=1.0), crps(prediction, truth))
    several = tail_crps(prediction, field(2, 2, 4, 5, seed=1), threshold=[0.5, 1.0])
    each = [
        tail_crps(prediction[:, :, [i]], field(2, 2, 4, 5, seed=1)[:, [i]], threshold=t)
        for i, t in enumerate((0.5, 1.0))
    ]
    torch.testing.assert_close(several, torch.stack(each).mean(0))


def test_the_multi_scale_crps_is_the_mean_of_those_of_weighted_block_means() -> None:
    prediction, truth, weight = field(3, 2, 1, 4, 6), field(2, 1, 4, 6, seed=1), field(1, 4, 6, seed=2).abs()

    def blocks(values: Tensor) -> Tensor:
        return (values * weight).unfold(-2, 2, 2).unfold(-2, 2, 2).sum((-2, -1))

    total = blocks(torch.ones(1, 4, 6))
    coarse = crps(blocks(prediction) / total, blocks(truth) / total, total)
    fine = crps(prediction, truth, weight)
    found = multi_scale_crps(prediction, truth, weight, scales=(1, 2), amounts=(1, 3), across=False)
    torch.testing.assert_close(found, (fine + 3 * coarse) / 4)
    torch.testing.assert_close(multi_scale_crps(prediction, truth, weight, scales=(1, 7)), fine)


def test_blocks_of_the_multi_scale_crps_lie_across_coarse_cells() -> None:
    generator = torch.Generator().manual_seed(3)
    prediction, truth = torch.randn(2, 4, 1, 8, 8, generator=generator), torch.randn(4, 1, 8, 8, generator=generator)
    shifted = multi_scale_crps(prediction, truth, scales=(4,))
    edges = [slice(0, 2), slice(2, 6), slice(6, 8)]
    by_hand = torch.zeros(4)
    for y, x in itertools.product(edges, edges):
        means = [fields[..., y, x].mean((-2, -1), keepdim=True) for fields in (prediction, truth)]
        by_hand += (y.stop - y.start) * (x.stop - x.start) / 64 * crps(*means)
    torch.testing.assert_close(shifted, by_hand)


def test_the_multi_scale_crps_prefers_members_whose_neighbours_move_together_as_in_the_truth() -> None:
    def smooth(values: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(values, 5, stride=1) * 5

    truth, right = smooth(field(300, 1, 14, 14)), smooth(field(600, 1, 14, 14, seed=1)).reshape(2, 300, 1, 10, 10)
    wrong = field(2, 300, 1, 10, 10, seed=2)
    cells = float(crps(wrong, truth).mean() - crps(right, truth).mean())
    scales = float(multi_scale_crps(wrong, truth).mean() - multi_scale_crps(right, truth).mean())
    assert abs(cells) < 0.015 and scales > 0.04


@pytest.mark.parametrize("name", FAIR)
def test_a_score_is_fair_two_members_and_eight_have_the_same_expectation(name: str) -> None:
    truth = field(4000, 1, 3, 4)
    few = 1.3 * field(2, 4000, 1, 3, 4, seed=1) + 0.2
    many = 1.3 * field(8, 4000, 1, 3, 4, seed=2) + 0.2
    scores = [ENSEMBLE_LOSSES[name](each, truth) for each in (few, many)]
    error = float(sum(each.var() / 4000 for each in scores) ** 0.5)
    assert abs(float(scores[0].mean() - scores[1].mean())) < 4 * error


@pytest.mark.parametrize("name", FAIR)
def test_the_spread_of_the_truth_scores_best(name: str) -> None:
    truth, members = field(3000, 1, 3, 4), field(2, 3000, 1, 3, 4, seed=1)
    right, narrow, wide = (float(ENSEMBLE_LOSSES[name](part * members, truth).mean()) for part in (1.0, 0.5, 1.7))
    assert right < narrow and right < wide


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("members", [1, 2, 3])
def test_missing_truth_gives_no_gradient_and_does_not_matter(name: str, members: int) -> None:
    truth = holed(field(3, 2, 4, 5, seed=1))
    truth[2] = torch.nan
    prediction = field(members, 3, 2, 4, 5).requires_grad_()
    loss = ENSEMBLE_LOSSES[name](prediction, truth, torch.ones(2, 4, 5))
    loss.sum().backward()
    assert loss.shape == (3,) and torch.isfinite(loss).all() and loss[2] == 0
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()
    assert (prediction.grad[:, ~torch.isfinite(truth)] == 0).all()
    assert (prediction.grad[:, :2].abs().sum() > 0).all()


@pytest.mark.parametrize("name", SINGLE)
def test_missing_predictions_count_only_where_the_truth_is_known(name: str) -> None:
    truth, prediction = field(2, 1, 4, 5), field(2, 2, 1, 4, 5, seed=1)
    truth[0, 0, 0, 0] = prediction[:, 0, 0, 0, 0] = prediction[0, 1, 0, 0, 0] = torch.nan
    loss = ENSEMBLE_LOSSES[name](prediction, truth)
    assert torch.isfinite(loss[0]) and loss[1].isnan()


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_members_and_truth_are_equal(name: str, dtype: torch.dtype) -> None:
    truth = torch.zeros(3, 2, 4, 5, dtype=dtype)
    truth[1] = 1.0
    prediction = torch.zeros(3, 3, 2, 4, 5, dtype=dtype)
    prediction[1, 2] = 1e-20
    prediction.requires_grad_()
    loss = ENSEMBLE_LOSSES[name](prediction, truth, torch.ones(2, 4, 5, dtype=dtype))
    loss.sum().backward()
    assert loss.dtype == dtype and torch.isfinite(loss).all() and loss[0].abs() < 1e-6
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("name", SINGLE)
def test_a_large_shift_common_to_members_and_truth_does_not_cost_single_precision(name: str) -> None:
    prediction, truth = field(2, 2, 1, 8, 8).float(), field(2, 1, 8, 8, seed=1).float()
    options = {"threshold": 256.0} if name == "tail-crps" else {}
    near = {"threshold": 0.0} if name == "tail-crps" else {}
    moved = ENSEMBLE_LOSSES[name](prediction + 256, truth + 256, **options)
    torch.testing.assert_close(moved, ENSEMBLE_LOSSES[name](prediction, truth, **near), rtol=1e-3, atol=1e-3)


def test_a_sum_adds_its_terms_with_their_options() -> None:
    prediction, truth = field(2, 2, 1, 4, 5), holed(field(2, 1, 4, 5, seed=1).expand(2, 2, 4, 5))[:, :1]
    found = ENSEMBLE_LOSSES["sum"](
        prediction, truth, terms={"crps": 2.0, "variogram": 0.5}, options={"variogram": {"distance": 1.0}}
    )
    torch.testing.assert_close(found, 2 * crps(prediction, truth) + 0.5 * variogram(prediction, truth, distance=1.0))
    point = LOSSES["sum"](prediction[0], truth, terms={"mse": 1.0, "mae": 3.0})
    torch.testing.assert_close(point, mse(prediction[0], truth) + 3 * mae(prediction[0], truth))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sum", {"terms": {}}, "amount of each loss"),
        ("sum", {"terms": {"crsp": 1.0}}, "crps"),
        ("sum", {"terms": {"crps": 1.0}, "options": {"energy": {"patch": 2}}}, "options of those alone"),
        ("energy", {"patch": 0}, "patch: 0"),
        ("variogram", {"distance": 0.5}, "at least 1 cell"),
        ("tail-crps", {"width": -1.0}, "width of at least 0"),
        ("multi-scale-crps", {"amounts": [1.0]}, "one amount for each"),
    ],
)
def test_settings_without_sense_are_refused_in_words(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ENSEMBLE_LOSSES[name](field(2, 1, 1, 4, 5), field(1, 1, 4, 5), **options)


def test_the_spectral_term_sees_missing_detail_but_not_where_it_is() -> None:
    truth = field(200, 1, 12, 12)
    members = field(2, 200, 1, 12, 12, seed=1)
    smooth = torch.nn.functional.avg_pool2d(members.flatten(0, 1), 3, 1, 1).reshape(members.shape)
    there, moved = spectral(members, truth), spectral(members.flip(-1), truth)
    torch.testing.assert_close(there, moved)
    assert spectral(smooth, truth).mean() > 4 * there.mean()
