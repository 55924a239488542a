"""Anomalies, relative errors, events, neighbourhoods and scales against public packages and slow loops.

Public counterparts, equal to 1e-8 on cells of equal area (most packages have no weights of cells):

    acc                        scores.continuous.correlation.pearsonr of each time
    r2                         scores.continuous.nse
    psnr                       skimage.metrics.peak_signal_noise_ratio
    csi, sedi, frequency-bias  scores.categorical.ThresholdEventOperator
    fss                        scores.spatial.fss_2d, with no events near the edge, where it has other rules
    ms-ssim                    skimage.metrics.structural_similarity at each scale
"""

import json
import operator
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scores.categorical
import scores.continuous
import scores.spatial
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from finegrid.conventions import InputError
from finegrid.evaluation import METRICS, evaluate
from finegrid.evaluation.metrics.neighbourhood import fractions_skill
from finegrid.evaluation.report import _head
from finegrid.grids import Grid

NDFloat = NDArray[np.float64]

NEW = (
    *("acc", "activity", "psnr", "r2", "ms-ssim", "csi", "sedi", "frequency-bias", "fss", "sal", "structure-function"),
    *("smoothing", "spectral-divergence", "spectral-residual", "log-spectral-distance"),
)


def equal_cells(ny: int = 16, nx: int = 24) -> Grid:
    """Cells of a metre at the equator: their areas are the same to 1e-9."""
    y_edges, x_edges = (1e-5 * (np.arange(n + 1) - n / 2) for n in (ny, nx))
    return Grid((y_edges[1:] + y_edges[:-1]) / 2, (x_edges[1:] + x_edges[:-1]) / 2, y_edges, x_edges)


NORTH = Grid(np.arange(50.5, 66), np.arange(5.5, 29), np.arange(50, 66.5), np.arange(5, 29.5))
"""Cells of one degree, the northern ones smaller."""


def field(values: NDFloat, *, grid: Grid | None = None) -> xr.DataArray:
    grid = grid or equal_cells(*values.shape[-2:])
    dims = ("member", "time", "y", "x")[-values.ndim :]
    times = np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in grid.coords().items() if name in ("y", "x")}
    return xr.DataArray(values, dims=dims, coords={**places, "time": times}, name="pr", attrs={"units": "mm/day"})


def score(name: str, prediction: NDFloat, truth: NDFloat, *, grid: Grid | None = None, **event: float) -> float:
    return METRICS[name](field(prediction, grid=grid), field(truth, grid=grid), **event)


def rain(*, times: int = 5, seed: int = 0, shape: tuple[int, int] = (16, 24)) -> NDFloat:
    """Smooth showers, a third dry."""
    random = np.random.default_rng(seed)
    smooth = scipy.fft.idctn(random.normal(size=(times, 4, 4)), s=shape, axes=(1, 2), norm="ortho")
    smooth *= np.sqrt(np.prod(shape)) / 5
    return np.maximum(smooth + 0.3 * random.normal(size=(times, *shape)) + 0.2, 0)


def holed(truth: NDFloat, seed: int = 0) -> NDFloat:
    return np.where(np.random.default_rng(seed).random(truth.shape) < 0.2, np.nan, truth)


# Anomalies


def test_anomaly_correlation_equals_the_mean_over_times_of_that_of_scores() -> None:
    truth, prediction = rain(), rain(seed=1) + rain()
    climate = truth.mean(axis=0)
    each = scores.continuous.correlation.pearsonr(
        field(prediction - climate), field(truth - climate), preserve_dims="time"
    )
    assert score("acc", prediction, truth) == pytest.approx(float(each.mean()), abs=1e-8)
    assert score("acc", prediction, truth) != pytest.approx(score("correlation", prediction, truth), abs=0.01)


def test_anomaly_correlation_is_weighted_by_area_over_the_known_cells() -> None:
    truth, prediction = holed(rain()), rain(seed=1) + rain()
    climate, found = np.nanmean(truth, axis=0), []
    for p, t in zip(prediction - climate, truth - climate, strict=True):
        known = np.isfinite(t)
        covariance = np.cov(p[known], t[known], aweights=NORTH.area[known])
        found.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    assert score("acc", prediction, truth, grid=NORTH) == pytest.approx(np.mean(found), abs=1e-10)


def test_anomaly_correlation_leaves_out_times_without_a_pattern() -> None:
    truth, prediction = rain(), rain(seed=1)
    climate = truth.mean(axis=0)
    without = [0, 1, 3, 4]
    prediction[2] = climate + 0.3  # which is 0.3 but for rounding
    each = [np.corrcoef((prediction - climate)[i].ravel(), (truth - climate)[i].ravel())[0, 1] for i in without]
    assert score("acc", prediction, truth) == pytest.approx(np.mean(each), abs=1e-10)


