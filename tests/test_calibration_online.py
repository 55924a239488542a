"""Online calibrators against the published algorithms in plain loops, and streams whose right answer is known."""

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrid.calibration.conformal import Split
from finegrid.calibration.kernel import Pool
from finegrid.calibration.online import Decaying, Reservoir, ScaleFree, StronglyAdaptive
from finegrid.calibration.online.arrivals import Arrivals
from finegrid.conventions import InputError

VARIANTS = {
    "scale-free": ScaleFree,
    "strongly-adaptive": StronglyAdaptive,
    "decaying": lambda **options: Decaying(**{"window": 60, **options}),
    "reservoir": lambda **options: Reservoir(**{"window": 60, "units": 16, **options}),
}
BY_CELL = ("scale-free", "strongly-adaptive", "decaying")


def fields(values, start=0, hours=None, *, members=False):
    """A Dataset of t2m (time, lat, lon) at hours from a start on; (member, time, lat, lon) with members."""
    values = np.asarray(values, np.float32)
    values = values[:, None, None] if values.ndim == 1 else values
    hours = start + np.arange(values.shape[-3]) if hours is None else hours
    time = np.datetime64("2001-01-01", "ns") + np.timedelta64(1, "h") * np.asarray(hours)
    rows, columns = values.shape[-2:]
    dims = (*(("member",) if members else ()), "time", "lat", "lon")
    return xr.Dataset(
        {"t2m": (dims, values, {"units": "K"})},
        coords={
            "time": time,
            "lat": ("lat", 45 + 0.25 * np.arange(rows), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 5 + 0.25 * np.arange(columns), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def noise(count, *cells, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *cells))


def stream(errors, mean=280.0):
    """Predictions and truths with these errors."""
    mean = np.broadcast_to(mean, np.shape(errors))
    return fields(mean), fields(mean + errors)


def cut(ensemble, observed, start, stop=None):
    return ensemble.isel(time=slice(start, stop)), observed.isel(time=slice(start, stop))


def ends(band):
    return band["t2m"].values.astype(np.float64)


def inside(band, observed):
    low, high = ends(band)
    return ((observed["t2m"].values >= low) & (observed["t2m"].values <= high)).ravel()


def winkler(band, observed, level=0.9):
    (low, high), truth = ends(band), observed["t2m"].values
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return float((high - low + 2 / (1 - level) * outside).mean())


def worst_window(hits, length=100, level=0.9):
    return np.abs(np.convolve(hits, np.ones(length) / length, "valid") - level).max()


def pinball(scores, radius, level=0.9):
    return np.maximum(level * (scores - radius), (level - 1) * (scores - radius))


def present(calibrator, shape=(1, 1), level=0.9):
    return ends(calibrator.interval(fields(np.full((1, *shape), 280.0)), level))[:, 0]


# The published algorithms, case by case.


def plain_scale_free(scores, level, scale, radius):
    squares, issued = 0.0, []
    for score in scores:
        issued.append(radius)
        slope = -level if score > radius else 1 - level
        squares += slope**2
        radius = max(0.0, radius - scale / np.sqrt(3) * slope / np.sqrt(squares))
    return [*issued, radius]


def plain_strongly_adaptive(scores, level, scale, radius, lifetime=8):
    """SAOCP with one object per expert; gives the radius before each score, and after the last."""

    def bet(expert):
        return 0.0 if expert["lived"] == 0 else expert["gain"] / expert["lived"] * (1 + expert["won"])

    def mixed(experts):
        prior = {born: 1 / (born**2 * (1 + np.floor(np.log2(born)))) for born in experts}
        share = {born: prior[born] * max(0.0, bet(experts[born])) for born in experts}
        share = share if sum(share.values()) > 0 else prior
        return sum(share[born] * experts[born]["radius"] for born in experts) / sum(share.values())

    def newborn(radius):
        return {"radius": radius, "squares": 0.0, "gain": 0.0, "won": 0.0, "lived": 0}

    def life(born):
        return lifetime * (born & -born)

    experts, issued = {1: newborn(radius)}, []
    for time, score in enumerate(scores, start=1):
        issued.append(radius)
        for expert in experts.values():
            wager = bet(expert)
            gain = (pinball(score, radius, level) - pinball(score, expert["radius"], level)) / scale
            gain = np.clip(gain / max(level, 1 - level), -1.0 if wager > 0 else 0.0, 1.0)
            expert["gain"], expert["won"] = expert["gain"] + gain, expert["won"] + gain * wager
            expert["lived"] += 1
            slope = -level if score > expert["radius"] else 1 - level
            expert["squares"] += slope**2
            step = scale / np.sqrt(3) * slope / np.sqrt(expert["squares"])
            expert["radius"] = max(0.0, expert["radius"] - step)
        experts = {born: expert for born, expert in experts.items() if time + 1 < born + life(born)}
        radius = mixed(experts)
        experts[time + 1] = newborn(radius)
    return [*issued, radius]


@pytest.mark.parametrize(
    ("calibrator", "plain"), [(ScaleFree(), plain_scale_free), (StronglyAdaptive(), plain_strongly_adaptive)]
)
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_radius_is_that_of_the_published_algorithm_case_by_case(calibrator, plain, level):
    errors = noise(400) * np.repeat([1.0, 4.0], 200)
    ensemble, observed = stream(errors)
    calibrator.fit(*cut(ensemble, observed, 0, 100))
    followed = calibrator.follow(*cut(ensemble, observed, 100), level)
    scores = np.abs(observed["t2m"].values - 280.0).ravel().astype(np.float64)
    start = np.quantile(scores[:100], level)
    expected = plain(scores, level, np.sqrt(3) * scores[:100].max(), start)
    low, high = ends(followed)[:, :, 0, 0]
    np.testing.assert_allclose((high - low) / 2, expected[100:-1], atol=5e-5)
    assert np.ptp(expected[100:]) > 1


def test_decaying_without_decay_is_split_conformal():
    ensemble, observed = stream(noise(150))
    decaying = Decaying(decay=1.0, window=150).fit(ensemble, observed)
    split = Split().fit(ensemble, observed)
    np.testing.assert_allclose(present(decaying), present(split))


def test_decaying_weighs_a_score_by_its_age():
    ensemble, observed = stream(noise(130))
    decaying = Decaying(decay=0.95, window=100).fit(ensemble, observed)
    scores = np.abs(observed["t2m"].values - 280.0).ravel()[-100:]
    weights = 0.95 ** np.arange(100, 0, -1)
    pool = Pool.of(scores, weights=weights, own=1.0)
    for level in np.arange(0.1, 0.91, 0.02):
        assert present(decaying, level=level)[1] - 280.0 == pytest.approx(pool.upper(level)[0], abs=1e-4)


# Streams whose right answer is known.


@pytest.mark.parametrize("seed", [0, 1])
def test_strongly_adaptive_stays_honest_where_the_variance_jumps_three_times(seed):
    deviation = np.repeat([1.0, 3.0, 0.5, 2.0], [1500, 1000, 1000, 1000])
    ensemble, observed = stream(deviation * noise(len(deviation), seed=seed))
    first, later = cut(ensemble, observed, 0, 500), cut(ensemble, observed, 500)
    split = inside(Split().fit(*first).interval(later[0]), later[1])
    adaptive = inside(StronglyAdaptive().fit(*first).follow(*later), later[1])
    assert worst_window(adaptive) <= worst_window(split) / 2
    assert adaptive.mean() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("calibrator", [ScaleFree(levels=[0.9]), StronglyAdaptive(levels=[0.9])])
def test_regret_of_the_pinball_loss_grows_more_slowly_than_time(calibrator):
    ensemble, observed = stream(noise(4500, 2, 4, seed=2))
    later = cut(ensemble, observed, 500)
    low, high = ends(calibrator.fit(*cut(ensemble, observed, 0, 500)).follow(*later))
    scores, regret = np.abs(later[1]["t2m"].values - 280.0), {}
    for time in (500, 4000):
        best = np.quantile(scores[:time], 0.9, axis=0)
        regret[time] = (
            (pinball(scores[:time], (high - low)[:time] / 2) - pinball(scores[:time], best)).sum(axis=0).mean()
        )
    # Eight times the time: 2.8 by the bound of the theory, sqrt(T); 8 would be linear.
    assert 0 < regret[4000] < 8**0.9 * regret[500]


def test_scale_free_covers_in_the_long_run_whatever_the_scale_does():
    deviation = np.exp(np.sin(np.arange(5000) / 300)) * np.linspace(1, 3, 5000)
    ensemble, observed = stream(deviation * noise(5000, seed=3))
    calibrator = ScaleFree().fit(*cut(ensemble, observed, 0, 1000))
    later = cut(ensemble, observed, 1000)
    for level in (0.5, 0.9):
        fresh = ScaleFree().remember(["t2m"], calibrator.state()[1])
        assert inside(fresh.follow(*later, level), later[1]).mean() == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_reservoir_knows_the_regime_by_what_the_residuals_did(seed):
    chance = np.random.default_rng(seed)
    regime = np.cumsum(chance.random(8000) < 1 / 400) % 2
    truth = np.zeros(8000)
    for time in range(1, 8000):
        truth[time] = 0.8 * truth[time - 1] + (0.5, 2.5)[regime[time]] * chance.standard_normal()
    ensemble, observed = fields(280 + 0.8 * np.append(0, truth[:-1])), fields(280 + truth)
    first, later = cut(ensemble, observed, 0, 1000), cut(ensemble, observed, 1000)
    band = Reservoir().fit(*first).follow(*later)
    hits = inside(band, later[1])
    assert hits.mean() == pytest.approx(0.9, abs=0.015)
    for number in (0, 1):
        assert hits[regime[1000:] == number].mean() == pytest.approx(0.9, abs=0.03)
    assert winkler(band, later[1]) < winkler(Split().fit(*first).interval(later[0]), later[1])
    assert winkler(band, later[1]) < winkler(Decaying().fit(*first).follow(*later), later[1])


def test_reservoir_that_finds_all_times_alike_takes_the_plain_quantiles_of_its_window():
    ensemble, observed = stream(noise(150))
    reservoir = Reservoir(temperature=1e9, window=100).fit(ensemble, observed)
    residuals = observed["t2m"].values.ravel()[-100:] - 280.0
    expected = [Pool.of(residuals).between(chance)[0] for chance in (0.05, 0.95)]
    np.testing.assert_allclose(present(reservoir)[:, 0, 0] - 280.0, expected, atol=1e-4)


# What all have in common.


@pytest.mark.parametrize("name", VARIANTS)
def test_an_interval_is_issued_before_the_truth_of_its_time_is_known(name):
    ensemble, observed = stream(noise(160, 2, 2))
    other = observed.copy(deep=True)
    other["t2m"][120:] += 30.0
    start = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100)).state()[1]
    bands = [
        ends(VARIANTS[name]().remember(["t2m"], start).follow(*cut(ensemble, truth, 100)))
        for truth in (observed, other)
    ]
    np.testing.assert_array_equal(bands[0][:, :21], bands[1][:, :21])
    assert (bands[0][:, 21] != bands[1][:, 21]).any()


