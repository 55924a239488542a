"""Protocols on small worlds whose answers are known: a bent response, sources of known worth, few members, a toy."""

import json
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from finegrid.benchmark import find_task, trials
from finegrid.benchmark.protocols import PROTOCOLS, Answer
from finegrid.benchmark.protocols.climates import climates_of
from finegrid.benchmark.protocols.dropped_sources import dropped_sources, robustness_of
from finegrid.benchmark.protocols.filling import Fill, drawn_missing, flag_of
from finegrid.benchmark.protocols.forecasters import FORECASTERS, Start
from finegrid.benchmark.protocols.forecasts import forecasts
from finegrid.benchmark.protocols.handlings import HANDLINGS
from finegrid.benchmark.protocols.target_members import FLOOR, target_members
from finegrid.benchmark.protocols.warm import warm
from finegrid.benchmark.task import SCENARIO, SYNTHETIC, Task
from finegrid.benchmark.worlds import WORLDS, Forecasts, ForecastTask
from finegrid.conventions import InputError
from finegrid.data import four_sources, scenarios, toy_weather
from finegrid.data.coarsen import coarsen
from finegrid.data.four_sources import Sources
from finegrid.downscalers import method
from finegrid.grids import Grid
from finegrid.pipeline.material import Material, material

# Regions that were not learnt from have tests of their own.
NAMES = [name for name in PROTOCOLS if name != "regions"]
SPLIT = {"train": 0.7, "validate": 0.1, "test": 0.2, "gap": 0}
RIDGE = {"ridge+none": {"half_widths": (0,), "penalties": (1.0, 10.0)}}
SCALED = {"pattern-scaling+none": {"driver": "emissions"}}


@dataclass(frozen=True, kw_only=True)
class Given(Task):
    """A task with these fields."""

    coarse_fields: xr.Dataset
    fine_fields: xr.Dataset

    def material(self) -> Material:
        return material(self.coarse_fields, self.fine_fields, (), SPLIT)


@dataclass(frozen=True, kw_only=True)
class GivenForecasts(ForecastTask):
    """A task with these forecasts."""

    season: toy_weather.Season

    def material(self) -> Material:
        return material(coarsen(self.season.analysis, 2), self.season.analysis, (), SPLIT)

    def forecasts(self) -> Forecasts:
        truths = {"analysis": self.season.analysis, "observations": self.season.observations}
        return Forecasts(self.season.forecasts, truths, self.season.record)


def given(low: xr.Dataset, high: xr.Dataset, **options) -> Given:
    return Given(
        name="given",
        title="given fields",
        **{"sample": SYNTHETIC, "variables": ("tas",), "coarse_fields": low, "fine_fields": high, **options},
    )


@pytest.fixture(scope="module")
def ensemble():
    scenario = scenarios.Scenario(years=60).curved(pr=0.05)
    return scenarios.generate(scenario, members=12, blocks=(2, 3), factor=2, seed=2)


@pytest.fixture(scope="module")
def scenario(ensemble):
    return given(
        ensemble.coarse, ensemble.fine, sample=SCENARIO, coarse=SCENARIO, variables=("tas", "pr"), methods=SCALED
    )


@pytest.fixture(scope="module")
def sources():
    coarse, fine = four_sources.generate(shape=(3, 5), factor=2, times=900, seed=3)
    predictors = ("zg", "psl", "orog")
    return given(coarse, fine, coarse=SYNTHETIC, predictors=predictors, methods=RIDGE)


@pytest.fixture(scope="module")
def toy():
    toy = toy_weather.Toy(
        shape=(6, 8), systems={"sharp": toy_weather.System(), "mean": toy_weather.System(noise=False)}
    )
    season = toy_weather.generate(toy, inits=40, leads=4, before=200, seed=1)
    return GivenForecasts(name="toy", title="a toy", sample=SYNTHETIC, variables=("tas",), season=season)


