"""Columns of ClimSim: files and arrays give the same numbers, energy is right, a network beats the line."""

from __future__ import annotations

from pathlib import Path

import cftime
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import r2_score

from finegrid.benchmark.columns import channels, energy, level_table, linear, network, r_squared, thickness
from finegrid.conventions import InputError
from finegrid.data.layouts import open_layout, recognised
from finegrid.data.layouts.climsim import GRID
from finegrid.data.layouts.climsim_words import INPUTS, OUTPUTS, width

POINTS, LEVELS = 6, 5
SURFACE = [name for name, each in OUTPUTS["v1"].items() if each.state is None]


def grid(points: int = POINTS, levels: int = LEVELS) -> xr.Dataset:
    """A hybrid coordinate from 2 hPa at the top down to the ground."""
    share = np.linspace(0, 1, levels + 1)
    a, b = 0.002 + 0.1 * share * (1 - share), share**2
    a[-1] = 0.0
    middle = {name: ("lev", (each[1:] + each[:-1]) / 2) for name, each in (("hyam", a), ("hybm", b))}
    places = {
        "lat": ("ncol", np.linspace(-80, 80, points), {"units": "degrees_north"}),
        "lon": ("ncol", np.linspace(0, 300, points), {"units": "degrees_east"}),
        "area": ("ncol", np.linspace(0.02, 0.05, points)),
    }
    return xr.Dataset({**places, "hyai": ("ilev", a), "hybi": ("ilev", b), **middle, "P0": 1e5})


