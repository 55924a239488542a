"""Scores over some dimensions and by groups: slow loops, the package scores, SciPy, and what must always hold."""

import operator
from collections.abc import Iterator

import dask.array
import numpy as np
import pytest
import scipy.stats
import scores.continuous
import scores.probability
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrid.evaluation import METRICS, score
from reductions_toy import AREA, LAT, LON, Fields, made, regions, whole

CELLS = [name for name, metric in METRICS.items() if metric.cellwise]
COUNTS = [name for name, metric in METRICS.items() if metric.summed is not None]
WHOLE = [name for name in METRICS if name not in (*CELLS, *COUNTS, "violation")]
ANY = [name for name in METRICS if name != "violation"]


def fair_crps_of(members: Fields, truth: float) -> float:
    count = len(members)
    pairs = sum(abs(a - b) for a in members for b in members) / (2 * count * (count - 1))
    return float(np.mean([abs(each - truth) for each in members]) - pairs)


def points(prediction: xr.DataArray, truth: xr.DataArray) -> Iterator[tuple[tuple[int, int, int], Fields, float]]:
    for place in np.ndindex(truth.shape):
        if np.isfinite(truth.values[place]):
            yield place, prediction.values[(slice(None), *place)], float(truth.values[place])


def test_the_crps_of_every_season_and_region_is_that_of_loops_with_areas() -> None:
    prediction, truth = made(3, times=8)
    sums: dict[tuple[str, str], list[float]] = {}
    seasons, places = truth["time"].dt.season.values, regions().values
    for (time, row, column), members, true in points(prediction, truth):
        if isinstance(places[row, column], str):
            entry = sums.setdefault((seasons[time], places[row, column]), [0.0, 0.0])
            entry[0] += AREA[row, column] * fair_crps_of(members, true)
            entry[1] += AREA[row, column]
    found = score(prediction, truth, metric="crps", by=("time.season", regions()))
    assert found.dims == ("season", "region") and found["region"].values.tolist() == ["north", "south"]
    assert found.size == len(sums)
    for (season, region), (total, area) in sums.items():
        assert float(found.sel(season=season, region=region)) == pytest.approx(total / area, rel=1e-12)


def test_maps_and_series_are_those_of_the_package_scores() -> None:
    prediction, truth = made()
    mean = prediction.mean("member")
    crps = scores.probability.crps_for_ensemble(prediction, truth, "member", method="fair", preserve_dims="all")
    for name, each, finish in (("crps", crps, lambda mean: mean), ("rmse", (mean - truth) ** 2, np.sqrt)):
        np.testing.assert_allclose(
            score(prediction, truth, metric=name, over="time"), finish(each.mean("time")), atol=1e-8
        )
        series = finish(each.weighted(xr.DataArray(AREA, dims=("lat", "lon"))).mean(("lat", "lon")))
        found = score(prediction, truth, metric=name, over=("lon", "lat"))
        xr.testing.assert_identical(found["time"], truth["time"])
        np.testing.assert_allclose(found, series, atol=1e-8)
    pearson = scores.continuous.correlation.pearsonr(mean, truth, reduce_dims="time")
    np.testing.assert_allclose(score(prediction, truth, metric="correlation", over="time"), pearson, atol=1e-8)
    tail = scores.probability.tail_tw_crps_for_ensemble(
        prediction, truth, "member", 1.2, method="fair", preserve_dims=["lat", "lon"]
    )
    np.testing.assert_allclose(score(prediction, truth, metric="twcrps", over="time", threshold=1.2), tail, atol=1e-8)
    brier = scores.probability.brier_score_for_ensemble(
        prediction, truth, "member", 0.7, preserve_dims=["lat", "lon"], event_threshold_operator=operator.gt
    ).isel(threshold=0)
    np.testing.assert_allclose(score(prediction, truth, metric="brier", over="time", threshold=0.7), brier, atol=1e-8)


