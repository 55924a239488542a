"""Evaluation of a prediction in the user's own names: common ground, intervals, verdict."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.evaluation import METRICS, USUAL, Evaluation, evaluate
from finegrid.evaluation.averaging import Totals
from finegrid.evaluation.intervals import Draws, block_length, interval
from finegrid.evaluation.wording import number, pretty


def noisy(fields: xr.Dataset, scale: float, *, seed: int = 0, members: int = 0) -> xr.Dataset:
    random = np.random.default_rng(seed)
    if members:
        return xr.concat([noisy(fields, scale, seed=seed + 1 + each) for each in range(members)], "member")
    disturbed = {
        name: field + (scale * random.normal(size=field.shape)).astype(np.float32)
        for name, field in fields.data_vars.items()
    }
    return fields.assign({name: field.assign_attrs(fields[name].attrs) for name, field in disturbed.items()})


def test_scores_have_every_method_variable_and_metric_once(toy_fine: xr.Dataset, toy_coarse: xr.Dataset) -> None:
    found = evaluate(
        noisy(toy_fine, 0.1), toy_fine, coarse=toy_coarse, baselines={"ridge": noisy(toy_fine, 0.3, seed=1)}
    )
    rows = {(score.method, score.variable, score.metric) for score in found.scores}
    names = [name for name in USUAL if not METRICS[name].of_members]
    everything = {(m, v, name) for m in ("prediction", "ridge") for v in ("t2m", "pr") for name in names}
    for_rain = {(m, "t2m", name) for m in ("prediction", "ridge") for name in ("negatives", "high-quantile")}
    assert rows == everything - for_rain
    assert len(rows) == len(found.scores)
    assert {score.units for score in found.of("pr", "rmse").values()} == {"mm/day"}
    for score in found.scores:
        assert score.low <= score.value <= score.high or score.metric in ("violation", "power-ratio", "high-quantile")


def test_units_are_converted_to_those_of_the_truth(toy_fine: xr.Dataset) -> None:
    prediction = noisy(toy_fine, 0.2)
    other = prediction.assign(t2m=(prediction["t2m"] - 273.15).assign_attrs(units="degC"))
    expected, found = (evaluate(each, toy_fine).of("t2m", "rmse")["prediction"] for each in (prediction, other))
    assert found.value == pytest.approx(expected.value, rel=1e-3) and found.units == "K"


def test_names_and_order_of_the_user_do_not_matter(toy_fine: xr.Dataset) -> None:
    prediction = noisy(toy_fine, 0.2)
    turned = prediction.rename(lat="latitude", lon="longitude", t2m="tas").isel(latitude=slice(None, None, -1))
    expected, found = (evaluate(each, toy_fine).of("t2m", "rmse")["prediction"].value for each in (prediction, turned))
    assert found == pytest.approx(expected)


def test_members_are_averaged_for_the_error(toy_fine: xr.Dataset) -> None:
    one, many = noisy(toy_fine, 0.4), noisy(toy_fine, 0.4, members=16)
    errors = [evaluate(each, toy_fine).of("t2m", "rmse")["prediction"].value for each in (one, many)]
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.05)


def test_missing_prediction_is_refused_with_variable_and_count(toy_fine: xr.Dataset) -> None:
    prediction = noisy(toy_fine, 0.1)
    prediction["pr"][3, 2:4, 5] = np.nan
    with pytest.raises(InputError, match="got 2 missing values of 'pr' in prediction"):
        evaluate(prediction, toy_fine)


def test_cells_that_no_method_ever_predicts_are_left_out_and_counted(toy_fine: xr.Dataset) -> None:
    full, ridge = noisy(toy_fine, 0.1), noisy(toy_fine, 0.3, seed=1)
    prediction, baseline = full.copy(deep=True), ridge.copy(deep=True)
    for each in (prediction, baseline):
        each["t2m"][:, 2:4, 5] = np.nan
    truth = toy_fine.copy(deep=True)
    truth["t2m"][:, 2:4, 5] = np.nan
    found = evaluate(prediction, toy_fine, baselines={"ridge": baseline})
    expected = evaluate(full, truth, baselines={"ridge": ridge})
    assert found.of("t2m", "rmse")["prediction"].value == expected.of("t2m", "rmse")["prediction"].value
    assert any(note.startswith("2 cells with t2m are left out") for note in found.notes)
    assert not any("cells with pr" in note for note in found.notes)
    with pytest.raises(InputError, match="missing values of 't2m' in prediction"):
        evaluate(prediction, toy_fine, baselines={"ridge": ridge})
    with pytest.raises(InputError, match="missing values of 't2m'"):
        evaluate(full.assign(t2m=full["t2m"].where(False)), toy_fine)


def test_a_missing_truth_is_left_out_and_told(toy_fine: xr.Dataset) -> None:
    prediction, truth = noisy(toy_fine, 0.1), toy_fine.copy(deep=True)
    truth["t2m"][:, :8] = np.nan
    worse = prediction.copy(deep=True)
    worse["t2m"][:, :8] = -999
    found = evaluate(worse, truth)
    assert found.of("t2m", "rmse") == evaluate(prediction, truth).of("t2m", "rmse")
    assert any("50 % of the cells have no t2m" in note for note in found.notes)


def test_other_grid_is_refused_with_both_extents(toy_fine: xr.Dataset, toy_coarse: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"4 x 6 cells .* 16 x 24 cells"):
        evaluate(toy_coarse, toy_fine)
    with pytest.raises(InputError, match="grid of the truth"):
        evaluate(toy_fine.assign_coords(lon=toy_fine["lon"] + 0.125), toy_fine)


def test_only_common_times_count_and_none_is_refused_with_what_there_is(toy_fine: xr.Dataset) -> None:
    first, last = toy_fine.isel(time=slice(0, 40)), toy_fine.isel(time=slice(20, 60))
    found = evaluate(noisy(first, 0.1), last)
    assert any("over 20 times from 2001-01-21" in note for note in found.notes)
    assert any("Up to 20 times are left out" in note for note in found.notes)
    with pytest.raises(InputError, match=r"truth 2001-01-21 .*2001-03-01.*40 times.*prediction 2001-01-01"):
        evaluate(first.isel(time=slice(0, 10)), last)


def test_the_same_calendar_in_other_objects_is_understood(toy_fine: xr.Dataset) -> None:
    prediction = noisy(toy_fine, 0.2)
    other = prediction.isel(time=slice(5, 60)).convert_calendar("standard", use_cftime=True)
    expected, found = (
        evaluate(each, toy_fine).of("t2m", "rmse")["prediction"].value
        for each in (prediction.isel(time=slice(5, 60)), other)
    )
    assert found == expected


def test_other_calendar_is_refused(toy_fine: xr.Dataset) -> None:
    with pytest.raises(InputError, match="noleap calendar"):
        evaluate(toy_fine.convert_calendar("noleap"), toy_fine)


def test_prediction_without_a_known_variable_is_refused(toy_fine: xr.Dataset) -> None:
    other = toy_fine[["pr"]].rename(pr="snow")
    other["snow"].attrs = {"units": "m", "standard_name": "surface_snow_thickness"}
    with pytest.raises(InputError, match="got prediction with snow; expected one of those of the truth: t2m, pr"):
        evaluate(other, toy_fine)


def test_better_prediction_wins_with_figures(toy_fine: xr.Dataset, toy_coarse: xr.Dataset) -> None:
    rivals = {"nearest": noisy(toy_fine, 0.9, seed=2), "ridge": noisy(toy_fine, 0.4, seed=1)}
    found = evaluate(
        noisy(toy_fine, 0.2), toy_fine, coarse=toy_coarse, baselines=rivals, method="neural", variables=["t2m"]
    )
    assert "neural beats the strongest baseline, ridge, by 50 %" in found.verdict
    own, rival = (found.of("t2m", "rmse")[name].value for name in ("neural", "ridge"))
    assert (own, rival) == pytest.approx((0.2, 0.4), rel=0.02)
    assert f"{own:.3f}\u00a0K against {rival:.3f}\u00a0K" in found.verdict
    assert "does not conserve" in found.verdict
    assert found.of("t2m", "rmse")["neural"].best and not found.of("t2m", "rmse")["ridge"].tied


def test_verdict_says_when_a_simple_baseline_wins(toy_fine: xr.Dataset) -> None:
    found = evaluate(noisy(toy_fine, 0.4), toy_fine, baselines={"ridge": noisy(toy_fine, 0.2, seed=1)}, method="neural")
    assert "the simple baseline ridge is better than neural" in found.verdict


def test_verdict_calls_a_tie_a_tie(toy_fine: xr.Dataset) -> None:
    rivals = {"ridge": noisy(toy_fine, 0.2, seed=1)}
    found = evaluate(noisy(toy_fine, 0.2), toy_fine, baselines=rivals, method="neural", variables=["t2m"])
    assert "neural and the strongest baseline, ridge, are tied" in found.verdict
    assert all(score.tied for score in found.of("t2m", "rmse").values())


def test_a_difference_that_is_certain_but_tiny_is_no_victory(toy_fine: xr.Dataset) -> None:
    prediction = noisy(toy_fine, 0.2)
    nearly = toy_fine + (prediction - toy_fine) * 1.0005
    rivals = {"ridge": nearly.assign({name: nearly[name].assign_attrs(toy_fine[name].attrs) for name in nearly})}
    found = evaluate(prediction, toy_fine, baselines=rivals, variables=["t2m"])
    assert "equal but for less than a thousandth" in found.verdict


def test_few_times_give_no_interval_and_no_winner(toy_fine: xr.Dataset) -> None:
    short = toy_fine.isel(time=slice(0, 4))
    found = evaluate(noisy(short, 0.1), short, baselines={"ridge": noisy(short, 0.9, seed=1)}, variables=["t2m"])
    assert "cannot be told apart on so few times" in found.verdict
    assert np.isnan(found.of("t2m", "rmse")["prediction"].low)


def test_without_baselines_the_verdict_does_not_praise(toy_fine: xr.Dataset, toy_coarse: xr.Dataset) -> None:
    found = evaluate(toy_fine, toy_fine, coarse=toy_coarse, variables=["t2m"])
    assert "no baseline says whether that is good" in found.verdict
    assert "conserves the coarse field to rounding" in found.verdict


def test_only_interpolations_as_baselines_are_called_weak(toy_fine: xr.Dataset) -> None:
    found = evaluate(noisy(toy_fine, 0.1), toy_fine, baselines={"bicubic": noisy(toy_fine, 0.5)})
    assert any("All baselines are interpolations" in note for note in found.notes)


def test_disagreement_of_coarse_field_and_truth_is_told(toy_fine: xr.Dataset, toy_coarse: xr.Dataset) -> None:
    warm = toy_coarse.assign(t2m=(toy_coarse["t2m"] + 2).assign_attrs(toy_coarse["t2m"].attrs))
    agreeing, disagreeing = (
        evaluate(noisy(toy_fine, 0.1), toy_fine, coarse=coarse, variables=["t2m"]) for coarse in (toy_coarse, warm)
    )
    assert any("disagree by 2.00\u00a0K" in note for note in disagreeing.notes)
    assert not any("disagree" in note for note in agreeing.notes)


def test_json_has_the_agreed_form_and_is_strict(toy_fine: xr.Dataset, tmp_path: Path) -> None:
    short = toy_fine.isel(time=slice(0, 4))
    found = evaluate(noisy(short, 0.1), short, task="toy", split="test", seconds=1.5)
    content = json.loads(found.to_json(tmp_path / "deep" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert (content["task"], content["split"], content["seconds"]) == ("toy", "test", 1.5)
    assert {"method", "variable", "metric", "value", "low", "high"} <= set(content["scores"][0])
    assert content["scores"][0]["low"] is None


def test_table_is_markdown_with_the_best_in_bold(toy_fine: xr.Dataset) -> None:
    found: Evaluation = evaluate(noisy(toy_fine, 0.1), toy_fine, baselines={"ridge": noisy(toy_fine, 0.4)})
    lines = found.table().splitlines()
    assert lines[0].startswith("| t2m ") and "RMSE (K)" in lines[0] and set(lines[1]) <= set("|-")
    assert "**0.0997**" in lines[2] and "**" not in lines[3].split("|")[2]


# --- intervals ------------------------------------------------------------------------------------------------


def autoregressive(n: int, correlation: float, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    series = np.empty(n)
    series[0] = random.normal() / np.sqrt(1 - correlation**2)
    for step in range(1, n):
        series[step] = correlation * series[step - 1] + random.normal()
    return series


@pytest.mark.parametrize(("correlation", "single"), [(0.0, 0.95), (0.6, 0.67)])
def test_intervals_of_an_autoregressive_series_cover_its_mean(correlation: float, single: float) -> None:
    inside, narrow = 0, 0
    for seed in range(300):
        series = autoregressive(300, correlation, seed)
        for length in (block_length(series), 1):
            draws = Draws.of(300, length, draws=200, seed=seed)
            low, high = interval(draws.means(Totals(series[None], np.ones(300)))[0])
            inside, narrow = (inside + (low < 0 < high), narrow) if length > 1 else (inside, narrow + (low < 0 < high))
    assert 0.88 < inside / 300 < 0.98
    assert narrow / 300 == pytest.approx(single, abs=0.05)  # what times drawn one by one would claim


def test_blocks_are_a_day_at_least_and_grow_with_memory() -> None:
    forgetful, persistent = autoregressive(600, 0.0, 1), autoregressive(600, 0.9, 1)
    assert block_length(forgetful, step_seconds=3600) == 24
    assert block_length(forgetful, step_seconds=86400) == 9
    assert block_length(persistent, step_seconds=86400) > 20
    assert block_length(np.ones(8), step_seconds=60) == 2


def test_draws_have_as_many_times_as_there_are_in_whole_blocks_but_the_last() -> None:
    draws = Draws.of(10, 4, draws=50)
    counts = draws._over(np.eye(10))
    assert (counts.sum(axis=0) == 10).all()
    one = Draws(np.array([[0, 6, 2]]), 4, 10)
    assert one._over(np.eye(10))[:, 0].tolist() == [1, 1, 2, 2, 0, 0, 1, 1, 1, 1]


def test_times_weigh_by_what_is_known_of_them() -> None:
    totals = Totals.of(np.array([[[1.0, 3.0], [5.0, np.nan]]]), np.array([1.0, 3.0]))
    assert totals.per_time().tolist() == [[2.5, 5.0]]
    assert totals.mean() == pytest.approx((1 + 9 + 5) / 5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3104, "0.310"), (1234.5, "1234"), (-2.5e-7, "−2.5 × 10⁻⁷"), (0, "0"), (np.nan, "–"), (0.00354, "0.0035")],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text


def test_units_read_well() -> None:
    assert [pretty(units) for units in ("m s-1", "degC", "kg m**-2 s**-1", "1")] == [
        "m\u00a0s⁻¹",
        "°C",
        "kg\u00a0m⁻²\u00a0s⁻¹",
        "",
    ]


def test_many_metrics_have_a_row_each(toy_fine: xr.Dataset, toy_coarse: xr.Dataset, tmp_path: Path) -> None:
    given = {"coarse": toy_coarse, "baselines": {"ridge": noisy(toy_fine, 0.3, seed=1)}, "variables": ["pr"]}
    few, many = (
        evaluate(noisy(toy_fine, 0.1, members=3), toy_fine, metrics=each, **given) for each in (["crps"], "all")
    )
    assert few.table().splitlines()[0].startswith("| pr ") and "| ridge" in few.table().splitlines()[3]
    lines = many.table().splitlines()
    assert lines[0].split("|")[2].strip() == "prediction" and len(lines) == 2 + len(METRICS)
    page = many.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">Metric</th><th scope="col">prediction</th><th scope="col">ridge</th>' in page
    assert "Metric" not in few.report(tmp_path / "few.html").read_text(encoding="utf-8").split("<h2>")[1]
    assert "| CRPS (mm/day)" in many.markdown()
