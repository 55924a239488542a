"""A model folder with a guard: `finegrid guard`, and `finegrid downscale --guard`."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen
from finegrid.downscalers import load, method
from finegrid.evaluation.guard import Alignment, Guard
from finegrid.evaluation.guard.usual import TESTS
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.fit import fit
from finegrid.pipeline.guarding import guard_of, learn
from finegrid.pipeline.recipe import Recipe
from test_guard import changed, weather

FACTOR = 4


def fine_fields(times: int, **more) -> xr.Dataset:
    """Odd names, 16 x 24 cells."""
    fields = weather(times, size=(16, 24), **more)
    small = fields.assign_coords(lat=45 + 0.1 * np.arange(16), lon=5 + 0.1 * np.arange(24))
    for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
        small[name].attrs["units"] = units
    small["pr"].attrs["standard_name"] = "lwe_precipitation_rate"
    return small.rename(tas="t2m", pr="regen")


def finegrid(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, later input of its kind, and the same with a bias."""
    folder = tmp_path_factory.mktemp("guarded")
    fine = fine_fields(400)
    fine.to_netcdf(folder / "fine.nc", engine="netcdf4")
    coarsen(fine, FACTOR).to_netcdf(folder / "coarse.nc", engine="netcdf4")
    data = {"coarse": str(folder / "coarse.nc"), "fine": str(folder / "fine.nc"), "cycles": []}
    job = {"data": data, "downscaler": {"name": "bicubic", "constraint": {"name": "add"}}}
    fit(Recipe.of(job), folder / "model", progress=False)
    later = coarsen(fine_fields(60, start="2004-01-01", seed=1), FACTOR)
    later.to_netcdf(folder / "later.nc", engine="netcdf4")
    changed(later, t2m=lambda t2m: t2m + 8).to_netcdf(folder / "warm.nc", engine="netcdf4")
    return folder


