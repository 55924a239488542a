"""Distributions of fine values: planted parameters are found, and members are weather that could have been."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
import torch
import xarray as xr
from scipy import stats

from finegrid.conventions import InputError
from finegrid.downscalers import DOWNSCALERS, load
from finegrid.downscalers.families import FAMILIES, LEAST, BernoulliGamma, Gamma, Gaussian, named, suiting
from finegrid.downscalers.families.base import Family
from finegrid.downscalers.ranks import Ranks
from test_statistical import COARSE_LAT, COARSE_LON, FINE_LAT, FINE_LON, dataset

# Weights of two predictors and the one for each of two targets of one cell.
LAW = torch.tensor([[[0.5, -0.3, 1.0], [0.2, 0.4, 0.3]]], dtype=torch.float64)
ODDS = torch.tensor([[[1.2, -0.5, -0.8], [0.7, 0.9, 0.4]]], dtype=torch.float64)
PENALTIES = (1e-3, 1e-3)


def predictors(samples: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.concatenate([random.normal(size=(1, samples, 2)), np.ones((1, samples, 1))], axis=2))


def amounts(z: torch.Tensor, shape: float = 1.6, seed: int = 1) -> torch.Tensor:
    """Gamma values (cell, time, target) whose mean is exp(z b)."""
    mean = torch.exp(z @ LAW.mT).numpy()
    return torch.from_numpy(np.random.default_rng(seed).gamma(shape, mean / shape))


def rain(z: torch.Tensor, threshold: float = 0.1, seed: int = 2) -> torch.Tensor:
    """Wet with planted odds, and then the threshold and a gamma amount; drizzle below the threshold otherwise."""
    random = np.random.default_rng(seed)
    wet = random.random((*z.shape[:2], 2)) < torch.sigmoid(z @ ODDS.mT).numpy()
    dry = 0.05 * random.random(wet.shape)
    return torch.from_numpy(np.where(wet, threshold + amounts(z, seed=seed).numpy(), dry))


def fit(family: Family, z: torch.Tensor, y: torch.Tensor, known: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    return family.fit(z, y, torch.ones_like(y) if known is None else known, PENALTIES[: len(family.parts)])


def sampled(name: str, samples: int = 4000) -> tuple[Family, torch.Tensor, torch.Tensor]:
    """A family, predictors, and values drawn from it."""
    z = predictors(samples)
    if name == "gaussian":
        noise = np.random.default_rng(3).normal(size=(1, samples, 2)) * np.array([0.5, 2.0])
        return Gaussian(), z, z @ LAW.mT + torch.from_numpy(noise)
    return (Gamma(), z, amounts(z)) if name == "gamma" else (BernoulliGamma(0.1), z, rain(z))


def test_the_weights_and_deviations_of_a_normal_variable_are_found():
    family, z, y = sampled("gaussian")
    numbers = fit(family, z, y)
    torch.testing.assert_close(numbers["mean"], LAW, atol=0.1, rtol=0)
    torch.testing.assert_close(numbers["deviation"], torch.tensor([[0.5, 2.0]]).double(), rtol=0.03, atol=0)


def test_the_law_of_gamma_amounts_is_found():
    family, z, y = sampled("gamma")
    numbers = fit(family, z, y)
    torch.testing.assert_close(numbers["mean"], LAW, atol=0.04, rtol=0)
    torch.testing.assert_close(1 / numbers["dispersion"], torch.full((1, 2), 1.6).double(), rtol=0.1, atol=0)
    assert numbers["tilt"].abs().max() < 0.1


def test_amounts_that_are_surer_the_larger_they_are_are_found_so():
    z = predictors(6000)
    mean = torch.exp(z @ LAW.mT)
    usual = mean.mean(1, keepdim=True)
    shape = (1 / (0.6 * (mean / usual) ** -0.4)).numpy()
    y = torch.from_numpy(np.random.default_rng(5).gamma(shape, mean.numpy() / shape))
    numbers = fit(Gamma(), z, y)
    np.testing.assert_allclose(numbers["tilt"], -0.4, atol=0.1)
    np.testing.assert_allclose(numbers["dispersion"], 0.6, rtol=0.1)


def test_the_law_of_dry_and_wet_days_and_of_amounts_is_found():
    family, z, y = sampled("bernoulli-gamma", 8000)
    numbers = fit(family, z, y)
    torch.testing.assert_close(numbers["odds"], ODDS, atol=0.12, rtol=0)
    torch.testing.assert_close(numbers["mean"], LAW, atol=0.08, rtol=0)
    expected = torch.sigmoid(z @ ODDS.mT) * (0.1 + torch.exp(z @ LAW.mT))
    usual = z.abs().amax(2) < 1.5
    torch.testing.assert_close(family.mean(z, numbers)[usual], expected[usual], rtol=0.15, atol=0.05)


def test_occurrence_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    family, z, y = sampled("bernoulli-gamma", 600)
    numbers = family.fit(z, y, torch.ones_like(y), (2.0, 2.0))
    for target in (0, 1):
        model = LogisticRegression(C=0.5, tol=1e-8).fit(z[0, :, :2], y[0, :, target] > 0.1)
        np.testing.assert_allclose(numbers["odds"][0, target, :2], model.coef_[0], atol=1e-4)
        np.testing.assert_allclose(numbers["odds"][0, target, 2], model.intercept_[0], atol=1e-4)


def test_amounts_are_those_of_scikit_learn():
    from sklearn.linear_model import GammaRegressor

    family, z, y = sampled("gamma", 600)
    numbers = family.fit(z, y, torch.ones_like(y), (3.0,))
    for target in (0, 1):
        # Their penalty is alpha / 2 on the mean of half the deviance, ours 1 / 2 on its sum.
        model = GammaRegressor(alpha=3.0 / 600, tol=1e-8, max_iter=1000).fit(z[0, :, :2], y[0, :, target])
        np.testing.assert_allclose(numbers["mean"][0, target, :2], model.coef_, atol=2e-3)
        np.testing.assert_allclose(numbers["mean"][0, target, 2], model.intercept_, atol=2e-3)


@pytest.mark.parametrize("name", ["gaussian", "gamma"])
def test_losses_are_the_crps_of_scoringrules(name):
    family, z, y = sampled(name, 500)
    numbers = fit(family, z, y)
    mean = family.mean(z, numbers).numpy()
    if name == "gaussian":
        expected = scoringrules.crps_normal(y.numpy(), mean, np.broadcast_to(numbers["deviation"].numpy(), mean.shape))
    else:
        shape = family.moments(z, numbers)[1].numpy()
        expected = scoringrules.crps_gamma(y.numpy(), shape, rate=shape / mean)
    np.testing.assert_allclose(family.losses(z, y, numbers)[0], expected, rtol=1e-6, atol=1e-9)


def test_losses_of_rain_are_the_log_score_of_wet_days_and_the_crps_of_amounts():
    family, z, y = sampled("bernoulli-gamma", 500)
    numbers = fit(family, z, y)
    occurrence, amount = family.losses(z, y, numbers)
    wet = torch.sigmoid(z @ numbers["odds"].mT).numpy()
    rains = y.numpy() > 0.1
    np.testing.assert_allclose(occurrence, -np.log(np.where(rains, wet, 1 - wet)), rtol=1e-9)
    assert torch.equal(torch.isnan(amount), torch.from_numpy(~rains))


@pytest.mark.parametrize("name", FAMILIES)
def test_quantile_and_chance_undo_each_other(name):
    family, z, y = sampled(name, 800)
    numbers = fit(family, z, y)
    uniform = torch.from_numpy(np.random.default_rng(6).random(y.shape))
    chance = family.chance(z, y, numbers, uniform)
    assert ((chance >= 0) & (chance <= 1)).all()
    again = family.quantile(z, chance, numbers)
    dry = y <= 0.1 if name == "bernoulli-gamma" else torch.zeros_like(y, dtype=torch.bool)
    torch.testing.assert_close(again[~dry], y[~dry], rtol=1e-6, atol=1e-6)
    assert (again[dry] == 0).all()
    wanted = torch.from_numpy(np.random.default_rng(7).uniform(0.001, 0.999, y.shape))
    values = family.quantile(z, wanted, numbers)
    found = family.chance(z, values, numbers, wanted)
    wet = values > 0 if name == "bernoulli-gamma" else torch.ones_like(dry)
    torch.testing.assert_close(found[wet], wanted[wet], rtol=1e-6, atol=1e-6)
    # More chance, more rain.
    more = family.quantile(z, (wanted + 1) / 2, numbers)
    assert (more >= values).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_chances_of_what_a_family_draws_are_uniform(name):
    family, z, y = sampled(name, 5000)
    chance = family.chance(z, y, fit(family, z, y), torch.from_numpy(np.random.default_rng(8).random(y.shape)))
    for target in (0, 1):
        assert stats.kstest(chance[0, :, target].numpy(), "uniform").statistic < 0.025


@pytest.mark.parametrize("name", ["gamma", "bernoulli-gamma"])
def test_weather_beyond_that_of_training_has_the_amounts_of_its_edge(name):
    family, z, y = sampled(name, 1000)
    numbers = fit(family, z, y)
    far = torch.tensor([[[30.0, 0.0, 1.0], [-30.0, 0.0, 1.0], [30.0, 0.0, 1.0]]]).double()
    amount = family._amount if name == "bernoulli-gamma" else family
    found, usual = amount.mean(far, numbers), amount.mean(z, numbers)
    torch.testing.assert_close(found[:, 0], usual.amax(1))
    torch.testing.assert_close(found[:, 1], usual.amin(1))
    highest = family.quantile(far, torch.ones(1, 3, 2).double(), numbers)
    assert torch.isfinite(highest).all()
    assert highest.max() < 20 * y.max()


def test_cells_that_are_always_dry_always_wet_constant_or_rarely_wet_are_no_trouble():
    z = predictors(400)
    usual = rain(z)[0, :, :1]
    rare = torch.zeros(400, 1).double()
    rare[:: 400 // (LEAST - 5)] = torch.linspace(1, 5, len(rare[:: 400 // (LEAST - 5)]), dtype=torch.float64)[:, None]
    y = torch.cat([usual, torch.zeros(400, 1), usual.clamp(min=0.2), torch.full((400, 1), 2.5), rare], dim=1).double()[
        None
    ]
    family = BernoulliGamma(0.1)
    numbers = fit(family, z, y)
    assert all(torch.isfinite(each).all() for each in numbers.values())
    np.testing.assert_array_equal(numbers["few"][0], [0, 1, 0, 0, 1])
    chances = torch.from_numpy(np.random.default_rng(9).random(y.shape))
    drawn = family.quantile(z, chances, numbers)[0]
    wet = (drawn > 0).double().mean(0)
    assert torch.isfinite(drawn).all()
    assert wet[1] < 0.01
    assert wet[2] > 0.99
    assert wet[3] > 0.99
    assert (drawn[:, 3] - 2.5).abs().quantile(0.95) < 0.2
    rainy = float((rare > 0).double().mean())
    assert abs(float(wet[4]) - rainy) < 0.03
    # The same mean on all days, that of its few wet ones.
    amount = family._amount.mean(z, numbers)[0, :, 4]
    torch.testing.assert_close(amount, torch.full_like(amount, 2.9), rtol=1e-3, atol=1e-3)
    # And the others are as they are without it.
    alone = fit(family, z, y[:, :, :1])
    torch.testing.assert_close(numbers["mean"][:, :1], alone["mean"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_missing_truth_is_as_if_the_day_had_not_been_and_does_not_reach_neighbours(name):
    family, z, y = sampled(name, 500)
    known = torch.ones_like(y)
    known[0, 100:200, 0] = 0
    holed = torch.where(known > 0, y, 0.0)
    numbers, whole = fit(family, z, holed, known), fit(family, z, y)
    kept = np.r_[0:100, 200:500]
    shorter = fit(family, z[:, kept], y[:, kept])
    # The power by which the dispersion changes is common to all cells.
    for key in ("mean", "odds", "deviation"):
        if key in numbers:
            torch.testing.assert_close(numbers[key][:, 0], shorter[key][:, 0], rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(numbers[key][:, 1], whole[key][:, 1], rtol=1e-6, atol=1e-6)
    alone = fit(family, z, holed[..., :1], known[..., :1])
    for key, expected in fit(family, z[:, kept], y[:, kept, :1]).items():
        torch.testing.assert_close(alone[key], expected, rtol=1e-6, atol=1e-6)


def test_the_family_that_suits_a_variable_is_taken():
    random = np.random.default_rng(0)
    warm, humid = torch.from_numpy(random.normal(283, 5, 1000)), torch.from_numpy(random.gamma(5, 0.001, 1000))
    wet = torch.from_numpy(np.where(random.random(1000) < 0.4, random.gamma(1, 5, 1000), 0.0))
    infinite, positive = (-np.inf, np.inf), (0.0, np.inf)
    assert suiting(warm, infinite, "K", 86400, None).name == "gaussian"
    assert suiting(humid, positive, "1", 86400, None).name == "gamma"
    found = suiting(wet, positive, "mm/day", 86400, None)
    assert (found.name, found.threshold) == ("bernoulli-gamma", pytest.approx(0.1))
    assert suiting(wet / 86400, positive, "kg m-2 s-1", 86400, None).threshold == pytest.approx(0.1 / 86400)
    assert suiting(wet / 1000, positive, "m", 21600, None).threshold == pytest.approx(0.1 / 1000 / 4)
    assert suiting(wet, positive, "mm/day", 86400, 1.0).threshold == 1.0
    with pytest.raises(InputError, match=r"no family 'weibull'. The names are gaussian, gamma, bernoulli-gamma"):
        named("weibull", FAMILIES, "mm/day", 86400, None)


def climate(times: int = 900, seed: int = 0) -> tuple[xr.Dataset, xr.Dataset]:
    """Daily weather whose fine fields are drawn from the model's own law, with neighbours that go together."""
    random = np.random.default_rng(seed)
    situation = random.normal(size=(times, 3))
    patterns = random.normal(size=(3, 6, 7))
    coarse = np.einsum("tk,kyx->tyx", situation, patterns)
    smooth = np.exp(-0.5 * (np.subtract.outer(np.arange(24), np.arange(24)) / 3.0) ** 2) + 1e-6 * np.eye(24)
    ranks = random.normal(size=(times, 24)) @ np.linalg.cholesky(smooth).T
    ranks = ranks.reshape(times, 4, 6)
    chance = stats.norm.cdf(ranks)
    mean = np.exp(1.0 + 0.4 * situation[:, :1, None] + np.linspace(-0.3, 0.3, 24).reshape(4, 6))
    wet = 1 / (1 + np.exp(0.4 - 1.0 * situation[:, 1:2, None] - np.linspace(-0.5, 0.5, 24).reshape(4, 6)))
    within = np.clip((chance - 1 + wet) / wet, 1e-9, 1 - 1e-9)
    pr = np.where(chance > 1 - wet, 0.1 + stats.gamma.ppf(within, 1.5, scale=mean / 1.5), 0.0)
    tas = 283 + 2 * situation[:, 2:, None] + ranks * np.linspace(0.5, 1.5, 24).reshape(4, 6)
    low = dataset(COARSE_LAT, COARSE_LON, t2m=283 + coarse, psl=101000 + 800 * coarse[:, ::-1], pr=np.abs(coarse))
    return low, dataset(FINE_LAT, FINE_LON, t2m=tas, pr=pr)


