"""Blocked cross-validation: which times are held back together, and that nothing of a fold is learnt from."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from finegrid.benchmark import TASKS, find_task, ranked, run
from finegrid.benchmark.folds import crossed
from finegrid.cli.app import app
from finegrid.conventions import InputError
from finegrid.data import synthetic
from finegrid.downscalers import Bilinear, MeanMap
from finegrid.training import Settings

FEW = Settings(steps=2, budget=None)


def times(values) -> xr.DataArray:
    return xr.DataArray(values, dims="time", coords={"time": values}, name="time")


def winters(first: int, last: int, calendar: str = "standard") -> xr.DataArray:
    time = xr.date_range(f"{first}-12-01", f"{last}-02-28", calendar=calendar, use_cftime=calendar != "standard")
    return times(time[np.isin(time.month, [12, 1, 2])].values)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_no_winter_is_split_in_any_calendar(calendar):
    time = winters(1982, 1996, calendar)
    protocol = crossed(time, 5)
    season = time.dt.year.values + (time.dt.month.values == 12)
    folds = [set(season[part.test]) for part in protocol]
    assert sorted(len(fold) for fold in folds) == [2, 3, 3, 3, 3]
    assert all(not first & second for first in folds for second in folds if first is not second)
    assert "5 folds of whole seasons" in protocol.words


def test_folds_cover_every_time_once_and_in_order():
    time = winters(1982, 1996)
    protocol = crossed(time, 5)
    assert protocol.test.tolist() == list(range(len(time)))
    for part in protocol:
        assert np.array_equal(np.union1d(part.learning, part.test), np.arange(len(time)))
        assert not set(part.learning) & set(part.test)


def test_a_record_without_gaps_is_cut_before_december():
    time = times(pd.date_range("1990-01-01", "1999-12-31", freq="D").values)
    protocol = crossed(time, 5)
    assert "whole years" in protocol.words
    starts = [pd.Timestamp(time.values[part.test[0]]) for part in protocol][1:]
    assert all((start.month, start.day) == (12, 1) for start in starts)


def test_times_close_to_a_fold_are_not_learnt_from():
    time = times(pd.date_range("1990-01-01", "1999-12-31", freq="D").values)
    for part in crossed(time, 5):
        distance = np.abs(part.learning[:, None] - part.test[[0, -1]]).min(axis=1)
        assert distance.min() == 4  # three days lie between


@pytest.mark.parametrize(
    ("time", "word"),
    [
        (pd.date_range("2019-01-01", "2020-12-31", freq="D"), "months"),
        (pd.date_range("2019-03-01", periods=240, freq="h"), "days"),
        (pd.date_range("1982-01-01", periods=132, freq="MS"), "years"),
    ],
)
def test_short_records_are_cut_into_months_or_days(time, word):
    protocol = crossed(times(time.values), 5)
    assert f"whole {word}" in protocol.words
    assert all(len(part.learning) > len(part.test) for part in protocol)


def test_a_missing_day_ends_no_season():
    time = pd.date_range("1990-01-01", "1999-12-31", freq="D")
    assert "whole years" in crossed(times(time.delete(range(100, 3000, 300)).values), 5).words


def test_too_many_folds_are_refused_in_words():
    time = times(pd.date_range("2019-03-01", periods=48, freq="h").values)
    with pytest.raises(InputError, match="got 5 folds for 48 times"):
        crossed(time, 5)
    with pytest.raises(InputError, match="expected at least 2"):
        crossed(time, 1)


@given(st.integers(2, 9), st.integers(9, 25))
def test_folds_have_as_many_seasons_as_possible_alike(number, seasons):
    time = winters(1980, 1980 + seasons)
    season = time.dt.year.values + (time.dt.month.values == 12)
    sizes = [len(set(season[part.test])) for part in crossed(time, number)]
    assert sum(sizes) == seasons and max(sizes) - min(sizes) <= 1


@pytest.fixture(scope="module")
def task():
    """A task of eight by twelve cells and 200 days."""
    tiny = synthetic.generate(shape=(8, 12), times=200, seed=1)
    patch = pytest.MonkeyPatch()
    patch.setattr("finegrid.benchmark.task._synthetic", lambda: tiny)
    yield replace(find_task("synthetic-x4"), methods={"mean-map": {}, "bilinear": {}})
    patch.undo()


def test_every_fold_is_predicted_by_what_learnt_from_the_others(task):
    result = run(task, ["mean-map"], folds=3)
    material = task.material()
    prediction = result.trials["mean-map"].prediction
    part = crossed(material.fine.time, 3).parts[1]
    others, fold = material.at(part.learning), material.at(part.test)[0]
    variables = {name: name for name in task.variables}
    by_hand = MeanMap(variables=variables, constraint="add").fit(*others, static=material.static)
    chosen = prediction.isel(time=part.test)
    for name in task.variables:
        np.testing.assert_allclose(chosen[name].values, by_hand.predict(fold)[name].values, rtol=1e-6)
    assert prediction.sizes["time"] == material.fine.sizes["time"]
    assert "3 folds of whole" in result.evaluation.split


def test_a_method_never_sees_the_truth_of_its_fold(task, monkeypatch):
    seen = []
    fit = Bilinear.fit
    monkeypatch.setattr(
        Bilinear, "fit", lambda self, coarse, fine, **more: seen.append(fine) or fit(self, coarse, fine, **more)
    )
    result = run(task, ["bilinear"], folds=4)
    time = result.trials["bilinear"].prediction.time.values
    for part, fine in zip(crossed(times(time), 4), seen, strict=True):
        assert not np.isin(fine.time.values, time[part.test]).any()


def test_members_are_an_option_of_the_run_and_not_of_the_method(task):
    drawn = {"members": 3, "neighbours": 5}
    result = run(replace(task, methods={"mean-map": {}, "analogues": drawn}), folds=0)
    assert result.trials["analogues"].prediction.sizes["member"] == 3
    assert result.trials["mean-map"].prediction.sizes["member"] == 1


def test_one_evaluation_and_one_table_are_over_all_folds(task):
    result = run(task, ["bilinear", "mean-map"], folds=3)
    table = result.evaluation.value_table
    assert set(table.methods) == {"bilinear", "mean-map"} and set(table.variables) == {"tas", "pr"}
    assert "## Climate of pr" in ranked(result) and "| truth |" in ranked(result)
    rows = result.to_dict()["indices"]
    assert {"r01", "sdii"} <= {row["index"] for row in rows if row["variable"] == "pr"}


def test_a_network_stops_on_times_of_the_other_folds(task):
    result = run(replace(task, variables=("tas",)), ["resnet"], folds=2, settings=FEW)
    assert result.trials["resnet"].prediction.sizes["time"] == 200


def test_the_folds_of_a_task_can_be_asked_for_and_left_out(task):
    folded = replace(task, folds=3)
    assert run(folded, ["bilinear"]).trials["bilinear"].prediction.sizes["time"] == 200
    assert run(folded, ["bilinear"], folds=0).trials["bilinear"].prediction.sizes["time"] == 40


def test_the_command_line_shows_the_climate_of_all_folds(task, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "synthetic-x4", replace(task, variables=("pr",), methods={"bilinear": {}}))
    done = CliRunner().invoke(app, ["benchmark", "synthetic-x4", "--folds", "3", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "climate of pr" in done.output and "R01" in done.output
    assert json.loads((tmp_path / "scores.json").read_text())["indices"]
    assert "Climate: indices of VALUE" in (tmp_path / "report.html").read_text()
    assert "## Climate of pr" in (tmp_path / "table.md").read_text()


@pytest.mark.data
@pytest.mark.parametrize("name", ["value-iberia-tas", "value-iberia-pr"])
def test_the_pair_of_reanalysis_and_observations_has_its_predictors_on_one_grid(data_dir, name):
    task = find_task(name)
    material = task.material()
    assert set(material.coarse.data_vars) == {*task.variables, *task.predictors}
    assert material.coarse.sizes["time"] == material.fine.sizes["time"] == 1264
    assert all(material.coarse[each].notnull().all() for each in task.predictors)
    assert len({part.test.size for part in crossed(material.fine.time, 5)}) <= 4
