"""Parts of a report: calibration of an ensemble, likeness of the input, cost, ranking, and what a model folder adds."""

import json
import re
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr

from finegrid.benchmark.attribution.part import attribution_parts
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen
from finegrid.downscalers import load
from finegrid.evaluation import Evaluation, evaluate
from finegrid.evaluation.guard import Guard
from finegrid.evaluation.parts import Cost, Part, Picture, calibration, likeness
from finegrid.evaluation.parts.base import markdown_table
from finegrid.evaluation.parts.ranking import order, ranked
from finegrid.pipeline.calibrate import calibrate
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.evaluate import evaluate_files
from finegrid.pipeline.fit import fit
from finegrid.pipeline.recipe import Recipe
from test_ensemble_metrics import dataset, normal, weights_of
from test_guard import changed, weather


def judged(spread: float, members: int = 9, times: int = 60) -> Evaluation:
    prediction, truth = normal(members, times, spread=spread)
    return evaluate(dataset(prediction), dataset(truth), method="mine")


@pytest.mark.parametrize("members", [2, 5, 9])
def test_intervals_between_members_hold_the_truth_as_often_as_counted_one_by_one(members):
    prediction, truth = normal(members, 12)
    found = evaluate(dataset(prediction), dataset(truth)).views[0].ensemble.nested
    ranked_members, weights = np.sort(prediction, axis=0), np.broadcast_to(weights_of(truth), truth.shape)
    expected = []
    for low, high in combinations(range(members), 2):
        if low + high == members - 1:  # as many members below as above
            inside = (ranked_members[low] < truth) & (truth < ranked_members[high])
            expected.append((weights * inside).sum() / weights.sum())
    middle = (members + 1 - 2 * np.arange(1, members // 2 + 1)) / (members + 1)
    np.testing.assert_allclose(found.promised[: len(expected)], middle[: len(expected)])
    np.testing.assert_allclose(found.inside[: len(expected)], expected, rtol=1e-6)


def test_honest_intervals_hold_what_they_promise_and_others_are_too_narrow_or_too_wide():
    for spread, words in ((1.0, "as promised"), (0.5, "too narrow"), (2.0, "too wide")):
        found = judged(spread)
        (part,) = calibration(found)
        told = [line.split("|")[-2].strip() for line in part.tables[0][1].splitlines()[2:]]
        if words == "as promised":  # at five levels, 95 % intervals
            assert told.count(words) >= len(told) - 1
        else:
            assert set(told) == {words}
        rows = part.plain["t2m"]["intervals"]
        assert rows[0]["promised"] == pytest.approx(0.8) and rows[0]["low"] <= rows[0]["inside"] <= rows[0]["high"]


def test_few_times_give_shares_without_intervals_and_one_prediction_gives_nothing():
    prediction, truth = normal(3, 4)
    (part,) = calibration(evaluate(dataset(prediction), dataset(truth)))
    assert part.plain["t2m"]["intervals"][0]["low"] is None and "too few times" in part.markdown()
    assert json.loads(json.dumps(part.plain, allow_nan=False)) == part.plain
    assert calibration(evaluate(dataset(prediction[:1]), dataset(truth))) == []


def test_the_calibration_is_in_page_markdown_and_json_alike(tmp_path):
    found = judged(0.5)
    page = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<h2>Calibration: do chances come true?</h2>") == 1 and page.count("too narrow") >= 3
    assert "Histogram of the truth&#x27;s rank" in page
    assert "## Calibration: do chances come true?" in found.markdown()
    assert found.to_dict()["calibration"]["t2m"]["members"] == 9


def test_a_page_begins_with_links_to_its_sections(tmp_path):
    page = judged(1.0).report(tmp_path / "report.html").read_text(encoding="utf-8")
    titles = re.findall(r'<span id="s(\d+)"></span><h2>(.*?)</h2>', page)
    links = re.findall(r'<a href="#s(\d+)">(.*?)</a>', page)
    assert links == titles and len(titles) == page.count("<h2>") >= 4
    assert page.index('class="verdict"') < page.index("<nav>") < page.index("<section")


def test_methods_are_ranked_with_intervals_in_page_markdown_and_json(tmp_path):
    prediction, truth = normal(1, 60)
    worse = dataset(prediction + np.random.default_rng(1).normal(size=prediction.shape))
    found = evaluate(dataset(prediction), dataset(truth), method="good", baselines={"bad": worse, "same": worse})
    assert [score.method for score in order(found, "t2m")] == found.to_dict()["ranking"]["t2m"]
    lines = ranked(found, "t2m").splitlines()
    best, second = found.of("t2m", "rmse")["good"], order(found, "t2m")[1]
    assert lines[2].startswith("| 1 | good |") and lines[2].endswith("| best |") and lines[3].endswith("| worse |")
    assert f"{second.gap_low:.3g} to {second.gap_high:.3g}" in lines[3] and best.low < best.value < best.high
    assert lines[0].startswith("| rank | t2m | RMSE (K) | 95 % interval |")
    assert "\n".join(lines) in found.markdown()
    page = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index('<th scope="row">1</th><td>good</td>') < page.index('<th scope="row">2</th>')


def test_the_guard_is_told_with_its_tests_its_differences_and_a_picture():
    training, new = weather(400), weather(60, start="2004-01-01", seed=1)
    guard = Guard.fit(training, seasonal=False)
    warm = changed(new, tas=lambda tas: tas + 8)
    for fields, flagged in ((new, False), (warm, True)):
        part = likeness(guard.compare(fields))
        assert part.plain["flagged"] is flagged and part.key == "guard"
        assert ("unlike that of training" in part.markdown()) is flagged
        tests, differences = part.tables[1][1], part.tables[2][1]
        assert ("beyond the limit" in tests) is flagged
        verdict = guard.compare(fields)
        assert tests.count("| all together |") == len(verdict.findings) >= 3
        assert tests.count("| tas |") == len(verdict.variables["tas"])
        assert all(len(line.split("|")) == 8 for line in differences.splitlines())
    assert differences.splitlines()[2].startswith("| tas |") and " K |" in differences.splitlines()[2]
    page = part.html()
    assert page.count("<img") == 1 and "The input beside that of training" in page


def test_cost_is_told_for_a_time_step_and_only_what_was_measured():
    (part,) = Cost(seconds=6.0, times=30, members=4, memory=3 * 2**20).part()
    assert "| prediction of a time step, 4 members | 200 ms |" in part.markdown()
    assert "| most memory of the process | 3.00 MiB |" in part.markdown() and "training" not in part.markdown()
    assert part.plain == {"seconds": 6.0, "times": 30, "members": 4, "memory": 3 * 2**20, "seconds_per_time": 0.2}
    assert Cost(times=30, members=4).part() == []


def test_a_part_without_a_table_is_a_sentence_and_a_picture_is_drawn_when_the_page_is():
    drawn = []

    def draw() -> matplotlib.figure.Figure:
        drawn.append(1)
        return matplotlib.figure.Figure()

    part = Part("key", "A & b", (("Only <words>.", ""),), {}, (Picture(draw, "nothing", "caption"),))
    assert part.markdown() == "## A & b\n\nOnly <words>." and not drawn
    assert "A &amp; b" in part.html() and "Only &lt;words&gt;." in part.html() and drawn
    assert markdown_table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---|\n| 1 | 2 |"


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pictures, which take most of the time."""
    monkeypatch.setattr("finegrid.evaluation.page.picture", lambda figure, words, *_, **__: words)
    monkeypatch.setattr("finegrid.evaluation.report.picture", lambda figure, words, *_, **__: words)
    monkeypatch.setattr("finegrid.evaluation.portrait.picture", lambda figure, words, *_, **__: words)
    for name in ("maps.maps", "maps.members", "figures.intervals", "figures.spectra", "portrait.portrait"):
        monkeypatch.setattr(f"finegrid.evaluation.{name}", lambda *_: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws members, with files of times that it has not seen, and the same eight degrees warmer."""
    made = tmp_path_factory.mktemp("reported")
    fields = weather(480, size=(8, 12))
    fields = fields.assign_coords(lat=45 + 0.1 * np.arange(8), lon=5 + 0.1 * np.arange(12))
    for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
        fields[name].attrs["units"] = units
    fields["pr"].attrs["standard_name"] = "lwe_precipitation_rate"
    learnt, later = fields.isel(time=slice(400)), fields.isel(time=slice(400, None))
    for name, each in (("", learnt), ("later_", later)):
        each.to_netcdf(made / f"{name}fine.nc", engine="netcdf4")
        coarsen(each, 2).to_netcdf(made / f"{name}coarse.nc", engine="netcdf4")
    changed(coarsen(later, 2), tas=lambda tas: tas + 8).to_netcdf(made / "warm.nc", engine="netcdf4")
    data = {"coarse": str(made / "coarse.nc"), "fine": str(made / "fine.nc"), "cycles": []}
    data |= {"variables": {"tas": "tas"}, "predictors": ["pr"]}
    job = Recipe.of({"data": data, "downscaler": {"name": "glm", "constraint": "add"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluation, "report", lambda *_, **__: None)
        fit(job, made / "model", progress=False)
    downscale(made / "model", made / "later_coarse.nc", made / "mine.nc", members=5)
    downscale(made / "model", made / "warm.nc", made / "warm_mine.nc", members=5)
    return made


def report(folder: Path, out: Path, name: str = "mine.nc", **more) -> tuple[Evaluation, str]:
    found = evaluate_files(folder / name, folder / "later_fine.nc", out, **more)
    return found, (out / "report.html").read_text(encoding="utf-8")


def test_a_report_of_files_has_everything_that_its_model_knows(folder, tmp_path):
    coarse = folder / "later_coarse.nc"
    found, page = report(folder, tmp_path / "out", coarse=coarse, model=folder / "model")
    plain = json.loads((tmp_path / "out" / "scores.json").read_text())
    words = (tmp_path / "out" / "report.md").read_text()
    for key, title in (
        ("calibration", "Calibration: do chances come true?"),
        ("guard", "Is the input like that of training?"),
        ("cost", "Cost"),
    ):
        assert key in plain and f"## {title}" in words and f"<h2>{title}</h2>" in page
    assert plain["guard"]["times"] == 80 and plain["guard"]["compared"] > 300
    assert plain["cost"]["times"] == 80 and plain["cost"]["members"] == 5
    beside = json.loads((folder / "mine.nc.cost.json").read_text())
    assert plain["cost"]["seconds_per_time"] == pytest.approx(beside["seconds"] / 80)
    assert plain["cost"]["memory"] == beside["peak_memory"] > 10**7
    assert plain["cost"]["fitting_seconds"] > 0 and plain["cost"]["model_bytes"] > 0
    assert (
        page.index("<h2>Calibration: do")
        < page.index("<h2>Is the input")
        < page.index("<h2>Cost")
        < page.index("<h2>What to keep")
    )
    assert "Rx1day" not in page and "TXx" in page and "<h3>Extremes</h3>" in page
    assert "bilinear interpolation of later_coarse.nc" in page
    assert "calibrator" not in plain and "attribution" not in plain
    assert not found.parts[0].plain["flagged"]


def test_only_the_times_that_are_judged_are_looked_at_and_strange_input_is_a_note(folder, tmp_path, plainly):
    given = {"coarse": folder / "warm.nc", "model": folder / "model", "time": "2002-03"}
    found, page = report(folder, tmp_path / "out", "warm_mine.nc", **given)
    guard = next(part for part in found.parts if part.key == "guard")
    assert guard.plain["flagged"] and guard.plain["times"] == 31
    assert any("unlike that of training" in note for note in found.notes) and "unlike that of training" in page


def test_without_the_model_the_file_says_what_it_knows(folder, tmp_path, plainly):
    found, page = report(folder, tmp_path / "out", "warm_mine.nc")
    assert [part.key for part in found.parts] == ["guard", "cost"]
    assert "When the prediction was made: The input is unlike that of training" in page
    plain, _ = report(folder, tmp_path / "own", "later_fine.nc")
    assert [part.key for part in plain.parts] == ["relations"]


def test_the_model_of_another_prediction_is_refused_before_any_work(folder, tmp_path):
    other = xr.open_dataset(folder / "mine.nc").load()
    other.attrs["finegrid_model"] = "0" * 64
    other.to_netcdf(tmp_path / "other.nc", engine="netcdf4")
    with pytest.raises(InputError, match=r"another model made \(000000000000\.\.\.\).*leave --model out"):
        evaluate_files(tmp_path / "other.nc", folder / "later_fine.nc", tmp_path / "out", model=folder / "model")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_a_note(folder, tmp_path, plainly):
    found, _ = report(folder, tmp_path / "out", model=folder / "model")
    assert any("Without the coarse input nobody can say" in note for note in found.notes)
    bare = tmp_path / "model"
    bare.mkdir()
    for path in (folder / "model").iterdir():
        if not path.name.startswith("guard"):
            (bare / path.name).write_bytes(path.read_bytes())
    found, _ = report(folder, tmp_path / "bare", model=bare, coarse=folder / "later_coarse.nc")
    assert any("does not know what its training input looked like" in note for note in found.notes)


def test_the_calibration_of_the_model_stands_in_the_report(folder, tmp_path, plainly):
    for path in (folder / "model").iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    files = {"coarse": folder / "later_coarse.nc", "fine": folder / "later_fine.nc"}
    done = calibrate(tmp_path / "model", method="spread", members=5, **files)
    found, page = report(folder, tmp_path / "out", model=tmp_path / "model")
    part = next(part for part in found.parts if part.key == "calibrator")
    assert part.plain["calibrator"] == "spread" and part.plain["words"] == list(done.words)
    assert "90 % intervals of tas on the second half of the period" in page and "calibration.html" in page


def finegrid(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_attribution_is_asked_for_by_a_word_or_found_in_the_folder(folder, tmp_path, monkeypatch, plainly, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("finegrid.benchmark.attribution.part._MOST", 3)
    files = ("mine.nc", "later_fine.nc", "--coarse", "later_coarse.nc", "--time", "2002-03-01/2002-03-14")
    assert finegrid("evaluate", *files, "--attribute", "--out", tmp_path / "out") == 2
    assert "--attribute without the model or its input" in capsys.readouterr().err
    assert finegrid("evaluate", *files, "--model", "model", "--attribute", "--out", tmp_path / "out") == 0
    plain = json.loads((tmp_path / "out" / "scores.json").read_text())["attribution"]
    assert plain["times"] == 3 and plain["method"] == "occlusion" and set(plain["share"]) == {"tas", "pr"}
    assert sum(plain["share"].values()) == pytest.approx(1) and plain["share"]["tas"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index("<h2>Is the input like") < page.index("<h2>What the prediction hangs on") < page.index("<h2>Cost")
    assert "Maps of the attribution to " in page
    assert attribution_parts("model", "later_coarse.nc", "2002") == []
    words = ("attribute", "model", "later_coarse.nc", "--method", "occlusion", "--time", "2002-03-01/2002-03-02")
    assert finegrid(*words, "--out", "model/attribution.nc") == 0
    (kept,) = attribution_parts("model", None, "2002")
    assert kept.plain["times"] == 2
    changed_model = xr.open_dataset("model/attribution.nc").load().assign_attrs(finegrid_model="another")
    Path("model/attribution.nc").unlink()
    changed_model.to_netcdf("model/attribution.nc", engine="netcdf4")
    assert attribution_parts("model", None, "2002") == []
    assert load("model").random
