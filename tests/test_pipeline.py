"""Jobs from a recipe to files: what is learnt from, what is written, how long records pass through."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from finegrid.conventions import InputError
from finegrid.data import coarsen, open_fields, synthetic
from finegrid.downscalers import load
from finegrid.evaluation import Evaluation
from finegrid.evaluation.metrics import METRICS
from finegrid.pipeline.departure import Departure
from finegrid.pipeline.downscale import conservation_words, downscale
from finegrid.pipeline.evaluate import evaluate_files
from finegrid.pipeline.fit import built, fit, how_to_resume
from finegrid.pipeline.material import at_times, cropped, gathered, in_period
from finegrid.pipeline.naming import name_of, named, table_of
from finegrid.pipeline.recipe import Crop, Recipe
from finegrid.pipeline.workplace import unfinished, workplace
from finegrid.training import Settings

TIMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two variables (not in the order of the alphabet), their coarse means, and elevation."""
    place = tmp_path_factory.mktemp("files")
    every = synthetic.generate(synthetic.REGIONS["maritime"], shape=(8, 12), times=TIMES)
    fine = every[["tas", "pr"]]
    fine.to_netcdf(place / "fine.nc", engine="netcdf4")
    every[["orog"]].to_netcdf(place / "orog.nc", engine="netcdf4")
    coarsen(fine, 4).to_netcdf(place / "coarse.nc", engine="netcdf4")
    return place


