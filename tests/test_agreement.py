"""Agreement of coarse and fine data: known truths first, then gaps, calendars, lazy files, pictures and real data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import signal

from finegrid.conventions import InputError, harmonise
from finegrid.data import open_fields
from finegrid.evaluation import disagreement
from finegrid.evaluation.agreement import Agreement, agreement
from finegrid.evaluation.agreement_figures import bias_maps, section
from finegrid.evaluation.metrics import base
from finegrid.grids import Grid, Operator
from test_any_grids import cells
from test_curvilinear import plane_file
from test_grids import LAMBERT, ROTATED_POLE
from test_report import Page

FINE, COARSE = cells(8, 12, 0.5, 40, -6), cells(4, 6, 1.0, 40, -6)


def days(start: str = "2001-01-01", count: int = 365, calendar: str = "standard") -> xr.DataArray:
    dates = xr.date_range(start, periods=count, calendar=calendar, use_cftime=calendar != "standard")
    return xr.DataArray(dates, dims="time", name="time", coords={"time": dates})


def winters(count: int) -> xr.DataArray:
    time = days("1980-12-01", 366 * count)
    return time[time.dt.season == "DJF"][: 90 * count]


def red_noise(generator: np.random.Generator, persistence: float, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of variance one along the first axis, of which each value remembers the one before."""
    shocks = generator.normal(size=(200 + shape[0], *shape[1:]))
    return signal.lfilter([np.sqrt(1 - persistence**2)], [1, -persistence], shocks, axis=0)[200:]


def on(grid: Grid, values: np.ndarray, time: xr.DataArray) -> xr.DataArray:
    field = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": time, "y": grid.y, "x": grid.x}, name="tas")
    return field.assign_attrs(units="K")


def synthetic(
    time: xr.DataArray,
    *,
    seed: int = 0,
    bias: float | np.ndarray = 0.0,
    scatter: float = 0.3,
    persistence: float = 0.5,
    follow: float = 1.0,
    fine: Grid = FINE,
    coarse: Grid = COARSE,
) -> tuple[xr.DataArray, xr.DataArray, Operator]:
    """Fine weather, its coarse means with known differences d = bias + scatter * red noise, and the operator.

    With `follow` below one, that part only of the coarse field's weather is that of the fine one.
    """
    generator, operator = np.random.default_rng(seed), Operator.conservative(fine, coarse, cache=False)
    weather = red_noise(generator, 0.7, (len(time), 1, 1)) * 3 + generator.normal(size=(len(time), *fine.shape))
    own = on(fine, 280 + weather, time)
    means = operator(own)
    other = red_noise(generator, 0.7, (len(time), 1, 1)) * 3
    mixed = 280 + follow * (means.values - 280) + np.sqrt(1 - follow**2) * other
    # Of the differences, half the variance is shared by all cells, as with weather.
    noise = red_noise(generator, persistence, (len(time), 1, 1)) + red_noise(generator, persistence, means.shape)
    return own, on(coarse, mixed - bias - scatter * noise / np.sqrt(2), time), operator


def test_interval_covers_the_true_bias_nineteen_times_in_twenty() -> None:
    time = winters(10)
    found = [agreement(*synthetic(time, seed=seed, bias=0.4)) for seed in range(100)]
    overall = [each.overall for each in found]
    inside = np.mean([season.low <= 0.4 <= season.high for season in overall])
    assert 0.90 <= inside <= 0.99  # 95 % within the error of 100 draws
    in_cells = np.mean([(season.low_map <= 0.4) & (season.high_map >= 0.4) for season in overall])
    assert 0.93 <= in_cells <= 0.97
    assert np.mean([season.bias for season in overall]) == pytest.approx(0.4, abs=0.01)
    assert {each.verdict for each in found} == {"biased"}


def test_false_alarms_stay_rare_also_when_differences_last_for_days() -> None:
    time = winters(12)
    found = [agreement(*synthetic(time, seed=seed, persistence=0.8)) for seed in range(100)]
    outside = np.mean([(each.overall.low_map > 0) | (each.overall.high_map < 0) for each in found])
    assert 0.03 <= outside <= 0.07
    assert np.mean([each.overall.low > 0 or each.overall.high < 0 for each in found]) <= 0.10
    # Ten in a hundred is what the false discovery rate allows.
    assert np.mean([each.overall.significant.any() for each in found]) <= 0.15
    assert np.mean([each.verdict == "biased" for each in found]) <= 0.15