@pytest.fixture(scope="module")
def answers(scenario, sources, toy):
    return {
        "warm": warm(scenario, ["pattern-scaling+none", "mean-map+none"]),
        "dropped-sources": dropped_sources(sources),
        "target-members": target_members(scenario, ["pattern-scaling+none", "mean-map+none", "bicubic+none"]),
        "forecasts": forecasts(toy),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_gives_rows_a_table_numbers_and_a_picture(answers, name, tmp_path):
    answer = answers[name]
    assert isinstance(answer, Answer) and answer.protocol == name and len(answer.rows) > 0
    text = answer.markdown()
    assert text.startswith(f"# {answer.task}: {name}") and text.count("\n|---") >= 2
    assert all(line.count("|") > 3 for line in text.splitlines() if line.startswith("|"))
    plain = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert plain["protocol"] == name and len(plain["rows"]) == len(answer.rows)
    answer.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for kind in ("json", "md", "svg")}
    assert (tmp_path / f"{name}.svg").stat().st_size > 5000


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_method_ends_a_protocol_before_it_costs_anything(scenario, sources, toy, name):
    tasks = {"warm": scenario, "target-members": scenario, "dropped-sources": sources, "forecasts": toy}
    with pytest.raises(InputError, match=r"There is no (method|forecast) 'rigde'"):
        PROTOCOLS[name](tasks[name], ["rigde"])


def test_worlds_are_tasks_with_blocks_of_time():
    for task in WORLDS:
        found = task.material()
        assert task.available and found.blocks.test.min() > found.learning.max()
        assert set(task.variables) <= set(found.fine.data_vars)


# Warm future


def test_the_last_fifth_of_a_scenario_is_held_back_with_as_much_of_the_middle(ensemble, scenario):
    found = climates_of(scenario, scenario.material())
    years = ensemble.fine.time.dt.year.values
    parts = {name: np.unique(years[getattr(found, name)]) for name in ("warm", "inside", "learning")}
    assert found.unit == "years" and found.count == 12 and found.by == "last"
    assert parts["warm"].tolist() == list(range(1998, 2010)) and len(parts["inside"]) == 12
    assert not any(set(one) & set(other) for one, other in combinations(parts.values(), 2))
    rest = ensemble.coarse.tas.weighted(np.cos(np.deg2rad(ensemble.coarse.lat))).mean(("lat", "lon"))
    means = rest.groupby("time.year").mean().sel(year=slice(None, 1997))
    ranks = means.argsort().argsort().sel(year=parts["inside"])
    assert ranks.min() >= 12  # the coldest are learnt from
    expected = float(rest[found.warm].mean() - rest[found.learning].mean())
    assert found.warmer == pytest.approx(expected, abs=0.01) and found.units == "K"


def test_the_warmest_years_of_a_record_are_held_back_and_no_day_near_them_is_learnt_from():
    times = pd.date_range("1990-12-01", "2010-11-30", freq="D")
    year = times.year + (times.month == 12)
    level = dict(zip(range(1991, 2011), np.random.default_rng(0).permutation(20), strict=True))
    values = np.array([level[each] for each in year], dtype=float)[:, None, None] + np.zeros((2, 2))
    fine = on_cells(np.repeat(np.repeat(values, 2, 1), 2, 2), 0.5, times)
    found = climates_of(given(on_cells(values, 1.0, times), fine), given(on_cells(values, 1.0, times), fine).material())
    assert found.by == "warmest" and found.count == 4
    assert sorted(level[each] for each in np.unique(year[found.warm])) == [16, 17, 18, 19]
    assert all(4 <= level[each] < 16 for each in np.unique(year[found.inside]))
    held = np.concatenate([found.warm, found.inside])
    assert np.abs(found.learning[:, None] - held).min() == 4  # three days lie between
    levels = values[:, 0, 0]
    assert found.warmer == pytest.approx(levels[found.warm].mean() - levels[found.learning].mean(), abs=1e-4)


def on_cells(values: np.ndarray, spacing: float, times) -> xr.Dataset:
    rows, columns = values.shape[1:]
    axes = {
        "lat": ("lat", 40 + spacing * (np.arange(rows) + 0.5), {"units": "degrees_north"}),
        "lon": ("lon", 5 + spacing * (np.arange(columns) + 0.5), {"units": "degrees_east"}),
    }
    field = (
        ("time", "lat", "lon"),
        (280 + values).astype(np.float32),
        {"units": "K", "standard_name": "air_temperature"},
    )
    return xr.Dataset({"tas": field}, coords={"time": times, **axes})


