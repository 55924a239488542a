"""Boosted means: groups that are off are put right at every level, on times that were not learnt from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from finegrid.calibration.boosting import Multicalibrated, Sample
from finegrid.conventions import InputError

CELLS, LEARNT, TIMES = 9, 1096, 1461


@dataclass(frozen=True)
class Record:
    """Predictions, what came true, regions (y, x) and seasons (time,)."""

    ensemble: xr.Dataset
    observed: xr.Dataset
    regions: np.ndarray

    def at(self, times: slice) -> Record:
        return Record(self.ensemble.isel(time=times), self.observed.isel(time=times), self.regions)

    @property
    def seasons(self) -> np.ndarray:
        return self.observed.time.dt.month.values % 12 // 3

    @property
    def truth(self) -> np.ndarray:
        return self.observed.t2m.values.astype(float)


def record(seed: int = 0, *, members: int = 1, name: str = "t2m", biased: bool = True) -> Record:
    """Four years of days; what is predicted is off by region and season, the other way round below zero."""
    random = np.random.default_rng(seed)
    time = np.datetime64("2001-01-01", "ns") + np.arange(TIMES) * np.timedelta64(1, "D")
    season = xr.DataArray(time, dims="time").dt.month.values % 12 // 3
    block = np.arange(CELLS) * 3 // CELLS
    regions = block[:, None] * 3 + block
    signal = random.normal(size=(TIMES, 1, 1)) + random.normal(size=(TIMES, CELLS, CELLS))
    off = random.normal(size=9)[regions] + random.normal(size=4)[season][:, None, None]
    off = off + random.normal(size=(9, 4))[regions, season[:, None, None]] * np.sign(signal)
    truth = signal + biased * off + random.normal(size=signal.shape)
    drawn = signal + (0.5 * random.normal(size=(members, *signal.shape)) if members > 1 else np.zeros((1, 1, 1, 1)))
    axis = np.arange(float(CELLS))
    coords = {"time": time, "y": ("y", axis, {"units": "degrees_north"}), "x": ("x", axis, {"units": "degrees_east"})}
    about = {"units": "K" if name == "t2m" else "mm"}
    ensemble = xr.Dataset({name: (("member", "time", "y", "x"), drawn.astype(np.float32), about)}, coords=coords)
    observed = xr.Dataset({name: (("time", "y", "x"), truth.astype(np.float32), about)}, coords=coords)
    return Record(ensemble, observed, regions)


EARLY, LATE = slice(LEARNT), slice(LEARNT, None)


def largest_error(given: Record, predicted: np.ndarray, edges: np.ndarray) -> float:
    """Of the means of (group, level) with at least a hundredth of all cases."""
    regions = np.broadcast_to(given.regions, predicted.shape)
    seasons = np.broadcast_to(given.seasons[:, None, None], predicted.shape)
    level, worst = np.searchsorted(edges, predicted), 0.0
    for group in (np.zeros_like(regions), regions, seasons, regions * 4 + seasons):
        number = (level * 36 + group).ravel()
        counts = np.bincount(number)
        sums = np.bincount(number, (given.truth - predicted).ravel())
        kept = counts >= 0.01 * predicted.size
        worst = max(worst, np.abs(sums[kept] / counts[kept]).max(initial=0.0))
    return float(worst)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("members", [1, 5])
def test_the_largest_error_of_a_group_at_a_level_falls_and_the_squared_error_too(seed, members):
    given = record(seed, members=members)
    late = given.at(LATE)
    before = late.ensemble.t2m.values.mean(0).astype(float)
    model = Multicalibrated().fit(given.at(EARLY).ensemble, given.at(EARLY).observed)
    after = model.apply(late.ensemble).t2m.values.mean(0).astype(float)
    edges = np.linspace(*np.quantile(before, [0.01, 0.99]), 20)
    assert largest_error(late, after, edges) < 0.4 * largest_error(late, before, edges)
    assert np.mean((late.truth - after) ** 2) < np.mean((late.truth - before) ** 2)


def test_what_is_right_already_stays_and_its_squared_error_does_not_rise():
    given = record(3, biased=False)
    late = given.at(LATE)
    model = Multicalibrated().fit(given.at(EARLY).ensemble, given.at(EARLY).observed)
    before, after = (each.t2m.values[0].astype(float) for each in (late.ensemble, model.apply(late.ensemble)))
    assert np.mean((late.truth - after) ** 2) <= 1.002 * np.mean((late.truth - before) ** 2)
    assert np.sqrt(np.mean((after - before) ** 2)) < 0.06


def test_rounds_that_would_only_learn_chance_are_not_kept():
    given = record(3, biased=False).at(slice(60))
    greedy = Multicalibrated(groups=("cell",), levels=40, shrink=0, threshold=0)
    assert greedy.fit(given.ensemble, given.observed)._learnt["t2m"]["which"].size == 0


def test_the_number_of_rounds_is_judged_on_the_last_times_alone():
    given = record(1).at(EARLY)
    turned = given.observed.copy(deep=True)
    last = turned.time >= turned.time[int(0.7 * LEARNT)]
    turned["t2m"] = xr.where(last, given.ensemble.t2m.isel(member=0, drop=True), turned.t2m).assign_attrs(units="K")
    # The last times say that the predictions are right: nothing that the first ones teach is kept.
    assert Multicalibrated().fit(given.ensemble, turned)._learnt["t2m"]["which"].size == 0
    assert Multicalibrated().fit(given.ensemble, given.observed)._learnt["t2m"]["which"].size > 0


def test_a_level_whose_halves_contradict_each_other_is_left_alone():
    time = np.arange(100)
    truth = np.where(time // 10 % 2 == 0, 1.0, -1.0)
    model, counts = Multicalibrated(), np.array([1])
    for sign, which in ((truth, -1), (np.abs(truth), 0)):
        sample = Sample(np.zeros(100), sign, np.zeros((1, 100), np.int64), time)
        found = model._round(np.zeros(100, np.int64), sample, sample.predicted, counts, 1)
        assert found.which.tolist() == [which]
        assert bool(found.shifts.any()) == (which == 0)


def test_what_is_wrong_in_a_region_is_put_right_in_a_season_that_was_never_seen():
    given = record(0, biased=False)
    observed = given.observed + xr.DataArray(np.arange(9.0)[given.regions], dims=("y", "x"))
    observed["t2m"].attrs["units"] = "K"
    summer, winter = (np.flatnonzero(given.seasons == season) for season in (2, 0))
    model = Multicalibrated().fit(given.ensemble.isel(time=summer), observed.isel(time=summer))
    error = (observed.isel(time=winter) - model.apply(given.ensemble.isel(time=winter)).isel(member=0)).t2m.values
    means = [error[:, given.regions == region].mean() for region in range(9)]
    assert np.abs(means).max() < 0.25


def test_all_members_move_together_and_keep_their_distances():
    given = record(0, members=5)
    model = Multicalibrated().fit(given.at(EARLY).ensemble, given.at(EARLY).observed)
    before = given.at(LATE).ensemble.t2m
    moved = model.apply(given.at(LATE).ensemble).t2m - before
    assert float(abs(moved - moved.isel(member=0)).max()) < 1e-5
    assert float(abs(moved).max()) > 0.5


def test_quantiles_are_those_of_the_moved_members_and_a_single_prediction_has_none():
    given = record(0, members=5)
    model = Multicalibrated().fit(given.at(EARLY).ensemble, given.at(EARLY).observed)
    some = given.at(slice(LEARNT, LEARNT + 20)).ensemble
    middle = model.quantiles(some, [0.5]).t2m.isel(quantile=0).values
    np.testing.assert_allclose(middle, np.median(model.apply(some).t2m.values, axis=0), atol=1e-5)
    with pytest.raises(InputError, match=r"got 1 member.*at least 2.*--members 20"):
        model.quantiles(some.isel(member=[0]), [0.5])


def test_rain_stays_above_zero_and_missing_cells_stay_missing():
    given = record(2, name="pr")
    wet = [np.maximum(each, 0.0) for each in (given.ensemble, given.observed)]
    wet[0]["pr"], wet[1]["pr"] = (each.pr.assign_attrs(units="mm") for each in wet)
    wet[1]["pr"][:, 0, 0] = np.nan
    model = Multicalibrated().fit(wet[0].isel(time=EARLY), wet[1].isel(time=EARLY))
    late = wet[0].isel(time=LATE).copy(deep=True)
    late["pr"][0, 5, 2, 2] = np.nan
    after = model.apply(late).pr.values
    assert np.nanmin(after) == 0.0
    assert np.isnan(after[0, 5, 2, 2])
    assert np.isfinite(after).sum() == after.size - 1
    assert float(np.abs(np.nan_to_num(after - late.pr.values)).max()) > 0.1
    dry = late.pr.values == 0.0
    assert dry.mean() > 0.2 and not after[dry].any()


def test_bands_of_elevation_are_a_grouping_beside_the_blocks():
    given, bands = record(0), np.arange(CELLS**2).reshape(CELLS, CELLS) % 4
    labels = xr.DataArray(bands, dims=("y", "x"))
    observed = given.observed + xr.DataArray(3.0 * np.array([1, -1, 1, -1])[bands], dims=("y", "x"))
    observed["t2m"].attrs["units"] = "K"
    early, late = ({"time": part} for part in (EARLY, LATE))
    model = Multicalibrated().fit(given.ensemble.isel(early), observed.isel(early), labels=labels)
    error = (observed.isel(late) - model.apply(given.ensemble.isel(late)).isel(member=0)).t2m.values
    for group in (bands, given.regions):
        means = [error[:, group == number].mean() for number in range(group.max() + 1)]
        assert np.abs(means).max() < 0.12


def test_the_state_holds_arrays_alone_and_makes_the_same_predictions():
    given = record(0)
    model = Multicalibrated(groups=("region", "month", "regime")).fit(
        given.at(EARLY).ensemble, given.at(EARLY).observed
    )
    plain, arrays = model.state()
    again = Multicalibrated(**plain["options"]).remember(plain["variables"], arrays)
    late = given.at(LATE).ensemble
    assert all(each.dtype.kind in "if" for each in arrays.values())
    xr.testing.assert_identical(again.apply(late), model.apply(late))


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"rounds": -1}, {"spreads": 0}, {"held_out": 1.0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=rf"got {next(iter(wrong))}: .*; expected .*; change calibrate\."):
        Multicalibrated(**wrong)
