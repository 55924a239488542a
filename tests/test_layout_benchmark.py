"""Folders in the layouts of public benchmarks as tasks: inspected, run, judged beside entries, handed in."""

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.benchmark import run
from finegrid.benchmark.layouts import INQUIRIES, KINDS, hand_in, inquiry_of, takes_submissions, task_of
from finegrid.benchmark.layouts.words import options_of
from finegrid.benchmark.trials import Order
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data.layouts import LAYOUTS, open_layout
from finegrid.training import Settings
from test_layouts import cordex, predictors, rainshift
from test_layouts_climate import chaosbench, climatebench
from test_layouts_columns import columns as column_files
from test_layouts_stations import weather2k
from test_layouts_tensors import tensors


def finegrid(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def humid(folder: Path, days: int = 160) -> tuple[xr.Dataset, xr.Dataset]:
    """A domain whose rain and temperature follow the humidity and temperature aloft; predictors and target."""
    _, target = cordex(folder)
    given = predictors(days, "1961-01-01")
    weights = np.linspace(0.5, 2.0, 256).reshape(16, 16)
    inside = {name: given[name][:, 1, 1].values[:, None, None] for name in ("q_850", "t_850")}
    fields = {"pr": weights * inside["q_850"], "tasmax": 280 + inside["t_850"] - weights}
    made = {name: (("time", "lat", "lon"), each.astype(np.float32)) for name, each in fields.items()}
    target = xr.Dataset(made, {"time": given.time, "lat": target.lat, "lon": target.lon})
    train = folder / "NZ" / "NZ_domain" / "train" / "ESD_pseudo_reality"
    given.to_netcdf(train / "predictors" / "ACCESS-CM2_1961-1980.nc")
    target.to_netcdf(train / "target" / "pr_tasmax_ACCESS-CM2_1961-1980.nc")
    return given, target


def test_every_layout_is_a_task_and_every_question_is_answered():
    assert set(KINDS) == set(LAYOUTS)
    assert {kind.asked for kind in KINDS.values() if kind.asked} == set(INQUIRIES)


def test_a_region_of_rainshift_is_a_task_whose_parts_are_those_of_the_benchmark(tmp_path):
    written = rainshift(tmp_path, "blacksea", "melanesia")
    task = task_of(tmp_path, options=["region=melanesia"])
    assert task.name == "rainshift-melanesia" and "region melanesia" in task.title and task.available
    material = task.material()
    assert [len(each) for each in (material.blocks.train, material.blocks.validate, material.blocks.test)] == [10, 1, 6]
    coarse, fine = material.at(material.blocks.test)
    np.testing.assert_array_equal(fine.precipitation, written["melanesia/test_data_out"].precipitation)
    rain = coarse.precipitation
    assert rain.attrs["units"] == "mm h-1" and "tp" not in coarse
    np.testing.assert_allclose(rain, 1000 * written["melanesia/test_data_in"].tp, rtol=1e-6)
    assert set(task.predictors) == {"cape", "cp", "sp", "tclw", "tcw", "tisr", "u", "v"}
    thinned = task_of(tmp_path, options=["region=melanesia", "thin=3"]).material().blocks
    assert thinned.test.tolist() == [12, 15]
    found = run(task, ["bicubic+none", "ridge+none"])
    assert found.evaluation.methods and "violation" in found.evaluation.metrics("precipitation")
    moved = replace(task, folder="elsewhere")
    assert not moved.available and pickle.loads(pickle.dumps(task)) == task  # noqa: S301
    keys = {Order(each, "ridge", None, Settings()).key(material) for each in (task, moved)}
    assert len(keys) == 2


def test_rain_is_learnt_from_predictors_alone_where_there_is_no_coarse_rain(tmp_path):
    _, target = humid(tmp_path)
    task = task_of(tmp_path)
    material = task.material()
    for name, value in (("pr", float(target.pr[:128].mean())), ("tasmax", float(target.tasmax[:128].mean()))):
        stand_in = material.coarse[name].values
        assert stand_in.shape == (160, 4, 4) and np.ptp(stand_in) == 0
        known = material.fine[name].isel(time=material.learning).values.mean()
        assert stand_in.ravel()[0] == pytest.approx(known, rel=1e-6) and known == pytest.approx(value, rel=0.05)
    found = run(task, ["mean-map+none", "ridge+none", "pcr+none", "ridge", "shift/ridge+none"])
    for variable in ("pr", "tasmax"):
        errors = {name: score.value for name, score in found.evaluation.of(variable, "rmse").items()}
        assert errors["ridge+none"] < 0.1 * errors["mean-map+none"] and errors["pcr+none"] < errors["mean-map+none"]
        assert "violation" not in found.evaluation.metrics(variable)
    assert set(found.inapplicable) == {"ridge", "shift/ridge+none"}
    assert "say ridge+none" in found.inapplicable["ridge"] and "predictors alone" in found.inapplicable["ridge"]
    assert "conserve" not in found.evaluation.verdict


def test_the_stand_in_knows_nothing_of_the_times_that_are_judged(tmp_path):
    humid(tmp_path)
    before = float(task_of(tmp_path).material().coarse.pr[0, 0, 0])
    path = next(tmp_path.rglob("pr_tasmax_*.nc"))
    with xr.open_dataset(path) as file:
        fields = file.load()
    fields.pr[task_of(tmp_path).material().blocks.test] = 1e6
    fields.to_netcdf(path)
    assert float(task_of(tmp_path).material().coarse.pr[0, 0, 0]) == before


def test_tests_of_which_the_truth_is_kept_are_handed_in(tmp_path, capsys):
    humid(tmp_path / "data")
    assert takes_submissions(task_of(tmp_path / "data"))
    words = ("benchmark", tmp_path / "data", "--methods", "ridge+none", "--export", tmp_path / "mine")
    assert finegrid(*words) == 0
    assert "4 files of NZ, ESD_pseudo_reality" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        names = archive.namelist()
    assert len(names) == 4 and all("/Predictions_pr_tasmax_EC-Earth3_" in name for name in names)
    with xr.open_dataset(tmp_path / next(name for name in names if "historical/perfect" in name)) as file:
        aloft = open_layout(tmp_path / "data").tests["historical/perfect/EC-Earth3_1981-2000"]
        expected = np.linspace(0.5, 2.0, 256).reshape(16, 16) * aloft.hus850[:, 1, 1].values[:, None, None]
        assert np.corrcoef(file.pr.values.ravel(), expected.ravel())[0, 1] > 0.99
        assert (file.time == aloft.time).all()
    with pytest.raises(InputError, match="got 2 methods and 4 tests"):
        hand_in(task_of(tmp_path / "data"), tmp_path / "two", ("ridge+none", "pcr+none"))
    with pytest.raises(InputError, match=r"say ridge\+none"):
        hand_in(task_of(tmp_path / "data"), tmp_path / "kept", ("ridge",))
    with pytest.raises(InputError, match="lacks tasmax"):
        hand_in(task_of(tmp_path / "data", options=["predict=pr"]), tmp_path / "part")


def test_emissions_make_the_climate_of_the_scenario_in_its_last_years(tmp_path):
    climatebench(tmp_path)
    task = task_of(tmp_path, options=["predict=tas"])
    material = task.material()
    assert len(material.blocks.test) == 21 and not task.dated
    assert set(material.coarse) == {"SO2", "BC", "CO2", "CH4", "tas"}
    assert np.ptp(material.coarse.CO2.values, axis=(1, 2)).max() == 0 and material.coarse.CO2.attrs["units"] == "Gt"
    found = run(task, ["mean-map+none", "ridge+none", "pattern-scaling+none"])
    errors = {name: score.value for name, score in found.evaluation.of("tas", "rmse").items()}
    assert errors["pattern-scaling+none"] < 0.1 and errors["ridge+none"] < 0.15 < 5 < errors["mean-map+none"]
    assert found.evaluation.indices == ()  # nominal years have no climate
    whole = task_of(tmp_path, options=["experiment=ssp126,ssp245", "history=yes"])
    assert whole.opening == {"factor": 4, "experiment": ["ssp126", "ssp245"], "history": True}
    assert whole.command == f"{tmp_path} --option experiment=ssp126,ssp245 --option history=True"


DAYS = [f"2014-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 15)]
DAYS += [f"2022-01-{day:02d}" for day in range(1, 15)]


def test_states_of_the_atmosphere_are_forecast_and_forecasts_of_others_verified(tmp_path, capsys):
    fields = chaosbench(tmp_path / "data", DAYS)
    task = task_of(tmp_path / "data")
    assert inquiry_of(task) is INQUIRIES["forecasts"] and task.variables == ("z@500",)
    # A system that knows the truth of the next two days.
    z = fields.z.sel(level=500, drop=True)
    inits = z.time.values[-14:-2]
    ahead = [z.sel(time=inits + np.timedelta64(lead, "D")).values for lead in (1, 2)]
    perfect = xr.Dataset(
        {"z@500": (("init", "lead", "latitude", "longitude"), np.stack(ahead, axis=1), {"units": "m"})},
        {"init": inits, "lead": np.array([1, 2], "timedelta64[D]").astype("timedelta64[ns]")}
        | {name: z[name] for name in ("latitude", "longitude")},
    )
    perfect.to_netcdf(tmp_path / "perfect.nc")
    words = ("--entry", f"seer={tmp_path / 'perfect.nc'}", "--out", tmp_path / "with")
    assert finegrid("benchmark", tmp_path / "data", *words) == 0
    assert "persistence" in capsys.readouterr().out
    rows = json.loads((tmp_path / "with" / "forecasts.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"persistence", "climatology", "damped-persistence", "seer"}
    errors = {row["model"]: row["value"] for row in rows if row["metric"] == "rmse" and row["lead"] == 1}
    assert errors["seer"] < 1e-6 and errors["persistence"] > 0.5


def test_columns_are_judged_level_by_level_as_energy(tmp_path, capsys):
    steps = [f"000{year}-03-01-{hour * 3600:05d}" for year in (1, 2, 9) for hour in range(12)]
    column_files(tmp_path / "data", steps)
    opened = open_layout(tmp_path / "data")
    truth = opened.part("test")[1].load()
    truth.drop_vars("time").to_netcdf(tmp_path / "seer.nc")
    words = ("--entry", f"seer={tmp_path / 'seer.nc'}", "--steps", 5, "--out", tmp_path / "out")
    assert finegrid("benchmark", tmp_path / "data", *words) == 0
    told = capsys.readouterr().out
    assert "R2 of network by level" in told and "as energy in W m-2" in told
    rows = json.loads((tmp_path / "out" / "columns.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"linear", "network", "seer"}
    seer = [row["r_squared"] for row in rows if row["method"] == "seer"]
    assert len(seer) == 2 * 5 + 8 and all(value == pytest.approx(1) for value in seer)
    linear = {row["variable"]: row for row in rows if row["method"] == "linear" and row["level"] is None}
    assert linear["cam_out_NETSW"]["r_squared"] < 0.9  # noise
    assert (tmp_path / "out" / "columns.svg").exists() and (tmp_path / "out" / "columns.md").exists()
    assert finegrid("benchmark", tmp_path / "data", "--methods", "lin") == 2
    assert "Names: linear, network. Did you mean 'linear'" in capsys.readouterr().err
    truth.drop_vars(["time", "ptend_t"]).to_netcdf(tmp_path / "part.nc")
    assert finegrid("benchmark", tmp_path / "data", "--steps", 1, "--entry", f"part={tmp_path / 'part.nc'}") == 2
    assert "lacks ptend_t of 12 time x 6 point x 5 lev" in capsys.readouterr().err
    assert finegrid("benchmark", tmp_path / "data", "--export", tmp_path / "no") == 2
    assert "holds columns, which are no fields" in capsys.readouterr().err


def test_errors_at_stations_are_counted_one_by_one(tmp_path, capsys):
    cube = weather2k(tmp_path / "data", stations=8, hours=400)
    opened = open_layout(tmp_path / "data", lead=6)
    (given, truth) = (each.load() for each in opened.part("test"))
    truth[["tas"]].to_netcdf(tmp_path / "seer.nc")
    words = ("--option", "lead=6", "--option", "predict=tas", "--entry", f"seer={tmp_path / 'seer.nc'}")
    assert finegrid("benchmark", tmp_path / "data", *words, "--out", tmp_path / "out") == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "out" / "stations.json").read_text())["rows"]}
    assert set(rows) == {"persistence", "own-past", "neighbours", "seer"}
    squares = [(given.tas.values[t, s] - truth.tas.values[t, s]) ** 2 for t in range(len(truth.time)) for s in range(8)]
    assert rows["persistence"]["rmse"]["value"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)
    assert rows["persistence"]["skill"]["value"] == pytest.approx(0)
    assert rows["seer"]["rmse"]["value"] == 0 and rows["seer"]["skill"]["value"] == 1
    own = rows["own-past"]["rmse"]
    assert own["low"] < own["value"] < own["high"] < rows["persistence"]["rmse"]["value"] and cube.shape[0] == 8
    assert "| method | RMSE (°C) | skill against persistence |" in capsys.readouterr().out


def test_patches_are_a_task_without_places_and_dates(tmp_path):
    tensors(tmp_path)
    task = task_of(tmp_path, options=["names=tcw", "units=kg m-2"])
    assert task.variables == ("tcw",) and not task.dated and "mean-map" not in " ".join(task.methods)
    assert task.material().fine.tcw.attrs["units"] == "kg m-2"
    assert [len(each) for each in vars(task.material().blocks).values()] == [12, 4, 5]
    found = run(task, ["bicubic", "ridge"])
    assert found.evaluation.indices == ()
    assert max(score.value for score in found.evaluation.of("tcw", "violation").values()) < 1e-6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda folder: rainshift(folder, "blacksea", "melanesia"),
            ("blacksea, melanesia", "cape", "J kg-1", "2021-01-01"),
        ),
        (cordex, ("cordex-ml-bench", "historical/perfect/EC-Earth3", "truth is kept", "--export submission/")),
        (
            lambda folder: chaosbench(folder, DAYS[:4]),
            ("question of forecasts", "climatology_era5", "input, predicted"),
        ),
        (weather2k, ("question of stations", "degC", "ask the authors")),
        (lambda folder: climatebench(folder, "ssp126", "ssp245"), ("CO2", "Gt", "scored")),
        (tensors, ("era5_sr_data", "validate")),
    ],
)
def test_a_folder_says_what_it_is(tmp_path, capsys, monkeypatch, make, words):
    monkeypatch.setenv("COLUMNS", "200")
    make(tmp_path)
    assert finegrid("inspect", tmp_path) == 0
    told = capsys.readouterr().out
    for word in (*words, "cite", "terms", f"finegrid benchmark {tmp_path}"):
        assert word in told