@pytest.mark.parametrize(
    ("verdict", "settings"),
    [
        ("same", {"scatter": 1e-4}),
        ("close", {"scatter": 0.5}),
        ("biased", {"scatter": 0.5, "bias": -1.5}),
        ("scattered", {"scatter": 2.0}),
        ("scattered", {"scatter": 0.1, "follow": 0.6, "bias": 1.0}),
        ("unrelated", {"follow": 0.1, "bias": 3.0}),
    ],
)
def test_the_verdict_is_that_of_the_pair_that_was_made(verdict: str, settings: dict[str, float]) -> None:
    found = agreement(*synthetic(winters(8), seed=1, **settings))
    assert found.verdict == verdict
    assert found.fires == (verdict != "same")
    assert found.biased == ("bias" in settings)


def test_a_bias_that_is_certain_but_hardly_adds_to_the_differences_does_not_matter() -> None:
    settings = {"scatter": 0.5, "persistence": 0.0}
    found = agreement(*synthetic(winters(40), bias=0.035, **settings))
    assert found.overall.low > 0 and found.overall.significant.any()
    assert found.verdict == "close" and not found.biased
    assert agreement(*synthetic(winters(40), bias=0.1, **settings)).verdict == "biased"


def test_figures_are_those_that_were_put_in() -> None:
    bias = np.linspace(-1, 1, COARSE.size).reshape(COARSE.shape)
    found = agreement(*synthetic(winters(20), bias=bias, scatter=0.8, persistence=0.4))
    (winter,) = found.seasons
    assert winter.times == found.overall.times == 1800
    np.testing.assert_allclose(winter.bias_map, bias, atol=0.15)
    assert winter.bias == pytest.approx(np.average(bias, weights=COARSE.area), abs=0.05)
    assert winter.spread == pytest.approx(0.8, rel=0.05)
    assert winter.variability == pytest.approx(np.hypot(3.0, 0.8), rel=0.05)
    assert winter.correlation == pytest.approx(3.0 / np.hypot(3.0, 0.8), abs=0.01)
    assert winter.significant[np.abs(bias) > 0.15].all()


def test_seasons_with_gaps_give_the_figures_of_plain_arithmetic() -> None:
    fine, coarse, operator = synthetic(days(count=800), seed=3, bias=0.2)
    coarse = coarse.where(np.random.default_rng(0).random(coarse.shape) > 0.2)
    kept = np.r_[0:300, 340:800]
    fine, coarse = fine[kept], coarse[kept]
    fine[50:60] = np.nan
    found = agreement(fine, coarse, operator)
    means = operator(fine).where(coarse.notnull())
    coarse = coarse.where(means.notnull())
    difference, area = means - coarse, xr.DataArray(COARSE.area, dims=("y", "x"))
    parts = []
    for season, mine in zip(found.seasons, ("DJF", "MAM", "JJA", "SON"), strict=True):
        chosen = difference.time.dt.season == mine
        d, c, f = (each[chosen] - each[chosen].mean("time") for each in (difference, coarse, means))
        parts.append((d, c, f))
        assert season.season == mine and season.times == int(difference[chosen].notnull().any(("y", "x")).sum())
        np.testing.assert_allclose(season.bias_map, difference[chosen].mean("time"), rtol=1e-9)
        assert season.bias == pytest.approx(float(difference[chosen].weighted(area).mean()))
        assert season.spread == pytest.approx(float(np.sqrt((d**2).weighted(area).mean())))
        assert season.variability == pytest.approx(float(np.sqrt((c**2).weighted(area).mean())))
    d, c, f = (xr.concat([part[index] for part in parts], "time") for index in range(3))
    products = [float((a * b).weighted(area).sum()) for a, b in ((f, c), (f, f), (c, c))]
    assert found.overall.correlation == pytest.approx(products[0] / np.sqrt(products[1] * products[2]))
    assert found.overall.spread == pytest.approx(float(np.sqrt((d**2).weighted(area).mean())))
    assert found.difference == pytest.approx(float(np.sqrt((difference**2).weighted(area).mean())))
    assert found.extent == pytest.approx(float(coarse.max() - coarse.min()))


