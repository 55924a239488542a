"""Days, months, seasons and years out of finer steps: against plain xarray, every calendar, gaps, stamps and bounds."""

from pathlib import Path

import dask.array
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.constraints import CONSTRAINTS, SparseMean
from finegrid.conventions import InputError, harmonise, restore
from finegrid.data import open_fields
from finegrid.grids.temporal import TIME_OPERATORS, TimeOperator

CALENDARS = ("standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian")
WORDS = {"day": "D", "month": "MS", "season": "QS-DEC", "year": "YS"}
GROUPS = {
    "day": lambda date: (date.year, date.month, date.day),
    "month": lambda date: (date.year, date.month),
    "season": lambda date: (date.year * 12 + date.month) // 3,
    "year": lambda date: date.year,
}
DATES = st.sampled_from(["2000-02-27", "1999-12-01", "2001-01-01", "2003-11-30T06:00"])


def series(start="2001-01-01", count=96, step="h", seed=0, calendar=None, dtype=np.float64, **attributes):
    """A field (time, 2, 3) of normal numbers."""
    made = {} if calendar is None else {"calendar": calendar, "use_cftime": True}
    time = xr.date_range(start, periods=count, freq=step, **made)
    values = np.random.default_rng(seed).normal(10, 3, (count, 2, 3)).astype(dtype)
    return xr.DataArray(values, dims=("time", "y", "x"), coords={"time": time}, name="a", attrs=attributes)


