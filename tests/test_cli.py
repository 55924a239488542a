"""The command line as users meet it: what it prints, which code it exits with, what it leaves on disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

import finegrid as finegrid_package
from finegrid.cli import main
from finegrid.data import coarsen, synthetic
from finegrid.evaluation import Evaluation

SHAPE, TIMES, FACTOR = (8, 12), 40, 4


@pytest.fixture(scope="module")
def fine() -> xr.Dataset:
    return synthetic.generate(shape=SHAPE, times=TIMES)[["tas"]]


@pytest.fixture
def files(tmp_path: Path, fine: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with coarse.nc and fine.nc, in which commands run."""
    fine.to_netcdf(tmp_path / "fine.nc", engine="netcdf4")
    coarsen(fine, FACTOR).to_netcdf(tmp_path / "coarse.nc", engine="netcdf4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def fitted(fine: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as the command line makes it."""
    folder = tmp_path_factory.mktemp("fitted")
    fine.to_netcdf(folder / "fine.nc", engine="netcdf4")
    coarsen(fine, FACTOR).to_netcdf(folder / "coarse.nc", engine="netcdf4")
    assert fit(coarse=folder / "coarse.nc", fine=folder / "fine.nc", out=folder / "model") == 0
    return folder / "model"


@pytest.fixture
def model(files: Path, fitted: Path) -> Path:
    """A copy of it beside the files."""
    return Path(shutil.copytree(fitted, files / "model"))


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report, which takes longer to draw than all else and is tested elsewhere."""
    monkeypatch.setattr(Evaluation, "report", lambda self, path, **_: path)


def finegrid(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    return int(end.value.code or 0)


def fit(*more: object, coarse: object = "coarse.nc", fine: object = "fine.nc", out: object = "model") -> int:
    return finegrid("fit", "--coarse", coarse, "--fine", fine, "--method", "bicubic", "--out", out, *more)


def complaint(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The message of a command that failed as it should: one line for the user and no traceback."""
    assert code == 2
    text = capsys.readouterr().err
    assert text.startswith("Error: ")
    assert "Traceback" not in text
    return text


def left_behind(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"coarse.nc", "fine.nc"}


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in ("demo", "fit", "downscale"))])
def test_help_shows_how_a_command_is_used(arguments, capsys):
    assert finegrid(*arguments) == 0
    assert "finegrid" in capsys.readouterr().out


VERBS = [
    "demo",
    "calibrate",
    "fit",
    "downscale",
    "evaluate",
    "benchmark",
    "samples",
    "info",
    "recipe",
    "check",
    "inspect",
    "guard",
    "attribute",
    "regrid",
    "export",
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_shows_an_example(verb, capsys):
    assert finegrid(verb, "--help") == 0
    assert f"finegrid {verb}" in capsys.readouterr().out.split("\n", 1)[1]


def test_no_command_is_left_out():
    from finegrid.cli.app import app

    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(VERBS)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom finegrid.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "xarray", "matplotlib", "numpy"} & set(done.stderr.split()) == set()


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "finegrid", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("finegrid ")


def test_the_example_recipe_is_a_recipe(capsys):
    assert finegrid("recipe", "--example") == 0
    assert set(yaml.safe_load(capsys.readouterr().out)) == {"data", "adjust", "downscaler", "training", "calibrate"}