def columns(folder: Path, steps: list[str], *, variables: str = "v1") -> tuple[list[xr.Dataset], list[xr.Dataset]]:
    """Files of steps such as "0001-02-01-00000", with the grid; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    grid().to_netcdf(folder / GRID)
    written: tuple[list[xr.Dataset], list[xr.Dataset]] = ([], [])
    for number, step in enumerate(steps):
        rng = np.random.default_rng(number)
        before = {
            name: (("lev", "ncol"), rng.normal(size=(LEVELS, POINTS)))
            if each.levels
            else ("ncol", rng.normal(size=POINTS))
            for name, each in INPUTS[variables].items()
        }
        before["state_ps"] = ("ncol", rng.uniform(9e4, 1.02e5, POINTS))
        states = [each.state for each in OUTPUTS[variables].values() if each.state]
        after = {name: (("lev", "ncol"), rng.normal(size=(LEVELS, POINTS))) for name in states}
        after |= {name: ("ncol", rng.uniform(size=POINTS)) for name in SURFACE}
        place = folder / "train" / step[:7]
        place.mkdir(parents=True, exist_ok=True)
        for side, fields in zip(written, (before, after), strict=True):
            side.append(xr.Dataset(fields, {"ymd": int(step[:10].replace("-", "")), "tod": int(step[-5:])}))
        written[0][-1].to_netcdf(place / f"E3SM-MMF.mli.{step}.nc")
        written[1][-1].to_netcdf(place / f"E3SM-MMF.mlo.{step}.nc")
    return written


def test_steps_of_the_model_are_columns_and_their_tendencies(tmp_path):
    steps = ["0001-02-01-00000", "0001-02-01-01200", "0008-02-01-02400", "0009-01-31-85200", "0009-02-01-00000"]
    before, after = columns(tmp_path, steps)
    assert recognised(tmp_path).name == "climsim"
    opened = open_layout(tmp_path)
    assert opened.coarse.state_t.chunks is not None and opened.fine.ptend_t.chunks is not None
    assert opened.coarse.state_t.dims == ("time", "point", "lev") and opened.coarse.state_ps.dims == ("time", "point")
    assert list(opened.coarse) == list(INPUTS["v1"]) and list(opened.fine) == list(OUTPUTS["v1"])
    assert opened.coarse.time.values[3] == cftime.DatetimeNoLeap(9, 1, 31, 23, 40)
    opened.coarse.load(), opened.fine.load()  # all variables of a file at once
    for index in range(len(steps)):
        np.testing.assert_array_equal(opened.coarse.state_q0001[index], before[index].state_q0001.T)
        np.testing.assert_array_equal(opened.coarse.pbuf_SOLIN[index], before[index].pbuf_SOLIN)
        change = (after[index].state_t - before[index].state_t).T / 1200
        np.testing.assert_allclose(opened.fine.ptend_t[index], change, rtol=1e-12)
        np.testing.assert_array_equal(opened.fine.cam_out_PRECC[index], after[index].cam_out_PRECC)
    units = [opened.fine[name].attrs["units"] for name in ("ptend_t", "ptend_q0001", "cam_out_PRECC", "cam_out_SOLS")]
    assert units == ["K s-1", "kg kg-1 s-1", "m s-1", "W m-2"]
    splits = {name: each.tolist() for name, each in opened.splits.items()}
    assert splits == {"train": [0, 1], "validate": [2, 3], "test": [4]}
    np.testing.assert_array_equal(opened.coarse.lat, grid().lat)
    np.testing.assert_allclose(opened.coarse.lev, 1000 * (grid().hyam + grid().hybm))


def test_all_variables_have_the_columns_of_the_benchmark(tmp_path):
    assert (width(INPUTS["v1"], 60), width(OUTPUTS["v1"], 60)) == (124, 128)
    assert (width(INPUTS["v2"], 60), width(OUTPUTS["v2"], 60)) == (557, 368)
    _, after = columns(tmp_path, ["0001-02-01-00000", "0001-02-01-01200", "0001-02-01-02400"], variables="v2")
    opened = open_layout(tmp_path, variables="v2", stride=2)
    assert opened.coarse.sizes["time"] == 2 and channels(opened.fine).sizes["channel"] == 6 * LEVELS + 8
    np.testing.assert_array_equal(opened.fine.cam_out_SOLL[1], after[2].cam_out_SOLL)


def normalisation(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Files of mean, extremes and scale; returns (mean, range) and scale by column."""
    rng = np.random.default_rng(9)
    size = {name: LEVELS if each.levels else 1 for name, each in (INPUTS["v1"] | OUTPUTS["v1"]).items()}
    draw = {name: rng.uniform(1, 2, size=(3, count)) for name, count in size.items()}
    for file, names, numbers in (
        ("input_mean", INPUTS["v1"], lambda each: each[0]),
        ("input_max", INPUTS["v1"], lambda each: each[1] + 3),
        ("input_min", INPUTS["v1"], lambda each: each[2]),
        ("output_scale", OUTPUTS["v1"], lambda each: 1000 * each[0]),
    ):
        fields = {name: ("lev", numbers(draw[name])) if size[name] > 1 else numbers(draw[name])[0] for name in names}
        xr.Dataset(fields).to_netcdf(folder / f"{file}.nc")
    ranges = {name: np.stack([draw[name][0], draw[name][1] + 3 - draw[name][2]]) for name in INPUTS["v1"]}
    return ranges, {name: 1000 * draw[name][0] for name in OUTPUTS["v1"]}


def arrays(folder: Path, given: xr.Dataset, wanted: xr.Dataset, part: str, scales: tuple[dict, dict] | None) -> None:
    """Columns as the benchmark's arrays, normalised."""
    rows = []
    for side, fields in enumerate((given, wanted)):
        parts = []
        for name in fields:
            values = fields[name].values.reshape(-1, LEVELS if "lev" in fields[name].dims else 1)
            if scales is not None:
                known = scales[side][name]
                values = values * known if side else (values - known[0]) / known[1]
            parts.append(values)
        rows.append(np.concatenate(parts, axis=1).astype(np.float32))
    np.save(folder / f"{part}_input.npy", rows[0])
    np.save(folder / f"{part}_target.npy", rows[1])