def test_what_is_wrong_with_a_folder_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rainshift(tmp_path / "rain", "blacksea", "melanesia")
    (tmp_path / "empty").mkdir()
    for words, complaint in (
        (("inspect", "empty"), "in none of the layouts. Looked for: rainshift: folders of regions"),
        (("inspect", "nowhere"), "nowhere does not exist; expected the folder of a benchmark"),
        (("benchmark", "empty"), "in none of the layouts"),
        (("benchmark", "./nowhere"), "does not exist"),
        (("benchmark", "rain"), "expected one of blacksea, melanesia; choose one with region=... (--option)"),
        (("benchmark", "rain", "--layout", "rainshfit"), "Did you mean 'rainshift'"),
        (
            ("benchmark", "rain", "--option", "regoin=x"),
            "expected some of region, predict, thin. Did you mean 'region'",
        ),
        (("benchmark", "rain", "--option", "blacksea"), "expected a name and a value, such as region=blacksea"),
        (
            ("benchmark", "rain", "--option", "region=blacksea", "--option", "predict=rain"),
            "got predict=rain; expected",
        ),
        (("benchmark", "rain", "--option", "thin=often"), "got thin=often; expected a whole number"),
        (("benchmark", "navy-winds-x4", "--option", "region=x"), "expected a folder; leave them out"),
    ):
        assert finegrid(*words) == 2
        assert complaint in " ".join(capsys.readouterr().err.split())
    (tmp_path / "rain" / "blacksea" / "test_data_out.zarr").rename(tmp_path / "gone")
    assert finegrid("benchmark", "rain", "--option", "region=blacksea") == 2
    assert "lacks test_data_out.zarr" in capsys.readouterr().err