@given(start=DATES, days=st.integers(1, 800), step=st.sampled_from(sorted(WORDS)), hours=st.sampled_from([3, 6, 12]))
def test_whole_periods_are_the_resampled_ones_of_xarray_and_the_others_missing(start, days, step, hours):
    fine = series(start, days * 24 // hours, f"{hours}h")
    for how in ("mean", "sum", "min", "max"):
        result = TimeOperator.of(fine, step=step, how=how)(fine)
        expected = getattr(fine.resample(time=WORDS[step]), how)()
        np.testing.assert_array_equal(result["time"], expected["time"])
        length = np.diff(
            xr.date_range(expected["time"].values[0], periods=expected.sizes["time"] + 1, freq=WORDS[step])
        )
        whole = fine.resample(time=WORDS[step]).count()[:, 0, 0] * np.timedelta64(hours, "h") == length
        xr.testing.assert_allclose(result, expected.where(whole), rtol=1e-12)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("step", GROUPS)
def test_every_calendar_has_its_own_days_months_seasons_and_years(calendar, step):
    fine = series("1999-12-01", 4 * 800, "6h", calendar=calendar)
    keys = [GROUPS[step](date) for date in fine["time"].values]
    expected = [fine.values[[each == key for each in keys]].mean(axis=0) for key in dict.fromkeys(keys)]
    operator = TimeOperator.of(fine, step=step)
    np.testing.assert_allclose(operator(fine, min_valid=0), expected, rtol=1e-12)
    starts, ends = operator.bounds.values.T
    assert all(date.hour == 0 and date.calendar == calendar for date in starts)
    np.testing.assert_array_equal(starts[1:], ends[:-1])
    # The record starts with a season: whole are all but the last period, and the year of which there is one month.
    whole = np.isfinite(operator(fine)[:, 0, 0].values)
    lengths = [(end - start).days for start, end in zip(starts, ends, strict=True)]
    np.testing.assert_array_equal(whole, np.bincount(operator.runs.period) == 4 * np.array(lengths))
    assert whole[1:-1].all() and whole[0] == (step != "year")


@pytest.mark.parametrize("name", TIME_OPERATORS)
def test_constants_are_kept_and_sums_count_the_steps(name):
    fine = xr.full_like(series("2001-03-01", 24 * 61), 271.3)
    operator = TIME_OPERATORS[name](fine)
    result = operator(fine, min_valid=0)
    count = np.bincount(operator.runs.period)[:, None, None] if operator.how == "sum" else np.ones((len(result), 1, 1))
    np.testing.assert_allclose(result, np.broadcast_to(271.3 * count, result.shape), rtol=1e-13)
    assert operator.linear == (operator.matrix is not None) == (operator.shared is not None)
    if operator.linear:
        np.testing.assert_allclose(operator.matrix.sum(axis=1), np.ravel(count), rtol=1e-13)
        np.testing.assert_array_equal(operator.shared.sum(axis=0), 3600)


@given(seed=st.integers(0, 99), gaps=st.sampled_from([0.0, 0.1, 0.6, 1.0]), min_valid=st.sampled_from([0, 0.5, 0.9, 1]))
def test_extremes_enclose_the_mean_and_the_sum_is_mean_times_count_whatever_is_missing(seed, gaps, min_valid):
    fine = series(count=24 * 5, seed=seed)
    fine = fine.where(np.random.default_rng(seed).random(fine.shape) >= gaps)
    low, mean, high, total = (
        TimeOperator.of(fine, how=how)(fine, min_valid=min_valid) for how in ("min", "mean", "max", "sum")
    )
    count = fine.resample(time="D").count()
    enough = (count > 0) & (count >= min_valid * 24)
    for result in (low, mean, high, total):
        np.testing.assert_array_equal(np.isfinite(result), enough)
    assert ((low <= mean + 1e-12) & (mean <= high + 1e-12)).where(enough, True).all()
    np.testing.assert_allclose(total, mean * count, rtol=1e-12)
    np.testing.assert_allclose(mean, fine.resample(time="D").mean().where(enough), rtol=1e-12)


def test_half_a_day_is_missing_and_no_small_sum():
    fine = series(count=36, units="mm")
    fine[3, 0, 0] = np.nan
    operator = TimeOperator.of(fine, how="sum")
    result = operator(fine)
    assert np.isnan(result[1]).all() and np.isnan(result[0, 0, 0]) and np.isfinite(result[0, 0, 1])
    assert operator(fine, min_valid=0.5)[1, 0, 0] == pytest.approx(float(fine[24:, 0, 0].sum()))
    np.testing.assert_array_equal(operator.coverage, [1, 0.5])


def test_a_single_missing_hour_makes_a_year_incomplete():
    fine = series("2001-01-01", 8760)
    operator = TimeOperator.of(fine, step="year")
    assert np.isfinite(operator(fine)).all()
    assert np.isnan(operator(fine.where(fine["time"] != fine["time"][4000]))).all()


def test_hours_that_are_not_in_the_file_count_as_missing():
    fine = series(count=72).drop_isel(time=[30])
    np.testing.assert_array_equal(np.isnan(TimeOperator.of(fine)(fine)[:, 0, 0]), [False, True, False])


def test_a_series_of_winters_has_no_summers_in_it():
    fine = series("2001-01-01", 365 * 3, "D")
    winters = fine.sel(time=fine["time"].dt.month.isin([12, 1, 2]))
    seasons = TimeOperator.of(winters, step="season")(winters)
    np.testing.assert_array_equal(seasons["time"].dt.strftime("%Y-%m-%d"), [f"{y}-12-01" for y in range(2000, 2004)])
    np.testing.assert_array_equal(np.isfinite(seasons[:, 0, 0]), [False, True, True, False])


def test_months_of_unequal_length_weigh_by_their_days():
    months = series("2001-01-01", 24, "MS")
    days = months["time"].dt.days_in_month
    for step, word in (("season", "QS-DEC"), ("year", "YS")):
        expected = (months * days).resample(time=word).sum() / days.resample(time=word).sum()
        xr.testing.assert_allclose(TimeOperator.of(months, step=step)(months, min_valid=0), expected, rtol=1e-12)
    year = TimeOperator.of(months, step="year")
    assert np.isfinite(year(months)).all() and np.isnan(year(months.where(months["time"].dt.month != 2))).all()
    assert abs(year(months) - months.resample(time="YS").mean()).max() > 1e-3


@pytest.mark.parametrize(("stamp", "word"), [("start", "MS"), (None, "MS"), ("end", "ME"), (None, "ME")])
def test_monthly_means_are_read_whichever_end_of_the_month_is_their_stamp(stamp, word):
    months = series("2001-01-01", 12, word)
    operator = TimeOperator.of(months, step="year", stamp=stamp)
    np.testing.assert_array_equal(operator.runs.seconds / 86400, months["time"].dt.days_in_month)
    # ... and on the first of the next one.
    months["time"] = xr.date_range("2001-02-01", periods=12, freq="MS")
    assert TimeOperator.of(months, step="year", stamp="end").coverage == [1]


def test_the_stamp_says_to_which_day_midnight_belongs():
    fine = series("2001-01-01T01:00", 48)
    expected = fine.values.reshape(2, 24, 2, 3).mean(axis=1)
    ends = TimeOperator.of(fine, stamp="end")
    np.testing.assert_allclose(ends(fine), expected, rtol=1e-13)
    np.testing.assert_array_equal(ends.target, np.array(["2001-01-01", "2001-01-02"], dtype="datetime64[ns]"))
    starts = TimeOperator.of(fine, stamp="start")
    assert starts.target.size == 3
    np.testing.assert_allclose(starts.coverage, [23 / 24, 1, 1 / 24])
    halves = fine.assign_coords(time=fine["time"] - np.timedelta64(30, "m"))
    for stamp in ("middle", None):
        np.testing.assert_allclose(TimeOperator.of(halves, stamp=stamp)(halves), expected, rtol=1e-13)
        np.testing.assert_allclose(TimeOperator.of(halves, stamp=stamp).coverage, 1)


def test_days_that_are_stamped_at_noon_stay_in_their_month():
    days = series("2001-01-01T12:00", 59, "D")
    operator = TimeOperator.of(days, step="month")
    np.testing.assert_array_equal(np.bincount(operator.runs.period), [31, 28])
    assert np.isfinite(operator(days)).all()


def test_bounds_outrank_stamps_and_weigh_steps_by_their_length():
    hours = np.array([0, 6, 18, 24, 36, 48])
    edges = np.datetime64("2001-01-01", "ns") + hours.astype("timedelta64[h]")
    bounds = np.stack([edges[:-1], edges[1:]], axis=1)
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    # Stamped at the ends: bounds alone tell that the third step is of the first day.
    fields = xr.Dataset(
        {"a": (("time", "y", "x"), values)}, {"time": edges[1:], "time_bounds": (("time", "bounds"), bounds)}
    )
    operator = TimeOperator.of(fields)
    np.testing.assert_array_equal(operator.runs.seconds / 3600, [6, 12, 6, 12, 12])
    expected = np.average(values[:3], axis=0, weights=[6, 12, 6]), values[3:].mean(axis=0)
    result = operator(fields)
    np.testing.assert_allclose(result["a"], expected, rtol=1e-13)
    days = np.array(["2001-01-01", "2001-01-02", "2001-01-03"], dtype="datetime64[ns]")
    np.testing.assert_array_equal(result["time_bounds"], np.stack([days[:-1], days[1:]], axis=1))
    reversed_bounds = fields.assign_coords(time_bounds=(("time", "bounds"), bounds[:, ::-1]))
    xr.testing.assert_equal(TimeOperator.of(reversed_bounds)(fields), result)
    np.testing.assert_array_equal(TimeOperator.of(fields, stamp="end").runs.seconds / 3600, 12)


def test_steps_that_cross_the_edges_belong_to_the_period_of_their_middle_and_none_may_lack():
    weeks = series("2001-01-01", 52, "7D")
    operator = TimeOperator.of(weeks, step="month", stamp="start")
    middles = weeks["time"] + np.timedelta64(84, "h")
    expected = weeks.groupby(middles.dt.month).mean()
    result = operator(weeks)
    np.testing.assert_allclose(result, expected.values, rtol=1e-13)
    for lacking in (3, 20, 33):
        month = int(middles.dt.month[lacking]) - 1
        gappy = operator(weeks.where(np.arange(52)[:, None, None] != lacking))
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(gappy[:, 0, 0])), [month])


