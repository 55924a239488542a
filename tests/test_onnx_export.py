"""Models as ONNX files: what a plain ONNX runtime answers is what the model predicts, or nothing is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import finegrid as fg
from finegrid.cli import main
from finegrid.conventions import harmonise
from finegrid.data import coarsen, samples, synthetic
from finegrid.downscalers import Downscaler
from finegrid.grids import Grid, Operator
from finegrid.serving.example import drawn
from finegrid.serving.graph import Graph
from finegrid.serving.signature import Signature
from finegrid.serving.verification import scores_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from finegrid.serving import export, onnx_export, verify  # noqa: E402

FACTOR, SHAPE = 4, (16, 24)
# Float32, relative to the range of a field.
CLOSE = 1e-5
QUICK = fg.Settings(steps=2, seed=1)
RESNET = {"name": "resnet", "width": 8, "depth": 1, "embedding": 2}


@pytest.fixture(scope="module")
def fine() -> xr.Dataset:
    daily = synthetic.generate(shape=SHAPE, times=50)[["tas", "pr"]]
    # All hours of the day, and half ones.
    return daily.assign_coords(time=daily.time.values[0] + np.arange(50) * np.timedelta64(450, "m"))


@pytest.fixture(scope="module")
def coarse(fine: xr.Dataset) -> xr.Dataset:
    return coarsen(fine, FACTOR)


@pytest.fixture(scope="module")
def winds() -> tuple[xr.Dataset, xr.Dataset]:
    """Global monthly winds, on a domain that goes around the Earth."""
    truth = samples.open("navy-winds").sel(lat=slice(-20, 17.5))[["u10"]].isel(time=slice(24))
    return coarsen(truth, FACTOR), truth


def with_gaps(coarse: xr.Dataset) -> xr.Dataset:
    """Coarse fields of which some cells, at one time those of one variable, are missing."""
    holed = coarse.copy(deep=True)
    names = list(holed.data_vars)
    holed[names[0]][3, 1:3, 2] = np.nan
    holed[names[-1]][5, :, 0] = np.nan
    return holed


def plain_answer(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    answer: np.ndarray = onnxruntime.InferenceSession(path).run(["fine"], feeds)[0]
    return answer


def predicted(model: Downscaler, coarse: xr.Dataset) -> np.ndarray:
    """What the model predicts, (time, output, y, x) with y ascending."""
    fields, _ = harmonise(model.predict(coarse))
    return np.stack([fields[name].values[0] for name in model.domain.outputs], axis=1)


def eager(model: Downscaler, coarse: xr.Dataset) -> np.ndarray:
    """The same by the module that is exported, without ONNX."""
    signature = Signature.of(model)
    given = model.read(coarse).load()
    feeds = {**signature.feeds(given), **scores_of(model, given)}
    with torch.no_grad():
        found: np.ndarray = (
            Graph(model, signature).eval()(*(torch.as_tensor(feeds[n]) for n in signature.names)).numpy()
        )
    return found


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to single precision in parts of the range of each output, with the same cells missing."""
    assert_array_equal(np.isnan(found), np.isnan(expected))
    low, high = (each(expected, axis=(0, 2, 3), keepdims=True) for each in (np.nanmin, np.nanmax))
    assert_allclose(found / (high - low), expected / (high - low), rtol=0, atol=CLOSE)


STATISTICAL = [
    "nearest",
    "bilinear+add",
    "bicubic+natural",
    "conservative",
    "mean-map",
    "linear",
    "ridge+natural",
    "ridge-around",
    "pcr",
    "random-features",
]


@pytest.mark.parametrize("name", STATISTICAL)
def test_the_graph_of_a_statistical_method_predicts_as_it_does_with_gaps_in_the_input(name, coarse, fine):
    model = fg.method(name).fit(coarse, fine)
    assert_same(eager(model, with_gaps(coarse)), predicted(model, with_gaps(coarse)))


