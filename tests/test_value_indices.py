"""Indices of the climate: against independent computations, hand-written sequences and known truths."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scoringrules
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from finegrid.conventions import InputError
from finegrid.data.working import alone
from finegrid.evaluation import INDICES, METRICS, ValueTable, evaluate, value_table
from finegrid.evaluation.indices import USUAL_INDICES, series, turned
from finegrid.evaluation.indices.base import Cells, Clock
from finegrid.evaluation.indices.space import correlations, e_folding
from finegrid.evaluation.indices.spells import grouped_quantile, lengths
from finegrid.evaluation.portrait import portrait

TIMES, ROWS, COLUMNS = 731, 5, 6
RAIN_ONLY = {"r01", "sdii", "r20", "r98p", "r98p-mean", "wet-spell", "wet-spell-90", "dry-spell", "dry-spell-90"}


def days(number: int = TIMES, start: str = "2001-01-01") -> pd.DatetimeIndex:
    return pd.date_range(start, periods=number, freq="D")


def placed(time, **fields: np.ndarray) -> xr.Dataset:
    """Fields (time, lat, lon) or (member, time, lat, lon): tas in K, pr in mm/day."""
    units = {"tas": "K", "pr": "mm/day"}
    rows, columns = next(iter(fields.values())).shape[-2:]
    dims = ("member", "time", "lat", "lon")
    return xr.Dataset(
        {name: (dims[-each.ndim :], each, {"units": units[name]}) for name, each in fields.items()},
        coords={
            "time": time,
            "lat": ("lat", 40 + 0.5 * np.arange(rows), {"units": "degrees_north"}),
            "lon": ("lon", 5 + 0.5 * np.arange(columns), {"units": "degrees_east"}),
        },
    )


def weather(seed: int = 0, time=None, rows: int = ROWS, columns: int = COLUMNS) -> xr.Dataset:
    """Autocorrelated temperature with a season, and rain that comes in spells."""
    random, time = np.random.default_rng(seed), days() if time is None else time
    noise = random.normal(size=(len(time), rows, columns)) + random.normal(size=(len(time), 1, 1))
    for step in range(1, len(time)):
        noise[step] = 0.6 * noise[step - 1] + 0.8 * noise[step]
    season = 10 * np.sin(2 * np.pi * (np.arange(len(time)) - 110) / 365.25)[:, None, None]
    return placed(time, tas=283 + season + 3 * noise, pr=np.maximum(6 * noise, 0) ** 1.2)


def scores(prediction: xr.Dataset, truth: xr.Dataset, **options) -> dict[tuple[str, str], float]:
    table = value_table(prediction, truth, **options)
    return {(each.variable, each.index): each.value for each in table.scores}


def statistic(name: str, values: np.ndarray, clock: Clock | None = None) -> np.ndarray:
    """One index of columns (time, column)."""
    times = len(values)
    clock = clock or Clock(np.ones(times, dtype=int), np.arange(times) > 0)
    return INDICES[name].statistic(Cells(values[:, None], clock))[0]


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return weather()


@pytest.fixture(scope="module")
def rain(truth: xr.Dataset) -> np.ndarray:
    return truth["pr"].values.reshape(TIMES, -1)


def test_every_index_of_the_truth_itself_is_perfect(truth):
    table = value_table(truth, truth)
    assert {each.index for each in table.scores if each.variable == "pr"} == set(USUAL_INDICES) - {"p02"}
    assert {each.index for each in table.scores if each.variable == "tas"} == set(USUAL_INDICES) - RAIN_ONLY
    for each in table.scores:
        assert each.value == pytest.approx(each.best, abs=1e-12), each.index
        assert each.spread == pytest.approx(0, abs=1e-12)
        assert each.truth == pytest.approx(each.predicted)
        assert each.cells > 0


def test_moments_are_those_of_pandas_and_scipy(truth):
    cell = truth["tas"].values[:, 2, 3]
    values, frame = truth["tas"].values.reshape(TIMES, -1), pd.Series(cell)
    place = 2 * COLUMNS + 3
    assert statistic("mean", values)[place] == pytest.approx(frame.mean())
    assert statistic("sd", values)[place] == pytest.approx(frame.std())
    assert statistic("p02", values)[place] == pytest.approx(frame.quantile(0.02))
    assert statistic("p98", values)[place] == pytest.approx(frame.quantile(0.98))
    assert statistic("skew", values)[place] == pytest.approx(stats.skew(cell))


def test_indices_of_rain_are_those_counted_by_hand():
    amounts = np.zeros(100)
    amounts[:4] = 1.0, 3.0, 20.0, 40.0
    amounts[4:6] = 0.99, 0.5
    amounts[6:8] = np.nan  # 98 known days
    column = amounts[:, None]
    assert statistic("r01", column) == pytest.approx(100 * 4 / 98)
    assert statistic("r20", column) == pytest.approx(100 * 2 / 98)
    assert statistic("sdii", column) == pytest.approx(16.0)
    assert statistic("r98p", column) == pytest.approx(20 + (0.98 * 3 - 2) * 20)
    assert statistic("r98p-mean", column) == pytest.approx(40.0)


def test_a_millimetre_that_was_rounded_is_still_a_wet_day():
    assert statistic("r01", np.full((40, 1), 0.99999)) == pytest.approx(100.0)
    assert statistic("r01", np.full((40, 1), 0.999)) == 0.0


@pytest.mark.parametrize(
    ("sequence", "wet", "dry"),
    [
        ("WWDDDWD", [2, 1], [3, 1]),
        ("WWWW", [4], []),
        ("D?DW", [1], [1, 1]),  # a missing day ends a spell
        ("WW|WDD|D", [2, 1], [2, 1]),  # and so does the summer
    ],
)
def test_spells_have_the_lengths_counted_by_hand(sequence, wet, dry):
    letters = [letter for letter in sequence if letter != "|"]
    follows = np.array([False] + [a != "|" for a, b in itertools.pairwise(sequence) if b != "|"])
    for letter, expected in (("W", wet), ("D", dry)):
        state = np.array([each == letter for each in letters])
        assert lengths(state[:, None], follows)[0].tolist() == expected


@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 4))), st.integers(0, 2**20 - 1))
def test_spells_of_many_columns_are_those_of_each_column(state, bits):
    follows = np.array([bool(bits >> step & 1) for step in range(len(state))])
    found, column = lengths(state, follows)
    season = (~follows).cumsum()
    for index in range(state.shape[1]):
        groups = itertools.groupby(zip(season.tolist(), state[:, index].tolist(), strict=True))
        expected = [len(list(days)) for (_, is_wet), days in groups if is_wet]
        assert found[column == index].tolist() == expected


def test_quantiles_of_spells_are_those_of_numpy_group_by_group():
    random = np.random.default_rng(1)
    values, group = random.integers(1, 20, 200), random.permutation(np.repeat([0, 1, 3], [150, 49, 1]))
    for level in (0.5, 0.9):
        found = grouped_quantile(values, group, 4, level)
        assert np.isnan(found[2])
        for each in (0, 1, 3):
            assert found[each] == pytest.approx(np.quantile(values[group == each], level))


def test_shuffled_days_keep_the_distribution_and_lose_the_memory(truth):
    order = np.concatenate([month + np.random.default_rng(2).permutation(30) for month in range(0, 720, 30)])
    order = np.concatenate([order, np.arange(720, TIMES)])
    found = scores(truth.isel(time=order).assign_coords(time=truth.time), truth)
    for name in ("mean", "r01", "sdii", "r20", "r98p", "p98"):
        assert found["pr", name] == pytest.approx(0, abs=1e-9)
    assert found["tas", "sd"] == pytest.approx(1)
    assert found["tas", "lag1"] < -0.3
    assert found["pr", "wet-spell-90"] < -0.2
    assert found["pr", "length"] == pytest.approx(1, abs=0.15)


def test_heavier_rain_changes_the_intensity_and_not_the_frequency(truth):
    heavier = truth.assign(pr=truth.pr.where(truth.pr < 1, 1.25 * truth.pr).assign_attrs(truth.pr.attrs))
    found = scores(heavier, truth, variables=["pr"])
    assert found["pr", "sdii"] == pytest.approx(25)
    assert found["pr", "r98p"] == pytest.approx(25)
    for name in ("r01", "wet-spell", "dry-spell-90"):
        assert found["pr", name] == 0
    assert found["pr", "r20"] > 0


@pytest.mark.parametrize(
    ("units", "scale"), [("kg m-2 s-1", 1 / 86400), ("m/day", 1e-3), ("mm", 1.0), ("mm h-1", 1 / 24)]
)
def test_thresholds_of_rain_are_in_the_units_of_the_data(truth, units, scale):
    other = truth.assign(pr=(truth.pr * scale).assign_attrs(units=units))
    expected = value_table(truth, truth, variables=["pr"]).scores
    for one, found in zip(expected, value_table(other, other, variables=["pr"]).scores, strict=True):
        assert found.truth == pytest.approx(one.truth, rel=1e-6)
        assert found.statistic_units == one.statistic_units


def test_hours_are_added_up_to_days_before_they_are_judged(truth):
    daily = truth.isel(time=slice(60))
    hours = pd.date_range(daily.time.values[0], periods=60 * 8, freq="3h")
    fields = daily.isel(time=np.repeat(np.arange(60), 8)).assign_coords(time=hours)
    # An amount each three hours: an eighth of the day's.
    fields = fields.assign(pr=(fields.pr / 8).assign_attrs(units="mm"))
    expected = value_table(daily, daily).scores
    for one, found in zip(expected, value_table(fields, fields).scores, strict=True):
        assert found.index == one.index
        assert found.truth == pytest.approx(one.truth, nan_ok=True), one.index


def test_months_have_no_indices_of_days_and_say_so():
    time = pd.date_range("2001-01-01", periods=48, freq="MS")
    monthly = weather(time=time)
    table = value_table(monthly, monthly, variables=["pr"])
    assert set(table.indices("pr")) == {"mean", "sd", "skew", "p98", "cycle", "cycle-phase", "lag1", "length"}
    with pytest.raises(InputError, match="'r01' for 'pr' with steps of 31 days; expected precipitation with one value"):
        value_table(monthly, monthly, variables=["pr"], indices=["r01"])


def test_unknown_indices_and_short_records_are_refused_in_words(truth):
    with pytest.raises(InputError, match=r"There is no index 'sdi'.*Did you mean 'sdii'"):
        value_table(truth, truth, indices=["sdi"])
    with pytest.raises(InputError, match="got 20 days of 'tas'; expected at least 30"):
        value_table(truth.isel(time=slice(20)), truth)
    uneven = truth.isel(time=np.arange(60) ** 2 // 6)
    with pytest.raises(InputError, match=r"whose steps differ|occur twice|is there twice"):
        value_table(uneven, uneven)
    unitless = truth.assign(pr=truth.pr.assign_attrs(units="dBZ"))
    with pytest.raises(InputError, match="dBZ"):
        value_table(unitless, unitless, variables=["pr"])


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "all_leap"])
def test_winters_are_apart_in_every_calendar(calendar):
    time = xr.date_range("2000-12-01", periods=4 * 360, calendar=calendar, use_cftime=calendar != "standard")
    winter = time[np.isin(time.month, [12, 1, 2])]
    fields = weather(time=winter)
    table = value_table(fields, fields)
    assert "cycle-phase" not in table.indices("tas")
    season = np.isin(winter.month, [12]) + np.asarray(winter.year)
    column = fields["tas"].values.reshape(len(winter), -1)
    anomaly = pd.DataFrame(column).groupby(np.asarray(winter.month)).transform(lambda values: values - values.mean())
    pairs = [(part.iloc[:-1], part.iloc[1:]) for _, part in anomaly.groupby(season)]
    earlier, later = (np.concatenate([each[side] for each in pairs]) for side in (0, 1))
    expected = [stats.pearsonr(earlier[:, each], later[:, each])[0] for each in range(column.shape[1])]
    area = np.cos(np.deg2rad(fields.lat.values)).repeat(COLUMNS)
    assert table.of("tas", "lag1")["prediction"].truth == pytest.approx(np.average(expected, weights=area), rel=1e-4)
    wet = pd.DataFrame(fields["pr"].values.reshape(len(winter), -1) >= 1)
    longest = [
        [
            len(list(group))
            for _, part in wet[each].groupby(season)
            for is_wet, group in itertools.groupby(part)
            if is_wet
        ]
        for each in wet
    ]
    medians = [np.median(each) for each in longest]
    found = table.of("pr", "wet-spell")["prediction"].truth
    assert found == pytest.approx(np.average(medians, weights=area), rel=1e-3)


def test_a_missing_cell_and_a_missing_day_poison_nobody_else(truth):
    holed = truth.copy(deep=True)
    holed["tas"][:, 0, 0] = np.nan
    holed["pr"][:, 0, 0] = np.nan
    holed["pr"][100, 1, 1] = np.nan
    holed["pr"][:715, 4, 5] = np.nan  # too few values to say anything
    prediction = weather(seed=5)
    whole, found = value_table(prediction, truth), value_table(prediction, holed)
    for one, other in zip(whole.scores, found.scores, strict=True):
        assert np.isnan(other.map[0, 0])
        same = np.ones(other.map.shape, dtype=bool)
        same[0, 0] = same[1, 1] = same[4, 5] = False
        if one.index != "length":  # each cell's correlations are with all others
            np.testing.assert_allclose(other.map[same], one.map[same], rtol=1e-9, atol=1e-12)
        assert np.isfinite(other.value)
    assert np.isnan(found.of("pr", "mean")["prediction"].map[4, 5])
    assert found.of("pr", "mean")["prediction"].cells == ROWS * COLUMNS - 2


def test_truth_and_predictions_are_sampled_alike(truth):
    """A prediction that is right wherever there is a truth is perfect, whatever it says elsewhere."""
    holed = truth.where(np.random.default_rng(0).random((TIMES, ROWS, COLUMNS)) < 0.8)
    holed = holed.assign({name: holed[name].assign_attrs(truth[name].attrs) for name in holed.data_vars})
    for each in value_table(truth, holed).scores:
        assert each.value == pytest.approx(each.best, abs=1e-9), each.index


def test_a_constant_or_dry_cell_has_no_ratio_and_the_others_keep_theirs(truth):
    dry = truth.copy(deep=True)
    dry["pr"][:, 2, 2] = 0.0
    dry["tas"][:, 2, 2] = 280.0
    table = value_table(weather(seed=3), dry)
    for variable, index in (("pr", "sdii"), ("pr", "r98p"), ("tas", "sd"), ("tas", "lag1"), ("pr", "wet-spell")):
        found = table.of(variable, index)["prediction"]
        assert np.isnan(found.map[2, 2]) and found.cells == ROWS * COLUMNS - 1
        assert np.isfinite(found.value)


def test_blocks_of_rows_and_lazy_fields_change_nothing(truth, monkeypatch):
    prediction = weather(seed=4)
    expected = value_table(prediction, truth).scores
    monkeypatch.setattr(series, "_VALUES_AT_ONCE", TIMES * COLUMNS * 2)
    chunks = {"time": 100, "lat": 2}
    for one, found in zip(expected, value_table(prediction.chunk(chunks), truth.chunk(chunks)).scores, strict=True):
        assert found.value == pytest.approx(one.value, rel=1e-12)
        np.testing.assert_allclose(found.map, one.map)


@pytest.mark.parametrize("members", [1, 3])
def test_a_record_that_is_kept_by_times_is_read_once_and_turned(truth, monkeypatch, tmp_path, members):
    prediction = xr.concat([weather(seed=each) for each in range(4, 4 + members)], "member").squeeze()
    gap = truth.copy(deep=True)
    gap["tas"][5, 1, 2] = np.nan
    expected = value_table(prediction, gap, indices="all").scores
    monkeypatch.setattr(series, "_VALUES_AT_ONCE", TIMES * COLUMNS * 2 * members)
    monkeypatch.setattr(turned, "_AT_ONCE", 250 * COLUMNS * ROWS * members)
    monkeypatch.setattr(turned.tempfile, "tempdir", str(tmp_path))
    read: dict[str, int] = {}

    def counted(block, block_info=None):
        if block_info is not None and block.size:
            where = str(block_info[0]["array-location"])
            read[where] = read.get(where, 0) + 1
        return block

    def by_times(fields):
        chunked = fields.chunk(time=100)
        return chunked.assign({name: each.copy(data=each.data.map_blocks(counted)) for name, each in chunked.items()})

    kept = value_table(by_times(prediction), by_times(gap), indices="all").scores
    for one, found in zip(expected, kept, strict=True):
        assert found.value == pytest.approx(one.value, rel=1e-9, nan_ok=True), one.index
        np.testing.assert_allclose(found.map, one.map)
    # Two variables, of truth and prediction, whose chunks lie alike where there is one member; the first is asked more.
    assert {count for where, count in read.items() if "(0, 100)" not in where} == {4 if members == 1 else 2}
    assert not list(tmp_path.iterdir())


def test_a_turned_record_is_found_from_another_folder_too(truth, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    field = truth.tas.rename(lat="y", lon="x")
    blocks = [slice(0, 2), slice(2, 4), slice(4, ROWS)]
    with turned.turned({"a": field.chunk(time=100)}, blocks, alone, ".") as found:
        monkeypatch.chdir(tmp_path / "elsewhere")
        np.testing.assert_array_equal(found["a"].isel(y=blocks[1]).values, field[:, 2:4].transpose("y", "time", "x"))
        monkeypatch.chdir(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["elsewhere"]


def test_a_record_that_cannot_be_turned_is_refused_with_what_it_takes(truth, monkeypatch):
    monkeypatch.setattr(series, "_VALUES_AT_ONCE", TIMES * COLUMNS * 2)
    monkeypatch.setattr(turned.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    lazy = truth.chunk(time=100)
    with pytest.raises(InputError, match=r"takes .* GB on the disk of .*\.to_zarr\(NEW\)"):
        value_table(lazy, lazy)
    (note,) = (each for each in evaluate(lazy, lazy, indices=True).notes if "no indices of the climate of tas" in each)
    assert "free some" in note


def test_the_index_of_an_ensemble_is_the_mean_over_its_members(truth):
    members = [weather(seed=each) for each in (6, 7, 8)]
    ensemble = xr.concat(members, "member")
    single = [value_table(each, truth) for each in members]
    table = value_table(ensemble, truth)
    for variable, index in (("pr", "r01"), ("pr", "dry-spell-90"), ("tas", "lag1"), ("pr", "sdii")):
        each = [one.of(variable, index)["prediction"].map for one in single]
        np.testing.assert_allclose(table.of(variable, index)["prediction"].map, np.mean(each, axis=0), atol=1e-12)


def test_of_a_truth_with_members_the_members_have_the_climate(truth):
    members = xr.concat([weather(seed=each) for each in (6, 7, 8)], "member")
    for each in value_table(members, members, indices=["mean", "sd", "lag1"]).scores:
        assert each.value == pytest.approx(each.best, abs=1e-9)
    single = [value_table(weather(seed=each), truth, indices=["sd"]).of("pr", "sd") for each in (6, 7, 8)]
    expected = np.mean([one["prediction"].predicted for one in single])
    assert value_table(truth, members, indices=["sd"]).of("pr", "sd")["prediction"].truth == pytest.approx(expected)


def test_cells_count_by_their_area():
    time = days(60)
    fields = placed(time, tas=np.random.default_rng(0).normal(280, 1, size=(60, 3, 2)))
    fields = fields.assign_coords(lat=("lat", [10.0, 50.0, 90.0], {"units": "degrees_north"}))
    warmer = fields.copy(deep=True)
    warmer["tas"] = warmer["tas"] + xr.DataArray([0.0, 1.0, 2.0], dims="lat")
    warmer["tas"].attrs = fields["tas"].attrs
    area = np.sin(np.deg2rad([30, 70, 90])) - np.sin(np.deg2rad([-10, 30, 70]))
    found = value_table(warmer, fields, indices=["mean"]).scores[0]
    assert found.value == pytest.approx(np.average([0, 1, 2], weights=area))
    spread = np.sqrt(np.average((np.array([0, 1, 2]) - found.value) ** 2, weights=area))
    assert found.spread == pytest.approx(spread)
    assert 0 <= found.low < found.value < found.high <= 2


@pytest.mark.parametrize("shift", [20, -30, 170])
def test_a_shifted_and_larger_cycle_is_measured(shift):
    time = days(4 * 365 + 1)
    day = np.arange(len(time))[:, None, None] * np.ones((1, 4, 4))

    def wave(amplitude: float, peak: float) -> xr.Dataset:
        return placed(time, tas=280 + amplitude * np.cos(2 * np.pi * (day - peak) / 365.25))

    found = scores(wave(12, 350 + shift), wave(10, 350), indices=["cycle", "cycle-phase", "mean"])
    # A peak between two months lies up to 3 % of the range above both.
    assert found["tas", "cycle"] == pytest.approx(4.0, abs=0.7)
    assert found["tas", "cycle-phase"] == pytest.approx(shift, abs=1.5)


def test_correlations_over_common_times_are_those_of_pandas():
    random = np.random.default_rng(0)
    values = random.normal(size=(80, 3)).cumsum(axis=0)
    values[random.random(values.shape) < 0.2] = np.nan
    found = correlations(values[None], values[None])[0]
    np.testing.assert_allclose(found, pd.DataFrame(values).corr().values, atol=1e-12)
    whole = values[np.isfinite(values).all(axis=1)]
    np.testing.assert_allclose(correlations(whole[None], whole[None])[0], pd.DataFrame(whole).corr().values, atol=1e-12)


@pytest.mark.parametrize("length", [80.0, 500.0, 9000.0])
def test_e_folding_distances_are_recovered(length):
    distance = np.arange(1, 12) * 50.0
    assert e_folding(np.exp(-distance / length), distance, 25.0, 600.0) == pytest.approx(length, rel=1e-2)
    with_gaps = np.where(np.arange(11) < 2, np.exp(-distance / length), np.nan)
    assert np.isnan(e_folding(with_gaps, distance, 25.0, 600.0))


def test_noise_without_correlation_reaches_half_a_cell():
    fields, others = (placed(days(400), tas=np.random.default_rng(seed).normal(size=(400, 8, 8))) for seed in (0, 1))
    found = value_table(others, fields, indices=["length"]).scores[0]
    assert found.truth < 30 and found.value == pytest.approx(1, abs=0.2)


def test_the_correlation_length_of_a_random_field_is_its_own():
    """A Gaussian field whose covariance is exp(-d / 150 km), drawn from its Cholesky factor."""
    rows = columns = 12
    fields = placed(days(800), tas=np.zeros((800, rows, columns)))
    place = np.stack(np.meshgrid(fields.lat, fields.lon, indexing="ij"), axis=-1).reshape(-1, 2)
    middle = np.deg2rad((place[:, None, 0] + place[None, :, 0]) / 2)
    north, east = (place[:, None] - place[None]).transpose(2, 0, 1) * 111.19
    distance = np.hypot(north, east * np.cos(middle))
    draws = np.random.default_rng(3).normal(size=(800, rows * columns))
    fields["tas"][:] = (draws @ np.linalg.cholesky(np.exp(-distance / 150)).T).reshape(800, rows, columns)
    found = value_table(fields, fields, indices=["length"]).scores[0]
    assert found.truth == pytest.approx(150, rel=0.1)
    assert found.value == pytest.approx(1)


@pytest.mark.parametrize("members", [1, 2, 7])
def test_fair_crps_is_that_of_scoringrules(members):
    random = np.random.default_rng(members)
    truth, prediction = random.gamma(1, 3, size=(5, 4, 6)), random.gamma(1, 3, size=(members, 5, 4, 6))
    fields = placed(days(5), pr=truth)["pr"].rename(lat="y", lon="x")
    given = placed(days(5), pr=prediction)["pr"].rename(lat="y", lon="x")
    if members == 1:
        assert METRICS["crps"](given, fields) == METRICS["mae"](given, fields)
        return
    each = scoringrules.crps_ensemble(truth, prediction, m_axis=0, estimator="fair")
    edges = np.deg2rad(39.75 + 0.5 * np.arange(5))
    weights = np.broadcast_to(np.diff(np.sin(edges))[:, None], truth.shape)
    assert METRICS["crps"](given, fields) == pytest.approx(np.average(each, weights=weights), rel=1e-9)


def test_the_table_is_told_as_markdown_json_and_dataframe(truth, tmp_path: Path):
    table = value_table({"right": truth, "other": weather(seed=9)}, truth)
    assert isinstance(table, ValueTable) and table.methods == ("right", "other") and table.variables == ("tas", "pr")
    text = table.markdown("pr")
    assert "R01, wet days (points)" in text and "SDII, rain of wet days, relative (%)" in text
    assert "| right | **0** ± 0 |" in text and text.splitlines()[-1].startswith("| truth | ")
    assert "### tas" in table.markdown()
    rows = json.loads(table.to_json(tmp_path / "value.json").read_text())
    assert {"method", "variable", "index", "value", "spread", "truth", "predicted", "units"} <= set(rows[0])
    assert "map" not in rows[0]
    frame = table.to_dataframe()
    assert len(frame) == len(table.scores)
    assert table.best("pr", "sdii") == ("right",)


def test_an_evaluation_carries_the_climate_when_asked(truth, tmp_path: Path):
    part, other = truth.isel(time=slice(400)), weather(seed=9).isel(time=slice(400))
    assert evaluate(other, part).indices == ()
    assert "indices" not in evaluate(other, part).to_dict()
    found = evaluate(other, part, baselines={"right": part}, variables=["pr"], indices=True)
    assert found.value_table.of("pr", "sd")["right"].value == pytest.approx(1)
    assert {row["index"] for row in found.to_dict()["indices"]} == set(USUAL_INDICES) - {"p02"}
    page = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Climate: indices of VALUE") == 1
    assert "Departures of each method from the climate of pr" in page


def test_an_evaluation_says_why_it_has_no_climate(truth):
    few = truth.isel(time=slice(12))
    found = evaluate(few, few, indices=True)
    assert found.indices == () and any("no indices of the climate of tas: got 12 days" in note for note in found.notes)
    with pytest.raises(InputError, match="got 12 days"):
        evaluate(few, few, indices=["mean"])


def test_the_portrait_has_a_cell_for_every_method_and_index(truth):
    holed = truth.copy(deep=True)
    holed["pr"][:] = 0.0  # no index of wet days
    table = value_table({"one": weather(seed=1), "two": weather(seed=2)}, holed, variables=["pr"])
    axes = portrait(table, "pr").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "two"]
    assert len(axes.get_yticklabels()) == len(table.indices("pr"))
    assert len(axes.texts) == 2 * len(table.indices("pr"))
    colours = np.ma.masked_invalid(axes.collections[0].get_array())
    assert colours.mask.any() and np.abs(colours).max() <= 1


def test_colours_of_the_portrait_are_parts_of_what_is_large(truth):
    warmer = truth.assign(tas=(truth["tas"] + 1).assign_attrs(truth["tas"].attrs))
    table = value_table({"same": truth, "warmer": warmer}, truth, variables=["tas"])
    colours = np.asarray(portrait(table, "tas").axes[0].collections[0].get_array()).reshape(-1, 2).T
    assert not np.abs(colours[0]).round(9).any()
    deviation = table.of("tas", "sd")["same"].truth
    assert colours[1, table.indices("tas").index("mean")] == pytest.approx(1 / (0.5 * deviation))


@pytest.mark.data
def test_observed_rain_over_iberia_has_the_climate_that_pandas_finds(data_dir: Path):
    from finegrid.data import samples

    observed = samples.open("eobs-iberia").load()
    table = value_table(observed, observed)
    assert all(each.value == pytest.approx(each.best, abs=1e-9) for each in table.scores)
    cell = observed["pr"].sel(lat=40.25, lon=-3.75).to_series()  # Madrid
    place = 10, 12
    assert (observed.lat.values[10], observed.lon.values[12]) == (40.25, -3.75)
    halved = observed.assign(pr=(observed["pr"] / 2).assign_attrs(observed["pr"].attrs))
    found = value_table(halved, observed, variables=["pr"])
    expected = 100 * ((cell / 2 >= 1).mean() - (cell >= 1).mean())
    assert found.of("pr", "r01")["prediction"].map[place] == pytest.approx(expected, abs=0.2)
    wet = cell[cell > 0.9999], cell[cell / 2 > 0.9999] / 2
    expected = 100 * (wet[1].quantile(0.98) / wet[0].quantile(0.98) - 1)
    assert found.of("pr", "r98p")["prediction"].map[place] == pytest.approx(expected, abs=0.1)
