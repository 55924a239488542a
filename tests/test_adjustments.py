"""Bias adjustment: equal to xsdba, true to trends, gaps, dry cells and calendars, and saved with the model."""

import builtins
import warnings

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data import coarsen, open_fields, pair, write
from finegrid.data.adjustments import ADJUSTMENTS, adjustment, wetness
from finegrid.data.adjustments.groups import group_numbers
from finegrid.data.adjustments.kinds import Kind
from finegrid.data.adjustments.quantiles import below, completed, looked_up, ordered_ranks, percent_ranks
from finegrid.data.adjustments.training import repeatable
from finegrid.downscalers import load, method
from test_any_pair import of_rotated

MAPPINGS = ("eqm", "dqm", "qdm")
CLASSES = {
    "scaling": "Scaling",
    "loci": "LOCI",
    "eqm": "EmpiricalQuantileMapping",
    "dqm": "DetrendedQuantileMapping",
    "qdm": "QuantileDeltaMapping",
}
GROUPS = {"all": "time", "month": "time.month", "season": "time.season", "day_of_year": "time.dayofyear"}


def record(seed: int, years: int = 4, *, calendar: str = "noleap", start: str = "1981-01-01", **changes) -> xr.Dataset:
    """Days of temperature in hectokelvin and rain in kg m-2 s-1 (time, y, x): a season, noise, and what is asked for.

    Values of a group lie close together in these units, so that xsdba's own grouping sees no neighbouring month.
    """
    warm, wild, wet = (changes.get(key, usual) for key, usual in (("warm", 0.0), ("wild", 1.0), ("wet", 1.0)))
    random = np.random.default_rng(seed)
    days = {"noleap": 365, "360_day": 360}.get(calendar, 365.25)
    count = int(years * days)
    time = xr.date_range(start, periods=count, calendar=calendar, use_cftime=calendar != "standard")
    season = np.sin(2 * np.pi * np.arange(count) / days)[:, None, None]
    tas = 2.8 + warm / 100 + 0.1 * season + 0.03 * wild * random.normal(size=(count, 2, 3))
    pr = wet * (3 + season) * random.gamma(3, 0.3, size=(count, 2, 3)) / 86400
    dims = ("time", "y", "x")
    rain = {"units": "kg m-2 s-1", "standard_name": "precipitation_flux"}
    return xr.Dataset({"pr": (dims, pr, rain), "tas": (dims, tas, {"units": "hK"})}, coords={"time": time})


@pytest.fixture(scope="module")
def records() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """What should be, the coarse model in training, and its future."""
    return record(1), record(2, warm=2, wild=1.4, wet=1.3), record(3, warm=4, wild=1.5, wet=1.5, start="2041-01-01")


def learnt(table: dict | str, coarse: xr.Dataset, goal: xr.Dataset, *names: str):
    return adjustment(table).learn(coarse, {name: goal[name] for name in names or goal.data_vars})


def theirs(name: str, by: str, goal, given, new, interp: str = "nearest", **options) -> np.ndarray:
    """What xsdba says itself, called as its own documentation has it."""
    import xsdba

    goal, given, new = (each.rename(y="row", x="column") for each in (goal, given, new))
    group = xsdba.Grouper(GROUPS[by], 31) if by == "day_of_year" else GROUPS[by]
    adjust = {"interp": interp, **({"rank_window": True} if name == "qdm" else {})}
    if name == "loci":
        options = {"thresh": f"{1 / 86400!r} kg m-2 s-1"}
    elif name != "scaling":
        options = {"nquantiles": 32, **options}
    if name != "loci":
        options["kind"] = "*" if goal.name == "pr" else "+"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        trained = getattr(xsdba, CLASSES[name]).train(goal, given, group=group, **options)
        return trained.adjust(new, **adjust).transpose("time", "row", "column").values


