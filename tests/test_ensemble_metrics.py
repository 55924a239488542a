"""Scores of ensembles against independent computations and known truths; how the report and the verdict tell them."""

from pathlib import Path

import dask.array
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.typing import NDArray

from finegrid.evaluation import METRICS, evaluate
from finegrid.evaluation.averaging import Totals
from finegrid.evaluation.ensemble_figures import honesty
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.maps import members
from finegrid.evaluation.metrics import Block, Reference
from finegrid.evaluation.metrics.magnitudes import Magnitudes
from finegrid.grids import Grid

GRID = Grid(np.arange(50.5, 66, 2), np.arange(5.5, 29, 2), np.arange(49.5, 66, 2), np.arange(4.5, 29, 2))


def field(values: NDArray[np.float64], *, units: str = "mm/day") -> xr.DataArray:
    dims = ("member", "time", "y", "x")[-values.ndim :]
    times = np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in GRID.coords().items() if name in ("y", "x", "crs")}
    return xr.DataArray(values, dims=dims, coords={**places, "time": times}, name="pr", attrs={"units": units})


def score(name: str, prediction: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return METRICS[name](field(prediction), field(truth))


def normal(members: int, times: int, *, spread: float = 1.0, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Members and truth about a common signal; with spread 1 of one distribution."""
    random = np.random.default_rng(seed)
    signal = 2 * random.normal(size=(times, *GRID.shape))
    prediction = signal + spread * random.normal(size=(members, times, *GRID.shape))
    return prediction, signal + random.normal(size=signal.shape)


def holed(truth: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    return np.where(np.random.default_rng(seed).random(truth.shape) < 0.2, np.nan, truth)


def weights_of(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    lat = np.deg2rad(GRID.y_edges)
    areas = (np.sin(lat[1:]) - np.sin(lat[:-1]))[:, None]
    return np.where(np.isfinite(truth), areas, 0.0)


@pytest.mark.parametrize("members", [2, 5, 30])
def test_spread_over_error_is_that_of_a_computation_by_hand(members: int) -> None:
    prediction, truth = normal(members, 12, spread=0.6)
    truth = holed(truth)
    weights, filled = weights_of(truth), np.nan_to_num(truth)
    spread = np.average(prediction.var(axis=0, ddof=1), weights=weights) * (members + 1) / members
    error = np.average((prediction.mean(axis=0) - filled) ** 2, weights=weights)
    assert score("spread-skill", prediction, truth) == pytest.approx(np.sqrt(spread / error), rel=1e-12)


@pytest.mark.parametrize("members", [2, 10])
def test_spread_over_error_of_an_honest_ensemble_is_one_whatever_its_size(members: int) -> None:
    prediction, truth = normal(members, 300)
    assert score("spread-skill", prediction, truth) == pytest.approx(1, abs=0.02)


@given(factor=st.floats(0.2, 5))
def test_spread_over_error_grows_with_the_spread(factor: float) -> None:
    prediction, truth = normal(8, 20)
    mean = prediction.mean(axis=0)
    wider = mean + factor * (prediction - mean)
    assert score("spread-skill", wider, truth) == pytest.approx(factor * score("spread-skill", prediction, truth))


def test_ranks_without_ties_are_counted_as_by_hand() -> None:
    prediction, truth = normal(4, 10)
    truth = holed(truth)
    weights = weights_of(truth)
    rank = (prediction < truth).sum(axis=0)
    frequencies = np.array([(weights * (rank == each)).sum() for each in range(5)]) / weights.sum()
    expected = np.abs(frequencies - 1 / 5).sum()
    assert score("rank", prediction, truth) == pytest.approx(expected, rel=1e-12)
    assert scipy.stats.rankdata(np.append(prediction[:, 0, 0, 0], truth[0, 0, 0]))[-1] == rank[0, 0, 0] + 1


def test_ranks_of_an_honest_ensemble_are_flat_and_of_others_are_not() -> None:
    prediction, truth = normal(9, 400)
    mean = prediction.mean(axis=0)
    honest, narrow, wide = (score("rank", mean + each * (prediction - mean), truth) for each in (1.0, 0.5, 2.0))
    assert honest < 0.03
    assert narrow > 0.4 and wide > 0.4
    assert score("rank", prediction + 1, truth) > 0.4


def histogram(prediction: NDArray[np.float64], truth: NDArray[np.float64], first: int = 0) -> Totals:
    whole = field(truth)
    return METRICS["rank"].totals(Block(prediction, truth, Reference.of(whole), first=first))


def test_ties_are_drawn_evenly_and_the_same_in_any_blocks() -> None:
    members, times = 4, 400
    dry = np.zeros((members, times, *GRID.shape))
    whole = histogram(dry, dry[0])
    np.testing.assert_allclose(whole.mean(), 1 / 5, atol=0.01)
    parts = [histogram(dry[:, s : s + 7], dry[0, s : s + 7], first=s) for s in range(0, times, 7)]
    np.testing.assert_array_equal(Totals.joined(parts).sums, whole.sums)
    # One cell alone has even ranks, too, and so have all cells at one time.
    ranks = METRICS["rank"].statistics(Block(dry, dry[0], Reference.of(field(dry[0]))))
    np.testing.assert_allclose(ranks[:, :, 3, 4].mean(axis=1), 1 / 5, atol=0.07)
    assert np.abs(np.corrcoef(ranks[0, :-1].ravel(), ranks[0, 1:].ravel())[0, 1]) < 0.02


def test_only_ranks_among_the_equal_members_are_drawn() -> None:
    prediction = np.broadcast_to(np.array([0.0, 0.0, 1.0, 2.0])[:, None, None, None], (4, 200, *GRID.shape))
    found = histogram(np.asarray(prediction), np.zeros((200, *GRID.shape))).mean()
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=0.02)


@pytest.mark.parametrize("name", ["spread-skill", "rank"])
def test_one_member_has_no_spread_and_no_rank(name: str) -> None:
    prediction, truth = normal(1, 5)
    assert np.isnan(score(name, prediction, truth))


@pytest.mark.parametrize("name", ["spread-skill", "rank", "high-quantile", "crps"])
def test_cells_without_a_truth_do_not_count_in_ensembles(name: str) -> None:
    prediction, truth = normal(3, 10)
    prediction, truth = np.exp(prediction), np.exp(truth)
    truth[:, 5:] = np.nan
    other = np.where(np.isnan(truth), prediction * 7 - 100, prediction)
    assert score(name, other, truth) == score(name, prediction, truth)
    assert np.isfinite(score(name, prediction, truth))


def quantile(values: NDArray[np.float64], weights: NDArray[np.float64], level: float = 0.999) -> float:
    order = np.argsort(values)
    return float(np.interp(level, np.cumsum(weights[order]) / weights.sum(), values[order]))


@pytest.mark.parametrize("factor", [0.4, 0.9, 1.0, 1.1, 1.6, 4.0])
@pytest.mark.parametrize("kind", ["gamma", "lognormal"])
def test_high_quantile_is_that_of_all_values_pooled_and_weighted(kind: str, factor: float) -> None:
    random = np.random.default_rng(3)
    shape = (400, *GRID.shape)
    draw = {"gamma": lambda s: random.gamma(0.6, 5.0, s), "lognormal": lambda s: random.lognormal(0.0, 1.0, s)}[kind]
    truth, prediction = holed(draw(shape)), factor * draw((3, *shape))
    truth[:, :2] *= 3.0  # the south, with its larger cells, has the extremes
    weights = weights_of(truth)
    expected = quantile(prediction.ravel(), np.stack([weights] * 3).ravel())
    expected /= quantile(np.nan_to_num(truth).ravel(), weights.ravel())
    assert score("high-quantile", prediction, truth) == pytest.approx(expected, rel=0.015)


def test_high_quantile_of_rain_that_never_falls_or_floods_is_the_worst() -> None:
    truth = np.random.default_rng(0).gamma(0.6, 5.0, (100, *GRID.shape))
    assert score("high-quantile", np.zeros_like(truth), truth) == 0
    assert score("high-quantile", 1000 * truth, truth) == np.inf
    assert METRICS["high-quantile"].distance(np.array([0.0, np.inf, 1.0])).tolist() == [np.inf, np.inf, 0]
    assert np.isnan(score("high-quantile", truth, np.zeros_like(truth)))


def test_the_mean_of_members_loses_the_extremes_which_the_members_have() -> None:
    random = np.random.default_rng(0)
    truth, members = random.gamma(0.6, 5.0, (100, *GRID.shape)), random.gamma(0.6, 5.0, (20, 100, *GRID.shape))
    assert score("high-quantile", members, truth) == pytest.approx(1, abs=0.06)
    assert score("high-quantile", members.mean(axis=0), truth) < 0.4


def test_the_bootstrap_of_a_high_quantile_is_that_of_resampled_fields() -> None:
    random = np.random.default_rng(1)
    truth, prediction = random.gamma(0.6, 5.0, (200, *GRID.shape)), random.gamma(0.6, 6.0, (2, 200, *GRID.shape))
    metric = METRICS["high-quantile"]
    totals = metric.totals(Block(prediction, truth, Reference.of(field(truth))))
    draws = Draws.of(200, 5, draws=3)
    found = metric.finish(draws.means(totals))
    for draw, starts in enumerate(draws.starts):
        times = (starts[:, None] + np.arange(5)).ravel()
        weights = weights_of(truth[times])
        expected = quantile(prediction[:, times].ravel(), np.stack([weights] * 2).ravel())
        expected /= quantile(truth[times].ravel(), weights.ravel())
        assert found[draw] == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e5])
def test_the_first_estimate_of_a_percentile_is_within_four_per_cent(scale: float) -> None:
    values = scale * np.random.default_rng(0).gamma(0.6, 5.0, (50, 100, 100))
    values[:, :50] = 0
    values[0, 0, 0] = np.nan
    magnitudes = Magnitudes()
    for each in values:
        magnitudes.add(each)
    assert magnitudes.exceeded_by(1e-3) == pytest.approx(np.nanquantile(values, 0.999), rel=0.04)
    assert np.isnan(Magnitudes().exceeded_by(1e-3))


@pytest.mark.parametrize("name", ["spread-skill", "rank", "high-quantile"])
def test_lazy_members_in_small_blocks_score_as_loaded_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = (np.maximum(each, 0) for each in normal(3, 20))
    expected = score(name, prediction, truth)
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", 1000)
    lazy = [field(each).copy(data=dask.array.from_array(each, chunks=7)) for each in (prediction, truth)]
    assert METRICS[name](*lazy) == pytest.approx(expected, rel=1e-12)


def dataset(values: NDArray[np.float64], *, units: str = "K") -> xr.Dataset:
    return field(values, units=units).rename("t2m").to_dataset()


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (0.5, "is underdispersive, too sure of itself (its spread is 0."),
        (1.0, "has the spread that its error asks for (its spread is"),
        (2.0, "is overdispersive, less sure of itself than it could be (its spread is 1."),
    ],
)
def test_the_verdict_says_whether_the_spread_is_honest(spread: float, words: str) -> None:
    prediction, truth = normal(6, 40)
    mean = prediction.mean(axis=0)
    prediction = mean + spread * (prediction - mean)
    found = evaluate(dataset(prediction), dataset(truth))
    assert f"as an ensemble of 6 members it {words}" in found.verdict
    rival = dataset(truth + np.random.default_rng(0).normal(0, 2, truth.shape))
    beside = evaluate(dataset(prediction), dataset(truth), baselines={"noisy": rival}).verdict
    assert "6 members it has a CRPS of" in beside and "(the best of the others, noisy, has 1." in beside
    assert words in beside
    tied = evaluate(dataset(prediction), dataset(truth), baselines={"mean": dataset(mean)}).verdict
    assert "are tied" in tied and words in tied


def test_a_single_prediction_has_no_words_scores_or_pictures_of_an_ensemble() -> None:
    prediction, truth = normal(2, 20)
    found = evaluate(dataset(prediction[0]), dataset(truth), baselines={"other": dataset(prediction[1])})
    assert "ensemble" not in found.verdict and "dispersive" not in found.verdict
    assert not {"spread-skill", "rank"} & set(found.metrics("t2m"))
    assert found.views[0].ensemble is None
    with pytest.raises(ValueError, match="no members to draw"):
        members(found.views[0])


def test_a_single_baseline_beside_an_ensemble_has_empty_cells() -> None:
    prediction, truth = normal(4, 20)
    found = evaluate(dataset(prediction), dataset(truth), baselines={"one": dataset(prediction[0])})
    assert np.isnan(found.of("t2m", "rank")["one"].value)
    assert found.of("t2m", "spread-skill")["prediction"].best
    assert "–" in found.table()
    assert found.to_dict()["scores"]


def test_the_band_of_a_flat_histogram_holds_most_bars_of_an_honest_ensemble_and_few_of_another() -> None:
    outside = []
    for seed in range(5):
        prediction, truth = normal(9, 100, seed=seed)
        honest = evaluate(dataset(prediction), dataset(truth)).views[0].ensemble
        assert honest is not None and honest.outside is not None
        np.testing.assert_allclose(honest.ranks.sum(), 1)
        outside.append(honest.outside)
    assert sum(outside) <= 8  # of fifty, of which two or three are expected
    narrow = evaluate(dataset(0.5 * prediction + 0.5 * prediction.mean(axis=0)), dataset(truth)).views[0].ensemble
    assert narrow is not None and narrow.outside is not None and narrow.outside >= 7


def test_classes_of_times_show_spread_and_error_as_the_metric_has_them() -> None:
    prediction, truth = normal(5, 60)
    prediction[:, 30:] = prediction[:, 30:].mean(axis=0) + 3 * (prediction[:, 30:] - prediction[:, 30:].mean(axis=0))
    found = evaluate(dataset(prediction), dataset(truth)).views[0].ensemble
    assert found is not None
    assert found.classes.shape == (2, 10) and (np.diff(found.spread) >= 0).all()
    assert found.classes[0, -1] > 2.5 * found.classes[0, 0]
    # All classes have as many times here, so that their mean square is that of the whole.
    whole = np.sqrt((found.classes**2).mean(axis=1))
    assert whole[0] / whole[1] == pytest.approx(score("spread-skill", prediction, truth), rel=1e-6)


def test_the_report_of_an_ensemble_has_members_ranks_and_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finegrid.evaluation.maps.maps", lambda *_: Figure())  # drawn in tests of the report
    prediction, truth = normal(5, 20)
    found = evaluate(dataset(prediction), dataset(truth), method="drawn")
    page = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("Drawn as an ensemble of 5 members", "Histogram of the truth", "bars lie outside the 95 % band"):
        assert words in page
    view = found.views[0]
    assert view.ensemble is not None
    maps = members(view)
    assert [axes.get_title() for axes in maps.axes[:5]] == [
        "truth",
        "mean of 5 members",
        *(f"member {n}" for n in (1, 2, 3)),
    ]
    shown = prediction[:3, np.abs(truth - view.truth).sum(axis=(1, 2)).argmin()]
    np.testing.assert_allclose(view.ensemble.members, shown, rtol=1e-6)


def test_few_times_have_no_band_and_are_drawn_all_the_same() -> None:
    prediction, truth = normal(3, 4)
    found = evaluate(dataset(prediction), dataset(truth))
    ensemble = found.views[0].ensemble
    assert ensemble is not None and ensemble.outside is None
    drawn = honesty(ensemble, "K").axes[0].get_legend_handles_labels()[1]
    assert drawn == ["flat: an honest ensemble", "ensemble"]