def test_the_gap_of_a_straight_line_under_a_bent_response_is_that_of_the_closed_form(ensemble, scenario, answers):
    """Pattern scaling is fitted by hand to the known response, month by month; noise adds sigma^2 / M to both tests."""
    climates = climates_of(scenario, scenario.material())
    driver, forced = ensemble.warming.values, ensemble.forced.pr.values.astype(float)
    months = ensemble.forced.time.dt.month.values
    line = np.empty_like(forced)
    for month in np.unique(months):
        learnt = climates.learning[months[climates.learning] == month]
        weights = np.polyfit(driver[learnt], forced[learnt].reshape(len(learnt), -1), 1)
        mine = months == month
        line[mine] = (driver[mine, None] * weights[0] + weights[1]).reshape(-1, *forced.shape[1:])
    area = np.cos(np.deg2rad(ensemble.forced.lat.values))[:, None] * np.ones(forced.shape[2])
    squares = ((line - forced) ** 2 * area).sum((1, 2)) / area.sum() + scenarios.RAIN.sigma**2 / 12
    expected = [np.sqrt(squares[getattr(climates, name)].mean()) for name in ("warm", "inside")]
    row = answers["warm"].of("pr")["pattern-scaling+none"]
    assert [row.warm.value, row.inside.value] == pytest.approx(expected, rel=0.06)
    assert row.gap.value == pytest.approx(expected[0] - expected[1], abs=0.02)
    assert row.worse and row.gap.low > 0


def test_what_is_linear_has_no_gap_and_is_best_where_it_is_warm(answers):
    rows = answers["warm"].of("tas")
    assert next(iter(rows)) == "pattern-scaling+none" and rows["pattern-scaling+none"].behind.value == 0
    assert not rows["pattern-scaling+none"].worse and rows["pattern-scaling+none"].gap.low < 0
    assert rows["mean-map+none"].behind.low > 0


def test_a_warm_future_needs_a_record_of_one_place(scenario):
    with pytest.raises(InputError, match="whose times are nominal"):
        warm(find_task("mrms-x8"))
    with pytest.raises(InputError, match="expected 'warmest' or 'last'"):
        warm(scenario, by="hottest")
    times = pd.date_range("2001-01-01", periods=20, freq="h")
    short = given(*(on_cells(np.zeros((20, size, size)), 2.0 / size, times) for size in (2, 4)))
    with pytest.raises(InputError, match="expected at least 5 seasons, years, months or days"):
        warm(short, ["bicubic"])


# Few members


def test_errors_against_members_are_those_of_loops_over_groups(ensemble, scenario, answers):
    found, blocks = answers["target-members"], scenario.material().blocks
    members = ensemble.fine.pr.isel(time=blocks.test).values.astype(float)
    area = Grid.of(ensemble.fine.rename(lat="y", lon="x").isel(member=0)).area
    area = area / area.sum()
    scale, prediction = float((members.mean((0, 1)) * area).sum()), _of_mean_map(scenario)
    for row in found.of("pr", "mean-map+none"):
        spatial, overall, squares = [], [], []
        for group in range(row.groups):
            mean = members[group * row.members : (group + 1) * row.members].mean(axis=0)
            spatial.append(((prediction - mean).mean(axis=0) ** 2 * area).sum())
            overall.append(np.mean(((prediction - mean) * area).sum((1, 2)) ** 2))
            squares.append(((prediction - mean) ** 2 * area).sum((1, 2)).mean())
        assert row.groups == 12 // row.members
        assert row.rmse == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-4)
        assert row.spatial == pytest.approx(np.sqrt(np.mean(spatial)) / scale, rel=1e-3)
        assert row.overall == pytest.approx(np.sqrt(np.mean(overall)) / scale, rel=1e-3)
        assert row.total == pytest.approx(row.spatial + 5 * row.overall)


def _of_mean_map(task: Given) -> np.ndarray:
    """Rain of the test times as the method itself predicts it."""
    fields = task.material()
    fitted = method("mean-map+none", variables={"tas": "tas", "pr": "pr"}).fit(*fields.at(fields.learning))
    return fitted.predict(fields.at(fields.blocks.test)[0])["pr"].isel(member=0).values.astype(float)


@pytest.mark.parametrize(("variable", "sigma"), [("tas", scenarios.TEMPERATURE.sigma), ("pr", scenarios.RAIN.sigma)])
def test_the_floor_falls_with_the_root_of_the_number_of_members(answers, variable, sigma):
    for row in answers["target-members"].of(variable, FLOOR):
        assert row.rmse == pytest.approx(sigma / np.sqrt(row.members), rel=0.05)


