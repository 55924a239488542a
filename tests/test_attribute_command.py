"""Attribution of downscalers on coarse files: `attribute`, `aggregate`, pictures, and `finegrid attribute`."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import finegrid as fg
from finegrid.benchmark.attribution import Target, aggregate, attribute, fields
from finegrid.benchmark.attribution.figures import figure
from finegrid.benchmark.attribution.files import attribute_files
from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen
from finegrid.downscalers import NeuralDownscaler, method
from finegrid.training import Settings

FACTOR, TIMES, FIRST = 3, 730, 700
QUICK = Settings(steps=40, budget=None, batch=16)
SMALL = {"name": "resnet", "width": 12, "depth": 1}


def weather() -> xr.Dataset:
    """Two years of daily rain and temperature with odd names, rows from north to south."""
    numbers = np.random.default_rng(0)
    wide = numbers.standard_normal((2, TIMES, 4, 5)).repeat(FACTOR, 2).repeat(FACTOR, 3)
    noise = 0.3 * numbers.standard_normal(wide.shape)
    time = np.datetime64("2001-01-01", "ns") + np.arange(TIMES) * np.timedelta64(1, "D")
    coords = {
        "t": ("t", time, {"standard_name": "time"}),
        "breite": ("breite", 48 - 0.2 * np.arange(12), {"units": "degrees_north"}),
        "laenge": ("laenge", 5 + 0.2 * np.arange(15), {"units": "degrees_east"}),
    }
    rain = np.maximum(wide[0] + noise[0], 0) ** 2
    warm = 285 + 3 * wide[1] + noise[1]
    names = {
        "regen": (rain / 86400, {"standard_name": "precipitation_flux", "units": "kg m-2 s-1"}),
        "warm": (warm, {"standard_name": "air_temperature", "units": "K"}),
    }
    found = {name: (("t", "breite", "laenge"), each.astype(np.float32), about) for name, (each, about) in names.items()}
    return xr.Dataset(found, coords=coords)


@pytest.fixture(scope="module")
def pair() -> tuple[xr.Dataset, xr.Dataset]:
    fine = weather()
    return coarsen(fine, FACTOR), fine


@pytest.fixture(scope="module")
def network(pair) -> NeuralDownscaler:
    options = {"backbone": SMALL, "settings": QUICK, "variables": ["warm"], "predictors": ("regen",)}
    return NeuralDownscaler(constraint="none", **options).fit(*pair)


@pytest.fixture(scope="module")
def ridge(pair):
    return method("ridge+none", variables=["warm"], predictors=("regen",)).fit(*pair)


def some(coarse: xr.Dataset, count: int = 3) -> xr.Dataset:
    return coarse.isel(t=slice(FIRST, FIRST + count))


def total(found: xr.Dataset) -> np.ndarray:
    """Sums (time,) of all parts."""
    sums = [each.sum([dim for dim in each.dims if dim != "t"]) for each in found.data_vars.values()]
    return np.asarray(sum(sums).values)


def finegrid(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.mark.parametrize("name", ["integrated-gradients", "gradient-shap", "shapley"])
def test_maps_are_in_the_words_of_the_coarse_file_and_sum_to_the_change(name, pair, network):
    coarse, (south, north, west, east) = some(pair[0]), (46.3, 47.5, 5.5, 7.0)
    found = attribute(network, coarse, method=name, target=Target(box=(south, north, west, east)))
    assert list(found.data_vars) == ["warm", "regen"]
    assert found["regen"].dims == pair[0]["regen"].dims
    np.testing.assert_array_equal(found.breite, coarse.breite)
    np.testing.assert_array_equal(found.t, coarse.t)
    assert found["regen"].attrs["units"] == "K"
    np.testing.assert_allclose(total(found), found.prediction - found.baseline_prediction, atol=1e-3, rtol=1e-3)
    assert float(found.completeness_error.max()) < (0.05 if name == "gradient-shap" else 2e-3)
    predicted = network.predict(coarse)["warm"].isel(member=0).sel(breite=slice(north, south), laenge=slice(west, east))
    weights = np.cos(np.deg2rad(predicted.breite))
    np.testing.assert_allclose(found.prediction, predicted.weighted(weights).mean(("breite", "laenge")), rtol=1e-6)
    assert found.attrs["attribution_method"] == name and "46.3 to 47.5" in found.attrs["attribution_target"]


def test_of_a_linear_downscaler_parts_are_slopes_times_departures(pair, ridge):
    coarse, target = some(pair[0], 1), Target(at=(46.9, 6.5))
    zero = coarse.map(lambda each: (each * 0 + 280 * (each.name == "warm")).assign_attrs(each.attrs))
    found = attribute(ridge, coarse, method="occlusion", target=target, baseline=zero)
    exact = attribute(ridge, coarse, method={"name": "shapley", "block": 1}, target=target, baseline=zero)
    row, column = 2, 3
    for name, step in (("warm", 5.0), ("regen", 1e-4)):
        moved = coarse.copy(deep=True)
        moved[name][0, row, column] += step
        before, after = (
            float(ridge.predict(each)["warm"].isel(member=0).sel(breite=46.9, laenge=6.5, method="nearest")[0])
            for each in (coarse, moved)
        )
        expected = (after - before) / step * float(coarse[name][0, row, column] - zero[name][0, row, column])
        assert float(found[name][0, row, column]) == pytest.approx(expected, abs=2e-4)
    for name in found.data_vars:
        np.testing.assert_allclose(found[name], exact[name], atol=2e-4)


def test_gradients_pass_through_the_first_guess(pair, network, ridge):
    silent = NeuralDownscaler(constraint="none", backbone=SMALL, settings=QUICK, variables=["warm"])
    silent.predictors = ("regen",)
    silent.remember(network._described()[0]["state"], network._described()[1])
    with torch.no_grad():
        for each in silent._trained[1].backbones[0].leave.parameters():
            each.zero_()  # what is left is the ridge alone
    coarse, target = some(pair[0], 2), Target(at=(46.9, 6.5))
    by_gradients = attribute(silent, coarse, target=target)
    by_values = attribute(silent, coarse, method="occlusion", target=target)
    for name in by_gradients.data_vars:
        np.testing.assert_allclose(by_gradients[name], by_values[name], atol=3e-4)
    assert float(abs(by_gradients["warm"]).max()) > 0.1


def test_a_conserving_network_gives_all_of_the_mean_to_the_coarse_cell_itself(pair):
    model = NeuralDownscaler(backbone=SMALL, settings=QUICK, variables=["warm"], mean=None).fit(*pair)
    coarse = some(pair[0], 2)
    cell = {"breite": 1, "laenge": 2}
    north, east = float(coarse.breite[1]), float(coarse.laenge[2])
    found = attribute(model, coarse, target=Target(box=(north - 0.29, north + 0.29, east - 0.29, east + 0.29)))
    change = (found.prediction - found.baseline_prediction).values
    np.testing.assert_allclose(found["warm"].isel(cell), change, rtol=1e-3)
    assert float(abs(found["warm"]).sum()) == pytest.approx(float(abs(change).sum()), rel=1e-2)


def test_neighbouring_steps_have_maps_of_their_own(pair):
    options = {"backbone": SMALL, "settings": QUICK, "variables": ["warm"], "frames": (-1, 0)}
    model = NeuralDownscaler(constraint="none", mean=None, **options).fit(*pair)
    coarse = pair[0].isel(t=slice(None, FIRST + 3))
    days = f"{str(coarse.t.values[-3])[:10]}/{str(coarse.t.values[-1])[:10]}"
    for name in ("integrated-gradients", "occlusion"):
        found = attribute(model, coarse, method=name, time=days)
        assert found.lag.values.tolist() == [-1, 0, 1]
        assert float(abs(found["warm"].sel(lag=1)).max()) == 0
        assert float(abs(found["warm"].sel(lag=-1)).max()) > 0
        predicted = model.predict(coarse)["warm"].isel(member=0, t=slice(-3, None))
        mean = predicted.weighted(np.cos(np.deg2rad(predicted.breite))).mean(("breite", "laenge"))
        np.testing.assert_allclose(found.prediction, mean, rtol=1e-6)
    assert set(aggregate(found).signed["warm"].dims) == {"breite", "laenge"}


def test_a_missing_coarse_cell_has_no_part(pair, network):
    coarse = some(pair[0], 1).copy(deep=True)
    coarse["regen"][0, 1, 1] = coarse["warm"][0, 2, 3] = np.nan
    found = {name: attribute(network, coarse, method=name) for name in ("integrated-gradients", "occlusion")}
    for each in found.values():
        assert np.isnan(each["regen"][0, 1, 1]) and np.isnan(each["warm"][0, 2, 3])
        assert int(each.isnull().to_array().sum()) == 2
    by_gradients, by_values = found.values()
    assert float(by_gradients.completeness_error.max()) < 2e-3
    assert by_gradients.prediction.values == pytest.approx(by_values.prediction.values, rel=1e-6)
    assert by_gradients.baseline_prediction.values == pytest.approx(by_values.baseline_prediction.values, rel=1e-7)


def test_exceedances_have_a_gradient_and_are_parts_of_one(pair, network):
    found = attribute(network, some(pair[0]), target=Target(above=286.0))
    assert found["warm"].attrs["units"] == "1"
    assert float(found.prediction.min()) > 0 and float(found.prediction.max()) < 1
    steep = attribute(network, some(pair[0]), method="occlusion", target=Target(above=286.0, width=1e-3))
    hard = (network.predict(some(pair[0]))["warm"].isel(member=0) > 286).mean(("breite", "laenge"))
    np.testing.assert_allclose(steep.prediction, hard, atol=0.02)


@pytest.mark.parametrize("coarser", [3.4])
def test_cells_that_are_no_blocks_get_all_of_the_parts(coarser, pair):
    fine = pair[1]
    edges = [np.arange(0, 4) * 0.2 * coarser + start for start in (45.7, 4.9)]
    middles = [(each[1:] + each[:-1]) / 2 for each in edges]
    low = fine.interp(breite=middles[0], laenge=middles[1] + 0.1).astype(np.float32)
    for name in low.data_vars:
        low[name].attrs = fine[name].attrs
    options = {"backbone": SMALL, "settings": QUICK, "variables": ["warm"], "mean": "ridge"}
    inner = fine.sel(breite=slice(47.5, 45.9), laenge=slice(5.2, 6.6))
    model = NeuralDownscaler(constraint="none", **options).fit(low, inner)
    assert model.domain.inputs.own is not None
    found = attribute(model, some(low))
    np.testing.assert_allclose(total(found), found.prediction - found.baseline_prediction, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(found.laenge, low.laenge)


def test_members_have_a_mean_that_is_attributed(pair):
    options = {"backbone": SMALL, "settings": QUICK, "variables": ["warm"], "head": "noise-injected"}
    model = NeuralDownscaler(**options).fit(*pair)
    coarse = some(pair[0], 1)
    found = attribute(model, coarse, members=3, seed=5)
    predicted = model.predict(coarse, members=3, seed=5)["warm"].mean("member")
    mean = predicted.weighted(np.cos(np.deg2rad(predicted.breite))).mean(("breite", "laenge"))
    np.testing.assert_allclose(found.prediction, mean, rtol=1e-6)
    np.testing.assert_allclose(total(found), found.prediction - found.baseline_prediction, rtol=1e-3)


def test_gradients_are_refused_where_there_are_none(pair, ridge):
    with pytest.raises(InputError, match="--method shapley"):
        attribute(ridge, some(pair[0]))
    analogues = {"backbone": SMALL, "settings": QUICK, "variables": ["warm"], "mean": "nearest-neighbours"}
    model = NeuralDownscaler(**analogues).fit(*pair)
    with pytest.raises(InputError, match="not linear in the coarse fields"):
        attribute(model, some(pair[0]), target=Target(at=(46.9, 6.5)))
    found = attribute(model, some(pair[0], 1), method={"name": "shapley", "block": 2}, target=Target(at=(46.9, 6.5)))
    np.testing.assert_allclose(total(found), found.prediction - found.baseline_prediction, atol=1e-4)


def test_where_the_climate_is_not_known_the_record_is_the_baseline(pair):
    fine = pair[1].isel(t=slice(0, 100, 10))
    coarse = coarsen(fine, FACTOR)
    model = method("bicubic", variables=["warm"]).fit(coarse, fine)
    found = attribute(model, coarse, method="occlusion", time=str(coarse.t.values[0])[:10])
    assert found.attrs["attribution_baseline"] == "mean of the record"
    assert float(abs(found["warm"]).max()) > 0.1
    again = attribute(model, coarse, method="occlusion", baseline=coarse, time=str(coarse.t.values[0])[:10])
    np.testing.assert_allclose(again["warm"], found["warm"])
    with pytest.raises(InputError, match="--baseline record"):
        attribute(model, coarse, method="occlusion", baseline="climate")


def test_what_is_wrong_is_said(pair, network):
    coarse = some(pair[0])
    for options, words in (
        ({"target": Target(variable="wram")}, "Did you mean 'warm'"),
        ({"target": Target(at=(10.0, 6.0))}, "km away from the nearest fine cell"),
        ({"target": Target(box=(47.0, 46.0, 5.0, 6.0))}, "each smaller first"),
        ({"target": Target(box=(10.0, 11.0, 5.0, 6.0))}, "without a fine cell"),
        ({"method": "shaply"}, "Did you mean 'shapley'"),
        ({"method": {"name": "shapley", "stepz": 3}}, "has no argument 'stepz'"),
        ({"baseline": "climat"}, "Did you mean 'climate'"),
        ({"time": "1999"}, "change --time"),
        ({"members": 4}, "member"),
    ):
        with pytest.raises(InputError, match=words):
            attribute(network, coarse, **options)
    with pytest.raises(InputError, match="one of them"):
        Target(at=(1.0, 2.0), box=(1.0, 2.0, 3.0, 4.0))
    with pytest.raises(InputError, match="target_latitude"):
        aggregate(coarse)


def test_aggregates_are_means_over_times_seasons_variables_and_distances(pair, network):
    coarse = pair[0].isel(t=slice(329, 344))  # the end of autumn, the begin of winter
    found = attribute(network, coarse.isel(t=slice(0, 4)), target=Target(at=(46.9, 6.5)))
    later = attribute(network, coarse.isel(t=slice(10, 12)), target=Target(at=(46.9, 6.5)))
    every = xr.concat([found, later], "t", combine_attrs="override")
    together = aggregate(every)
    assert together.times == 6
    np.testing.assert_allclose(together.size["regen"], abs(every["regen"]).mean("t"))
    np.testing.assert_allclose(together.signed["regen"], every["regen"].mean("t"))
    seasons = dict(zip(together.seasonal_signed.season.values, together.seasonal_signed["warm"].values, strict=True))
    assert list(seasons) == ["DJF", "SON"]
    month = every.t.dt.month.values
    np.testing.assert_allclose(seasons["DJF"], every["warm"].values[month == 12].mean(0))
    assert sum(together.share.values()) == pytest.approx(1) and together.share["warm"] > 0.5
    assert float(together.distance.sum()) == pytest.approx(1)
    assert float(together.distance.sel(variable="warm")[0]) == float(together.distance.max())


def test_the_command_writes_maps_and_a_picture(pair, network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network.save("model")
    fg.write(some(pair[0], 2), "coarse.nc")
    words = ("attribute", "model", "coarse.nc", "--target", "warm", "--at", "46.9,6.5", "--out", "parts.nc")
    assert finegrid(*words, "--time", "2002-12-02") == 0
    told = capsys.readouterr().out
    assert "mean of warm at 46.9, 6.5" in told and "within" in told
    with xr.open_dataset("parts.nc") as written:
        assert written.sizes["t"] == 1 and written["regen"].attrs["units"] == "K"
        assert written.attrs["finegrid_model"] == network.digest and written.attrs["history"]
        expected = attribute(network, some(pair[0], 2), target=Target(variable="warm", at=(46.9, 6.5)))
        np.testing.assert_allclose(written["warm"][0], expected["warm"][0], rtol=1e-5, atol=1e-7)
    assert Path("parts.png").read_bytes()[:4] == b"\x89PNG"
    assert finegrid(*words, "--method", "occlusion", "--block", "2", "--baseline", "record", "--box", "1,2,3") == 2
    assert "expected 4 numbers" in capsys.readouterr().err
    assert finegrid(*words, "--method", "occlusion", "--block", "2", "--baseline", "coarse.nc") == 0
    assert finegrid(*words, "--baseline", "zero", "--baseline", "coarse.nc") == 2
    assert "got the baseline" in capsys.readouterr().err


def test_a_command_that_is_stopped_leaves_nothing_behind(pair, network, tmp_path, monkeypatch):
    fg.write(some(pair[0], 3), tmp_path / "coarse.nc")
    calls, original = [], fields.differentiable

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(fields, "differentiable", stopping)
    with pytest.raises(KeyboardInterrupt):
        attribute_files(network, tmp_path / "coarse.nc", tmp_path / "parts.nc")
    assert len(calls) == 2 and [each.name for each in tmp_path.iterdir()] == ["coarse.nc"]


def test_a_picture_that_cannot_be_written_is_said(pair, network, tmp_path):
    together = aggregate(attribute(network, some(pair[0], 1)))
    with pytest.raises(InputError, match="could not write"):
        figure(together, tmp_path / "nowhere" / "picture.png")