def test_only_days_that_follow_each_other_in_a_season_say_how_long_differences_last() -> None:
    # Alternating within each winter, but the last day of one and the first of the next are alike, and so is a lost day.
    time = winters(3)
    signs = np.tile(np.where(np.arange(90) % 2, 1.0, -1.0), 3)
    steady = np.repeat([1.0, -1.0, 1.0], 90)
    fine, coarse, operator = synthetic(time, scatter=0.0)
    sums = {}
    for name, series in (("alternating", signs), ("steady", steady)):
        shifted = coarse - xr.DataArray(series, dims="time")
        (sums[name],) = disagreement.Disagreement.of(fine, shifted.assign_attrs(coarse.attrs), operator).cells.values()
    lagged = sums["alternating"].lagged
    assert (sums["alternating"].pairs == 3 * 89).all()
    np.testing.assert_allclose(lagged, -3 * 89)
    mean = steady.mean()
    within = sum(((block[1:] - mean) * (block[:-1] - mean)).sum() for block in np.split(steady, 3))
    np.testing.assert_allclose(sums["steady"].lagged, within)
    assert (sums["alternating"].persistence == 0).all()
    assert (sums["steady"].persistence == 0.99).all()


def test_a_bias_that_cancels_over_the_year_is_found_in_its_seasons_and_is_no_noise() -> None:
    time = days(count=3 * 365)
    fine, coarse, operator = synthetic(time, scatter=0.3)
    swing = xr.where(time.dt.season == "DJF", 1.0, 0.0) - xr.where(time.dt.season == "JJA", 1.0, 0.0)
    found = agreement(fine, (coarse - swing).transpose(*coarse.dims).assign_attrs(coarse.attrs), operator)
    winter, spring, summer, autumn = found.seasons
    assert found.verdict == "biased"
    assert winter.low > 0.8 and summer.high < -0.8 and winter.share == summer.share == 1
    assert abs(spring.bias) < 0.2 and abs(autumn.bias) < 0.2
    assert found.overall.high - found.overall.low < 0.15
    assert found.overall.spread == pytest.approx(0.3, rel=0.1)


def test_packing_of_a_coarsened_copy_does_not_fire() -> None:
    fine, _, operator = synthetic(days(count=730), seed=5)
    scale = 60 / 65000
    packed = (np.round(fine / scale) * scale).astype(np.float32).assign_attrs(fine.attrs)
    coarse = np.round(operator(fine), 2).assign_attrs(fine.attrs)
    found = agreement(packed, coarse, operator)
    assert found.verdict == "same" and not found.fires
    assert found.difference < 0.01
    # A shift that is as small, but beyond rounding, does.
    assert agreement(packed, (coarse + 0.2).assign_attrs(fine.attrs), operator).verdict == "biased"


def test_sea_cells_are_left_out_of_means_and_of_the_comparison() -> None:
    fine, _, _ = synthetic(winters(4))
    land = np.ones(FINE.shape, dtype=bool)
    land[:2, :3] = False  # one coarse cell, and half of its neighbour
    operator = Operator.conservative(FINE.masked(land), COARSE)
    fine = fine.where(xr.DataArray(land, dims=("y", "x")))
    coarse = operator(fine).fillna(250.0)  # a model has a value over sea too
    found = agreement(fine, coarse, operator)
    assert found.verdict == "same"
    expected = np.zeros(COARSE.shape, dtype=bool)
    expected[0, 0] = True
    np.testing.assert_array_equal(np.isnan(found.overall.bias_map), expected)
    whole = agreement(fine, coarse, Operator.conservative(FINE, COARSE))
    assert whole.to_dict() == found.to_dict()


def test_coarse_cells_that_stick_out_are_left_out() -> None:
    wider = cells(6, 8, 1.0, 39, -7.5)
    fine, coarse, operator = synthetic(winters(4), coarse=wider)
    inside = np.zeros(wider.shape, dtype=bool)
    inside[1:-1, 2:-1] = True  # half a degree of the columns at 6 W and at 0 has no fine cells
    spoilt = coarse.where(xr.DataArray(inside, dims=("y", "x")), 0.0)
    found, clean = agreement(fine, spoilt, operator), agreement(fine, coarse, operator)
    np.testing.assert_array_equal(np.isfinite(found.overall.bias_map), inside)
    np.testing.assert_allclose(found.overall.bias_map, clean.overall.bias_map)
    assert found.extent == clean.extent and found.table() == clean.table()


