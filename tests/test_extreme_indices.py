"""Extremes as indices: against slow double loops, hand formulas of Hosking, SciPy and known distributions."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import gamma

from finegrid.conventions import InputError
from finegrid.evaluation import INDICES, evaluate, value_table
from finegrid.evaluation.indices import USUAL_INDICES
from finegrid.evaluation.indices.base import Cells, Clock
from finegrid.evaluation.indices.extremes import days_so_far, running_sum
from finegrid.evaluation.indices.return_levels import Extremes, Maxima, Peaks, l_moments
from finegrid.evaluation.indices.spells import lengths
from finegrid.evaluation.indices.years import largest, year_starts
from finegrid.evaluation.return_levels import return_levels

EXTREMES = {"rx1day", "rx5day", "cdd", "cwd", "txx", "tnn", "heat-wave", "rl20", "rl20-pot"}
RAIN = {"rx1day", "rx5day", "cdd", "cwd"}
HEAT = {"txx", "tnn", "heat-wave"}


def clock_of(time: pd.DatetimeIndex) -> Clock:
    follows = np.concatenate([[False], np.diff(time) == np.timedelta64(1, "D")])
    return Clock(np.asarray(time.month), follows, 1.0, np.asarray(time.year))


def days(start: str, end: str, months=range(1, 13)) -> pd.DatetimeIndex:
    time = pd.date_range(start, end)
    return time[np.isin(time.month, list(months))]


RECORDS = {
    "years": days("2001-01-01", "2004-12-31"),
    "half years at the ends": days("2000-08-01", "2004-06-30"),
    "winters": days("2000-12-01", "2005-02-28", (12, 1, 2)),
    "summers": days("2001-05-01", "2004-09-30", (5, 6, 7, 8, 9)),
    "with a gap": days("2001-01-01", "2003-12-31").delete(range(40, 50)),
}


def season_of(day: pd.Timestamp, name: str) -> int:
    return day.year + (name == "winters" and day.month == 12)


def weather(time: pd.DatetimeIndex, columns: int, seed: int = 0) -> np.ndarray:
    """Rain or warmth (time, column) that comes in spells, with a missing day here and there."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(len(time), columns))
    for step in range(1, len(time)):
        noise[step] = 0.7 * noise[step - 1] + 0.7 * noise[step]
    values = np.maximum(6 * noise, 0)
    values[random.random(values.shape) < 0.01] = np.nan
    return values


def statistic(name: str, values: np.ndarray, time: pd.DatetimeIndex, truth: np.ndarray | None = None) -> np.ndarray:
    cells = Cells(values[:, None], clock_of(time), truth=None if truth is None else truth[:, None])
    return INDICES[name].statistic(cells)[0]


def by_hand(name: str, column: np.ndarray, time: pd.DatetimeIndex, record: str, limit: float = 0.0) -> float:
    """One index of one column, day by day."""
    each: dict[int, list[float]] = {}
    known: dict[int, int] = {}
    spell, month_days = 0, 365.25 / 12 * len(set(time.month))
    for day in range(len(time)):
        year = season_of(time[day], record)
        goes_on = day > 0 and time[day] - time[day - 1] == pd.Timedelta(days=1)
        same_year = goes_on and season_of(time[day - 1], record) == year
        value = column[day]
        known[year] = known.get(year, 0) + bool(np.isfinite(value))
        found = each.setdefault(year, [])
        if name in ("rx1day", "txx", "tnn"):
            found.append(value)
        elif name == "rx5day":
            five = column[max(0, day - 4) : day + 1]
            in_a_row = day >= 4 and time[day] - time[day - 4] == pd.Timedelta(days=4)
            found.append(five.sum() if in_a_row else np.nan)
        else:
            state = {"cdd": value < 1, "cwd": value >= 1, "heat-wave": value > limit}[name] and np.isfinite(value)
            spell = (spell if same_year else 0) + 1 if state else 0
            found.append(spell)
    reduce = {"tnn": np.nanmin}.get(name, np.nanmax)
    if name == "heat-wave":
        reduce = lambda spells: sum(3 if spell == 3 else spell > 3 for spell in spells)  # noqa: E731
    return float(np.mean([reduce(found) for year, found in each.items() if known[year] >= 0.8 * month_days]))


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("name", sorted(RAIN | HEAT))
def test_extremes_are_those_found_day_by_day(name, record):
    time = RECORDS[record]
    values, truth = weather(time, 3), weather(time, 3, seed=1)
    limits = [np.quantile(column[np.isfinite(column)], 0.9) for column in truth.T]
    expected = [by_hand(name, values[:, each], time, record, limits[each]) for each in range(3)]
    np.testing.assert_allclose(statistic(name, values, time, truth), expected)


