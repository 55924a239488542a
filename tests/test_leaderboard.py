"""The leaderboard grows by runs and by others' predictions; tasks go out as files and come back as entries."""

import json
import re
from dataclasses import replace

import pytest
import xarray as xr

from finegrid.benchmark import find_task, run
from finegrid.benchmark.leaderboard import Leaderboard
from finegrid.benchmark.page import section
from finegrid.benchmark.protocols import PROTOCOLS
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import open_fields


@pytest.fixture(scope="module")
def winds():
    return replace(find_task("navy-winds-x4"), variables=("u10",))


@pytest.fixture(scope="module")
def found(winds):
    return run(winds, ["bicubic", "bilinear"])


def finegrid(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_a_board_is_extended_and_the_same_entry_takes_its_place(found, winds, tmp_path):
    board = Leaderboard.read(tmp_path / "board.json").extended(found)
    board.write(tmp_path / "board.json")
    again = Leaderboard.read(tmp_path / "board.json")
    assert again == board
    assert [each.method for each in again.ranked("navy-winds-x4", again.tasks[0][1], "u10", "rmse")] == [
        "bicubic",
        "bilinear",
    ]
    assert len(again.extended(found).entries) == 2
    assert len(again.extended(run(winds, ["nearest"])).entries) == 3
    values = {each["method"]: each["scores"]["u10"]["rmse"]["value"] for each in _plain(tmp_path)}
    assert values == {name: score.value for name, score in found.evaluation.of("u10", "rmse").items()}


def _plain(folder):
    return json.loads((folder / "board.json").read_text())["entries"]


def test_something_else_is_not_taken_for_a_board(tmp_path):
    (tmp_path / "board.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match="expected a JSON file that finegrid benchmark"):
        Leaderboard.read(tmp_path / "board.json")


def test_numbers_that_were_written_as_words_are_numbers(found, tmp_path):
    Leaderboard().extended(found).write(tmp_path / "board.json")
    text = (tmp_path / "board.json").read_text()
    assert '"low": null' not in text
    (tmp_path / "board.json").write_text(re.sub(r'"(value|low)": ([0-9.e+-]+)', r'"\1": "\2"', text))
    assert Leaderboard.read(tmp_path / "board.json") == Leaderboard().extended(found)


def test_the_page_has_a_picture_of_skill_and_cost(found):
    assert "Skill against cost" in section(found)
    bare = replace(found, trials={name: replace(each, seconds=float("nan")) for name, each in found.trials.items()})
    assert section(bare) == ""


def test_a_task_goes_out_as_files_and_comes_back_as_an_entry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert finegrid("benchmark", "navy-winds-x4", "--export", "task") == 0
    assert {each.name for each in (tmp_path / "task").iterdir()} == {
        *("README.md", "static_0.nc", "test_coarse.nc", "train_coarse.nc", "train_fine.nc"),
    }
    assert finegrid("benchmark", "navy-winds-x4", "--export", "task") == 2
    assert "not empty" in capsys.readouterr().err
    learnt, given = open_fields("task/train_fine.nc"), open_fields("task/test_coarse.nc")
    mean = learnt.mean("time").expand_dims(time=given.time)
    for name in ("u10", "v10"):
        mean[name].attrs.update(learnt[name].attrs)
    mean.astype("float32").to_netcdf("theirs.nc", engine="netcdf4")
    words = ("--methods", "bicubic", "--entry", "theirs=theirs.nc", "--out", "bench", "--leaderboard", "board.json")
    assert finegrid("benchmark", "navy-winds-x4", *words) == 0
    capsys.readouterr()
    assert finegrid("benchmark", "--leaderboard", "board.json") == 0
    told = capsys.readouterr().out
    assert "| theirs |" in told and "| bicubic |" in told
    kept = xr.open_dataset("theirs.nc")
    assert kept.sizes["time"] == 36


class Told:
    """An answer that only says that it was asked for."""

    protocol = "warm"

    def write(self, out):
        out.mkdir()
        (out / "warm.md").write_text("asked")

    def markdown(self):
        return "what was found"


def test_a_protocol_is_asked_by_name_with_what_the_command_says(tmp_path, monkeypatch, capsys):
    asked = []

    def warm(task, methods, **options):
        asked.append((task.name, methods, options))
        return Told()

    monkeypatch.setitem(PROTOCOLS, "warm", warm)
    words = ("--methods", "bicubic,ridge", "--steps", "3", "--seeds", "2", "--out", tmp_path / "out")
    assert finegrid("benchmark", "navy-winds-x4", "--protocol", "warm", *words) == 0
    ((task, methods, options),) = asked
    assert (task, methods, options["seeds"]) == ("navy-winds-x4", ["bicubic", "ridge"], 2)
    assert options["settings"].steps == 3 and options["out"] == tmp_path / "out"
    assert (tmp_path / "out" / "warm.md").exists() and "what was found" in capsys.readouterr().out
    assert finegrid("benchmark", "navy-winds-x4", "--protocol", "warn") == 2
    assert "Did you mean 'warm'" in capsys.readouterr().err