def model(**options):
    features = {"name": "components", "counts": (6,), "shapes": ("value",), "fields": ("t2m", "psl")}
    options = {"predictors": ("psl",), "frames": (0,), "penalties": (1.0,), "features": features, **options}
    return DOWNSCALERS["glm"](**options)


@pytest.fixture(scope="module")
def judged() -> tuple[xr.Dataset, xr.Dataset, dict[str, xr.Dataset], object]:
    """Coarse and fine fields of times that were not learnt from, ensembles for them, and the model."""
    coarse, fine = climate(1400)
    late = slice(900, 1400)
    models = {
        noise: model(noise=noise).fit(coarse.isel(time=slice(900)), fine) for noise in ("training", "independent")
    }
    found = {noise: each.predict(coarse.isel(time=late), members=20) for noise, each in models.items()}
    return coarse.isel(time=late), fine.isel(time=late), found, models["training"]


@pytest.mark.parametrize("noise", ["training", "independent"])
@pytest.mark.parametrize("variable", ["t2m", "pr"])
def test_the_truth_is_as_likely_as_a_member_in_every_rank(judged, variable, noise):
    _, fine, found, _ = judged
    ensemble, truth = found[noise][variable].values, fine[variable].values
    ties = np.random.default_rng(0)
    smaller, same = (ensemble < truth).sum(0), (ensemble == truth).sum(0)
    ranks = smaller + ties.integers(0, same + 1)
    frequency = np.bincount(ranks.ravel(), minlength=21) / ranks.size
    assert abs(frequency - 1 / 21).max() < 0.02
    assert abs(ranks.mean() / 20 - 0.5) < 0.02