NETWORKS: dict[str, dict[str, Any]] = {
    "committee on ridge": {"backbone": RESNET, "networks": 2},
    "frames, waves, transforms": {
        "backbone": RESNET,
        "mean": "bicubic",
        "frames": (-1, 0, 1),
        "cycles": ("hour", "day_of_year"),
        "transforms": {"pr": "log1p", "tas": "standardise-per-cell"},
        "constraint": "natural",
    },
    "quantile and root": {"backbone": RESNET, "mean": None, "transforms": {"pr": "sqrt", "tas": "quantile"}},
    "gaussian": {"backbone": RESNET, "head": "gaussian"},
    "mixture": {"backbone": RESNET, "head": "mixture", "mean": "bilinear", "constraint": "natural"},
    "dressed": {"backbone": RESNET, "head": "dressed", "mean": "bilinear", "transforms": {"pr": "sqrt"}},
    "softmax": {"backbone": RESNET, "variables": ["pr"], "constraint": "softmax", "transforms": {"pr": "quantile"}},
}


@pytest.mark.filterwarnings("ignore:torch.searchsorted")
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())
def test_the_graph_of_a_network_predicts_as_it_does_with_gaps_in_the_input(options, coarse, fine):
    static = xr.Dataset({"elevation": (fine.tas.dims[1:], 100.0 * np.random.default_rng(0).random(SHAPE))}, fine.coords)
    model = fg.NeuralDownscaler(settings=QUICK, **options)
    model.fit(coarse, fine, static=static.drop_vars("time", errors="ignore"))
    assert_same(eager(model, with_gaps(coarse)), predicted(model, with_gaps(coarse)))


def test_the_season_is_right_in_a_calendar_that_only_the_dates_know(coarse, fine):
    dates = xr.date_range("2001-01-01", periods=50, freq="8D", calendar="360_day", use_cftime=True)
    low, high = (each.assign_coords(time=dates) for each in (coarse, fine))
    model = fg.method("ridge").fit(low, high)
    assert Signature.of(model).names == ("coarse", "phase_of_year")
    assert_same(eager(model, low), predicted(model, low))


def test_scores_of_zero_give_the_middle_of_every_cell(coarse, fine):
    options = {"head": "gaussian", "constraint": "none", "transforms": {"pr": "standardise"}, "cycles": ()}
    model = fg.NeuralDownscaler(backbone=RESNET, mean="bilinear", settings=QUICK, **options).fit(coarse, fine)
    signature = Signature.of(model)
    graph, given = Graph(model, signature).eval(), torch.as_tensor(signature.feeds(model.read(coarse))["coarse"])
    with torch.no_grad():
        low, middle, high = (graph(given, torch.full((50, 2, *SHAPE), score)) for score in (-1.0, 0.0, 1.0))
    assert float((high - low).min()) > 0
    assert_allclose(middle, (low + high) / 2, rtol=1e-5, atol=1e-5)


def test_fields_are_masked_and_cropped_as_the_model_does(coarse, fine):
    land = fine.where(fine.tas.isel(time=0, drop=True) > float(fine.tas.isel(time=0).quantile(0.3)))
    part = land.isel(lat=slice(0, 14), lon=slice(0, 22))  # no whole blocks
    model = fg.method("ridge+add").fit(coarse, part)
    assert_same(eager(model, coarse), predicted(model, coarse))


def on_other_cells(fine: xr.Dataset) -> xr.Dataset:
    """The fields on cells that share fine cells with each other."""
    standard, _ = harmonise(fine)
    grid = Grid.of(standard)
    y, x = np.arange(grid.y_edges[0] - 0.4, grid.y_edges[-1] + 1, 1.13), np.arange(grid.x_edges[0] - 0.3, 7.5, 1.13)
    return Operator.conservative(grid, Grid((y[1:] + y[:-1]) / 2, (x[1:] + x[:-1]) / 2, y, x))(standard)


def test_coarse_cells_that_share_fine_cells_are_conserved_by_add_and_else_refused(fine):
    own = on_other_cells(fine)
    model = fg.method("ridge+add").fit(own, fine)
    assert Signature.of(model).names[:2] == ("coarse", "conserved")
    assert_same(eager(model, own), predicted(model, own))
    with pytest.raises(fg.InputError, match="no blocks of fine cells"):
        eager(fg.method("ridge+natural").fit(own, fine), own)


