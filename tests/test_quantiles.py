"""Members and quantiles in files: as they should be, within a bounded memory, and honest about what they keep."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.cli import main
from finegrid.conventions import InputError
from finegrid.data import coarsen, open_fields, synthetic
from finegrid.downscalers import DOWNSCALERS, base
from finegrid.evaluation import evaluate
from finegrid.pipeline.checking import check
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.quantiles import over_members

MEMBERS = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two variables, and a model that draws members and conserves."""
    place = tmp_path_factory.mktemp("quantiles")
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(8, 12), times=60)[["tas", "pr"]]
    coarse = coarsen(fine, 4)
    fine.to_netcdf(place / "fine.nc", engine="netcdf4")
    coarse.to_netcdf(place / "coarse.nc", engine="netcdf4")
    DOWNSCALERS["analogues"](constraint="multiplicative", variables=["pr"]).fit(coarse, fine).save(place / "model")
    DOWNSCALERS["bicubic"]().fit(coarse, fine).save(place / "single")
    return place


def written(folder: Path, name: str, **how) -> tuple[xr.Dataset, object]:
    done = downscale(folder / "model", folder / "coarse.nc", folder / name, command="finegrid downscale", **how)
    with xr.open_dataset(folder / name, engine="netcdf4") as file:
        return file.load(), done


