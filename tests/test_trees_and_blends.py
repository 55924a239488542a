"""Trees, regimes and gates find what is not one linear law, and leave alone what is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from finegrid.conventions import InputError
from finegrid.downscalers import DOWNSCALERS, load
from finegrid.downscalers.blend import Gate, _fix
from finegrid.downscalers.forest import Forest
from finegrid.downscalers.mixtures import RegressionMixture
from test_statistical import (
    COARSE_LAT,
    COARSE_LON,
    FINE_LAT,
    FINE_LON,
    coarse_weather,
    dataset,
    fine_weather,
    on_fine,
    rmse,
)
from test_statistical import fitted as fitted_around


def grown(seed: int = 0, **options) -> tuple[Forest, np.ndarray]:
    random = np.random.default_rng(seed)
    # Some columns with ties and with values next to each other, where thresholds matter.
    z = random.normal(size=(3000, 4)).astype(np.float32)
    z[:, 1] = z[:, 1].round(1)
    z[:, 2] = 280 + random.integers(0, 40, 3000) * np.float32(3e-5)
    y = (np.sin(3 * z[:, 0]) + z[:, 1] * (z[:, 2] > 280.0006) + 0.1 * random.normal(size=3000)).astype(np.float32)
    options = {"max_iter": 30, "learning_rate": 0.2, "max_leaf_nodes": 12, **options}
    return Forest.grown(z, y, seed=seed, **options), np.column_stack([z, y])


def test_a_forest_says_what_scikit_learn_says():
    from sklearn.ensemble import HistGradientBoostingRegressor

    forest, both = grown()
    options = {"max_iter": 30, "learning_rate": 0.2, "max_leaf_nodes": 12}
    model = HistGradientBoostingRegressor(random_state=0, early_stopping=False, **options).fit(both[:, :4], both[:, 4])
    other = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    for z in (both[:, :4], other):
        np.testing.assert_allclose(forest(torch.from_numpy(z.copy())), model.predict(z), atol=1e-5)


def test_a_forest_is_kept_as_numbers():
    forest, both = grown()
    z = torch.from_numpy(both[:, :4].copy())
    tensors = {key: each.clone() for key, each in forest.tensors().items()}
    assert torch.equal(Forest.from_tensors(tensors)(z), forest(z))


def test_the_best_count_is_that_of_the_least_error_and_none_where_none_helps():
    from sklearn.ensemble import HistGradientBoostingRegressor

    forest, both = grown(max_leaf_nodes=60, learning_rate=0.5, min_samples_leaf=3)
    options = {"max_iter": 30, "learning_rate": 0.5, "max_leaf_nodes": 60, "min_samples_leaf": 3}
    model = HistGradientBoostingRegressor(random_state=0, early_stopping=False, **options).fit(both[:, :4], both[:, 4])
    random = np.random.default_rng(5)
    z = random.normal(size=(400, 4)).astype(np.float32)
    y = (np.sin(3 * z[:, 0]) + random.normal(size=400)).astype(np.float32)
    errors = [float(((y - each) ** 2).mean()) for each in model.staged_predict(z)]
    count = forest.best_count(torch.from_numpy(z), torch.from_numpy(y))
    assert count == int(np.argmin(errors)) + 1
    assert forest.best_count(torch.from_numpy(z), torch.zeros(400)) == 0


def cells(times: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth temperature on coarse cells, and its departures from the mean of all times."""
    random = np.random.default_rng(seed)
    t2m = 3 * random.normal(size=(times, 1, 1)) + random.normal(size=(times, 6, 7))
    return 283 + t2m, t2m


RIDGE = {"name": "ridge", "half_widths": (1,), "penalties": (10.0,)}


