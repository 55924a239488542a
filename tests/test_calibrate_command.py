"""`finegrid calibrate` and what `finegrid downscale` makes of it."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.calibration.crude import Crude
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen
from finegrid.downscalers import load, method
from finegrid.evaluation.reliability import reliability
from finegrid.pipeline import choosing
from finegrid.pipeline.calibrate import calibrate
from finegrid.pipeline.calibrated import Calibration, Period, factors_apart, projected
from finegrid.pipeline.downscale import downscale

# Whole years: a model of one half of the year knows nothing of the other.
FACTOR, TRAINED = 4, 365


def rain(times: int = 3 * 365) -> xr.Dataset:
    """Daily rain with odd names and units, smooth in space, mostly dry."""
    random = np.random.default_rng(0)
    wide = random.standard_normal((times, 4, 4)).repeat(2, 1).repeat(2, 2)
    fine = np.maximum(wide + 0.8 * random.standard_normal(wide.shape), 0) ** 2
    time = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    north, east = 40 + 0.1 * np.arange(8), 5 + 0.1 * np.arange(8)
    about = {"standard_name": "precipitation_flux", "units": "kg m-2 s-1"}
    coords = {
        "t": ("t", time, {"standard_name": "time"}),
        "breite": ("breite", north, {"units": "degrees_north"}),
        "laenge": ("laenge", east, {"units": "degrees_east"}),
    }
    return xr.Dataset({"regen": (("t", "breite", "laenge"), (fine / 86400).astype(np.float32), about)}, coords=coords)


@pytest.fixture(scope="module")
def fine() -> xr.Dataset:
    return rain()


@pytest.fixture(scope="module")
def original(fine: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws members, its coarse file and the truth."""
    folder = tmp_path_factory.mktemp("calibrated")
    fine.to_netcdf(folder / "fine.nc", engine="netcdf4")
    coarsen(fine, FACTOR).to_netcdf(folder / "coarse.nc", engine="netcdf4")
    learnt = fine.isel(t=slice(TRAINED))
    method("glm+multiplicative").fit(coarsen(learnt, FACTOR), learnt).save(folder / "model")
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