@pytest.mark.parametrize("error", [-40, 40])
def test_dates_that_were_kept_as_floating_point_numbers_stay_in_their_day(error):
    fine = series(count=48)
    rough = fine.assign_coords(time=fine["time"] + (np.arange(48) % 2) * np.timedelta64(error, "us"))
    xr.testing.assert_allclose(TimeOperator.of(rough)(rough), fine.resample(time="D").mean(), rtol=1e-12)


def test_steps_as_long_as_the_period_are_kept_as_they_are():
    days = series(count=5, step="D")
    xr.testing.assert_allclose(TimeOperator.of(days)(days), days, rtol=1e-14)


@given(
    chunks=st.lists(st.integers(1, 40), min_size=2, max_size=8),
    step=st.sampled_from(["day", "month"]),
    how=st.sampled_from(["mean", "sum", "min", "max"]),
)
def test_dask_stays_lazy_in_pieces_of_whole_periods_and_gives_the_eager_answer(chunks, step, how):
    fine = series("2001-01-30T05:00", sum(chunks), dtype=np.float32)
    fine[0, 0, 0] = np.nan
    operator = TimeOperator.of(fine, step=step, how=how)
    lazy = operator(fine.chunk(time=tuple(chunks), y=1), min_valid=0.1)
    assert isinstance(lazy.data, dask.array.Array) and lazy.dtype == np.float32
    assert len(lazy.chunks[0]) == len(operator.runs.cuts(tuple(chunks))) - 1
    xr.testing.assert_identical(lazy.compute(), operator(fine, min_valid=0.1))