@pytest.mark.parametrize("name", VARIANTS)
def test_following_is_asking_and_then_learning_time_by_time(name):
    ensemble, observed = stream(noise(112, 2, 2))
    whole, single = (VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100)) for _ in range(2))
    followed = ends(whole.follow(*cut(ensemble, observed, 100), 0.8))
    for time in range(100, 112):
        prediction, truth = cut(ensemble, observed, time, time + 1)
        np.testing.assert_allclose(ends(single.interval(prediction, 0.8))[:, 0], followed[:, time - 100], atol=1e-4)
        single.update(prediction, truth)
    np.testing.assert_allclose(present(whole, (2, 2)), present(single, (2, 2)), atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_learning_in_two_halves_is_learning_in_one(name):
    ensemble, observed = stream(noise(300, 2, 3))
    one = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100)).update(*cut(ensemble, observed, 100))
    two = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    two.update(*cut(ensemble, observed, 100, 217)).update(*cut(ensemble, observed, 217))
    for key, array in one.state()[1].items():
        np.testing.assert_allclose(two.state()[1][key], array, rtol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_calibrator_goes_on_from_its_state_as_if_it_had_never_stopped(name):
    ensemble, observed = stream(noise(250, 2, 2))
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 150))
    about, arrays = calibrator.state()
    back = VARIANTS[name](**about["options"]).remember(about["variables"], arrays)
    bands = [ends(each.follow(*cut(ensemble, observed, 150))) for each in (calibrator, back)]
    np.testing.assert_array_equal(*bands)
    with pytest.raises(InputError, match="expected times later than 2001-01-11T09:00:00"):
        back.update(*cut(ensemble, observed, 200))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_that_was_handed_out_stays_as_it_was(name):
    ensemble, observed = stream(noise(200))
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    handed = calibrator.state()[1]
    before = {key: array.copy() for key, array in handed.items()}
    calibrator.update(*cut(ensemble, observed, 100))
    for key, array in before.items():
        np.testing.assert_array_equal(handed[key], array)