def recipe(folder: Path, *, method: str = "ridge", steps: int = 4, **data) -> Recipe:
    files = {"coarse": str(folder / "coarse.nc"), "fine": str(folder / "fine.nc"), "static": str(folder / "orog.nc")}
    training = {"steps": steps, "budget": None}
    return Recipe.of({"data": {**files, **data}, "downscaler": table_of(method), "training": training})


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report, which takes longer to draw than all else and is tested elsewhere."""
    monkeypatch.setattr(Evaluation, "report", lambda self, path, **_: path)


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    fit(recipe(folder, method="resnet-on-ridge"), folder / "model", progress=False)
    return folder / "model"


def test_a_model_folder_has_everything_and_nothing_else(model):
    assert {path.name for path in model.iterdir()} == {
        "model.json",
        "weights.safetensors",
        "recipe.yaml",
        "scores.json",
        "report.html",
        "log.jsonl",
        "ledger.jsonl",
        "guard.json",
        "guard.safetensors",
        "CARD.md",
    }
    assert not unfinished(model).exists()


def test_the_recipe_of_a_model_has_every_default_and_can_be_run_again(model, folder):
    written = yaml.safe_load((model / "recipe.yaml").read_text())
    assert written["downscaler"]["backbone"]["width"] == 64
    assert written["downscaler"]["mean"]["penalties"]
    again = Recipe.read(model / "recipe.yaml")
    assert built(again)[1] == again


def test_the_ledger_says_what_a_run_cost_and_came_to(model):
    (line,) = (model / "ledger.jsonl").read_text().splitlines()
    run = json.loads(line)
    assert run["method"] == "resnet-on-ridge"
    assert run["parameters"] > 1000
    assert run["samples"] == 27
    assert run["device"] == "cpu"
    assert run["seconds"] > 0
    assert run["scores"]["tas"]["rmse"] > 0


def test_a_model_is_judged_against_every_simple_method(model):
    scores = json.loads((model / "scores.json").read_text())["scores"]
    assert {each["method"] for each in scores} == {"resnet-on-ridge", "bilinear", "bicubic", "mean-map", "ridge"}
    assert {each["metric"] for each in scores} <= set(METRICS)
    assert all(each["value"] < 1e-5 for each in scores if each["metric"] == "violation")


def test_test_times_are_not_learnt_from(folder):
    material = gathered(recipe(folder).data)
    assert len(material.blocks.test) == 8
    assert set(material.learning).isdisjoint(material.blocks.test)
    assert material.blocks.train.max() < material.blocks.validate.min() < material.blocks.test.min()


def test_a_model_is_the_same_after_saving_and_loading(model, folder, plainly):
    coarse = open_fields(folder / "coarse.nc")
    written = json.loads((model / "scores.json").read_text())["scores"]
    stated = next(each["value"] for each in written if (each["variable"], each["metric"]) == ("tas", "rmse"))
    downscale(model, folder / "coarse.nc", folder / "out.nc", time="2001-02-02/2001-02-09")
    found = evaluate_files(folder / "out.nc", folder / "fine.nc", folder / "report", coarse=folder / "coarse.nc")
    assert found.of("tas", "rmse")["resnet-on-ridge"].value == pytest.approx(stated, rel=1e-5)
    assert list(load(model).predict(coarse).data_vars) == ["tas", "pr"]


def test_the_output_says_what_it_is(model, folder):
    done = downscale(model, folder / "coarse.nc", folder / "said.nc", seed=3, command="finegrid downscale X")
    with xr.open_dataset(folder / "said.nc", engine="netcdf4") as made:
        about = made.attrs
        assert about["Conventions"] == "CF-1.11"
        assert about["history"].splitlines()[0].endswith("finegrid downscale X (finegrid 0.1.0)")
        assert about["finegrid_model"] == load(model).digest
        assert (about["finegrid_members"], about["finegrid_seed"]) == (1, 3)
        assert about["finegrid_constraint"] == "add"
        assert about["finegrid_conservation_violation"] == done.violation
        assert "equal the coarse field" in about["finegrid_conservation"]
        assert made["tas"].dims == ("member", "time", "lat", "lon")


def test_the_stated_violation_is_that_of_the_evaluation(model, folder, plainly):
    done = downscale(model, folder / "coarse.nc", folder / "measured.nc")
    found = evaluate_files(folder / "measured.nc", folder / "fine.nc", folder / "report", coarse=folder / "coarse.nc")
    values = [each.value for each in found.scores if each.metric == "violation" and each.method == found.method]
    assert done.violation == pytest.approx(max(values), rel=1e-9)


def test_an_output_that_does_not_conserve_says_so(folder, plainly):
    fit(recipe(folder, method="bicubic+none"), folder / "plain", progress=False)
    done = downscale(folder / "plain", folder / "coarse.nc", folder / "plain.nc")
    assert done.violation > 1e-3
    assert done.words.startswith("does not conserve")
    assert conservation_words(load(folder / "plain"), Departure({}, 1e-9)).startswith("area means")


def test_blocks_are_written_as_the_whole_would_be(model, folder, monkeypatch):
    downscale(model, folder / "coarse.nc", folder / "whole.nc")
    monkeypatch.setattr("finegrid.downscalers.base._BLOCK_VALUES", 8 * 12 * 2 * 7)
    monkeypatch.setattr("finegrid.pipeline.downscale._READ_BYTES", 200)
    seen = []
    downscale(
        model, folder / "coarse.nc", folder / "blocks.zarr", progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (7, TIMES)
    assert seen[-1] == (TIMES, TIMES)
    with (
        xr.open_dataset(folder / "whole.nc", engine="netcdf4") as whole,
        xr.open_dataset(folder / "blocks.zarr", engine="zarr", consolidated=False) as parts,
    ):
        for name in ("tas", "pr"):
            np.testing.assert_allclose(parts[name].values, whole[name].values, rtol=1e-5, atol=1e-5)


def test_a_failure_while_writing_ends_the_job_and_its_thread(model, folder, monkeypatch):
    monkeypatch.setattr("finegrid.downscalers.base._BLOCK_VALUES", 8 * 12 * 2 * 3)

    def fail(*_):
        raise InputError("the writer has had enough")

    monkeypatch.setattr(Departure, "add", fail)
    with pytest.raises(InputError, match="had enough"):
        downscale(model, folder / "coarse.nc", folder / "failed.nc")
    assert not any(thread.name == "finegrid-writer" for thread in threading.enumerate())
    assert not (folder / "failed.nc").exists()


def test_the_departure_is_the_largest_relative_difference_of_block_means(model, folder):
    downscaler, coarse = load(model), open_fields(folder / "coarse.nc").load()
    given = downscaler.domain.inputs.read(coarse)
    prediction = downscaler.predict(coarse)
    prediction["tas"][:, 5, :4, :4] += 1.5  # the whole of one coarse cell
    found = Departure.of(downscaler.domain, given)
    found.add(prediction, given)
    tas = given["tas"].values[5, 0, 0]
    assert found.largest == pytest.approx(1.5 / max(tas, given["tas"].values.mean()), rel=1e-4)


@pytest.mark.parametrize("name", ["ridge", "bicubic+none", "resnet", "unet-on-bicubic", "srresnet-on-ridge+softmax"])
def test_a_method_name_survives_the_way_through_a_recipe(name):
    downscaler, _ = built(Recipe.of({"data": {"coarse": "a", "fine": "b"}, "downscaler": table_of(name)}))
    assert name_of(downscaler) == name
    assert name_of(named(name)) == name


def test_a_crop_is_in_the_coordinates_of_the_file(folder):
    fine = open_fields(folder / "fine.nc")
    lat, lon = fine["lat"].values, fine["lon"].values
    part = cropped(fine, Crop(y=(lat[0], lat[3]), x=(lon[4], lon[7])))
    assert dict(part.sizes) | {"lat": 4, "lon": 4} == dict(part.sizes)
    np.testing.assert_array_equal(part["lon"].values, lon[4:8])
    turned = cropped(fine, Crop(x=(float(lon[4]) + 360, float(lon[7]) + 360)))
    np.testing.assert_array_equal(turned["lon"].values, lon[4:8])
    with pytest.raises(InputError, match=r"data\.crop"):
        cropped(fine, Crop(y=(-80, -70)))


def test_a_cropped_job_learns_on_the_crop_only(folder, plainly):
    lon = open_fields(folder / "fine.nc")["lon"].values
    job = recipe(folder, method="bicubic", crop={"x": [float(lon[4]), float(lon[11])]})
    assert fit(job, folder / "cropped", progress=False).downscaler.domain.grid.shape == (8, 8)


def test_times_are_chosen_by_period_and_by_index(folder):
    fine = open_fields(folder / "fine.nc")
    assert in_period(fine, "2001-01").sizes["time"] == 31
    assert in_period(fine, None) is fine
    chosen = at_times(fine, np.array([3, 5]))
    np.testing.assert_array_equal(chosen["time"].values, fine["time"].values[[3, 5]])
    assert chosen.encoding["source"] == fine.encoding["source"]


def test_variables_that_are_known_in_different_cells_are_learnt_and_judged_where_all_are(folder, tmp_path, plainly):
    """Observed rain and temperature do not end at the same coast."""
    fine = xr.open_dataset(folder / "fine.nc", engine="netcdf4").load()
    fine["pr"][:, 0, :2] = np.nan
    fine["tas"][:, 7, 11] = np.nan
    fine.to_netcdf(tmp_path / "fine.nc", engine="netcdf4")
    done = fit(recipe(folder, fine=str(tmp_path / "fine.nc")), tmp_path / "model", progress=False)
    notes = " ".join(done.evaluation.notes)
    assert "2 cells with tas are left out" in notes and "1 cells with pr are left out" in notes


def test_files_without_a_coarse_one_are_scored_all_the_same(folder, plainly):
    found = evaluate_files(folder / "fine.nc", folder / "fine.nc", folder / "self", variables=["tas"], method="itself")
    assert found.of("tas", "rmse")["itself"].value == 0
    assert found.methods == ("itself",)


def test_other_predictions_stand_beside_the_judged_one(folder, model, plainly):
    downscale(model, folder / "coarse.nc", folder / "first.nc")
    found = evaluate_files(
        folder / "first.nc", folder / "fine.nc", folder / "both", baselines={"perfect": folder / "fine.nc"}
    )
    assert found.methods == ("resnet-on-ridge", "perfect")


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    target = tmp_path / "made"
    with workplace(target, marks=("mark",)) as place:
        (place / "mark").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError, match="halfway"), workplace(target, marks=("mark",)) as place:
        (place / "mark").write_text("2")
        raise RuntimeError("halfway")
    assert (target / "mark").read_text() == "1"
    with workplace(target, marks=("mark",)) as place:
        (place / "mark").write_text("3")
    assert (target / "mark").read_text() == "3"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_is_worth_keeping_stays_when_a_job_fails(tmp_path):
    keep = lambda place: (place / "checkpoint").exists()  # noqa: E731
    with pytest.raises(KeyboardInterrupt), workplace(tmp_path / "m", marks=(), keep=keep) as place:
        (place / "checkpoint").write_text("1")
        raise KeyboardInterrupt
    with workplace(tmp_path / "m", marks=(), resume=True) as place:
        assert (place / "checkpoint").read_text() == "1"


def test_without_a_checkpoint_the_advice_is_to_start_again(tmp_path):
    assert "start anew" in how_to_resume(tmp_path / "model")


def test_who_forces_agreement_with_a_field_from_elsewhere_is_told(folder, tmp_path, plainly):
    with xr.open_dataset(folder / "coarse.nc", engine="netcdf4") as coarse:
        other = coarse.load()
    other["tas"] += 2
    other.to_netcdf(tmp_path / "coarse.nc", engine="netcdf4")
    told = fit(
        recipe(folder, method="bicubic", coarse=str(tmp_path / "coarse.nc")), tmp_path / "m", progress=False
    ).note
    assert "Coarse and fine tas disagree" in told and "2.0" in told
    assert "--adjust natural" in told and "bicubic+relaxed" in told
    assert "disagree" not in fit(recipe(folder, method="bicubic"), tmp_path / "n", progress=False).note
    job = {**recipe(folder, coarse=str(tmp_path / "coarse.nc")).to_dict(), "downscaler": table_of("bicubic")}
    adjusted = fit(Recipe.of({**job, "adjust": "shift"}), tmp_path / "a", progress=False)
    assert "disagree" not in adjusted.note
    assert "adjusts the coarse field (shift) before it conserves it" in adjusted.evaluation.verdict


def test_negative_rain_is_told_with_the_constraint_that_prevents_it(folder, tmp_path):
    rainy = fit(recipe(folder, method="ridge", variables=["pr"]), tmp_path / "add", progress=False)
    assert "of the values of pr are below zero" in rainy.note and "--method ridge+multiplicative" in rainy.note
    kept = fit(recipe(folder, method="ridge+multiplicative", variables=["pr"]), tmp_path / "kept", progress=False)
    assert "below zero" not in kept.note


def test_a_fit_that_diverges_leaves_no_model_and_goes_on_with_a_lower_rate(folder, plainly):
    job = recipe(folder, method="resnet-on-ridge", steps=6)
    wild, tame = (replace(job, training=replace(job.training, learning_rate=rate)) for rate in (1e25, 1e-3))
    with pytest.raises(InputError, match=r"not a number at step \d;.*learning_rate.*clip.*state, of step 0") as told:
        fit(wild, folder / "diverged", progress=False)
    assert not (folder / "diverged").exists()
    kept = {path.name for path in unfinished(folder / "diverged").iterdir()}
    assert {"checkpoint.safetensors", "recipe.yaml"} <= kept
    assert str(unfinished(folder / "diverged") / "checkpoint.safetensors") in str(told.value)
    fit(tame, folder / "diverged", resume=True, progress=False)
    assert np.isfinite(load(folder / "diverged").predict(open_fields(folder / "coarse.nc")).tas).all()


def test_a_downscaler_whose_training_diverged_has_learnt_nothing(folder):
    coarse, fine = open_fields(folder / "coarse.nc"), open_fields(folder / "fine.nc")
    model = named("resnet-on-ridge", settings=Settings(steps=6, budget=None, learning_rate=1e25, device="cpu"))
    with pytest.raises(InputError, match="not a number"):
        model.fit(coarse, fine)
    with pytest.raises(InputError, match="has not learnt anything"):
        model.predict(coarse)