@pytest.fixture
def files(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in the working folder, where it may be changed."""
    for path in original.rglob("*"):
        target = tmp_path / path.relative_to(original)
        if path.is_file():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output(path: str = "out.nc") -> xr.Dataset:
    return xr.open_dataset(path).load()


def test_a_fitted_model_remembers_the_times_that_it_learnt_from(original):
    guard = guard_of(original / "model", load(original / "model"))
    assert guard is not None
    assert guard.memory.variables == ("t2m", "regen")
    assert len(guard.memory.traits) == 318  # without the last fifth, and a day before each block
    assert not guard.memory.seasonal
    assert json.loads((original / "model" / "guard.json").read_text())["facts"]["times"] == 318


def test_input_of_the_kind_of_training_is_told_so_in_an_attribute_only(files, capsys):
    assert finegrid("downscale", "model", "later.nc", "--out", "out.nc") == 0
    assert "like that of training" not in capsys.readouterr().out
    assert output().attrs["finegrid_guard"].startswith("The input is like that of training (p = ")
    assert "finegrid_notes" not in output().attrs
    assert not (files / "out.nc.guard.png").exists()


def test_strange_input_is_warned_of_with_a_figure(files, capsys):
    assert finegrid("downscale", "model", "warm.nc", "--out", "out.nc") == 0
    told = capsys.readouterr().out
    assert "The input is unlike that of training (p " in told
    assert "K warmer on average than in training" in told
    assert "t2m is " in output().attrs["finegrid_guard"] and "t2m is " in output().attrs["finegrid_notes"]
    assert (files / "out.nc.guard.png").read_bytes().startswith(b"\x89PNG")
    assert "finegrid_guard_alignment" not in output().attrs


def test_strange_input_can_be_refused_and_leaves_nothing(files, capsys):
    assert finegrid("downscale", "model", "warm.nc", "--out", "out.nc", "--guard", "refuse") == 2
    told = capsys.readouterr().err
    assert "unlike that of training" in told and "--guard align" in told and "Traceback" not in told
    assert not list(files.glob("out*"))
    assert finegrid("downscale", "model", "later.nc", "--out", "out.nc", "--guard", "refuse") == 0


def test_strange_input_can_be_aligned_which_is_said(files, capsys):
    assert finegrid("downscale", "model", "warm.nc", "--out", "out.nc", "--guard", "align") == 0
    told = capsys.readouterr().out
    assert "equal the aligned coarse field to rounding" in told
    assert "The input was aligned: t2m: −" in told
    assert "it is like that of training now" in told
    assert "t2m: −" in output().attrs["finegrid_guard_alignment"]
    assert output()["t2m"].attrs["units"] == "K"
    training = xr.open_dataset("coarse.nc")["t2m"]
    warm = xr.open_dataset("warm.nc")["t2m"]
    assert abs(float(output()["t2m"].mean() - training.mean())) < 0.5 < float(warm.mean() - training.mean()) - 6


def test_input_that_no_alignment_makes_like_that_of_training_is_left_alone(files, monkeypatch):
    worse = Alignment.by_mean({"t2m": 280.0}, {"t2m": 300.0}, {"t2m": ("K", False)})
    monkeypatch.setattr(Guard, "alignments", lambda self, coarse: (worse, worse))
    done = downscale("model", "warm.nc", "out.nc", guard="align")
    assert "was not aligned" in done.notes[-1] and "was not aligned" in output().attrs["finegrid_guard_alignment"]
    downscale("model", "warm.nc", "plain.nc", guard="off")
    np.testing.assert_array_equal(output()["t2m"], output("plain.nc")["t2m"])
    assert "aligned" not in output().attrs["finegrid_conservation"]


def test_input_of_the_kind_of_training_is_not_aligned(files):
    downscale("model", "later.nc", "aligned.nc", guard="align")
    downscale("model", "later.nc", "plain.nc", guard="off")
    np.testing.assert_array_equal(output("aligned.nc")["t2m"], output("plain.nc")["t2m"])
    assert "finegrid_guard" not in output("plain.nc").attrs


def test_only_the_times_of_the_job_are_looked_at(files):
    later, warm = (xr.open_dataset(name) for name in ("later.nc", "warm.nc"))
    warm = warm.assign_coords(time=warm.time + np.timedelta64(60, "D"))
    mixed = xr.concat([later, warm], "time", data_vars="minimal")
    mixed.to_netcdf("mixed.nc", engine="netcdf4")
    assert not downscale("model", "mixed.nc", "out.nc", time="2004-01").notes
    assert downscale("model", "mixed.nc", "out.nc", time="2004-04").notes


def test_a_reference_takes_the_bias_away_before_the_guard_looks(files):
    year = changed(coarsen(fine_fields(400, seed=3), FACTOR), t2m=lambda t2m: t2m + 8)
    year.to_netcdf("reference.nc", engine="netcdf4")
    assert not downscale("model", "warm.nc", "out.nc", reference="reference.nc", time="2004-01").notes


def test_a_model_that_adjusts_its_input_is_guarded_before_the_adjustment(files):
    fine = fine_fields(400)
    cold = changed(coarsen(fine, FACTOR), t2m=lambda t2m: t2m - 8)
    model = method("shift/bicubic+add").fit(cold, fine)
    model.save("adjusting")
    learn(model, cold, "adjusting", seasonal=False)
    changed(xr.open_dataset("later.nc"), t2m=lambda t2m: t2m - 8).to_netcdf("cold.nc", engine="netcdf4")
    assert not downscale("adjusting", "cold.nc", "out.nc").notes
    assert "unlike that of training" in downscale("adjusting", "later.nc", "out.nc").notes[0]
    with pytest.raises(InputError, match="adjusts the bias"):
        downscale("adjusting", "later.nc", "out.nc", guard="align")


def test_older_models_are_silent_unless_the_guard_is_asked_for(files, capsys):
    for path in (files / "model").glob("guard.*"):
        path.unlink()
    assert finegrid("downscale", "model", "warm.nc", "--out", "out.nc") == 0
    assert "training" not in capsys.readouterr().out
    assert "finegrid_guard" not in output().attrs
    for words in (
        ("downscale", "model", "warm.nc", "--out", "o.nc", "--guard", "refuse"),
        ("guard", "model", "warm.nc"),
    ):
        assert finegrid(*words) == 2
        assert "does not know what its training input looked like" in capsys.readouterr().err


def test_a_guard_of_an_older_format_is_not_asked(files):
    described = json.loads((files / "model" / "guard.json").read_text())
    stated = described.pop("sha256")
    assert hashlib.sha256(json.dumps(described).encode()).hexdigest() == stated
    described["format"] -= 1
    described["sha256"] = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    assert guard_of("model", load("model")) is not None
    (files / "model" / "guard.json").write_text(json.dumps(described))
    assert guard_of("model", load("model")) is None


def test_the_guard_of_another_model_is_not_asked(files):
    fine = fine_fields(400, seed=9)
    method("bilinear").fit(coarsen(fine, FACTOR), fine).save("model")
    assert guard_of("model", load("model")) is None


@pytest.mark.parametrize("name", ["guard.json", "guard.safetensors"])
def test_a_changed_byte_is_noticed(name, files, capsys):
    path = files / "model" / name
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    assert finegrid("downscale", "model", "later.nc", "--out", "out.nc") == 2
    assert "the guard in model" in capsys.readouterr().err


def test_an_unknown_way_is_answered_with_those_there_are(files, capsys):
    assert finegrid("downscale", "model", "later.nc", "--out", "out.nc", "--guard", "panic") == 2
    assert "expected one of warn, align, refuse, off" in capsys.readouterr().err


def test_the_command_prints_the_verdict(files, capsys):
    assert finegrid("guard", "model", "warm.nc", "--figure", "warm.png") == 0
    told = capsys.readouterr().out
    assert "unlike that of training" in told and "60 times were compared with 318 of training" in told
    assert (files / "warm.png").exists()
    assert finegrid("guard", "model", "later.nc", "--time", "2004-01", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["flagged"] is False and found["times"] == 31
    assert set(found["tests"]) == set(TESTS) and set(found["variables"]) == {"t2m", "regen"}


def test_too_few_training_times_leave_no_guard(files):
    fine = fine_fields(15)
    model = method("bicubic").fit(coarsen(fine, FACTOR), fine)
    model.save("short")
    assert learn(model, coarsen(fine, FACTOR), "short") is None
    assert not list((files / "short").glob("guard.*"))