@pytest.mark.parametrize("by", ["all", "month", "season", pytest.param("day_of_year", marks=pytest.mark.long)])
@pytest.mark.parametrize("variable", ["tas", "pr"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_result_is_that_of_xsdba_in_every_grouping(name, variable, by, records):
    if (name, variable) == ("loci", "tas") or (name, by) == ("loci", "day_of_year"):
        pytest.skip("loci is for rain; in a window xsdba has other thresholds for every day")
    goal, given, new = records
    table = {"name": name, "by": by}
    if name in MAPPINGS:
        table |= {"quantiles": 32, "wet": None}
    found = learnt(table, given, goal, variable)(new)[variable].values
    expected = theirs(name, by, goal[variable], given[variable], new[variable])
    # At the ends of the record, windows are cut, and their ranks lie halfway between quantiles: a matter of taste.
    inner = slice(None) if by != "day_of_year" else (new.time.dt.dayofyear > 15) & (new.time.dt.dayofyear < 351)
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-6)


@pytest.mark.parametrize("variable", ["tas", "pr"])
@pytest.mark.parametrize("name", MAPPINGS)
def test_linear_interpolation_is_that_of_xsdba_within_each_group(name, variable, records):
    goal, given, new = records
    table = {"name": name, "quantiles": 32, "wet": None, "interpolation": "linear"}
    found = learnt(table, given, goal, variable)(new)[variable]
    for month in (1, 7):
        part = [each[variable].isel(time=each.time.dt.month == month) for each in (goal, given, new)]
        expected = theirs(name, "all", *part, interp="linear")
        np.testing.assert_allclose(found.isel(time=new.time.dt.month == month), expected, rtol=1e-6)


def test_variables_together_come_out_as_from_xsdba(records):
    import xsdba

    goal, given, new = records
    mine = learnt({"name": "mbcn", "by": "all", "quantiles": 32, "wet": None}, given, goal)
    found = mine(new)
    stacked = [
        xsdba.processing.stack_variables(
            each.rename(y="row", x="column").assign(tas=each.tas.rename(y="row", x="column").assign_attrs(units="K"))
        )
        for each in (goal, given, new)
    ]
    variables = stacked[0].multivar
    rotations = mine._rotations(2).assign_coords(multivar=variables, multivar_prime=variables.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = xsdba.MBCn.train(*stacked[:2], base_kws={"nquantiles": 32, "group": "time"}, rot_matrices=rotations)
        kinds = {"pr": {"kind": "*"}, "tas": {"kind": "+"}}
        expected = trained.adjust(stacked[2], *stacked[:2], base=xsdba.QuantileDeltaMapping, base_kws_vars=kinds)
    for name in goal:
        one = expected.sel(multivar=name).transpose("time", "row", "column")
        np.testing.assert_allclose(found[name], one, rtol=1e-6, atol=1e-6 * float(abs(one).max()))


def test_variables_together_get_the_dependence_of_the_goal():
    goal, given = record(1), record(2, warm=2)
    goal["pr"] = goal.pr * np.exp(20 * (goal.tas - goal.tas.mean("time")))
    found = learnt({"name": "mbcn", "by": "all", "wet": None}, given, goal)(given)

    def together(fields: xr.Dataset) -> float:
        ranks = [fields[name].rank("time") for name in ("tas", "pr")]
        return float(xr.corr(*ranks, dim="time").mean())

    assert together(goal) - together(given) > 0.3
    assert together(found) == pytest.approx(together(goal), abs=0.06)


def often_dry(seed: int, share: float) -> xr.Dataset:
    """Rain in mm/day that falls on that share of days."""
    fields = record(seed, 3)[["pr"]] * 86400
    wet = np.random.default_rng(seed + 90).random(fields.pr.shape) < share
    fields["pr"] = fields.pr.where(wet, 0.0).assign_attrs(units="mm/day", standard_name="precipitation_flux")
    return fields


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_model_that_is_too_seldom_wet_gets_the_frequency_of_wet_days(name):
    goal, given, new = often_dry(1, 0.6), often_dry(2, 0.35), often_dry(3, 0.35)
    found = learnt({"name": name, "quantiles": 30, "by": "all"}, given, goal)(new)
    often = [float((each.pr > 0.1).mean()) for each in (goal, new, found)]
    assert often[1] < often[0] - 0.2
    assert often[2] == pytest.approx(often[0], abs=0.03)
    assert float(found.pr.min()) >= 0


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_model_that_drizzles_is_dried(name):
    goal, given = often_dry(1, 0.4), often_dry(2, 0.9)
    found = learnt({"name": name, "quantiles": 30, "by": "all"}, given, goal)(given)
    assert float((found.pr > 0.1).mean()) == pytest.approx(float((goal.pr > 0.1).mean()), abs=0.03)


def test_days_that_stay_dry_are_without_rain_also_where_the_goal_has_traces_of_it():
    goal, given = often_dry(1, 0.4), often_dry(2, 0.5)
    goal["pr"] = goal.pr.where(goal.pr > 0, 0.02).assign_attrs(goal.pr.attrs)
    found = learnt({"name": "qdm", "by": "all"}, given, goal)(given)
    dry = given.pr < 0.1
    assert float((found.pr.where(dry, 0) == 0).mean()) == 1


def test_chance_is_that_of_the_seed_alone():
    goal, given = often_dry(1, 0.6), often_dry(2, 0.3)
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    first, again, other = (
        learnt({"name": "qdm", "by": "all", "seed": seed}, given, goal)(given).pr.values for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_dry_days_are_turned_wet_as_xsdba_does_it(monkeypatch):
    import xsdba

    goal, given, new = (each.pr.stack(cell=("y", "x")).reset_index("cell", drop=True) for each in
                        (often_dry(1, 0.6), often_dry(2, 0.3), often_dry(3, 0.3)))  # fmt: skip
    goal, given, new = (each.transpose("time", "cell").assign_attrs(units="m") for each in (goal, given, new))
    options = {"group": "time", "kind": "*", "nquantiles": 32, **wetness.wet_options(0.1)}
    with repeatable([0, 0]):
        trained = xsdba.QuantileDeltaMapping.train(goal, given, **options)
    fields = [each.rename(cell="x").expand_dims(y=1, axis=1).rename("pr").assign_attrs(units="mm/day") for each in
              (goal, given, new)]  # fmt: skip
    mine = adjustment({"name": "qdm", "quantiles": 32, "by": "all"}).learn(fields[1].to_dataset(), {"pr": fields[0]})
    # What is random, the same for both.
    drawn = np.random.RandomState(7).random_sample(new.shape)
    monkeypatch.setattr(np.random, "random_sample", lambda size: drawn)
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: low + (high - low) * drawn)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        noisy = xsdba.processing.jitter_under_thresh(new, "0.1 m")
        expected = trained.adjust(noisy).transpose("time", "cell").values
    expected = np.where((new < 0.1) & (expected < 0.1), 0.0, expected)

    class Drawn:
        def random(self, shape):
            return drawn

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Drawn())
    found = mine(fields[2].to_dataset()).pr.values[:, 0]
    assert (found > 0.1).mean() > (new.values > 0.1).mean() + 0.2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["qdm", "dqm", "eqm", "scaling", "shift"])