def test_a_tampered_graph_is_noticed_and_not_written(tmp_path, coarse, fine, monkeypatch):
    model = fg.method("bilinear+add").fit(coarse, fine)
    path = tmp_path / "model.onnx"
    done = export(model, path, example=coarse)
    assert done.departure <= CLOSE and done.verified.violation <= CLOSE
    graph = onnx.load(path)
    assert_same(
        plain_answer(path, {"coarse": Signature.of(model).feeds(model.read(coarse))["coarse"]}),
        predicted(model, coarse),
    )
    assert graph.metadata_props and "finegrid/serving" not in str(graph)

    tampered = onnx.load(path)
    weights = max(tampered.graph.initializer, key=lambda each: len(each.raw_data) if each.data_type in (1, 11) else 0)
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[values.size // 2] += 0.1  # one weight of one fine cell
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    found = verify(tampered.SerializeToString(), model, coarse)
    assert not found.passed
    monkeypatch.setattr(onnx_export, "traced", lambda *_: tampered)
    before = path.read_bytes()
    with pytest.raises(fg.InputError, match=r"departs from predict by tas .* nothing was written"):
        export(model, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


BACKBONES = {  # resnet runs in the test below
    "srresnet": {"name": "srresnet", "width": 6, "depth": 1},
    "unet": {"name": "unet", "width": 6, "depth": 1, "embedding": 2},
}


@pytest.mark.long
@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES.keys())
def test_every_backbone_runs_around_the_earth_in_a_plain_runtime(backbone, tmp_path, winds):
    coarse, truth = winds
    model = fg.NeuralDownscaler(backbone=backbone, mean=None, cycles=(), settings=QUICK).fit(coarse, truth)
    path = export(model, tmp_path / "model.onnx", example=coarse).path
    for times in (slice(5), slice(7, 8)):
        part = coarse.isel(time=times)
        feeds = Signature.of(model).feeds(model.read(part).load())
        assert_same(plain_answer(path, feeds), predicted(model, part))


@pytest.mark.long
def test_a_network_on_ridge_with_all_that_it_can_see_runs_from_its_metadata_alone(tmp_path, coarse, fine):
    options = {"frames": (-1, 0), "cycles": ("hour", "day_of_year"), "transforms": {"pr": "log1p"}}
    model = fg.NeuralDownscaler(backbone=RESNET, networks=2, constraint="natural", settings=QUICK, **options)
    model.fit(coarse, fine).save(tmp_path / "model")
    done = export(tmp_path / "model", tmp_path / "model.onnx")
    assert done.departure <= CLOSE and done.inputs == ("coarse", "hour", "phase_of_year")

    session = onnxruntime.InferenceSession(done.path)
    facts = session.get_modelmeta().custom_metadata_map
    inputs, output = json.loads(facts["finegrid_inputs"]), json.loads(facts["finegrid_output"])
    channels = inputs[0]["channels"]
    assert [(each["name"], each["step"]) for each in channels] == [("tas", -1), ("pr", -1), ("tas", 0), ("pr", 0)]
    assert facts["finegrid_model"] == model.digest and facts["finegrid_version"] == fg.__version__
    verified = json.loads(facts["finegrid_verified"])
    assert max(verified["departure"].values()) <= CLOSE and verified["conservation_violation"] <= CLOSE

    given = with_gaps(coarse).sel(lat=inputs[0]["grid"]["y"], lon=inputs[0]["grid"]["x"])
    before = np.maximum(np.arange(len(given.time)) - 1, 0)  # the first time has none before it
    steps = {-1: given.isel(time=before), 0: given}
    fields = np.stack([steps[each["step"]][each["coarse_name"]].values for each in channels], axis=1)
    dates = given.time.dt
    hour = (dates.hour + dates.minute / 60).values
    phase = (dates.dayofyear.values - 1 + hour / 24) / 365.25
    feeds = {"coarse": fields, "hour": hour, "phase_of_year": phase}
    answer = plain_answer(done.path, {name: each.astype(np.float32) for name, each in feeds.items()})
    expected = model.predict(given).sel(lat=output["grid"]["y"], lon=output["grid"]["x"])
    for place, channel in enumerate(output["channels"]):
        assert_same(answer[:, [place]], expected[channel["name"]].values[0][:, None])
        assert channel["units"] == fine[channel["name"]].units


@pytest.mark.long
@pytest.mark.data
def test_real_rain_and_temperature_on_a_rotated_grid_are_exported(tmp_path, data_dir):
    truth = samples.open("racmo-iberia")[["tas", "pr"]].isel(time=slice(300), rlat=slice(28), rlon=slice(28))
    coarse = coarsen(truth, FACTOR)
    past, future = {"time": slice(200)}, {"time": slice(200, 260)}
    model = fg.method("ridge+natural").fit(coarse.isel(past), truth.isel(past))
    done = export(model, tmp_path / "model.onnx", example=coarse.isel(future))
    assert done.departure <= CLOSE and done.verified.violation <= CLOSE
    feeds = Signature.of(model).feeds(model.read(coarse.isel(future)).load())
    assert_same(plain_answer(done.path, feeds), predicted(model, coarse.isel(future)))


def test_drawn_examples_lie_in_the_range_of_training(coarse, fine):
    model = fg.method("ridge").fit(coarse, fine)
    fields = drawn(model, Signature.of(model))
    for name in ("tas", "pr"):
        assert float(fields[name].min()) >= float(fine[name].min()) and float(fields[name].max()) <= float(
            fine[name].max()
        )
        assert float(fields[name].std()) > 0.3 * float(coarse[name].std())
    assert bool(fields.tas.isnull().any()) and fields.sizes["time"] == 12


SMALL = {"width": 8, "depth": 1}
REFUSED = [
    ("analogues", {}, "no fixed map of fields; expected one of nearest, .*ridge"),
    ("shift/ridge", {}, "bias adjustment 'shift'.*without --adjust"),
    ("resnet:noise-injected", {"backbone": {"width": 8, "depth": 1}, "settings": QUICK}, "draws members.*head point"),
    (
        "resnet:csgd",
        {"backbone": {"width": 8, "depth": 1}, "settings": QUICK, "variables": ["pr"]},
        "gaussian-on-ridge",
    ),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSED)
def test_what_cannot_be_exported_is_refused_with_what_can(name, options, words, tmp_path, coarse, fine):
    model = fg.method(name, **options).fit(coarse, fine)
    with pytest.raises(fg.InputError, match=words):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def finegrid(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    return int(end.value.code or 0)


def test_the_command_writes_a_file_that_answers_as_the_model(tmp_path, coarse, fine, capsys):
    model = fg.method("nearest+add").fit(coarse, fine)
    model.save(tmp_path / "model")
    coarse.to_netcdf(tmp_path / "coarse.nc", engine="netcdf4")
    out = tmp_path / "model.onnx"
    assert finegrid("export", tmp_path / "model", "--out", out, "--example", tmp_path / "coarse.nc") == 0
    said = capsys.readouterr().out
    assert "departs from predict by tas" in said and "equal the coarse field to rounding" in said
    assert_same(plain_answer(out, Signature.of(model).feeds(model.read(coarse))), predicted(model, coarse))


WRONG = [
    (["model", "--out", "model.pt"], "ends in .onnx"),
    (["model", "--out", "nowhere/model.onnx"], "no folder nowhere"),
    (["nothing", "--out", "model.onnx"], "is not a model folder"),
    (["model", "--out", "model.onnx", "--opset", "9"], "expected 18 to 23"),
    (["model", "--out", "model.onnx", "--example", "fine.nc"], "'pr'"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_wrong_arguments_are_answered_in_words(arguments, words, tmp_path, coarse, fine, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fg.method("nearest").fit(coarse, fine).save("model")
    coarse.drop_vars("pr").to_netcdf("fine.nc", engine="netcdf4")
    monkeypatch.setattr(onnx_export, "traced", lambda *_: onnx.ModelProto())
    assert finegrid("export", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and words in error
    assert not list(tmp_path.glob("*.onnx"))


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("onnx", "onnx_that_is_not_there"))
    with pytest.raises(fg.InputError, match=r"onnx_that_is_not_there is not installed.*finegrid\[onnx\]"):
        export("model", tmp_path / "model.onnx")
