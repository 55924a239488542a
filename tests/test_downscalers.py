"""Downscalers keep the user's words, conserve, repeat themselves, and know what they can know and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.coarsen import coarsen
from finegrid.data.pairs import pair
from finegrid.data.splits import folds
from finegrid.downscalers import (
    BASELINES,
    DOWNSCALERS,
    Downscaler,
    LapseRate,
    NeuralDownscaler,
    Ridge,
    base,
    load,
    method,
)
from finegrid.downscalers.fitting import out_of_fold
from finegrid.downscalers.members import DRAWING
from finegrid.downscalers.plan import backbone_of
from finegrid.heads import HEADS
from finegrid.heads.flow import FlowHead
from finegrid.training import Settings

SMALL = {"name": "resnet", "width": 8, "depth": 1, "embedding": 2}


def quick(**options) -> Settings:
    return Settings(**{"budget": None, "steps": 3, "batch": 8, "device": "cpu", **options})


FEW = {"name": "components", "counts": (4,)}
ONE_RIDGE = {"name": "ridge", "penalties": (30.0,)}
# What makes a fit quick: few candidates, or one.
QUICK = {
    "neural": {"backbone": SMALL, "settings": quick()},
    "climatology-ratio": {"others": "interpolate"},
    "lapse-rate": {"others": "interpolate"},
    "ridge": {"half_widths": (1,), "penalties": (1.0, 10.0)},
    "ridge-around": {"solver": ONE_RIDGE},
    "lasso": {"solver": {"name": "lasso", "penalties": (0.1,)}, "start": "coarse"},
    "pcr": {"features": FEW},
    "sketched": {"solver": {"name": "sketch", "sizes": (0.2, 1.0)}},
    "random-features": {"features": {"name": "convolutions", "patches": 6, "half_width": 1}, "solver": ONE_RIDGE},
    "glm": {"features": {**FEW, "shapes": ("sqrt", "log")}, "penalties": (3.0, 30.0)},
    "analogues": {"features": FEW, "neighbours": 5},
    "nearest-neighbours": {"features": FEW, "neighbours": (5, 10)},
    "constructed-analogues": {"features": FEW, "neighbours": 10},
    "regimes": {"features": FEW, "regimes": (1, 2), "penalties": (10.0,)},
    "trees": {"features": {**FEW, "half_width": 1}, "mean": "mean-map", "trees": 3, "samples": 2000},
    "blend": {"members": ("bilinear", "mean-map"), "width": 4, "steps": 20},
}


def build(name: str, **options) -> Downscaler:
    """The downscaler of that name, quick to fit."""
    return DOWNSCALERS[name](**{**QUICK.get(name, {}), **options})


FITTED: dict[str, Downscaler] = {}


@pytest.fixture
def ready(toy_coarse, toy_fine) -> Callable[[str], Downscaler]:
    """The downscaler of that name, fitted to the toy fields once for all tests that do not change it."""

    def fitted(name: str) -> Downscaler:
        if name not in FITTED:
            FITTED[name] = build(name).fit(toy_coarse, toy_fine)
        return FITTED[name]

    return fitted


@pytest.fixture(autouse=True)
def relief(monkeypatch) -> None:
    """The method that needs an elevation gets one where a test gives none."""
    fit = LapseRate.fit

    def with_relief(self, coarse, fine, *, static=None, **options):
        first = next(iter(fine.data_vars.values()))
        first = first.isel({dim: 0 for dim in first.dims if dim in ("time", "zeit")}, drop=True)
        height = first.copy(data=300 * np.random.default_rng(1).random(first.shape)).rename("elevation")
        height.attrs = {"units": "m", "standard_name": "surface_altitude"}
        return fit(self, coarse, fine, static=height.to_dataset() if static is None else static, **options)

    monkeypatch.setattr(LapseRate, "fit", with_relief)


@pytest.fixture
def german(toy_fine) -> tuple[xr.Dataset, xr.Dataset]:
    """Coarse and fine temperature in degrees Celsius, in names of their own, rows from north to south."""
    fine = toy_fine[["t2m"]].rename(lat="breitengrad", lon="laengengrad", time="zeit", t2m="temperatur")
    fine = fine.isel(breitengrad=slice(None, None, -1)).transpose("laengengrad", "zeit", "breitengrad")
    kelvin = fine.temperatur.attrs
    fine["temperatur"] = (fine.temperatur - np.float32(273.15)).assign_attrs({**kelvin, "units": "degC"})
    return coarsen(fine, 4), fine


def area_means(fine: xr.DataArray, factor: int = 4) -> np.ndarray:
    """Means over blocks and valid cells in float64, from sines of latitude; (..., h, w)."""
    values, lat = fine.values.astype(np.float64), fine.lat.values
    half = abs(lat[1] - lat[0]) / 2
    sine = np.sin(np.deg2rad(lat + half)) - np.sin(np.deg2rad(lat - half))
    weight = np.where(np.isfinite(values), sine[:, None], 0.0)
    shape = (*values.shape[:-2], values.shape[-2] // factor, factor, values.shape[-1] // factor, factor)
    total = (np.nan_to_num(values) * weight).reshape(shape).sum((-3, -1))
    return total / weight.reshape(shape).sum((-3, -1))


def violation(prediction: xr.DataArray, coarse: xr.DataArray) -> float:
    """Largest error of conservation relative to the coarse value or its usual size."""
    given = coarse.values.astype(np.float64)
    size = np.maximum(np.abs(given), np.nanmean(np.abs(given)))
    return float(np.nanmax(np.abs(area_means(prediction) - given) / size))


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_predictions_are_in_the_words_order_and_units_of_the_fine_file(name, german):
    coarse, fine = german
    fitted = build(name).fit(coarse, fine)
    found = fitted.predict(coarse.isel(zeit=slice(5, 12)), members=2 if fitted.random else 1)
    field = found.temperatur
    assert field.dims == ("member", "laengengrad", "zeit", "breitengrad")
    assert field.dtype == np.float32
    assert {key: field.attrs[key] for key in fine.temperatur.attrs} == fine.temperatur.attrs
    assert field.units == "degC"
    for axis in ("breitengrad", "laengengrad"):
        np.testing.assert_array_equal(found[axis], fine[axis])
        assert found[axis].attrs.items() >= fine[axis].attrs.items()
    np.testing.assert_array_equal(found.zeit, coarse.zeit[5:12])
    assert np.isfinite(field).all()
    # In the same place, and not upside down: closer to the truth than its mirror image.
    truth = fine.temperatur.isel(zeit=slice(5, 12))
    mirrored = truth.isel(breitengrad=slice(None, None, -1)).assign_coords(breitengrad=truth.breitengrad)
    assert abs(field - truth).mean() < abs(field - mirrored).mean()


RANDOM = [name for name, kind in DOWNSCALERS.items() if kind().random]


@pytest.mark.parametrize("name", [name for name in DOWNSCALERS if name not in RANDOM])
def test_a_method_with_one_answer_has_one_member_and_says_which_have_more(name, toy_coarse, ready):
    fitted = ready(name)
    assert not fitted.random
    single = fitted.predict(toy_coarse.isel(time=slice(4)), seed=1)
    np.testing.assert_array_equal(single.member, [0])
    xr.testing.assert_identical(single, fitted.predict(toy_coarse.isel(time=slice(4)), seed=2))
    with pytest.raises(
        InputError, match=rf"got members=3 .*'{name}'.*analogues, glm, bcsd .*noise-injected.*members 1"
    ):
        fitted.predict(toy_coarse, members=3)
    with pytest.raises(InputError, match="got members=0; expected at least 1"):
        fitted.predict(toy_coarse, members=0)


def test_the_methods_that_draw_members_are_those_that_a_message_names():
    drawing = {name for name, kind in DOWNSCALERS.items() if kind().random}
    drawing |= {"bcsd with period: month"} if DOWNSCALERS["bcsd"](period="month").random else set()
    assert drawing == set(DRAWING)
    for head, kind in HEADS.items():
        assert DOWNSCALERS["neural"](head={"name": head}).random == kind.random


@pytest.mark.parametrize("name", RANDOM)
def test_members_of_an_ensemble_differ_and_hang_on_the_seed_and_their_number_alone(
    name, toy_coarse, toy_fine, ready, monkeypatch
):
    fitted = ready(name)
    four = fitted.predict(toy_coarse, members=4, seed=3)
    assert four.sizes["member"] == 4
    for variable in four.data_vars:
        values = four[variable].values.reshape(4, -1)
        assert len(np.unique(values, axis=0)) == 4
        # Members are weather: correlated with the truth, each of them.
        truth = toy_fine[variable].values.ravel()
        assert all(np.corrcoef(each, truth)[0, 1] > 0.3 for each in values)
    xr.testing.assert_identical(fitted.predict(toy_coarse, members=4, seed=3), four)
    assert not fitted.predict(toy_coarse, members=4, seed=4).equals(four)
    for fewer in (1, 2):
        xr.testing.assert_identical(fitted.predict(toy_coarse, members=fewer, seed=3), four.isel(member=slice(fewer)))
    with pytest.raises(InputError, match="got members=0; expected at least 1"):
        fitted.predict(toy_coarse, members=0)
    # In pieces, and of a part of the times, they are the same.
    monkeypatch.setattr(base, "_BLOCK_VALUES", 4 * 7 * 2 * 16 * 24)
    pieces = fitted.predict(toy_coarse, members=4, seed=3)
    xr.testing.assert_allclose(pieces, four, rtol=1e-5, atol=1e-3)
    inner = slice(20, 31)
    part = fitted.predict(toy_coarse.isel(time=inner), members=4, seed=3).isel(time=slice(2, -2))
    xr.testing.assert_allclose(part, four.isel(time=slice(22, 29)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_nothing_is_predicted_before_something_was_learnt(name, toy_coarse, tmp_path):
    for attempt in (
        lambda each: each.predict(toy_coarse),
        lambda each: each.save(tmp_path),
        lambda each: each.digest,
        lambda each: each.conservation,
    ):
        with pytest.raises(InputError, match=r"has not learnt anything; call fit\(coarse, fine\) first"):
            attempt(build(name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_blocks_of_times_are_the_whole_prediction(name, toy_coarse, toy_fine, ready, monkeypatch):
    framed = name == "neural"
    fitted = build(name, frames=(-1, 0, 2)).fit(toy_coarse, toy_fine) if framed else ready(name)
    whole = fitted.predict(toy_coarse)
    monkeypatch.setattr(base, "_BLOCK_VALUES", 14 * 2 * 16 * 24)
    blocks = list(fitted.predict_blocks(toy_coarse))
    assert [each.sizes["time"] for each in blocks] == [14] * 4 + [4]
    joined = xr.concat(blocks, "time", data_vars="minimal", coords="minimal", compat="override", join="override")
    xr.testing.assert_identical(joined, fitted.predict(toy_coarse))
    # Sums in other groups round otherwise.
    xr.testing.assert_allclose(joined, whole, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_lazy_files_give_what_loaded_ones_give(name, toy_coarse, toy_fine, ready):
    eager = ready(name).predict(toy_coarse)
    lazy = build(name).fit(toy_coarse.chunk(time=27), toy_fine.chunk(time=31)).predict(toy_coarse.chunk(time=33))
    xr.testing.assert_identical(eager, lazy)


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_a_saved_model_predicts_the_same_to_the_last_bit(name, toy_coarse, toy_fine, tmp_path):
    elevation = (toy_fine.t2m[0].drop_vars("time") * 10).rename("elevation").assign_attrs(units="m").to_dataset()
    gappy = toy_fine.copy(deep=True)
    gappy.pr[:, 3, 4] = np.nan
    fitted = build(name, constraint="add").fit(toy_coarse, gappy, static=elevation)
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert type(again) is type(fitted)
    xr.testing.assert_identical(again.predict(toy_coarse), fitted.predict(toy_coarse))
    assert again.digest == fitted.digest
    assert again.info() == {**fitted.info(), "options": again.options}
    assert {each.name for each in (tmp_path / "model").iterdir()} == {"model.json", "weights.safetensors"}
    again.save(tmp_path / "copy")
    for file in ("model.json", "weights.safetensors"):
        assert (tmp_path / "copy" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


@pytest.mark.parametrize("name", ["mean-map", "neural"])
@pytest.mark.parametrize("file", ["weights.safetensors", "model.json"])
def test_a_changed_byte_is_noticed_and_its_file_is_named(name, file, toy_coarse, toy_fine, tmp_path):
    build(name).fit(toy_coarse, toy_fine).save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    places = (len(whole) // 2, len(whole) - 3) if file != "model.json" else (whole.index(b"2001"), whole.index(b"0.25"))
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / file).write_bytes(bytes(changed))
        with pytest.raises(InputError, match=rf"{file} was changed after it was written.*fit the model again"):
            load(tmp_path)


def test_a_cut_description_is_damaged(toy_coarse, toy_fine, tmp_path):
    build("nearest").fit(toy_coarse, toy_fine).save(tmp_path)
    path = tmp_path / "model.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"model.json is damaged"):
        load(tmp_path)


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(InputError, match=r"is not a model folder: model.json is missing"):
        load(tmp_path)


def test_the_digest_tells_models_apart_and_copies_not(toy_coarse, toy_fine):
    one, same = (build("mean-map").fit(toy_coarse, toy_fine) for _ in range(2))
    other = build("mean-map").fit(toy_coarse, toy_fine.isel(time=slice(50)))
    assert one.digest == same.digest == one.digest
    assert len({one.digest, other.digest, build("mean-map", constraint="add").fit(toy_coarse, toy_fine).digest}) == 3


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_fitting_again_forgets_the_first_pair(name, toy_coarse, toy_fine, ready):
    fine = toy_fine.isel(lat=slice(0, 8))
    used = build(name).fit(coarsen(fine, 4), fine)
    used.predict(coarsen(fine, 4))
    xr.testing.assert_identical(used.fit(toy_coarse, toy_fine).predict(toy_coarse), ready(name).predict(toy_coarse))


@pytest.mark.parametrize("name", ["bicubic", "ridge", "neural"])
def test_a_larger_coarse_file_with_other_variables_is_read_like_the_training_one(name, toy_coarse, toy_fine):
    inner = toy_fine[["t2m"]].isel(lat=slice(4, 12), lon=slice(4, 20))
    small = toy_coarse[["t2m"]].isel(lat=slice(1, 3), lon=slice(1, 5))
    fitted = build(name).fit(small, inner)
    large = toy_coarse.rename(t2m="2t").assign(extra=toy_coarse.pr + 1).transpose("lon", "lat", "time")
    xr.testing.assert_identical(fitted.predict(large), fitted.predict(small))


def test_files_are_named_in_what_is_wrong_with_a_prediction(toy_coarse, toy_fine):
    fitted = build("nearest").fit(toy_coarse, toy_fine)
    cut = toy_coarse.isel(lat=slice(2))
    cut.encoding["source"] = "future.nc"
    with pytest.raises(InputError, match=r"the domain of future.nc .* does not cover"):
        fitted.predict(cut)
    lacking = toy_coarse[["t2m"]]
    lacking.encoding["source"] = "future.nc"
    with pytest.raises(InputError, match=r"no variable 'pr' in future.nc"):
        fitted.predict(lacking)


HARD = ("add", "scaled-add", "multiplicative", "softmax")


@pytest.mark.parametrize("constraint", HARD)
@pytest.mark.parametrize("name", ["bicubic", "neural"])
@pytest.mark.parametrize("case", ["temperature in degC", "rain in kg m-2 s-1", "masked cells"])
def test_hard_constraints_conserve_in_single_precision(name, constraint, case, toy_fine):
    fine = toy_fine[["pr"]] if case.startswith("rain") else toy_fine[["t2m"]]
    if case.startswith("rain"):
        fine["pr"] = (fine.pr / np.float32(86400)).assign_attrs(units="kg m-2 s-1")
        fine.pr[10:20] = 0.0
    else:
        fine["t2m"] = (fine.t2m - np.float32(283.15)).assign_attrs(units="degC")
    if case.startswith("masked"):
        fine = fine.where(np.random.default_rng(0).random((16, 24)) > 0.4)
    coarse = coarsen(fine, 4)
    fitted = build(name, constraint=constraint).fit(coarse, fine)
    # On times of its own: the second half, a little warmer.
    later = coarse.isel(time=slice(8, None)) * np.float32(1.1)
    for each in later.data_vars:
        later[each].attrs = coarse[each].attrs
    (variable,) = fine.data_vars
    found = fitted.predict(later, members=2 if fitted.random else 1)[variable]
    for member in found:
        assert violation(member, later[variable]) <= 1e-6
    np.testing.assert_array_equal(found.notnull().all(("member", "time")), fine[variable].notnull().all("time"))
    if case.startswith("rain"):
        assert (found.values[:, 2:12] == 0).all() or constraint in ("add", "scaled-add")
    if case.startswith("rain") and constraint in ("multiplicative", "softmax"):
        assert found.min() >= 0


@pytest.mark.parametrize("constraint", ["multiplicative", "softmax"])
def test_constraints_of_positive_quantities_refuse_winds(constraint, toy_coarse, toy_fine):
    winds = [fields[["t2m"]].rename(t2m="u10") - np.float32(283) for fields in (toy_coarse, toy_fine)]
    for each in winds:
        each.u10.attrs["units"] = "m s-1"
    with pytest.raises(InputError, match=rf"constraint '{constraint}'.*'u10' goes down to -.*add or scaled-add"):
        build("bicubic", constraint=constraint).fit(*winds)


@pytest.mark.parametrize("constraint", ["multiplicative", "softmax"])
def test_constraints_of_positive_quantities_act_on_kelvin_also_in_degrees_celsius(constraint, german, toy_fine):
    coarse, fine = german
    kelvin = toy_fine[["t2m"]]
    in_kelvin = build("bicubic", constraint=constraint).fit(coarsen(kelvin, 4), kelvin).predict(coarsen(kelvin, 4))
    in_celsius = build("bicubic", constraint=constraint).fit(coarse, fine).predict(coarse)
    turned = in_celsius.temperatur.transpose("member", "zeit", "breitengrad", "laengengrad")[:, :, ::-1]
    np.testing.assert_allclose(turned.values + 273.15, in_kelvin.t2m.values, atol=2e-3)


def test_without_a_constraint_interpolation_does_not_conserve(toy_coarse, toy_fine):
    assert violation(build("bicubic").fit(toy_coarse, toy_fine).predict(toy_coarse).pr[0], toy_coarse.pr) > 1e-3


@pytest.mark.parametrize("name", ["nearest", "conservative"])
def test_the_coarse_field_on_finer_cells_conserves_by_itself(name, toy_coarse, toy_fine):
    found = build(name).fit(toy_coarse, toy_fine).predict(toy_coarse)
    np.testing.assert_array_equal(found.t2m[0], toy_coarse.t2m.values.repeat(4, axis=1).repeat(4, axis=2))


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_a_missing_coarse_cell_stays_missing_at_its_times_and_only_there(name, toy_coarse, toy_fine):
    fitted = build(name, constraint="add").fit(toy_coarse, toy_fine)
    gappy = toy_coarse.copy(deep=True)
    gappy.t2m[3:6, 1, 2] = np.nan
    found, whole = fitted.predict(gappy), fitted.predict(toy_coarse)
    missing = np.zeros((60, 16, 24), dtype=bool)
    missing[3:6, 4:8, 8:12] = True
    np.testing.assert_array_equal(found.t2m[0].isnull(), missing)
    assert found.pr.notnull().all()
    others = ~np.isin(np.arange(60), np.arange(3 - fitted._reach, 6 + fitted._reach))
    xr.testing.assert_allclose(found.isel(time=others), whole.isel(time=others), rtol=1e-6, atol=1e-4)
    # Neighbours lose one of the cells around them and no more.
    assert abs(found.t2m - whole.t2m).max() < 3.0
    assert violation(found.t2m[0, :, :4], gappy.t2m[:, :1]) <= 1e-6


def test_a_block_of_times_may_be_missing_altogether_and_a_whole_file_not(toy_coarse, toy_fine, monkeypatch):
    fitted = build("bicubic").fit(toy_coarse, toy_fine)
    gappy = toy_coarse.copy(deep=True)
    gappy.t2m[7:21] = np.nan
    monkeypatch.setattr(base, "_BLOCK_VALUES", 7 * 2 * 16 * 24)
    found = fitted.predict(gappy).t2m[0]
    np.testing.assert_array_equal(found.notnull().all(("lat", "lon")), ~np.isin(np.arange(60), np.arange(7, 21)))
    with pytest.raises(InputError, match=r"'t2m' of the coarse input is missing \(NaN\) everywhere"):
        fitted.predict(gappy.isel(time=[8]))


@pytest.mark.parametrize("mean", ["bicubic", "mean-map", "ridge", None])
def test_networks_do_not_see_the_first_guess_of_a_hole(mean, toy_coarse, toy_fine):
    coarse, fine = toy_coarse[["t2m"]], toy_fine[["t2m"]]
    fitted = build("neural", mean=mean, settings=quick(steps=20, learning_rate=1e-2)).fit(coarse, fine)
    holed = coarse.copy(deep=True)
    holed.t2m[:, :3, :3] = np.nan
    found, whole = fitted.predict(holed).t2m, fitted.predict(coarse).t2m
    assert found[:, :, 12:].notnull().all()
    assert abs(found - whole).max() < 5.0


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_gaps_in_the_training_data_do_not_reach_the_predictions_of_other_times(name, toy_coarse, toy_fine):
    coarse, fine = toy_coarse[["t2m"]].copy(deep=True), toy_fine[["t2m"]].copy(deep=True)
    whole = build(name).fit(coarse, fine).predict(coarse)
    coarse.t2m[5:25, 2, 3] = np.nan  # coarse missing, truth known
    fine.t2m[30:45] = np.nan  # truth missing everywhere
    fine.t2m[50:52, 3, 3] = np.nan  # and in one cell
    found = build(name).fit(coarse, fine).predict(toy_coarse)
    assert found.t2m.notnull().all()
    assert abs(found.t2m - whole.t2m).max() < 8.0
    # 1 K is the noise that no method can know.
    assert error(found, toy_fine) < 1.25 * max(1.0, error(whole, toy_fine))


def error(found: xr.Dataset, truth: xr.Dataset) -> float:
    """Root mean squared error of t2m."""
    return float(np.sqrt(((found.t2m - truth.t2m) ** 2).mean()))


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_dry_constant_and_missing_cells_and_days_leave_no_hole_where_the_coarse_value_is_known(
    name, toy_coarse, toy_fine
):
    coarse, fine = toy_coarse.copy(deep=True), toy_fine.copy(deep=True)
    fine.pr[:, 12:14, 2] = 0.0  # always dry
    fine.pr[:, 13, 6] = 2.5  # always wet, and always the same
    fine.pr[:, 14, 9] = np.where(np.arange(60) % 9 == 0, 1.0, 0.0)  # too few wet days to learn from
    fine.t2m[:, 5, 6] = 280.0
    coarse.t2m[:, 3, 3], coarse.pr[:, 0, 5] = 281.0, 0.0
    for each in fine.data_vars.values():
        each[:, :4, :4] = np.nan  # no land in a coarse cell
        each[:, 6, 10] = np.nan  # and in one fine cell
        each[17] = np.nan
    coarse.t2m[33] = np.nan
    fitted = build(name).fit(coarse, fine)
    later = coarse.copy(deep=True)
    later.t2m[33], later.t2m[40] = toy_coarse.t2m[33], np.nan
    later.pr[8, 2, 2] = np.nan
    found = fitted.predict(later, members=2 if fitted.random else 1)
    valid = fine.t2m.notnull().any("time")
    known = {each: np.broadcast_to(valid, fine.t2m.shape).copy() for each in ("t2m", "pr")}
    known["t2m"][40] = False
    known["pr"][8, 8:12, 8:12] = False
    known["pr"][40] &= name != "pattern-scaling"  # it knows nothing but the mean temperature
    for variable, there in known.items():
        np.testing.assert_array_equal(found[variable].notnull().all("member"), there)
        np.testing.assert_array_equal(found[variable].notnull().any("member"), there)
    assert abs(found.t2m - 283).max() < 40
    assert float(found.pr.max()) < 4 * float(fine.pr.max())


def test_ridge_learns_the_same_from_gaps_as_from_the_times_without_them(toy_coarse, toy_fine):
    kept = [time for time in range(60) if not 20 <= time < 40]
    gappy = toy_fine.copy(deep=True)
    gappy.t2m[20:40] = np.nan
    options = {"variables": ["t2m"], "half_widths": (1,), "penalties": (3.0,), "cycles": ()}
    whole = Ridge(**options).fit(toy_coarse, gappy, validate=0)
    part = Ridge(**options).fit(toy_coarse.isel(time=kept), toy_fine.isel(time=kept), validate=0)
    # Their predictors are standardised over other times, which the penalty notices a little.
    found, expected = (each.predict(toy_coarse).t2m for each in (whole, part))
    assert abs(found - expected).max() < 0.03 * abs(expected - toy_coarse.t2m.values.repeat(4, 1).repeat(4, 2)).max()


def test_mean_map_is_bicubic_plus_its_mean_error(toy_coarse, toy_fine):
    bicubic = build("bicubic").fit(toy_coarse, toy_fine).predict(toy_coarse).t2m[0]
    found = build("mean-map").fit(toy_coarse, toy_fine, validate=0).predict(toy_coarse).t2m[0]
    expected = bicubic.values + (toy_fine.t2m.values.astype(np.float64) - bicubic.values).mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def windows(values: np.ndarray, half: int) -> np.ndarray:
    """Values of the cells around every cell, edges repeated; (time, h, w, (2 half + 1)^2)."""
    _, h, w = values.shape
    padded = np.pad(values, ((0, 0), (half, half), (half, half)), mode="edge")
    shifts = [padded[:, j : j + h, i : i + w] for j in range(2 * half + 1) for i in range(2 * half + 1)]
    return np.stack(shifts, -1)


def departures(coarse: xr.Dataset, fine: xr.Dataset) -> np.ndarray:
    """What fine cells have beyond their coarse cell; (time, h, w, 16)."""
    beyond = fine.t2m.values.astype(np.float64) - coarse.t2m.values.repeat(4, axis=1).repeat(4, axis=2)
    return beyond.reshape(len(beyond), 4, 4, 6, 4).transpose(0, 1, 3, 2, 4).reshape(len(beyond), 4, 6, 16)


def test_ridge_is_that_of_scikit_learn_at_every_cell(toy_coarse, toy_fine):
    linear = pytest.importorskip("sklearn.linear_model")
    fitted = Ridge(variables=["t2m"], half_widths=(1,), penalties=(3.0,), cycles=())
    fitted.fit(toy_coarse, toy_fine, validate=0)
    values = toy_coarse.t2m.values.astype(np.float64)
    around = windows((values - values.mean()) / values.std(), 1)
    beyond = departures(toy_coarse, toy_fine)
    found = departures(toy_coarse, fitted.predict(toy_coarse).isel(member=0))
    for j, i in ((0, 0), (2, 3), (3, 5)):
        model = linear.Ridge(alpha=3.0).fit(around[:, j, i], beyond[:, j, i])
        # The prediction is float32 at 283 K.
        np.testing.assert_allclose(found[:, j, i], model.predict(around[:, j, i]), atol=7e-5)
        weights = fitted._weights.numpy()[6 * j + i]
        np.testing.assert_allclose(weights[:-1].T, model.coef_, atol=1e-5)
        np.testing.assert_allclose(weights[-1], model.intercept_, atol=1e-5)


def noisy(coarse: xr.Dataset, noise: float) -> xr.Dataset:
    """Fine fields that follow the cells two rows away, and noise."""
    values = coarse.t2m.values - coarse.t2m.values.mean()
    far = windows(values, 2)[..., 2] * 0.8
    truth = coarse.t2m.values + far
    fine = truth.repeat(4, axis=1).repeat(4, axis=2)
    fine = fine + noise * np.random.default_rng(0).normal(size=fine.shape)
    lat, lon = 45.125 + 0.25 * np.arange(16), 5.125 + 0.25 * np.arange(24)
    coords = {"time": coarse.time, "lat": ("lat", lat, coarse.lat.attrs), "lon": ("lon", lon, coarse.lon.attrs)}
    return xr.Dataset({"t2m": (("time", "lat", "lon"), fine.astype(np.float32), {"units": "K"})}, coords=coords)


def test_ridge_chooses_window_and_penalty_as_fits_without_each_block_would(toy_coarse):
    penalties, chosen = (0.3, 3.0, 30.0, 300.0), set()
    for noise in (0.1, 3.0, 30.0):
        fine = noisy(toy_coarse, noise)
        fitted = Ridge(variables=["t2m"], penalties=penalties, cycles=())
        fitted.fit(toy_coarse, fine, validate=0)
        values = toy_coarse.t2m.values.astype(np.float64)
        standard, beyond = (values - values.mean()) / values.std(), departures(toy_coarse, fine)
        errors = {}
        for half in (1, 2):
            around = windows(standard, half)
            matrix = np.concatenate([around, np.ones((*around.shape[:-1], 1))], -1)
            for penalty in penalties:
                errors[half, penalty] = left_out_error(matrix, beyond, penalty)
        half, penalty = min(errors, key=lambda each: errors[each])
        info = fitted.info()
        assert (info["window"], info["penalty"]) == (f"{2 * half + 1} x {2 * half + 1}", penalty)
        chosen.add((half, penalty))
    assert len(chosen) == 3


def left_out_error(matrix: np.ndarray, beyond: np.ndarray, penalty: float) -> float:
    """Squared error of sixths of the times by fits to the others; matrix (time, h, w, predictor), the last one free."""
    total, diagonal = 0.0, penalty * np.eye(matrix.shape[-1])
    diagonal[-1, -1] = 0.0
    for block in np.array_split(np.arange(len(matrix)), 6):
        others = np.setdiff1d(np.arange(len(matrix)), block)
        z, y = matrix[others].transpose(1, 2, 0, 3), beyond[others].transpose(1, 2, 0, 3)
        b = np.linalg.solve(z.swapaxes(-1, -2) @ z + diagonal, z.swapaxes(-1, -2) @ y)
        total += ((matrix[block].transpose(1, 2, 0, 3) @ b - beyond[block].transpose(1, 2, 0, 3)) ** 2).sum()
    return total


def test_ridge_recovers_a_known_linear_map(toy_coarse):
    fine = noisy(toy_coarse, 0.0)
    fitted = Ridge(half_widths=(2,), penalties=(1e-5,), cycles=()).fit(
        toy_coarse.isel(time=slice(50)), fine.isel(time=slice(50))
    )
    found = fitted.predict(toy_coarse.isel(time=slice(50, 60))).t2m[0]
    np.testing.assert_allclose(found, fine.t2m[50:], atol=2e-3)


@pytest.mark.parametrize("name", ["ridge", "mean-map"])
def test_cross_fitted_predictions_of_a_block_do_not_know_its_truth(name, toy_coarse, toy_fine):
    fitted = build(name).fit(toy_coarse, toy_fine)
    blocks = folds(60, 6)
    before = out_of_fold(fitted, pair(toy_coarse, toy_fine), blocks)
    changed = toy_fine.copy(deep=True)
    changed.t2m[20:30] += np.float32(40) * np.random.default_rng(0).random((10, 16, 24), dtype=np.float32)
    after = out_of_fold(fitted, pair(toy_coarse, changed), blocks)
    assert torch.equal(before[20:30], after[20:30])
    assert (before[:20, 0] != after[:20, 0]).any()
    # The copies learn: what was fitted before is left as it was.
    xr.testing.assert_identical(fitted.predict(toy_coarse), build(name).fit(toy_coarse, toy_fine).predict(toy_coarse))
    # And they differ from the fit that knows the block.
    assert not torch.equal(before, fitted.fields(pair(toy_coarse, toy_fine).coarse))


def test_the_same_seed_gives_the_same_network_and_another_seed_another(toy_coarse, toy_fine):
    def prediction(seed: int) -> xr.Dataset:
        fitted = build("neural", mean="bicubic", settings=quick(seed=seed, steps=5)).fit(toy_coarse, toy_fine)
        return fitted.predict(toy_coarse.isel(time=slice(5)))

    xr.testing.assert_identical(prediction(0), prediction(0))
    assert not prediction(0).equals(prediction(1))


@pytest.mark.parametrize(
    ("validate", "samples", "judged"),
    [(0.2, 60 - 12 - 3, True), (0, 60, False), (slice(10, 25), 45, True)],
)
def test_validation_times_are_the_last_ones_none_or_those_given(validate, samples, judged, toy_coarse, toy_fine):
    given = toy_coarse.time[validate] if isinstance(validate, slice) else validate
    fitted = build("neural", mean="bicubic").fit(toy_coarse, toy_fine, validate=given)
    training = fitted.info()["training"]
    assert training["samples"] == samples
    assert (training["validation_loss"] is not None) == judged
    assert len(fitted.training_log) == 3
    with pytest.raises(InputError, match=r"got validate=1.5; expected a part of the times"):
        fitted.fit(toy_coarse, toy_fine, validate=1.5)


def test_a_network_refines_its_mean_by_what_the_mean_cannot_know():
    # Departures that grow with the square of the anomaly: no linear map of it.
    random = np.random.default_rng(0)
    weather = random.normal(size=(240, 1, 1)) + 0.1 * random.normal(size=(240, 4, 4))
    pattern = np.tile(np.array([[1.0, -1.0], [-1.0, 1.0]]), (4, 4))
    fine = 280 + weather.repeat(2, 1).repeat(2, 2) + pattern * weather.repeat(2, 1).repeat(2, 2) ** 2
    grid = {"lat": ("lat", 0.25 * np.arange(8), {"units": "degrees_north"})}
    grid["lon"] = ("lon", 0.25 * np.arange(8), {"units": "degrees_east"})
    time = np.datetime64("2001-01-01", "ns") + np.arange(240) * np.timedelta64(1, "D")
    field = (("time", "lat", "lon"), fine.astype(np.float32), {"units": "K"})
    truth = xr.Dataset({"t2m": field}, coords={"time": time, **grid})
    coarse, late = coarsen(truth, 2), slice(200, 240)
    training = quick(steps=150, learning_rate=1e-2, ema=0.9)
    errors = {}
    for name in ("ridge", "neural"):
        fitted = build(name, **({"settings": training} if name == "neural" else {}))
        fitted.fit(coarse.isel(time=slice(200)), truth.isel(time=slice(200)))
        errors[name] = float(abs(fitted.predict(coarse.isel(time=late)).t2m - truth.t2m[late]).mean())
    assert errors["neural"] < 0.4 * errors["ridge"]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("ridge", Ridge, {"constraint": "none"}),
        ("bicubic+add", BASELINES["bicubic"], {"constraint": "add"}),
        ("resnet", NeuralDownscaler, {"backbone": {"name": "resnet"}, "mean": None, "constraint": "add"}),
        (
            "srresnet+softmax",
            NeuralDownscaler,
            {"backbone": {"name": "srresnet"}, "mean": None, "constraint": "softmax"},
        ),
        ("unet-on-mean-map", NeuralDownscaler, {"backbone": {"name": "unet"}, "mean": "mean-map", "constraint": "add"}),
        ("resnet-on-ridge+scaled-add", NeuralDownscaler, {"mean": "ridge", "constraint": "scaled-add"}),
        ("flow-on-ridge", NeuralDownscaler, {"backbone": None, "head": {"name": "flow"}, "mean": "ridge"}),
        ("unet:latent", NeuralDownscaler, {"backbone": {"name": "unet"}, "head": {"name": "latent"}}),
    ],
)
def test_a_method_is_one_word(name, kind, options):
    found = method(name)
    assert type(found) is kind
    assert {key: found.options[key] for key in options} == options


def test_a_head_brings_its_usual_backbone_of_which_options_change_a_part():
    assert backbone_of(method("flow").backbone, "flow") == FlowHead.usual_backbone
    assert method("flow", backbone={"width": 8}).backbone == {**FlowHead.usual_backbone, "width": 8}
    assert backbone_of({"name": "resnet"}, "flow") == {"name": "resnet"}
    assert backbone_of(None, "point") == {"name": "resnet"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rigde", r"no method 'rigde'.*ridge, resnet|no method 'rigde'.*Did you mean 'ridge'"),
        ("resnet-on-rigde", r"no method 'resnet-on-rigde'"),
        ("bicubic+ad", r"no constraint 'ad' \(in the method 'bicubic\+ad'\).*Did you mean 'add'"),
        ("ridge-on-resnet", r"no method 'ridge-on-resnet'"),
        ("", r"no method ''"),
    ],
)
def test_a_misspelt_method_gets_the_names_and_the_nearest(name, words):
    with pytest.raises(InputError, match=words):
        method(name)


def test_an_unknown_option_of_a_method_lists_the_options():
    with pytest.raises((InputError, TypeError), match="penaltys"):
        method("ridge", penaltys=(1.0,))


def test_settings_reach_networks_and_only_those():
    assert method("resnet", settings=quick(steps=9)).settings.steps == 9
    assert method("ridge", settings=quick()).name == "ridge"


def test_two_times_are_the_least_to_learn_from(toy_coarse, toy_fine):
    with pytest.raises(InputError, match=r"got 1 training time\(s\).*at least two"):
        build("nearest").fit(toy_coarse.isel(time=[0]), toy_fine)


def test_a_model_of_an_unknown_kind_names_the_version_that_wrote_it(toy_coarse, toy_fine, tmp_path, monkeypatch):
    build("nearest").fit(toy_coarse, toy_fine).save(tmp_path)
    monkeypatch.delitem(DOWNSCALERS, "nearest")
    with pytest.raises(InputError, match=r"names the downscaler 'nearest'; expected one of .*that wrote it: \d"):
        load(Path(tmp_path))


def test_rain_that_packing_left_just_below_zero_is_rain(toy_fine: xr.Dataset) -> None:
    fine = toy_fine[["pr"]].map(lambda field: field.where(field > 0, -1e-9).astype(np.float32), keep_attrs=True)
    model = method("bicubic+softmax").fit(coarsen(fine, 4), fine)
    assert float(model.predict(coarsen(fine, 4)).pr.min()) >= -1e-8


def test_validation_times_that_the_data_do_not_have_are_refused(toy_fine: xr.Dataset) -> None:
    fine = toy_fine[["t2m"]]
    model = NeuralDownscaler(settings=Settings(steps=1))
    with pytest.raises(InputError, match="validation times"):
        model.fit(coarsen(fine, 4), fine, validate=fine.time + np.timedelta64(9999, "D"))


def test_a_baseline_learns_from_all_times() -> None:
    assert [kind.validates for kind in BASELINES.values()] == [False] * len(BASELINES)
    assert NeuralDownscaler.validates