def test_options_are_of_the_kind_that_the_layout_wants():
    known = options_of(LAYOUTS["weather2k"], ["lead=6", "part=R", "fractions=0.5,0.2,0.3", "predict=tas,ps", "thin=2"])
    assert known.opening == {"lead": 6, "part": "R", "fractions": (0.5, 0.2, 0.3)}
    assert known.variables == ("tas", "ps") and known.thin == 2
    assert options_of(LAYOUTS["chaosbench"], ["land=t2m"]).opening == {"land": ["t2m"]}
    assert options_of(LAYOUTS["climatebench"], ["experiment=ssp126", "members=no"]).opening == {
        "experiment": "ssp126",
        "members": False,
    }
    with pytest.raises(InputError, match="got lead=soon; expected a whole number"):
        options_of(LAYOUTS["weather2k"], ["lead=soon"])


def test_files_for_other_tools_say_where_no_coarse_field_is(tmp_path):
    climatebench(tmp_path / "data")
    assert finegrid("benchmark", tmp_path / "data", "--export", tmp_path / "out") == 0
    words = (tmp_path / "out" / "README.md").read_text()
    assert "inputs are predictors alone" in words and f"finegrid benchmark {tmp_path / 'data'} --entry" in words
    with xr.open_dataset(tmp_path / "out" / "test_coarse.nc", decode_times=False) as file:
        assert file.sizes["time"] == 21 and {"CO2", "SO2"} <= set(file)