def test_only_seasons_that_there_are_count_and_short_ones_have_no_interval() -> None:
    found = agreement(*synthetic(days("2001-12-01", 95)))
    assert [season.season for season in found.seasons] == ["DJF", "MAM"]
    winter, spring = found.seasons
    assert (winter.times, spring.times) == (90, 5)
    assert np.isfinite(winter.low) and np.isnan(spring.low) and np.isnan(spring.share)
    assert np.isfinite(spring.bias) and np.isnan(spring.low_map).all() and not spring.significant.any()
    assert found.overall.times == 95 and np.isfinite(found.overall.low)
    assert "| MAM | 5 |" in found.table() and "| all | 95 |" in found.table()


def test_months_of_a_short_record_are_judged_all_together() -> None:
    time = days(count=730)[::30][:20]
    found = agreement(*synthetic(time, bias=2.0, persistence=0.0))
    assert all(np.isnan(season.share) for season in found.seasons)
    assert found.overall.share == 1 and found.verdict == "biased"


def test_a_year_of_360_days_is_a_year() -> None:
    time = days("2001-12-01", 3 * 360, "360_day")
    found = agreement(*synthetic(time, bias=1.0))
    assert [season.times for season in found.seasons] == [270] * 4
    assert found.verdict == "biased" and found.overall.low < 1 < found.overall.high
    plain = agreement(*synthetic(days("2001-12-01", 3 * 360), bias=1.0))
    assert plain.overall.bias == pytest.approx(found.overall.bias)


