"""Relations between variables against computations cell by cell, known dependence, and broken physics."""

import dask.array
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data import samples
from finegrid.evaluation.relations import RELATIONS, RelationScore, markdown, relations
from finegrid.evaluation.relations.copula import copula, rank_dependence

SHAPE = (60, 8, 10)
LAT, LON = 50.5 + 2 * np.arange(8), 5.5 + 2 * np.arange(10)
AREA = np.broadcast_to((np.sin(np.deg2rad(LAT + 1)) - np.sin(np.deg2rad(LAT - 1)))[:, None], SHAPE[1:])
Values = NDArray[np.float64]
UNITS = {
    "tas": "K",
    "tasmin": "K",
    "tasmax": "K",
    "pr": "mm/day",
    "hurs": "%",
    "uas": "m s-1",
    "vas": "m s-1",
    "sfcWind": "m s-1",
}


def dataset(units: dict[str, str] | None = None, **values: Values) -> xr.Dataset:
    """Fields (member, time, y, x) or (time, y, x) by name."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(SHAPE[0]) * np.timedelta64(1, "D")
    known = {**UNITS, **(units or {})}
    fields = {
        name: (("member", "time", "lat", "lon")[-each.ndim :], each, {"units": known[name]})
        for name, each in values.items()
    }
    places = {
        "lat": ("lat", LAT, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", LON, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return xr.Dataset(fields, coords={"time": times, **places})


def pair(correlation: float, *, members: int | None = None, seed: int = 0) -> xr.Dataset:
    """Temperature and rain, the exponential of a normal, so correlated as normals."""
    shape = SHAPE if members is None else (members, *SHAPE)
    one, other = np.random.default_rng(seed).normal(size=(2, *shape))
    return dataset(tas=280 + one, pr=np.exp(correlation * one + np.sqrt(1 - correlation**2) * other))


def only(name: str, prediction: xr.Dataset, truth: xr.Dataset) -> RelationScore:
    (row,) = relations(prediction, truth, names=[name])
    return row


PAIRWISE = ["compound-exceedance", "cross-correlation", "rank-correlation", "copula-distance"]


@pytest.mark.parametrize("name", PAIRWISE)
def test_the_truth_gets_the_best_score(name: str) -> None:
    truth = pair(0.6)
    row = only(name, truth, truth)
    assert row.score == pytest.approx(row.best, abs=1e-12) and row.predicted == pytest.approx(row.observed)
    assert row.variables == ("tas", "pr") and row.note == ""


@pytest.mark.parametrize("name", PAIRWISE)
def test_variables_that_no_longer_belong_together_are_found_out(name: str) -> None:
    truth = pair(0.8)
    shuffled = truth.assign(pr=truth["pr"].copy(data=np.random.default_rng(0).permutation(truth["pr"].values)))
    row = only(name, shuffled, truth)
    assert abs(row.score - row.best) > (0.04 if name == "copula-distance" else 0.4)
    weaker = only(name, pair(0.5, seed=3), truth)
    assert 0 < abs(weaker.score - row.best) < abs(row.score - row.best)


def test_exceedance_together_is_counted_by_area_over_all_members() -> None:
    prediction, truth = pair(0.3, members=3, seed=1), pair(0.6)
    truth["pr"][:20, 2:5] = np.nan
    row = only("compound-exceedance", prediction, truth)
    known = np.isfinite(truth["pr"].values)
    limits = {name: np.nanquantile(truth[name].values.astype(np.float32), 0.9) for name in ("tas", "pr")}
    weights = np.where(known, AREA, 0.0)
    chances = [
        np.average(((fields["tas"].values > limits["tas"]) & (fields["pr"].values > limits["pr"])), weights=weight)
        for fields, weight in ((prediction, np.stack([weights] * 3)), (truth, weights))
    ]
    assert row.predicted == pytest.approx(chances[0], rel=1e-6) and row.observed == pytest.approx(chances[1], rel=1e-6)
    assert row.score == pytest.approx(chances[0] / chances[1], rel=1e-6)


@pytest.mark.parametrize(("name", "function"), [("cross-correlation", "pearsonr"), ("rank-correlation", "spearmanr")])
def test_correlations_are_those_of_scipy_in_every_cell(name: str, function: str) -> None:
    prediction, truth = pair(0.3, members=2, seed=1), pair(0.7)
    truth["pr"][::3, 1] = np.nan
    truth["tas"][:, 0, 0] = np.nan  # never known
    prediction["pr"][:, :, 7, 7] = 4.0  # no correlation
    truth["pr"].values[:] = np.round(truth["pr"].values, 1)  # ties
    row = only(name, prediction, truth)
    error, weights, means = 0.0, 0.0, np.zeros(2)
    for y, x in np.ndindex(SHAPE[1:]):
        if (y, x) in ((0, 0), (7, 7)):
            continue
        known = np.isfinite(truth["pr"].values[:, y, x])
        ours, theirs = (
            getattr(scipy.stats, function)(
                *(each[..., y, x][..., known].ravel().astype(np.float32) for each in (a, b))
            )[0]
            for a, b in ((fields["tas"].values, fields["pr"].values) for fields in (prediction, truth))
        )
        error, weights = error + AREA[y, x] * (ours - theirs) ** 2, weights + AREA[y, x]
        means += AREA[y, x] * np.array([ours, theirs])
    assert row.score == pytest.approx(np.sqrt(error / weights), rel=1e-5)
    assert [row.predicted, row.observed] == pytest.approx(means / weights, rel=1e-5)


def test_rows_read_in_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = pair(0.3, members=2, seed=1), pair(0.7)
    expected = relations(prediction, truth, names=PAIRWISE[:3])
    monkeypatch.setattr("finegrid.evaluation.relations.correlations._VALUES_AT_ONCE", 3000)
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", 3000)
    lazy = [
        fields.map(lambda each: each.copy(data=dask.array.from_array(each.values, chunks=9)))
        for fields in (prediction, truth)
    ]
    for one, other in zip(relations(*lazy, names=PAIRWISE[:3]), expected, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-9)


@given(seed=st.integers(0, 99), count=st.integers(30, 300))
def test_a_copula_is_that_of_ranks_counted_one_by_one_and_blind_to_margins(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    values, weights = random.normal(size=(2, count)), np.ones(count)
    values[1] += values[0]
    found = copula(values, weights)
    ranks = (scipy.stats.rankdata(values, axis=1) - 0.5) / count
    for i, j in ((3, 7), (10, 10), (19, 2), (20, 20)):
        assert found[i - 1, j - 1] == pytest.approx((np.floor(ranks * 20) < [[i], [j]]).all(axis=0).mean())
    np.testing.assert_array_equal(copula(np.stack([np.exp(values[0]), 3 * values[1] - 7]), weights), found)
    assert (np.diff(found, axis=0) >= 0).all() and found[-1, -1] == pytest.approx(1)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5])
def test_the_copula_of_normals_is_the_gaussian_one(correlation: float) -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 200_000))
    found = copula(np.stack([one, correlation * one + np.sqrt(1 - correlation**2) * other]), np.ones(len(one)))
    levels = scipy.stats.norm.ppf(np.arange(1, 20) / 20)
    expected = scipy.stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf(
        np.stack(np.meshgrid(levels, levels, indexing="ij"), axis=-1)
    )
    np.testing.assert_allclose(found[:-1, :-1], expected, atol=4e-3)
    spearman = 6 / np.pi * np.arcsin(correlation / 2)
    assert rank_dependence(found) == pytest.approx(spearman, abs=0.01)


def test_the_distance_of_copulas_is_small_by_chance_blind_to_bias_and_sees_dependence() -> None:
    truth = pair(0.7)
    alike = only("copula-distance", pair(0.7, members=4, seed=1), truth).score
    biased = pair(0.7, members=4, seed=1)
    biased["tas"], biased["pr"] = 3 * biased["tas"] - 500, biased["pr"] ** 2
    biased["tas"].attrs["units"], biased["pr"].attrs["units"] = "K", "mm/day"
    assert only("copula-distance", biased, truth).score == pytest.approx(alike, rel=1e-3)
    levels = np.arange(1, 21) / 20
    independent = only("copula-distance", pair(0.0, members=4, seed=1), truth)
    gaussian = copula(np.stack([truth["tas"].values.ravel(), truth["pr"].values.ravel()]), np.ones(truth["tas"].size))
    expected = np.sqrt(((gaussian - np.outer(levels, levels)) ** 2).mean())
    assert alike < 0.005 and independent.score == pytest.approx(expected, rel=0.1)
    assert independent.predicted == pytest.approx(0, abs=0.03) and independent.observed == pytest.approx(0.68, abs=0.03)


def test_large_samples_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = pair(0.2, members=4, seed=1), pair(0.7)
    whole = relations(prediction, truth, names=["copula-distance", "compound-exceedance"])
    monkeypatch.setattr("finegrid.evaluation.relations.base._SAMPLED", 1500)
    thinned = relations(prediction, truth, names=["copula-distance", "compound-exceedance"])
    assert [each.score for each in thinned] == pytest.approx([each.score for each in whole], rel=0.15)
    assert thinned[0].score != whole[0].score


def test_constants_and_thresholds_never_passed_together_have_no_score_and_a_reason() -> None:
    truth = pair(0.5)
    constant = truth.assign(pr=xr.full_like(truth["pr"], 2.0))
    rows = {row.relation: row for row in relations(constant, constant)}
    for name in PAIRWISE:
        assert np.isnan(rows[name].score) and rows[name].note
        assert rows[name].to_dict()["score"] is None
    opposed = dataset(tas=truth["tas"].values, pr=-truth["tas"].values + 300)
    row = only("compound-exceedance", opposed, opposed)
    assert np.isnan(row.score) and row.observed == 0 and "never above their 90th percentiles together" in row.note


def temperatures() -> dict[str, Values]:
    mean = 280 + np.random.default_rng(0).normal(size=SHAPE)
    return {"tasmin": mean - 4, "tas": mean, "tasmax": mean + 4}


def test_temperatures_out_of_order_are_counted_by_area_and_measured() -> None:
    truth = temperatures()
    broken = {name: np.stack([each, each]) for name, each in truth.items()}
    broken["tasmin"][0, :, 0] += 6.0  # 2 K above the mean, in one of two members
    broken["tasmax"][1, :30, 7] -= 9.0  # 5 K below
    row = only("temperature-order", dataset(**broken), dataset(**truth))
    shares = np.array([AREA[0].sum() / 2, AREA[7].sum() / 4]) / AREA.sum()
    assert row.variables == ("tasmin", "tas", "tasmax") and row.observed == 0 and row.units == "K"
    assert row.score == pytest.approx(shares.sum(), rel=1e-6)
    assert row.largest == pytest.approx(5, abs=1e-3)
    assert row.size == pytest.approx(np.average([2, 5], weights=shares), abs=1e-3)


def test_two_temperatures_in_different_units_are_enough() -> None:
    truth = temperatures()
    cold = dataset({"tasmin": "degC"}, tasmin=truth["tasmin"] - 273.15, tasmax=truth["tasmax"])
    row = only("temperature-order", cold, cold)
    assert row.variables == ("tasmin", "tasmax") and row.score == 0 and row.size == 0
    swapped = dataset({"tasmin": "degC"}, tasmin=truth["tasmax"] - 273.15, tasmax=truth["tasmin"])
    assert only("temperature-order", swapped, cold).score == 1


@pytest.mark.parametrize(("units", "whole"), [("%", 100.0), ("1", 1.0)])
def test_humidity_beyond_its_bounds_is_found_in_percent_and_as_a_part(units: str, whole: float) -> None:
    truth = dataset({"hurs": units}, hurs=np.full(SHAPE, 0.7 * whole), tas=temperatures()["tas"])
    wet = truth.copy(deep=True)
    wet["hurs"][:15], wet["hurs"][15:30] = 1.1 * whole, -0.05 * whole
    row = only("humidity-bounds", wet, truth)
    assert row.score == pytest.approx(0.5) and row.observed == 0
    assert row.size == pytest.approx(0.075 * whole, rel=1e-4) and row.largest == pytest.approx(0.1 * whole, rel=1e-4)


def test_a_speed_that_is_not_that_of_its_components_is_found() -> None:
    u, v = 3 + np.random.default_rng(0).normal(size=(2, *SHAPE))
    truth = dataset(uas=u, vas=v, sfcWind=np.hypot(u, v))
    assert only("wind-speed", truth, truth).score == 0
    slow = truth.assign(sfcWind=truth["sfcWind"] * xr.where(truth["lat"] > 60, 0.9, 1.0).values[:, None])
    slow["sfcWind"].attrs["units"] = "m s-1"
    row = only("wind-speed", slow, truth)
    north = LAT > 60
    assert row.score == pytest.approx(AREA[north].sum() / AREA.sum(), rel=1e-6) and row.observed == 0
    assert row.largest == pytest.approx(0.1 * np.hypot(u, v)[:, north].max(), rel=1e-3)


def test_every_pair_has_a_row_and_relations_without_their_variables_have_none() -> None:
    truth = dataset(**temperatures(), pr=np.exp(np.random.default_rng(1).normal(size=SHAPE)))
    rows = relations(truth, truth)
    counts = {name: sum(row.relation == name for row in rows) for name in RELATIONS}
    assert counts == {**dict.fromkeys(PAIRWISE, 6), "temperature-order": 1, "humidity-bounds": 0, "wind-speed": 0}
    chosen = relations(truth, truth, variables=["tas", "pr"], names=["rank-correlation"])
    assert [row.variables for row in chosen] == [("tas", "pr")]
    table = markdown(rows)
    assert table.count("\n") == len(rows) + 1 and "temperatures out of order | tasmin, tas, tasmax" in table
    assert [row.to_dict()["variables"] for row in chosen] == [["tas", "pr"]]


def test_what_cannot_be_judged_is_refused_in_the_users_words() -> None:
    truth = pair(0.5)
    with pytest.raises(InputError, match=r"got one variable .*tas"):
        relations(truth[["tas"]], truth)
    with pytest.raises(InputError, match=r"no relation 'copula'.*copula-distance"):
        relations(truth, truth, names=["copula"])
    with pytest.raises(InputError, match="missing values of tas or pr in the prediction"):
        relations(truth.where(truth["time"] > truth["time"][4]), truth)
    mixed = pair(0.5, members=3)
    mixed["pr"] = mixed["pr"].isel(member=0)
    with pytest.raises(InputError, match="different numbers of members"):
        relations(mixed, truth)
    with pytest.raises(InputError, match="grid"):
        relations(truth.isel(lat=slice(4)), truth)


@pytest.mark.data
def test_humidity_and_wind_of_a_real_analysis_are_judged_without_violations(data_dir: object) -> None:
    truth = samples.open("inca-graz")[["t2m", "hurs", "u10", "v10"]].isel(time=slice(100))
    rows = {(row.relation, row.variables): row for row in relations(truth, truth)}
    assert rows["humidity-bounds", ("hurs",)].observed == 0
    assert rows["rank-correlation", ("t2m", "hurs")].observed < -0.3
    assert len(rows) == 4 * 6 + 1