def test_rainy_days_and_their_amounts_are_as_frequent_as_in_the_truth(judged):
    _, fine, found, _ = judged
    drawn, truth = found["training"].pr.values, fine.pr.values
    wet, wanted = (drawn > 0.1).mean((0, 1)), (truth > 0.1).mean(0)
    assert abs(wet - wanted).mean() < 0.025
    assert abs(wet.mean() - wanted.mean()) < 0.015
    # The largest amounts of 500 days differ from sample to sample.
    for part, tolerance in ((0.5, 0.05), (0.9, 0.1), (0.98, 0.15)):
        amounts = [np.quantile(each[each > 0.1], part) for each in (drawn, truth)]
        assert abs(amounts[0] / amounts[1] - 1) < tolerance


def correlations(values: np.ndarray) -> tuple[float, float]:
    """Of the departures of cells from their neighbours' common mean: next to each other, and far apart."""
    cells = values.reshape(-1, 24)
    matrix = np.corrcoef(cells.T)
    return float(np.diag(matrix, 1).mean()), float(np.diag(matrix, 15).mean())


@pytest.mark.parametrize("variable", ["t2m", "pr"])
def test_neighbours_go_together_in_a_member_as_they_do_in_nature_and_not_where_noise_is_independent(judged, variable):
    _, fine, found, _ = judged
    truth = correlations(fine[variable].values)
    member, white = (np.mean([correlations(each) for each in found[noise][variable].values], 0) for noise in found)
    assert abs(member[0] - truth[0]) < 0.06
    assert abs(member[1] - truth[1]) < 0.1
    assert white[0] < truth[0] - 0.2