def test_trees_find_what_bends_and_do_no_harm_where_nothing_does(tmp_path):
    t2m, anomaly = cells()
    noise = 0.2 * np.random.default_rng(1).normal(size=(400, 4, 6))
    coarse = dataset(COARSE_LAT, COARSE_LON, t2m=t2m)
    bent = on_fine(t2m + 0.3 * anomaly**2) + noise
    straight = on_fine(t2m + 0.5 * anomaly) + noise
    fine = dataset(FINE_LAT, FINE_LON, t2m=bent, straight=straight).rename(straight="tmax")
    fine.tmax.attrs["units"] = "K"
    coarse["tmax"] = coarse.t2m
    early, late = slice(320), slice(320, 400)
    trees = DOWNSCALERS["trees"](mean=RIDGE, cycles=(), trees=60).fit(coarse.isel(time=early), fine)
    ridge = DOWNSCALERS["ridge"](cycles=(), half_widths=(1,), penalties=(10.0,)).fit(coarse.isel(time=early), fine)
    found, linear = (each.predict(coarse.isel(time=late)) for each in (trees, ridge))
    assert rmse(found.t2m[0], fine.t2m[late]) < 0.5 * rmse(linear.t2m[0], fine.t2m[late])
    assert rmse(found.tmax[0], fine.tmax[late]) < 1.02 * rmse(linear.tmax[0], fine.tmax[late])
    assert trees.info()["trees"]["t2m"] > 10
    trees.save(tmp_path)
    xr.testing.assert_identical(load(tmp_path).predict(coarse.isel(time=late)), found)


def test_where_the_guess_lacks_nothing_but_noise_there_is_no_tree():
    t2m, _ = cells()
    coarse = dataset(COARSE_LAT, COARSE_LON, t2m=t2m)
    fine = dataset(FINE_LAT, FINE_LON, t2m=on_fine(t2m) + np.random.default_rng(1).normal(size=(400, 4, 6)))
    trees = DOWNSCALERS["trees"](mean="nearest", cycles=(), trees=40).fit(coarse, fine)
    assert trees.info()["trees"] == {"t2m": 0}
    found = trees.predict(coarse)
    xr.testing.assert_equal(found, DOWNSCALERS["nearest"]().fit(coarse, fine).predict(coarse))


def test_trees_know_the_place_and_the_height_of_a_cell():
    t2m, anomaly = cells(300)
    coarse = dataset(COARSE_LAT, COARSE_LON, t2m=t2m)
    # High cells do not feel cold days: an inversion.
    high = np.indices((4, 6)).sum(0) % 2 == 0
    fine = dataset(FINE_LAT, FINE_LON, t2m=np.where(high, on_fine(283 + np.abs(anomaly)), on_fine(t2m)))
    height = xr.Dataset(
        {"elevation": (("lat", "lon"), 1000.0 * high, {"units": "m", "standard_name": "surface_altitude"})},
        coords={"lat": fine.lat, "lon": fine.lon},
    )
    model = DOWNSCALERS["trees"](mean=RIDGE, cycles=(), trees=60)
    model.fit(coarse.isel(time=slice(240)), fine, static=height)
    ridge = DOWNSCALERS["ridge"](cycles=()).fit(coarse.isel(time=slice(240)), fine)
    late = coarse.isel(time=slice(240, 300))
    found, linear = (each.predict(late).t2m[0] for each in (model, ridge))
    assert rmse(found, fine.t2m[240:]) < 0.6 * rmse(linear, fine.t2m[240:])


def laws(groups: int, seed: int, *, examples: int = 8, deviation: float = 0.7) -> tuple:
    """Groups of examples of one of five planted laws each, a further example of each group, and the laws."""
    truth = RegressionMixture(
        torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1], dtype=torch.float64),
        torch.from_numpy(np.random.default_rng(100).normal(size=(5, 4))),
        torch.full((5,), deviation).double(),
    )
    random = np.random.default_rng(seed)
    law = random.choice(5, size=groups, p=truth.shares.numpy())
    z = torch.from_numpy(random.normal(size=(groups, examples + 1, 4)))
    y = torch.einsum("gep,gp->ge", z, truth.weights[law])
    y = y + deviation * torch.from_numpy(random.normal(size=(groups, examples + 1)))
    return z[:, :-1], y[:, :-1], z[:, -1], y[:, -1], truth