def test_a_checked_recipe_is_printed_with_the_defaults_of_its_components(files, capsys):
    (files / "job.yaml").write_text("data: {coarse: coarse.nc, fine: fine.nc}\n")
    assert finegrid("recipe", "--check", "job.yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out)["downscaler"]["backbone"]["width"] > 0


def test_samples_are_listed_and_written(tmp_path, capsys):
    assert finegrid("samples") == 0
    assert "navy-winds" in capsys.readouterr().out
    assert finegrid("samples", "--get", "elevation-uk", "--out", tmp_path / "uk.nc") == 0
    with xr.open_dataset(tmp_path / "uk.nc", engine="netcdf4") as elevation:
        assert len(elevation.data_vars) >= 1


def test_tasks_are_listed(capsys):
    assert finegrid("benchmark", "--list") == 0
    assert "navy-winds-x4" in capsys.readouterr().out


def test_two_files_become_a_model_a_fine_file_and_a_report(model, files, capsys):
    assert {"model.json", "weights.safetensors", "recipe.yaml", "scores.json", "report.html", "ledger.jsonl"} <= {
        path.name for path in model.iterdir()
    }
    assert finegrid("downscale", "model", "coarse.nc", "--out", "out.nc", "--time", "2001-01") == 0
    with xr.open_dataset(files / "out.nc", engine="netcdf4") as made:
        assert made.sizes["member"] == 1
        assert made.sizes["time"] == 31
        assert made.attrs["Conventions"] == "CF-1.11"
        assert "downscale model coarse.nc" not in made.attrs["source"]
        assert made.attrs["finegrid_conservation_violation"] <= 1e-6
    assert finegrid("evaluate", "out.nc", "fine.nc", "--coarse", "coarse.nc", "--out", "report") == 0
    scores = json.loads((files / "report" / "scores.json").read_text())
    assert {score["method"] for score in scores["scores"]} == {"bicubic", "bilinear"}
    assert "typical error" in capsys.readouterr().out
    assert left_behind(files) == {"model", "out.nc", "out.nc.cost.json", "report"}


def test_info_says_what_a_model_predicts(model, capsys):
    capsys.readouterr()
    assert finegrid("info", "model", "--json") == 0
    known = json.loads(capsys.readouterr().out)
    assert known["variables"] == {"tas": "K"}
    assert len(known["digest"]) == 64


def test_the_command_is_noted_in_the_history(model, files, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/finegrid", "downscale", "model", "coarse.nc", "--out", "out.nc"])
    with pytest.raises(SystemExit):
        main()
    with xr.open_dataset(files / "out.nc", engine="netcdf4") as made:
        assert "finegrid downscale model coarse.nc --out out.nc" in made.attrs["history"]


def changed(files: Path, name: str, change) -> None:
    with xr.open_dataset(files / name, engine="netcdf4") as fields:
        other = change(fields.load())
    other.to_netcdf(files / name, engine="netcdf4")


def with_values(value: float, part: slice):
    def change(fields: xr.Dataset) -> xr.Dataset:
        fields["tas"][part] = value
        return fields

    return change


def with_units(units: str):
    def change(fields: xr.Dataset) -> xr.Dataset:
        fields["tas"].attrs["units"] = units
        return fields

    return change


def as_geopotential(fields: xr.Dataset) -> xr.Dataset:
    fields["tas"].attrs |= {"standard_name": "geopotential_height", "units": "m"}
    return fields.rename(tas="zg")


def with_doubled_time(fields: xr.Dataset) -> xr.Dataset:
    return fields.isel(time=[0, 0, *range(1, TIMES)])


FAULTS = {
    "no time axis": ("fine.nc", lambda fields: fields.isel(time=0, drop=True), ["fine.nc", "no time axis"]),
    "variable in one file only": ("coarse.nc", as_geopotential, ["coarse.nc", "fine.nc", "zg", "tas", "--variables"]),
    "unknown units": ("coarse.nc", with_units("furlongs per moon"), ["tas", "furlongs per moon", "coarse.nc"]),
    "incompatible units": ("coarse.nc", with_units("kg m-2 s-1"), ["tas", "kg m-2 s-1", "coarse.nc"]),
    "unsorted times": ("coarse.nc", lambda fields: fields.isel(time=slice(None, None, -1)), ["coarse.nc", "sortby"]),
    "duplicate times": ("fine.nc", with_doubled_time, ["fine.nc", "drop_duplicates"]),
    "no common times": (
        "coarse.nc",
        lambda fields: fields.assign_coords(time=fields.time + np.timedelta64(9999, "D")),
        ["coarse.nc", "fine.nc", "no times in common"],
    ),
    "coarse does not cover": ("coarse.nc", lambda fields: fields.isel(lon=slice(1, None)), ["coarse.nc", "cover"]),
    "all missing": ("fine.nc", with_values(np.nan, slice(None)), ["fine.nc", "tas", "missing (NaN) everywhere"]),
    "infinite": ("coarse.nc", with_values(np.inf, slice(0, 1)), ["coarse.nc", "tas", "infinite"]),
    "one time": ("fine.nc", lambda fields: fields.isel(time=[0]), ["at least two", "coarse.nc", "fine.nc"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_data_that_cannot_be_used_end_in_a_message_and_no_model(fault, files, capsys):
    name, change, words = FAULTS[fault]
    changed(files, name, change)
    text = complaint(capsys, fit())
    for word in words:
        assert word in text
    assert left_behind(files) == set()


def test_a_missing_file_is_named(files, capsys):
    assert "absent.nc" in complaint(capsys, fit(coarse="absent.nc"))
    assert left_behind(files) == set()


def test_a_file_of_another_kind_is_named(files, capsys):
    (files / "coarse.nc").write_text("time,lat,lon,tas\n")
    assert "coarse.nc is not a climate file" in complaint(capsys, fit())


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_not_learnt_from(part, files, capsys):
    whole = (files / "fine.nc").read_bytes()
    (files / "fine.nc").write_bytes(whole[: int(part * len(whole))])
    assert "truncated" in complaint(capsys, fit())
    assert left_behind(files) == set()


def test_exchanged_files_are_noticed(files, capsys):
    text = complaint(capsys, fit(coarse="fine.nc", fine="coarse.nc"))
    assert "--coarse and --fine" in text


def test_without_files_the_command_says_what_it_needs(files, capsys):
    assert "--coarse" in complaint(capsys, finegrid("fit", "--out", "model"))
    assert "--fine" in complaint(capsys, finegrid("fit", "--coarse", "coarse.nc", "--out", "model"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {coarse: coarse.nc, fine: fine.nc}\ntrainin: {seed: 1}\n", ["trainin", "Did you mean 'training'"]),
        ("data: {coarse: coarse.nc, fine: fine.nc, statc: a.nc}\n", ["statc", "'static'"]),
        (
            "data: {coarse: coarse.nc, fine: fine.nc}\ndownscaler: {name: neural, backbone: resnt}\n",
            ["resnt", "resnet"],
        ),
        ("data: {coarse: coarse.nc, fine: fine.nc}\ndownscaler: {name: neural, bckbone: resnet}\n", ["'backbone'"]),
    ],
)
def test_a_mistyped_recipe_is_answered_with_the_nearest_word(text, words, files, capsys):
    (files / "job.yaml").write_text(text)
    message = complaint(capsys, finegrid("fit", "job.yaml", "--out", "model"))
    for word in words:
        assert word in message


def test_an_unknown_method_is_answered_with_the_nearest_one(files, capsys):
    assert "Did you mean 'ridge'" in complaint(capsys, fit("--method", "rige"))


@pytest.mark.parametrize("out", ["fine.nc/model", "/proc/finegrid/model"])
def test_a_place_that_cannot_be_written_to_is_named(out, files, capsys):
    assert "could not write" in complaint(capsys, fit(out=out))


def test_a_folder_with_other_files_is_not_replaced(files, capsys):
    (files / "model").mkdir()
    (files / "model" / "thesis.txt").write_text("years of work")
    assert "other files" in complaint(capsys, fit())
    assert (files / "model" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_leaves_no_model_and_the_old_one_as_it_was(model, files, capsys, monkeypatch, plainly):
    import finegrid.downscalers.store as store

    before = (model / "model.json").read_bytes()
    monkeypatch.setattr(store, "_replace", full_disk)
    assert "No space left" in complaint(capsys, fit())
    assert (model / "model.json").read_bytes() == before
    assert left_behind(files) == {"model"}


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_no_fine_file(model, files, capsys, monkeypatch):
    from finegrid.data.stores import NetcdfStore

    monkeypatch.setattr(NetcdfStore, "put", full_disk)
    told = complaint(capsys, finegrid("downscale", "model", "coarse.nc", "--out", "out.nc"))
    assert "No space left" in told and "blocks are finished and kept in out.nc.unfinished" in told
    assert left_behind(files) == {"model", "out.nc.unfinished"}


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_changed_byte_in_a_model_is_noticed(name, model, files, capsys):
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    text = complaint(capsys, finegrid("downscale", "model", "coarse.nc", "--out", "out.nc"))
    assert name in text
    assert not (files / "out.nc").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["coarse.nc", "--out", "out.txt"], [".nc", ".zarr"]),
        (["coarse.nc", "--out", "absent/out.nc"], ["mkdir -p absent"]),
        (["coarse.nc", "--out", "out.nc", "--time", "1850"], ["1850", "2001", "--time"]),
        (["coarse.nc", "--out", "out.nc", "--time", "March"], ["March", "not a period"]),
        (["coarse.nc", "--out", "out.nc", "--members", "0"], ["members=0", "at least 1", "--members 1"]),
        (["coarse.nc", "--out", "out.nc", "--members", "3"], ["members=3", "bicubic", "glm", "analogues"]),
        (["coarse.nc", "--out", "out.nc", "--quantiles", "0.5"], ["members=1", "at least 2", "--members 50"]),
        (["coarse.nc", "--out", "out.nc", "--members", "5", "--quantiles", "0.1,1"], ["quantile 1;", "0.9"]),
        (["coarse.nc", "--out", "out.nc", "--members", "5", "--quantiles", "high"], ["got high", "0.1,0.5,0.9"]),
        (["absent.nc", "--out", "out.nc"], ["absent.nc"]),
        (["fine.nc", "--out", "fine.nc/out.nc"], ["no folder"]),
    ],
)
def test_a_downscaling_that_cannot_be_done_leaves_nothing(arguments, words, model, files, capsys):
    text = complaint(capsys, finegrid("downscale", "model", *arguments))
    for word in words:
        assert word in text
    assert left_behind(files) == {"model"}


def test_a_folder_without_a_model_is_named(files, capsys):
    assert "not a model folder" in complaint(capsys, finegrid("info", "absent"))


def test_debug_shows_where_an_error_comes_from(files):
    with pytest.raises(ValueError, match=r"absent\.nc"):
        main(["--debug", "fit", "--coarse", "absent.nc", "--fine", "fine.nc", "--out", "model"])


def test_an_unknown_option_is_the_users_mistake(capsys):
    assert finegrid("samples", "--everything") == 2
    assert "--everything" in capsys.readouterr().err


def test_too_few_test_times_are_said_and_not_scored(files, capsys):
    changed(files, "fine.nc", lambda fields: fields.isel(time=slice(0, 6)))
    assert fit() == 0
    assert "no scores" in capsys.readouterr().out
    assert not (files / "model" / "scores.json").exists()


INTERRUPTED = """
import sys, torch
torch.set_num_threads(1)
from finegrid.cli import main
main(sys.argv[1:])
"""
FITTING = ("fit", "--coarse", "coarse.nc", "--fine", "fine.nc", "--steps", "120", "--method", "resnet", "--out")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of this process in the order of one that has a single thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


STOPPED = """
import sys
from finegrid.cli import main
import finegrid.pipeline.regrid as pipeline
def stop(*_, **__):
    raise KeyboardInterrupt
pipeline.write = stop
main(sys.argv[1:])
"""


def test_ctrl_c_says_that_nothing_half_written_was_kept(files):
    job = ["regrid", "coarse.nc", "--like", "fine.nc", "--out", "new.nc", "--save-weights", "weights.nc"]
    done = subprocess.run([sys.executable, "-c", STOPPED, *job], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and "Stopped. Nothing half-written was kept." in done.stderr
    assert not list(files.glob("*new.nc*")) and not list(files.glob("*weights.nc*"))


@pytest.mark.slow
def test_after_ctrl_c_a_fit_goes_on_to_the_same_weights(files, one_thread):
    source = str(Path(finegrid_package.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    job = [sys.executable, "-c", INTERRUPTED, *FITTING, "model"]
    process = subprocess.Popen(job, env=environment, stderr=subprocess.PIPE, text=True)
    log = files / "model.unfinished" / "log.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finegrid fit model.unfinished/recipe.yaml --out model --resume" in said
    assert "Nothing half-written" not in said
    assert (files / "model.unfinished" / "checkpoint.safetensors").exists()
    assert not (files / "model").exists()
    assert finegrid("fit", "model.unfinished/recipe.yaml", "--out", "model", "--resume") == 0
    assert finegrid(*FITTING, "whole") == 0
    assert (files / "model" / "weights.safetensors").read_bytes() == (
        files / "whole" / "weights.safetensors"
    ).read_bytes()
    assert left_behind(files) == {"model", "whole"}


def test_resume_begins_where_there_is_nothing_and_does_nothing_where_all_is_done(files, capsys):
    assert fit("--resume") == 0
    written = (files / "model" / "weights.safetensors").stat().st_mtime_ns
    assert "finished already" not in capsys.readouterr().out
    assert fit("--resume") == 0
    assert "finished already" in capsys.readouterr().out
    assert (files / "model" / "weights.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ([], "noise-injected"),
        (["--method", "unet-on-ridge"], "noise-injected"),
        (["--method", "flow"], "flow"),
    ],
)
def test_an_ensemble_is_one_word(files, options, head):
    given = ("--coarse", "coarse.nc", "--fine", "fine.nc", "--out", "model", *options)
    assert finegrid("fit", *given, "--ensemble", "--steps", "2") == 0
    written = yaml.safe_load((files / "model" / "recipe.yaml").read_text())["downscaler"]
    assert written["head"]["name"] == head
    assert written["backbone"]["name"] == {"flow": "unet"}.get(head, "unet" if options else "resnet")


def test_a_method_without_a_network_makes_an_ensemble_where_it_draws_members(files, capsys):
    assert "or one of glm, analogues" in complaint(capsys, fit("--method", "ridge", "--ensemble"))
    assert fit("--method", "analogues", "--ensemble") == 0
    assert finegrid("downscale", "model", "coarse.nc", "--members", "3", "--out", "members.nc") == 0