def finegrid(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


LATER = ("--coarse", "coarse.nc", "--fine", "fine.nc", "--on", "2002")


def test_intervals_of_a_calibrated_model_hold_their_promise(files, fine, capsys):
    assert finegrid("calibrate", "model", *LATER, "--members", "10") == 0
    told = capsys.readouterr().out
    assert "Guarantee: marginal" in told
    assert "calibration.html" in told
    downscale = ("downscale", "model", "coarse.nc", "--time", "2003", "--members", "10")
    assert finegrid(*downscale, "--interval", "90", "--out", "risk.nc") == 0
    assert "ends of intervals do not conserve" in capsys.readouterr().out
    risk = xr.open_dataset("risk.nc")
    assert set(risk["regen"].dims) == {"quantile", "t", "breite", "laenge"}
    assert risk["regen"].attrs["units"] == "kg m-2 s-1"
    np.testing.assert_allclose(risk["quantile"], [0.05, 0.95])
    assert "marginal" in risk.attrs["finegrid_guarantee"]
    low, high = risk["regen"].transpose("quantile", ...).values
    truth = fine["regen"].sel(t=risk.t).transpose(*risk["regen"].isel(quantile=0).dims).values
    assert abs(((low <= truth) & (truth <= high)).mean() - 0.9) < 0.03
    assert (low >= 0).all()


def test_info_tells_of_the_calibration(files, capsys):
    calibrate("model", coarse="coarse.nc", fine="fine.nc", on="2002", members=5, method="crude")
    assert finegrid("info", "model") == 0
    told = capsys.readouterr().out
    assert "calibrator: crude" in told
    assert "guarantee: 'marginal" in told


def test_calibrated_members_conserve_again(files, capsys, monkeypatch):
    monkeypatch.setattr(choosing, "_WORSE", 2.0)
    assert finegrid("calibrate", "model", *LATER, "--members", "10", "--method", "recalibration") == 0
    capsys.readouterr()
    assert finegrid("downscale", "model", "coarse.nc", "--members", "10", "--out", "members.nc") == 0
    assert "equal the coarse field to rounding" in capsys.readouterr().out
    assert finegrid("downscale", "model", "coarse.nc", "--members", "10", "--raw", "--out", "raw.nc") == 0
    made, raw = xr.open_dataset("members.nc"), xr.open_dataset("raw.nc")
    assert "recalibration" in made.attrs["finegrid_calibration"]
    assert "finegrid_calibration" not in raw.attrs
    assert made["regen"].dims == raw["regen"].dims
    assert float(abs(made["regen"] - raw["regen"]).max()) > 0
    assert float(made["regen"].min()) >= 0
    member = next(name for name in made["regen"].dims if name not in ("t", "breite", "laenge"))
    means = coarsen(made[["regen"]].isel({member: 3}), FACTOR)["regen"]
    right = xr.open_dataset("coarse.nc")["regen"]
    np.testing.assert_allclose(means, right.transpose(*means.dims), atol=1e-6 * float(right.mean()))


def test_members_that_would_be_worse_are_left_alone(files, capsys, monkeypatch):
    monkeypatch.setattr(choosing, "_WORSE", 0.5)
    assert finegrid("calibrate", "model", *LATER, "--members", "10", "--method", "recalibration") == 0
    assert "makes intervals only" in capsys.readouterr().out
    assert finegrid("downscale", "model", "coarse.nc", "--members", "10", "--time", "2003", "--out", "members.nc") == 0
    assert "finegrid_calibration" not in xr.open_dataset("members.nc").attrs


def test_a_single_answer_gets_intervals_too(files, fine):
    learnt = fine.isel(t=slice(TRAINED))
    method("ridge+none").fit(coarsen(learnt, FACTOR), learnt).save("ridge")
    made = calibrate("ridge", coarse="coarse.nc", fine="fine.nc", on="2002")
    assert made.calibration.calibrator.name in ("split", "mondrian")
    downscale("ridge", "coarse.nc", "risk.nc", interval=0.8, time="2003")
    low, high = xr.open_dataset("risk.nc")["regen"].transpose("quantile", "t", "breite", "laenge").values
    truth = fine["regen"].sel(t="2003").values
    assert abs(((low <= truth) & (truth <= high)).mean() - 0.8) < 0.05


def test_training_times_are_refused_unless_it_is_recorded(files, capsys):
    given = ("--coarse", "coarse.nc", "--fine", "fine.nc", "--members", "5", "--method", "crude")
    assert finegrid("calibrate", "model", *given) == 2
    assert "365 calibration times that the model was trained on" in capsys.readouterr().err
    assert not (files / "model" / "calibration.json").exists()
    assert finegrid("calibrate", "model", *given, "--overlap") == 0
    assert "Guarantee: none: 365 cases" in capsys.readouterr().out


def test_training_data_with_other_dates_are_found_by_their_values(files, fine):
    copied = fine.isel(t=slice(TRAINED))
    later = copied.assign_coords(t=("t", copied.t.values + np.timedelta64(3653, "D"), copied.t.attrs))
    later.to_netcdf("copied.nc", engine="netcdf4")
    coarsen(later, FACTOR).to_netcdf("copied_coarse.nc", engine="netcdf4")
    with pytest.raises(InputError, match="that the model was trained on"):
        calibrate("model", coarse="copied_coarse.nc", fine="copied.nc", members=5)


def test_what_is_wrong_is_said(files, capsys):
    downscaled = ("downscale", "model", "coarse.nc", "--out", "risk.nc", "--members", "5")
    assert finegrid(*downscaled, "--interval", "90") == 2
    assert "holds no calibration" in capsys.readouterr().err
    assert finegrid("calibrate", "model", "--method", "crud", *LATER) == 2
    assert "Did you mean 'crude'" in capsys.readouterr().err
    assert finegrid("calibrate", "model", "--groups", "regoin", *LATER) == 2
    assert "got the group 'regoin'" in capsys.readouterr().err
    assert finegrid("calibrate", "model", *LATER[:4], "--on", "1899") == 2
    assert "change --on" in capsys.readouterr().err
    assert finegrid("calibrate", "model") == 2
    assert "--coarse and --fine" in capsys.readouterr().err
    assert finegrid("calibrate", "model", *LATER, "--members", "5", "--method", "crude") == 0
    assert finegrid(*downscaled, "--interval", "190") == 2
    assert "less than 100" in capsys.readouterr().err
    assert finegrid(*downscaled, "--interval", "90", "--quantiles", "0.5") == 2
    assert "one of them" in capsys.readouterr().err


def test_a_calibration_is_for_its_own_model(files, fine):
    calibrate("model", coarse="coarse.nc", fine="fine.nc", on="2002", members=5, method="crude")
    learnt = fine.isel(t=slice(TRAINED - 10))
    method("glm+multiplicative").fit(coarsen(learnt, FACTOR), learnt).save("model")
    with pytest.raises(InputError, match="made for another model"):
        downscale("model", "coarse.nc", "members.nc", members=5)


def test_projected_members_obey_the_constraint_and_stay_where_they_did(files):
    model = load("model")
    coarse = xr.open_dataset("coarse.nc").isel(t=slice(20))
    members = model.predict(coarse, members=4)
    again = projected(model, members, model.read(coarse))
    xr.testing.assert_allclose(again, members, rtol=1e-5)
    doubled = projected(model, members.assign(regen=2 * members["regen"]), model.read(coarse))
    xr.testing.assert_allclose(doubled["regen"], members["regen"], rtol=1e-5)


class _Nearer(Crude):
    """Members at half of their distance from their mean, as projection might leave them."""

    def apply(self, ensemble):
        mean = ensemble["regen"].mean("member")
        return ensemble.assign(regen=(mean + 0.5 * (ensemble["regen"] - mean)).transpose(*ensemble["regen"].dims))


class _Same(Crude):
    def apply(self, ensemble):
        return ensemble.assign(regen=3 * ensemble["regen"] - 2 * ensemble["regen"].mean("member"))


def test_members_that_projection_left_too_near_are_moved_apart_and_never_together(files, fine):
    model, coarse = load("model"), xr.open_dataset("coarse.nc").sel(t="2002")
    drawn, truth, seen = model.predict(coarse, members=10), fine.sel(t="2002"), model.read(coarse).load()
    nearer = _Nearer().fit(drawn, truth)
    factors = factors_apart(model, nearer, drawn, truth, seen)
    assert 1.1 < factors["regen"] < 3
    made = Calibration(model, nearer, {"apart": factors}).members(drawn, seen)
    near = Calibration(model, nearer, {}).members(drawn, seen)
    held = [
        float(((ends.isel(quantile=0) <= truth["regen"]) & (truth["regen"] <= ends.isel(quantile=1))).mean())
        for ends in (each["regen"].quantile([0.05, 0.95], "member") for each in (near, made))
    ]
    assert held[1] > held[0] + 0.03
    assert factors_apart(model, _Same().fit(drawn, truth), drawn, truth, seen) == {}


def test_members_are_judged_after_projection(files, fine):
    model, second = load("model"), fine.isel(t=slice(TRAINED, 2 * TRAINED))
    seen = coarsen(second, FACTOR)
    drawn = model.predict(seen, members=5)
    calibration = Period(model, drawn, second, model.read(seen)).learn(Crude())
    whole = calibration.members(drawn, model.read(seen))
    lazily = calibration.members_of(drawn.chunk(t=30), model.read(seen))
    assert lazily["regen"].chunks
    np.testing.assert_allclose(lazily["regen"], whole["regen"].transpose(*lazily["regen"].dims), rtol=1e-6)
    _, judged = choosing.best([{"name": "crude"}], Period(model, drawn, second, model.read(seen)))
    first, later = Period(model, drawn, second, model.read(seen)).halves()
    by_hand = first.learn(Crude()).members(later.predicted, model.read(coarsen(later.truth, FACTOR)))
    assert next(iter(judged.values())).members_after.crps == pytest.approx(
        next(iter(reliability(by_hand, later.truth).values())).crps, rel=1e-6
    )


def test_intervals_for_other_weather_are_adapted_to_it(files, fine):
    wet = fine.isel(t=slice(2 * TRAINED, None)).copy()
    wet["regen"] = 3 * wet["regen"]
    coarsen(wet, FACTOR).to_netcdf("wet.nc", engine="netcdf4")
    away = {}
    for name in ("split", "shifted"):
        assert finegrid("calibrate", "model", *LATER, "--members", "10", "--method", name) == 0
        assert finegrid("downscale", "model", "wet.nc", "--members", "10", "--interval", "90", "--out", "r.nc") == 0
        low, high = xr.open_dataset("r.nc")["regen"].transpose("quantile", ...).values
        away[name] = abs(((low <= wet["regen"].values) & (wet["regen"].values <= high)).mean() - 0.9)
    assert away["shifted"] < 0.6 * away["split"]


def test_every_variable_of_a_model_has_to_be_observed(files, fine):
    fine.rename(regen="schnee").to_netcdf("snow.nc", engine="netcdf4")
    with pytest.raises(InputError, match="observed fields without regen"):
        calibrate("model", coarse="coarse.nc", fine="snow.nc", on="2002", members=5)


def test_the_parts_of_the_crps_add_up():
    random = np.random.default_rng(0)
    time = np.datetime64("2001-01-01", "ns") + np.arange(800) * np.timedelta64(1, "D")
    coords = {"time": time, "lat": [0.0, 1.0, 2.0], "lon": [0.0, 1.0, 2.0]}
    mean = random.standard_normal((800, 3, 3))
    truth = xr.Dataset({"tas": (("time", "lat", "lon"), mean + random.standard_normal(mean.shape))}, coords=coords)
    found = {}
    for spread in (0.4, 1.0):
        drawn = mean + spread * random.standard_normal((15, *mean.shape))
        ensemble = xr.Dataset({"tas": (("member", "time", "lat", "lon"), drawn)}, coords=coords)
        found[spread] = each = reliability(ensemble, truth)["tas"]
        values = truth["tas"].values
        crps = np.abs(drawn - values).mean() - np.abs(drawn[:, None] - drawn).mean() / 2
        assert abs(each.crps - crps) < 2e-4
        assert abs(each.reliability - each.resolution + each.uncertainty - each.crps) < 1e-9
        assert abs(each.pit.sum() - 1) < 1e-9
    assert found[1.0].reliability < 0.01 < 0.05 < found[0.4].reliability
    assert abs(found[1.0].uncertainty - np.sqrt(2) / np.sqrt(np.pi)) < 0.05
    np.testing.assert_allclose(found[1.0].quantiles, np.arange(0.05, 1, 0.05), atol=0.02)
    assert abs(found[0.4].quantiles[0] - 0.05) > 0.1


def test_a_recipe_fits_and_calibrates_in_one_job(files, capsys):
    recipe = """
    data:
      coarse: coarse.nc
      fine: fine.nc
      split: {train: 2001-01/2001-10, validate: 2001-11/2001-12, test: 2003}
    downscaler: {name: ridge}
    calibrate: {name: split, groups: [season], on: 2002}
    """
    (files / "recipe.yaml").write_text(recipe)
    assert finegrid("fit", "recipe.yaml", "--out", "both") == 0
    assert "split by season, fitted on 2002-01-01" in capsys.readouterr().out
    downscale("both", "coarse.nc", "risk.nc", interval=0.9, time="2003")
    (files / "recipe.yaml").write_text(recipe.replace(", on: 2002", ""))
    assert finegrid("fit", "recipe.yaml", "--out", "none") == 2
    assert "calibrate without a period" in capsys.readouterr().err


def test_a_calibration_goes_on_as_truth_arrives(files, capsys):
    given = ("--coarse", "coarse.nc", "--fine", "fine.nc")
    assert finegrid("calibrate", "model", "--update", *given, "--on", "2002") == 2
    assert "without a calibration" in capsys.readouterr().err
    first = ("--on", "2002-01/2002-06", "--members", "4", "--method", "strongly-adaptive")
    assert finegrid("calibrate", "model", *given, *first) == 0
    downscaled = ("downscale", "model", "coarse.nc", "--time", "2003-01", "--members", "4", "--interval", "90")
    assert finegrid(*downscaled, "--out", "before.nc") == 0
    assert finegrid("calibrate", "model", "--update", *given, "--on", "2002-07/2002-12") == 0
    assert "then 2002-07-01" in capsys.readouterr().out
    assert finegrid(*downscaled, "--out", "after.nc") == 0
    before, after = (xr.open_dataset(name)["regen"] for name in ("before.nc", "after.nc"))
    assert float(abs(after - before).max()) > 0
    assert finegrid("calibrate", "model", "--update", *given, "--on", "2002-03") == 2
    assert "expected times later than" in capsys.readouterr().err


def test_chances_of_events_come_true(files, fine, capsys):
    heavy = float(fine["regen"].quantile(0.7))
    event = ("--event", f"regen={heavy:.9f}")
    assert finegrid("calibrate", "model", *LATER, "--members", "10", *event) == 0
    assert "isotonic, fitted on 2002-01-01" in capsys.readouterr().out
    downscaled = ("downscale", "model", "coarse.nc", "--time", "2003", "--members", "10", "--chances")
    assert finegrid(*downscaled, "--out", "chances.nc") == 0
    assert "chances of events by isotonic; of the members, area means" in capsys.readouterr().out
    (chance,) = (each for name, each in xr.open_dataset("chances.nc").data_vars.items() if "above" in name)
    assert set(chance.dims) == {"t", "breite", "laenge"}
    came = (fine["regen"].sel(t=chance.t) > heavy).transpose(*chance.dims).values
    assert abs(came.mean() - chance.values.mean()) < 0.03
    likely = chance.values > 0.4
    assert likely.sum() > 500
    assert abs(came[likely].mean() - chance.values[likely].mean()) < 0.08
    assert finegrid(*downscaled, "--interval", "90", "--out", "both.nc") == 2
    assert "expected them alone" in capsys.readouterr().err
    assert finegrid("calibrate", "model", *LATER, "--event", "regen") == 2
    assert "such as pr=10" in capsys.readouterr().err
