"""Tasks, runs and the table of promised figures, on tiny data and with few steps."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from finegrid.benchmark import TASKS, find_task, ranked, run
from finegrid.benchmark.bench import SECTIONS, main
from finegrid.benchmark.demo import demonstrate
from finegrid.benchmark.figures import Figure, table
from finegrid.conventions import InputError
from finegrid.data import synthetic
from finegrid.training import Settings

FEW = Settings(steps=2, budget=None)


@pytest.fixture(scope="module")
def task(request):
    """A task of eight by twelve cells."""
    tiny = synthetic.generate(shape=(8, 12), times=60, seed=1)
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    patch.setattr("finegrid.benchmark.task._synthetic", lambda: tiny)
    return replace(find_task("synthetic-x4"), variables=("tas",))


@pytest.fixture(scope="module")
def found(task, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    methods = ["bicubic", "bicubic+none", "ridge", "resnet", "resnet+softmax"]
    return run(task, methods, out=out, seeds=2, settings=FEW), out


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.available])
def test_a_task_holds_back_its_last_times(name):
    material = TASKS[name].material()
    blocks, factor = material.blocks, TASKS[name].factor
    assert 0 < blocks.train.max() < blocks.validate.min() <= blocks.validate.max() < blocks.test.min()
    low, high = (
        sorted(size for dim, size in each.sizes.items() if dim not in ("time", "bnds"))
        for each in (material.coarse, material.fine)
    )
    assert TASKS[name].coarse is not None or [factor * size for size in low] == high


def test_the_winds_are_split_as_promised():
    blocks, time = find_task("navy-winds-x4").material().blocks, find_task("navy-winds-x4").material().fine.time
    years = [np.unique(time.dt.year.values[each]) for each in (blocks.train, blocks.validate, blocks.test)]
    assert [(part.min(), part.max()) for part in years] == [(1982, 1988), (1989, 1989), (1990, 1992)]


def test_an_unknown_task_is_answered_with_the_nearest_one():
    with pytest.raises(InputError, match="Did you mean 'racmo-tas-x4'"):
        find_task("racmo-tas-x")


def test_scores_name_methods_as_the_command_line_does_and_seeds_apart(found):
    scores = json.loads((found[1] / "scores.json").read_text())
    assert {"task", "split", "seconds", "scores"} <= set(scores)
    assert {"method", "variable", "metric", "value", "low", "high"} <= set(scores["scores"][0])
    names = {(each["method"], each.get("seed")) for each in scores["scores"]}
    assert {("bicubic", None), ("ridge", None), ("resnet", 0), ("resnet", 1), ("resnet+softmax", 1)} <= names


def test_restoring_block_means_is_the_default_and_can_be_turned_off(found):
    violation = {name: values[0] for name, values in found[0].scores("violation").items()}
    assert violation["bicubic"] < 1e-6 < violation["bicubic+none"]


def test_seeds_differ_and_are_kept_apart(found):
    first, second = found[0].scores("rmse")["resnet"]
    assert first != second
    assert len(found[0].scores("rmse")["ridge"]) == 1


def test_the_report_shows_a_network_also_when_a_simple_method_wins(found):
    assert found[0].evaluation.method.startswith("resnet")
    assert "the simple baseline" in found[0].evaluation.verdict


def test_the_table_is_ranked_from_the_smallest_error(found):
    text = ranked(found[0])
    errors = [float(line.split("|")[2].strip(" *~")) for line in text.splitlines() if re.match(r"\| (bi|ri|re)", line)]
    assert errors == sorted(errors)
    assert (found[1] / "table.md").read_text() == text


def test_every_method_and_seed_leaves_a_line_in_the_ledger(found):
    lines = [json.loads(line) for line in (found[1] / "ledger.jsonl").read_text().splitlines()]
    assert len(lines) == 3 + 2 * 2
    assert all(line["task"] == "synthetic-x4" and line["scores"]["tas"]["rmse"] > 0 for line in lines)


def test_a_method_that_cannot_apply_is_listed_with_its_reason(task):
    winds = replace(find_task("navy-winds-x4"), variables=("u10",))
    result = run(winds, ["bicubic", "bicubic+softmax"])
    assert "negative values" in result.inapplicable["bicubic+softmax"]
    assert "not applicable" in ranked(result)


def test_an_unknown_method_ends_the_run_before_it_costs_anything(task):
    with pytest.raises(InputError, match="There is no method 'resnt'"):
        run(task, ["ridge", "resnt"])


def test_when_no_method_applies_the_run_says_why():
    with pytest.raises(InputError, match="no method applies"):
        run(find_task("navy-winds-x4"), ["nearest+softmax"])


def test_figures_are_shown_with_what_was_measured():
    text = table([Figure("import", "<= 0.5 s", "0.1 s", True), Figure("speed", ">= 3", "2", False)])
    assert text.splitlines()[2:] == ["| import | <= 0.5 s | 0.1 s | yes |", "| speed | >= 3 | 2 | **no** |"]


def test_sections_are_run_one_by_one_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SECTIONS, "demo", lambda bench: [Figure("demo", "fast", "slow", False)])
    monkeypatch.setitem(SECTIONS, "import", lambda bench: [Figure("import", "fast", "fast", True)])
    main(["--out", str(tmp_path), "--only", "demo"])
    main(["--out", str(tmp_path), "--only", "import"])
    kept = json.loads((tmp_path / "bench.json").read_text())["sections"]
    assert list(kept) == ["import", "demo"]
    text = (tmp_path / "BENCH.md").read_text()
    assert "| demo | fast | slow | **no** |" in text
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"])
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demonstration_walks_through_files(tmp_path):
    shown = demonstrate(tmp_path / "demo", steps=2)
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        "coarse.nc",
        "fine.nc.cost.json",
        "truth.nc",
        "elevation.nc",
        "fine.nc",
        "model",
        "scores.json",
        "report.html",
        "picture.png",
    }
    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())["scores"]
    assert {each["method"] for each in scores} >= {"ridge", "bicubic", shown.evaluation.method}
    assert all(each["value"] <= 1e-6 for each in scores if each["metric"] == "violation")
