"""Downscaling between any two grids, end to end: what is conserved are the coarse file's own cells."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.constraints import CONSTRAINTS, violation
from finegrid.conventions import InputError, harmonise, restore
from finegrid.data import coarsen, open_fields, synthetic
from finegrid.data.pairs import pair
from finegrid.data.solar import highest_sunshine
from finegrid.downscalers import load, method
from finegrid.evaluation import evaluate
from finegrid.evaluation.maps import maps
from finegrid.grids import Grid, Operator
from finegrid.pipeline.downscale import downscale
from finegrid.training import Settings
from test_any_grids import cells
from test_curvilinear import plane_file, rotated
from test_grids import ROTATED_POLE, evenly, grid_of

TIMES = 60
HARD = ("add", "scaled-add", "multiplicative", "softmax", "bounded", "natural")


def fields_on(grid: Grid, times: int = TIMES, seed: int = 0) -> xr.Dataset:
    """Temperature and rain in standard form on a grid: weather that wanders, and fine structure that depends on it."""
    generator = np.random.default_rng(seed)
    latitude, longitude = (np.deg2rad(each) for each in grid.centres)
    weather = generator.normal(size=(times, 3))[..., None, None]
    large = weather[:, 0] * np.sin(3 * longitude) + weather[:, 1] * np.cos(4 * latitude) + weather[:, 2]
    small = np.sin(60 * latitude) * np.cos(55 * longitude)
    noise = generator.normal(size=(times, *grid.shape))
    tas = 283 + 3 * large + 2 * small + 0.3 * noise
    pr = np.maximum(2 + 2 * large + 1.5 * small + noise, 0)
    time = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    dims = ("time", "y", "x")
    return xr.Dataset(
        {"tas": (dims, tas.astype(np.float32), {"units": "K"}), "pr": (dims, pr.astype(np.float32), {"units": "mm"})},
        coords={"time": time, **grid.coords()},
    )


def plain(fields: xr.Dataset) -> xr.Dataset:
    """Latitude-longitude fields as a user has them."""
    return restore(fields, harmonise(fields.rename(y="lat", x="lon", y_bounds="lat_bnds", x_bounds="lon_bnds"))[1])


def of_rotated(times: int = TIMES) -> tuple[xr.Dataset, xr.Dataset]:
    """Fine fields on a rotated grid (13 x 17: no multiple of anything) and their means on a regular one around it."""
    fine = fields_on(cells(13, 17, 0.44, -12, -20, ROTATED_POLE), times)
    coarse = cells(8, 10, 1.5, 33.0, -10.5)
    means = Operator.conservative(Grid.of(fine), coarse)(fine)
    return means, fine


@pytest.fixture(scope="module")
def rotated_pair() -> tuple[xr.Dataset, xr.Dataset]:
    return of_rotated()


def largest_error(prediction: xr.Dataset, coarse: xr.Dataset, name: str) -> float:
    """By an operator of its own, in double precision: the largest relative error over whole coarse cells."""
    standard = harmonise(prediction)[0]
    operator = Operator.conservative(Grid.of(standard), Grid.of(coarse))
    means = operator(standard[name].isel(member=0).astype(np.float64)).values
    given = coarse[name].values.astype(np.float64)
    inside = operator.coverage >= 0.99
    error = np.abs(means - given) / np.maximum(np.abs(given), np.nanmean(np.abs(given)))
    return float(np.nanmax(error[:, inside]))


@pytest.mark.parametrize("constraint", HARD)
def test_means_over_the_coarse_files_own_cells_are_exact_through_file_and_folder(constraint, rotated_pair, tmp_path):
    coarse, fine = rotated_pair
    model = method(f"ridge+{constraint}", variables=["pr"]).fit(coarse, fine)
    assert model.domain.inputs.own is not None and model.domain.true_grid.shape == (13, 17)
    prediction = model.predict(coarse.isel(time=slice(40, None)))
    assert prediction.pr.shape[-2:] == (13, 17) and np.isfinite(prediction.pr).all()
    assert largest_error(prediction, coarse.isel(time=slice(40, None)), "pr") <= 1e-6
    if constraint != "add" and constraint != "scaled-add":
        inside = model.conservation.operator.touched.numpy()[:13, :17]
        assert float(prediction.pr.values[..., inside].min()) >= 0
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").predict(coarse.isel(time=slice(40, None)))
    xr.testing.assert_identical(again, prediction)


def test_a_network_learns_through_the_constraint_and_keeps_it(rotated_pair, tmp_path):
    coarse, fine = rotated_pair
    settings = Settings(steps=12, budget=None)
    model = method("resnet-on-mean-map+natural", settings=settings).fit(coarse, fine, validate=0.2)
    assert model.conservation.conserves
    prediction = model.predict(coarse)
    for name in ("tas", "pr"):
        assert largest_error(prediction, coarse, name) <= 1e-6
    model.save(tmp_path / "model")
    xr.testing.assert_identical(load(tmp_path / "model").predict(coarse), prediction)


def test_a_file_says_how_many_coarse_cells_bind_and_that_their_means_are_kept(rotated_pair, tmp_path):
    coarse, fine = rotated_pair
    model = method("ridge+add", variables=["tas"]).fit(coarse, fine)
    plain(coarse).to_netcdf(tmp_path / "coarse.nc", engine="netcdf4")
    done = downscale(model, tmp_path / "coarse.nc", tmp_path / "fine.nc")
    count = int(model.domain.binding.sum())
    assert 10 <= count < model.domain.binding.size
    assert done.violation <= 1e-6 and f"over the {count} coarse cells within the fine domain equal" in done.words
    assert model.info()["conserved cells"] == f"{count} of {model.domain.binding.size}"
    written = open_fields(tmp_path / "fine.nc")
    assert Grid.of(harmonise(written)[0]) == Grid.of(fine)


def test_values_beyond_their_limits_are_counted_in_the_file(rotated_pair, tmp_path):
    coarse, fine = rotated_pair
    fraction = fine[["pr"]].rename(pr="clt").clip(0, 4) / 4
    fraction["clt"].attrs = {"units": "1", "standard_name": "cloud_area_fraction"}
    means = Operator.conservative(Grid.of(fine), Grid.of(coarse))(fraction)
    model = method("ridge+bounded", variables=["clt"]).fit(means, fraction)
    binding = np.argwhere(model.domain.binding)[5] + [
        model_start(model.domain.inputs.own.y, coarse.y.values),
        model_start(model.domain.inputs.own.x, coarse.x.values),
    ]
    wrong = means.copy(deep=True)
    wrong["clt"][3, binding[0], binding[1]] = 1.08
    plain(wrong).to_netcdf(tmp_path / "coarse.nc", engine="netcdf4")
    done = downscale(model, tmp_path / "coarse.nc", tmp_path / "fine.nc")
    count = int(model.domain.binding.sum()) * TIMES
    assert f"but for 1 of {count} values that cannot be met" in done.words
    with xr.open_dataset(tmp_path / "fine.nc", engine="netcdf4") as written:
        assert float(written.clt.max()) <= 1 and float(written.clt.min()) >= 0


def model_start(own: np.ndarray, whole: np.ndarray) -> int:
    return int(np.abs(whole - own[0]).argmin())


def test_a_coarse_file_with_a_gap_leaves_a_gap_and_conserves_around_it(rotated_pair):
    coarse, fine = rotated_pair
    model = method("ridge+add", variables=["tas"]).fit(coarse, fine)
    holed = coarse.copy(deep=True)
    row, column = np.argwhere(model.domain.binding)[8]
    row += model_start(model.domain.inputs.own.y, coarse.y.values)
    column += model_start(model.domain.inputs.own.x, coarse.x.values)
    holed["tas"][:, row, column] = np.nan
    prediction = model.predict(holed)
    given = torch.from_numpy(model.domain.inputs.conserved(model.read(holed))["tas"].values)[:, None]
    fine_values = torch.from_numpy(prediction.tas.values[0])[:, None]
    padded = torch.full((TIMES, 1, *model.domain.grid.shape), torch.nan)
    padded[..., :13, :17] = torch.nan_to_num(fine_values)
    assert float(violation(torch.nan_to_num(padded), given, model.conservation.operator).max()) <= 1e-6


def test_a_curvilinear_fine_grid_is_downscaled_to_and_written_in_its_own_words(tmp_path):
    fine = plane_file(rotated(12, 15), times=40)
    fine["tas"] = fine["tas"] + np.random.default_rng(0).normal(0, 1, fine["tas"].shape).astype(np.float32)
    standard, _ = harmonise(fine)
    coarse = Operator.conservative(Grid.of(standard), cells(7, 9, 1.5, 30.0, -12))(standard)
    model = method("ridge").fit(coarse, fine)
    prediction = model.predict(coarse)
    assert prediction.tas.dims == ("member", "time", "j", "i")
    assert {"nav_lat", "nav_lon"} <= set(prediction.coords) and "j" not in prediction.coords
    np.testing.assert_array_equal(prediction.nav_lat, fine.nav_lat)
    result = evaluate(prediction, fine, coarse=coarse, method="ridge")
    assert result.of("tas", "rmse")["ridge"].value < 1.2
    figure = maps(result.views[0], "ridge")
    figure.savefig(tmp_path / "maps.png", dpi=50)


def test_reports_draw_a_coarse_field_on_cells_of_another_kind(rotated_pair, tmp_path):
    coarse, fine = rotated_pair
    prediction = method("ridge").fit(coarse, fine).predict(coarse)
    result = evaluate(prediction, fine, coarse=coarse, method="ridge")
    assert result.of("tas", "violation")["ridge"].value > 0
    maps(result.views[0], "ridge").savefig(tmp_path / "maps.png", dpi=50)


@pytest.mark.parametrize("adjust", ["shift", "scale", "natural"])
def test_an_adjustment_removes_the_bias_it_was_taught_and_keeps_the_trend(adjust, rotated_pair, tmp_path):
    coarse, fine = rotated_pair
    biased = coarse.copy(deep=True)
    biased["tas"] = biased.tas * 1.01 if adjust == "scale" else biased.tas - 2
    biased["pr"] = biased.pr * 1.4
    model = method(f"{adjust}/ridge+add").fit(biased, fine)
    plainly = method("ridge+add").fit(coarse, fine)
    named = ["tas"] if adjust == "shift" else ["pr"] if adjust == "scale" else ["tas", "pr"]
    for name in named:
        difference = model.predict(biased)[name] - plainly.predict(coarse)[name]
        assert float(abs(difference).mean()) < 0.02 * float(fine[name].std())
    warmer = biased.assign(tas=biased.tas + 3, pr=biased.pr * 1.2)
    change = (model.predict(warmer) - model.predict(biased)).mean()
    if "tas" in named:
        assert float(change.tas) == pytest.approx(3, abs=0.05)
    if "pr" in named:
        assert float(change.pr) == pytest.approx(0.2 * float(model.predict(biased).pr.mean()), rel=0.1)
    model.save(tmp_path / "model")
    xr.testing.assert_identical(load(tmp_path / "model").predict(biased), model.predict(biased))


def test_adjustments_are_by_month_and_take_the_mean_where_a_month_was_not_seen():
    coarse, fine = of_rotated(90)
    month = coarse.time.dt.month
    biased = coarse.assign(tas=coarse.tas + month)
    model = method("shift/ridge+add", variables=["tas"]).fit(biased, fine)
    later = biased.assign_coords(time=biased.time + np.timedelta64(200, "D"))
    seen, unseen = model.read(biased)["tas"], model.read(later)["tas"]
    raw = model.domain.inputs.read(biased)["tas"]
    assert np.allclose((seen - raw).mean(("y", "x")), -month, atol=0.1)
    assert np.allclose((unseen.values - raw.values).mean((1, 2)), -float(month.mean()), atol=0.1)


@pytest.mark.parametrize("name", ["ridge", "bicubic"])
def test_a_relaxed_constraint_learns_to_trust_a_coarse_field_that_agrees_and_to_distrust_noise(
    name, rotated_pair, tmp_path
):
    coarse, fine = rotated_pair
    trusted = method(f"{name}+relaxed", variables=["tas"]).fit(coarse, fine)
    noise = np.random.default_rng(1).normal(0, 8, coarse.tas.shape).astype(np.float32)
    wild = coarse.assign(tas=coarse.tas + noise)
    doubted = method(f"{name}+relaxed", variables=["tas"]).fit(wild, fine)
    strengths = [float(each.conservation.constraint.strength) for each in (trusted, doubted)]
    assert strengths[0] >= 0.8
    if name == "ridge":
        assert strengths[1] <= 0.2
    doubted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert float(again.conservation.constraint.strength) == pytest.approx(strengths[1])
    xr.testing.assert_identical(again.predict(wild), doubted.predict(wild))


def test_a_network_needs_validation_times_to_learn_a_strength(rotated_pair):
    coarse, fine = rotated_pair
    model = method("resnet+relaxed", variables=["tas"], settings=Settings(steps=2, budget=None))
    with pytest.raises(InputError, match=r"needs validation times.*strength: 0.5"):
        model.fit(coarse, fine, validate=0.0)
    model.fit(coarse, fine, validate=0.2)
    assert 0 <= float(model.conservation.constraint.strength) <= 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("ordered", r"relates tasmin, tas, tasmax; the model predicts tas, pr"),
        ({"name": "composed", "parts": [{"name": "bounded", "variables": ["hurs"]}]}, r"names hurs, which the model"),
        ({"name": "bounded", "lower": 0.0}, r"no argument 'lower'"),
        ("softmx", r"Did you mean 'softmax'"),
        ({"name": "relaxed", "constraint": "adding"}, r"Did you mean 'add'"),
    ],
)
def test_a_constraint_that_does_not_fit_the_variables_is_refused_before_anything_is_learnt(table, words, rotated_pair):
    coarse, fine = rotated_pair
    with pytest.raises(InputError, match=words):
        method("ridge", constraint=table).fit(coarse, fine)


def test_domains_apart_and_unknown_adjustments_are_said(rotated_pair):
    coarse, fine = rotated_pair
    away = coarse.assign_coords(y=coarse.y + 30, y_bounds=coarse.y_bounds + 30)
    with pytest.raises(InputError, match=r"does not cover the fine one \(latitudes"):
        pair(away, fine)
    with pytest.raises(InputError, match=r"Did you mean 'shift'"):
        method("shft/ridge")
    with pytest.raises(InputError, match="expected one of month, season, all"):
        method("ridge", adjust={"name": "shift", "by": "week"}).fit(coarse, fine)


def test_a_file_with_other_cells_is_remapped_to_those_of_training(rotated_pair):
    coarse, fine = rotated_pair
    model = method("ridge+add", variables=["tas"]).fit(coarse, fine)
    finer = Operator.conservative(Grid.of(coarse), cells(24, 30, 0.5, 33.0, -10.5))(coarse)
    np.testing.assert_allclose(model.predict(finer).tas, model.predict(coarse).tas, atol=2e-3)


def test_sunshine_is_limited_by_the_sun_at_every_cell_and_time():
    grid = cells(12, 12, 0.5, 44, 8)
    standard = fields_on(grid, 240)
    hours = np.datetime64("2001-03-01", "ns") + np.arange(240) * np.timedelta64(1, "h")
    fine = standard[["pr"]].rename(pr="rsds").assign_coords(time=hours)
    sun = highest_sunshine(fine.time, *grid.centres, seconds=3600.0)
    clear = np.random.default_rng(0).uniform(0.2, 0.95, fine.rsds.shape)
    fine["rsds"] = (("time", "y", "x"), (sun * clear).astype(np.float32))
    fine["rsds"].attrs = {"units": "W m-2", "standard_name": "surface_downwelling_shortwave_flux_in_air"}
    around = Operator.conservative(grid, cells(6, 6, 1.4, 43.0, 7.0))(fine)
    model = method("ridge", constraint="radiation").fit(around, fine)
    prediction = model.predict(around)
    assert float(prediction.rsds.min()) >= 0
    assert (prediction.rsds.values[0] <= sun * (1 + 1e-6)).all() and (sun == 0).any()
    assert largest_error(prediction, around, "rsds") <= 1e-6


def test_every_constraint_is_known_to_recipes_and_method_names():
    for name in CONSTRAINTS:
        assert method(f"ridge+{name}").constraint == name


@pytest.mark.data
def test_observations_over_land_are_downscaled_from_a_reanalysis_on_other_cells(data_dir: Path):
    coarse = open_fields(data_dir / "iberia_ncep_gauss_djf_1983_2002.nc")
    fine = open_fields(data_dir / "iberia_eobs_djf_1983_1996.nc")
    model = method("ridge+add", variables=["tas"]).fit(coarse, fine)
    prediction = model.predict(coarse.isel(time=slice(0, 50)))
    assert prediction.tas.shape == (1, 50, 19, 29)
    known = np.isfinite(fine.tas.isel(time=slice(0, 50))).any("time").values
    np.testing.assert_array_equal(np.isfinite(prediction.tas[0, 0].values), known)
    standard = harmonise(coarse.isel(time=slice(0, 50)))[0]
    assert largest_error(prediction, standard, "tas") <= 1e-5  # in degrees Celsius, near zero


def test_a_global_coarse_file_with_bounds_is_cut_where_the_fine_one_is():
    fine = fields_on(grid_of(evenly(-90, 5, 37), evenly(-180, 5, 72)), 30)
    coarse = Operator.conservative(Grid.of(fine), cells(13, 17, (180 / 13, 360 / 17), -90, -169))(fine)
    assert coarse.x[-1] > 180 and "x_bounds" in coarse.coords
    model = method("bicubic+bounded", variables=["pr"]).fit(coarse, fine)
    prediction = model.predict(coarse)
    assert largest_error(prediction, coarse, "pr") <= 1e-6
    np.testing.assert_array_equal(prediction.y, fine.y)
    assert bool(prediction.notnull().all())


def test_the_synthetic_sample_is_unchanged_where_coarse_cells_are_blocks():
    fine = synthetic.generate(shape=(8, 12), times=30)[["tas"]]
    model = method("ridge+add").fit(coarsen(fine, 4), fine)
    assert model.domain.inputs.own is None and model.domain.true_grid.shape == (8, 12)


@pytest.mark.parametrize("names", [("rain", "precip", "snow"), ("snow", "rain", "pr"), ("pr", "prra", "prsn")])
def test_a_relation_finds_each_of_its_variables_once_by_the_role_that_is_its_own(names):
    total = {"precip", "pr"} & set(names)
    fine = synthetic.generate(shape=(8, 12), times=12)[["pr"]]
    parts = xr.Dataset({name: fine.pr * (1.0 if name in total else 0.5) for name in names}, attrs=fine.attrs)
    for name in names:
        parts[name].attrs = {"units": "mm/day"}
    model = method("bicubic+total").fit(coarsen(parts, 4), parts)
    (part,) = model.conservation.constraint.parts
    assert (
        part.variables[0] in total and part.variables[1] in ("snow", "prsn") and part.variables[2] in ("rain", "prra")
    )