@pytest.mark.parametrize("name", VARIANTS)
def test_times_without_truth_teach_nothing(name):
    ensemble, observed = stream(noise(120, 2, 2))
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    before = present(calibrator, (2, 2))
    calibrator.update(*cut(ensemble, observed * np.nan, 100))
    np.testing.assert_array_equal(present(calibrator, (2, 2)), before)


@pytest.mark.parametrize("name", BY_CELL)
def test_a_cell_with_gaps_learns_as_if_the_gaps_had_never_been(name):
    errors = noise(250)
    ensemble, observed = stream(np.repeat(errors[:, None, None], 2, axis=2))
    gaps = noise(150, seed=1) > 0.3
    gappy = observed.copy(deep=True)
    gappy["t2m"].values[100:, 0, 1][gaps] = np.nan
    with_gaps = VARIANTS[name]().fit(*cut(ensemble, gappy, 0, 100)).update(*cut(ensemble, gappy, 100))
    known = np.flatnonzero(~gaps)
    without = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    without.update(*(each.isel(time=100 + known) for each in (ensemble, observed)))
    full = VARIANTS[name]().fit(ensemble, observed) if name == "decaying" else None
    np.testing.assert_array_equal(present(with_gaps, (1, 2))[:, :, 1], present(without, (1, 2))[:, :, 1])
    if full is not None:
        np.testing.assert_array_equal(present(with_gaps, (1, 2))[:, :, 0], present(full, (1, 2))[:, :, 0])


