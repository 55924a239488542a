"""Regressions: solvers are those of scikit-learn, features see what they should, and linear maps find planted truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.pairs import Pair, pair
from finegrid.data.predictors import cycles
from finegrid.downscalers import DOWNSCALERS, Ridge, linear
from finegrid.downscalers.domain import Domain
from finegrid.downscalers.features import Around, Components, Convolutions, Features, Window
from finegrid.downscalers.features.base import filled, moments
from finegrid.downscalers.solvers import SOLVERS, Lasso, LeastSquares, RidgePenalty, Sketch

UNITS = {"t2m": "K", "pr": "mm/day", "psl": "Pa"}


def dataset(lat: np.ndarray, lon: np.ndarray, start: str = "2001-01-01", **fields: np.ndarray) -> xr.Dataset:
    """Daily fields (time, lat, lon) in a CF file."""
    count = len(next(iter(fields.values())))
    coords = {
        "time": np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(1, "D"),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {name: (dims, each.astype(np.float32), {"units": UNITS.get(name, "1")}) for name, each in fields.items()},
        coords=coords,
    )


COARSE_LAT, COARSE_LON = 40.5 + np.arange(6), 5.5 + np.arange(7)
FINE_LAT, FINE_LON = 42.25 + 0.5 * np.arange(4), 7.25 + 0.5 * np.arange(6)


def coarse_weather(times: int = 120, seed: int = 0, **more: np.ndarray) -> xr.Dataset:
    """White t2m and psl on 6 x 7 cells of 1 degree: every cell has a say of its own."""
    random = np.random.default_rng(seed)
    t2m, psl = (scale * random.normal(size=(times, 6, 7)) for scale in (3.0, 800.0))
    return dataset(COARSE_LAT, COARSE_LON, t2m=t2m + 283, psl=psl + 101000, **more)


def on_fine(values: np.ndarray) -> np.ndarray:
    """Values of the 2 x 3 coarse cells that fine cells fill, on these."""
    return values[:, 2:4, 2:5].repeat(2, axis=1).repeat(2, axis=2)


def fine_weather(coarse: xr.Dataset, noise: float = 0.0, seed: int = 1) -> xr.Dataset:
    """t2m on 4 x 6 cells: the coarse value, pressure two cells north and, column by column, in the south-west."""
    t2m, psl = coarse.t2m.values.astype(float), (coarse.psl.values.astype(float) - 101000) / 800
    fine = on_fine(t2m) + on_fine(np.roll(psl, -2, axis=1))
    fine = fine + np.linspace(-1, 1, 6) * psl[:, :1, :1]
    fine = fine + noise * np.random.default_rng(seed).normal(size=fine.shape)
    return dataset(FINE_LAT, FINE_LON, t2m=fine)


def columns(samples: int, predictors: int, targets: int = 3, noise: float = 0.5, seed: int = 0) -> tuple:
    """Two cells' predictors with a one behind, and targets, as tensors."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(2, samples, predictors)) + 0.3
    y = z @ random.normal(size=(2, predictors, targets)) + 2 + noise * random.normal(size=(2, samples, targets))
    one = np.ones((2, samples, 1))
    return torch.from_numpy(np.concatenate([z, one], axis=2)), torch.from_numpy(y)


