"""Every loss is least at the truth, weighted, blind to missing cells, and one value per sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from finegrid.losses import LOSSES, huber

SINGLE = [name for name in LOSSES if name != "sum"]  # a sum has no terms of its own


def field(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SINGLE)
@given(seed=st.integers(0, 1000), noise=st.floats(1e-3, 1e3))
def test_a_loss_is_zero_at_the_truth_and_worse_with_more_noise(name: str, seed: int, noise: float) -> None:
    truth, error, weight = field(3, 2, 4, 5), noise * field(3, 2, 4, 5, seed=seed), torch.rand(2, 4, 5) + 0.1
    at_truth, near, far = (LOSSES[name](truth + part * error, truth, weight) for part in (0.0, 0.5, 1.0))
    assert at_truth.shape == (3,)
    assert (at_truth == 0).all() and (near > 0).all() and (far > near).all()


@pytest.mark.parametrize("name", SINGLE)
def test_missing_truth_drops_the_cell_from_value_and_gradient(name: str) -> None:
    truth, weight = field(2, 1, 4, 5), torch.rand(1, 4, 5) + 0.1
    prediction = field(2, 1, 4, 5, seed=1).requires_grad_()
    holed = truth.clone()
    holed[0, 0, 1, 2] = torch.nan
    without = weight.expand(2, 1, 4, 5).clone()
    without[0, 0, 1, 2] = 0.0
    loss = LOSSES[name](prediction, holed, weight)
    loss.sum().backward()
    expected = torch.cat([LOSSES[name](prediction[i : i + 1], truth[i : i + 1], without[i]) for i in range(2)])
    torch.testing.assert_close(loss, expected)
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()
    assert prediction.grad[0, 0, 1, 2] == 0 and (prediction.grad != 0).sum() == 39


@pytest.mark.parametrize("name", SINGLE)
def test_a_missing_prediction_counts_only_where_the_truth_is_known(name: str) -> None:
    truth, prediction = field(2, 1, 4, 5), field(2, 1, 4, 5, seed=1)
    truth[0, 0, 0, 0] = prediction[0, 0, 0, 0] = prediction[1, 0, 0, 0] = torch.nan
    loss = LOSSES[name](prediction, truth)
    assert torch.isfinite(loss[0]) and loss[1].isnan()


@pytest.mark.parametrize("name", SINGLE)
def test_a_sample_without_truth_counts_nothing(name: str) -> None:
    prediction = field(2, 1, 4, 5).requires_grad_()
    loss = LOSSES[name](prediction, torch.full((2, 1, 4, 5), torch.nan), torch.ones(1, 4, 5))
    loss.sum().backward()
    assert (loss == 0).all() and prediction.grad is not None and (prediction.grad == 0).all()


@pytest.mark.parametrize("name", SINGLE)
def test_a_cell_counts_in_proportion_to_its_weight(name: str) -> None:
    truth = torch.zeros(1, 1, 1, 2)
    one, two = torch.tensor([[[[0.7, 0.0]]]]), torch.tensor([[[[0.0, 0.7]]]])
    weight = torch.tensor([[[3.0, 1.0]]])
    torch.testing.assert_close(LOSSES[name](one, truth, weight), 3 * LOSSES[name](two, truth, weight))
    torch.testing.assert_close(LOSSES[name](one, truth, 5 * weight), LOSSES[name](one, truth, weight))


@pytest.mark.parametrize("name", SINGLE)
def test_members_in_front_are_samples_too(name: str) -> None:
    assert LOSSES[name](field(4, 3, 2, 5, 6), field(3, 2, 5, 6), torch.ones(5, 6)).shape == (4, 3)


def test_losses_agree_with_torch_where_nothing_is_missing() -> None:
    prediction, truth = 2 * field(3, 2, 4, 5), field(3, 2, 4, 5, seed=1)
    references = {
        "mse": torch.nn.functional.mse_loss,
        "mae": torch.nn.functional.l1_loss,
        "huber": torch.nn.functional.huber_loss,
    }
    for name, reference in references.items():
        torch.testing.assert_close(LOSSES[name](prediction, truth).mean(), reference(prediction, truth))
    torch.testing.assert_close(
        huber(prediction, truth, delta=0.3).mean(),
        torch.nn.functional.huber_loss(prediction, truth, delta=0.3),
    )