def test_an_additive_trend_is_kept_but_by_empirical_mapping(name):
    goal, given = record(1, 6), record(2, 6, wild=1.6)
    new = record(2, 6, wild=1.6)
    new["tas"] = new.tas + 0.04 + 0.02 * np.linspace(0, 1, len(new.time))[:, None, None]
    ours = learnt({"name": name, "by": "all"}, given, goal, "tas")
    change = float((ours(new).tas - ours(given).tas).mean())
    assert float((new.tas - given.tas).mean()) == pytest.approx(0.05, abs=1e-6)
    if name == "eqm":
        assert change < 0.045  # warmer days have smaller factors: the goal varies less
    else:
        assert change == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize("name", ["qdm", "dqm", "eqm"])
def test_a_relative_trend_is_kept_but_by_empirical_mapping(name):
    goal, given = record(1, 6), record(2, 6, wet=0.6)
    given["pr"] = (given.pr**1.4 * 40).assign_attrs(given.pr.attrs)
    new = given.assign(pr=(given.pr * 1.3).assign_attrs(given.pr.attrs))
    ours = learnt({"name": name, "by": "all", "wet": None}, given, goal, "pr")
    change = float(ours(new).pr.mean() / ours(given).pr.mean())
    assert (change < 1.25) if name == "eqm" else (change == pytest.approx(1.3, rel=0.01))