@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 3))), st.integers(0, 2**20 - 1))
def test_the_last_day_of_a_run_counts_its_length(state, bits):
    follows = np.array([bool(bits >> step & 1) for step in range(len(state))])
    lasted = days_so_far(state, follows)
    ends = np.ones_like(state)
    ends[:-1] = ~(state[1:] & follows[1:, None])
    runs, column = lengths(state, follows)
    for each in range(state.shape[1]):
        assert lasted[:, each][ends[:, each] & state[:, each]].tolist() == runs[column == each].tolist()
    assert (lasted[~state] == 0).all()


@given(st.integers(1, 6), st.integers(0, 2**12 - 1))
def test_sums_of_days_in_a_row_do_not_cross_gaps(length, bits):
    follows = np.array([bool(bits >> step & 1) for step in range(12)])
    values = np.arange(12.0)[:, None] ** 2
    found = running_sum(values, follows, length)[:, 0]
    for day in range(12):
        whole = day >= length - 1 and follows[day - length + 2 : day + 1].all()
        assert found[day] == values[day - length + 1 : day + 1].sum() if whole else np.isnan(found[day])


def test_years_begin_after_the_months_that_never_occur():
    for months, first in (((12, 1, 2), 12), ((11, 12, 1, 2, 3), 11), ((6, 7, 8), 6), (range(1, 13), 1)):
        time = days("2000-01-01", "2004-12-31", months)
        starts = time[year_starts(clock_of(time))]
        assert set(starts.month[1:]) == {first}


def test_half_a_year_does_not_count():
    time = days("2000-08-01", "2001-12-31")
    values = np.arange(float(len(time)))[::-1, None].copy()
    found = largest(values, clock_of(time))[:, 0]
    assert np.isnan(found[0]) and found[1] == values[time.year == 2001].max()
    values[time.month == 7] = np.nan
    assert np.isfinite(largest(values, clock_of(time))[1, 0])
    values[np.isin(time.month, (5, 6, 7))] = np.nan
    assert np.isnan(largest(values, clock_of(time))[1, 0])


# --- return levels -------------------------------------------------------------------------------------------


def by_combinations(values: np.ndarray) -> tuple[float, float, float]:
    """Sample L-moments as means over all subsets, the definition of Hosking 1990."""
    l1 = values.mean()
    l2 = np.mean([abs(a - b) for a, b in itertools.combinations(values, 2)]) / 2
    triples = [sorted(each) for each in itertools.combinations(values, 3)]
    l3 = np.mean([low - 2 * middle + high for low, middle, high in triples]) / 3
    return l1, l2, l3


def test_l_moments_are_those_of_all_subsets():
    values = np.random.default_rng(0).gumbel(size=(14, 3))
    values[11:, 2] = np.nan
    found = l_moments(values)
    for column in range(3):
        known = values[np.isfinite(values[:, column]), column]
        np.testing.assert_allclose(found[:, column], by_combinations(known))


@pytest.mark.parametrize("shape", [-0.3, -0.1, 0.0, 0.15, 0.4])
def test_generalised_extreme_values_follow_from_their_own_l_moments(shape):
    """The theoretical L-moments of Hosking 1990, table 1; SciPy's c is his k."""
    place, scale, euler = 20.0, 6.0, np.euler_gamma
    if shape:
        l1 = place + scale * (1 - gamma(1 + shape)) / shape
        l2 = scale * (1 - 2**-shape) * gamma(1 + shape) / shape
        ratio = 2 * (1 - 3**-shape) / (1 - 2**-shape) - 3
    else:
        l1, l2, ratio = place + euler * scale, scale * np.log(2), 2 * np.log(3) / np.log(2) - 3
    fitted = Extremes.of_maxima(np.array([[l1], [l2], [ratio * l2]]))
    assert fitted.shape[0] == pytest.approx(shape, abs=9e-4)  # the accuracy that Hosking gives for his formula
    assert fitted.scale[0] == pytest.approx(scale, rel=2e-3) and fitted.place[0] == pytest.approx(place, rel=2e-3)
    level = fitted.level(np.array([-np.log(0.95)]))[0]
    assert level == pytest.approx(stats.genextreme.ppf(0.95, shape, place, scale), rel=2e-3)
    exactly = Extremes(np.array([place]), np.array([scale]), np.array([shape])).level(np.array([-np.log(0.95)]))
    assert exactly[0] == pytest.approx(stats.genextreme.ppf(0.95, shape, place, scale), rel=1e-9)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_generalised_pareto_follows_from_its_own_l_moments(shape):
    scale = 5.0
    l1 = scale / (1 + shape)
    l2 = l1 / (2 + shape)
    fitted = Extremes.of_excesses(np.array([30.0]), np.array([[l1], [l2], [0.0]]))
    assert fitted.shape[0] == pytest.approx(shape, abs=1e-12) and fitted.scale[0] == pytest.approx(scale)
    expected = stats.genpareto.ppf(1 - 1 / 200, -shape, 30, scale)  # here SciPy's sign is the other one
    assert fitted.level(np.array([1 / 200]))[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [-0.15, 0.1])