def test_members_do_not_hang_on_how_a_record_is_cut(judged):
    coarse, _, found, fitted = judged
    for part in (slice(0, 7), slice(3, 150), slice(101, 103)):
        some = fitted.predict(coarse.isel(time=part), members=3)
        whole = found["training"].isel(member=slice(3), time=part)
        np.testing.assert_allclose(some.pr, whole.pr, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(some.t2m, whole.t2m, rtol=0, atol=1e-3)


def test_ensembles_are_sharper_than_climate_and_centred_on_the_mean(judged):
    coarse, fine, found, fitted = judged
    crps = scoringrules.crps_ensemble(fine.t2m.values, np.moveaxis(found["training"].t2m.values, 0, -1)).mean()
    climate_spread = float(abs(fine.t2m - fine.t2m.mean("time")).mean()) / 2
    assert crps < 0.75 * climate_spread
    mean = fitted._fields(fitted.read(coarse))[:, 0].numpy()
    assert abs(found["training"].t2m.mean("member") - mean).mean() < 0.3


def test_a_saved_ensemble_is_the_same_to_the_last_bit(judged, tmp_path):
    coarse, _, found, fitted = judged
    fitted.save(tmp_path)
    again = load(tmp_path).predict(coarse, members=20)
    xr.testing.assert_identical(again, found["training"])


def test_cells_with_too_few_wet_days_are_counted_and_rain_there_as_rarely():
    coarse, fine = climate(400)
    fine.pr[:, 0, :2] = 0.0
    fine.pr[::40, 0, 1] = 5.0
    fitted = model(variables=["pr"], predictors=("t2m", "psl")).fit(coarse, fine)
    assert fitted.info()["distribution"] == {"pr": "bernoulli-gamma"}
    assert any("2 cells have fewer than 20 values of pr to learn amounts from" in note for note in fitted._notes())
    found = fitted.predict(coarse, members=10).pr
    assert float((found[..., 0, 0] > 0).mean()) < 0.01
    assert abs(float((found[..., 0, 1] > 0).mean()) - 1 / 40) < 0.02
    assert found.notnull().all()


def test_penalties_are_chosen_for_each_part_and_are_stronger_where_there_is_nothing_to_learn():
    coarse, fine = climate(300)
    random = np.random.default_rng(1)
    fine["t2m"] = fine.t2m.copy(data=283 + random.normal(size=fine.t2m.shape).astype(np.float32))
    chosen = model(penalties=(1.0, 1000.0)).fit(coarse, fine).info()["penalty"]
    assert chosen[0] == [1000.0]
    assert len(chosen[1]) == 2
    assert chosen[1][0] == 1.0


def test_unknown_families_and_noises_are_refused_with_the_valid_ones():
    coarse, fine = climate(60)
    with pytest.raises(InputError, match="got noise: white; expected training or independent"):
        model(noise="white")
    with pytest.raises(InputError, match="no family 'weibull'"):
        model(family={"pr": "weibull"}).fit(coarse, fine)
    fitted = model(family={"pr": "gaussian"}, variables=["pr"], predictors=("t2m", "psl")).fit(coarse, fine)
    assert fitted.info()["distribution"] == {"pr": "gaussian"}
    assert float(fitted.predict(coarse, members=4).pr.min()) == 0.0  # and still no negative rain


def times(start: str, count: int) -> xr.DataArray:
    return xr.DataArray(np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(1, "D"), dims="time")


def test_ranks_are_uniform_in_every_cell_and_of_the_season():
    chances = np.random.default_rng(0).random((730, 3)).astype(np.float32) ** 2
    ranks = Ranks.of(chances, times("2001-01-01", 730), length=4, step_seconds=86400, seed=0)
    np.testing.assert_array_equal(np.sort(ranks.levels[:, 1]), ((np.arange(730) + 0.5) / 730 * 65536).astype(np.uint16))
    np.testing.assert_array_equal(ranks.levels.argsort(0), chances.argsort(0))
    july = times("2050-07-10", 12)
    chosen = ranks.days(july, member=0, seed=0)
    assert (abs(chosen % 365 - 191) < 45 + 12).all()
    # Four in a row follow each other, in the pieces of the calendar.
    piece = (july.values.astype("datetime64[D]").astype(int)) // 4
    for number in np.unique(piece):
        inside = chosen[piece == number]
        np.testing.assert_array_equal(np.diff(inside), 1)
    others = [tuple(ranks.days(july, member=member, seed=seed)) for member, seed in ((0, 0), (1, 0), (0, 1))]
    assert len(set(others)) == 3


def test_missing_truth_gets_ranks_by_chance_and_pieces_do_not_run_across_gaps():
    chances = np.random.default_rng(0).random((100, 2)).astype(np.float32)
    chances[10:20, 0] = np.nan
    time = xr.concat([times("2001-01-01", 50), times("2001-06-01", 50)], "time")
    ranks = Ranks.of(chances, time, length=4, step_seconds=86400, seed=0)
    assert len(np.unique(ranks.levels[:, 0])) == 100
    np.testing.assert_array_equal(ranks.follows[[0, 48, 49, 50, 99]], [49, 1, 0, 49, 0])
    chosen = ranks.days(times("2003-02-17", 40), member=0, seed=0)
    assert (chosen < 50).all()
