"""Input of another kind brought back to the mean or the distribution of training input."""

import numpy as np
import pytest

from finegrid.conventions import InputError, harmonise
from finegrid.evaluation.guard import Guard
from finegrid.evaluation.guard.memory import LEVELS
from test_guard import changed, weather


@pytest.fixture(scope="module")
def guard() -> Guard:
    return Guard.fit(weather(720), seasonal=False)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"tas": lambda tas: tas + 6}),
        (0, {"pr": lambda pr: 2.5 * pr}),
        (1, {"tas": lambda tas: 281 + 2 * (tas - 281), "pr": lambda pr: 0.4 * pr}),
    ],
)
def test_aligned_input_is_like_that_of_training_again_and_keeps_its_units(number, change):
    guard, given = Guard.fit(weather(1440, wide=0.3), seasonal=False), weather(700, seed=1, wide=0.3)
    strange = changed(given, **change)
    alignment = guard.alignments(strange)[number]
    aligned = alignment(strange)
    before, after = guard.compare(strange), guard.compare(aligned)
    assert before.flagged and not after.flagged
    assert after.findings["distance"].value < 0.3 * before.findings["distance"].value
    assert all(aligned[name].attrs == strange[name].attrs for name in ("tas", "pr"))
    assert aligned["pr"].dtype == strange["pr"].dtype
    assert (aligned["pr"].values[strange["pr"].values == 0] == 0).all()


def test_alignment_says_by_how_much(guard):
    given = weather(400, seed=1)
    by_mean, by_quantiles = guard.alignments(changed(given, tas=lambda tas: tas + 6, pr=lambda pr: 2 * pr))
    lacking = float(weather(720)["tas"].mean() - given["tas"].mean()) - 6
    assert by_mean.words.startswith(f"tas: {lacking:.2f}\u00a0K; pr: times 0.".replace("-", "−"))
    assert "at the 5th percentile" in by_quantiles.words


def test_quantiles_are_those_of_training_after_alignment(guard):
    strange = changed(weather(400, seed=1), tas=lambda tas: 281 + 2 * (tas - 275))
    aligned = guard.alignments(strange)[1](strange)
    inside = np.quantile(weather(720)["tas"], LEVELS[5:-5])
    np.testing.assert_allclose(np.quantile(aligned["tas"], LEVELS[5:-5]), inside, atol=0.02)


def test_training_months_are_mixed_as_the_new_input_has_them():
    record = weather(4 * 365, season=15.0)
    guard = Guard.fit(record)
    winter = weather(31 + 28, start="2010-01-01", season=15.0, seed=2)
    months = record["tas"].groupby("time.month").mean()
    wanted = (31 * months.sel(month=1) + 28 * months.sel(month=2)).mean() / 59
    aligned = guard.alignments(winter)[0](winter)
    assert float(aligned["tas"].mean()) == pytest.approx(float(wanted), abs=0.05)
    assert (
        guard.memory.quantiles_of("tas", np.eye(12)[6])[50] > guard.memory.quantiles_of("tas", np.eye(12)[0])[50] + 20
    )


def test_alignment_keeps_the_order_of_values_and_stays_lazy(guard):
    strange = changed(weather(60, seed=1), tas=lambda tas: 2 * tas - 270)
    for alignment in guard.alignments(strange):
        mapped = alignment.maps["tas"](np.sort(strange["tas"].values.ravel()))
        assert (np.diff(mapped) >= -1e-4).all()
        lazy = alignment(harmonise(strange.chunk(time=7))[0])
        assert lazy["tas"].chunks is not None
        np.testing.assert_allclose(lazy["tas"].values, alignment(harmonise(strange)[0])["tas"].values)
        own = strange["tas"].rename("tas (own cells)").to_dataset()
        np.testing.assert_array_equal(alignment(own)["tas (own cells)"], alignment(strange)["tas"])


def test_few_times_are_not_aligned(guard):
    with pytest.raises(InputError, match="got 29 times to align"):
        guard.alignments(weather(29))