def test_fits_agree_with_those_of_likelihood(shape):
    maxima = stats.genextreme.rvs(shape, 20, 6, size=(400, 2), random_state=3)
    found = Maxima(maxima).level(20)
    for column in range(2):
        likely = stats.genextreme.fit(maxima[:, column], shape, loc=20, scale=6)
        assert found[column] == pytest.approx(stats.genextreme.ppf(0.95, *likely), rel=0.03)


@pytest.mark.parametrize("shape", [-0.1, 0.0, 0.1])
def test_levels_of_many_records_are_those_of_their_distribution(shape):
    maxima = stats.genextreme.rvs(shape, 20, 6, size=(40, 3000), random_state=1)
    expected = stats.genextreme.ppf(0.95, shape, 20, 6)
    assert Maxima(maxima).level(20).mean() == pytest.approx(expected, rel=0.02)
    # A storm every ten days, half of which exceed the 95th percentile: the excesses of a Pareto tail are one.
    values = np.zeros((40 * 365, 200))
    values[::10] = stats.genpareto.rvs(-shape, 10, 5, size=(40 * 365 // 10, 200), random_state=2)
    peaks = Peaks.of(values, clock_of(pd.date_range("1961-01-01", periods=len(values))))
    expected = stats.genpareto.ppf(1 - 10 / (20 * 365.25), -shape, 10, 5)
    assert peaks.level(20).mean() == pytest.approx(expected, rel=0.02)


def clusters_by_hand(column: np.ndarray, time: pd.DatetimeIndex, threshold: float) -> list[float]:
    peaks: list[float] = []
    below = 3
    for day, value in enumerate(column):
        if day and time[day] - time[day - 1] > pd.Timedelta(days=1):
            below = 3
        if value > threshold:
            if below >= 3:
                peaks.append(value - threshold)
            else:
                peaks[-1] = max(peaks[-1], value - threshold)
            below = 0
        else:
            below += 1
    return peaks


@pytest.mark.parametrize("record", RECORDS)
def test_peaks_are_those_found_day_by_day(record):
    time = RECORDS[record]
    values = weather(time, 4)
    values[:, 3] = 0.0  # never above its threshold
    peaks = Peaks.of(values, clock_of(time))
    for column in range(4):
        limit = np.quantile(values[np.isfinite(values[:, column]), column], 0.95)
        assert peaks.base[column] == pytest.approx(limit)
        found = peaks.excess[:, column]
        expected = clusters_by_hand(values[:, column], time, peaks.base[column])
        np.testing.assert_allclose(found[np.isfinite(found)], expected)


def test_too_few_years_or_peaks_have_no_level():
    maxima = np.random.default_rng(0).gumbel(size=(12, 2))
    maxima[:3, 1] = np.nan
    found = Maxima(maxima).level(20)
    assert np.isfinite(found[0]) and np.isnan(found[1])
    time = pd.date_range("2001-01-01", periods=150)
    peaks = Peaks.of(weather(time, 2), clock_of(time))
    assert np.isnan(peaks.level(20)).all()
    assert Maxima(np.full((12, 1), 7.0)).level(20)[0] == pytest.approx(7.0)


# --- in tables -----------------------------------------------------------------------------------------------


def fields(values: np.ndarray, time, *, name: str = "pr", units: str = "mm/day") -> xr.Dataset:
    rows, columns = values.shape[1:]
    return xr.Dataset(
        {name: (("time", "lat", "lon"), values, {"units": units})},
        coords={
            "time": time,
            "lat": ("lat", 40 + 0.5 * np.arange(rows)[::-1], {"units": "degrees_north"}),
            "lon": ("lon", 5 + 0.5 * np.arange(columns), {"units": "degrees_east"}),
        },
    )


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    time = days("1981-01-01", "1992-12-31")
    rain = np.nan_to_num(weather(time, 12)).reshape(-1, 3, 4)
    warm = fields(283 + rain, time, name="tas", units="K")
    return xr.merge([fields(rain, time), warm])


def test_extremes_of_the_truth_itself_are_perfect(truth):
    table = value_table(truth, truth, indices="all")
    assert set(table.indices("pr")) == set(INDICES) - {"p02", "length"} - HEAT
    assert set(table.indices("tas")) >= HEAT and not RAIN & set(table.indices("tas"))
    for each in table.scores:
        if each.index in EXTREMES:
            assert each.value == pytest.approx(each.best, abs=1e-9) and each.cells == 12
    assert table.of("pr", "rx5day")["prediction"].statistic_units == "mm"


def test_heavier_and_warmer_extremes_are_told_as_they_are(truth):
    other = truth.assign(pr=1.2 * truth.pr, tas=truth.tas + 2)
    for name in other.data_vars:
        other[name].attrs = truth[name].attrs
    table = value_table(other, truth, indices="all")
    for index in ("rx1day", "rx5day", "rl20", "rl20-pot"):
        assert table.of("pr", index)["prediction"].value == pytest.approx(20), index
        assert table.of("pr", index)["prediction"].units == "%"
    for index in ("txx", "tnn", "rl20", "rl20-pot"):
        assert table.of("tas", index)["prediction"].value == pytest.approx(2, abs=1e-4), index
        assert table.of("tas", index)["prediction"].units == "K"
    waves = table.of("tas", "heat-wave")["prediction"]
    assert waves.value > 10  # above the threshold of the truth, not of its own
    assert waves.truth == pytest.approx(table.of("tas", "heat-wave")["prediction"].predicted - waves.value)


def test_tables_show_the_usual_indices_unless_all_are_asked_for(truth):
    part = truth.isel(time=slice(400))
    assert not EXTREMES & set(value_table(part, part).indices("pr"))
    assert not EXTREMES & set(USUAL_INDICES) and set(INDICES) >= EXTREMES
    found = evaluate(part, part, variables=["pr"], indices="all")
    assert {row["index"] for row in found.to_dict()["indices"]} >= RAIN
    with pytest.raises(InputError, match=r"There is no index 'rx2day'.*or all.*Did you mean 'rx[15]day'"):
        value_table(part, part, indices=["rx2day"])
    with pytest.raises(InputError, match="got the index 'txx' for 'pr'"):
        value_table(part, part, variables=["pr"], indices="txx")


def test_monthly_fields_have_no_extremes_of_days():
    time = pd.date_range("1981-01-01", periods=240, freq="MS")
    monthly = fields(np.random.default_rng(0).gamma(2, 2, size=(240, 2, 2)), time)
    assert not EXTREMES & set(value_table(monthly, monthly, indices="all").indices("pr"))
    with pytest.raises(InputError, match="got 'pr' with steps of 31 days"):
        return_levels(monthly)


@pytest.mark.parametrize("how", ["maxima", "peaks"])
def test_return_levels_come_with_intervals_in_the_users_names(truth, how):
    found = return_levels(truth, variable="pr", how=how, draws=100)
    assert found.level.dims == ("lat", "lon") and found.level.attrs["units"] == "mm/day"
    np.testing.assert_array_equal(found.lat, truth.lat)
    index = {"maxima": "rl20", "peaks": "rl20-pot"}[how]
    table = value_table(truth[["pr"]], truth[["pr"]], indices=[index]).of("pr", index)["prediction"]
    area = np.cos(np.deg2rad(truth.lat.values))[:, None] * np.ones((3, 4))
    assert np.average(found.level, weights=area) == pytest.approx(table.truth, rel=1e-5)
    assert (found.low < found.level).all() and (found.level < found.high).all()
    assert found.equals(return_levels(truth, variable="pr", how=how, draws=100))


@pytest.mark.parametrize("how", ["maxima", "peaks"])
def test_intervals_of_levels_hold_the_level(how):
    """Forty Januaries with a storm every fourth day in 400 cells, whose distribution is known."""
    shape, time = 0.0, days("1961-01-01", "2000-01-31", (1,))
    random, values = np.random.default_rng(4), np.zeros((len(time), 400, 1))
    storms = np.asarray(time.day) % 4 == 1
    values[storms] = stats.genpareto.rvs(-shape, 10, 5, size=(storms.sum(), 400, 1), random_state=random)
    place = {"lat": np.linspace(-60, 60, 400), "lon": [5.0, 5.5]}
    found = return_levels(fields(np.repeat(values, 2, axis=2), time).assign_coords(place), how=how, draws=200)
    expected = stats.genpareto.ppf(0.95 ** (1 / 8) if how == "maxima" else 1 - 1 / 160, -shape, 10, 5)
    inside = ((found.low <= expected) & (expected <= found.high)).isel(lon=0)
    assert 0.90 < float(inside.mean()) < 0.98


def test_return_levels_refuse_in_words(truth):
    with pytest.raises(InputError, match="expected one variable; say which with variable='pr'"):
        return_levels(truth)
    with pytest.raises(InputError, match='expected "maxima" or "peaks"'):
        return_levels(truth, variable="pr", how="gumbel")
    with pytest.raises(InputError, match="got a level of 1 years"):
        return_levels(truth, variable="pr", years=1)
