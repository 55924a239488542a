"""The adjusted mean square error: the plain one at equal power, and without its reward for blurring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from finegrid.evaluation.metrics.spectrum import radial, variances
from finegrid.losses import amse, mse
from finegrid.losses.cosine import cosine_transform, inverse_cosine_transform, ring_sums, rings_of


def field(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_equal_power(truth: Tensor, seed: int = 1) -> Tensor:
    """Another field with the same power in every ring and the same mean."""
    other, rings = cosine_transform(field(*truth.shape, seed=seed)), rings_of((truth.shape[-2], truth.shape[-1]))
    coefficients = cosine_transform(truth)
    ratio = (ring_sums(coefficients.square(), rings) / ring_sums(other.square(), rings)).sqrt()
    return inverse_cosine_transform(other * ratio[..., rings])


@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (1, 5)])
def test_the_cosine_transform_is_that_of_scipy_and_its_inverse_undoes_it(shape: tuple[int, int]) -> None:
    values = field(3, *shape)
    expected = dctn(values.numpy(), axes=(-2, -1), norm="ortho")
    torch.testing.assert_close(cosine_transform(values), torch.as_tensor(expected))
    torch.testing.assert_close(inverse_cosine_transform(cosine_transform(values)), values)


def test_rings_hold_the_variance_that_the_evaluation_reports() -> None:
    values = field(2, 9, 14)
    _, expected = radial(variances(values.numpy()))
    found = ring_sums(cosine_transform(values).square() / (9 * 14), rings_of((9, 14)))[:, 2:10]
    np.testing.assert_allclose(found.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_equal_power_it_is_the_mean_square_error(dtype: torch.dtype) -> None:
    truth = field(3, 2, 9, 12)
    prediction = of_equal_power(truth)
    torch.testing.assert_close(
        amse(prediction.to(dtype), truth.to(dtype)), mse(prediction.to(dtype), truth.to(dtype)), rtol=1e-5, atol=0
    )


def test_it_is_the_formula_of_amplitude_and_coherence() -> None:
    truth, prediction, rings = field(1, 1, 6, 7), field(1, 1, 6, 7, seed=1), rings_of((6, 7))
    x, y = cosine_transform(prediction - truth.mean())[0, 0], cosine_transform(truth - truth.mean())[0, 0]
    total = 0.0
    for ring in range(1, int(rings.max()) + 1):
        px, py, both = (float((a * b)[rings == ring].sum()) for a, b in ((x, x), (y, y), (x, y)))
        total += (px**0.5 - py**0.5) ** 2 + 2 * max(px, py) * (1 - both / (px * py) ** 0.5)
    total += float(x[0, 0]) ** 2
    assert float(amse(prediction, truth, epsilon=0.0)) == pytest.approx(total / 42, rel=1e-5)


def test_with_weights_and_equal_power_of_the_weighted_fields_it_is_the_weighted_mean_square_error() -> None:
    weight = field(1, 9, 12, seed=5).abs() + 0.1
    truth = field(3, 1, 9, 12)
    rooted = (truth - truth.mean((-2, -1), keepdim=True)) * weight.sqrt()
    prediction = of_equal_power(rooted) / weight.sqrt() + truth.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(amse(prediction, truth, weight), mse(prediction, truth, weight), rtol=1e-5, atol=0)


def test_edges_of_missing_cells_do_not_hide_that_detail_is_missing() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 24), indexing="ij")
    smooth = (6 * y + torch.sin(3 * x)).double()
    truth, blurred = smooth + 0.2 * field(8, 1, 24, 24), smooth + 0.02 * field(8, 1, 24, 24, seed=1)
    holed = truth.clone()
    holed[..., ::7, 4:20] = holed[..., 5:9, 2:6] = torch.nan
    whole, part = (float(amse(blurred, each).mean() / mse(blurred, each).mean()) for each in (truth, holed))
    assert part == pytest.approx(whole, rel=0.1) and part > 2


def test_a_blurred_and_incoherent_prediction_gains_nothing_by_losing_amplitude() -> None:
    truth, other = field(6, 1, 96, 96), field(6, 1, 96, 96, seed=1)
    full, half = (float(amse(part * other, truth).mean()) for part in (1.0, 0.5))
    assert half > full
    assert float(mse(0.5 * other, truth).mean()) < float(mse(other, truth).mean())


def test_the_best_amplitude_is_that_of_the_truth_where_a_third_of_the_variance_is_known() -> None:
    known, chance = field(6, 1, 96, 96), field(6, 1, 96, 96, seed=1)
    truth = known + 2**0.5 * chance
    amplitudes = torch.arange(0.5, 2.6, 0.05)
    adjusted = [float(amse(each * known, truth).mean()) for each in amplitudes]
    square = [float(mse(each * known, truth).mean()) for each in amplitudes]
    assert float(amplitudes[int(np.argmin(square))]) == pytest.approx(1.0, abs=0.06)
    assert float(amplitudes[int(np.argmin(adjusted))]) == pytest.approx(3**0.5, rel=0.12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_for_fields_without_variation(dtype: torch.dtype) -> None:
    truth = torch.zeros(4, 1, 6, 6, dtype=dtype)
    truth[1:3] = field(2, 1, 6, 6).to(dtype)
    prediction = torch.zeros(4, 1, 6, 6, dtype=dtype)
    prediction[2:] = 1e-15
    prediction.requires_grad_()
    loss = amse(prediction, truth)
    loss.sum().backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all() and torch.isfinite(loss).all()