@pytest.mark.parametrize("name", ADJUSTMENTS)
def test_training_values_get_the_climate_of_the_goal(name):
    goal, given = record(1), record(2, warm=3, wild=1.3, wet=1.5)
    found = learnt(name, given, goal)(given)
    names = {"shift": ["tas"], "scale": ["pr"]}.get(name, ["tas", "pr"])
    for variable in names:
        means = [each[variable].groupby("time.month").mean() for each in (found, goal, given)]
        assert float(abs(means[0] - means[1]).mean()) < 0.1 * float(abs(means[2] - means[1]).mean())
    assert given.identical(record(2, warm=3, wild=1.3, wet=1.5))  # nobody's data are changed


@pytest.mark.parametrize("name", [name for name in ADJUSTMENTS if name not in ("shift", "scale", "natural")])
def test_missing_constant_and_dry_cells_keep_their_values_and_leave_neighbours_alone(name):
    goal, given, new = record(1), record(2, warm=3), record(3, warm=4)
    whole = learnt(name, given, goal)(new)
    bad_goal, bad, bad_new = (each.copy(deep=True) for each in (goal, given, new))
    bad.tas[:, 0, 0], bad.pr[:, 0, 1] = 2.9, 0.0  # constant, dry
    bad_goal.tas[:, 0, 2] = np.nan  # never observed
    bad_new.tas[10:20, 1, 0] = np.nan
    bad_new.pr[10:20, 1, 0] = np.nan
    ours = learnt(name, bad, bad_goal)
    found = ours(bad_new)
    known = np.isfinite(bad_new.tas)
    for variable in ("tas", "pr"):
        np.testing.assert_array_equal(np.isfinite(found[variable]), known)
    for variable, column in (("tas", 0), ("pr", 1), ("tas", 2)):
        np.testing.assert_allclose(found[variable][:, 0, column], new[variable][:, 0, column], rtol=1e-12)
    if name != "mbcn":  # its random numbers are those of a block of cells
        np.testing.assert_allclose(found.tas[:, 1, 1:], whole.tas[:, 1, 1:], rtol=1e-12)
    told = " ".join(ours.notes())
    assert f"{name} of tas: of 6 coarse cells" in told and "keep their values" in told
    if name != "mbcn":
        assert "1 have too few values and 1 are constant or dry" in told


@pytest.mark.parametrize("name", ["scaling", "eqm", "dqm"])
def test_times_at_which_one_of_the_two_is_missing_do_not_count(name):
    goal, given = record(1), record(2, warm=3)
    gone = np.arange(len(given.time)) % 3 == 0
    holes = given.assign(tas=given.tas.where(~xr.DataArray(gone, dims="time")))
    kept = [each.isel(time=~gone) for each in (given, goal)]
    ours = [learnt({"name": name, "by": "all"}, *each, "tas")(given).tas for each in ((holes, goal), kept)]
    np.testing.assert_allclose(ours[0], ours[1], rtol=1e-12)


def test_values_beyond_those_of_training_are_counted():
    goal, given = record(1), record(2)
    ours = learnt({"name": "eqm", "by": "all"}, given, goal, "tas")
    new = given.isel(time=slice(100)).copy(deep=True)
    new.tas[:7, 0, 0], new.tas[7, 1, 1] = 9.0, np.nan
    assert ours.notes_on(given) == []
    (told,) = ours.notes_on(new)
    assert "7 of 599 coarse values (1.2 %) lie beyond all training values" in told
    assert "factor of the outermost quantile" in told
    changed = (ours(new).tas - new.tas).values[:7, 0, 0]
    assert np.allclose(changed, ours.numbers["tas/factors"][0, -1, 0, 0], atol=1e-6)


