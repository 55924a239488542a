"""Trials that are kept: a run goes on where another one stopped, and pays for nothing twice."""

from dataclasses import replace

import numpy as np
import pytest

from finegrid.benchmark import find_task, ranked, run, trials
from finegrid.conventions import InputError
from finegrid.data import synthetic
from finegrid.downscalers import load
from finegrid.pipeline.guarding import guard_of
from finegrid.training import Settings

FEW = Settings(steps=2, budget=None)
METHODS = ["bicubic", "ridge", "resnet"]


@pytest.fixture
def task(monkeypatch):
    """A task of eight by twelve cells."""
    tiny = synthetic.generate(shape=(8, 12), times=60, seed=1)
    monkeypatch.setattr("finegrid.benchmark.task._synthetic", lambda: tiny)
    return replace(find_task("synthetic-x4"), variables=("tas",))


def plain(result):
    return {(each.method, each.metric): each.value for each in result.evaluation.scores}


def forbidden(*_args, **_options):
    raise AssertionError("made again")


def test_a_second_run_finds_every_trial_and_the_same_scores(task, tmp_path, monkeypatch):
    first = run(task, METHODS, out=tmp_path, settings=FEW)
    monkeypatch.setattr(trials, "fitted", forbidden)
    told = []
    again = run(task, METHODS, out=tmp_path, settings=FEW, say=told.append)
    assert plain(again) == plain(first)
    assert all("kept from an earlier run" in words for words in told)
    assert {name: each.seconds for name, each in again.trials.items()} == {
        name: each.seconds for name, each in first.trials.items()
    }
    assert again.trials["resnet"].downscaler.training_log == first.trials["resnet"].downscaler.training_log
    assert ranked(again).splitlines()[:9] == ranked(first).splitlines()[:9]


def test_a_kept_model_remembers_the_input_that_it_learnt_from(task, tmp_path):
    run(task, ["ridge"], out=tmp_path)
    (folder,) = (path.parent for path in tmp_path.rglob("guard.json"))
    guard, material = guard_of(folder, load(folder)), task.material()
    learnt, other = (material.at(times)[0] for times in (material.learning, material.blocks.test))
    assert len(guard.memory.traits) == learnt.sizes["time"]
    assert not guard.compare(learnt.isel(time=slice(5))).flagged
    assert guard.compare(other.assign(tas=(other.tas + 60).assign_attrs(other.tas.attrs))).flagged


@pytest.mark.parametrize("change", [{"settings": replace(FEW, seed=1)}, {"samples": 32}, {"folds": 5}, {"fresh": True}])
def test_what_a_result_depends_on_makes_it_anew(task, tmp_path, monkeypatch, change):
    run(task, ["resnet"], out=tmp_path, settings=FEW)
    monkeypatch.setattr(trials, "fitted", forbidden)
    with pytest.raises(AssertionError, match="made again"):
        run(task, ["resnet"], out=tmp_path, **({"settings": FEW} | change))


def test_other_data_under_the_same_name_are_noticed(task, tmp_path, monkeypatch):
    run(task, ["ridge"], out=tmp_path)
    other = synthetic.generate(shape=(8, 12), times=60, seed=2)
    monkeypatch.setattr("finegrid.benchmark.task._synthetic", lambda: other)
    monkeypatch.setattr(trials, "fitted", forbidden)
    with pytest.raises(AssertionError, match="made again"):
        run(task, ["ridge"], out=tmp_path)


def test_a_run_that_was_stopped_goes_on_to_the_same_result(task, tmp_path, monkeypatch):
    whole, made, fitted = run(task, METHODS, settings=FEW), [], trials.fitted

    def stopped(task, name, *more, **options):
        made.append(name)
        if name == "resnet" and made.count("resnet") == 1:
            raise KeyboardInterrupt
        return fitted(task, name, *more, **options)

    monkeypatch.setattr(trials, "fitted", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(task, METHODS, out=tmp_path, settings=FEW)
    assert plain(run(task, METHODS, out=tmp_path, settings=FEW)) == plain(whole)
    assert made == [*METHODS, "resnet"]
    assert not list(tmp_path.rglob("*.unfinished"))


def test_why_a_method_does_not_apply_is_kept_too(tmp_path, monkeypatch):
    winds = replace(find_task("navy-winds-x4"), variables=("u10",))
    first = run(winds, ["bicubic", "bicubic+softmax"], out=tmp_path)
    monkeypatch.setattr(trials, "fitted", forbidden)
    assert run(winds, ["bicubic", "bicubic+softmax"], out=tmp_path).inapplicable == first.inapplicable


def test_several_processes_find_what_one_does(tmp_path):
    winds = replace(find_task("navy-winds-x4"), variables=("u10",))
    methods, told = ["bicubic", "bicubic+softmax"], []
    beside = run(winds, methods, out=tmp_path, workers=2, say=told.append)
    assert plain(beside) == plain(run(winds, methods))
    assert "bicubic+softmax" in beside.inapplicable
    assert any(words.startswith("2 of 2: ") for words in told)
    with pytest.raises(InputError, match="without a folder"):
        run(winds, methods, workers=2)


def test_predictions_of_others_are_judged_beside_the_methods(task, tmp_path):
    material = task.material()
    truth = material.at(material.blocks.test)[1]
    near = truth + 0.01 * np.random.default_rng(0).standard_normal(truth["tas"].shape)
    near["tas"].attrs.update(truth["tas"].attrs)
    found = run(task, ["bicubic", "ridge"], out=tmp_path, entries={"theirs": near})
    errors = found.evaluation.of("tas", "rmse")
    assert errors["theirs"].best and errors["theirs"].value < 0.02
    assert ranked(found).index("| theirs |") < ranked(found).index("| ridge |")
    with pytest.raises(InputError, match="rename the entry"):
        run(task, ["ridge"], entries={"ridge": near})


def test_a_number_of_samples_ends_training(task):
    found = run(task, ["resnet"], samples=64, settings=Settings(budget=60, batch=16))
    assert found.trials["resnet"].downscaler.info()["training"]["steps"] == 4
