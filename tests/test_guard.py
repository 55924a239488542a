"""A guard that remembers training input and knows input of another kind."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.fft import dctn
from scipy.spatial.distance import cdist

from finegrid.conventions import InputError, harmonise
from finegrid.evaluation.guard import Guard
from finegrid.evaluation.guard.chances import Chances, independent
from finegrid.evaluation.guard.figure import drawn
from finegrid.evaluation.guard.plan import Plan, alike, stride
from finegrid.evaluation.guard.traits import KINDS, measured, traits_of
from finegrid.evaluation.guard.usual import FOLDS, LEVEL, TESTS, Blocks, Rows, block_energies
from finegrid.grids import Grid

DAY = np.timedelta64(1, "D")


def weather(
    times: int,
    *,
    start: str = "2001-01-01",
    seed: int = 0,
    season: float = 0.0,
    size: tuple[int, int] = (6, 8),
    wide: float = 1.0,
) -> xr.Dataset:
    """Daily tas (K) and pr (mm/day): days resemble their neighbours, and rain falls where it is cold."""
    random = np.random.default_rng(seed)
    noise = wide * random.standard_normal((times + 50, 1, 1)) + 0.7 * random.standard_normal((times + 50, *size))
    weather = np.zeros_like(noise)
    for day in range(1, len(noise)):
        weather[day] = 0.6 * weather[day - 1] + noise[day]
    weather = weather[50:]
    time = np.datetime64(start, "ns") + np.arange(times) * DAY
    phase = np.cos(2 * np.pi * (xr.DataArray(time, dims="time").dt.dayofyear.values - 15) / 365.25)
    relief = np.linspace(0, 4, size[1])[None, None]
    tas = 283 - season * phase[:, None, None] + 2 * weather - relief
    pr = np.maximum(random.standard_normal(weather.shape) - weather, 0) ** 2
    return xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), tas.astype(np.float32), {"units": "K"}),
            "pr": (("time", "lat", "lon"), pr.astype(np.float32), {"units": "mm/day"}),
        },
        coords={
            "time": time,
            "lat": ("lat", 45.0 + np.arange(size[0]), {"units": "degrees_north"}),
            "lon": ("lon", 5.0 + np.arange(size[1]), {"units": "degrees_east"}),
        },
    )


def changed(fields: xr.Dataset, **change) -> xr.Dataset:
    """Fields with some variables changed, which keep their units."""
    return fields.assign({name: each(fields[name]).assign_attrs(fields[name].attrs) for name, each in change.items()})


@pytest.fixture(scope="module")
def training() -> xr.Dataset:
    return weather(720)


@pytest.fixture(scope="module")
def guard(training: xr.Dataset) -> Guard:
    return Guard.fit(training, seasonal=False)


@pytest.fixture(scope="module")
def later() -> xr.Dataset:
    return weather(60, start="2004-01-01", seed=1)


def test_traits_are_those_of_a_slow_loop_over_times_and_known_cells():
    fields, _ = harmonise(weather(8))
    fields["tas"][1, 2, 3] = np.nan
    found = measured(fields, ["tas", "pr"], np.arange(8), np.zeros(8, int), 1)
    area = Grid.of(fields).area.ravel()
    for time in range(8):
        tas, pr = (fields[name].values[time].ravel().astype(np.float64) for name in ("tas", "pr"))
        known = np.isfinite(tas)
        mean = np.average(tas[known], weights=area[known])
        order = np.argsort(tas[known])
        share = area[known][order].cumsum() / area[known].sum()
        row = dict(zip(KINDS, found.traits[time, : len(KINDS)], strict=True))
        assert row["mean"] == pytest.approx(mean)
        assert row["deviation"] == pytest.approx(np.sqrt(np.average((tas[known] - mean) ** 2, weights=area[known])))
        for kind, level in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
            assert row[kind] == tas[known][order][np.flatnonzero(share >= level)[0]]
        if known.all() and pr.std() > 0:  # with gaps each variable is taken about its own mean
            (own, both), (_, other) = np.cov(tas, pr, aweights=area)
            assert found.traits[time, -1] == pytest.approx(both / np.sqrt(own * other))
        elif known.all():
            assert np.isnan(found.traits[time, -1])
    assert [trait.variables for trait in traits_of(["tas", "pr"])][-1] == ("tas", "pr")


def test_fine_amplitude_is_that_of_waves_of_two_to_four_cells_and_needs_complete_fields():
    fields, _ = harmonise(weather(3))
    fields["pr"][1, 0, 0] = np.nan
    found = measured(fields, ["tas", "pr"], np.arange(3), np.zeros(3, int), 1)
    ny, nx = 6, 8
    power = dctn(fields["tas"].values[2].astype(np.float64), norm="ortho") ** 2 / (ny * nx)
    fine = sum(power[m, n] for m in range(ny) for n in range(nx) if (m / ny) ** 2 + (n / nx) ** 2 >= 0.25)
    assert found.traits[2, KINDS.index("fine")] == pytest.approx(np.sqrt(fine), rel=1e-6)
    missing = found.traits[:, len(KINDS) + KINDS.index("fine")]
    assert np.isnan(missing[1]) and np.isfinite(missing[[0, 2]]).all()
    pr = fields["pr"].values[1].astype(np.float64)
    steps = [pr[j, i + 1] - pr[j, i] for j in range(ny) for i in range(nx - 1)]
    steps += [pr[j + 1, i] - pr[j, i] for j in range(ny - 1) for i in range(nx)]
    assert found.neighbours[1, 1] == pytest.approx(np.sqrt(np.nanmean(np.square(steps))))


@pytest.mark.parametrize("length", [1, 3, 10])
def test_energy_distances_of_blocks_are_those_of_a_slow_loop(length):
    rows = np.random.default_rng(0).standard_normal((40, 3))
    found = block_energies(cdist(rows, rows), length)
    for start, value in enumerate(found):
        inside = rows[start : start + length]
        rest = np.delete(rows, np.arange(start, start + length), axis=0)
        expected = 2 * cdist(inside, rest).mean() - cdist(inside, inside).mean() - cdist(rest, rest).mean()
        assert value == pytest.approx(expected)
    assert len(found) == 40 - length + 1


def test_the_energy_distance_of_new_input_is_that_of_its_formula():
    random = np.random.default_rng(0)
    old, new = random.standard_normal((50, 2)), random.standard_normal((7, 2)) + 1
    blocks = Blocks.of(Rows(old, np.zeros((50, 1))), 7, [0, 1])
    x, y = (each / old.std(axis=0) for each in (new, old))
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert blocks.findings([Rows(new, np.zeros((7, 1)))])["distance"].value == pytest.approx(expected)


@given(
    st.integers(0, 1000),
    st.integers(20, 400),
    st.sampled_from([1, 2, 7]),
    st.booleans(),
    st.sampled_from([0.05, 0.003]),
)
def test_a_value_beyond_the_limit_is_as_improbable_as_the_limit_says(seed, number, parts, skewed, level):
    logs = np.random.default_rng(seed).standard_normal(number)
    chances = Chances.of(logs, 1, least=0.1, skewed=skewed)
    limit = chances.limit(level, parts)
    assert chances.p(limit + 1e-6, parts) <= level
    assert chances.p(limit - 0.01 * chances.scale, parts) > 0.5 * level
    values = np.sort(np.concatenate([logs, limit + np.arange(5)]))
    chance = [chances.p(value, parts) for value in values]
    assert (np.diff(chance) <= 0).all()


def test_the_chance_of_a_large_value_is_that_of_students_prediction_interval():
    logs = np.random.default_rng(0).standard_normal(60)
    chances = Chances.of(logs, 1, least=0.1, skewed=False)
    beyond = logs.max() + 0.5
    t = (beyond - logs.mean()) / (logs.std(ddof=1) * np.sqrt(1 + 1 / chances.blocks))
    assert chances.p(beyond, 1) == pytest.approx(stats.t.sf(t, chances.blocks - 1))
    second = np.sort(logs)[-2]
    assert chances.p(second, 1) == max((1 + 2) / 61, stats.t.sf((second - logs.mean()) / chances._wide(1), 59))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_neighbours_that_resemble_each_other_count_as_fewer(correlation):
    random, found = np.random.default_rng(0), []
    for _ in range(40):
        noise, series = random.standard_normal(2000), np.zeros(2000)
        for step in range(1, 2000):
            series[step] = correlation * series[step - 1] + noise[step]
        found.append(independent(series, 1))
    expected = 2000 * (1 - correlation) / (1 + correlation)
    assert np.median(found) == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize(("correlation", "length"), [(0.0, 1), (0.0, 8), (0.7, 1), (0.7, 12), (0.7, 60)])
def test_new_input_of_the_kind_of_training_is_flagged_at_most_one_time_in_a_hundred(correlation, length):
    random, flagged, records, each = np.random.default_rng(1), [], 30, 10
    families = [0, 0, 0, 1, 1]
    for _ in range(records):
        noise, series = random.standard_normal((400 + each * 60, 5)), np.zeros((400 + each * 60, 5))
        for step in range(1, len(series)):
            series[step] = correlation * series[step - 1] + noise[step]
        shares = np.maximum(series[:, :2] - 2, 0) / 10
        parts = -(-length // (300 // 12))
        block = -(-length // parts)
        blocks = Blocks.of(Rows(series[:300], shares[:300]), block, families)
        for number in range(each):
            rows = np.arange(400 + number * 60, 400 + number * 60 + length)
            new = [Rows(series[part], shares[part]) for part in np.array_split(rows, parts)]
            found = blocks.findings(new)
            flagged.append(len(TESTS) * min(one.p for one in found.values()) <= LEVEL)
    assert sum(flagged) <= stats.binom.isf(0.001, records * each, LEVEL)


def test_later_input_of_the_kind_of_training_is_not_flagged(guard, later):
    found = guard.compare(later)
    assert not found.flagged
    assert found.severity < 1
    assert found.words[0].startswith("The input is like that of training (p = ")
    assert len(found.words) == 1


def test_a_planted_bias_is_flagged_and_named_with_its_size(guard, later):
    found = guard.compare(changed(later, tas=lambda tas: tas + 6))
    assert found.flagged and found.severity > 1
    sentence = next(words for words in found.words if words.startswith("tas is"))
    size = float(sentence.split()[2])
    true = float(later["tas"].mean()) + 6 - float(weather(720)["tas"].mean())
    assert size == pytest.approx(true, rel=0.02)
    assert "K warmer on average than in training" in sentence and "is usual" in sentence
    assert found.variables["tas"]["distance"].p < LEVEL < found.variables["pr"]["distance"].p
    assert found.differences[0].trait.variables == ("tas",)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("pr", lambda pr: 3 * pr, "pr is"),
        ("tas", lambda tas: tas.mean() + 2 * (tas - tas.mean()), "tas varies over the domain"),
        (
            "tas",
            lambda tas: tas.rolling(lat=3, lon=3, center=True, min_periods=1).mean(),
            "tas varies from cell to cell",
        ),
        ("pr", lambda pr: pr[::-1].copy(data=pr.values[::-1, ::-1]), "The correlation of tas and pr in space"),
    ],
)
def test_other_changes_are_flagged_and_named(name, change, words, guard, later):
    found = guard.compare(changed(later, **{name: change}))
    assert found.flagged
    assert any(each.startswith(words) for each in found.words), found.words


def test_a_single_time_can_be_compared(guard, later):
    assert not guard.compare(later.isel(time=[0])).flagged
    assert guard.compare(changed(later.isel(time=[0]), tas=lambda tas: tas + 40)).flagged
    assert guard.compare(later.isel(time=[0])).times == 1


def test_winter_is_compared_with_winter():
    guard = Guard.fit(weather(4 * 365, season=15.0))
    summer, winter = (weather(20, start=f"2010-{month}-05", season=15.0, seed=5) for month in ("07", "01"))
    assert not guard.compare(summer).flagged and not guard.compare(winter).flagged
    warm = changed(winter, tas=lambda tas: tas + 12)
    assert guard.compare(warm).flagged
    assert guard.compare(winter).compared == 4 * 31
    # Among all months, so warm a winter is nothing special.
    assert not Guard.fit(weather(4 * 365, season=15.0), seasonal=False).compare(warm.isel(time=slice(5))).flagged


def test_months_that_training_never_saw_are_named():
    guard = Guard.fit(weather(180, season=15.0))
    found = guard.compare(weather(20, start="2010-09-05", season=15.0))
    assert any("None of the training times is in September" in words for words in found.words)


def test_the_guard_is_the_same_after_it_was_kept(guard, later):
    again = Guard.remember(*guard.state())
    first, second = (each.compare(changed(later, pr=lambda pr: 1.5 * pr)) for each in (guard, again))
    assert first.to_dict() == second.to_dict()
    assert first.words == second.words


def test_missing_cells_do_not_make_input_strange(training, later):
    def gaps(fields: xr.Dataset, seed: int) -> xr.Dataset:
        known = np.random.default_rng(seed).random(fields["tas"].shape) > 0.1
        return fields.where(xr.DataArray(known, dims=fields["tas"].dims))

    guard = Guard.fit(gaps(training, 0), seasonal=False)
    assert guard.memory.spectral == ()
    assert not guard.compare(gaps(later, 1)).flagged
    assert any(each.trait.kind == "fine" for each in guard.compare(gaps(later, 1)).differences)
    assert guard.compare(changed(gaps(later, 1), tas=lambda tas: tas + 6)).flagged
    one = gaps(later, 1)
    one["tas"][3] = np.nan
    one["pr"][3] = np.nan
    assert not guard.compare(one).flagged
    with pytest.raises(InputError, match="hardly a known value"):
        guard.compare(later.where(later["tas"] < 0))


def test_a_guard_of_complete_fields_takes_fields_with_gaps(guard, later):
    gappy = later.where(later["lat"] < 49.5)
    assert all(each.trait.kind != "fine" for each in guard.compare(gappy).differences)


def test_a_variable_that_is_missing_is_said_and_the_others_are_compared(guard, later):
    found = guard.compare(changed(later, tas=lambda tas: tas + 6)[["tas"]])
    assert found.missing == ("pr",) and found.flagged
    assert any("Nothing is known of pr" in words for words in found.words)
    assert set(found.variables) == {"tas"}
    with pytest.raises(InputError, match="none of the variables tas, pr"):
        guard.compare(later.rename(tas="a", pr="b"))


def test_units_are_converted_and_others_refused(guard, later):
    celsius = later.assign(tas=(later["tas"] - 273.15).assign_attrs(units="degC"))
    assert guard.compare(celsius).p == pytest.approx(guard.compare(later).p, rel=0.05)
    with pytest.raises(InputError, match="tas"):
        guard.compare(later.assign(tas=later["tas"].assign_attrs(units="m")))


def test_too_few_training_times_are_refused():
    with pytest.raises(InputError, match="got 15 times with known values"):
        Guard.fit(weather(15))


@pytest.mark.slow
def test_long_lazy_input_is_looked_at_in_little_memory():
    import dask.array

    times, size = 40_000, (40, 40)
    values = dask.array.random.default_rng(0).standard_normal((times, *size), chunks=(500, *size), dtype=np.float32)
    like = weather(1, size=size)
    coords = {
        "time": np.datetime64("1900-01-01", "ns") + np.arange(times) * DAY,
        "lat": like["lat"],
        "lon": like["lon"],
    }
    fields = xr.Dataset({"tas": (("time", "lat", "lon"), values, {"units": "K"})}, coords=coords)
    Guard.fit(weather(60))  # what is imported late is no matter of the record
    tracemalloc.start()
    guard = Guard.fit(fields, seasonal=False)
    found = guard.compare(fields)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.nbytes == 256e6 and peak < 0.4 * values.nbytes
    assert len(guard.memory.traits) <= 4096
    assert not found.flagged


def test_long_records_are_thinned_without_losing_hours():
    for count, step in ((100_000, 3600.0), (100_000, 3 * 3600.0), (100_000, 6 * 3600.0), (5000, 86400.0)):
        every = stride(count, step)
        daily = round(86400 / step)
        assert -(-count // every) <= 4096
        assert len(np.unique(np.arange(0, count, every) % daily)) >= min(daily, 8)
        rows, apart = alike(np.zeros(-(-count // every), int), np.zeros(3, int), every, step)
        assert 1000 < len(rows) <= 2048
        assert len(np.unique(rows * every % daily)) >= min(daily, 8)
        assert apart == (rows[1] - rows[0]) * every


@given(st.integers(1, 5000), st.integers(16, 2048), st.integers(1, 30))
def test_a_plan_stays_within_the_input_and_compares_with_blocks_no_longer_than_it(count, training, every):
    time = xr.DataArray(np.datetime64("2001-01-01", "ns") + np.arange(count) * DAY, dims="time")
    plan = Plan.of(time, training, every, 86400.0)
    assert plan.rows.min() >= 0 and plan.rows.max() < count
    assert 1 <= plan.length <= max(1, training // 12)
    assert plan.rows.shape[1] >= plan.length
    assert plan.rows.size <= 3 * 4096
    assert (np.diff(plan.rows, axis=1) > 0).all() if plan.rows.shape[1] > 1 else True


def test_the_picture_shows_units_and_both_inputs(guard, later, tmp_path):
    found = guard.compare(changed(later, tas=lambda tas: tas + 6))
    figure = drawn(found.shown, found.grid)
    labels = [axes.get_xlabel() for axes in figure.axes] + [axes.get_ylabel() for axes in figure.axes]
    assert {"mean of tas (K)", "share of times (%)", "difference of means (K)"} <= set(labels)
    assert "mean of pr (mm\u00a0day⁻¹)" in labels or "mean of pr (mm/day)" in labels
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["training", "new input"]
    change = float(np.nanmean(found.shown["tas"].change))
    assert change == pytest.approx(float(later["tas"].mean()) + 6 - float(weather(720)["tas"].mean()), abs=0.1)
    found.figure(tmp_path / "guard.png")
    assert (tmp_path / "guard.png").stat().st_size > 10_000
    single = guard.compare(later.isel(time=[0]))
    single.figure(tmp_path / "single.svg")
    assert "svg" in (tmp_path / "single.svg").read_text()[:400]


def test_shares_beyond_the_range_are_those_of_times_held_out(training, guard):
    values = training["tas"].values.reshape(720, -1)
    for fold in np.array_split(np.arange(720), FOLDS):
        low, high = np.quantile(np.delete(values, fold, axis=0), (0.001, 0.999))
        expected = ((values[fold] < low) | (values[fold] > high)).mean(axis=1)
        np.testing.assert_allclose(guard.memory.shares[fold, 0], expected, atol=1e-6)