def test_a_field_read_lazily_stays_lazy_where_times_stand_alone():
    goal, given = record(1), record(2)
    lazy = given.chunk(time=200, y=1)
    for table in ({"name": "eqm", "wet": None}, "scaling", "loci", "natural"):
        ours = learnt(table, given, goal)
        found = ours(lazy)
        assert found.tas.chunks is not None and found.pr.chunks is not None
        xr.testing.assert_allclose(found.compute(), ours(given))
    assert learnt("qdm", given, goal)(lazy).tas.chunks is None


def test_limits_of_nature_hold_after_the_adjustment():
    goal, given = record(1), record(2)
    for each, scale in ((goal, 110.0), (given, 70.0)):
        values = np.clip(scale * each.tas / float(each.tas.max()), 0, 100)
        each["hurs"] = values.assign_attrs(units="%", standard_name="relative_humidity")
    found = learnt({"name": "qdm", "wet": None}, given, goal, "hurs")(given.assign(hurs=given.hurs * 1.3))
    assert 99 < float(found.hurs.max()) <= 100


@pytest.mark.parametrize("by", ["month", "day_of_year"])
def test_times_that_training_never_saw_are_told(by):
    winter = [each.isel(time=each.time.dt.month.isin([12, 1, 2])) for each in (record(1, 12), record(2, 12))]
    ours = learnt({"name": "eqm", "by": by, "wet": None}, winter[1], winter[0], "tas")
    with pytest.raises(InputError, match=r"got times in .*, for which .* learnt nothing; expected times in .*leave"):
        ours(record(2, 1))
    assert np.isfinite(ours(winter[1].isel(time=slice(90))).tas).all()


def test_a_window_does_not_reach_across_a_gap_in_the_record():
    """Winters follow each other in the file; the first of December knows nothing of last February."""
    winter = [each.isel(time=each.time.dt.month.isin([12, 1, 2])) for each in (record(1, 12), record(2, 12))]
    shifted = winter[0].copy(deep=True)
    shifted["tas"] = shifted.tas.where(shifted.time.dt.month != 2, 99.0)
    ours = [learnt({"name": "scaling", "by": "day_of_year"}, winter[1], each, "tas")(winter[1]) for each in
            (winter[0], shifted)]  # fmt: skip
    first = (winter[1].time.dt.month == 12) & (winter[1].time.dt.day < 20)
    np.testing.assert_array_equal(ours[0].tas[first], ours[1].tas[first])


def test_short_records_are_told_how_to_go_on():
    goal, given = record(1, 1), record(2, 1)
    with pytest.raises(InputError, match=r"31 in January.*at least 100 in each group.*fewer quantiles"):
        learnt("eqm", given, goal)
    ours = learnt({"name": "qdm", "quantiles": 14, "wet": None}, given, goal)
    with pytest.raises(InputError, match=r"whole record and got too few times: 5 in January; expected at least 10"):
        ours(given.isel(time=slice(5)))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"name": "qdm", "by": "week"}, "expected one of month, season, day_of_year, all"),
        ({"name": "qdm", "window": 30}, "expected an odd number of days"),
        ({"name": "qdm", "kind": "+"}, "expected additive or multiplicative"),
        ({"name": "qdm", "quantiles": 1}, "expected at least 2"),
        ({"name": "eqm", "interpolation": "cubic"}, "expected nearest or linear"),
        ({"name": "eqm", "extrapolation": "nan"}, "expected constant"),
        ({"name": "mbcn", "iterations": 1}, "expected at least 2"),
        ({"name": "scaling", "wet": 1}, "no argument 'wet'"),
        ("qdn", "Did you mean 'qdm'"),
    ],
)
def test_wrong_options_are_told_with_the_valid_ones(table, words):
    with pytest.raises(InputError, match=words):
        adjustment(table)


def test_several_variables_are_asked_for_where_they_are_needed():
    with pytest.raises(InputError, match=r"got tas; expected at least two predicted variables.*qdm"):
        learnt("mbcn", record(2), record(1), "tas")


def test_a_coarse_field_that_never_changes_is_told():
    goal, given = record(1), record(2)
    given["tas"] = xr.full_like(given.tas, 2.8)
    with pytest.raises(InputError, match=r"got no cell of tas from which the adjustment 'eqm' could learn"):
        learnt("eqm", given, goal, "tas")


