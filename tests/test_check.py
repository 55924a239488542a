"""`finegrid check`: what it says of two files is so, its recipe runs, and files that do not fit are told apart."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from finegrid.data import coarsen, pair, synthetic
from finegrid.grids import Grid, Operator
from finegrid.pipeline import checking
from finegrid.pipeline.checking import domain_words, fit_rows, kind_of, look, step_words
from test_agreement_report import GRIDS
from test_any_grids import cells
from test_any_pair import fields_on
from test_cli import complaint, finegrid, left_behind

TIMES = 60


def changed(change) -> xr.Dataset:
    """The coarse field of the pair with other values."""
    fields = coarsen(synthetic.generate(shape=(8, 12), times=TIMES)[["tas"]], 4)
    values = change(fields["tas"].values.copy())
    return fields.assign(tas=fields.tas.copy(data=values.astype(np.float32)))


def noisy(values: np.ndarray) -> np.ndarray:
    anomalies = values - values.mean(axis=0)
    return values + np.random.default_rng(4).normal(0, anomalies.std(), values.shape)


KINDS = {
    "same": lambda values: values,
    "biased": lambda values: values + 2,
    "scattered": noisy,
    "unrelated": lambda values: values[np.random.default_rng(3).permutation(TIMES)],
}
CONSTRAINTS = {"same": "add", "biased": "add", "scattered": "relaxed", "unrelated": "none"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with fine.nc and its means, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    synthetic.generate(shape=(8, 12), times=TIMES)[["tas"]].to_netcdf("fine.nc", engine="netcdf4")
    given(changed(KINDS["same"]))
    return tmp_path


def as_height(fields: xr.Dataset) -> xr.Dataset:
    fields["zg"].attrs |= {"standard_name": "geopotential_height", "units": "m"}
    return fields


def given(fields: xr.Dataset) -> None:
    fields.to_netcdf("coarse.nc", engine="netcdf4")


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_that_of_the_pair_that_was_made_and_so_is_the_recipe(kind, folder, capsys):
    given(changed(KINDS[kind]))
    assert finegrid("check", "coarse.nc", "fine.nc", "--out", "recipe.yaml", "--maps", "maps") == 0
    told, recipe = capsys.readouterr().out, yaml.safe_load((folder / "recipe.yaml").read_text())
    assert f"tas show the same weather? {kind.capitalize()}." in told
    assert recipe["downscaler"]["constraint"]["name"] == CONSTRAINTS[kind]
    assert recipe.get("adjust") == ({"name": "shift"} if kind == "biased" else None)
    assert recipe["data"] == {"coarse": ["coarse.nc"], "fine": ["fine.nc"], "variables": {"tas": "tas"}}
    assert yaml.safe_load(told.partition("--out model/):")[2]) == recipe
    assert (folder / "maps" / "bias_tas.png").stat().st_size > 1000
    assert left_behind(folder) == {"recipe.yaml", "maps"}
    advice = {
        "same": "A hard constraint is right",
        "biased": "−2.00",
        "scattered": "use a relaxed constraint",
        "unrelated": "do not force agreement",
    }
    assert advice[kind] in " ".join(told.split())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "biased"])  # that one runs below
def test_the_recipe_runs(kind, folder, capsys):
    given(changed(KINDS[kind]))
    assert finegrid("check", "coarse.nc", "fine.nc", "--out", "recipe.yaml") == 0
    assert finegrid("fit", "recipe.yaml", "--steps", 2, "--out", "model") == 0
    assert (folder / "model" / "report.html").exists()


@pytest.mark.slow
def test_the_printed_recipe_is_a_job_that_runs_as_it_stands(folder, capsys, monkeypatch):
    from finegrid.evaluation import Evaluation

    monkeypatch.setattr(Evaluation, "report", lambda self, path, **_: path)
    given(changed(KINDS["biased"]))
    finegrid("check", "coarse.nc", "fine.nc")
    (folder / "job.yaml").write_text(capsys.readouterr().out.partition("--out model/):")[2])
    assert finegrid("fit", "job.yaml", "--steps", 1, "--out", "model") == 0


def test_both_files_are_described_side_by_side(folder, capsys):
    assert finegrid("check", "coarse.nc", "fine.nc") == 0
    rows = {line.split("  ")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert "block of 4 x 4 fine cells" in rows["cells"]
    assert rows["step"].count("1 day") == 2 and "tas in K" in rows["variables"]
    assert f"{TIMES}" in rows["common times"] and "6 of 6 coarse cells" in rows["conserved"]


def test_other_units_are_converted_before_anything_is_compared(folder, capsys):
    fields = changed(lambda values: values - 273.15)
    fields["tas"].attrs["units"] = "degC"
    given(fields)
    assert finegrid("check", "coarse.nc", "fine.nc") == 0
    told = capsys.readouterr().out
    assert "tas (degC)" in told and "tas (K)" in told and "Same." in told


@pytest.mark.parametrize(
    ("change", "words", "shown"),
    [
        (lambda f: f.assign_coords(lon=f.lon + 90), ["does not cover", "coarse.nc", "expected coarse cells"], "°E"),
        (lambda f: f.assign_coords(time=f.time + np.timedelta64(12, "h")), ["no times in common", "floor"], "12:00"),
        (lambda f: f.assign(tas=f.tas.assign_attrs(units="kg")), ["tas", "'kg'", "different things"], "tas (kg)"),
        (lambda f: f.rename(tas="zg").pipe(as_height),
         ["no variable in common", "zg", "--variables"], "zg (m)"),
    ],
    ids=["domain", "stamps", "units", "variables"],
)  # fmt: skip
def test_files_that_do_not_fit_are_described_before_the_error_says_why(change, words, shown, folder, capsys):
    given(change(changed(KINDS["same"])))
    code = finegrid("check", "coarse.nc", "fine.nc", "--out", "recipe.yaml")
    output = capsys.readouterr()
    assert code == 2 and output.err.startswith("Error: ") and "Traceback" not in output.err
    for word in words:
        assert word in output.err
    assert shown in output.out and left_behind(folder) == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.nc", "fine.nc"], ["absent.nc"]),
        (["coarse.nc", "fine.nc", "--time", "1850"], ["1850", "--time"]),
        (["coarse.nc", "fine.nc", "--variables", "tos"], ["tos", "tas"]),
        (["coarse.nc", "fine.nc", "--predictors", "psl"], ["psl", "coarse.nc"]),
        (["fine.nc", "coarse.nc"], ["coarse cells", "exchanged"]),
        (["coarse.nc", "fine.nc", "--out", "absent/recipe.yaml"], ["absent/recipe.yaml"]),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, words, folder, capsys):
    text = complaint(capsys, finegrid("check", *arguments))
    for word in words:
        assert word in text
    assert left_behind(folder) == set()


def test_a_few_times_are_too_few_to_tell(folder, capsys):
    given(changed(KINDS["biased"]).isel(time=slice(0, 7)))
    assert finegrid("check", "coarse.nc", "fine.nc") == 0
    told = capsys.readouterr().out
    assert "cannot be said" in told and "show the same weather" not in told and "constraint" in told


def test_cells_that_are_conserved_are_those_that_lie_within_the_fine_domain():
    fine = fields_on(cells(20, 24, 0.5, 40, 0), 10)[["tas"]]
    fine["tas"][:, :5, :5] = np.nan  # one coarse cell, 41.25 N to 42.5 N, is left without any value
    coarse = cells(11, 13, 1.25, 38.75, -1.25)
    pairs = pair(Operator.conservative(Grid.of(fine), coarse)(fine.fillna(280)).fillna(280), fine)
    rows = fit_rows(pairs)
    # By hand: rows from 40 N to 50 N and columns from 0 to 11.25 E are whole, the column to 12.5 E sticks out.
    inside = 8 * 9
    hidden = sum(
        south + 1.25 <= 42.5 and west + 1.25 <= 2.5
        for south in 40 + 1.25 * np.arange(8)
        for west in 1.25 * np.arange(9)
    )
    assert rows["conserved"].startswith(f"{inside - hidden} of ")
    assert f"{hidden} have no fine cell with values" in rows["conserved"] and "8 stick out" in rows["conserved"]
    assert "no whole blocks" in rows["cells"] and "2 x 2" in rows["cells"]
    assert rows["fine cells"] == f"{100 * (1 - 25 / 480):.3g} % have values"


@pytest.mark.parametrize(
    ("dates", "words"),
    [
        (xr.date_range("2001-01-01", periods=5, freq="10min"), "10 minutes"),
        (xr.date_range("2001-01-01", periods=5, freq="1h"), "1 hour"),
        (xr.date_range("2001-01-01", periods=5, freq="6h"), "6 hours"),
        (xr.date_range("2001-01-01", periods=5, freq="D"), "1 day"),
        (xr.date_range("2001-01-01", periods=14, freq="MS"), "1 month"),
        (xr.date_range("2001-01-01", periods=14, freq="MS", calendar="360_day", use_cftime=True), "1 month"),
        (xr.date_range("2001-01-01", periods=1, freq="D"), "1 day"),
    ],
)
def test_steps_are_told_in_the_largest_unit(dates, words):
    assert step_words(xr.DataArray(dates, dims="time")) == words


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (slice(0, 8), "8 from 2001-02-25 to 2001-03-04"),
        ([0, 1, 2, 5, 6, 7], "6 from 2001-02-25 to 2001-03-04, with 1 gap"),
        ([0, 1, 3, 4, 6, 7], "6 from 2001-02-25 to 2001-03-04, with 2 gaps"),
    ],
)
@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_times_are_told_with_their_gaps_in_any_calendar(kept, words, calendar):
    dates = xr.date_range("2001-02-25", periods=8, calendar=calendar, use_cftime=calendar == "noleap")
    time = xr.DataArray(dates, dims="time", coords={"time": dates})[kept]
    assert checking._times(time) == words
    months = xr.date_range("2000-01-01", periods=30, freq="MS")
    assert "gap" not in checking._times(xr.DataArray(months, dims="time"))


@pytest.mark.parametrize(
    ("name", "kind", "domain"),
    [
        ("latitudes", "latitude-longitude", "43°N to 47.5°N, 6°E to 12°E"),
        ("date line", "latitude-longitude", "48°N to 56°N, 174°E to 174°W"),
        ("to 360", "latitude-longitude", "48°N to 56°N, 10°W to 2°E"),
        ("globe", "latitude-longitude, uneven rows (Gaussian?)", "90°S to 90°N, all around the globe"),
        ("rotated", "rotated pole", None),
        ("lambert", "projected", None),
        ("curvilinear", "curvilinear (two-dimensional latitudes and longitudes)", None),
    ],
)
def test_grids_are_told_by_their_kind_and_where_they_lie(name, kind, domain):
    assert kind_of(GRIDS[name]) == kind
    words = domain_words(GRIDS[name])
    if domain is None:
        latitude, longitude = GRIDS[name].corners[..., 1], GRIDS[name].corners[..., 0]
        domain = f"{latitude.min():.4g}°N to {latitude.max():.4g}°N, {{}} to {{}}".format(
            *(f"{abs(each):.4g}°{'W' if each < 0 else 'E'}" for each in (longitude.min(), longitude.max()))
        )
    assert words == domain


def test_a_look_at_a_file_counts_what_is_missing(tmp_path: Path):
    fields = fields_on(cells(4, 5, 1.0, 40, 0), 3)
    fields["pr"][0, :2, :] = np.nan
    fields.to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    found = look(tmp_path / "a.nc")
    assert found.source.endswith("a.nc") and found.rows["missing"] == "tas 0 %, pr 50 % at the first time"
    assert found.rows["variables"] == "tas (K), pr (mm)" and found.rows["cells"].startswith("4 x 5, about")
    members = fields.expand_dims(number=np.arange(7))
    members.to_netcdf(tmp_path / "members.nc", engine="netcdf4")
    assert (found.rows["members"], look(tmp_path / "members.nc").rows["members"]) == ("1", "7")
    kilometres = float(found.rows["cells"].split("about ")[1].split(" km")[0])
    assert kilometres == pytest.approx(111.2 * np.sqrt(np.cos(np.deg2rad(42))), rel=0.01)


@pytest.mark.data
def test_the_reanalysis_is_told_to_be_biased_against_the_observations(
    data_dir: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    files = [data_dir / f"iberia_{n}.nc" for n in ("ncep_gauss_djf_1983_2002", "eobs_djf_1983_1996")]
    assert finegrid("check", *files, "--variables", "tas", "--out", tmp_path / "recipe.yaml") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "tas show the same weather? Scattered and biased." in told and "−0.482" in told
    assert "There is a bias too: adjust the bias first" in told and "with 13 gaps" in told and "with 19 gaps" in told
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert recipe["adjust"] == {"name": "shift"} and recipe["downscaler"]["constraint"]["name"] == "relaxed"
