"""Calibrators keep what they promise: coverage on cases that they have not seen, in groups, with missing cells."""

import json

import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.calibration import CALIBRATORS
from finegrid.calibration import store as stored
from finegrid.calibration.conformal import Mondrian, QuantileBands, Split
from finegrid.calibration.crude import Crude
from finegrid.calibration.emos import EMOS, crps_normal
from finegrid.calibration.joint import Joint, MapBand
from finegrid.calibration.kernel import Pool, needed
from finegrid.calibration.members import chances, in_order_of, quantiles
from finegrid.calibration.recalibration import Recalibration
from finegrid.calibration.shifted import Shifted
from finegrid.calibration.spread import Spread
from finegrid.conventions import InputError
from finegrid.evaluation.coverage import coverage

SIDE, MEMBERS, TIMES = 4, 20, 700
# Their states are not those of a fit alone; they have tests of their own.
ONLINE = {"scale-free", "strongly-adaptive", "decaying", "reservoir"}
OFFLINE = [name for name in CALIBRATORS if name not in ONLINE]


def dataset(values: np.ndarray, first: int = 0, name: str = "tas", units: str = "K") -> xr.Dataset:
    dims = ("member", "time", "lat", "lon")[-values.ndim :]
    time = np.datetime64("2001-01-01", "ns") + np.arange(first, first + values.shape[-3]) * np.timedelta64(1, "D")
    north, east = (np.arange(size) * 1.0 for size in values.shape[-2:])
    coords = {
        "time": time,
        "lat": ("lat", north, {"units": "degrees_north"}),
        "lon": ("lon", east, {"units": "degrees_east"}),
    }
    return xr.Dataset({name: (dims, values.astype(np.float32), {"units": units})}, coords=coords)


def too_sure(first: int, *, times: int = TIMES, seed: int = 0, skewed: bool = False, members: int = MEMBERS):
    """Members that spread half as much as they err, by a size that differs from case to case, and the truth."""
    random = np.random.default_rng([seed, first])
    mean = 2 * random.standard_normal((times, SIDE, SIDE))
    size = np.exp(0.5 * random.standard_normal(mean.shape))
    error = random.gamma(2, 1, mean.shape) / np.sqrt(2) - 1 if skewed else random.standard_normal(mean.shape)
    drawn = mean + 0.5 * size * random.standard_normal((members, *mean.shape))
    return dataset(drawn, first), dataset(mean + size * error, first)


def inside(interval: xr.Dataset, truth: xr.Dataset, name: str = "tas") -> np.ndarray:
    low, high = interval[name].transpose("quantile", "time", "lat", "lon").values
    return (low <= truth[name].values) & (truth[name].values <= high)


# The kernel


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5)), max_size=40), st.floats(0.01, 0.99))
def test_quantiles_of_groups_are_those_of_their_definition(cases, level):
    groups, scores, weights = (
        (np.array(each, dtype=float) for each in zip(*cases, strict=True)) if cases else [np.zeros(0)] * 3
    )
    pool = Pool.of(scores, groups, 4, weights=weights)
    upper, lower = pool.upper(level), pool.lower(level)
    for group in range(4):
        own, mass = scores[groups == group], weights[groups == group]
        whole = mass.sum() + (mass.max() if len(mass) else 1)
        above = [each for each in own if mass[own <= each].sum() >= level * whole - 1e-9]
        below = [each for each in own if mass[own >= each].sum() >= (1 - level) * whole - 1e-9]
        assert upper[group] == min(above, default=np.inf)
        assert lower[group] == max(below, default=-np.inf)


def test_equal_weights_take_the_score_with_the_number_of_the_corrected_level():
    scores = np.random.default_rng(0).standard_normal(199)
    assert Pool.of(scores).upper(0.9)[0] == np.sort(scores)[180 - 1]  # ceil(0.9 * 200)
    assert Pool.of(scores[:9]).upper(0.9)[0] == scores[:9].max()
    assert np.isinf(Pool.of(scores[:8]).upper(0.9)[0])
    assert needed(0.9) == 9


# Members