def test_correlation_and_activity_of_a_cell_are_those_of_its_series() -> None:
    prediction, truth = made(gaps="")
    mean = prediction.mean("member")
    correlation, activity = (score(prediction, truth, metric=name, over="time") for name in ("correlation", "activity"))
    for row, column in ((0, 0), (4, 7), (8, 11)):
        place = {"lat": row, "lon": column}
        expected, _ = scipy.stats.pearsonr(mean.isel(place), truth.isel(place))
        assert float(correlation.isel(place)) == pytest.approx(expected, abs=1e-10)
        ratio = prediction.isel(place).values.std() / truth.isel(place).values.std()
        assert float(activity.isel(place)) == pytest.approx(ratio, abs=1e-10)


@pytest.mark.parametrize("name", ANY)
def test_over_everything_it_is_the_metric_itself(name: str) -> None:
    prediction, truth = made(gaps="corner" if name in WHOLE else "all")
    expected = whole(name, prediction, truth)
    assert float(score(prediction, truth, metric=name)) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert np.isfinite(expected)


@pytest.mark.parametrize("name", ANY)
def test_lazy_fields_in_any_chunks_have_the_scores_of_loaded_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = made(3, times=9, gaps="corner" if name in WHOLE else "all")
    lazy = prediction.chunk(member=2, time=5, lat=6), truth.chunk(time=7, lon=7)
    over = [None, ("lat", "lon")] + (["time", ("time", "lat"), ()] if METRICS[name].cellwise else [])
    expected = [score(prediction, truth, metric=name, over=each) for each in over]
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", 700)  # two times at once
    monkeypatch.setattr("finegrid.evaluation.reductions.sums._IN_BLOCK", 3000)
    for dims, loaded in zip(over, expected, strict=True):
        found = score(*lazy, metric=name, over=dims)
        assert found.chunks is not None or not dims
        xr.testing.assert_allclose(found.compute(), loaded, rtol=1e-9, atol=1e-12)
        assert found.attrs == loaded.attrs and found.dims == loaded.dims


@settings(max_examples=8)
@given(
    seed=st.integers(0, 100),
    times=st.lists(st.sampled_from(["wet", "dry", "mild", None]), min_size=6, max_size=6).filter(any),
    places=st.integers(1, 5),
)
def test_the_whole_is_the_mean_of_its_groups_by_known_area(seed: int, times: list[str | None], places: int) -> None:
    prediction, truth = made(3, times=6, seed=seed)
    weather = xr.DataArray(np.array(times, dtype=object), dims="time", name="weather")
    random = np.random.default_rng(seed).integers(0, places, (len(LAT), len(LON)))
    patches = xr.DataArray(random, dims=("lat", "lon"), name="patch")
    labelled = truth.where(xr.DataArray([each is not None for each in times], dims="time"))
    area = xr.DataArray(AREA, dims=("lat", "lon")).where(truth.notnull(), 0.0)
    for name, power in (("crps", 1), ("rmse", 2), ("bias", 1)):
        groups = score(prediction, truth, metric=name, by=(weather, patches))
        sums = [
            [float(area.where((weather == one) & (patches == other), 0.0).sum()) for other in groups["patch"].values]
            for one in groups["weather"].values
        ]
        parts = np.where(np.array(sums) > 0, groups.values**power, 0.0)
        assert np.isnan(groups.values[np.array(sums) == 0]).all()
        expected = np.average(parts, weights=sums) ** (1 / power)
        assert float(score(prediction, labelled, metric=name)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["energy", "variogram", "power-ratio", "fss", "structure-function", "roc-area", "acc"])
