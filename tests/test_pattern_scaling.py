"""Pattern scaling recovers the response of a scenario, and no score is read without the chance in its truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data import scenarios
from finegrid.data.coarsen import coarsen
from finegrid.data.members import member_mean
from finegrid.data.series import series_of, smoothed, with_series
from finegrid.downscalers import PatternScaling, load, method
from finegrid.downscalers.patterns import When, regress
from finegrid.evaluation import evaluate
from finegrid.evaluation.alignment import align
from finegrid.evaluation.floor import floor_of
from finegrid.evaluation.metrics import Reference
from finegrid.pipeline.material import in_period
from finegrid.training import Settings

SEASONS = list(scenarios.SEASONS)


@pytest.fixture(scope="module")
def ensemble() -> scenarios.Ensemble:
    """Fifty members of 8 x 8 cells over sixty years."""
    return scenarios.generate(scenarios.Scenario(years=60), members=50, blocks=(2, 2), seed=3)


@pytest.fixture(scope="module")
def quiet() -> xr.Dataset:
    """The coarse fields of the same scenario without variability."""
    scenario = scenarios.Scenario(years=60, coarse_members=10**8)
    return scenarios.generate(scenario, members=1, blocks=(2, 2), seed=3).coarse


@pytest.fixture(scope="module")
def fitted(ensemble) -> PatternScaling:
    return PatternScaling(driver="emissions").fit(ensemble.coarse, ensemble.fine)


def relative_error(found: xr.Dataset, right: xr.Dataset, name: str) -> float:
    return float(np.sqrt(((found[name] - right[name]) ** 2).sum() / (right[name] ** 2).sum()))


# The test bed


def test_the_globe_warms_by_the_warming_and_every_member_by_its_pattern(ensemble, quiet):
    area = np.cos(np.deg2rad(ensemble.coarse.lat))
    mean = quiet.tas.weighted(area).mean(("lat", "lon"))
    change = mean.groupby("time.month") - mean[:4].groupby("time.month").mean()
    # The cosine of the middle is not quite the area of a cell of 5 degrees, a thousandth at most.
    np.testing.assert_allclose(change, ensemble.warming, atol=4e-3)
    change = ensemble.forced.pr.values[-4:] - ensemble.forced.pr.values[:4]
    np.testing.assert_allclose(change, 4.0 * ensemble.weights.pr.values, atol=1e-4)


def test_coarse_weights_are_the_area_means_of_fine_ones(ensemble, quiet):
    inner = quiet.pr.sel(lat=slice(40, 50), lon=slice(0, 10))
    change = inner.isel(time=-1).values - inner.isel(time=3).values
    weights = ensemble.weights[["pr"]].isel(season=3, drop=True).expand_dims(time=[np.datetime64("2000-01-01", "ns")])
    np.testing.assert_allclose(change, 4.0 * coarsen(weights, 4).pr[0].values, atol=1e-3)


@pytest.mark.parametrize(("name", "sigma"), [("tas", 0.8), ("pr", 0.4)])
def test_members_vary_by_sigma_around_the_forced_response_and_neighbours_together(ensemble, name, sigma):
    noise = (ensemble.fine[name] - ensemble.forced[name]).values
    assert noise.std() == pytest.approx(sigma, rel=0.03)
    beside = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    before = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert beside > 0.5
    assert abs(before) < 0.05


def test_a_scenario_is_the_same_from_the_same_seed_and_another_from_another():
    small = {"members": 2, "blocks": (1, 1)}
    one, same, other = (scenarios.generate(scenarios.Scenario(years=3), seed=seed, **small) for seed in (0, 0, 1))
    xr.testing.assert_identical(one.fine, same.fine)
    assert not one.fine.equals(other.fine)
    with pytest.raises(InputError, match=r"got members=0.*expected at least 1"):
        scenarios.generate(members=0)
    with pytest.raises(InputError, match=r"got blocks=\(20, 2\); expected from"):
        scenarios.generate(blocks=(20, 2))


# The regression


def test_weights_are_recovered_within_five_percent_from_fifty_members(ensemble, fitted):
    found = fitted.patterns()
    assert list(found.season.values) == SEASONS
    assert relative_error(found, ensemble.weights, "tas") < 0.05
    assert relative_error(found, ensemble.weights, "pr") < 0.05


def test_weights_get_better_with_members_as_the_square_root_of_their_number(ensemble):
    errors = []
    for count in (3, 48):
        part = ensemble.fine[["pr"]].isel(member=slice(count))
        model = PatternScaling(driver="emissions").fit(ensemble.coarse, part)
        errors.append(relative_error(model.patterns(), ensemble.weights, "pr"))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.35)


def test_slopes_and_offsets_are_those_of_least_squares_with_an_offset_for_each_month():
    random = np.random.default_rng(0)
    years, cells = 15, 5
    month, year = np.tile(np.arange(12), years), np.repeat(np.arange(years), 12)
    series = random.normal(size=12 * years) + 0.1 * year
    values = random.normal(size=(12 * years, cells)).astype(np.float32) + series[:, None] + month[:, None]
    values[random.random(values.shape) < 0.2] = np.nan
    when = When(series, month, year, "season")
    found = regress(values, when)
    season = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0])
    design = np.concatenate([np.eye(12)[month], np.eye(4)[season[month]] * series[:, None]], axis=1)
    for cell in range(cells):
        known = np.isfinite(values[:, cell])
        expected = np.linalg.lstsq(design[known], values[known, cell].astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(found.offsets[:, cell], expected[:12], rtol=1e-9)
        np.testing.assert_allclose(found.weights[:, cell], expected[12:], rtol=1e-9)


def test_the_slope_and_error_of_a_hand_computed_case():
    # d = 0, 1, 2, y = 1, 2, 5: slope 2, offset 2/3, residuals 1/3, -2/3, 1/3: squares 2/3, one degree of freedom.
    found = regress(
        np.array([[1.0], [2.0], [5.0]], np.float32), When(np.arange(3.0), np.zeros(3, int), np.arange(3), "all")
    )
    assert found.weights[0, 0] == pytest.approx(2.0)
    assert found.offsets[0, 0] == pytest.approx(2 / 3)
    assert found.errors[0, 0] == pytest.approx(np.sqrt(2 / 3 / 1 / 2))
    assert found.freedom[0] == 1


def test_standard_errors_allow_for_what_times_of_one_year_share():
    random = np.random.default_rng(0)
    years, steps, cells = 40, 30, 400
    year, series = np.repeat(np.arange(years), steps), np.repeat(random.normal(size=years), steps)
    shared = np.repeat(random.normal(size=(years, cells)), steps, axis=0)
    values = (shared + 0.2 * random.normal(size=(years * steps, cells))).astype(np.float32)
    found = regress(values, When(series, np.zeros(len(year), int), year, "all"))
    # Slopes are zero in truth: they scatter by their standard error, and one in twenty is called significant.
    assert found.weights.std() == pytest.approx(float(found.errors.mean()), rel=0.15)
    assert 0.02 < found.significant.mean() < 0.09


def test_a_cell_without_any_change_in_the_predictor_of_a_season_has_no_slope_and_no_significance():
    month, series = np.array([0, 0, 0, 6, 6, 6]), np.array([1.0, 1.0, 1.0, 0.0, 1.0, 2.0])
    values = np.arange(6, dtype=np.float32)[:, None]
    found = regress(values, When(series, month, np.arange(6), "season"))
    np.testing.assert_allclose(found.weights[:, 0], [0, 0, 1, 0])
    assert np.isinf(found.errors[0, 0])
    assert not found.significant[0, 0]
    # A month without data has the offset of its season, or of all.
    assert found.offsets[1, 0] == found.offsets[0, 0] == 1.0


def test_relative_terms_are_a_part_of_the_mean_and_never_below_zero(ensemble):
    fine = member_mean(ensemble.fine)[["pr"]].isel(time=slice(None, None))
    rain = fine.copy(deep=True)
    warming = ensemble.warming.values[:, None, None]
    base = 1.0 + np.arange(64).reshape(8, 8) / 10
    rain["pr"] = (("time", "y", "x"), (base * (1 - 0.2 * warming)).astype(np.float32), fine.pr.attrs)
    # The sixtieth year has 4 K: 0.2 of the rain is left; at 8 K there is none.
    model = PatternScaling(variables=["pr"], predictor="warming", relative=["pr"]).fit(ensemble.coarse, rain)
    np.testing.assert_allclose(model.predict(ensemble.coarse).pr[0], rain.pr, atol=1e-4)
    share = model.patterns().pr
    np.testing.assert_allclose(share, float(share.mean()), rtol=1e-4)
    hot = ensemble.coarse.assign(warming=ensemble.coarse.warming * 2)
    found = model.predict(hot).pr
    assert found.min() == 0.0


def test_the_driver_takes_the_weather_out_of_the_predictor(ensemble, fitted):
    plain = PatternScaling(years=0).fit(ensemble.coarse, ensemble.fine)
    errors = [abs(each.predict(ensemble.coarse).tas[0] - ensemble.forced.tas).mean() for each in (fitted, plain)]
    assert errors[0] < 0.5 * errors[1]
    # Only the series is looked at: other weather in the coarse fields changes nothing.
    other = ensemble.coarse.assign(tas=(ensemble.coarse.tas + 1).assign_attrs(ensemble.coarse.tas.attrs))
    xr.testing.assert_identical(fitted.predict(other), fitted.predict(ensemble.coarse))


def test_averaging_over_years_mends_the_slope_that_weather_weakened():
    truth = scenarios.Scenario(years=80, coarse_members=1)
    found = scenarios.generate(truth, members=20, blocks=(1, 1), seed=1)
    means = [
        float(PatternScaling(years=years).fit(found.coarse, found.fine).patterns().tas.mean()) for years in (0, 21)
    ]
    right = float(found.weights.tas.mean())
    assert abs(means[1] - right) < abs(means[0] - right)
    assert means[0] < right


# Predictors


def test_the_predictor_is_the_area_mean_of_the_whole_file_and_not_of_the_fine_domain(ensemble):
    found = PatternScaling(years=0).fit(ensemble.coarse, ensemble.fine)
    inner = ensemble.coarse.sel(lat=slice(40, 50), lon=slice(0, 10))
    south = ensemble.coarse.tas.where(ensemble.coarse.lat > 0, ensemble.coarse.tas + 1)
    moved = ensemble.coarse.assign(tas=south.assign_attrs(ensemble.coarse.tas.attrs))
    change = (found.predict(moved) - found.predict(ensemble.coarse)).tas[0]
    expected = 0.5 * found.patterns().tas.isel(season=0)
    np.testing.assert_allclose(change[0], expected, rtol=1e-3)
    with pytest.raises(InputError, match="the same at all training times"):
        PatternScaling(predictor="constant").fit(inner.assign(constant=("time", np.ones(240))), ensemble.fine)


def test_area_means_weigh_by_the_area_and_leave_missing_cells_out(toy_coarse):
    gappy = toy_coarse.copy(deep=True)
    gappy.t2m[3, 0] = np.nan
    found = series_of(gappy, "tas")
    edges = np.sin(np.deg2rad(np.arange(45, 50)))
    area = np.repeat(np.diff(edges)[:, None], 6, axis=1)
    assert float(found[0]) == pytest.approx(np.average(toy_coarse.t2m[0].values.astype(float), weights=area), rel=1e-9)
    rest = np.average(toy_coarse.t2m[3, 1:].values.astype(float), weights=area[1:])
    assert float(found[3]) == pytest.approx(rest, rel=1e-9)


def test_years_are_averaged_over_what_they_have():
    time = xr.date_range("2000-01-01", periods=36, freq="MS")
    series = xr.DataArray(np.repeat([1.0, 2.0, 6.0], 12), coords={"time": time}, dims="time")
    series[0] = np.nan
    np.testing.assert_array_equal(smoothed(series, 1), np.repeat([1.0, 2.0, 6.0], 12))
    np.testing.assert_array_equal(smoothed(series, 3), np.repeat([1.5, 3.0, 4.0], 12))
    xr.testing.assert_identical(smoothed(series, 0), series)
    with pytest.raises(InputError, match=r"got years=2; expected 0 or an odd number"):
        smoothed(series, 2)


def test_a_file_keeps_its_series_when_a_period_is_taken_from_it(ensemble):
    part = in_period(ensemble.coarse, "1960/1969")
    np.testing.assert_array_equal(part.emissions, ensemble.coarse.emissions.sel(time=slice("1960", "1969")))
    assert with_series(part, part.drop_vars(["emissions", "warming"])) is part


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"predictor": "co2"}, r"no variable 'co2'.*series over time alone are warming, emissions"),
        ({"by": "week"}, r"got by='week'; expected one of all, season, month"),
        ({"relative": ["rain"]}, r"got relative=\['rain', ...\]; expected some of the predicted variables, "),
        ({"years": 4}, r"got years=4; expected 0 or an odd number"),
        ({"driver": "nothing"}, r"no variable 'nothing'"),
    ],
)
def test_what_cannot_be_is_answered_with_what_can(ensemble, options, words):
    with pytest.raises(InputError, match=words):
        PatternScaling(**options).fit(ensemble.coarse, ensemble.fine)


def test_a_file_without_temperature_is_told_to_name_a_predictor(toy_coarse, toy_fine):
    with pytest.raises(InputError, match=r"follows the mean temperature .* name another field or a series"):
        PatternScaling().fit(toy_coarse[["pr"]], toy_fine[["pr"]])


def test_a_month_that_was_not_in_training_is_refused(ensemble):
    winter = ensemble.coarse.isel(time=slice(0, None, 4))
    model = PatternScaling().fit(winter, ensemble.fine)
    with pytest.raises(
        InputError, match=r"has times in month 4, 7, 10, of which nothing was learnt \(training had 1\)"
    ):
        model.predict(ensemble.coarse)


def test_a_network_cannot_stand_on_pattern_scaling(ensemble):
    network = method("resnet-on-pattern-scaling", settings=Settings(steps=1, budget=None))
    with pytest.raises(InputError, match=r"needs the whole coarse file.*set downscaler.mean to ridge or mean-map"):
        network.fit(ensemble.coarse, ensemble.fine)


def test_members_are_averaged_on_both_sides_and_in_the_coarse_file_by_pattern_scaling_alone(ensemble, fitted):
    runs = xr.concat([ensemble.coarse, ensemble.coarse], "realization")
    runs = runs.assign({name: ensemble.coarse[name] for name in ("emissions", "warming")})
    again = PatternScaling(driver="emissions").fit(runs, ensemble.fine)
    xr.testing.assert_identical(again.patterns(), fitted.patterns())
    alone = PatternScaling(driver="emissions").fit(ensemble.coarse, member_mean(ensemble.fine).rename(y="lat", x="lon"))
    xr.testing.assert_allclose(alone.patterns(), fitted.patterns())
    xr.testing.assert_identical(again.predict(runs), fitted.predict(ensemble.coarse))
    with pytest.raises(InputError, match=r"got 2 members in .*; expected one coarse run"):
        method("ridge").fit(runs, ensemble.fine)


def test_a_saved_model_has_its_predictor_and_tells_what_it_learnt(fitted, ensemble, tmp_path):
    fitted.save(tmp_path)
    again = load(tmp_path)
    xr.testing.assert_identical(again.predict(ensemble.coarse), fitted.predict(ensemble.coarse))
    xr.testing.assert_identical(again.patterns(), fitted.patterns())
    info = json.loads(json.dumps(again.info()))
    assert (info["predictor"], info["driver"]) == ("tas", "emissions")
    assert info["patterns"]["tas"]["DJF"]["significant"] == pytest.approx(1.0)
    assert info["patterns"]["tas"]["DJF"]["mean"] == pytest.approx(float(ensemble.weights.tas[0].mean()), rel=0.05)


# The floor


def floors(ensemble, predictions, fine=None):
    fine = ensemble.fine if fine is None else fine
    (case,) = align(predictions, fine, None, variables=["tas"])
    return floor_of(case, Reference.of(case.truth))


@pytest.fixture(scope="module")
def late(ensemble) -> scenarios.Ensemble:
    return scenarios.Ensemble(
        ensemble.coarse.isel(time=slice(-40, None)),
        ensemble.fine.isel(time=slice(-40, None)),
        ensemble.forced.isel(time=slice(-40, None)),
        ensemble.weights,
        ensemble.warming[-40:],
    )


def test_the_floor_is_sigma_over_the_root_of_the_members_within_a_tenth(late):
    found = floors(late, {"perfect": late.forced})
    assert found.members == 50
    # Variances within a tenth: roots within a twentieth.
    assert found.floors["rmse"] ** 2 == pytest.approx(0.8**2 / 50, rel=0.1)
    for each in found.subsets:
        assert each.floor**2 == pytest.approx(0.8**2 / each.members, rel=0.1)
    assert [each.members for each in found.subsets] == [3, 5, 10, 20, 50]
    assert [each.groups for each in found.subsets] == [16, 10, 5, 2, 1]


def test_a_perfect_prediction_of_the_response_scores_the_floor_with_any_number_of_members(late):
    found = floors(late, {"perfect": late.forced})
    for each in found.subsets:
        assert each.error("perfect") == pytest.approx(each.floor, rel=0.15)
    # Means over many cells or times are few independent numbers: twenty-five draws of two members.
    draws = [late.fine.isel(member=[2 * each, 2 * each + 1]) for each in range(25)]
    many = [floors(late, {"perfect": late.forced}, each) for each in draws]
    for kind in ("spatial", "overall"):
        squares = np.mean(
            [[getattr(each, kind)["perfect"] ** 2, getattr(each, f"{kind}_floor") ** 2] for each in many], 0
        )
        assert squares[0] == pytest.approx(squares[1], rel=0.3)


def test_floors_and_normalised_errors_equal_their_definitions(late):
    other = late.forced + 0.3 * np.cos(late.forced.lat) + 0.1 * np.sin(np.arange(40))[:, None, None]
    other.tas.attrs = late.forced.tas.attrs
    found = floors(late, {"other": other})
    truth, prediction = late.fine.tas.values.astype(float), other.tas.transpose("time", "lat", "lon").values
    edges = np.deg2rad(late.fine.lat.values[:, None] + np.array([-0.625, 0.625]))
    area = np.repeat((np.sin(edges[:, 1]) - np.sin(edges[:, 0]))[:, None], 8, axis=1)
    mean, error = truth.mean(0), prediction - truth.mean(0)
    average = lambda each: (each * area).sum((-2, -1)) / area.sum()  # noqa: E731
    assert found.floors["rmse"] == pytest.approx(np.sqrt(average(truth.var(0, ddof=1)).mean() / 50), rel=1e-5)
    assert found.floors["bias"] == pytest.approx(average(truth).mean(1).std(ddof=1) / np.sqrt(50), rel=1e-4)
    scale = np.sqrt(average((mean - average(mean).mean()) ** 2).mean())
    assert found.scale == pytest.approx(scale, rel=1e-5)
    assert found.spatial["other"] == pytest.approx(np.sqrt(average(error.mean(0) ** 2)) / scale, rel=1e-4)
    assert found.overall["other"] == pytest.approx(np.sqrt((average(error) ** 2).mean()) / scale, rel=1e-4)
    spread = average(truth.mean(1).var(0, ddof=1)) / 50
    assert found.spatial_floor == pytest.approx(np.sqrt(spread) / scale, rel=1e-4)
    groups = truth[:48].reshape(16, 3, *truth.shape[1:]).mean(1)
    expected = np.sqrt(average((prediction - groups) ** 2).mean(1))
    np.testing.assert_allclose(found.subsets[0].errors["other"], expected, rtol=1e-5)


def test_cells_in_which_a_member_is_missing_do_not_count(late):
    holed = late.fine.copy(deep=True)
    holed.tas[7, 3:9, 2, 2] = np.nan
    others = late.fine.copy(deep=True)
    others.tas[:, 3:9, 2, 2] = np.nan
    predictions = {"perfect": late.forced}
    assert floors(late, predictions, holed).to_dict() == floors(late, predictions, others).to_dict()
    assert np.isfinite(floors(late, predictions, holed).floors["rmse"])
    scored = [evaluate(late.forced, each, variables=["tas"]).of("tas", "rmse") for each in (holed, others)]
    assert scored[0]["prediction"].value == scored[1]["prediction"].value


def test_scores_are_against_the_mean_of_the_members_in_any_words(late):
    mean = late.fine.mean("member", keep_attrs=True)
    plain = evaluate(late.forced, mean, variables=["tas"])
    named = evaluate(late.forced, late.fine.rename(member="realization"), variables=["tas"])
    assert plain.of("tas", "rmse")["prediction"].value == pytest.approx(
        named.of("tas", "rmse")["prediction"].value, rel=1e-4
    )
    assert plain.floors == ()
    assert "floors" not in plain.to_dict()
    assert "internal variability" not in plain.table() + " ".join(plain.notes)
    assert evaluate(late.forced, late.fine.isel(member=[0])).floors == ()


def test_a_difference_below_the_floor_is_said_to_be_within_internal_variability(late, tmp_path):
    worse = late.forced.assign(tas=(late.forced.tas + 0.08).assign_attrs(late.forced.tas.attrs))
    far = late.forced.assign(tas=(late.forced.tas + 0.8).assign_attrs(late.forced.tas.attrs))
    close = evaluate(worse, late.fine, baselines={"perfect": late.forced}, variables=["tas"])
    assert "cannot be told apart: their difference is within internal variability" in close.verdict
    assert close.of("tas", "rmse")["prediction"].tied
    assert close.of("tas", "rmse")["prediction"].floor == pytest.approx(0.8 / np.sqrt(50), rel=0.05)
    clear = evaluate(far, late.fine, baselines={"perfect": late.forced}, variables=["tas"])
    assert "the simple baseline perfect is better" in clear.verdict
    assert not clear.of("tas", "rmse")["prediction"].tied
    plain = json.loads(json.dumps(clear.to_dict(), allow_nan=False))
    assert plain["floors"][0]["by_members"][0]["members"] == 3
    assert "internal variability (M = 50)" in clear.table()
    assert any("is the mean of 50 members" in each for each in clear.notes)
    page = clear.report(tmp_path / "report.html").read_text()
    assert "internal variability (M = 50)" in page
    assert "change places" in page


@pytest.mark.slow
def test_rankings_of_pattern_scaling_and_a_network_turn_only_where_the_floor_is_larger_than_their_difference():
    bed = scenarios.generate(scenarios.Scenario(years=80).curved(pr=0.015), members=50, blocks=(2, 3), seed=2)
    learning, test = slice(0, 260), slice(260, 320)
    coarse, fine = bed.coarse.isel(time=learning), bed.fine.isel(time=learning)
    settings = Settings(steps=100, budget=None, seed=0)
    network = method("resnet-on-ridge+none", backbone={"width": 8, "depth": 1}, settings=settings)
    models = {"pattern": PatternScaling(driver="emissions"), "network": network}
    later = bed.coarse.isel(time=test)
    predictions = {name: each.fit(coarse, fine).predict(later) for name, each in models.items()}
    turned = compared = 0
    for year in range(15):
        times = slice(4 * year, 4 * year + 4)
        parts = {name: each.isel(time=times) for name, each in predictions.items()}
        truth = bed.forced.isel(time=test).isel(time=times)
        for name in ("tas", "pr"):
            (case,) = align(parts, bed.fine.isel(time=test).isel(time=times), None, variables=[name])
            found = floor_of(case, Reference.of(case.truth))
            right = {key: float(((each[name][0] - truth[name]) ** 2).mean()) for key, each in parts.items()}
            for each in found.subsets:
                difference = each.errors["pattern"] - each.errors["network"]
                flips = np.sign(difference) != np.sign(right["pattern"] - right["network"])
                turned, compared = turned + int(flips.sum()), compared + each.groups
                assert (np.abs(difference[flips]) < each.floor).all()
    assert 0 < turned < 0.5 * compared
