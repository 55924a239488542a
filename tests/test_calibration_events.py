"""Chances of events: what comes true as often as said, in every group, and decisions that stay sensible."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from finegrid.calibration.events import EVENT_CALIBRATORS
from finegrid.calibration.events.chances import Tally, exceedance
from finegrid.calibration.events.error_bounded import ErrorBounded, ramps, windows
from finegrid.calibration.events.isotonic import Isotonic
from finegrid.calibration.events.masked import MaskedTemperature, probabilities
from finegrid.calibration.events.temperature import Temperature
from finegrid.conventions import InputError

CELLS, MEMBERS, LEARNT = 8, 20, slice(600)
LATER = slice(600, None)
SEPARATE = ("isotonic", "temperature", "h-calibration")


def record(seed: int = 0, *, bias: float = 0.3, spread: float = 0.4, name: str = "pr") -> tuple[xr.Dataset, xr.Dataset]:
    """Rain of 1000 days whose members are too wet and too close together, more so on wet days."""
    random, shape = np.random.default_rng(seed), (1000, CELLS, CELLS)
    middle = random.normal(size=(1000, 1, 1)) + 0.7 * random.normal(size=shape)
    truth = middle + random.normal(size=shape)
    width = np.where(middle > 0.5, 1.5 * spread, spread)
    members = middle + bias + 0.25 * np.tanh(middle) + width * random.normal(size=(MEMBERS, *shape))
    axis, time = np.arange(float(CELLS)), np.datetime64("2001-01-01", "ns") + np.arange(1000) * np.timedelta64(1, "D")
    coords = {"time": time, "y": ("y", axis, {"units": "degrees_north"}), "x": ("x", axis, {"units": "degrees_east"})}
    ensemble, observed = (np.maximum(6 * each, 0).astype(np.float32) for each in (members, truth))
    about = {"units": "mm/day"}
    return (
        xr.Dataset({name: (("member", "time", "y", "x"), ensemble, about)}, coords=coords),
        xr.Dataset({name: (("time", "y", "x"), observed, about)}, coords=coords),
    )


def adaptive_error(chance: np.ndarray, happened: np.ndarray, bins: int = 15) -> float:
    """Mean over bins with as many cases of |how often it came true - chance|; equal chances share their bins."""
    tally = Tally.of(chance.ravel(), happened.ravel())
    ends = np.cumsum(tally.cases) / tally.cases.sum()
    first = np.arange(bins)[:, None] / bins
    part = np.maximum(np.minimum(ends, first + 1 / bins) - np.maximum(np.append(0, ends[:-1]), first), 0)
    return float(np.abs(part @ (tally.events / tally.cases - tally.raw)).sum())


@pytest.fixture(scope="module")
def rain() -> tuple[xr.Dataset, xr.Dataset]:
    return record()


@pytest.fixture(scope="module")
def later(rain) -> dict[str, np.ndarray]:
    """Chances of more than 10 mm/day on later days, by calibrator; raw ones too."""
    ensemble, observed = rain
    found = {"raw": exceedance(ensemble.pr.values[:, LATER], np.array([10.0]))[0]}
    for name in SEPARATE:
        model = EVENT_CALIBRATORS[name]().fit(ensemble.isel(time=LEARNT), observed.isel(time=LEARNT), {"pr": 10})
        found[name] = model.probability(ensemble.isel(time=LATER)).pr_above_10.values.astype(float)
    return found | {"happened": observed.pr.values[LATER] > 10}


def test_every_map_of_a_single_event_lowers_the_adaptive_error_of_raw_chances_by_half(later):
    raw = adaptive_error(later["raw"], later["happened"])
    for name in SEPARATE:
        assert adaptive_error(later[name], later["happened"]) < 0.5 * raw


def test_the_error_bounded_map_is_better_than_a_temperature_and_as_good_as_the_best_monotone_one(later):
    error = {name: adaptive_error(later[name], later["happened"]) for name in SEPARATE}
    assert error["h-calibration"] < error["temperature"]
    assert error["h-calibration"] < error["isotonic"] + 0.001


def test_maps_never_put_cases_in_another_order(later):
    order = np.argsort(later["raw"].ravel(), kind="stable")
    for name in SEPARATE:
        assert (np.diff(later[name].ravel()[order]) >= -1e-6).all()


def test_decisions_at_a_half_do_not_become_worse_and_stay_where_the_map_is_anchored(rain, later):
    ensemble, observed = rain
    happened, raw = later["happened"], later["raw"]
    for name in SEPARATE:
        assert ((later[name] > 0.5) == happened).mean() >= ((raw > 0.5) == happened).mean()
    for anchored in (ErrorBounded(anchored=True), Temperature(shifts=False)):
        anchored.fit(ensemble.isel(time=LEARNT), observed.isel(time=LEARNT), {"pr": 10})
        chance = anchored.probability(ensemble.isel(time=LATER)).pr_above_10.values
        decided = np.abs(raw - 0.5) > 0.01  # of 20 members 10 are a half to the last digit
        assert ((chance > 0.5) == (raw > 0.5))[decided].all()
        assert np.abs(chance - raw).max() > 0.03


@pytest.mark.parametrize("name", EVENT_CALIBRATORS)
def test_several_thresholds_are_exceeded_less_and_less_often(rain, name):
    ensemble, observed = (each.isel(time=slice(200)) for each in rain)
    model = EVENT_CALIBRATORS[name]().fit(ensemble, observed, {"pr": [12.0, 1.0, 6.0]})
    chances = model.probability(ensemble)
    assert list(chances.data_vars) == ["pr_above_1", "pr_above_6", "pr_above_12"]
    assert chances.pr_above_6.dims == ("time", "y", "x")
    assert chances.pr_above_12.attrs == {
        "long_name": "chance of pr > 12 mm/day",
        "units": "1",
        "event": "pr > 12 mm/day",
        "threshold": 12.0,
    }
    values = chances.to_dataarray().values
    assert (values >= 0).all()
    assert (values <= 1).all()
    assert (np.diff(values, axis=0) <= 1e-6).all()
    happened = np.stack([observed.pr.values > each for each in (1, 6, 12)])
    np.testing.assert_allclose(values.mean((1, 2, 3)), happened.mean((1, 2, 3)), atol=0.03)


@pytest.mark.parametrize("name", EVENT_CALIBRATORS)
def test_the_state_holds_arrays_alone_and_makes_the_same_chances(rain, name):
    ensemble, observed = (each.isel(time=slice(100)) for each in rain)
    model = EVENT_CALIBRATORS[name](groups=("region",), regions=2).fit(ensemble, observed, {"pr": [2.0, 10.0]})
    plain, arrays = model.state()
    assert plain["name"] == name
    assert all(isinstance(each, np.ndarray) and each.dtype.kind in "biuf" for each in arrays.values())
    again = EVENT_CALIBRATORS[name](**plain["options"]).remember(plain["variables"], arrays)
    xr.testing.assert_identical(again.probability(ensemble), model.probability(ensemble))


def test_groups_have_maps_of_their_own_unless_they_have_too_few_events(rain):
    ensemble, observed = (each.copy(deep=True) for each in rain)
    observed["pr"][:, :4, :4] = observed.pr[:, :4, :4] * 3
    observed["pr"][:, 4:, 4:] = 0.0
    model = Isotonic(groups=("region",), regions=2).fit(ensemble, observed, {"pr": 10})
    whole = Isotonic().fit(ensemble, observed, {"pr": 10})
    happened = observed.pr.values > 10
    own, of_all = (each.probability(ensemble).pr_above_10.values for each in (model, whole))
    np.testing.assert_allclose(own[:, :4, :4].mean(), happened[:, :4, :4].mean(), atol=0.005)
    assert abs(of_all[:, :4, :4].mean() - happened[:, :4, :4].mean()) > 0.05
    np.testing.assert_allclose(own[:, 4:, 4:], of_all[:, 4:, 4:], atol=1e-6)


def test_other_units_and_missing_cells_are_understood(rain):
    ensemble, observed = (each.isel(time=slice(100)) for each in rain)
    model = Temperature().fit(ensemble, observed, {"pr": 10})
    metres = ensemble.copy(deep=True) / 1000
    metres["pr"].attrs["units"] = "m/day"
    metres["pr"][3, 7, 1, 2] = np.nan
    expected, found = (model.probability(each).pr_above_10.values for each in (ensemble, metres))
    assert np.isnan(found[7, 1, 2])
    assert np.isnan(found).sum() == 1
    found[7, 1, 2] = expected[7, 1, 2]
    assert (np.abs(found - expected) < 1e-3).mean() > 0.999


@given(st.floats(0.2, 3.0), st.floats(-2.0, 2.0))
def test_the_factor_and_shift_of_a_logit_are_recovered(factor, shift):
    raw = np.linspace(0.01, 0.99, 50)
    exact = expit(factor * logit(raw) + shift)
    happened = np.arange(4000)[:, None] < 4000 * exact
    learnt = Temperature()._one(np.broadcast_to(raw, happened.shape).ravel(), happened.ravel())
    np.testing.assert_allclose([learnt["factor"][0], learnt["shift"][0]], [factor, shift], atol=0.02)


def test_the_best_monotone_map_is_that_of_pooled_neighbours():
    raw = np.repeat([0.1, 0.4, 0.6, 0.9], (10, 20, 10, 10))
    happened = np.concatenate([np.arange(n) < each for n, each in ((10, 1), (20, 12), (10, 3), (10, 9))])
    model = Isotonic()
    # By hand: 12 of 20 and 3 of 10 are in the wrong order; together they came true in a half of 30.
    np.testing.assert_allclose(
        model._map(np.array([0.0, 0.1, 0.5, 1.0]), model._one(raw, happened)), [0.1, 0.1, 0.5, 0.9]
    )


def test_the_error_bounded_map_has_no_window_beyond_its_tolerance_where_a_spline_can_do_it():
    raw, exact = np.linspace(0.02, 0.98, 40), np.linspace(0.02, 0.98, 40) ** 3
    happened = np.arange(5000)[:, None] < 5000 * exact
    for tolerance in (0.001, 0.03):
        model = ErrorBounded(tolerance=tolerance, windows=(0.1, 0.3), likelihood=1e-5)
        learnt = model._one(np.broadcast_to(raw, happened.shape).ravel(), happened.ravel())
        inside = np.concatenate([windows(np.ones(40), part) for part in (0.1, 0.3)])
        error = np.abs(inside @ (happened.mean(0) - model._map(raw, learnt))).max()
        assert error < tolerance + 0.002


def test_what_is_within_the_tolerance_costs_nothing_and_the_likelihood_decides():
    raw, exact = np.linspace(0.02, 0.98, 40), 0.5 + 0.4 * np.sin(np.linspace(-1.5, 1.5, 40)) ** 3
    happened = (np.arange(2000)[:, None] < 2000 * exact).ravel()
    every = np.broadcast_to(raw, (2000, 40)).ravel()

    def chances(tolerance: float, part: float) -> np.ndarray:
        model = ErrorBounded(pieces=2, tolerance=tolerance, windows=(part,), likelihood=0.01)
        return model._map(raw, model._one(every, happened))

    np.testing.assert_allclose(chances(0.5, 0.1), chances(0.5, 1.0), atol=1e-4)
    assert np.abs(chances(1e-4, 0.1) - chances(1e-4, 1.0)).max() > 5e-3


def test_windows_share_cases_with_equal_chances():
    found = windows(np.array([1.0, 2.0, 1.0]), 0.5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[0], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(found[-1], [0.0, 0.5, 0.5])


def test_the_pieces_of_a_spline_go_on_beyond_its_knots():
    np.testing.assert_allclose(
        ramps(np.array([-1.0, 0.5, 1.5, 4.0]), np.array([0.0, 1.0, 2.0])), [[-1, 0], [0.5, 0], [1, 0.5], [1, 3]]
    )


def test_raw_chances_are_never_sure_and_a_half_for_half_of_the_members():
    members = np.arange(4.0)[:, None] * np.array([1.0, 1.0, np.nan])
    np.testing.assert_allclose(exceedance(members, np.array([-1.0, 1.5, 9.0]))[:, 0], [0.9, 0.5, 0.1])
    assert np.isnan(exceedance(members, np.array([1.0]))[0, 2])


def coreset(seed: int, noise: float = 0.1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits and classes of a network that learnt from ten cases a class, and of three classes that never occur."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(seed)
    centres = 0.9 * random.normal(size=(6, 12))

    def cases(count: int) -> tuple[np.ndarray, np.ndarray]:
        classes = random.integers(6, size=count)
        seen = centres[classes] + random.normal(size=(count, 12))
        return seen, np.where(random.random(count) < noise, random.integers(6, size=count), classes)

    chosen, wrong = cases(60), cases(10)[0]
    labels = np.concatenate([chosen[1], 6 + np.arange(10) % 3])
    network = LogisticRegression(C=10.0, max_iter=2000).fit(np.concatenate([chosen[0], wrong]), labels)
    parts = [cases(1500), cases(6000)]
    return [network.predict_log_proba(seen) for seen, _ in parts], [classes for _, classes in parts]


def top_label_error(chance: np.ndarray, classes: np.ndarray) -> float:
    return adaptive_error(chance.max(axis=1), chance.argmax(axis=1) == classes)


def test_masks_with_weights_are_likelier_and_no_less_right_than_a_temperature_alone():
    for seed in range(2):
        (logits, unseen), (classes, truth) = coreset(seed)
        masked, plain = MaskedTemperature(masks=24, shifts=False), MaskedTemperature(masked=0.0, shifts=False)
        own, alone = (probabilities(unseen, each.scaled(logits, classes)) for each in (masked, plain))
        loss = [-np.log(each[np.arange(len(truth)), truth]).mean() for each in (own, alone)]
        assert loss[0] < loss[1]
        assert (own.argmax(1) == truth).mean() > (alone.argmax(1) == truth).mean()
        assert top_label_error(alone, truth) < top_label_error(expit(unseen), truth)


def test_without_masks_it_is_plain_temperature_scaling_and_the_temperature_is_recovered():
    random = np.random.default_rng(0)
    exact = random.normal(size=(20_000, 4))
    shares = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    classes = (random.random((len(exact), 1)) > np.cumsum(shares, axis=1)[:, :-1]).sum(axis=1)
    learnt = MaskedTemperature(masked=0.0, masks=1).scaled(2.5 * exact, classes)
    np.testing.assert_allclose(learnt["temperature"] / learnt["power"], 2.5, rtol=0.05)
    np.testing.assert_allclose(learnt["shifts"], 0.0, atol=0.1)
    assert learnt["masks"].all()


def test_masks_that_only_act_while_fitting_raise_the_temperature():
    (logits, _), (classes, _) = coreset(0)
    plain, masked = (MaskedTemperature(masked=each, weighted=False).scaled(logits, classes) for each in (0.0, 0.3))
    assert masked["temperature"][0] > 1.2 * plain["temperature"][0]
    assert masked["weights"].sum() == masked["weights"][masked["masks"].all(axis=1)].sum() == 1.0


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"tas": 1.0}, r"got thresholds of tas; expected some of pr.*say thresholds=\{'pr': 10\}"),
        ({}, "got thresholds of nothing; expected some of pr"),
        ({"pr": [1.0, np.nan]}, "got thresholds of pr: .*; expected numbers"),
        ({"pr": 1e6}, "got events of pr that came true never or always .*; expected both"),
    ],
)
def test_thresholds_that_make_no_event_are_refused(rain, thresholds, words):
    with pytest.raises(InputError, match=words):
        Isotonic().fit(*(each.isel(time=slice(20)) for each in rain), thresholds)


def test_chances_are_refused_before_a_fit_of_other_variables_and_on_other_cells_than_those_of_groups(rain):
    ensemble, observed = (each.isel(time=slice(20)) for each in rain)
    with pytest.raises(InputError, match="learnt nothing; expected one after fit"):
        Isotonic().probability(ensemble)
    model = Isotonic().fit(ensemble, observed, {"pr": 5})
    with pytest.raises(InputError, match="got predictions of tas; expected some of pr"):
        model.probability(ensemble.rename(pr="tas"))
    half = ensemble.isel(y=slice(4))
    xr.testing.assert_identical(model.probability(half), model.probability(ensemble).isel(y=slice(4)))
    placed = Isotonic(groups=("region",)).fit(ensemble, observed, {"pr": 5})
    with pytest.raises(InputError, match=r"got predictions on \(4, 8\) cells; expected \(8, 8\)"):
        placed.probability(half)


@pytest.mark.parametrize(
    "wrong",
    [lambda: ErrorBounded(tolerance=0), lambda: ErrorBounded(windows=()), lambda: MaskedTemperature(masked=1.0)],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="expected a"):
        wrong()