def test_chances_and_quantiles_are_inverse():
    random = np.random.default_rng(0)
    members, truth = random.standard_normal((2, 15, 500))[0], 1.5 * random.standard_normal(500)
    found = chances(members, truth, random.random(500))
    known = (found > 1e-6) & (found < 1 - 1e-6)
    np.testing.assert_allclose(quantiles(members, found[None])[0][known], truth[known], rtol=1e-6, atol=1e-6)


def test_calibrated_members_keep_their_ranks():
    random = np.random.default_rng(0)
    raw = random.standard_normal((7, 5, 3, 3))
    made = in_order_of(np.sort(random.standard_normal(raw.shape), axis=0), raw)
    np.testing.assert_array_equal(made.argsort(axis=0), raw.argsort(axis=0))


def test_members_that_agree_are_put_in_one_order_everywhere():
    made = in_order_of(np.broadcast_to(np.arange(5.0)[:, None, None, None], (5, 2, 3, 3)), np.zeros((5, 2, 3, 3)))
    assert (made == made[:, :1, :1, :1]).all()


# What every calibrator has in common


@pytest.mark.parametrize("name", OFFLINE)
def test_intervals_hold_their_promise_on_other_cases(name):
    calibrator = CALIBRATORS[name]().fit(*too_sure(0))
    predicted, truth = too_sure(5000)
    found = calibrator.interval(predicted, 0.9)
    assert found["tas"].dims[0] == "quantile"
    assert found["tas"].attrs["units"] == "K"
    held = inside(found, truth)
    share = held.all(axis=(1, 2)).mean() if name == "map-band" else held.mean()
    # Kernels are for errors of one size; the box around a joint region is larger than it.
    wide = {"dressing": 0.03, "joint": 0.1, "map-band": 0.04, "multicalibrated": 1.0}.get(name, 0.012)
    assert abs(share - 0.9) < wide
    assert inside(predicted.quantile([0.05, 0.95], "member"), truth).mean() < 0.75


@pytest.mark.parametrize("name", OFFLINE)
def test_a_calibrator_comes_back_from_its_folder_as_it_was(name, tmp_path):
    calibrator, (predicted, _) = CALIBRATORS[name]().fit(*too_sure(0, times=300)), too_sure(5000, times=20)
    stored.save(calibrator, tmp_path, {"period": "2001"})
    again, facts = stored.load(tmp_path, CALIBRATORS)
    assert facts == {"period": "2001"}
    assert json.dumps(again.options) == json.dumps(calibrator.options)
    xr.testing.assert_identical(again.interval(predicted, 0.9), calibrator.interval(predicted, 0.9))
    content = (tmp_path / "calibration.safetensors").read_bytes()
    (tmp_path / "calibration.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="was changed"):
        stored.load(tmp_path, CALIBRATORS)


@pytest.mark.parametrize("name", OFFLINE)
def test_missing_cells_stay_missing_and_teach_nothing(name):
    predicted, truth = too_sure(0, times=300)
    calibrator = CALIBRATORS[name]().fit(predicted, truth)
    sea = xr.zeros_like(truth["tas"].isel(time=0), dtype=bool)
    sea[0, 0] = True
    wild = truth.assign(tas=xr.where(sea, 1e6, truth["tas"], keep_attrs=True).transpose("time", "lat", "lon"))
    holed = CALIBRATORS[name]().fit(predicted.where(~sea), wild)
    later, _ = too_sure(5000, times=20)
    whole, with_hole = (each.interval(later.where(~sea), 0.9)["tas"] for each in (calibrator, holed))
    assert with_hole.isel(lat=0, lon=0).isnull().all()
    known = with_hole.where(~sea, 0.0)
    assert np.isfinite(known).all()
    # One cell in sixteen less: nearly the same numbers.
    assert float(abs(known - whole.where(~sea, 0.0)).mean()) < 0.5


@pytest.mark.parametrize("name", ["crude", "recalibration", "spread-by-input", "map-band", "multicalibrated"])
def test_lazy_predictions_have_lazy_results_that_are_the_same(name):
    calibrator = CALIBRATORS[name](groups=["season"]).fit(*too_sure(0, times=400))
    later, _ = too_sure(5000, times=90)
    lazy = calibrator.interval(later.chunk(time=25, lat=2), 0.9)
    assert lazy["tas"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), calibrator.interval(later, 0.9))
    if calibrator.draws:
        xr.testing.assert_allclose(calibrator.apply(later.chunk(time=25)).compute(), calibrator.apply(later))