def test_a_method_far_ahead_is_never_overtaken_and_near_ones_only_below_the_floor(scenario, answers):
    found = answers["target-members"]
    clear = [row for row in found.flips if row.worse == "bicubic+none" and row.variable == "tas"]
    assert clear and all(row.turned == 0 for row in clear)
    near = target_members(scenario, ["pattern-scaling+none", "pattern-scaling"])
    assert found.turned_only_below_floor and near.turned_only_below_floor
    assert all(row.difference < row.floor for row in near.flips if row.turned)


def test_without_members_there_is_nothing_to_count():
    with pytest.raises(InputError, match="take scenario-t5"):
        target_members(WORLDS[0])


# Missing sources


def test_performance_robustness_is_one_without_a_loss_and_falls_with_the_error():
    full, without = np.array([1.0, 1.0, 2.0, 1.0]), np.array([1.0, 2.0, 1.0, 1.5])
    np.testing.assert_allclose(robustness_of(full, without), [1.0, np.exp(-1), 1.0, np.exp(-0.5)])


@pytest.mark.parametrize("source", ["tas", "zg", "psl"])
def test_what_a_missing_source_costs_is_that_of_the_closed_form(answers, source):
    truth = Sources()
    row = answers["dropped-sources"].of("ridge+none", "tas")["mean-impute"][source]
    full, lost = truth.rmse(truth.optimum()), truth.rmse(truth.imputed(source))
    assert row.full.value == pytest.approx(full, rel=0.04)
    assert row.without.value == pytest.approx(lost, rel=0.06)
    assert row.robustness.value == pytest.approx(np.exp(1 - lost / full), abs=0.07)
    assert row.robustness.low <= row.robustness.value <= row.robustness.high


def test_a_regression_of_each_cell_knows_its_place_without_elevation(answers):
    rows = answers["dropped-sources"].of("ridge+none", "tas")["mean-impute"]
    assert rows["orog"].without.value == pytest.approx(rows["orog"].full.value, rel=1e-3)


def test_single_models_are_more_robust_than_their_fusion_and_less_good(answers):
    rows = {row.handling: row for row in answers["dropped-sources"].robustness}
    assert set(rows) == set(HANDLINGS)
    assert rows["ensemble-of-sources"].value.low > rows["masked-training"].value.value > rows["mean-impute"].value.value
    found = answers["dropped-sources"].of("ridge+none", "tas")
    assert found["ensemble-of-sources"]["tas"].full.value > 1.2 * found["mean-impute"]["tas"].full.value


def test_values_lose_more_than_chances_of_events(answers):
    assert all(row.apart.value > 0 and row.apart.low > 0 for row in answers["dropped-sources"].robustness)


def test_sources_may_be_groups_and_an_unknown_handling_is_refused(sources):
    groups = {"air": ("tas", "zg"), "pressure": ("psl",)}
    found = dropped_sources(sources, sources=groups, handlings=["mean-impute"])
    assert list(found.of("ridge+none", "tas")["mean-impute"]) == ["air", "pressure"]
    rows = found.of("ridge+none", "tas")["mean-impute"]
    assert rows["air"].robustness.value < 0.4 < rows["pressure"].robustness.value
    with pytest.raises(InputError, match="There is no handling 'mean-imput'"):
        dropped_sources(sources, handlings=["mean-imput"])
    with pytest.raises(InputError, match="expected at least two"):
        dropped_sources(replace(sources, predictors=()))


def test_what_was_fitted_without_a_source_is_kept(sources, tmp_path, monkeypatch):
    few = replace(sources, predictors=("zg",))
    first, told = dropped_sources(few, out=tmp_path), []
    monkeypatch.setattr(trials, "fitted", lambda *_args, **_options: pytest.fail("made again"))
    assert dropped_sources(few, out=tmp_path, say=told.append).to_dict()["rows"] == first.to_dict()["rows"]
    assert sum("kept from an earlier run" in words for words in told) == 4  # all, masked, and each of two sources