def test_arrays_are_brought_back_to_the_numbers_of_the_files(tmp_path):
    columns(tmp_path / "files", ["0001-02-01-00000", "0001-02-01-01200", "0001-02-01-02400"])
    files = open_layout(tmp_path / "files")
    files.coarse.load(), files.fine.load()
    folder = tmp_path / "arrays"
    folder.mkdir()
    scales = normalisation(folder)
    grid().to_netcdf(folder / GRID)
    for part, times in (("train", slice(2)), ("scoring", slice(2, 3))):
        arrays(folder, files.coarse.isel(time=times), files.fine.isel(time=times), part, scales)
    opened = open_layout(folder)
    assert opened.coarse.state_t.chunks is not None and opened.coarse.state_t.attrs["units"] == "K"
    assert {name: each.tolist() for name, each in opened.splits.items()} == {"train": [0, 1], "test": [2]}
    for ours, theirs in ((opened.coarse.load(), files.coarse), (opened.fine.load(), files.fine)):
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5 * float(abs(theirs[name]).max()))
    for name in ("input_mean", "input_max", "input_min", "output_scale"):
        (folder / f"{name}.nc").rename(tmp_path / f"{name}.nc")
    plain = open_layout(folder)
    assert plain.coarse.state_t.attrs == {"units": "1", "comment": "normalised"}
    np.testing.assert_array_equal(
        plain.coarse.state_ps.values.ravel()[: 2 * POINTS], np.load(folder / "train_input.npy")[:, 10]
    )
    again = open_layout(folder, scaling=tmp_path)
    np.testing.assert_array_equal(again.coarse.state_t, opened.coarse.state_t)


def test_what_is_missing_or_does_not_fit_is_named(tmp_path):
    columns(tmp_path, ["0001-02-01-00000"])
    with pytest.raises(InputError, match="variables='v3'"):
        open_layout(tmp_path, variables="v3")
    with pytest.raises(InputError, match=r"mli.*lacks state_q0002"):
        open_layout(tmp_path, variables="v2")
    with pytest.raises(InputError, match=r"nowhere\.nc does not exist"):
        open_layout(tmp_path, grid=tmp_path / "nowhere.nc")
    with pytest.raises(InputError, match="6 columns of 5 levels and a grid of 7 of 5"):
        grid(points=7).to_netcdf(tmp_path / "other.nc")
        open_layout(tmp_path, grid=tmp_path / "other.nc")
    next(tmp_path.rglob("*.mlo.*")).unlink()
    with pytest.raises(InputError, match=r"mlo\.0001-02-01-00000\.nc does not exist"):
        open_layout(tmp_path)
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "train_input.npy", np.zeros((384, 124), np.float32))
    with pytest.raises(InputError, match=r"train_target\.npy cannot be read"):
        open_layout(folder)
    np.save(folder / "train_target.npy", np.zeros((384, 127), np.float32))
    with pytest.raises(InputError, match="124 and 127 columns; expected one of v1: 124 and 128, v2: 557 and 368"):
        open_layout(folder)
    np.save(folder / "train_target.npy", np.zeros((384, 128), np.float32))
    assert open_layout(folder).coarse.state_t.shape == (1, 384, 60)
    with pytest.raises(InputError, match=r"lacks input_max\.nc, input_min\.nc, output_scale\.nc"):
        xr.Dataset().to_netcdf(folder / "input_mean.nc")
        open_layout(folder)
    (folder / "input_mean.nc").unlink()
    for side, count in (("input", 124), ("target", 128)):
        np.save(folder / f"train_{side}.npy", np.zeros((385, count), np.float32))
    with pytest.raises(InputError, match="385 rows; expected a multiple of the 384 columns"):
        open_layout(folder)


def outputs(seed: int = 0, times: int = 3) -> tuple[xr.Dataset, xr.DataArray]:
    rng = np.random.default_rng(seed)
    units = {name: each.units for name, each in OUTPUTS["v2"].items()}
    fields = {
        name: (("time", "point", "lev"), rng.normal(size=(times, POINTS, LEVELS)), {"units": units[name]})
        if each.levels
        else (("time", "point"), rng.normal(size=(times, POINTS)), {"units": units[name]})
        for name, each in OUTPUTS["v2"].items()
    }
    pressure = xr.DataArray(rng.uniform(9e4, 1.02e5, (times, POINTS)), dims=("time", "point"))
    return xr.Dataset(fields), pressure


