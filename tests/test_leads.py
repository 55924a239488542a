"""Verification by lead time: closed forms of a toy of weather, slow sums by hand, and what cannot be compared."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scores.categorical import BasicContingencyManager

from finegrid.conventions import InputError
from finegrid.data import toy_weather
from finegrid.data.synthetic import gaussian_fields
from finegrid.data.toy_weather import System, Toy
from finegrid.evaluation.leads import LEAD_METRICS, verify
from finegrid.evaluation.leads.climate import Climate
from finegrid.evaluation.leads.figures import by_lead
from finegrid.evaluation.leads.scene import quantile
from finegrid.grids import Grid

LAT, LON = np.array([50.0, 51.0, 52.0]), np.array([5.0, 6.0, 7.0, 8.0])
UNITS = {"lat": {"units": "degrees_north"}, "lon": {"units": "degrees_east"}}


def truth_of(values, start="2001-01-01", units="K") -> xr.Dataset:
    """A truth (time, lat, lon), daily; several variables by name."""
    fields = values if isinstance(values, dict) else {"tas": values}
    times = pd.date_range(start, periods=len(next(iter(fields.values()))), freq="D")
    dims = ("time", "lat", "lon")
    return on_cells({name: (dims, each, {"units": units}) for name, each in fields.items()}, time=times)


def forecast_of(values, start="2001-01-01", units="K") -> xr.Dataset:
    """Forecasts (init, lead, ..., lat, lon) from every day, to leads of 1, 2, ... days."""
    fields = values if isinstance(values, dict) else {"tas": values}
    first = next(iter(fields.values()))
    dims = ("init", "lead", "lat", "lon") if first.ndim == 4 else ("init", "lead", "member", "lat", "lon")
    inits = pd.date_range(start, periods=len(first), freq="D")
    lead = (1 + np.arange(first.shape[1])) * np.timedelta64(24 * 3600 * 10**9, "ns")
    return on_cells({name: (dims, each, {"units": units}) for name, each in fields.items()}, init=inits, lead=lead)


def on_cells(fields, **coords) -> xr.Dataset:
    rows, columns = next(iter(fields.values()))[1].shape[-2:]
    axes = {key: (key, values[:size], UNITS[key]) for key, values, size in (("lat", LAT, rows), ("lon", LON, columns))}
    return xr.Dataset(fields, coords={**coords, **axes})


def weather(times: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(280, 3, (times, 3, 4))


@pytest.fixture(scope="module")
def season():
    return toy_weather.generate(seed=1)


@pytest.fixture(scope="module")
def found(season):
    truths = {"analysis": season.analysis, "observations": season.observations}
    sharp = season.forecasts["sharp"]
    climate = xr.full_like(sharp, 285.0)
    return verify({**season.forecasts, "climatology": climate}, truths, climatology=season.record)


@pytest.mark.parametrize(("system", "power"), [("sharp", 2), ("mean", 1)])
def test_errors_of_the_toy_are_those_of_its_closed_form(season, system, power):
    error = ((season.forecasts[system] - at_leads(season.truth, 730, 240, 10)) ** 2).tas.mean(("init", "lat", "lon"))
    kept = toy_weather.Toy().persistence ** (2 * np.arange(1, 11))
    expected = 4.0 * (power * (1 - kept) + 0.1**2 * kept)
    np.testing.assert_allclose(error, expected, rtol=0.12)


def at_leads(truth: xr.Dataset, first: int, inits: int, leads: int) -> xr.Dataset:
    parts = [
        truth.isel(time=slice(first + lead, first + lead + inits)).drop_vars("time") for lead in range(1, leads + 1)
    ]
    return xr.concat(parts, "lead").rename(time="init").transpose("init", "lead", "lat", "lon")


@pytest.mark.parametrize("truth", ["analysis", "observations"])
def test_a_blurred_system_lacks_activity_and_a_sharp_one_does_not(found, truth):
    ratios = {
        name: np.array([each.value for each in scores])
        for name, scores in found.of("tas", "activity-ratio", truth).items()
    }
    assert ratios["blurred"].max() < 0.9
    assert ratios["sharp"].min() > 0.9
    assert not any(score.best or score.tied for score in found.of("tas", "activity-ratio", truth)["blurred"])


def test_the_activity_that_is_lost_is_that_of_the_filter(found):
    wide = gaussian_fields((32, 64), slope=Toy().slope, seed=3, times=400)
    spread = [
        each[:, :16, :32].var(axis=(1, 2)).mean() for each in (gaussian_filter(wide, (0, 1, 1), mode="wrap"), wide)
    ]
    expected = np.sqrt(spread[0] / spread[1])
    measured = [each.value for each in found.of("tas", "activity-ratio")["blurred"]]
    assert np.mean(measured) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("truth", ["analysis", "observations"])
def test_a_planted_drift_of_the_bias_is_found_within_a_tenth(found, truth):
    drifts = {each.model: each for each in found.drifts if each.truth == truth}
    planted = toy_weather.SYSTEMS["drifting"].drift
    assert drifts["drifting"].slope == pytest.approx(planted, rel=0.1)
    assert drifts["drifting"].low < planted < drifts["drifting"].high
    assert drifts["drifting"].drifts and not any(drifts[name].drifts for name in ("sharp", "blurred", "mean"))


def test_skill_over_the_climate_ends_where_the_closed_form_says(found):
    """2 (1 - r^2l) is less than the variance of the climate, 1, as long as r^2l > 1/2: for r = 0.8 at one day only."""
    horizons = {(each.model, each.truth): each.lead for each in found.horizons}
    assert horizons["sharp", "analysis"] == horizons["sharp", "observations"] == 2
    # What is left of the mean's skill is r^2l, 4 % at 7 days and 1 % at 10.
    assert not horizons["mean", "analysis"] < 8
    assert {each.baseline for each in found.horizons} == {"climatology"}


def test_the_best_system_is_the_same_against_the_analysis_and_against_observations(found):
    best = [
        {score.model for scores in found.of("tas", "rmse", truth).values() for score in scores if score.best}
        for truth in found.truths
    ]
    assert best == [{"mean"}, {"mean"}]


@pytest.mark.slow
def test_equally_good_systems_are_tied_in_95_of_100_cases_and_others_are_told_apart():
    generator, inits = np.random.default_rng(5), 80

    def tied(cases: int, worse: float) -> float:
        names = [f"v{number}" for number in range(cases)]
        truth = {name: generator.normal(size=(inits + 1, 2, 2)) for name in names}
        shared = {name: truth[name][1:, None] + 0.7 * generator.normal(size=(inits, 1, 2, 2)) for name in names}
        systems = {
            system: {name: each + factor * generator.normal(size=each.shape) for name, each in shared.items()}
            for system, factor in (("one", 1), ("other", 1 + worse))
        }
        given = {name: forecast_of(fields) for name, fields in systems.items()}
        result = verify(given, {"truth": truth_of(truth)}, metrics=("rmse",))
        assert len(result.differences) == cases
        return float(np.mean([each.tied for each in result.differences]))

    assert 0.91 < tied(200, 0.0) < 0.985
    assert tied(20, 0.6) < 0.1


def by_hand(forecast: np.ndarray, truth: np.ndarray, climate: np.ndarray, area: np.ndarray, level: float):
    """All scores at one lead by loops over initial times and cells; forecast (init, member, y, x)."""
    squares, errors, pinball, weight, correlations, variances = 0.0, 0.0, 0.0, 0.0, [], ([], [])
    for members, right, usual in zip(forecast, truth, climate, strict=True):
        products, own, theirs, total = 0.0, 0.0, 0.0, 0.0
        anomalies = ([], [], [])
        for y, x in np.ndindex(right.shape):
            if np.isnan(right[y, x]):
                continue
            mean, w = members[:, y, x].mean(), area[y, x]
            q = np.quantile(members[:, y, x], level)
            squares, errors, weight, total = (
                squares + w * (mean - right[y, x]) ** 2,
                errors + w * (mean - right[y, x]),
                weight + w,
                total + w,
            )
            pinball += w * (right[y, x] - q) * (level - (right[y, x] < q))
            f, o = mean - usual[y, x], right[y, x] - usual[y, x]
            products, own, theirs = products + w * f * o, own + w * f * f, theirs + w * o * o
            for kept, each in zip(anomalies, (members[:, y, x] - usual[y, x], o, w), strict=True):
                kept.append(each)
        if not total:
            continue
        correlations.append(products / np.sqrt(own * theirs))
        weights = np.array(anomalies[2])
        for kept, values in zip(variances, (np.array(anomalies[0]).T, np.array(anomalies[1])[None]), strict=True):
            centred = values - (values * weights).sum(axis=1, keepdims=True) / total
            kept.append((centred**2 * weights).sum(axis=1).mean() / total)
    activity = np.sqrt(np.mean(variances[0]))
    return {
        "rmse": np.sqrt(squares / weight),
        "bias": errors / weight,
        "acc": np.mean(correlations),
        "activity": activity,
        "activity-ratio": activity / np.sqrt(np.mean(variances[1])),
        "quantile": pinball / weight,
    }


def test_scores_are_those_of_loops_over_times_and_cells():
    generator = np.random.default_rng(7)
    values = weather(30)
    values[3, 1, 2] = values[9] = np.nan
    record = weather(60, seed=4)
    forecast = generator.normal(280, 3, (25, 2, 3, 3, 4))  # init, lead, member, y, x
    truth, climatology = truth_of(values), truth_of(record, start="2000-12-15")
    result = verify({"one": forecast_of(forecast)}, {"truth": truth}, climatology=climatology, level=0.8)
    area = Grid.of(truth.rename(lat="y", lon="x")).area
    usual = climatology.tas.groupby("time.month").mean()
    for lead in (1, 2):
        times = truth.time[lead : lead + 25]
        climate = usual.sel(month=times.dt.month).values
        expected = by_hand(forecast[:, lead - 1], values[lead : lead + 25], climate, area, 0.8)
        for name, value in expected.items():
            assert result.of("tas", name)["one"][lead - 1].value == pytest.approx(value, rel=1e-5, abs=1e-6), (
                name
            )  # float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_index_of_extremes_is_that_of_the_package_scores():
    values = weather(200)
    forecast = values[1:, None] + np.random.default_rng(2).normal(0, 2, (199, 1, 3, 4))
    flat = {"lat": np.array([-0.5, 0.5])}  # rows of the same area
    truth, system = (each.isel(lat=slice(2)).assign_coords(flat) for each in (truth_of(values), forecast_of(forecast)))
    result = verify({"one": system}, {"truth": truth}, thresholds={"tas": 283.0})
    said, seen = forecast[:, 0, :2] > 283, values[1:, :2] > 283
    counts = {
        "tp_count": float((said & seen).sum()),
        "tn_count": float((~said & ~seen).sum()),
        "fp_count": float((said & ~seen).sum()),
        "fn_count": float((~said & seen).sum()),
        "total_count": float(seen.size),
    }
    theirs = BasicContingencyManager({name: xr.DataArray(each) for name, each in counts.items()})
    expected = float(theirs.symmetric_extremal_dependence_index())
    assert result.of("tas", "sedi")["one"][0].value == pytest.approx(expected, rel=1e-9)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5), factor=st.floats(0.2, 3))
def test_what_a_shift_and_a_factor_do_to_a_forecast(seed, shift, factor):
    values = weather(14, seed)
    right = values[1:, None] - values.mean(axis=0)
    perfect, other = (forecast_of(each + values.mean(axis=0)) for each in (right, factor * right + shift))
    result = verify({"perfect": perfect, "other": other}, {"truth": truth_of(values)}, climatology=None)
    of = {name: {model: each[0].value for model, each in result.of("tas", name).items()} for name in LEAD_METRICS}
    for name, metric in LEAD_METRICS.items():
        if np.isfinite(metric.best) and name != "quantile":
            assert of[name]["perfect"] == pytest.approx(metric.best, abs=1e-5)
    assert of["activity-ratio"]["other"] == pytest.approx(factor, rel=1e-4)
    assert of["bias"]["other"] == pytest.approx(shift + (factor - 1) * right.mean(axis=0)[0].mean(), abs=0.02)
    assert result.of("tas", "rmse")["perfect"][0].best


def test_a_forecast_that_never_says_yes_has_no_index_of_extremes_and_is_not_called_tied():
    values = weather(20)
    never = forecast_of(np.full((19, 1, 3, 4), 270.0))
    result = verify({"never": never}, {"truth": truth_of(values)})
    (score,) = result.of("tas", "sedi")["never"]
    assert np.isnan(score.value) and not score.tied and not score.best
    assert "| never | – |" in result.markdown()


def test_every_system_may_have_its_own_analysis():
    values = weather(30)
    own = {"one": truth_of(values), "other": truth_of(values + 1)}
    systems = {name: forecast_of(each.tas.values[1:, None]) for name, each in own.items()}
    result = verify(systems, {"own analysis": own, "observations": truth_of(values)})
    biases = {truth: [each[0].value for each in result.of("tas", "bias", truth).values()] for truth in result.truths}
    assert biases["own analysis"] == pytest.approx([0, 0])
    assert biases["observations"] == pytest.approx([0, 1])
    with pytest.raises(InputError, match="none of other"):
        verify(systems, {"own analysis": {"one": own["one"]}})


def test_names_units_and_orders_of_files_do_not_matter():
    values = weather(20)
    plain = forecast_of(values[1:, None] + 0.5)
    theirs = plain.isel(lat=slice(None, None, -1)).rename(init="forecast_reference_time", lead="step", tas="t2m")
    theirs = (theirs - 273.15).assign_coords(step=[24]).transpose("step", "lon", "lat", "forecast_reference_time")
    theirs["t2m"].attrs["units"] = "degC"
    theirs["step"].attrs["units"] = "hours"
    theirs["lat"].attrs, theirs["lon"].attrs = UNITS["lat"], UNITS["lon"]
    theirs = theirs.assign_coords(valid_time=theirs.forecast_reference_time + np.timedelta64(24, "h"))
    result = verify({"plain": plain, "theirs": theirs}, {"truth": truth_of(values)})
    plain_scores, their_scores = (
        [each[0].value for each in result.of("tas", name).values()] for name in ("rmse", "bias")
    )
    assert plain_scores == pytest.approx([0.5, 0.5], abs=1e-4) and their_scores == pytest.approx([0.5, 0.5], abs=1e-4)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_valid_times_are_found_in_every_calendar(calendar):
    times = xr.date_range("2004-02-20", periods=20, freq="D", calendar=calendar, use_cftime=True)
    values = weather(20)
    truth = truth_of(values).assign_coords(time=times)
    forecast = forecast_of(values[2:, None]).assign_coords(init=times[:18])
    forecast["lead"] = ("lead", [2.0], {"units": "days"})
    result = verify({"one": forecast}, {"truth": truth}, metrics=("rmse",))
    assert result.of("tas", "rmse")["one"][0].value == pytest.approx(0, abs=1e-9)
    assert result.leads == (2.0,)


def test_only_what_all_systems_have_is_compared():
    values = weather(30)
    one = forecast_of(np.stack([values[1:29], values[2:30]], axis=1))
    other = one.isel(init=slice(5, None, 2), lead=[1])
    result = verify({"one": one, "other": other}, {"truth": truth_of(values)})
    assert result.inits == 12 and result.leads == (2.0,)


def test_few_initial_times_have_scores_without_intervals():
    values = weather(6)
    result = verify(
        {"one": forecast_of(values[1:, None]), "two": forecast_of(values[1:, None] + 1)}, {"t": truth_of(values)}
    )
    assert all(np.isnan(each.low) for each in result.scores)
    assert all(each.tied for each in result.differences) and "too few" in result.notes[0]


def test_answers_are_written_as_table_numbers_and_picture(found, tmp_path):
    text = found.markdown()
    assert "| blurred |" in text and "better than climatology before" in text
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(plain["scores"]) == 2 * 5 * 10 * len(LEAD_METRICS)
    by_lead(found, "tas").savefig(tmp_path / "leads.svg")
    assert (tmp_path / "leads.svg").stat().st_size > 10_000


def test_the_climate_has_months_and_hours_and_the_whole_where_these_are_not_known():
    times = pd.date_range("2001-01-01", "2001-03-31T18", freq="6h")
    record = xr.DataArray(
        np.random.default_rng(0).normal(size=(len(times), 2, 2)), dims=("time", "y", "x"), coords={"time": times}
    )
    climate = Climate.of(record)
    chosen = record[(times.month == 2) & (times.hour == 6)].mean("time")
    wanted = pd.DatetimeIndex(["2010-02-11T06", "2010-07-01T06"])
    np.testing.assert_allclose(climate.at(wanted)[0], chosen)
    np.testing.assert_allclose(climate.at(wanted)[1], record.mean("time"))


def test_quantiles_leave_out_what_is_missing():
    values = np.random.default_rng(0).normal(size=(50, 1, 3))
    values[10:20, 0, 1] = values[:, 0, 2] = np.nan
    found = quantile(xr.DataArray(values, dims=("time", "y", "x")), 0.9)
    np.testing.assert_allclose(found[0, :2], np.nanquantile(values[:, 0, :2], 0.9, axis=0))
    assert np.isnan(found[0, 2])


def test_what_cannot_be_verified_is_refused_in_words():
    values = weather(20)
    truth, good = truth_of(values), forecast_of(values[1:, None])
    gap = good.copy(deep=True)
    gap["tas"][3, 0, 1, 1] = np.nan
    cases = [
        ({"one": good.isel(lead=0, drop=True)}, truth, {}, "initial and lead times as dimensions"),
        ({"one": good.assign_coords(lead=[1.0])}, truth, {}, "expected hours or days"),
        (
            {"one": good, "two": good.assign_coords(init=good.init + np.timedelta64(900, "D"))},
            truth,
            {},
            "no initial time",
        ),
        ({"one": good, "two": good.assign_coords(lead=2 * good.lead)}, truth, {}, "no lead time"),
        ({"one": good.isel(lat=slice(2))}, truth, {}, "expected the same cells"),
        ({"one": gap}, truth, {}, "got 1 missing values of 'tas' in one at a lead of 1 days"),
        ({"one": good}, truth, {"metrics": ("rsme",)}, "Did you mean 'rmse'"),
        (
            {"one": good},
            truth.assign_coords(time=truth.time + np.timedelta64(900, "D")),
            {},
            "at any time for which one",
        ),
        ({"one": good.rename(tas="pr")}, truth, {}, "expected one of tas"),
    ]
    for systems, right, options, words in cases:
        with pytest.raises(InputError, match=words):
            verify(systems, {"truth": right}, **options)
    with pytest.raises(InputError, match="no truth"):
        verify({"one": good}, {})
    with pytest.raises(InputError, match="expected at least 1"):
        toy_weather.generate(inits=0)


def test_systems_of_the_toy_start_from_the_analysis_and_are_drawn_apart():
    season = toy_weather.generate(
        Toy(systems={"a": System(), "b": System(), "still": System(noise=False)}), inits=20, seed=2
    )
    assert not np.allclose(season.forecasts["a"].tas, season.forecasts["b"].tas)
    first = season.analysis.tas.isel(time=slice(730, 750)).values
    still = season.forecasts["still"].tas.isel(lead=0).values
    np.testing.assert_allclose(still[:, :, 1:] - 285, 0.8 * (first[:, :, :-1] - 285), atol=1e-4)
    assert float(season.observations.tas.isnull().mean()) == pytest.approx(0.5, abs=0.1)
