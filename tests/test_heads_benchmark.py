"""The table of heads: a dressing finds the error that was put in, rows become means over seeds and figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from finegrid.benchmark import find_task, known_truth
from finegrid.benchmark.arenas import ARENAS, Arena
from finegrid.benchmark.dressing import Dressing
from finegrid.benchmark.figures import Bench
from finegrid.benchmark.heads import compare, write
from finegrid.benchmark.heads_table import Row, figures_of, tables
from finegrid.evaluation import Score
from finegrid.training import Settings


def fields(values: np.ndarray) -> xr.Dataset:
    times, rows, columns = values.shape
    return xr.Dataset(
        {"pr": (("time", "lat", "lon"), values.astype(np.float32), {"units": "mm/day"})},
        coords={
            "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D"),
            "lat": ("lat", 45.0 + np.arange(rows), {"units": "degrees_north"}),
            "lon": ("lon", 5.0 + np.arange(columns), {"units": "degrees_east"}),
        },
    )


def test_a_dressing_finds_an_error_that_grows_with_the_value():
    random = np.random.default_rng(0)
    predicted = random.uniform(10, 50, size=(200, 20, 20))
    truth = predicted + 0.1 * predicted * random.normal(size=predicted.shape)
    found = Dressing.of(fields(predicted), fields(truth))
    # The last classes, of the largest values, are a few hundred values each.
    np.testing.assert_allclose(found.errors["pr"][:20], 0.1 * found.values["pr"][:20], rtol=0.05)
    members = found.members(fields(predicted), 30, seed=1).pr
    np.testing.assert_allclose(members.std("member").mean(), 0.1 * predicted.mean(), rtol=0.05)
    assert members.dims[0] == "member"


def test_dressed_rain_is_never_negative_and_the_same_for_the_same_seed():
    predicted = np.random.default_rng(0).gamma(0.5, size=(20, 8, 8)) * (np.arange(8) > 3)
    truth = np.random.default_rng(1).gamma(0.5, size=(20, 8, 8))
    dressing = Dressing.of(fields(predicted), fields(truth))
    one, same, other = (dressing.members(fields(predicted), 5, seed=seed) for seed in (0, 0, 1))
    assert float(one.pr.min()) == 0.0
    xr.testing.assert_identical(one, same)
    assert not np.array_equal(one.pr.values, other.pr.values)


def row(label: str, seed: int = 0, *, single: bool = False, **values: float) -> Row:
    scores = {
        f"pr {metric}": Score(label, "pr", metric, value, value - 0.1, value + 0.1)
        for metric, value in {name.replace("_", "-"): each for name, each in values.items()}.items()
    }
    return Row("rain", label, seed, "pr", single, scores, {"pr": None if single else 2}, {"steps": 10})


ROWS = [
    row("resnet", single=True, mae=1.0, crps=1.0, violation=1e-7),
    row("glm", mae=1.5, crps=0.5, violation=0.5, negatives=0.1),  # draws members, and is no head
    row("gaussian", mae=1.5, crps=0.9, violation=1e-7, spread_skill=0.5, negatives=0.0),
    row("flow (steps 2)", 0, mae=1.1, crps=0.6, violation=1e-7, spread_skill=0.9, negatives=0.0),
    row("flow (steps 2)", 1, mae=1.1, crps=0.8, violation=1e-7, spread_skill=1.1, negatives=0.0),
]


def test_the_table_ranks_by_crps_and_gives_mean_and_range_of_the_seeds():
    lines = tables(ROWS).splitlines()
    assert lines[0] == "## rain"
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines[4:]]
    assert names == ["glm", "flow (steps 2)", "gaussian", "resnet"]
    assert "0.7 (0.6 to 0.8)" in lines[5]
    assert "2 out of band" in lines[5]


def test_figures_judge_the_best_head_against_the_best_single_answer():
    crps, spread, conserved, negative = figures_of(ROWS, 0.8)
    assert crps.reached is True
    assert crps.numbers == {"gaussian": pytest.approx(0.9), "flow (steps 2)": pytest.approx(0.7)}
    assert (spread.measured, spread.reached) == ("1.000", True)
    assert conserved.reached is True
    assert negative.reached is True
    assert figures_of(ROWS, 0.6)[0].reached is False


def test_the_entries_are_the_simple_methods_the_network_and_every_head():
    entries = ARENAS["mrms"].entries([{"name": "noise-injected", "vector": 8}])
    assert [entry.label for entry in entries][-2:] == ["resnet+multiplicative", "noise-injected (vector 8)"]
    assert entries[-1].options["head"] == {"name": "noise-injected", "vector": 8}
    assert entries[-1].method == "noise-injected+multiplicative"


def test_members_of_the_known_distribution_have_no_errors_and_others_have_theirs():
    random, root = np.random.default_rng(0), np.linalg.cholesky(known_truth.covariance())
    truth = random.standard_normal((64, len(root)))
    departures = random.standard_normal((500, 64, len(root))) @ root.T
    mean, covariance = known_truth.errors(truth + departures, truth)
    assert mean < 0.01 and covariance < 0.03
    mean, covariance = known_truth.errors(truth + 0.1 + 1.1 * departures, truth)
    assert mean == pytest.approx(0.1, rel=0.1) and covariance == pytest.approx(1.1**2 - 1, rel=0.15)


def test_a_head_that_has_learnt_little_is_not_near_the_known_truth(monkeypatch, tmp_path):
    monkeypatch.setattr(known_truth, "_TIMES", 200)
    monkeypatch.setattr(known_truth, "_MEMBERS", 20)
    monkeypatch.setattr(known_truth, "HEADS", {"gaussian": ({}, {}), "flow": ({"steps": 2}, {})})
    found = known_truth.known_truth(Bench(out=tmp_path, budget=0.2))
    assert [each.name for each in found] == ["gaussian, linear-Gaussian", "flow, linear-Gaussian", "flow, bimodal"]
    assert not found[0].reached and not found[1].reached


@pytest.mark.slow
def test_an_arena_runs_from_fit_to_table(tmp_path, monkeypatch):
    from finegrid.data import synthetic

    tiny = synthetic.generate(synthetic.REGIONS["alpine"], shape=(16, 16), times=90, seed=1)
    monkeypatch.setattr("finegrid.benchmark.task._synthetic", lambda: tiny)
    assert find_task("synthetic-x4").available
    arena = Arena(
        tasks=("synthetic-x4",),
        simple=("bicubic",),
        point="resnet",
        of_point={},
        after="",
        options={},
        target=0.8,
    )
    settings = Settings(budget=None, steps=2, batch=4, device="cpu")
    rows = compare(arena, arena.entries(["noise-injected"]), settings=settings, seeds=2, members=3)
    assert [(each.label, each.seed) for each in rows] == [
        ("bicubic", 0),
        ("resnet", 0),
        ("resnet, dressed", 0),
        ("resnet", 1),
        ("resnet, dressed", 1),
        ("noise-injected", 0),
        ("noise-injected", 1),
    ]
    write(rows, tmp_path, "tiny")
    assert len(json.loads((tmp_path / "heads-tiny.json").read_text())) == 7