@pytest.mark.parametrize("name", VARIANTS)
def test_cells_never_seen_have_intervals_as_wide_as_those_of_the_rest(name):
    errors = noise(150, 2, 2)
    errors[:, 0, 0] = np.nan
    ensemble, observed = fields(np.full((150, 2, 2), 280.0)), fields(280 + errors)
    low, high = present(VARIANTS[name]().fit(ensemble, observed), (2, 2))
    assert (high - low)[0, 0] == pytest.approx((high - low).ravel()[1:].mean(), rel=0.35)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("groups", [(), ("region",), ("season",), ("region", "regime")])
def test_groups_of_cells_and_times_learn_together(name, groups):
    scale = np.ones((4, 4)) * np.where(np.arange(4) < 2, 1.0, 3.0)
    ensemble, observed = stream(scale * noise(400, 4, 4), 280 + np.arange(4) % 2)
    calibrator = VARIANTS[name](groups=groups, regions=2, regimes=2).fit(*cut(ensemble, observed, 0, 200))
    later = cut(ensemble, observed, 200)
    band = calibrator.follow(*later)
    assert inside(band, later[1]).mean() == pytest.approx(0.9, abs=0.05)
    widths = np.diff(ends(band), axis=0)[0].mean(axis=0)
    ratio = widths[:, 2:].mean() / widths[:, :2].mean()
    assert ratio == pytest.approx(3.0, rel=0.25) if "region" in groups else ratio == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_state_of_a_stream_is_bounded(name):
    errors = noise(4000, 2, 2)
    ensemble, observed = stream(errors)
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 200))
    sizes = []
    for start, stop in ((200, 2000), (2000, 4000)):
        calibrator.update(*cut(ensemble, observed, start, stop))
        sizes.append(sum(array.size for array in calibrator.state()[1].values()))
    # Twice the time is one more u: half a lifetime of slots of four arrays over 4 levels and two over none.
    slots = 4 * (4 * 4 + 2) * 4 if name == "strongly-adaptive" else 0
    assert sizes[1] <= sizes[0] + slots