def test_pieces_are_no_longer_than_chunks_and_periods_need():
    fine = series(count=24 * 40).chunk(time=24 * 10)
    assert TimeOperator.of(fine)(fine).chunks[0] == (10, 10, 10, 10)


def test_sums_are_taken_in_double_precision():
    fine = series("2001-01-01", 8760, dtype=np.float32) + np.float32(1e5)
    total = TimeOperator.of(fine, step="year", how="sum")(fine)
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total[0], fine.values.astype(np.float64).sum(axis=0).astype(np.float32))


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_the_way_back_gives_every_step_its_period_and_is_the_adjoint(how):
    fine = series("2001-01-01", 14, "MS")
    operator = TimeOperator.of(fine, step="season", how=how)
    coarse = operator(fine, min_valid=0).copy(data=np.random.default_rng(1).normal(size=(operator.target.size, 2, 3)))
    back = operator.T(coarse)
    np.testing.assert_array_equal(back, coarse.values[operator.runs.period])
    np.testing.assert_array_equal(back["time"], fine["time"])
    np.testing.assert_allclose(np.tensordot(operator.T.matrix.toarray(), coarse.values, 1), back, rtol=1e-14)
    steps, periods = operator.shared.sum(axis=0), operator.shared.sum(axis=1)
    if how == "sum":
        steps, periods = np.ones_like(steps), np.ones_like(periods)
    left = np.einsum("p,pyx,pyx", periods, operator(fine, min_valid=0).values, coarse.values)
    assert left == pytest.approx(np.einsum("s,syx,syx", steps, fine.values, back.values), rel=1e-12)
    np.testing.assert_allclose(
        np.tensordot(operator.matrix.toarray(), fine.values, 1), operator(fine, min_valid=0), rtol=1e-12
    )


def test_extremes_have_no_adjoint():
    with pytest.raises(InputError, match=r'how="max".*use how="mean"'):
        _ = TimeOperator.of(series(), how="max").T


def test_datasets_keep_what_has_no_time_and_say_what_was_done():
    flux = series(units="W m-2", cell_methods="area: mean time: point", valid_min=0.0, dtype=np.float32)
    fields = xr.Dataset(
        {"flux": flux, "z": (("y", "x"), np.zeros((2, 3)))},
        coords={
            "y": [1.0, 2.0],
            "x": [0.0, 1.0, 2.0],
            "y_bounds": (("y", "bounds"), np.array([[0.5, 1.5], [1.5, 2.5]])),
        },
        attrs={"title": "t"},
    ).assign_coords(lag=("time", np.arange(96)))
    fields = xr.concat([fields, fields], xr.Variable("member", [0, 1]), data_vars=["flux"], coords="minimal")
    fields["flux"] = fields["flux"].transpose("member", "time", "y", "x")
    result = TimeOperator.of(fields)(fields)
    assert list(result.data_vars) == ["flux", "z"] and result.attrs == {"title": "t"}
    assert set(result.coords) == {"member", "time", "time_bounds", "y", "x", "y_bounds"}
    assert result["flux"].dims == ("member", "time", "y", "x") and result["flux"].dtype == np.float32
    assert result["flux"].attrs == {"units": "W m-2", "cell_methods": "area: mean time: mean"}
    monthly = TimeOperator.of(result, step="month", how="max")(result, min_valid=0)
    assert monthly["flux"].attrs["cell_methods"] == "area: mean time: mean time: maximum"
    assert TimeOperator.of(result, step="month")(result)["flux"].attrs["cell_methods"] == "area: mean time: mean"
    back = TimeOperator.of(fields).T(result)
    assert back["flux"].sizes["time"] == 96 and "time_bounds" not in back.coords


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_results_are_written_and_read_with_their_bounds(tmp_path, calendar):
    made = {} if calendar == "standard" else {"calendar": calendar, "use_cftime": True}
    user = xr.Dataset(
        {"pr": (("time", "lat", "lon"), np.ones((96, 3, 4)), {"units": "mm"})},
        coords={
            "time": ("time", xr.date_range("2001-01-01", periods=96, freq="h", **made), {"standard_name": "time"}),
            "lat": ("lat", [1.0, 2.0, 3.0], {"units": "degrees_north"}),
            "lon": ("lon", [1.0, 2.0, 3.0, 4.0], {"units": "degrees_east"}),
        },
    )
    fields, names = harmonise(user)
    daily = TimeOperator.of(fields, how="sum")(fields)
    daily.to_netcdf(tmp_path / "standard.nc")
    restore(daily, names).to_netcdf(tmp_path / "user.nc")
    for name in ("standard.nc", "user.nc"):
        again, _ = harmonise(open_fields(tmp_path / name))
        np.testing.assert_array_equal(again["time"], daily["time"])
        np.testing.assert_array_equal(again["time_bounds"], daily["time_bounds"])
        with xr.open_dataset(tmp_path / name, decode_cf=False) as stored:
            assert stored["time"].attrs["bounds"] in stored.variables
        assert (again["pr"] == 24).all() and again["pr"].attrs["cell_methods"] == "time: sum"