def test_what_stands_in_is_the_mean_of_the_cell_of_the_month_or_of_the_domain():
    coarse, _ = four_sources.generate(shape=(3, 4), factor=2, times=400, seed=1)
    names = ["tas", "orog"]
    mean, month = (Fill.of(coarse, names, by_month=by).without(coarse, names) for by in (False, True))
    np.testing.assert_allclose(mean.tas, coarse.tas.mean("time").broadcast_like(coarse.tas), rtol=1e-5)
    np.testing.assert_allclose(month.tas[40], coarse.tas[coarse.time.dt.month == 2].mean("time"), rtol=1e-5)
    np.testing.assert_allclose(mean.orog, float(coarse.orog.mean()), rtol=1e-4)
    assert mean.zg.identical(coarse.zg) and mean.tas.attrs == coarse.tas.attrs


def test_at_random_times_one_source_is_missing_and_a_flag_says_so():
    coarse, _ = four_sources.generate(shape=(3, 4), factor=2, times=400, seed=1)
    missing = drawn_missing(400, 2, 0.5, np.random.default_rng(0))
    assert missing.sum(axis=1).max() == 1 and missing.any(axis=1).mean() == pytest.approx(0.5, abs=0.08)
    fill = Fill.of(coarse, ["tas", "zg"])
    given = fill.flagged(fill.at_times(coarse, missing), missing)
    gone = missing[:, 0]
    np.testing.assert_array_equal(given[flag_of("tas")].values, np.broadcast_to(gone[:, None, None], coarse.tas.shape))
    np.testing.assert_array_equal(given.tas.values[~gone], coarse.tas.values[~gone])
    np.testing.assert_allclose(
        given.tas.values[gone], coarse.tas.mean("time").broadcast_like(coarse.tas[gone]), rtol=1e-5
    )


# Forecasts


def test_simple_forecasts_are_what_they_say():
    generator, kept = np.random.default_rng(0), np.array([[0.9, 0.3]])
    anomalies = np.zeros((4000, 1, 2))
    for time in range(1, 4000):
        anomalies[time] = kept * anomalies[time - 1] + np.sqrt(1 - kept**2) * generator.normal(size=(1, 2))
    times = pd.date_range("2001-01-01", periods=4000, freq="D")
    warmth = 5 * np.cos(2 * np.pi * (times.month.values - 7) / 12)[:, None, None]
    record = xr.DataArray(anomalies + warmth, dims=("time", "y", "x"), coords={"time": times})
    start = Start(record, np.arange(3500), np.array([3600, 3700]), 3, pd.Timedelta(1, "D"))
    np.testing.assert_allclose(start.memory, kept, atol=0.06)
    found = {name: make(start) for name, make in FORECASTERS.items()}
    assert all(each.shape == (2, 3, 1, 2) for each in found.values())
    np.testing.assert_array_equal(found["persistence"][:, 2], record.values[[3600, 3700]])
    np.testing.assert_allclose(found["climatology"][0, 1], np.broadcast_to(warmth[3602], (1, 2)), atol=1)
    fading = start.memory**3 * (record.values[3600] - start.climate.at(times[[3600]])[0])
    np.testing.assert_allclose(found["damped-persistence"][0, 2] - found["climatology"][0, 2], fading)


def test_a_task_with_forecasts_has_the_simple_ones_beside_them(toy):
    found = forecasts(toy).scores
    assert set(found.models) == {"sharp", "mean", *FORECASTERS} and found.truths == ("analysis", "observations")
    rmse = {name: scores[0].value for name, scores in found.of("tas", "rmse").items()}
    assert rmse["mean"] < rmse["damped-persistence"] < rmse["persistence"]
    some = forecasts(toy, ["mean", "climatology"]).scores
    assert some.models == ("mean", "climatology") and {each.baseline for each in some.horizons} == {"climatology"}


def test_a_record_beside_observations_is_verified_against_both():
    times = pd.date_range("2001-01-01", periods=300, freq="D")
    values = np.random.default_rng(0).normal(size=(300, 3, 4))
    fine = on_cells(np.repeat(np.repeat(values, 2, 1), 2, 2) - 1.5, 0.5, times)
    beside = given(on_cells(values, 1.0, times), fine, coarse=SYNTHETIC)
    found = forecasts(beside, leads=3).scores
    biases = [found.of("tas", "bias", truth)["climatology"][0].value for truth in ("analysis", "observations")]
    assert biases[1] - biases[0] == pytest.approx(1.5, abs=0.01)
    alone = forecasts(given(coarsen(fine, 2), fine), leads=2).scores
    assert alone.truths == ("analysis",)
    with pytest.raises(InputError, match="take fewer leads"):
        forecasts(beside, leads=60)