@pytest.mark.parametrize("name", VARIANTS)
def test_members_and_other_calendars_do_as_well(name):
    members = 280 + noise(150, 1, 1)[None] + noise(5, 150, 1, 1, seed=1)
    ensemble, observed = fields(members, members=True), fields(280 + noise(150))
    time = [cftime.DatetimeNoLeap(2001, 1, 1 + day % 28, hour=day // 28) for day in range(150)]
    ensemble, observed = (each.assign_coords(time=sorted(time)) for each in (ensemble, observed))
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    band = calibrator.follow(*cut(ensemble, observed, 100))
    assert band["t2m"].dims == ("quantile", "time", "lat", "lon")
    np.testing.assert_allclose(band["quantile"], [0.05, 0.95])
    assert np.isfinite(ends(band)).all()
    with pytest.raises(InputError, match="for members; it makes intervals alone"):
        calibrator.apply(ensemble)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(-1, 4), st.floats(0, 9)), max_size=20))
def test_means_of_groups_are_those_of_their_cases(cases):
    place = np.array([case[0] for case in cases], dtype=np.int64)
    scores = np.array([case[1] for case in cases])
    arrived = Arrivals.of(scores, place, 5)
    expected = [scores[place == group].mean() if (place == group).any() else 0.0 for group in range(5)]
    np.testing.assert_allclose(arrived.means(arrived.scores), expected)
    np.testing.assert_array_equal(arrived.spread(np.arange(5.0)), np.sort(place[place >= 0]))


# Words for what cannot be.


@pytest.mark.parametrize("name", VARIANTS)
def test_truth_out_of_order_is_refused_and_changes_nothing(name):
    ensemble, observed = stream(noise(150))
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    before = present(calibrator)
    for start in (0, 99):
        with pytest.raises(
            InputError, match=r"got cases of t2m from .*; expected times later than 2001-01-05T03:00:00"
        ):
            calibrator.follow(*cut(ensemble, observed, start))
    np.testing.assert_array_equal(present(calibrator), before)


@pytest.mark.parametrize("name", VARIANTS)
def test_other_cells_and_a_calibrator_without_cases_are_refused(name):
    ensemble, observed = stream(noise(150, 2, 2))
    with pytest.raises(InputError, match="has learnt nothing"):
        VARIANTS[name]().update(ensemble, observed)
    calibrator = VARIANTS[name]().fit(*cut(ensemble, observed, 0, 100))
    with pytest.raises(InputError, match=r"got predictions on \(1, 1\) cells"):
        calibrator.update(*cut(*stream(noise(150)), 100))
    if name in ("decaying", "reservoir"):
        calibrator = VARIANTS[name](groups=()).fit(*cut(ensemble, observed, 0, 100))
        with pytest.raises(InputError, match=r"got predictions on \(1, 1\) cells"):
            calibrator.update(*cut(*stream(noise(150)), 100))
    with pytest.raises(InputError, match="got shrink: 5"):
        VARIANTS[name](shrink=5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ScaleFree(levels=[]), "got levels"),
        (lambda: StronglyAdaptive(lifetime=7), "got lifetime: 7; expected an even number"),
        (lambda: Decaying(decay=1.5), "got decay: 1.5"),
        (lambda: Reservoir(radius=1.0), "got radius: 1,"),
        (lambda: Reservoir(window=0), "window: 0"),
        (
            lambda: ScaleFree().fit(*stream(noise(50))).interval(fields(np.zeros(1)), 0.7),
            r"fit it with levels: \[0.7\]",
        ),
        (lambda: Decaying(decay=0.8).fit(*stream(noise(50))).interval(fields(np.zeros(1))), "expected the weight of 9"),
        (lambda: Reservoir().fit(*stream(noise(15))).interval(fields(np.zeros(1))), "expected at least 19"),
        (lambda: Reservoir().fit(*stream(noise(15) * np.nan)), "got no case"),
        (lambda: ScaleFree().fit(*stream(noise(15) * np.nan)), "got no case"),
    ],
)
def test_what_cannot_be_is_said_in_words(make, words):
    with pytest.raises(InputError, match=words):
        make()
