"""Weather2K and forecasts at its stations: weather that moves is known upwind before it arrives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

from finegrid.benchmark.stations import NeighbourRidge, own_past, persistence, rmse
from finegrid.conventions import InputError
from finegrid.data.layouts import open_layout, recognised
from finegrid.data.layouts.weather2k import PLACES, SHORTER, VARIABLES


def weather2k(folder: Path, *, stations: int = 5, hours: int = 60, shorter: bool = False) -> np.ndarray:
    """A cube (station, variable, time); returns it."""
    names = [*PLACES, *(SHORTER if shorter else VARIABLES)]
    cube = np.random.default_rng(0).normal(size=(stations, len(names), hours)).astype(np.float32)
    for index, middle in enumerate((30.0, 110.0, 500.0)):
        cube[:, index] = middle + cube[:, index, :1]
    (folder / "Weather2K-R").mkdir(parents=True)
    np.save(folder / "Weather2K-R" / "data.npy", cube)
    return cube


def test_the_cube_is_stations_and_what_they_measure_later(tmp_path):
    cube = weather2k(tmp_path)
    assert recognised(tmp_path).name == "weather2k" and recognised(tmp_path / "Weather2K-R").name == "weather2k"
    opened = open_layout(tmp_path, lead=24)
    assert opened.coarse.tas.chunks is not None and opened.fine.tas.chunks is not None
    assert opened.coarse.tas.dims == ("time", "point") and opened.coarse.tas.shape == (36, 5)
    for index, word in enumerate(VARIABLES.values(), start=3):
        np.testing.assert_array_equal(opened.coarse[word.name], cube[:, index, :36].T)
        np.testing.assert_array_equal(opened.fine[word.name], cube[:, index, 24:].T)
        assert opened.fine[word.name].attrs["units"] == word.units
    np.testing.assert_allclose(opened.coarse.lat, cube[:, 0, 0], rtol=1e-6)
    assert opened.coarse.alt.attrs["units"] == "m" and (opened.fine.time == opened.coarse.time).all()
    assert (
        str(opened.coarse.time.values[1])[:13] == "2017-01-01T01" and "UTC + 8" in opened.coarse.time.attrs["comment"]
    )
    assert opened.coarse.hurs.attrs["units"] == "percent" and opened.coarse.pr_24h.attrs["units"] == "mm"


def test_parts_follow_each_other_with_a_gap_of_the_lead(tmp_path):
    weather2k(tmp_path, hours=124)
    opened = open_layout(tmp_path, lead=4, fractions=(0.5, 0.25, 0.25))
    spans = {name: (int(each[0]), int(each[-1]), len(each)) for name, each in opened.splits.items()}
    assert spans == {"train": (0, 55, 56), "validate": (60, 85, 26), "test": (90, 119, 30)}
    with pytest.raises(InputError, match="fractions="):
        open_layout(tmp_path, fractions=(0.9, 0.2, 0.2))


def test_the_release_of_every_third_hour_is_read(tmp_path):
    cube = weather2k(tmp_path, shorter=True)
    opened = open_layout(tmp_path, lead=6)
    assert opened.coarse.tas.shape == (58, 5) and str(opened.coarse.time.values[1])[:13] == "2017-01-01T03"
    np.testing.assert_array_equal(opened.coarse.pr_3h, cube[:, 8, :58].T)
    np.testing.assert_array_equal(opened.fine.sfcWindmax, cube[:, 12, 2:].T)
    with pytest.raises(InputError, match="expected a multiple of 3"):
        open_layout(tmp_path, lead=4)


@pytest.mark.parametrize("header", ["named", "shuffled", "none", "other"])
def test_tables_of_stations_are_read_by_name_or_in_the_order_of_the_cube(tmp_path, header):
    cube = weather2k(tmp_path, stations=3)
    folder = tmp_path / "Weather2K-S"
    folder.mkdir()
    names = [*PLACES, *VARIABLES]
    for number, station in zip((79, 1201, 114), cube, strict=True):
        table = pd.DataFrame(station.T.astype(float), columns=names)
        if header == "shuffled":
            table = table[names[::-1]].assign(extra=1.0)
        if header == "other":
            table.columns = [f"column {index}" for index in range(len(names))]
        table.to_csv(folder / f"{number}.csv", index=False, header=header != "none")
    opened = open_layout(tmp_path, part="S", lead=24)
    assert opened.choices == {"part": ("R", "S")} and opened.coarse.point.values.tolist() == [79, 114, 1201]
    np.testing.assert_allclose(opened.coarse.tas, cube[[0, 2, 1], 4, :36].T, rtol=1e-6)
    np.testing.assert_allclose(opened.fine.visibility_vertical, cube[[0, 2, 1], 22, 24:].T, rtol=1e-6)
    assert open_layout(folder).chosen["part"] == "S"


def test_what_is_no_cube_of_stations_is_not_taken_for_one(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((4, 5)))
    with pytest.raises(InputError, match="in none of the layouts"):
        open_layout(tmp_path)
    weather2k(tmp_path / "real")
    with pytest.raises(InputError, match=r"part 'S'.*expected one of R"):
        open_layout(tmp_path / "real", part="S")
    folder = tmp_path / "weather2k" / "Weather2K-S"
    folder.mkdir(parents=True)
    (folder / "3.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"3\.csv has the columns a, b; expected lat, lon, alt, ap"):
        open_layout(folder.parent)


def advected(times: int = 1500, stations: int = 60, *, seed: int = 0) -> xr.Dataset:
    """Temperature (time, point) of waves that move east at 20 degrees a day, with noise of the instruments."""
    rng = np.random.default_rng(seed)
    lat, lon = rng.uniform(30, 36, stations), rng.uniform(100, 160, stations)
    hours = np.arange(times)
    phase = rng.uniform(0, 2 * np.pi, 40)
    length = rng.uniform(15, 60, 40)
    # Waves fade in and out, each in its own time, so that no station can know them from its own past.
    slow = np.stack([np.convolve(rng.normal(size=times + 96), np.ones(97) / 97**0.5, "valid") for _ in range(40)], 1)
    moved = lon[None, :] - 20 / 24 * hours[:, None]
    waves = np.cos(2 * np.pi * moved[..., None] / length + phase + lat[:, None] / 20)
    field = np.einsum("tsk,tk->ts", waves, slow) / 6 + 0.1 * rng.normal(size=(times, stations))
    return xr.Dataset(
        {"tas": (("time", "point"), 15 + 5 * field, {"units": "degC"})},
        {
            "time": np.datetime64("2017-01-01", "ns") + hours * np.timedelta64(1, "h"),
            "lat": ("point", lat),
            "lon": ("point", lon),
        },
    )


def ahead(fields: xr.Dataset, hours: int = 24) -> tuple[xr.Dataset, xr.Dataset]:
    given = fields.isel(time=slice(None, -hours))
    return given, fields.isel(time=slice(hours, None)).assign_coords(time=given.time)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neighbours_beat_persistence_and_the_own_past_a_day_ahead(seed):
    given, wanted = ahead(advected(seed=seed))
    train, test = slice(0, 1100), slice(1124, None)
    past = tuple(range(0, 24, 3))
    errors = {"persistence": rmse(persistence(given.isel(time=test), "tas"), wanted.tas.isel(time=test))}
    for name, model in (
        ("own past", own_past("tas", lags=past)),
        ("neighbours", NeighbourRidge(variable="tas", lags=past)),
    ):
        model.fit(given.isel(time=train), wanted.isel(time=train))
        errors[name] = rmse(model.predict(given.isel(time=test)), wanted.tas.isel(time=test))
    assert errors["neighbours"] < 0.9 * errors["own past"] < 0.9 * errors["persistence"], errors


def test_the_regression_on_the_own_past_is_that_of_scikit_learn_on_what_is_known():
    given, wanted = ahead(advected(300, 4))
    wanted = wanted.copy(deep=True)
    wanted.tas[100:, 2] = np.nan
    model = NeighbourRidge(variable="tas", lags=(0, 3), nearest=0, correlated=0, penalties=(0.05,)).fit(given, wanted)
    found = model.predict(given).values
    x, y = given.tas.values, wanted.tas.values
    for station in range(4):
        mean, deviation = x[:, station].mean(), x[:, station].std()
        features = np.stack([np.roll(x[:, station], lag) for lag in (0, 3)], axis=1)[3:]
        middle, spread = np.nanmean(y[:, station]), np.nanstd(y[:, station])
        known = np.isfinite(y[3:, station])
        features = (features - mean) / deviation
        ridge = Ridge(alpha=0.05 * 273, fit_intercept=False)
        ridge.fit(features[known], (y[3:, station][known] - middle) / spread)
        by_hand = ridge.predict(features) * spread + middle
        np.testing.assert_allclose(found[3:, station], by_hand, rtol=1e-5)


def test_a_copy_of_another_station_hours_later_is_recovered():
    rng = np.random.default_rng(1)
    source = rng.normal(size=(400, 12))
    fields = xr.Dataset(
        {"tas": (("time", "point"), source)},
        {"time": np.arange(400), "lat": ("point", np.linspace(20, 50, 12)), "lon": ("point", np.linspace(80, 130, 12))},
    )
    later = fields.copy(deep=True)
    later.tas[1:, 0] = source[:-1, 11]  # the far end of the country, an hour before
    later.tas[0, 0] = np.nan
    model = NeighbourRidge(variable="tas", lags=(0, 1), nearest=2, correlated=3, penalties=(1e-6,))
    fields.tas[5, 11] = np.nan  # counts as its mean
    found = model.fit(fields, later).predict(fields).values
    assert model._edges[0].tolist()[:3] == [0, 1, 2]
    seen = 11 in model._edges[0]
    error = np.nanstd(found[7:, 0] - later.tas.values[7:, 0])
    assert error < 0.1 if seen else error > 0.5


def test_correlated_stations_are_found_by_what_they_say_of_later():
    given, wanted = ahead(advected(600, 20))
    model = NeighbourRidge(variable="tas", nearest=3, correlated=4, lags=(0,)).fit(given, wanted)
    x, y = (each.tas.values for each in (given, wanted))
    for station in range(20):
        near = np.argsort(
            (given.lat - given.lat[station]) ** 2 + ((given.lon - given.lon[station]) * np.cos(np.deg2rad(33))) ** 2
        )
        assert set(model._edges[station, :3]) <= set(near.values[:6])
        strength = [abs(np.corrcoef(y[:, station], x[:, other])[0, 1]) for other in range(20)]
        rest = [other for other in range(20) if other not in model._edges[station, :4]]
        best = sorted(rest, key=lambda other: -strength[other])[:4]
        assert set(model._edges[station, 4:]) == set(best)


def test_too_little_to_learn_from_is_said():
    given, wanted = ahead(advected(60, 5), 1)
    with pytest.raises(InputError, match="59 times of 5 stations"):
        NeighbourRidge(variable="tas").fit(given, wanted)
    with pytest.raises(InputError, match="no variable 'pr'"):
        own_past("pr").fit(given, wanted)
    with pytest.raises(InputError, match=r"call fit\(inputs, truth\) first"):
        own_past("tas").predict(given)