def test_without_the_package_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refused(name, *rest):
        if name == "xsdba":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(InputError, match=r'pip install "finegrid\[adjust\]"'):
        learnt("qdm", record(2), record(1), "tas")


def test_adjusting_again_needs_no_package(monkeypatch):
    goal, given = record(1), record(2)
    names = ("scaling", "loci", "eqm", "dqm", "qdm", "mbcn")
    fitted = {name: learnt({"name": name, "by": "all"}, given, goal) for name in names}
    monkeypatch.setattr("finegrid.data.adjustments.mapping.library", None)
    monkeypatch.setattr("finegrid.data.adjustments.scaling.library", None)
    monkeypatch.setattr("finegrid.data.adjustments.multivariate.library", None)
    for each in fitted.values():
        assert np.isfinite(each(given).tas).all()


# In models: folders, own cells, calendars.


def daily(years: int, calendar: str, warm: float = 0.0, seed: int = 0) -> xr.Dataset:
    """Fine days (8 x 8 cells) of temperature and rain in a file's words."""
    fields = record(seed, years, calendar=calendar, start="2001-01-01")
    random = np.random.default_rng(seed)
    count = len(fields.time)
    season = 8 * np.sin(2 * np.pi * np.arange(count) / (count / years))[:, None, None]
    weather = random.normal(size=(count, 1, 1)) + 0.4 * random.normal(size=(count, 8, 8))
    dims = ("time", "lat", "lon")
    tas = {"units": "K", "standard_name": "air_temperature"}
    rain = {"units": "mm/day", "standard_name": "lwe_precipitation_rate"}
    return xr.Dataset(
        {
            "tas": (dims, (283 + warm + season + 2 * weather).astype(np.float32), tas),
            "pr": (dims, np.maximum(3 * weather, 0).astype(np.float32), rain),
        },
        coords={
            "time": fields.time,
            "lat": ("lat", 45.125 + 0.25 * np.arange(8), {"units": "degrees_north"}),
            "lon": ("lon", 5.125 + 0.25 * np.arange(8), {"units": "degrees_east"}),
        },
    )


@pytest.mark.parametrize("name", [name for name in ADJUSTMENTS if name not in ("shift", "scale", "natural")])
def test_a_saved_model_adjusts_to_the_last_bit_as_before(name, tmp_path):
    coarse, fine = coarsen(daily(3, "standard", warm=2, seed=1), 4), daily(3, "standard")
    table = {"name": name, "by": "season"}
    model = method("bicubic+none", adjust=table).fit(coarse, fine)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.digest == model.digest
    xr.testing.assert_identical(again.predict(coarse), model.predict(coarse))
    names = {path.suffix for path in (tmp_path / "model").iterdir()}
    assert names == {".safetensors", ".json"}


def test_blocks_and_the_files_own_cells_are_both_adjusted(tmp_path):
    coarse, fine = of_rotated(120)
    biased = coarse.copy(deep=True)
    biased["tas"] = 1.3 * (biased.tas - 283) + 281
    model = method("bicubic+none", adjust={"name": "qdm", "by": "all", "quantiles": 20}, variables=["tas"])
    model.fit(biased, fine)
    given, plain = (model.domain.inputs.read(each) for each in (biased, coarse))
    found = model.read(biased)
    for field in ("tas", "tas (own cells)"):
        errors = [float(abs(each[field] - plain[field]).mean()) for each in (given, found)]
        assert errors[1] < 0.25 * errors[0]
    model.save(tmp_path / "model")
    xr.testing.assert_identical(load(tmp_path / "model").predict(biased), model.predict(biased))