@pytest.mark.parametrize("units", ["mm/h", "mm h-1", "kg m-2 s-1", "kg m**-2 s**-1", "W m-2", "m s-1", "mm per day"])
def test_rates_are_not_summed(units):
    fine = series(units=units)
    with pytest.raises(InputError, match=r"a rate, to be summed.*Use how=\"mean\""):
        TimeOperator.of(fine, how="sum")(fine)
    assert TimeOperator.of(fine)(fine).attrs["units"] == units


@pytest.mark.parametrize("units", ["mm", "m", "kg m-2", "J m-2", "1", "K d", "m of water equivalent", "furlongs"])
def test_sums_of_amounts_keep_their_units(units):
    fine = series(units=units)
    assert TimeOperator.of(fine, how="sum")(fine).attrs["units"] == units


def test_words_that_mean_nothing_are_refused():
    fine = series()
    for words, match in (
        ({"step": "week"}, "step='week'; expected one of hour, day, month, season, year"),
        ({"how": "median"}, "how='median'; expected one of mean, sum, min, max"),
        ({"stamp": "noon"}, "stamp='noon'; expected one of start, middle, end"),
    ):
        with pytest.raises(InputError, match=match):
            TimeOperator.of(fine, **words)
    with pytest.raises(InputError, match="min_valid=2"):
        TimeOperator.of(fine)(fine, min_valid=2)