@pytest.mark.parametrize("name", OFFLINE)
def test_nothing_is_applied_before_it_was_fitted(name):
    with pytest.raises(InputError, match="has learnt nothing"):
        CALIBRATORS[name]().interval(too_sure(0, times=5)[0], 0.9)


@pytest.mark.parametrize("name", [name for name in OFFLINE if CALIBRATORS[name].draws])
def test_calibrated_members_are_nearer_to_the_truth_as_a_distribution(name):
    calibrator = CALIBRATORS[name]().fit(*too_sure(0))
    predicted, truth = too_sure(5000)
    made = calibrator.apply(predicted)
    assert made["tas"].sizes == predicted["tas"].sizes
    after, before = (
        scoringrules.crps_ensemble(
            truth["tas"].values, each["tas"].transpose("member", ...).values, m_axis=0, estimator="fair"
        ).mean()
        for each in (made, predicted)
    )
    assert after < (1.001 if name == "multicalibrated" else 0.96) * before


# Conformal sets


def test_split_is_the_textbook_formula():
    (predicted, truth), (later, _) = too_sure(0, members=1), too_sure(5000, members=1)
    found = Split().fit(predicted, truth).interval(later, 0.9)["tas"]
    scores = np.sort(np.abs(truth["tas"].values.astype(float) - predicted["tas"].values[0]).ravel())
    width = scores[int(np.ceil(0.9 * (len(scores) + 1))) - 1]
    np.testing.assert_allclose(found[1].values, later["tas"].values[0] + width, rtol=1e-6)
    np.testing.assert_allclose(found[0].values, later["tas"].values[0] - width, rtol=1e-6)


