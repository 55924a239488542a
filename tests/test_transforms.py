"""Transforms are monotone, exactly undone, and the same numbers in NumPy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError
from finegrid.data.transforms import TRANSFORMS, fit_transform

POSITIVE = ("log1p", "sqrt")


def weather(seed: int, *, times: int = 40, size: float = 1.0, dry: float = 0.0) -> np.ndarray:
    """Positive fields (time, 3, 4) with some exact zeros."""
    random = np.random.default_rng(seed)
    return (random.gamma(0.8, size, (times, 3, 4)) * (random.random((times, 3, 4)) >= dry)).astype(np.float64)


def through(transform, values: np.ndarray, library: str) -> tuple[np.ndarray, np.ndarray]:
    """Transformed values, and those undone."""
    if library == "numpy":
        forward = transform.forward(values)
        return np.asarray(forward), np.asarray(transform.inverse(forward))
    forward = transform.forward(torch.as_tensor(values), torch)
    return forward.numpy(), transform.inverse(forward, torch).numpy()


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", TRANSFORMS)
@given(seed=st.integers(0, 999), power=st.integers(-6, 4), dry=st.sampled_from([0.0, 0.5]))
def test_what_is_transformed_is_undone_exactly_also_beyond_the_training_values(name, library, seed, power, dry):
    size = 10.0**power
    transform = fit_transform(name, weather(seed, size=size, dry=dry))
    values = 3 * weather(seed + 1, size=size, dry=dry)
    _, back = through(transform, values, library)
    np.testing.assert_allclose(back, values, rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in POSITIVE])
@given(seed=st.integers(0, 999), mean=st.sampled_from([-50.0, 0.0, 280.0]))
def test_temperatures_and_winds_are_undone_exactly(name, seed, mean):
    random = np.random.default_rng(seed)
    transform = fit_transform(name, random.normal(mean, 5, (30, 3, 4)))
    values = random.normal(mean, 15, (10, 3, 4))
    for library in ("numpy", "torch"):
        np.testing.assert_allclose(
            through(transform, values, library)[1], values, rtol=0, atol=1e-10 * (50 + abs(mean))
        )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_numpy_and_torch_agree_in_single_precision(name):
    transform = fit_transform(name, weather(0))
    values = weather(1).astype(np.float32)
    forward = transform.forward(torch.as_tensor(values), torch)
    assert forward.dtype == torch.float32
    np.testing.assert_allclose(forward.numpy(), transform.forward(values), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(transform.inverse(forward, torch).numpy(), values, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
@given(seed=st.integers(0, 999))
def test_larger_values_stay_larger(name, seed):
    transform = fit_transform(name, weather(seed))
    ladder = np.linspace(0, 20, 50)[:, None, None] * np.ones((1, 3, 4))
    assert (np.diff(transform.forward(ladder), axis=0) > 0).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_learnt_numbers_make_the_same_transform(name):
    transform = fit_transform(name, weather(0))
    again = TRANSFORMS[name](**transform.numbers)
    np.testing.assert_array_equal(again.forward(weather(1)), transform.forward(weather(1)))
    assert all(number.dtype == np.float32 for number in transform.numbers.values())
    assert transform.name == name


@pytest.mark.parametrize("name", TRANSFORMS)
def test_missing_values_are_left_out_of_the_fit(name):
    values = weather(0)
    gappy = values.copy()
    gappy[::3] = np.nan
    known = np.delete(values, np.s_[::3], axis=0)
    for key, number in fit_transform(name, gappy).numbers.items():
        np.testing.assert_array_equal(number, fit_transform(name, known).numbers[key])


def test_standardised_training_values_have_mean_zero_and_deviation_one():
    values = np.random.default_rng(0).normal(280, 7, (200, 3, 4)) + np.arange(12).reshape(3, 4)
    for name, axis in (("standardise", None), ("standardise-per-cell", 0)):
        found = fit_transform(name, values).forward(values)
        np.testing.assert_allclose(found.mean(axis), 0, atol=1e-4)
        np.testing.assert_allclose(found.std(axis), 1, atol=1e-5)


def test_each_formula_is_the_one_of_its_name():
    values = weather(0)
    relative = weather(1) / values.mean()
    np.testing.assert_allclose(fit_transform("log1p", values).forward(weather(1)), np.log(1 + relative), rtol=1e-6)
    np.testing.assert_allclose(fit_transform("sqrt", values).forward(weather(1)), np.sqrt(relative), rtol=1e-6)


def test_quantiles_of_training_values_become_those_of_a_normal_distribution():
    values = np.random.default_rng(0).gamma(2, 3, (500, 3, 4))
    found = fit_transform("quantile", values).forward(values)
    np.testing.assert_allclose(np.quantile(found, [0.05, 0.5, 0.95]), [-1.645, 0, 1.645], atol=0.01)


def test_dry_days_are_one_knot_of_the_quantile_map():
    transform = fit_transform("quantile", weather(0, times=300, dry=0.6))
    knots = transform.numbers["values_at"]
    assert knots[0] == 0
    assert (np.diff(knots) > 0).all()
    # In the middle of the 60 % that are dry: a normal value below the median.
    assert -1 < transform.forward(np.zeros(1))[0] < -0.4


@pytest.mark.parametrize("name", POSITIVE)
def test_negative_input_counts_as_zero_and_negative_training_values_are_refused(name):
    transform = fit_transform(name, weather(0))
    assert transform.forward(np.array([-3.0]))[0] == 0
    with pytest.raises(InputError, match=rf"values down to -2 for the transform {name}.*standardise or quantile"):
        fit_transform(name, np.array([-2.0, 1.0]))


def test_a_transformed_value_below_zero_is_no_rain_for_the_square_root():
    assert fit_transform("sqrt", weather(0)).inverse(np.array([-0.5]))[0] == 0


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "quantile"])
@pytest.mark.parametrize("value", [0.0, 280.0])
def test_a_field_without_variation_is_undone_too(name, value):
    transform = fit_transform(name, np.full((5, 3, 4), value, dtype=np.float32))
    values = np.full((2, 3, 4), value) + 0.5
    found, back = through(transform, values, "numpy")
    assert np.isfinite(found).all()
    np.testing.assert_allclose(back, values, rtol=1e-6)


def test_a_field_without_variation_has_no_quantiles():
    with pytest.raises(InputError, match="a field that is 3 nearly everywhere for the transform quantile"):
        fit_transform("quantile", np.full((5, 3, 4), 3.0))


def test_a_cell_that_is_always_missing_does_not_break_the_others():
    values = weather(0)
    values[:, 0, 0] = np.nan
    assert np.isfinite(fit_transform("standardise-per-cell", values).numbers["deviation"]).all()


def test_an_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(InputError, match=r"no transform 'standardize'.*log1p.*Did you mean 'standardise"):
        fit_transform("standardize", weather(0))