@pytest.mark.parametrize(("calendar", "left_out"), [("noleap", {"02-29"}), ("360_day", set())])
def test_a_model_in_another_calendar_is_adjusted_and_downscaled_in_its_own(calendar, left_out, tmp_path):
    fine = daily(4, "standard")
    coarse = coarsen(daily(4, calendar, warm=3, seed=1), 4)
    matched = pair(coarse, fine)
    assert matched.fine.sizes["time"] == coarse.sizes["time"]  # every day of the shorter year has its like
    model = method("qdm/bicubic+none", adjust={"name": "qdm", "quantiles": 30}).fit(coarse, fine)
    found = model.predict(coarse.isel(time=slice(370)))
    assert found.time.dt.calendar == calendar
    np.testing.assert_array_equal(found.time, coarse.time[:370])
    means = [float(each.tas.isel(time=slice(360)).mean()) for each in (found, fine, coarse)]
    assert means[0] == pytest.approx(means[1], abs=0.3) and means[2] > means[1] + 2.5
    if calendar == "360_day":
        dates = [str(each)[:10] for each in found.time.values]
        assert "2001-02-30" in dates and found.time[59].dt.month == 2
    model.save(tmp_path / "model")
    later = coarsen(daily(2, "standard", warm=3, seed=2), 4)
    standard = load(tmp_path / "model").predict(later)
    assert standard.time.dtype.kind == "M"
    assert float(standard.tas.mean() - later.tas.mean()) == pytest.approx(-3, abs=0.3)


def test_dates_without_a_like_are_left_out_and_none_becomes_another():
    fine = daily(4, "standard")
    coarse = coarsen(daily(4, "noleap"), 4)
    matched = pair(coarse, fine)
    dates = {str(each)[5:10] for each in matched.fine.time.values}
    assert "02-29" not in dates and "02-28" in dates and len(dates) == 365
    march = np.flatnonzero(fine.time.dt.strftime("%Y-%m-%d") == "2004-03-01")[0]
    here = np.flatnonzero([str(each)[:10] == "2004-03-01" for each in matched.fine.time.values])[0]
    np.testing.assert_array_equal(matched.fine.tas[here], fine.tas[march])
    months = daily(4, "standard").resample(time="MS").mean()
    both = pair(coarsen(daily(4, "360_day").resample(time="MS").mean(), 4), months)
    np.testing.assert_array_equal(both.fine.time.dt.month, np.tile(np.arange(1, 13), 4)[: both.fine.sizes["time"]])


def test_a_year_of_360_days_meets_the_days_at_the_same_place_in_the_longer_year():
    fine = daily(1, "standard")
    matched = pair(coarsen(daily(1, "360_day"), 4), fine)
    places = [int(np.flatnonzero((fine.tas.values == day).all(axis=(1, 2)))[0]) for day in matched.fine.tas.values]
    # By hand: day d of 360 is day round(365 d / 360) of 365, where halves may go either way.
    exact = np.arange(1, 361) * 365 / 360 - 1
    assert np.abs(places - exact).max() <= 0.5 and (np.diff(places) > 0).all()