def same_weights(weights: torch.Tensor, model, cell: int, *, rtol: float = 1e-8, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(weights[cell, :-1].T, model.coef_, rtol=rtol, atol=atol)
    np.testing.assert_allclose(weights[cell, -1], model.intercept_, rtol=rtol, atol=atol)


def test_least_squares_is_that_of_scikit_learn():
    from sklearn.linear_model import LinearRegression

    z, y = columns(60, 7)
    weights = LeastSquares().weights(z, y, 0.0)
    for cell in (0, 1):
        same_weights(weights, LinearRegression().fit(z[cell, :, :-1], y[cell]), cell)


def test_of_more_predictors_than_times_least_squares_takes_the_smallest_weights():
    z, y = columns(20, 50)
    weights = LeastSquares().weights(z, y, 0.0)
    for cell in (0, 1):
        centred = (z[cell, :, :-1] - z[cell, :, :-1].mean(0)).numpy()
        slopes = np.linalg.lstsq(centred, (y[cell] - y[cell].mean(0)).numpy(), rcond=None)[0]
        np.testing.assert_allclose(weights[cell, :-1], slopes, atol=1e-8)
        np.testing.assert_allclose(z[cell] @ weights[cell], y[cell], atol=1e-7)


@pytest.mark.parametrize("samples", [60, 20])
def test_ridge_is_that_of_scikit_learn(samples):
    from sklearn.linear_model import Ridge as Reference

    z, y = columns(samples, 30)
    penalties = (0.3, 30.0)
    for penalty, weights in zip(penalties, RidgePenalty().path(z, y, penalties), strict=True):
        for cell in (0, 1):
            same_weights(weights, Reference(alpha=penalty).fit(z[cell, :, :-1], y[cell]), cell, atol=1e-7)


def test_lasso_is_that_of_scikit_learn_target_by_target():
    from sklearn.linear_model import Lasso as Reference

    z, y = columns(80, 12, noise=1.0)
    penalties = (0.3, 0.03)
    for part, weights in zip(penalties, Lasso().path(z, y, penalties), strict=True):
        for cell in (0, 1):
            centred, middle = z[cell, :, :-1] - z[cell, :, :-1].mean(0), y[cell] - y[cell].mean(0)
            most = (centred.T @ middle).abs().amax(0) / len(z[cell])
            for target in range(3):
                model = Reference(alpha=part * float(most[target]), tol=1e-8)
                model.fit(z[cell, :, :-1], y[cell, :, target])
                np.testing.assert_allclose(weights[cell, :-1, target], model.coef_, atol=2e-3)
                np.testing.assert_allclose(weights[cell, -1, target], model.intercept_, atol=2e-3)
    assert ((weights[:, :-1] == 0).sum() > 0) and (next(Lasso().path(z, y, (1.0,)))[:, :-1].abs() < 1e-6).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_path_is_one_fit_after_the_other(name):
    z, y = columns(40, 6)
    solver = SOLVERS[name]()
    for strength, weights in zip(solver.strengths, solver.path(z, y, solver.strengths), strict=True):
        torch.testing.assert_close(weights, solver.weights(z, y, strength), rtol=1e-2, atol=3e-3)


@pytest.mark.parametrize("name", SOLVERS)
def test_rows_of_zeros_do_not_count(name):
    z, y = columns(60, 6)
    kept = np.setdiff1d(np.arange(60), [3, 4, 5, 30, 59])
    counts = torch.zeros(60, 1, dtype=torch.float64)
    counts[kept] = 1
    solver = SOLVERS[name]()
    strength = 1.0 if name == "sketch" else solver.strengths[0]
    found = solver.weights(z * counts, y * counts, strength)
    torch.testing.assert_close(found, solver.weights(z[:, kept], y[:, kept], strength), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", SOLVERS)
def test_constant_predictors_and_constant_targets_are_no_trouble(name):
    z, y = columns(60, 6)
    constant = torch.cat([z[:, :, :2], torch.zeros(2, 60, 1), z[:, :, 1:2], z[:, :, 2:]], dim=2)  # nothing, and a twin
    y = torch.cat([y, torch.full((2, 60, 1), 4.0)], dim=2)
    solver = SOLVERS[name]()
    strength = 1.0 if name == "sketch" else solver.strengths[0]
    found = solver.weights(constant, y, strength)
    assert torch.isfinite(found).all()
    torch.testing.assert_close((constant @ found)[..., 3], y[..., 3], rtol=1e-5, atol=1e-5)
    if name in ("least-squares", "sketch"):
        torch.testing.assert_close(constant @ found, z @ solver.weights(z, y, strength), rtol=1e-6, atol=1e-6)
    alone = torch.cat([torch.zeros(2, 60, 3), torch.ones(2, 60, 1)], dim=2).double()
    mean = solver.weights(alone, y, strength)
    torch.testing.assert_close((alone @ mean)[:, 0], y.mean(1), rtol=1e-5, atol=1e-5)


def test_a_sketch_of_all_times_is_least_squares_and_a_smaller_one_depends_on_the_seed():
    z, y = columns(60, 7)
    whole = LeastSquares().weights(z, y, 0.0)
    torch.testing.assert_close(Sketch().weights(z, y, 1.0), whole)
    part = Sketch().weights(z, y, 0.3)
    assert torch.equal(part, Sketch().weights(z, y, 0.3))
    assert not torch.allclose(part, Sketch(seed=1).weights(z, y, 0.3))
    assert not torch.allclose(part, whole)


def test_holes_are_filled_from_the_cells_around_ring_by_ring():
    nan = np.nan
    field = torch.tensor([[1.0, 2.0, nan, nan], [3.0, 4.0, nan, nan]])
    expected = torch.tensor([[1.0, 2.0, 3.0, 3.0], [3.0, 4.0, 3.0, 3.0]])  # (2 + 4) / 2, then that
    other = torch.arange(8.0).reshape(2, 4)
    values = torch.stack([field, other, torch.full((2, 4), nan)])[None]
    found = filled(values)
    torch.testing.assert_close(found[0, 0], expected)
    assert torch.equal(found[0, 1], other)
    assert (found[0, 2] == 0).all()
    assert torch.isnan(values[0, 2]).all()  # what came in is left as it was


def test_moments_are_of_known_values_and_what_does_not_vary_is_not_blown_up():
    values = torch.tensor([[1.0, 5.0, np.nan, np.nan], [3.0, 5.0, 2.0, np.nan]])
    mean, deviation = moments(values, (0,))
    torch.testing.assert_close(mean[0], torch.tensor([2.0, 5.0, 2.0, 0.0]))
    torch.testing.assert_close(deviation[0], torch.tensor([1.0, 1.0, 1.0, 1.0]))
    large = torch.tensor([[1e5], [1e5 + 0.01]])
    assert moments(large, (0,))[1].item() == 1.0


def settled(coarse: xr.Dataset, fine: xr.Dataset, reach: float | None = 10.0) -> tuple[Pair, Domain]:
    matched = pair(coarse, fine, predictors=("psl",), reach=reach)
    return matched, Domain.of(matched)


@pytest.fixture
def matched() -> tuple[Pair, Domain]:
    coarse = coarse_weather()
    return settled(coarse, fine_weather(coarse))


def table(features: Features, matched: Pair) -> np.ndarray:
    """Predictors that all cells share, without the one."""
    return features(matched.coarse).common.numpy()


def test_around_are_all_coarse_cells_each_with_its_own_climate(matched):
    both, domain = matched
    features = Around(cycles=("day_of_year",)).fit(both.coarse, domain)
    found = table(features, both)
    coarse = coarse_weather()
    raw = np.concatenate([coarse[name].values.reshape(120, -1) for name in ("t2m", "psl")], 1).astype(float)
    np.testing.assert_allclose(found[:, :84], (raw - raw.mean(0)) / raw.std(0), atol=2e-3)
    np.testing.assert_array_equal(found[:, 84:], cycles(coarse.time, ("day_of_year",)))
    assert features(both.coarse).width == 84 + 4 + 1
    assert "84 coarse values" in features.words()["predictors seen"]


def test_frames_are_the_steps_beside_and_the_own_one_at_ends_and_gaps(matched):
    both, domain = matched
    gappy = both.at(np.r_[0:50, 60:120])
    features = Around(frames=(-1, 0, 1), cycles=()).fit(gappy.coarse, domain)
    before, own, after = np.split(table(features, gappy), 3, axis=1)
    for first, last in ((0, 50), (50, 110)):
        np.testing.assert_array_equal(before[first + 1 : last], own[first : last - 1])
        np.testing.assert_array_equal(after[first : last - 1], own[first + 1 : last])
        np.testing.assert_array_equal(before[first], own[first])
        np.testing.assert_array_equal(after[last - 1], own[last - 1])


def test_a_missing_day_is_seen_by_its_neighbours_as_their_own(matched):
    both, domain = matched
    holed = both.coarse.copy(deep=True)
    for each in holed.data_vars.values():
        each[20] = np.nan
    features = Around(frames=(0, 1), cycles=()).fit(both.coarse, domain)
    own, after = np.split(features(holed).common.numpy(), 2, axis=1)
    np.testing.assert_array_equal(after[19], own[19])
    np.testing.assert_array_equal(after[20], own[21])  # the day after is known
    assert (own[20] == 0).all()


def test_cells_that_are_mostly_missing_are_no_predictors_and_holes_elsewhere_are_filled():
    coarse = coarse_weather()
    coarse.psl[:, 0, :2] = np.nan
    coarse.psl[:70, 5, 6] = np.nan
    coarse.psl[7, 3, 3] = np.nan
    coarse.psl[80, 5, 5] = np.nan  # beside the cell that is no predictor, and does not help either
    both, domain = settled(coarse, fine_weather(coarse_weather()))
    features = Around(cycles=()).fit(both.coarse, domain)
    found = table(features, both).astype(float)
    assert found.shape == (120, 84 - 3)
    assert np.isfinite(found).all()
    # Behind 42 cells of t2m and without the first two of psl: row 3, column 3.
    index = 42 + 3 * 7 + 3 - 2
    values = coarse.psl.values[:, 2:5, 2:5].astype(float)
    standard = (values - np.nanmean(values, 0)) / np.nanstd(values, 0)
    assert abs(found[7, index] - np.nanmean(standard[7])) < 2e-3
    values = coarse.psl.values[:, 4:6, 4:7].reshape(120, 6)[:, :4].astype(float)
    standard = (values - values.mean(0)) / values.std(0)
    assert abs(found[80, -1] - standard[80].mean()) < 2e-3
    assert torch.isfinite(features(both.coarse.isel(time=[7])).common).all()


def test_rain_is_seen_in_the_shapes_that_are_asked_for_relative_to_its_usual_size():
    rain = np.random.default_rng(3).gamma(0.5, 4.0, size=(120, 6, 7)) * (np.arange(120) % 3 > 0)[:, None, None]
    coarse = coarse_weather(pr=rain)
    fine = dataset(FINE_LAT, FINE_LON, pr=on_fine(rain))
    matched = pair(coarse, fine, predictors=("t2m",), reach=10.0)
    features = Around(shapes=("sqrt", "log"), cycles=()).fit(matched.coarse, Domain.of(matched))
    found = table(features, matched)
    assert found.shape[1] == 42 * 2 + 42
    relative = (rain / rain.mean()).reshape(120, -1)
    for index, shaped in enumerate((np.sqrt(relative), np.log(relative + 0.05))):
        standard = (shaped - shaped.mean(0)) / shaped.std(0)
        np.testing.assert_allclose(found[:, 42 * index : 42 * (index + 1)], standard, atol=1e-4)
    with pytest.raises(InputError, match=r"got shapes: .*expected some of value, sqrt, log"):
        Around(shapes=("cube",))


def test_components_are_those_of_scikit_learn_in_units_of_their_deviation(matched):
    from sklearn.decomposition import PCA

    both, domain = matched
    everything = table(Around(cycles=()).fit(both.coarse, domain), both).astype(float)
    found = table(Components(counts=(6,), cycles=()).fit(both.coarse, domain), both)
    expected = PCA(6, whiten=True).fit_transform(everything) * np.sqrt(120 / 119)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=2e-3)
    np.testing.assert_allclose(found.std(0), 1.0, atol=1e-3)


def test_components_stop_where_they_explain_enough(matched):
    both, domain = matched
    found = Components(counts=(80,), variance=0.5, cycles=()).fit(both.coarse, domain)
    everything = table(Around(cycles=()).fit(both.coarse, domain), both).astype(float)
    share = np.cumsum(np.linalg.svd(everything - everything.mean(0), compute_uv=False) ** 2)
    assert found.words()["principal components"] == int((share < 0.5 * share[-1]).sum()) + 1
    with pytest.raises(InputError, match=r"got variance=1.5; expected a part between 0 and 1"):
        Components(variance=1.5).fit(both.coarse, domain)


def test_a_window_is_the_own_cell_and_those_around_edges_repeated(matched):
    both, domain = matched
    features = Window(half_widths=(1,), cycles=()).fit(both.coarse, domain)
    seen = features(both.coarse)
    assert seen.local.shape == (120, 2 * 9, 6)
    values = coarse_weather().t2m.values[:, 2:4, 2:5].astype(float)
    standard = np.pad((values - values.mean()) / values.std(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    # Cell (1, 2) is the last of the 2 x 3.
    np.testing.assert_allclose(seen.local[:, :9, 5], standard[:, 1:4, 2:5].reshape(120, 9), atol=1e-3)
    assert seen.at(slice(4, 6)).matrix().shape == (2, 120, 18 + 1)
    assert (seen.matrix()[:, :, -1] == 1).all()


def test_random_filters_are_whitened_patches_and_both_sides_of_their_answers_are_seen(matched):
    both, domain = matched
    features = Convolutions(patches=5, half_width=1, bias=0.5, cycles=()).fit(both.coarse, domain)
    seen = features(both.coarse)
    assert seen.local.shape == (120, 18 + 10, 6)
    assert seen.common.shape == (120, 10)
    activations = seen.local[:, 18:]
    assert (activations >= 0).all()
    assert not (activations[:, :5] * activations[:, 5:]).any()  # never both sides at once
    torch.testing.assert_close(seen.common, activations.mean(2))
    torch.testing.assert_close(activations.std((0, 2)), torch.full((10,), 0.1), rtol=1e-3, atol=1e-5)
    same = Convolutions(patches=5, half_width=1, cycles=()).fit(both.coarse, domain)
    other = Convolutions(patches=5, half_width=1, cycles=(), seed=1).fit(both.coarse, domain)
    assert torch.equal(same.numbers["filters"], features.numbers["filters"])
    assert not torch.equal(other.numbers["filters"], features.numbers["filters"])
    with pytest.raises(InputError, match="got patches=0; expected at least 1"):
        Convolutions(patches=0).fit(both.coarse, domain)


def test_only_the_fields_that_are_named_are_seen(matched):
    both, domain = matched
    found = table(Around(fields=("psl",), cycles=()).fit(both.coarse, domain), both)
    np.testing.assert_array_equal(found, table(Around(cycles=()).fit(both.coarse, domain), both)[:, 42:])
    with pytest.raises(InputError, match=r"got the field 'hus'; expected some of t2m, psl"):
        Around(fields=("hus",)).fit(both.coarse, domain)


AROUND = ("ridge-around", "lasso", "pcr", "sketched")


def fitted(name: str, coarse: xr.Dataset, fine: xr.Dataset, **options):
    return DOWNSCALERS[name](predictors=("psl",), cycles=(), **options).fit(coarse, fine)


def rmse(found: xr.DataArray, truth: xr.DataArray) -> float:
    return float(np.sqrt(((found - truth) ** 2).mean()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ridge-around", {"solver": {"name": "ridge", "penalties": (1e-4,)}}),
        ("lasso", {"solver": {"name": "lasso", "penalties": (1e-4,)}}),
        ("pcr", {"features": {"name": "components", "counts": (84,), "variance": 1.0}}),
        ("sketched", {"solver": {"name": "sketch", "sizes": (0.8,)}}),
    ],
)
def test_a_linear_law_of_cells_far_away_is_found(name, options):
    coarse = coarse_weather(300)
    fine = fine_weather(coarse)
    model = fitted(name, coarse.isel(time=slice(240)), fine, frames=(0,), **options)
    late = slice(240, 300)
    assert rmse(model.predict(coarse.isel(time=late)).t2m[0], fine.t2m[late]) < 0.03
    # Which the cells over the domain do not tell.
    near = Ridge(predictors=("psl",)).fit(coarse.isel(time=slice(240)), fine)
    assert rmse(near.predict(coarse.isel(time=late)).t2m[0], fine.t2m[late]) > 0.5


def test_ridge_around_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge as Reference

    coarse = coarse_weather()
    fine = fine_weather(coarse, noise=1.0)
    options = {"frames": (-1, 0), "start": "mean", "solver": {"name": "ridge", "penalties": (30.0,)}}
    model = fitted("ridge-around", coarse, fine, **options)
    raw = np.concatenate([coarse[name].values.reshape(120, -1) for name in ("t2m", "psl")], 1).astype(float)
    own = (raw - raw.mean(0)) / raw.std(0)
    z = np.concatenate([own[np.r_[0, 0:119]], own], axis=1)
    expected = Reference(alpha=30.0).fit(z, fine.t2m.values.reshape(120, -1)).predict(z)
    np.testing.assert_allclose(model.predict(coarse).t2m[0].values.reshape(120, -1), expected, atol=3e-3)


def test_lasso_keeps_the_cells_that_matter_and_few_others():
    coarse = coarse_weather(400)
    fine = fine_weather(coarse, noise=0.3)
    options = {"frames": (0,), "start": "coarse", "solver": {"name": "lasso", "penalties": (0.1,)}}
    model = fitted("lasso", coarse, fine, **options)
    weights = model._weights[0, :-1].reshape(2, 6, 7, 4, 6).abs().numpy()
    # The fine cell in row 0, column 5 hangs on pressure two rows north of its coarse cell and in the south-west corner.
    chosen = {tuple(each) for each in np.argwhere(weights[..., 0, 5] > 0.05)}
    assert chosen == {(1, 4, 4), (1, 0, 0)}
    assert (weights[..., 0, 5] > 0).sum() < 20


@pytest.mark.parametrize("name", AROUND)
def test_the_start_that_cross_validation_finds_better_is_taken(name):
    coarse = coarse_weather(80)
    follows, leaves = fine_weather(coarse, noise=0.5), fine_weather(coarse, noise=0.5)
    # Weather of its own, of which the coarse value knows nothing.
    leaves["t2m"] = leaves.t2m - on_fine(coarse.t2m.values)[:, :, :] + np.float32(283)
    leaves.t2m.attrs["units"] = "K"
    found = [fitted(name, coarse, each, frames=(0,)).info()["regresses"] for each in (follows, leaves)]
    assert found == ["departures from the coarse value", "values"]


@pytest.mark.parametrize("patterns", [32, 0])
def test_a_cell_that_is_often_missing_learns_from_its_own_times_beside_cells_that_are_not(patterns, monkeypatch):
    monkeypatch.setattr(linear, "_PATTERNS", patterns)
    coarse = coarse_weather(300)
    fine = fine_weather(coarse, noise=0.1)
    gappy = fine.copy(deep=True)
    # Turn by turn the same is reached, if not so soon.
    missing = np.random.default_rng(0).random(240) < (0.5 if patterns else 0.2)
    gappy.t2m[:240, 1, 1] = gappy.t2m[:240, 1, 1].where(~missing)
    options = {"frames": (0,), "start": "mean", "solver": {"name": "ridge", "penalties": (1.0,)}}
    training, late = coarse.isel(time=slice(240)), coarse.isel(time=slice(240, 300))
    whole, holed = (fitted("ridge-around", training, each, **options).predict(late).t2m[0] for each in (fine, gappy))
    truth = fine.t2m[240:, 1, 1]
    assert rmse(holed[:, 1, 1], truth) < 3 * rmse(whole[:, 1, 1], truth)
    others = np.ones((4, 6), dtype=bool)
    others[1, 1] = False
    np.testing.assert_array_equal(holed.values[:, others], whole.values[:, others])


def test_of_many_predictors_and_few_times_a_sketch_avoids_the_peak_of_double_descent():
    # As many predictors as times less one for the mean; every predictor has its say.
    random = np.random.default_rng(0)
    lat, lon = 40.5 + np.arange(10), 5.5 + np.arange(10)
    law = random.normal(size=100) / 10
    field = random.normal(size=(2101, 10, 10))
    truth = field.reshape(-1, 100) @ law
    noise = random.normal(size=(2101, 2, 2))
    coarse = dataset(lat, lon, t2m=field)
    fine = dataset(44.25 + 0.5 * np.arange(2), 9.25 + 0.5 * np.arange(2), t2m=truth[:, None, None] + noise)
    late = coarse.isel(time=slice(101, None))

    def risk(times: int, **options) -> tuple[float, Mapping]:
        solver = {"name": "sketch", **options} if options else "least-squares"
        model = DOWNSCALERS["sketched"](solver=solver, frames=(0,), cycles=(), start="mean")
        model.fit(coarse.isel(time=slice(times)), fine)
        found = model.predict(late).t2m[0].values
        return float(((found - truth[101:, None, None]) ** 2).mean()) + 1.0, model.info()

    few, peak = risk(50)[0], risk(101)[0]
    more = float(np.mean([risk(101, sizes=(size,))[0] for size in (0.3, 0.5)]))
    assert peak > 5 * few
    assert peak > 5 * more
    chosen, info = risk(101, sizes=Sketch().sizes)
    every = {size: risk(101, sizes=(size,))[0] for size in Sketch().sizes}
    assert chosen == every[info["part of the times"]]
    assert chosen <= 0.5 * peak
    assert chosen <= 1.1 * min(every.values())


def bent(times: int = 420) -> tuple[xr.Dataset, xr.Dataset]:
    """Smooth weather, and three fine variables that hang on the positive part of a slope of the coarse field."""
    random = np.random.default_rng(0)
    t2m = random.normal(size=(times, 6, 7)) + random.normal(size=(times, 1, 1))
    slope = np.diff(t2m, axis=2, prepend=t2m[:, :, :1])
    bend = np.maximum(slope, 0)
    coarse = dataset(COARSE_LAT, COARSE_LON, t2m=t2m, u=t2m, v=t2m)
    pattern = np.where(np.indices((12, 14)).sum(0) % 2, 1.0, -1.0)
    lat, lon = 40.25 + 0.5 * np.arange(12), 5.25 + 0.5 * np.arange(14)
    large = [each.repeat(2, 1).repeat(2, 2) for each in (t2m, bend, bend**2)]
    fine = {name: large[0] + scale * pattern * large[1] for name, scale in (("t2m", 1.0), ("u", -2.0))}
    return coarse, dataset(lat, lon, **fine, v=large[0] + pattern * large[2])


def test_random_features_are_extracted_once_for_three_variables_and_beat_what_is_linear(monkeypatch):
    extractions = []
    fit = Convolutions._fit
    monkeypatch.setattr(Convolutions, "_fit", lambda self, coarse: extractions.append(1) or fit(self, coarse))
    coarse, fine = bent()
    training, late = coarse.isel(time=slice(320)), coarse.isel(time=slice(320, 420))
    models = {
        "random": DOWNSCALERS["random-features"](cycles=(), start="coarse", features={"name": "convolutions"}),
        "linear": Ridge(cycles=(), half_widths=(2,)),
    }
    found = {name: each.fit(training, fine).predict(late) for name, each in models.items()}
    assert len(extractions) == 1
    for variable in ("t2m", "u", "v"):
        errors = {name: rmse(each[variable][0], fine[variable][320:]) for name, each in found.items()}
        assert errors["random"] < 0.75 * errors["linear"]


def test_values_beyond_the_limits_of_nature_are_set_to_these():
    rain = np.maximum(np.random.default_rng(3).normal(size=(120, 6, 7)) - 0.5, 0)
    coarse = coarse_weather(pr=rain)
    fine = dataset(FINE_LAT, FINE_LON, pr=on_fine(rain) * np.linspace(0, 2, 6))
    model = DOWNSCALERS["ridge-around"](variables=["pr"], start="mean").fit(coarse, fine)
    found = model.predict(coarse).pr
    assert float(found.min()) == 0.0
    assert float(model._fields(model.read(coarse)).min()) == 0.0


def test_coarse_cells_within_reach_are_seen_and_no_others():
    coarse = coarse_weather()
    fine = fine_weather(coarse)
    model = fitted("ridge-around", coarse, fine, reach=1.0, frames=(0,))
    wide = model.domain.inputs.wide
    assert wide.shape == (4, 5)
    whole = model.predict(coarse)
    # A file that ends there will do, and what lies beyond does not matter.
    xr.testing.assert_identical(model.predict(coarse.isel(lat=slice(1, 5), lon=slice(1, 6))), whole)
    for row, column, matters in ((1, 1, True), (0, 3, False), (3, 6, False)):
        changed = coarse.copy(deep=True)
        changed.psl[:, row, column] += 3000
        assert model.predict(changed).equals(whole) != matters
    with pytest.raises(InputError, match=r"got reach=-1 degrees; expected 0 or more; set downscaler.reach"):
        fitted("ridge-around", coarse, fine, reach=-1.0)


def test_a_file_that_does_not_reach_as_far_or_lacks_a_predictor_is_refused_by_name():
    coarse = coarse_weather()
    model = fitted("pcr", coarse, fine_weather(coarse))
    near = coarse.isel(lat=slice(2, 4), lon=slice(2, 5))
    near.encoding["source"] = "scenario.nc"
    with pytest.raises(InputError, match=r"scenario.nc lacks \d+% of the 42 coarse cells .*larger coarse file, or fit"):
        model.predict(near)
    lacking = coarse[["t2m"]]
    lacking.encoding["source"] = "scenario.nc"
    with pytest.raises(InputError, match=r"no variable 'psl' in scenario.nc"):
        model.predict(lacking)


def test_a_file_of_finer_cells_is_averaged_to_those_of_training():
    coarse = coarse_weather()
    model = fitted("ridge-around", coarse, fine_weather(coarse))
    finer = dataset(
        40.25 + 0.5 * np.arange(12),
        5.25 + 0.5 * np.arange(14),
        **{name: coarse[name].values.repeat(2, 1).repeat(2, 2) for name in ("t2m", "psl")},
    )
    found, expected = model.predict(finer).t2m, model.predict(coarse).t2m
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("turn", [{"lat": slice(None, None, -1)}, {"lon": slice(None, None, -1)}])
def test_rows_and_columns_may_come_in_the_other_order(turn):
    coarse = coarse_weather()
    model = fitted("ridge-around", coarse, fine_weather(coarse))
    xr.testing.assert_identical(model.predict(coarse.isel(turn)), model.predict(coarse))


def test_unknown_words_in_options_are_refused_with_the_valid_ones():
    coarse = coarse_weather(30)
    fine = fine_weather(coarse)
    for options, words in (
        ({"features": "aruond"}, "no features 'aruond'.*Did you mean 'around'"),
        ({"solver": "rigde"}, "no solver 'rigde'.*Did you mean 'ridge'"),
        ({"solver": {"name": "ridge", "penaltys": 1}}, "no argument 'penaltys'"),
        ({"start": "median"}, "got start: median; expected some of coarse, mean; change downscaler.start"),
    ):
        with pytest.raises(InputError, match=words):
            fitted("ridge-around", coarse, fine, **options)