@given(members=st.integers(2, 12), seed=st.integers(0, 100))
def test_quantiles_are_those_of_numpy_at_plotting_positions_of_weibull(members: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.maximum(random.normal(size=(3, members, 4)), 0).astype(np.float32)
    block = xr.Dataset({"pr": (("time", "number", "x"), values)}, coords={"number": np.arange(members)})
    chances = (0.02, 0.25, 0.5, 0.9)
    found = over_members(block, chances, "number")
    assert found.pr.dims == ("time", "quantile", "x")
    expected = np.quantile(values, chances, axis=1, method="weibull")
    np.testing.assert_allclose(found.pr.transpose("quantile", ...), expected, rtol=1e-5, atol=1e-6)
    assert found.pr.dtype == np.float32
    assert "number" not in found.coords


def test_the_truth_lies_below_a_quantile_as_often_as_it_says_whatever_the_number_of_members() -> None:
    random = np.random.default_rng(0)
    for members in (4, 9, 19):
        draws = random.gamma(0.7, 1.0, (members + 1, 100_000))
        block = xr.Dataset({"pr": (("member", "x"), draws[1:])})
        found = over_members(block, (0.2, 0.4, 0.8), "member")
        np.testing.assert_allclose((draws[0] < found.pr).mean("x"), [0.2, 0.4, 0.8], atol=0.01)


def test_a_missing_member_makes_its_quantiles_missing() -> None:
    values = np.arange(12.0).reshape(4, 3)
    values[2, 1] = np.nan
    found = over_members(xr.Dataset({"pr": (("member", "x"), values)}), (0.5,), "member")
    np.testing.assert_array_equal(found.pr[0], [4.5, np.nan, 6.5])


def test_a_file_of_quantiles_has_them_in_place_of_members_and_says_that_they_do_not_conserve(folder: Path) -> None:
    members, all_of_them = written(folder, "members.nc", members=MEMBERS, seed=4)
    found, done = written(folder, "quantiles.nc", members=MEMBERS, seed=4, quantiles=[0.9, 0.1, 0.5])
    assert found.pr.dims == ("quantile", *members.pr.dims[1:])
    np.testing.assert_array_equal(found["quantile"], [0.1, 0.5, 0.9])
    assert found["quantile"].attrs == {"long_name": "quantile over the members of an ensemble", "units": "1"}
    expected = np.quantile(members.pr.values, [0.1, 0.5, 0.9], axis=0, method="weibull")
    np.testing.assert_allclose(found.pr, expected, rtol=1e-5, atol=1e-6)
    assert found.pr.units == members.pr.units and "do not conserve" in found.pr.comment
    # What is said of the file is true of the file, and of the members beside it.
    assert all_of_them.violation < 1e-6 and "conserve" not in all_of_them.words
    assert found.attrs["finegrid_members_conservation_violation"] == pytest.approx(all_of_them.violation)
    assert done.words.startswith(f"quantiles over {MEMBERS} members do not conserve")
    assert "of the members, area means over the coarse cells equal the coarse field to rounding" in done.words
    assert found.attrs["finegrid_conservation"] == done.words
    assert found.attrs["finegrid_conservation_violation"] == done.violation
    assert found.attrs["finegrid_members"] == MEMBERS
    coarse = open_fields(folder / "coarse.nc").pr
    away = np.abs(coarsen(found[["pr"]].isel(quantile=0, drop=True), 4).pr - coarse) / np.maximum(coarse, coarse.mean())
    assert done.violation >= float(away.max()) * (1 - 1e-5) > 0.01


def test_blocks_bound_the_memory_and_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = written(folder, "whole.nc", members=MEMBERS, quantiles=[0.2, 0.7])
    sizes = []
    kept = DOWNSCALERS["analogues"]._members
    monkeypatch.setattr(
        DOWNSCALERS["analogues"],
        "_members",
        lambda self, coarse, *rest: sizes.append(coarse.sizes["time"]) or kept(self, coarse, *rest),
    )
    monkeypatch.setattr(base, "_BLOCK_VALUES", 20 * MEMBERS * 8 * 12)
    pieces, _ = written(folder, "pieces.nc", members=MEMBERS, quantiles=[0.2, 0.7])
    assert max(sizes) <= 20 and len(sizes) >= 3
    xr.testing.assert_allclose(pieces.drop_attrs(), whole.drop_attrs(), rtol=1e-6)


def test_a_year_of_many_members_is_as_a_part_of_few(folder: Path) -> None:
    many, _ = written(folder, "many.nc", members=MEMBERS, seed=2)
    few, _ = written(folder, "few.nc", members=3, seed=2, time="2001-01-10/2001-01-20")
    xr.testing.assert_allclose(few.pr, many.pr.isel(member=slice(3)).sel(time=few.time), rtol=1e-5, atol=1e-5)


def test_quantiles_beyond_the_members_are_told_with_the_number_that_would_do(folder: Path) -> None:
    found, done = written(folder, "beyond.nc", members=MEMBERS, quantiles=[0.01, 0.1, 0.5, 0.95])
    (note,) = [each for each in done.notes if "quantiles" in each]
    assert note.startswith(f"the quantiles 0.01, 0.95 lie beyond what {MEMBERS} members can tell (0.1 to 0.9)")
    assert note.endswith("draw at least 99 members")
    assert note in found.attrs["finegrid_notes"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"members": 5, "quantiles": [0.5, 1.0]}, r"got the quantile 1; expected numbers between 0 and 1.*--quantiles"),
        ({"members": 5, "quantiles": [-0.5]}, r"got the quantile -0.5;"),
        ({"members": 5, "quantiles": [float("nan")]}, r"got the quantile nan;"),
        ({"members": 1, "quantiles": [0.5]}, r"quantiles over members=1; expected at least 2.*--members 50"),
        ({"quantiles": [0.5]}, r"quantiles over members=1; expected at least 2"),
        ({"members": 0}, r"got members=0; expected at least 1"),
        ({"members": -3}, r"got members=-3; expected at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_file(how: dict, words: str, folder: Path) -> None:
    with pytest.raises(InputError, match=words):
        downscale(folder / "model", folder / "coarse.nc", folder / "never.nc", **how)
    assert not (folder / "never.nc").exists()


def test_a_method_with_one_answer_is_refused_several_members(folder: Path) -> None:
    with pytest.raises(InputError, match=r"members=4 .*single answer \('bicubic'\).*analogues, glm.*noise-injected"):
        downscale(folder / "single", folder / "coarse.nc", folder / "never.nc", members=4, quantiles=[0.5])
    assert not (folder / "never.nc").exists()


@pytest.mark.parametrize("typed", [["0.1,0.5,0.9"], ["0.1", "0.5", "0.9"], ["0.1", "--quantiles", "0.5,0.9"]])
def test_quantiles_may_be_typed_in_any_way(typed: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "typed.nc"
    arguments = ["downscale", folder / "model", folder / "coarse.nc", "--members", 9, "--out", out, "--quantiles"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments), *typed])
    assert not end.value.code
    assert "do not conserve" in capsys.readouterr().out
    with xr.open_dataset(out, engine="netcdf4") as file:
        np.testing.assert_array_equal(file["quantile"], [0.1, 0.5, 0.9])


def test_files_of_members_and_of_quantiles_get_an_answer_when_they_are_judged_or_checked(folder: Path) -> None:
    members, _ = written(folder, "judged.nc", members=4)
    quantiles, _ = written(folder, "refused.nc", members=4, quantiles=[0.25, 0.5])
    truth, coarse = open_fields(folder / "fine.nc"), open_fields(folder / "coarse.nc")
    assert "as an ensemble of 4 members" in evaluate(members, truth, coarse=coarse, variables=["pr"]).verdict
    for attempt in (
        lambda: evaluate(quantiles, truth, variables=["pr"]),
        lambda: check(folder / "coarse.nc", folder / "refused.nc"),
    ):
        with pytest.raises(InputError, match=r"isel\(quantile=0\), or take the members themselves: quantiles over an"):
            attempt()
    median = quantiles.sel(quantile=0.5, drop=True)
    assert np.isfinite(evaluate(median, truth, variables=["pr"]).of("pr", "mae")["prediction"].value)
