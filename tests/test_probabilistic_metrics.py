"""Scores of events, tails, whole fields and chances: independent computations, closed forms, what they must not do."""

import operator

import dask.array
import numpy as np
import pyproj
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import scores.probability
import scoringrules
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from finegrid.evaluation import METRICS, evaluate
from finegrid.evaluation.averaging import Totals
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.metrics import Block, Reference
from finegrid.evaluation.metrics.chances_of_events import decomposition
from finegrid.evaluation.metrics.histogram import BINS, transforms
from finegrid.evaluation.metrics.scores_of_fields import LAGS
from finegrid.grids import Grid

LATLON = Grid(np.arange(50.5, 66, 2), np.arange(5.5, 29, 2), np.arange(49.5, 66, 2), np.arange(4.5, 29, 2))
"""8 x 12 cells of two degrees, of different areas."""
FLAT = Grid(
    LATLON.y * 1e3, LATLON.x * 1e3, LATLON.y_edges * 1e3, LATLON.x_edges * 1e3, str(pyproj.CRS.from_epsg(3857).to_wkt())
)
"""As many cells of one area."""
NAMES = [
    *("twcrps", "energy", "variogram", "brier", "brier-reliability", "brier-resolution"),
    *("roc-area", "pit", "code-length"),
]
Fields = NDArray[np.float64]


def field(values: Fields, *, grid: Grid = LATLON) -> xr.DataArray:
    dims = ("member", "time", "y", "x")[-values.ndim :]
    times = np.datetime64("2001-01-01", "ns") + np.arange(values.shape[-3]) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in grid.coords().items() if name in ("y", "x", "crs")}
    return xr.DataArray(values, dims=dims, coords={**places, "time": times}, name="t2m", attrs={"units": "K"})


def score(
    name: str, prediction: Fields, truth: Fields, *, grid: Grid = LATLON, threshold: float | None = None
) -> float:
    return METRICS[name](field(prediction, grid=grid), field(truth, grid=grid), threshold=threshold)


def per_point(name: str, prediction: Fields, truth: Fields, *, threshold: float | None = None) -> Fields:
    reference = Reference.of(field(truth), threshold=threshold)
    return METRICS[name].statistics(Block(prediction, truth, reference))[0]