def test_exponential_weights_over_five_planted_laws_are_as_good_as_those_of_who_knows_the_laws():
    z, y, _, _, truth = laws(2000, 0)
    found = RegressionMixture.fit(z, y, 5, starts=6)
    examples, values, new, wanted, _ = laws(4000, 1)
    oracle, own = (float((each.predict(new, examples, values) - wanted).square().mean()) for each in (truth, found))
    assert own <= 1.02 * oracle
    # One law for all is no match.
    single = RegressionMixture.fit(z, y, 1, starts=1)
    assert oracle < 0.5 * float((single.predict(new, examples, values) - wanted).square().mean())
    order = torch.cdist(truth.weights, found.weights).argmin(1)
    assert len(set(order.tolist())) == 5
    torch.testing.assert_close(found.weights[order], truth.weights, atol=0.1, rtol=0)
    torch.testing.assert_close(found.shares[order], truth.shares, atol=0.05, rtol=0)
    torch.testing.assert_close(found.deviations[order], truth.deviations, atol=0.05, rtol=0)


def test_weights_of_laws_are_those_of_bayes():
    mixture = RegressionMixture(
        torch.tensor([0.75, 0.25]).double(), torch.tensor([[1.0], [-1.0]]).double(), torch.ones(2).double()
    )
    one = torch.ones(1, 1, 1)
    # exp(-(0.5 - 1)^2 / 2) : exp(-(0.5 + 1)^2 / 2) = e : 1, times 3 : 1.
    expected = 3 * np.e / (3 * np.e + 1)
    found = mixture.posterior(one, torch.full((1, 1), 0.5))
    np.testing.assert_allclose(found, [[expected, 1 - expected]], rtol=1e-9)
    answer = mixture.predict(torch.full((1, 1), 2.0), one, torch.full((1, 1), 0.5))
    np.testing.assert_allclose(answer, [2 * (2 * expected - 1)], rtol=1e-9)


def regimes_weather(times: int, *, planted: bool) -> tuple[xr.Dataset, xr.Dataset]:
    """Two kinds of weather far apart in pressure: the fine field follows the coarse one or opposes it."""
    random = np.random.default_rng(0)
    kind = np.where(random.random(times) < 0.5, 1.0, -1.0)[:, None, None]
    drive = random.normal(size=(times, 1, 1))
    ones = np.ones((6, 7))
    psl = 101000 + 800 * (2 * kind * ones + 0.5 * random.normal(size=(times, 1, 1)))
    t2m = 283 + 2 * drive * ones + 0.1 * random.normal(size=(times, 6, 7))
    sign = kind if planted else 1.0
    fine = 283 + 2 * sign * drive * np.linspace(0.5, 1.5, 24).reshape(4, 6) + 0.3 * random.normal(size=(times, 4, 6))
    return dataset(COARSE_LAT, COARSE_LON, t2m=t2m, psl=psl), dataset(FINE_LAT, FINE_LON, t2m=fine)


@pytest.mark.parametrize("planted", [True, False])
def test_regimes_that_were_planted_are_found_and_one_is_enough_where_there_is_one(planted):
    coarse, fine = regimes_weather(500, planted=planted)
    training, late = coarse.isel(time=slice(400)), coarse.isel(time=slice(400, 500))
    options = {"features": {"name": "components", "counts": (6,)}, "frames": (0,), "penalties": (1.0, 10.0)}
    several, one = (fitted_around("regimes", training, fine, regimes=r, **options) for r in ((1, 2, 3), 1))
    errors = [rmse(each.predict(late).t2m[0], fine.t2m[400:]) for each in (several, one)]
    if planted:
        assert several.info()["regimes"] >= 2
        assert errors[0] < 0.4 * errors[1]
        assert errors[0] < 0.6  # of which 0.3 is noise
    else:
        assert several.info()["regimes"] == 1
        assert errors[0] == errors[1]


def test_one_regime_is_ridge_regression():
    coarse = coarse_weather(100)
    fine = fine_weather(coarse, noise=0.5)
    options = {"features": {"name": "components", "counts": (20,)}, "frames": (0,)}
    one = fitted_around("regimes", coarse, fine, regimes=1, penalties=(10.0,), **options)
    ridge = fitted_around(
        "ridge-around", coarse, fine, start="mean", solver={"name": "ridge", "penalties": (10.0,)}, **options
    )
    np.testing.assert_allclose(one.predict(coarse).t2m, ridge.predict(coarse).t2m, atol=1e-3)
    with pytest.raises(InputError, match="got regimes: 0; expected 1 or more"):
        fitted_around("regimes", coarse, fine, regimes=0)