def test_groups_of_times_are_the_metric_of_these_times(name: str) -> None:
    prediction, truth = made(gaps="corner")
    found = score(prediction, truth, metric=name, by="time.quarter", threshold=1.0)
    assert found["quarter"].values.tolist() == [1, 2, 3, 4]
    series = score(prediction, truth, metric=name, over=("lat", "lon"), threshold=1.0)
    for quarter in (1, 2, 3, 4):
        some = truth["time"].dt.quarter.values == quarter
        if name == "acc":  # its climate is that of all times
            assert float(found.sel(quarter=quarter)) == pytest.approx(float(series[some].mean()), rel=1e-10)
        else:
            expected = whole(name, prediction[:, some], truth[some], threshold=1.0)
            assert float(found.sel(quarter=quarter)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", [*COUNTS, "rank", "csi"])
def test_groups_of_places_are_the_metric_of_these_places(name: str) -> None:
    prediction, truth = made()
    found = score(prediction.chunk(lat=3), truth, metric=name, by=regions(), threshold=1.0)
    for region in ("north", "south"):
        inside = truth.where(regions() == region)
        if name == "high-quantile":  # thresholds around a percentile of all of the truth, not of a region
            values = prediction.where(inside.notnull()).values, np.broadcast_to(inside, prediction.shape)
            assert float(found.sel(region=region)) == pytest.approx(
                np.divide(*(np.nanquantile(each, 0.999) for each in values)), rel=0.2
            )
        else:
            assert float(found.sel(region=region)) == pytest.approx(
                whole(name, prediction, inside, threshold=1.0), rel=1e-10
            )


def counted(fields: xr.DataArray, reads: list[int]) -> xr.DataArray:
    """Fields in chunks of six times that count how often they are read."""

    def read(block: Fields) -> Fields:
        reads.append(len(block))
        return block

    chunks = tuple(6 if dim == "time" else -1 for dim in fields.dims)
    lazy = dask.array.from_array(fields.values, chunks).map_blocks(read, dtype=fields.dtype, meta=fields.values[:0])
    return fields.copy(data=lazy)


@pytest.mark.parametrize(("name", "truths"), [("crps", 5), ("rank", 5), ("correlation", 10), ("energy", 10)])
def test_nothing_is_read_before_the_result_is_and_then_each_chunk_once(name: str, truths: int) -> None:
    """The truth twice where its range or the like has to be known."""
    prediction, truth = made()
    of_prediction: list[int] = []
    of_truth: list[int] = []
    lazy = counted(prediction, of_prediction), counted(truth, of_truth)
    found = score(*lazy, metric=name, by=("time.season",))
    assert isinstance(found.data, dask.array.Array) and found["season"].size == 4
    assert not of_prediction and not of_truth
    found.compute()
    assert len(of_prediction) == 5
    assert 5 <= len(of_truth) <= truths


def test_one_event_threshold_that_is_given_needs_no_look_at_the_truth() -> None:
    prediction, truth = made()
    reads: list[int] = []
    score(prediction, counted(truth, reads), metric="csi", over="time", threshold=1.0).compute()
    assert len(reads) == 5


def test_rows_and_columns_are_kept_alone() -> None:
    prediction, truth = made()
    rows = score(prediction, truth, metric="rmse", over=("time", "lon"))
    squares = (prediction.mean("member") - truth) ** 2
    np.testing.assert_allclose(rows, np.sqrt(squares.mean(("time", "lon"))), rtol=1e-12)
    xr.testing.assert_identical(rows["lat"].drop_vars("lat"), truth["lat"].drop_vars("lat"))
    assert score(prediction, truth, metric="rmse", over="lat").dims == ("time", "lon")


def test_without_dimensions_to_average_over_each_point_has_its_score() -> None:
    prediction, truth = made()
    found = score(prediction, truth, metric="mae", over=())
    np.testing.assert_allclose(found, np.abs(prediction.mean("member") - truth), atol=1e-12)


def test_a_member_that_is_missing_leaves_the_case_out() -> None:
    prediction, truth = made(gaps="")
    prediction = prediction - 0.2 * (prediction == 0)
    prediction.attrs = dict(truth.attrs)
    prediction[1, 3, 2, 2], prediction[0, 5, 4, 4] = np.nan, np.inf
    for name in ("crps", "csi", "energy", "negatives"):
        without = truth.copy()
        without[3, 2, 2], without[5, 4, 4] = np.nan, np.nan
        complete = prediction.where(np.isfinite(prediction), 0.0)
        expected = score(complete, without, metric=name, threshold=1.0)
        assert float(score(prediction, truth, metric=name, threshold=1.0)) == pytest.approx(float(expected), rel=1e-12)