def test_activity_is_the_ratio_of_the_deviations_of_anomalies() -> None:
    truth, prediction = holed(rain()), rain(seed=1)
    climate, known = np.nanmean(truth, axis=0), np.isfinite(truth)
    weights = np.broadcast_to(NORTH.area, truth.shape)[known]
    p, t = (np.cov((each - climate)[known], aweights=weights, ddof=0) for each in (prediction, truth))
    assert score("activity", prediction, truth, grid=NORTH) == pytest.approx(np.sqrt(p / t), rel=1e-10)


@given(factor=st.floats(0.1, 3))
def test_anomalies_of_other_height_have_that_activity_and_the_same_correlation(factor: float) -> None:
    truth = rain()
    climate = truth.mean(axis=0)
    assert score("activity", climate + factor * (truth - climate), truth) == pytest.approx(factor)
    assert score("acc", climate + factor * (truth - climate), truth) == pytest.approx(1)


def test_a_blurred_model_is_not_active_enough_and_its_members_are() -> None:
    truth = rain()
    blurred = scipy.ndimage.gaussian_filter(truth, (0, 2, 2))
    assert score("activity", blurred, truth) < 0.9
    assert score("smoothing", blurred, truth) < 0.1
    climate, members = truth.mean(axis=0), np.stack([truth, 2 * truth.mean(axis=0) - truth])
    assert score("activity", members.mean(axis=0), truth) == pytest.approx(0, abs=1e-9)
    assert score("activity", members, truth) == pytest.approx(1)
    assert score("activity", np.broadcast_to(climate, truth.shape), truth) == pytest.approx(0, abs=1e-9)


# Relative errors


def test_signal_to_noise_equals_scikit_image_and_variance_explained_equals_scores() -> None:
    truth, prediction = rain(), rain() + 0.3 * rain(seed=1)
    expected = peak_signal_noise_ratio(truth, prediction, data_range=np.ptp(truth))
    assert score("psnr", prediction, truth) == pytest.approx(expected, abs=1e-8)
    expected = scores.continuous.nse(field(prediction), field(truth))
    assert score("r2", prediction, truth) == pytest.approx(float(expected), abs=1e-8)


def test_variance_explained_is_weighted_by_area() -> None:
    truth, prediction = rain(), rain() + 0.3 * rain(seed=1)
    weights = np.broadcast_to(NORTH.area, truth.shape)
    explained = 1 - np.average((prediction - truth) ** 2, weights=weights) / np.cov(
        truth.ravel(), aweights=weights.ravel(), ddof=0
    )
    assert score("r2", prediction, truth, grid=NORTH) == pytest.approx(explained, rel=1e-10)
    mean = np.full_like(truth, np.average(truth, weights=weights))
    assert score("r2", mean, truth, grid=NORTH) == pytest.approx(0, abs=1e-12)


def test_distance_from_an_infinite_best_is_the_error_over_the_range() -> None:
    truth, prediction = rain(), rain() + 0.3 * rain(seed=1)
    away = METRICS["psnr"].distance(np.array([score("psnr", prediction, truth), np.inf, -np.inf]))
    error = np.sqrt(np.mean((prediction - truth) ** 2)) / np.ptp(truth)
    assert away.tolist() == [pytest.approx(error), 0.0, np.inf]


def test_an_infinite_score_is_the_best_in_tables_and_files(tmp_path: Path, toy_fine: xr.Dataset) -> None:
    near, far = (toy_fine + scale * xr.ones_like(toy_fine) for scale in (0.1, 1))
    near, far = (each.map(lambda f: f.assign_attrs(toy_fine[f.name].attrs)) for each in (near, far))
    found = evaluate(near, toy_fine, baselines={"perfect": toy_fine, "far": far}, metrics=["psnr"])
    rows = found.of("pr", "psnr")
    assert [rows[name].best for name in ("prediction", "perfect", "far")] == [False, True, False]
    assert not rows["far"].tied and rows["far"].gap_low > rows["prediction"].gap_low > 0
    assert "**∞**" in found.table()
    written = json.loads(found.to_json(tmp_path / "scores.json").read_text())
    assert [each["value"] for each in written["scores"] if each["best"] and each["metric"] == "psnr"] == [None, None]
    assert "ideal ∞" in _head("psnr", "1")


def test_an_evaluation_has_every_score_that_is_asked_for_within_its_interval(toy_fine: xr.Dataset) -> None:
    rain = toy_fine["pr"]
    noise = np.random.default_rng(0).normal(size=(2, *rain.shape)).astype(np.float32)
    members = (rain + xr.DataArray(noise, dims=("member", *rain.dims))).assign_attrs(rain.attrs)
    found = evaluate(members.to_dataset(name="pr"), toy_fine, metrics=NEW, variables=["pr"])
    assert found.metrics("pr") == ("rmse", *(name for name in METRICS if name in NEW))
    for each in found.scores:
        assert each.low <= each.value <= each.high and each.low < each.high, each