def test_a_prediction_in_the_calendar_of_the_model_can_be_written_by_anyone(tmp_path):
    write(daily(1, "standard"), tmp_path / "fine.nc")
    write(coarsen(daily(1, "360_day"), 4), tmp_path / "coarse.nc")
    coarse, fine = (open_fields(tmp_path / f"{name}.nc") for name in ("coarse", "fine"))
    found = method("natural/bicubic+none").fit(coarse, fine).predict(coarse)
    found.to_netcdf(tmp_path / "out.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "out.nc", engine="netcdf4") as again:
        assert again.time.dt.calendar == "360_day" and str(again.time.values[59])[:10] == "2001-02-30"


@pytest.mark.parametrize(
    ("calendar", "day", "expected"),
    [("360_day", 360, 365), ("360_day", 1, 1), ("360_day", 180, 182), ("noleap", 59, 59), ("standard", 365, 365)],
)
def test_days_of_the_year_go_by_their_phase_across_calendars(calendar, day, expected):
    time = xr.date_range("2001-01-01", periods=365, calendar=calendar, use_cftime=calendar != "standard")
    numbers = group_numbers(xr.DataArray(time, dims="time"), "day_of_year", "noleap")
    assert numbers[day - 1] == expected


# Columns.


def test_searches_in_columns_are_those_of_numpy():
    random = np.random.default_rng(0)
    nodes = np.sort(np.round(random.normal(size=(13, 7)), 1), axis=0)
    values = np.round(random.normal(size=(50, 7)), 1)
    for equal, side in ((False, "left"), (True, "right")):
        expected = np.stack([np.searchsorted(nodes[:, c], values[:, c], side=side) for c in range(7)], axis=1)
        np.testing.assert_array_equal(below(nodes, values, equal=equal), expected)


def test_linear_factors_are_those_of_numpy():
    random = np.random.default_rng(1)
    nodes, factors = np.sort(random.normal(size=(9, 5)), axis=0), random.normal(size=(9, 5))
    values = 2 * random.normal(size=(40, 5))
    expected = np.stack([np.interp(values[:, c], nodes[:, c], factors[:, c]) for c in range(5)], axis=1)
    np.testing.assert_allclose(looked_up(values, nodes, factors, "linear"), expected)


def test_ranks_within_a_sample_are_those_of_the_sample_itself():
    random = np.random.default_rng(2)
    values = np.round(random.normal(size=(60, 4)), 1)
    values[3, 1] = np.nan
    np.testing.assert_allclose(percent_ranks(values.copy(), values), ordered_ranks(values))
    assert np.isnan(ordered_ranks(values)[3, 1]) and np.nanmax(ordered_ranks(values[:, 2:])) <= 1


def test_ranks_are_those_of_xsdba_with_equal_and_missing_values():
    from xsdba.utils import rank

    values = np.array([[0.0, 3, 1], [0, 1, 1], [2, 3, np.nan], [1, 2, 0], [2, 3, np.nan]])
    expected = rank(xr.DataArray(values, dims=("time", "cell")), pct=True).transpose("time", "cell")
    np.testing.assert_allclose(ordered_ranks(values), expected)
    np.testing.assert_allclose(percent_ranks(values.copy(), values), expected)


def test_factors_that_are_no_number_take_the_next_one_above():
    factors = np.array([[np.nan, np.nan], [2.0, np.nan], [np.inf, np.nan], [4.0, np.nan]])
    np.testing.assert_array_equal(completed(factors, 1.0), [[2, 1], [2, 1], [4, 1], [4, 1]])


@pytest.mark.parametrize(
    ("units", "expected"),
    [("mm/day", 0.1), ("kg m-2 s-1", 0.1 / 86400), ("m", 1e-4), ("mm", 0.1), ("", 0.1), ("mm/h", 0.1 / 24)],
)
def test_a_wet_day_is_meant_in_the_units_of_the_rain(units, expected):
    field = record(1).pr.assign_attrs(units=units)
    kind = Kind.of(field, None, 0.1)
    assert kind.wet == pytest.approx(expected) and kind.sign == "*" and kind.lowest == 0
    assert Kind.of(record(1).tas, None, 0.1).wet is None


# Real data.


@pytest.mark.data
def test_real_winters_come_nearer_to_the_observed_climate(data_dir):
    names = ("iberia_ncep_gauss_tas_pr_djf_1983_2002.nc", "iberia_eobs_djf_1983_1996.nc")
    files = [next(iter(sorted(data_dir.glob(f"{name.split('_djf')[0].rsplit('_tas', 1)[0]}*.nc")))) for name in names]
    coarse, fine = (open_fields(file) for file in files)
    model = method("qdm/bicubic+none", variables=["tas", "pr"])
    train = slice("1983", "1992-06")
    model.fit(coarse.sel(time=train), fine.sel(time=train))
    test = coarse.sel(time=slice("1992-07", "1996-02"))
    truth = fine.sel(time=test.time)
    found = model.predict(test).isel(member=0)
    plain = method("bicubic+none", variables=["tas", "pr"]).fit(coarse.sel(time=train), fine.sel(time=train))
    raw = plain.predict(test).isel(member=0)
    for name in ("tas", "pr"):
        bias = [float(abs((each[name] - truth[name]).mean("time")).mean()) for each in (raw, found)]
        assert bias[1] < 0.8 * bias[0]