def test_times_that_cannot_be_grouped_are_refused():
    fine = series()
    with pytest.raises(InputError, match="no longer than this"):
        TimeOperator.of(series(step="D"), step="hour")
    with pytest.raises(InputError, match="even steps"):
        TimeOperator.of(fine[:1])
    with pytest.raises(InputError, match="even steps"):
        TimeOperator.of(fine[np.arange(12) ** 2 // 2 + np.arange(12)])
    with pytest.raises(InputError, match="ascend"):
        TimeOperator.of(fine[::-1])
    for undated in (xr.Dataset(), fine.isel(time=0, drop=True), fine.assign_coords(time=np.arange(96)), fine[:0]):
        with pytest.raises(InputError, match="expected dates along the dimension time"):
            TimeOperator.of(undated)


def test_plain_times_will_do():
    fine = series()
    bare = xr.DataArray(fine["time"].values, dims="time")
    xr.testing.assert_equal(TimeOperator.of(bare)(fine), TimeOperator.of(fine)(fine))


@pytest.mark.parametrize(("shift", "match"), [(0, "are empty"), (90, "begin before the last ones end")])
def test_bounds_that_are_points_or_overlap_are_refused(shift, match):
    fields = series().to_dataset()
    bounds = np.stack([fields["time"], fields["time"] + np.timedelta64(shift, "m")], axis=1)
    fields = fields.assign_coords(time_bounds=(("time", "bounds"), bounds))
    with pytest.raises(InputError, match=f'{match}.*stamp="start"'):
        TimeOperator.of(fields)
    assert TimeOperator.of(fields, stamp="start").target.size == 4


def test_fields_of_other_times_are_refused():
    fine = series("2001-02-01")
    operator = TimeOperator.of(fine)
    for other in (
        fine[1:],
        series("2001-02-02"),
        series("2001-02-01", calendar="360_day"),
        fine.isel(time=0, drop=True),
    ):
        with pytest.raises(InputError, match=r"TimeOperator.of\(fields"):
            operator(other)
    with pytest.raises(InputError, match="96 times"):
        TimeOperator.of(series(calendar="noleap"))(series(calendar="360_day"))
    with pytest.raises(InputError, match="operator's 4"):
        operator.T(fine)


@pytest.mark.parametrize("name", ["add", "multiplicative", "bounded"])
@pytest.mark.parametrize("step", ["day", "month"])
def test_constraints_give_hourly_rain_the_daily_means_that_are_known(name, step):
    fine = series("2001-01-30T12:00", 24 * 4, seed=1)
    operator = TimeOperator.of(fine, step=step)
    mean = SparseMean(operator.shared, fine=(1, operator.source.size), coarse=(1, operator.target.size))
    generator = torch.Generator().manual_seed(0)
    raw = 2 * torch.randn(2, 6, 1, operator.source.size, generator=generator)
    daily = 3 * torch.rand(2, 6, 1, operator.target.size, generator=generator)
    daily[0, 0, 0, 1] = 0
    constraint = CONSTRAINTS[name](**({"lowest": 0.0} if name == "bounded" else {}))
    hourly = constraint.project(raw, daily, mean)
    assert hourly.dtype == torch.float32
    assert constraint.violation(hourly, daily, mean).max() < 1e-6
    if name != "add":
        assert hourly.min() >= 0
    labelled = xr.DataArray(hourly[..., 0, :].numpy(), dims=("y", "x", "time"), coords={"time": fine["time"]})
    result = operator(labelled, min_valid=0).transpose("y", "x", "time")
    np.testing.assert_allclose(result, daily[..., 0, :], rtol=1e-6, atol=1e-6)


@pytest.mark.data
def test_daily_temperatures_of_era5_are_the_resampled_ones(data_dir: Path):
    fields, _ = harmonise(open_fields(data_dir / "era5_uk_t2m_201903.nc"))
    for how in ("mean", "min", "max"):
        result = TimeOperator.of(fields, how=how)(fields)
        expected = getattr(fields["t2m"].load().astype(np.float64).resample(time="D"), how)()
        assert result.sizes["time"] == 31 and result["t2m"].dtype == np.float32
        np.testing.assert_allclose(result["t2m"], expected, rtol=1e-7)
    month = TimeOperator.of(fields, step="month")(fields)
    np.testing.assert_allclose(month["t2m"][0], fields["t2m"].astype(np.float64).mean("time"), rtol=1e-7)
    # The record has no winter and no year, and one month of spring.
    assert np.isnan(TimeOperator.of(fields, step="season")(fields)["t2m"]).all()


@pytest.mark.data
def test_hourly_radiation_is_projected_onto_daily_means_without_light_at_night(data_dir: Path):
    fields, _ = harmonise(open_fields(data_dir / "inca_graz_hourly_201205.nc"))
    operator = TimeOperator.of(fields)
    with pytest.raises(InputError, match="'rsds' in 'W m-2', a rate"):
        TimeOperator.of(fields[["rsds"]], how="sum")(fields[["rsds"]])
    truth = fields["rsds"].load()
    daily = operator(truth)
    raw = operator.T(daily) * truth.mean(("y", "x")) / operator.T(operator(truth.mean(("y", "x"))))
    mean = SparseMean(operator.shared, fine=(1, 744), coarse=(1, 31))
    first = torch.as_tensor(raw.transpose("y", "x", "time").values)[..., None, :]
    goal = torch.as_tensor(daily.transpose("y", "x", "time").values)[..., None, :]
    projected = CONSTRAINTS["multiplicative"]().project(first, goal, mean)
    assert ((mean.mean(projected) - goal).abs() <= 1e-6 * goal.abs().clamp(min=1)).all()
    assert (projected[first == 0] == 0).all() and projected.min() >= 0