# Events


@given(seed=st.integers(0, 1000), threshold=st.floats(0.2, 1.5))
def test_scores_of_events_equal_those_of_scores(seed: int, threshold: float) -> None:
    truth, prediction = rain(seed=seed), (rain(seed=seed) + rain(seed=seed + 1)) * 0.6
    events = scores.categorical.ThresholdEventOperator(default_event_threshold=threshold, default_op_fn=operator.gt)
    table = events.make_contingency_manager(field(prediction), field(truth))
    with np.errstate(all="ignore"):
        expected = {
            "csi": table.critical_success_index(),
            "sedi": table.symmetric_extremal_dependence_index(),
            "frequency-bias": table.frequency_bias(),
        }
    for name in (name for name, value in expected.items() if np.isfinite(value)):
        value = expected[name]
        assert score(name, prediction, truth, threshold=threshold) == pytest.approx(float(value), abs=1e-8)


def test_events_are_above_the_95th_percentile_unless_said_otherwise() -> None:
    truth, prediction = rain(), (rain() + rain(seed=1)) * 0.6
    threshold = float(np.quantile(truth, 0.95))
    for name in ("csi", "sedi", "frequency-bias", "fss"):
        assert score(name, prediction, truth) == score(name, prediction, truth, threshold=threshold)
        assert score(name, prediction, truth) != score(name, prediction, truth, threshold=threshold / 2)


def test_parts_of_events_are_weighted_by_area_and_averaged_over_members() -> None:
    truth, shape = np.zeros((1, 16, 24)), NORTH.area
    truth[0, :4] = 1
    members = np.zeros((2, 1, 16, 24))
    members[0, 0, 2:8] = 1  # hits in rows 2 and 3, false alarms in rows 4 to 7; the other member sees nothing
    rows = shape.sum(axis=1)
    hits, alarms, misses = rows[2:4].sum() / 2, rows[4:8].sum() / 2, rows[:2].sum() + rows[2:4].sum() / 2
    expected = hits / (hits + alarms + misses)
    assert score("csi", members, truth, grid=NORTH, threshold=0.5) == pytest.approx(expected)
    frequency = (hits + alarms) / (hits + misses)
    assert score("frequency-bias", members, truth, grid=NORTH, threshold=0.5) == pytest.approx(frequency)


def test_extremal_dependence_is_zero_by_chance_and_has_its_limits_where_they_exist() -> None:
    truth = np.zeros((1, 16, 24))
    truth[0, :4] = 1
    random = np.zeros_like(truth)
    random[0, :, :6] = 1  # a quarter of the events, and a quarter of the rest
    elsewhere, everywhere, nowhere, part = np.roll(truth, 8, axis=1), np.ones_like(truth), 0 * truth, truth.copy()
    part[0, :2] = 0
    found = [
        score("sedi", each, truth, threshold=0.5) for each in (random, truth, elsewhere, everywhere, nowhere, part)
    ]
    assert found == [pytest.approx(0, abs=1e-12), 1, -1, *[pytest.approx(np.nan, nan_ok=True)] * 3]


# Neighbourhoods


def test_fractions_skill_equals_that_of_scores_where_no_event_is_near_the_edge() -> None:
    # Golden: scores.spatial.fss_2d with zeros around the field; its sums are over all times too.
    truth, prediction = rain(shape=(20, 28)), rain(shape=(20, 28)) + rain(seed=1, shape=(20, 28)) / 2
    for each in (truth, prediction):
        each[:, [0, 1, 2, 3, -4, -3, -2, -1]] = 0
        each[:, :, [0, 1, 2, 3, -4, -3, -2, -1]] = 0
    for cells in (1, 3, 5):
        expected = scores.spatial.fss_2d(
            field(prediction),
            field(truth),
            event_threshold=0.8,
            window_size=(cells, cells),
            spatial_dims=("y", "x"),
            zero_padding=True,
            reduce_dims="all",
        )
        found = fractions_skill(cells)(field(prediction), field(truth), threshold=0.8)
        assert found == pytest.approx(float(expected), abs=1e-8)