def normal(members: int, times: int, *, spread: float = 1.0, bias: float = 0.0, seed: int = 0) -> tuple[Fields, Fields]:
    """Members and truth about a common signal; with spread 1 and no bias of one distribution."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=(times, *LATLON.shape))
    prediction = signal + bias + spread * random.normal(size=(members, times, *LATLON.shape))
    return prediction, signal + random.normal(size=signal.shape)


def holed(truth: Fields) -> Fields:
    return np.where(np.random.default_rng(0).random(truth.shape) < 0.2, np.nan, truth)


def weights_of(truth: Fields) -> Fields:
    return np.where(np.isfinite(truth), LATLON.area, 0.0)


@pytest.mark.parametrize("members", [2, 7])
def test_the_crps_above_a_threshold_is_that_of_scoringrules_and_scores(members: int) -> None:
    prediction, truth = normal(members, 6)
    expected = scoringrules.twcrps_ensemble(truth, prediction, a=1.2, m_axis=0, estimator="fair")
    np.testing.assert_allclose(per_point("twcrps", prediction, truth, threshold=1.2), expected, atol=1e-8)
    gaps = holed(truth)
    each = scores.probability.tail_tw_crps_for_ensemble(
        field(prediction), field(gaps), "member", 1.2, method="fair", preserve_dims=["time", "y", "x"]
    ).values
    average = np.average(np.nan_to_num(each), weights=weights_of(gaps))
    assert score("twcrps", prediction, gaps, threshold=1.2) == pytest.approx(average, abs=1e-8)


@pytest.mark.parametrize("members", [2, 5])
def test_the_crps_above_a_threshold_of_an_honest_ensemble_is_the_integral_whatever_its_size(members: int) -> None:
    random = np.random.default_rng(1)
    prediction, truth = random.normal(size=(members, 2000, *LATLON.shape)), random.normal(size=(2000, *LATLON.shape))
    expected, _ = scipy.integrate.quad(lambda z: scipy.stats.norm.cdf(z) * scipy.stats.norm.sf(z), 1.0, np.inf)
    assert score("twcrps", prediction, truth, threshold=1.0) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("members", [2, 7])
def test_the_energy_score_is_that_of_scoringrules_for_cells_of_any_area_and_with_gaps(members: int) -> None:
    prediction, truth = normal(members, 6)
    truth = holed(truth)
    found = per_point("energy", prediction, truth)[:, 0]
    for time, each in enumerate(found):
        known = np.isfinite(truth[time])
        root = np.sqrt(LATLON.area[known] / LATLON.area[known].sum())
        vectors = prediction[:, time, known] * root
        expected = scoringrules.es_ensemble(truth[time, known] * root, vectors, m_axis=0, estimator="fair")
        assert each == pytest.approx(expected, abs=1e-8)
    assert score("energy", prediction, truth) == pytest.approx(found.mean(), abs=1e-12)


def test_the_energy_score_of_distant_values_that_hardly_differ_loses_no_digits() -> None:
    prediction, truth = normal(4, 3)
    far = score("energy", 1e5 + 1e-3 * prediction, 1e5 + 1e-3 * truth)
    assert far == pytest.approx(1e-3 * score("energy", prediction, truth), rel=1e-6)


@pytest.mark.parametrize("members", [2, 10])
def test_the_energy_score_of_an_honest_ensemble_is_half_the_mean_distance_of_two_draws(members: int) -> None:
    random, cells = np.random.default_rng(2), LATLON.size
    prediction, truth = random.normal(size=(members, 3000, *LATLON.shape)), random.normal(size=(3000, *LATLON.shape))
    # The distance of two standard normal vectors is sqrt(2) times a chi variable.
    expected = np.sqrt(2) * scipy.stats.chi.mean(cells) / np.sqrt(cells) / 2
    assert score("energy", prediction, truth, grid=FLAT) == pytest.approx(expected, rel=0.005)


def test_the_energy_score_of_one_member_is_the_error_of_its_fields() -> None:
    prediction, truth = normal(1, 5)
    each = [
        np.sqrt(np.average((prediction[0, time] - truth[time]) ** 2, weights=weights_of(truth)[time]))
        for time in range(5)
    ]
    assert score("energy", prediction, truth) == pytest.approx(np.mean(each))


def pairs(shape: tuple[int, int]) -> Fields:
    """Weights (cell, cell) of all pairs, one after the other."""
    cells = [(row, column) for row in range(shape[0]) for column in range(shape[1])]
    weights = np.zeros((len(cells), len(cells)))
    for one, (row, column) in enumerate(cells):
        for other, (below, right) in enumerate(cells):
            apart = {abs(row - below), abs(column - right)}
            lag = max(apart)
            if min(apart) == 0 and lag in LAGS and (row == below or column == right):
                weights[one, other] = 1 / lag
    return weights


@pytest.mark.parametrize("members", [2, 5])
def test_the_variogram_score_is_that_of_scoringrules_for_the_same_pairs_and_with_gaps(members: int) -> None:
    prediction, truth = normal(members, 3)
    truth, weights = holed(truth), pairs((8, 12))
    found = per_point("variogram", prediction, truth)[:, 0]
    for time, each in enumerate(found):
        known = np.isfinite(truth[time]).ravel()
        among = weights[np.ix_(known, known)]
        vectors = prediction[:, time].reshape(members, -1)[:, known]
        expected = scoringrules.vs_ensemble(
            truth[time].ravel()[known], vectors, among, m_axis=0, p=0.5, estimator="fair"
        )
        assert each == pytest.approx(expected / among.sum(), abs=1e-8)


@pytest.mark.parametrize("members", [2, 8])
def test_the_variogram_score_of_an_honest_ensemble_is_the_variance_of_the_truth_alone(members: int) -> None:
    random = np.random.default_rng(3)
    prediction, truth = random.normal(size=(members, 800, *LATLON.shape)), random.normal(size=(800, *LATLON.shape))
    # Differences are normal with variance 2: their absolute moments of orders 1 and 1/2.
    mean = 2 / np.sqrt(np.pi)
    half = 2**0.25 * 2**0.25 * scipy.special.gamma(0.75) / np.sqrt(np.pi)
    assert score("variogram", prediction, truth) == pytest.approx(mean - half**2, rel=0.02)


def test_the_variogram_score_is_blind_to_what_is_added_everywhere() -> None:
    prediction, truth = normal(4, 5)
    assert score("variogram", prediction + 3, truth) == pytest.approx(score("variogram", prediction, truth))


@pytest.mark.parametrize("name", ["energy", "variogram"])
def test_members_that_are_noise_in_space_are_worse_than_members_that_are_weather(name: str) -> None:
    random = np.random.default_rng(4)

    def weather(*shape: int) -> Fields:
        return random.normal(size=(*shape, 1, 1)) + 0.3 * random.normal(size=(*shape, *LATLON.shape))

    truth, members = weather(200), weather(10, 200)
    shuffled = random.permuted(members.reshape(10, 200, -1), axis=0).reshape(members.shape)
    assert score("crps", shuffled, truth) == pytest.approx(score("crps", members, truth))
    assert score(name, shuffled, truth) > 1.05 * score(name, members, truth)


@pytest.mark.parametrize("members", [2, 9])
def test_the_brier_score_is_that_of_scores_fair_and_of_scoringrules_as_it_is(members: int) -> None:
    prediction, truth = normal(members, 8)
    fair = scores.probability.brier_score_for_ensemble(
        field(prediction), field(truth), "member", 0.7, preserve_dims="all", event_threshold_operator=operator.gt
    )
    found = per_point("brier", prediction, truth, threshold=0.7)
    np.testing.assert_allclose(found, fair.isel(threshold=0).transpose("time", "y", "x").values, atol=1e-8)
    plain = scoringrules.brier_score((truth > 0.7).astype(float), (prediction > 0.7).mean(axis=0))
    parts = decomposition(field(prediction), field(truth), threshold=0.7)
    assert parts.brier == pytest.approx(np.average(plain, weights=weights_of(truth)), abs=1e-8)


@pytest.mark.parametrize("members", [2, 20])
def test_the_fair_brier_score_of_an_honest_ensemble_does_not_depend_on_its_size(members: int) -> None:
    random = np.random.default_rng(5)
    prediction, truth = random.normal(size=(members, 1500, *LATLON.shape)), random.normal(size=(1500, *LATLON.shape))
    chance = scipy.stats.norm.sf(1.0)
    assert score("brier", prediction, truth, threshold=1.0) == pytest.approx(chance * (1 - chance), rel=0.02)


@given(seed=st.integers(0, 1000), members=st.integers(1, 6), threshold=st.floats(-1, 2), gaps=st.booleans())
def test_the_parts_of_the_brier_score_are_murphys_and_add_up(
    seed: int, members: int, threshold: float, gaps: bool
) -> None:
    prediction, truth = normal(members, 4, seed=seed)
    truth = holed(truth) if gaps else truth
    found = decomposition(field(prediction), field(truth), threshold=threshold)
    weights, happened = weights_of(truth), truth > threshold
    chance, base = (prediction > threshold).mean(axis=0), np.average(truth > threshold, weights=weights)
    plain = np.average((chance - happened) ** 2, weights=weights)
    assert found.reliability - found.resolution + found.uncertainty == pytest.approx(plain, abs=1e-12)
    assert found.brier == pytest.approx(plain, abs=1e-12)
    assert found.uncertainty == pytest.approx(base * (1 - base), abs=1e-12)
    wrong = 0.0
    for each in np.unique(chance):
        cases = np.where(chance == each, weights, 0.0)
        if cases.sum() > 0:
            wrong += cases.sum() * (np.average(happened, weights=cases) - each) ** 2 / weights.sum()
    assert found.reliability == pytest.approx(wrong, abs=1e-12)
    assert score("brier-reliability", prediction, truth, threshold=threshold) == pytest.approx(wrong, abs=1e-12)
    share = score("brier-resolution", prediction, truth, threshold=threshold)
    assert share * found.uncertainty == pytest.approx(found.resolution, abs=1e-12)


def test_reliability_sees_false_chances_and_resolution_sees_forecasts_that_are_all_alike() -> None:
    prediction, truth = normal(10, 300)
    climate = np.random.default_rng(1).normal(size=prediction.shape) * np.sqrt(2)
    bold = prediction.mean(axis=0) + 0.2 * (prediction - prediction.mean(axis=0))
    assert score("brier-reliability", bold, truth) > 3 * score("brier-reliability", prediction, truth)
    assert score("brier-resolution", climate, truth) < 0.01 < 0.1 < score("brier-resolution", prediction, truth)


@pytest.mark.parametrize("members", [1, 2, 9])
def test_the_area_under_the_curve_is_that_of_scikit_learn(members: int) -> None:
    prediction, truth = normal(members, 8)
    truth = holed(truth)
    known, above = np.isfinite(truth), (prediction > 0.7).sum(axis=0)
    expected = roc_auc_score(truth[known] > 0.7, above[known], sample_weight=weights_of(truth)[known])
    assert score("roc-area", prediction, truth, threshold=0.7) == pytest.approx(expected, abs=1e-8)


def test_the_area_under_the_curve_of_lots_is_one_half() -> None:
    prediction, truth = np.random.default_rng(9).normal(size=(9, 300, *LATLON.shape)), normal(1, 300)[1]
    assert score("roc-area", prediction, truth) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("threshold", [-100.0, 100.0])
def test_an_event_that_never_or_always_happens_has_no_area_and_no_resolution(threshold: float) -> None:
    prediction, truth = normal(5, 20)
    for name in ("roc-area", "brier-resolution"):
        assert np.isnan(score(name, prediction, truth, threshold=threshold))
        totals = METRICS[name].totals(Block(prediction, truth, Reference.of(field(truth), threshold=threshold)))
        assert np.isnan(METRICS[name].finish(Draws.of(20, 3, draws=50).means(totals))).all()
    assert score("brier", prediction, truth, threshold=threshold) == pytest.approx(0, abs=1e-12)
    assert score("brier-reliability", prediction, truth, threshold=threshold) == pytest.approx(0, abs=1e-12)
    if threshold > 0:
        assert score("twcrps", prediction, truth, threshold=threshold) == 0


def test_transforms_are_ranks_and_lots_and_their_histogram_is_counted_by_area() -> None:
    prediction, truth = normal(4, 30)
    truth = holed(truth)
    known, weights = np.isfinite(truth), weights_of(truth)
    chance = transforms(Block(prediction, truth, Reference.of(field(truth))))
    rank = (prediction < truth).sum(axis=0)
    assert ((chance >= rank / 5) & (chance < (rank + 1) / 5))[known].all() and np.isnan(chance[~known]).all()
    shares, _ = np.histogram(chance[known], BINS, (0, 1), weights=weights[known])
    expected = np.abs(shares / weights.sum() - 1 / BINS).sum()
    assert score("pit", prediction, truth) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("members", [2, 6, 30])
def test_the_transforms_of_honest_ensembles_of_any_size_are_flat_and_of_others_are_not(members: int) -> None:
    prediction, truth = normal(members, 400)
    expected = np.sqrt(38 / (np.pi * truth.size))
    assert score("pit", prediction, truth) == pytest.approx(expected, rel=0.5)
    assert score("pit", prediction + 1, truth) > 10 * expected
    mean = prediction.mean(axis=0)
    assert score("pit", mean + 0.5 * (prediction - mean), truth) > 10 * expected


def test_dry_members_under_a_dry_truth_make_a_flat_histogram_in_any_blocks() -> None:
    dry = np.zeros((4, 400, *LATLON.shape))
    assert score("pit", dry, dry[0]) < 3 * np.sqrt(38 / (np.pi * dry[0].size))
    reference = Reference.of(field(dry[0]))
    whole = METRICS["pit"].totals(Block(dry, dry[0], reference))
    parts = [
        METRICS["pit"].totals(Block(dry[:, start : start + 7], dry[0, start : start + 7], reference, first=start))
        for start in range(0, 400, 7)
    ]
    np.testing.assert_array_equal(Totals.joined(parts).sums, whole.sums)


def test_the_code_length_of_a_normal_ensemble_is_its_entropy_in_quanta() -> None:
    prediction, truth = normal(200, 100)
    quantum = (truth.max() - truth.min()) / 1000
    expected = np.log2(np.sqrt(2 * np.pi * np.e) / quantum)
    assert score("code-length", prediction, truth) == pytest.approx(expected, abs=0.03)


def test_the_code_length_is_that_of_integrated_densities_one_cell_after_the_other() -> None:
    prediction, truth = normal(5, 2)
    low, quantum = truth.min(), (truth.max() - truth.min()) / 1000
    found = per_point("code-length", prediction, truth)
    for place in ((0, 0, 0), (0, 3, 5), (1, 7, 11), np.unravel_index(truth.argmin(), truth.shape)):
        values, step = prediction[(slice(None), *place)], np.rint((truth[place] - low) / quantum)
        deviation = np.sqrt(1.2 * values.var(ddof=1) + (quantum / 4) ** 2)
        lower, upper = low + (step - 0.5) * quantum, low + (step + 0.5) * quantum
        lower, upper = -np.inf if step == 0 else lower, np.inf if step == 1000 else upper
        inside, _ = scipy.integrate.quad(scipy.stats.norm(values.mean(), deviation).pdf, lower, upper)
        chance = 255 / 256 * inside + 1 / 256 / 1001
        assert found[place] == pytest.approx(-np.log2(chance), rel=1e-3)


DISTORTED = {
    "wide": lambda members: members.mean(axis=0) + 1.5 * (members - members.mean(axis=0)),
    "narrow": lambda members: members.mean(axis=0) + 0.5 * (members - members.mean(axis=0)),
    "shifted": lambda members: members + 0.5,
}


@pytest.mark.parametrize("how", DISTORTED)
@pytest.mark.parametrize("name", ["twcrps", "energy", "variogram", "brier", "code-length"])
def test_no_ensemble_gains_by_saying_other_than_the_truth_is_drawn_from(name: str, how: str) -> None:
    prediction, truth = normal(20, 300)
    honest, other = score(name, prediction, truth), score(name, DISTORTED[how](prediction), truth)
    assert other > 1.003 * honest or (name, how) == ("variogram", "shifted")


def test_the_surprise_of_a_confident_ensemble_has_an_end() -> None:
    truth = normal(1, 10)[1]
    wrong = np.broadcast_to(truth + 100, (3, *truth.shape))
    assert score("code-length", wrong, truth) == pytest.approx(np.log2(256 * 1001), abs=0.1)
    # Not zero: within its step a value lies anywhere, and the kernel reaches over the edge.
    assert score("code-length", np.stack([truth] * 3), truth) < 0.5


@pytest.mark.parametrize("name", ["pit", "code-length"])
def test_a_single_forecast_says_nothing_of_its_spread(name: str) -> None:
    prediction, truth = normal(1, 5)
    assert METRICS[name].of_members and np.isnan(score(name, prediction, truth))


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_truth_has_a_score_or_none_and_no_warning(name: str) -> None:
    truth = np.full((4, *LATLON.shape), 280.0)
    found = score(name, np.stack([truth, truth]), truth)
    if name in ("brier-resolution", "roc-area", "code-length"):
        assert np.isnan(found)
    elif name == "pit":
        assert found < 0.5
    else:
        assert found == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_no_truth_at_all_has_no_score(name: str) -> None:
    prediction, truth = normal(3, 4)
    assert np.isnan(score(name, prediction, np.full_like(truth, np.nan)))


@pytest.mark.parametrize("name", NAMES)
def test_cells_without_a_truth_do_not_count_in_ensembles(name: str) -> None:
    prediction, truth = normal(4, 10)
    truth[:, 5:], truth[3] = np.nan, np.nan
    other = np.where(np.isnan(truth), prediction * 7 - 100, prediction)
    assert score(name, other, truth) == pytest.approx(score(name, prediction, truth), rel=1e-12)
    assert np.isfinite(score(name, prediction, truth))


@pytest.mark.parametrize("name", NAMES)
def test_lazy_members_in_small_blocks_score_as_loaded_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = normal(3, 20)
    expected = score(name, prediction, truth)
    monkeypatch.setattr("finegrid.evaluation.metrics.base._VALUES_AT_ONCE", 1000)
    lazy = [field(each).copy(data=dask.array.from_array(each, chunks=7)) for each in (prediction, truth)]
    assert METRICS[name](*lazy) == pytest.approx(expected, rel=1e-12)


def test_an_evaluation_takes_the_metrics_by_name_beside_a_single_baseline() -> None:
    prediction, truth = normal(4, 20)
    fields = [field(each).to_dataset() for each in (prediction, truth, prediction[0])]
    wanted = [*NAMES, "rank", "spread-skill"]
    found = evaluate(*fields[:2], baselines={"one": fields[2]}, metrics=wanted, thresholds={"t2m": 1.0})
    assert set(NAMES) <= set(found.metrics("t2m"))
    for name in NAMES:
        assert np.isfinite(found.of("t2m", name)["prediction"].value)
        assert np.isnan(found.of("t2m", name)["one"].value) == METRICS[name].of_members
    rounded = (each.astype(np.float32).astype(float) for each in (prediction, truth))
    assert found.of("t2m", "brier")["prediction"].value == pytest.approx(score("brier", *rounded, threshold=1.0))
    assert {found.of("t2m", name)["prediction"].units for name in ("twcrps", "energy", "variogram")} == {"K"}