PRESSURE = {
    "name": "ridge-around",
    "start": "mean",
    "frames": (0,),
    "features": {"name": "around", "fields": ("psl",)},
    "solver": {"name": "ridge", "penalties": (1.0,)},
}


def station_series(times: int, *, depends: bool) -> tuple[xr.Dataset, xr.Dataset]:
    """Series that follow the coarse temperature on warm days and pressure on cold ones, or half of each."""
    random = np.random.default_rng(0)
    t2m = random.normal(size=(times, 6, 7))
    psl = np.broadcast_to(random.normal(size=(times, 1, 1)), t2m.shape)
    truth = np.where(t2m > 0, t2m, psl) if depends else 0.5 * t2m + 0.5 * psl
    fine = 283 + on_fine(truth) + 0.1 * random.normal(size=(times, 4, 6))
    coarse = dataset(COARSE_LAT, COARSE_LON, t2m=283 + t2m, psl=101000 + 800 * psl)
    return coarse, dataset(FINE_LAT, FINE_LON, t2m=fine)


@pytest.mark.parametrize("depends", [True, False])
def test_a_gate_beats_each_member_and_fixed_weights_where_skill_depends_on_the_weather(depends, tmp_path):
    coarse, fine = station_series(600, depends=depends)
    training, late = coarse.isel(time=slice(500)), coarse.isel(time=slice(500, 600))
    options = {"predictors": ("psl",), "members": ("nearest", PRESSURE)}
    models = {
        "gated": DOWNSCALERS["blend"](**options, steps=200),
        "fixed": DOWNSCALERS["blend"](**options, width=0),
        "nearest": DOWNSCALERS["nearest"](),
        "pressure": DOWNSCALERS["ridge-around"](
            predictors=("psl",), **{k: v for k, v in PRESSURE.items() if k != "name"}
        ),
    }
    state = torch.get_rng_state()
    errors = {
        name: rmse(each.fit(training, fine).predict(late).t2m[0], fine.t2m[500:]) for name, each in models.items()
    }
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are touched
    assert errors["fixed"] <= min(errors["nearest"], errors["pressure"])
    if depends:
        assert errors["gated"] < 0.85 * errors["fixed"]
    else:
        assert errors["gated"] <= 1.01 * errors["fixed"]
    models["gated"].save(tmp_path)
    xr.testing.assert_identical(load(tmp_path).predict(late), models["gated"].predict(late))


def test_fixed_weights_are_positive_sum_to_one_and_have_the_least_error():
    random = np.random.default_rng(0)
    truth = torch.from_numpy(random.normal(size=(200, 2, 2))).float()
    scales, shifts = (0.5, 1.0, 0.7), (0.0, 0.0, 3.0)
    noise = [scale * torch.from_numpy(random.normal(size=(200, 2, 2))).float() for scale in scales]
    guesses = torch.stack([truth + each + shift for each, shift in zip(noise, shifts, strict=True)])
    truth[3, 0, 0] = np.nan
    gate = Gate(4, 3, 2)

    class Evidence:
        pass

    evidence = Evidence()
    evidence.truth, evidence.guesses = truth, guesses
    _fix(gate, evidence)
    weights = torch.softmax(gate.fixed.detach(), 0).numpy()
    errors = (guesses - truth)[:, torch.isfinite(truth)].double().numpy()
    best = np.linalg.solve(errors @ errors.T, np.ones(3))  # all of them are positive
    np.testing.assert_allclose(weights, best / best.sum(), atol=2e-3)


def test_a_blend_needs_two_downscalers_that_are_known():
    with pytest.raises(InputError, match=r"expected at least two downscalers; set downscaler.members"):
        DOWNSCALERS["blend"](members=("ridge",))
    coarse = coarse_weather(30)
    with pytest.raises(InputError, match=r"'rigde'.*Did you mean 'ridge'"):
        DOWNSCALERS["blend"](members=("ridge", "rigde")).fit(coarse, fine_weather(coarse))