def test_every_group_has_its_own_coverage():
    random = np.random.default_rng(0)
    size = np.exp(np.arange(SIDE))[:, None] * (1 + np.arange(1400) // 350)[:, None, None]

    def cases(first):
        mean = random.standard_normal((1400, SIDE, SIDE))
        return dataset(mean, first), dataset(mean + size * random.standard_normal(mean.shape), first)

    (predicted, truth), (later, true) = cases(0), cases(3653)
    judged = {
        name: coverage(each.fit(predicted, truth).interval(later, 0.9), true, regions=2)["tas"]
        for name, each in {"split": Split(), "mondrian": Mondrian(regions=2)}.items()
    }
    departures = {
        name: max(abs(group.coverage - 0.9) for group in found.groups if group.cases >= 500)
        for name, found in judged.items()
    }
    assert len(judged["mondrian"].groups) == 16
    assert departures["mondrian"] <= 0.03 < departures["split"]


def test_bands_of_quantiles_are_for_the_levels_that_they_were_fitted_for():
    calibrator = QuantileBands(levels=[0.8]).fit(*too_sure(0, times=200))
    predicted, _ = too_sure(5000, times=5)
    with pytest.raises(InputError, match=r"of 90 %.*80 %"):
        calibrator.interval(predicted, 0.9)
    with pytest.raises(InputError, match="makes intervals alone"):
        calibrator.apply(predicted)


def test_too_few_cases_say_how_many_are_needed():
    predicted, truth = too_sure(0, times=1)
    calibrator = Split(groups=["cell"]).fit(predicted, truth)
    with pytest.raises(InputError, match=r"got 1 calibration cases.*at least 9"):
        calibrator.interval(predicted, 0.9)


def test_weights_make_up_for_another_weather():
    random = np.random.default_rng(1)

    def cases(first, warmer):
        mean = warmer + random.standard_normal((800, SIDE, SIDE))
        return dataset(mean, first), dataset(mean + np.exp(0.5 * mean) * random.standard_normal(mean.shape), first)

    (predicted, truth), (later, true) = cases(0, 0.0), cases(5000, 1.0)
    plain = Shifted().fit(predicted, truth)
    adapted = Shifted().fit(predicted, truth).adapt(later)
    assert inside(plain.interval(later, 0.9), true).mean() < 0.8
    assert abs(inside(adapted.interval(later, 0.9), true).mean() - 0.9) < 0.03
    assert adapted.effective["tas"] < 0.6 * plain.effective["tas"]


# Joint regions


def bimodal(first: int, *, times: int = 300) -> tuple[xr.Dataset, xr.Dataset]:
    random = np.random.default_rng(first)

    def vectors(*shape):
        sign = np.where(random.random(shape) < 0.5, 3.0, -3.0)
        return [sign + 0.5 * random.standard_normal(shape) for _ in range(2)]

    drawn, truth = vectors(60, times, 3, 3), vectors(times, 3, 3)
    both = [
        xr.merge([dataset(each, first, name) for each, name in zip(pair, ("ua", "va"), strict=True)])
        for pair in (drawn, truth)
    ]
    return both[0], both[1]


def test_a_joint_region_has_the_shape_of_the_members():
    calibrator = Joint().fit(*bimodal(0))
    predicted, truth = bimodal(5000)
    assert abs(float(calibrator.contains(predicted, truth).mean()) - 0.9) < 0.015
    box = np.prod([np.ptp(np.quantile(truth[name].values, [0.025, 0.975])) for name in ("ua", "va")])
    area = float(calibrator.area(predicted.isel(time=slice(20))).mean())
    assert area < 0.7 * box
    assert area > 0.05 * box


def test_a_band_holds_whole_maps():
    random = np.random.default_rng(0)

    def cases(first):
        mean = random.standard_normal((600, 6, 6))
        return dataset(mean, first), dataset(mean + random.standard_normal(mean.shape).cumsum(axis=2), first)

    (predicted, truth), (later, true) = cases(0), cases(5000)
    band = MapBand().fit(predicted, truth).interval(later, 0.9)
    assert abs(inside(band, true).all(axis=(1, 2)).mean() - 0.9) < 0.04
    single = Split(groups=["cell"]).fit(predicted, truth).interval(later, 0.9)
    assert inside(single, true).all(axis=(1, 2)).mean() < 0.5


# Scale and shape


def test_a_spread_that_is_half_of_what_it_should_be_is_doubled():
    predicted, truth = too_sure(0, times=1500)
    calibrator = Spread().fit(predicted, truth)
    assert abs(calibrator.state()[1]["tas/factor"][0] - 2.0) < 0.06
    made = calibrator.apply(predicted)
    np.testing.assert_allclose(made["tas"].mean("member"), predicted["tas"].mean("member"), atol=1e-4)


@pytest.mark.parametrize(
    "calibrator", [Crude(), Recalibration(), Recalibration(map="linear"), Recalibration(map="smoothed")]
)
def test_ten_quantiles_hold_for_skewed_errors(calibrator):
    levels = np.arange(1, 11) / 11
    calibrator.fit(*too_sure(0, times=1500, skewed=True))
    predicted, truth = too_sure(9000, times=1500, skewed=True)
    found = calibrator.quantiles(predicted, levels)["tas"].transpose("quantile", ...).values
    wrong = np.abs((truth["tas"].values <= found).mean(axis=(1, 2, 3)) - levels)
    assert wrong.max() <= 0.012
    raw = Spread().fit(*too_sure(0, times=1500, skewed=True)).quantiles(predicted, levels)["tas"]
    assert (
        np.abs((truth["tas"].values <= raw.transpose("quantile", ...).values).mean(axis=(1, 2, 3)) - levels).max() > 0.1
    )


def test_a_factor_that_knows_the_weather_halves_the_errors_of_its_regimes():
    def cases(first):
        random = np.random.default_rng(first)
        mean = 2 * random.standard_normal((1000, SIDE, SIDE))
        size = np.where(mean > 1, 3.0, np.where(mean < -1, 0.7, 1.5))
        drawn = mean + random.standard_normal((MEMBERS, *mean.shape))
        return dataset(drawn, first), dataset(mean + size * random.standard_normal(mean.shape), first), mean

    (predicted, truth, _), (later, true, mean) = cases(0), cases(5000)
    wrong = {}
    for name in ("spread", "spread-by-input"):
        held = inside(CALIBRATORS[name]().fit(predicted, truth).interval(later, 0.9), true)
        wrong[name] = [abs(held[regime].mean() - 0.9) for regime in (mean > 1, mean < -1, abs(mean) <= 1)]
    assert max(wrong["spread-by-input"]) < 0.5 * max(wrong["spread"])


def test_recalibration_is_conformal_in_the_limit():
    predicted, truth = too_sure(0, times=1500)
    later, _ = too_sure(9000, times=50)
    one, other = (
        Recalibration(map=each).fit(predicted, truth).quantiles(later, [0.1, 0.5, 0.9])
        for each in ("empirical", "linear")
    )
    assert float(abs(one["tas"] - other["tas"]).max()) < 0.02


@pytest.mark.parametrize("censored", [False, True])
def test_the_closed_form_of_the_crps_is_that_of_scoringrules(censored):
    random = np.random.default_rng(0)
    mean, spread, truth = random.standard_normal(200), random.random(200) + 0.2, random.standard_normal(200)
    truth = np.maximum(truth, 0) if censored else truth
    found, of_mean, of_spread = crps_normal(mean, spread, truth, censored=censored)
    right = (
        scoringrules.crps_cnormal(truth, mean, spread, lower=0.0)
        if censored
        else scoringrules.crps_normal(truth, mean, spread)
    )
    np.testing.assert_allclose(found, right, atol=1e-10)
    for slope, change in ((of_mean, (1e-6, 0.0)), (of_spread, (0.0, 1e-6))):
        more, less = (
            crps_normal(mean + sign * change[0], spread + sign * change[1], truth, censored=censored)[0]
            for sign in (1, -1)
        )
        np.testing.assert_allclose((more - less) / 2e-6, slope, atol=1e-5)


def test_emos_finds_the_numbers_of_its_distribution():
    random = np.random.default_rng(0)
    centre, size = random.standard_normal((1500, SIDE, SIDE)), np.exp(0.4 * random.standard_normal((1500, SIDE, SIDE)))
    drawn = centre + size * random.standard_normal((100, *centre.shape))
    truth = 1.0 + 0.5 * centre + np.sqrt(0.3**2 + (0.8 * size) ** 2) * random.standard_normal(centre.shape)
    state = EMOS().fit(dataset(drawn), dataset(truth)).state()[1]
    a, b, c, d = np.abs(state["tas/numbers"][0])
    scale = state["tas/scale"][0]
    np.testing.assert_allclose([a * scale, b, d], [1.0, 0.5, 0.8], atol=0.03)
    assert abs(c * scale - 0.3) < 0.15


def test_emos_of_rain_has_dry_days():
    random = np.random.default_rng(0)
    wet = random.standard_normal((30, 800, SIDE, SIDE)) + random.standard_normal((800, SIDE, SIDE))
    rain = np.maximum(wet, 0) ** 2
    predicted, truth = (dataset(each, name="pr", units="mm/day") for each in (rain[1:], rain[0]))
    made = EMOS().fit(predicted, truth).apply(predicted)["pr"]
    assert float(made.min()) == 0
    # Of members that are all dry it is not known how dry they are: the distribution is right but for that.
    assert abs(float((made == 0).mean()) - float((truth["pr"] == 0).mean())) < 0.06


# Bad input


def test_different_grids_are_refused():
    predicted, truth = too_sure(0, times=20)
    with pytest.raises(InputError, match="different grids"):
        Split().fit(predicted, truth.isel(lat=slice(1, None)))


def test_no_common_time_and_no_common_variable_are_refused():
    predicted, truth = too_sure(0, times=20)
    with pytest.raises(InputError, match="without a time in common"):
        Split().fit(predicted, truth.assign_coords(time=truth.time + np.timedelta64(900, "D")))
    with pytest.raises(InputError, match="a variable in common"):
        Split().fit(predicted, truth.rename(tas="ps"))


def test_units_are_converted():
    predicted, truth = too_sure(0, times=200)
    celsius = truth.assign(tas=(truth["tas"] - 273.15).assign_attrs(units="degC"))
    one, other = (Split().fit(predicted, each).interval(predicted, 0.9)["tas"] for each in (truth, celsius))
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_single_prediction_has_no_spread_to_calibrate():
    predicted, truth = too_sure(0, times=50, members=1)
    with pytest.raises(InputError, match=r"got 1 member.*at least 2"):
        Crude().fit(predicted, truth)


def test_a_level_that_is_none_is_refused():
    calibrator = Split().fit(*too_sure(0, times=50))
    with pytest.raises(InputError, match="numbers between 0 and 1"):
        calibrator.interval(too_sure(0, times=5)[0], 90)