class Counted:
    """An array that counts how often each of its times is read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.reads = np.zeros(len(values), dtype=int)
        self.most = 0

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        self.reads[key[0]] += 1
        self.most = max(self.most, len(self.reads[key[0]]))
        return self.values[key]


def test_lazy_fields_are_read_once_in_blocks_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from dask import array

    fine, coarse, operator = synthetic(days(count=500), bias=0.3)
    coarse = coarse.where(np.random.default_rng(0).random(coarse.shape) > 0.1)
    eager = agreement(fine, coarse, operator)
    monkeypatch.setattr(base, "_VALUES_AT_ONCE", 50 * FINE.size)
    counted = Counted(fine.values)
    chunks = array.from_array(counted, chunks=(50, *FINE.shape), name=False, meta=np.empty((0, 0, 0)))
    lazy = agreement(fine.copy(data=chunks), coarse.chunk(time=70), operator)
    assert (counted.reads == 1).all() and counted.most == 50
    assert lazy.verdict == eager.verdict
    for mine, theirs in zip((*lazy.seasons, lazy.overall), (*eager.seasons, eager.overall), strict=True):
        for name in ("bias", "low", "high", "spread", "correlation", "bias_map", "low_map", "high_map"):
            np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-9, err_msg=name)


def test_order_of_dimensions_and_size_of_values_do_not_matter() -> None:
    fine, coarse, operator = synthetic(winters(4), bias=0.2)
    one = agreement(fine, coarse, operator)
    turned = agreement(fine.transpose("x", "time", "y"), coarse.transpose("y", "x", "time"), operator)
    assert turned.to_dict(maps=True) == one.to_dict(maps=True)
    far = agreement((fine + 1e6).assign_attrs(fine.attrs), (coarse + 1e6).assign_attrs(fine.attrs), operator)
    assert far.overall.correlation == pytest.approx(one.overall.correlation, rel=1e-6)
    assert far.overall.variability == pytest.approx(one.overall.variability, rel=1e-6)


def test_fields_that_never_change_agree_or_cannot_be_told() -> None:
    fine, coarse, operator = (each * 0 if isinstance(each, xr.DataArray) else each for each in synthetic(winters(2)))
    fine, coarse = fine.assign_attrs(units="K"), coarse.assign_attrs(units="K")
    assert agreement(fine, coarse, operator).verdict == "same"
    found = agreement(fine, (coarse - 5).assign_attrs(units="K"), operator)
    assert found.verdict == "unrelated" and found.overall.share == 1
    assert found.overall.low == pytest.approx(5) and found.overall.high == pytest.approx(5)


def test_what_cannot_be_compared_is_refused_in_words() -> None:
    fine, coarse, operator = synthetic(winters(1))
    with pytest.raises(InputError, match=r"in 'K' and the coarse field in 'degC'.*convert_units\(coarse, 'K'\)"):
        agreement(fine, coarse.assign_attrs(units="degC"), operator)
    with pytest.raises(InputError, match=r"90 fine and 80 coarse times.*intersection"):
        agreement(fine, coarse[10:], operator)
    with pytest.raises(InputError, match=r"with dimensions member, time, y, x.*isel"):
        agreement(fine, coarse.expand_dims("member"), operator)
    with pytest.raises(InputError, match=r"not on the operator's target grid of 4 x 6"):
        agreement(fine, coarse.assign_coords(x=coarse.x + 0.5), operator)
    with pytest.raises(InputError, match=r"source grid"):
        agreement(fine.assign_coords(x=fine.x + 0.5), coarse, operator)
    with pytest.raises(InputError, match=r"got 5 times of 'tas'.*at least 8"):
        agreement(fine[:5], coarse[:5], operator)
    with pytest.raises(InputError, match=r"got 1 times of 'tas'"):
        agreement(fine[:1], coarse[:1], operator)
    with pytest.raises(InputError, match=r"got 0 times of 'tas'.*same region"):
        agreement(fine, coarse.where(False), operator)


def test_words_say_what_was_found_and_what_to_do() -> None:
    found = agreement(*synthetic(winters(8), bias=-1.5, scatter=0.5))
    words = " ".join(found.advice)
    assert "adjust: {name: natural}" in words and "--adjust natural" in words and "strength: learned" in words
    assert f"{found.overall.bias:.3f}".replace("-", "−") in words and "\u00a0K on average" in words
    head, line, *rows = found.table().splitlines()
    assert head.startswith("| tas (K) | times | bias (K) |") and set(line) <= set("|-: ") and len(rows) == 1
    scattered = agreement(*synthetic(winters(8), scatter=2.0, bias=1.0))
    assert "relaxed" in scattered.advice[-2] and "There is a bias too" in scattered.advice[-1]
    unrelated = agreement(*synthetic(winters(8), follow=0.1))
    assert "name: none" in unrelated.advice[-1] and "no skill from day to day" in unrelated.advice[-1]
    same = agreement(*synthetic(winters(8), scatter=0.0))
    assert "hard constraint is right" in same.advice[-1]


def test_plain_values_are_json_without_nan() -> None:
    found = agreement(*synthetic(days("2001-12-01", 95)))
    values = json.loads(json.dumps(found.to_dict(maps=True), allow_nan=False))
    assert values["verdict"] == found.verdict and values["seasons"]["MAM"]["low"] is None
    assert values["seasons"]["DJF"]["bias_map"] == found.seasons[0].bias_map.tolist()
    assert values["seasons"]["all"]["significant"] == found.overall.significant.tolist()
    assert "bias_map" not in found.to_dict()["seasons"]["DJF"]


@pytest.fixture
def year() -> Agreement:
    bias = np.zeros(COARSE.shape)
    bias[:, :3] = 1.0
    return agreement(*synthetic(days(count=730), bias=bias, seed=2))


def test_each_season_has_a_map_on_one_scale_that_is_symmetric_about_zero(year: Agreement) -> None:
    figure = bias_maps(year)
    *maps, bar = figure.axes
    titles = [axes.get_title(loc="left") for axes in maps]
    assert titles == ["December – February", "March – May", "June – August", "September – November"]
    limits = {axes.collections[0].get_clim() for axes in maps}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high < 0
    assert "bias (K)" in bar.get_xlabel()
    for axes, season in zip(maps, year.seasons, strict=True):
        np.testing.assert_array_equal(axes.collections[0].get_array(), season.bias_map)
        longitude, latitude = axes.collections[2].get_offsets().T
        expected = [
            (lat, lon)
            for lat, row in zip(COARSE.y, ~season.significant, strict=True)
            for lon, dotted in zip(COARSE.x, row, strict=True)
            if dotted
        ]
        np.testing.assert_allclose(np.column_stack([latitude, longitude]), expected)


GRIDS = {
    "rotated": cells(4, 6, 0.88, -3, -10, ROTATED_POLE),
    "lambert": cells(4, 6, 1e5, -2e5, -3e5, LAMBERT),
    "date line": cells(4, 6, 1e5, -2e5, -3e5, {**LAMBERT, "longitude_of_central_meridian": 180.0}),
    "curvilinear": Grid.of(harmonise(plane_file(cells(4, 6, 0.88, -3, -10, ROTATED_POLE), bounds=True))[0]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_maps_of_any_grid_show_all_its_cells_and_dots_within_them(name: str, year: Agreement) -> None:
    found = replace(year, grid=GRIDS[name])
    figure = bias_maps(found)
    figure.canvas.draw()
    axes = figure.axes[0]
    corners = axes.collections[0].get_coordinates()
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    assert west < corners[..., 0].min() and corners[..., 0].max() < east < west + 90
    assert south < corners[..., 1].min() and corners[..., 1].max() < north
    assert len(axes.collections[1].get_paths()) > 0 or name == "date line"
    middles = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    for dot in axes.collections[2].get_offsets():
        assert np.hypot(*(middles - dot).T).min() < 0.1


def test_the_section_holds_verdict_advice_table_and_picture_and_loads_nothing(year: Agreement) -> None:
    found = replace(year, name="<tas>")
    content = section(found)
    page = Page()
    page.feed(content)
    page.close()
    assert not page.open and "http" not in content and "<tas>" in page.text
    assert page.text.index("Only up to a bias") < page.text.index("on average")
    assert "adjust: {name: natural}" in page.text and "`" not in page.text
    assert len(page.named("tr")) == 6 and len(page.named("code")) >= 3
    (image,) = page.named("img")
    assert image["alt"] and str(image["src"]).startswith("data:image/svg+xml;base64,")


def standard(path: Path) -> xr.Dataset:
    return harmonise(open_fields(path))[0]


def compared(fine: xr.Dataset, coarse: xr.Dataset, name: str) -> Agreement:
    common = fine.indexes["time"].intersection(coarse.indexes["time"])
    own, given = fine[name].sel(time=common), coarse[name].sel(time=common)
    grid = Grid.of(fine).masked(np.asarray(own.notnull().any("time")))
    return agreement(own, given, Operator.conservative(grid, Grid.of(coarse)))


@pytest.mark.data
def test_a_reanalysis_and_observations_follow_each_other_with_a_bias_and_with_scatter(data_dir: Path) -> None:
    observed = standard(data_dir / "iberia_eobs_djf_1983_1996.nc")
    found = compared(observed, standard(data_dir / "iberia_ncep_gauss_djf_1983_2002.nc"), "tas")
    print("\n", found.verdict, found.table(), *found.advice, sep="\n")  # noqa: T201
    # The bias is larger than the spread, and the spread just above half of the variability.
    assert found.fires and found.biased and found.verdict == "scattered"
    assert found.overall.correlation == pytest.approx(0.86, abs=0.01)
    assert found.overall.share > 0.8 and found.overall.high < 0
    assert np.nanmin(found.overall.bias_map) < -5 and np.nanmax(found.overall.bias_map) > 3
    assert np.isfinite(found.overall.bias_map).sum() == 24
    assert "There is a bias too" in found.advice[-1]


@pytest.mark.data
@pytest.mark.parametrize("name", ["tas", "pr"])
def test_a_regional_model_and_its_block_means_are_the_same(data_dir: Path, name: str) -> None:
    fine = standard(data_dir / "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc")
    grid = Grid.of(fine)
    operator = Operator.conservative(grid, grid.coarsened((4, 5)))
    coarse = np.round(operator(fine[name]), 2).assign_attrs(fine[name].attrs)
    found = agreement(fine[name], coarse, operator)
    assert found.verdict == "same" and not found.fires


@pytest.mark.data
@pytest.mark.parametrize("name", ["tas", "pr"])
def test_a_global_model_that_does_not_drive_the_regional_one_is_unrelated(data_dir: Path, name: str) -> None:
    fine = standard(data_dir / "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc")
    found = compared(fine, standard(data_dir / "iberia_cmip5_cnrmcm5_historical_djf_1983_2002.nc"), name)
    print("\n", found.verdict, found.table(), sep="\n")  # noqa: T201
    assert found.verdict == "unrelated"
    assert found.overall.correlation < 0.2