def test_levels_fill_the_column_between_the_top_and_the_ground():
    _, pressure = outputs()
    places = grid().rename(ncol="point")
    thick = thickness(pressure, places)
    assert thick.dims == ("time", "point", "lev") and (thick > 0).all()
    top = float(places.hyai[0] * places.P0)
    np.testing.assert_allclose(thick.sum("lev"), pressure - top, rtol=1e-12)


def test_energy_is_what_a_hand_computes():
    fields, pressure = outputs()
    places = grid().rename(ncol="point")
    weighted = energy(fields, pressure, places)
    a, b, area = places.hyai.values, places.hybi.values, places.area.values
    g, cp, lv = 9.80616, 1004.64, 2.501e6
    for time in range(2):
        for point in range(POINTS):
            share = area[point] / (area.sum() / POINTS)
            for level in range(LEVELS):
                dp = 1e5 * (a[level + 1] - a[level]) + float(pressure[time, point]) * (b[level + 1] - b[level])
                place = {"time": time, "point": point, "lev": level}
                for name, factor in (("ptend_t", cp), ("ptend_q0001", lv), ("ptend_q0003", lv), ("ptend_u", 1.0)):
                    hand = float(fields[name][place]) * dp / g * factor * share
                    assert float(weighted[name][place]) == pytest.approx(hand, rel=1e-12)
            place = {"time": time, "point": point}
            rain = float(fields.cam_out_PRECC[place]) * lv * 1000 * share
            assert float(weighted.cam_out_PRECC[place]) == pytest.approx(rain, rel=1e-12)
            assert float(weighted.cam_out_NETSW[place]) == pytest.approx(float(fields.cam_out_NETSW[place]) * share)
    assert weighted.ptend_t.attrs["units"] == "W m-2" and weighted.ptend_u.attrs["units"] == "N m-2"
    plain = energy(fields, pressure, places, area=False)
    np.testing.assert_allclose(plain.cam_out_FLWDS, fields.cam_out_FLWDS)
    with pytest.raises(InputError, match=r"'ptend_t' has the units '1'; expected K s-1"):
        energy(fields[["ptend_t"]].assign(ptend_t=fields.ptend_t.assign_attrs(units="1")), pressure, places)


def test_r_squared_is_that_of_every_point_and_level_and_leaves_out_what_does_not_vary():
    truth, _ = outputs(times=12)
    rng = np.random.default_rng(3)
    prediction = truth.map(lambda each: each + 0.3 * rng.normal(size=each.shape))
    truth.ptend_t[:, 2, 1] = 7.0
    truth.ptend_q0001[:, :, 0] = 0.0
    scores = r_squared(prediction, truth)
    for level in range(LEVELS):
        known = [point for point in range(POINTS) if (point, level) != (2, 1)]
        by_hand = [r2_score(truth.ptend_t[:, point, level], prediction.ptend_t[:, point, level]) for point in known]
        assert float(scores.ptend_t[level]) == pytest.approx(np.mean(by_hand), abs=1e-10)
    assert np.isnan(scores.ptend_q0001[0]) and np.isfinite(scores.ptend_q0001[1:]).all()
    by_hand = [r2_score(truth.cam_out_SOLS[:, point], prediction.cam_out_SOLS[:, point]) for point in range(POINTS)]
    assert float(scores.cam_out_SOLS) == pytest.approx(np.mean(by_hand))
    assert (r_squared(truth, truth).ptend_v == 1).all()
    lines = level_table(scores.assign_coords(lev=[10.0, 100, 300, 700, 950])).splitlines()
    assert lines[0] == "| level | ptend_t | ptend_q0001 | ptend_q0002 | ptend_q0003 | ptend_u | ptend_v |"
    assert lines[2].startswith(f"| 10 | {float(scores.ptend_t[0]):.3f} | - |") and lines[7].startswith("| mean |")
    assert lines[-1] == f"| cam_out_SOLLD | {float(scores.cam_out_SOLLD):.3f} |" and len(lines) == 19
    with pytest.raises(InputError, match="lacks 'ptend_t'"):
        r_squared(prediction.drop_vars("ptend_t"), truth)