def test_fractions_are_those_of_the_known_cells_in_the_window() -> None:
    truth, prediction = holed(rain(times=2)), rain(times=2, seed=1)
    known, difference, both = np.isfinite(truth), 0.0, 0.0
    for time, y, x in np.argwhere(known):
        window = (time, slice(max(0, y - 2), y + 3), slice(max(0, x - 2), x + 3))
        p, t = ((each[window][known[window]] > 0.8).mean() for each in (prediction, truth))
        difference += NORTH.area[y, x] * (p - t) ** 2
        both += NORTH.area[y, x] * (p**2 + t**2)
    found = score("fss", prediction, truth, grid=NORTH, threshold=0.8)
    assert found == pytest.approx(1 - difference / both, abs=1e-10)


def test_fractions_skill_forgives_small_shifts_and_judges_each_member() -> None:
    truth = rain()
    shifted = np.roll(truth, 1, axis=2)
    assert score("fss", shifted, truth) > fractions_skill(1)(field(shifted), field(truth)) + 0.1
    parts = [score("fss", each, truth) for each in (truth, 0 * truth)]
    assert parts == [pytest.approx(1), pytest.approx(0)]
    # Of the sums, not of the scores: (0 + T) / 2 over (2 T + T) / 2.
    assert score("fss", np.stack([truth, 0 * truth]), truth) == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize("cells", [0, 2, -1])
def test_a_window_has_a_central_cell(cells: int) -> None:
    with pytest.raises(InputError, match="odd number"):
        fractions_skill(cells)


# Scales


@pytest.mark.parametrize(("shape", "scales"), [((16, 24), 1), ((49, 64), 3), ((176, 181), 5)])
def test_multiscale_similarity_equals_that_of_scikit_image_at_each_scale(shape: tuple[int, int], scales: int) -> None:
    # Golden: structural_similarity; with a huge K1 its first factor is one, which leaves the other.
    truth = rain(times=1, shape=shape)
    prediction = truth + 0.5 * rain(times=1, shape=shape, seed=1)
    p, t = prediction[0], truth[0]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": np.ptp(truth)}
    factors = []
    for scale in range(scales):
        last = scale == scales - 1
        factors.append(structural_similarity(t, p, K1=0.01 if last else 1e7, **settings))
        p, t = (halved(each) for each in (p, t))
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    expected = np.prod(np.array(factors) ** (weights / weights.sum()))
    assert score("ms-ssim", prediction, truth) == pytest.approx(expected, abs=1e-8)


def halved(values: NDFloat) -> NDFloat:
    even = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def test_multiscale_similarity_of_opposites_is_zero_and_missing_cells_are_left_out_at_every_scale() -> None:
    truth, prediction = rain(shape=(48, 48)), rain(shape=(48, 48), seed=1)
    assert score("ms-ssim", truth.mean() - 5 * (truth - truth.mean()), truth) == 0
    truth[:, 7, 9], truth[:, 20:30, 11:22] = np.nan, np.nan
    other = np.where(np.isnan(truth), 1e3, prediction)
    assert score("ms-ssim", other, truth) == score("ms-ssim", prediction, truth)
    assert score("ms-ssim", truth, truth) == pytest.approx(1)


# What must hold for all


@pytest.mark.parametrize("name", [name for name in NEW if name not in ("sal",)])
def test_constant_fields_have_no_score(name: str) -> None:
    constant = np.full((3, 16, 24), 0.1)
    assert np.isnan(score(name, constant, constant))
    # Events where there should be none have no skill, but a score.
    assert name == "fss" or np.isnan(score(name, rain(times=3), constant))


@pytest.mark.parametrize("name", NEW)
def test_a_constant_prediction_gets_a_score_or_none_but_no_exception(name: str) -> None:
    found = score(name, np.full((3, 16, 24), 0.1), rain(times=3))
    assert np.isnan(found) or METRICS[name].distance(np.array(found)) > 0


@pytest.mark.parametrize("name", ["csi", "sedi", "frequency-bias", "fss"])
def test_events_that_never_happen_have_no_score(name: str) -> None:
    assert np.isnan(score(name, rain(seed=1), rain(), threshold=1e3))


@pytest.mark.parametrize("name", NEW)
def test_one_time_or_a_few_cells_are_no_exception(name: str) -> None:
    for shape in ((1, 16, 24), (3, 2, 2), (3, 2, 5)):
        truth, prediction = (np.random.default_rng(seed).random(shape) for seed in (0, 1))
        score(name, prediction, truth)


@pytest.mark.parametrize("name", NEW)
def test_times_without_a_truth_change_nothing_and_no_truth_at_all_has_no_score(name: str) -> None:
    truth, prediction = rain(), rain(seed=1)
    gap = np.concatenate([truth, np.full_like(truth[:1], np.nan)])
    assert score(name, np.concatenate([prediction, prediction[:1]]), gap) == pytest.approx(
        score(name, prediction, truth), nan_ok=True
    )
    assert np.isnan(score(name, prediction, np.full_like(truth, np.nan)))


def test_the_documentation_has_every_metric():
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in text] == []