def learnable(times: int, seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Columns that rain where they are warm and moist: no line knows that."""
    rng = np.random.default_rng(seed)
    t, q = (rng.normal(size=(times, POINTS, LEVELS)) for _ in range(2))
    sun = rng.uniform(0, 1, (times, POINTS))
    heat = np.maximum(t, 0) * np.maximum(q, 0) + 0.2 * t
    upper, flat = ("time", "point", "lev"), ("time", "point")
    given = {"state_t": (upper, t, {"units": "K"}), "state_q0001": (upper, q), "pbuf_SOLIN": (flat, sun)}
    heat[..., 0] = 0.0  # nothing happens at the top
    wanted = {
        "ptend_t": (upper, 1e-5 * heat, {"units": "K s-1"}),
        "cam_out_PRECC": (flat, 1e-8 * heat.sum(axis=2), {"units": "m s-1"}),
    }
    coords = {"time": np.arange(times), "lev": np.arange(LEVELS)}
    return xr.Dataset(given, coords), xr.Dataset(wanted, coords)


def test_a_network_learns_columns_that_a_line_does_not():
    training, test = learnable(400, seed=0), learnable(100, seed=1)
    scores = {}
    for name, model in (("linear", linear()), ("network", network((48,), steps=30, seed=0, learning_rate_init=0.01))):
        prediction = model.fit(*training).predict(test[0])
        assert prediction.ptend_t.dims == ("time", "point", "lev") and prediction.ptend_t.attrs["units"] == "K s-1"
        assert (prediction.ptend_t[..., 0] == 0).all()
        scores[name] = r_squared(prediction, test[1])
    for name in scores["network"]:
        gain = (scores["network"][name] - scores["linear"][name]).values.ravel()[-4:]  # the top level has no score
        assert (gain > 0.2).all() and (scores["network"][name].values.ravel()[-4:] > 0.85).all()
    again = network((48,), steps=30, seed=0, learning_rate_init=0.01).fit(*training).predict(test[0])
    xr.testing.assert_identical(again, prediction)
    with pytest.raises(InputError, match=r"call fit\(inputs, outputs\) first"):
        linear().predict(test[0])


def test_a_line_is_recovered():
    given, _ = learnable(200, seed=2)
    wanted = xr.Dataset({"ptend_t": 2e-5 * given.state_t - 1e-6 * given.state_q0001 + 3e-6 * given.pbuf_SOLIN + 1e-5})
    found = linear(penalty=1e-9).fit(given, wanted).predict(given)
    np.testing.assert_allclose(found.ptend_t, wanted.ptend_t, rtol=1e-6, atol=1e-12)
    assert (r_squared(found, wanted).ptend_t > 1 - 1e-9).all()


def test_columns_of_files_are_learnt_from_beginning_to_table(tmp_path):
    columns(tmp_path, [f"0001-02-01-{1200 * number:05d}" for number in range(12)])
    opened = open_layout(tmp_path)
    given, wanted = opened.coarse.load(), opened.fine.load()
    prediction = network((32,), steps=400, seed=0).fit(given, wanted).predict(given)
    scores = r_squared(*(energy(each, given.state_ps, opened.extras["grid"]) for each in (prediction, wanted)))
    assert (scores.ptend_t > 0.5).all()  # of what it has learnt from: the table is about levels, not about skill
    table = level_table(scores)
    assert f"| {float(opened.fine.lev[0]):.4g} |" in table and "| cam_out_NETSW |" in table
