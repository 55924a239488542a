"""Geographic shift: sets of regions, alignment that can be undone, and gaps that are known."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from finegrid.benchmark import find_task
from finegrid.benchmark.protocols.aligned import ALIGNMENTS, predicted
from finegrid.benchmark.protocols.region_tables import EVERYWHERE, NONE
from finegrid.benchmark.protocols.regions import regions, sets_of
from finegrid.benchmark.regions import Regions
from finegrid.conventions import InputError
from finegrid.data import coarsen, synthetic
from finegrid.downscalers import method
from finegrid.pipeline.naming import named

REGIONS = Regions(train=("maritime", "continental", "alpine"), test=("dry",), size=16, every=2, every_test=4)
TASK = replace(find_task("mrms-x8"), variables=("pr",), factor=4, regions=REGIONS, block=8)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return regions(TASK, ["bicubic+multiplicative", "ridge+multiplicative"], out=tmp_path_factory.mktemp("shift"))


def test_regions_are_learnt_from_all_together_without_one_in_halves_and_alone():
    sets = sets_of(("a", "b", "c", "d"))
    assert sets[0] == ("a", "b", "c", "d")
    assert {each for each in sets if len(each) == 3} == {
        ("b", "c", "d"),
        ("a", "c", "d"),
        ("a", "b", "d"),
        ("a", "b", "c"),
    }
    halves = [each for each in sets if len(each) == 2]
    assert len(halves) == 4 and {*halves[0], *halves[1]} == set("abcd")
    assert sum(len(each) == 1 for each in sets) == 4


def test_a_region_that_is_learnt_from_and_judged_is_parted_in_three():
    task = replace(TASK, regions=replace(REGIONS, train=("alpine",), test=("alpine", "dry"), quarters=True))
    material = task.material()
    blocks = material.blocks
    fine = material.fine["pr"].values
    parts = [{each.tobytes() for each in fine[block]} for block in (blocks.train, blocks.validate, blocks.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert len(blocks.train) == pytest.approx(2 * len(blocks.validate), rel=0.1)  # less those without rain
    assert list(task.periods()) == ["alpine", "dry"]


def test_every_set_is_judged_in_every_region(study):
    assert study.names == ("maritime", "continental", "alpine", "dry")
    for name in study.methods:
        own = [each for each in study.rows if each.method == name]
        assert len(own) == len(sets_of(study.names)) * 4
        assert all(each.value > 0 for each in own)
        assert set(study.of(name)) == {*study.names, EVERYWHERE}
        assert set(study.of(name, "quantile")) == {*study.names, EVERYWHERE}


def test_what_learns_nothing_has_no_gap(study):
    for gap in study.of("bicubic+multiplicative").values():
        assert gap.value == pytest.approx(0, abs=1e-9) and gap.tied
    assert all(abs(each) < 1e-9 for each in study.by_number("bicubic+multiplicative").values())


def test_gaps_are_differences_of_scores_and_lie_in_their_intervals(study):
    by_set = {(each.method, each.learnt, each.region): each.value for each in study.rows}
    for region in study.names:
        gap = study.of("ridge+multiplicative")[region]
        others = tuple(name for name in study.names if name != region)
        assert gap.outside == pytest.approx(by_set["ridge+multiplicative", others, region], rel=1e-6)
        assert gap.inside == pytest.approx(by_set["ridge+multiplicative", study.names, region], rel=1e-6)
        assert gap.low <= gap.value <= gap.high
    assert study.of("ridge+multiplicative")["alpine"].relative > study.of("ridge+multiplicative")["maritime"].relative


def test_tables_and_the_picture(study, tmp_path):
    text = study.markdown()
    assert "learnt in | maritime | continental | alpine | dry |" in text
    assert "with diversity" in text
    assert study.figure(tmp_path / "shift.png").stat().st_size > 10_000
    assert study.to_dict()["gaps"][0]["alignment"] == NONE


@pytest.mark.long
def test_a_second_study_fits_nothing(tmp_path, monkeypatch):
    task = replace(TASK, regions=replace(REGIONS, train=("alpine", "maritime")))
    first = regions(task, ["bicubic+multiplicative"], out=tmp_path)

    def forbidden(*_args, **_options):
        raise AssertionError("made again")

    monkeypatch.setattr("finegrid.benchmark.trials.fitted", forbidden)
    assert regions(task, ["bicubic+multiplicative"], out=tmp_path).rows == first.rows


def test_a_task_of_one_place_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected at least 3, such as mrms-x8"):
        regions(find_task("synthetic-x4"), ["bicubic"], out=tmp_path)


@pytest.mark.parametrize("how", ALIGNMENTS)
@pytest.mark.parametrize("name", ["pr", "tas"])
def test_aligned_predictions_keep_the_means_that_were_given(how, name):
    fine = synthetic.generate(synthetic.REGIONS["alpine"], shape=(16, 16), times=40, seed=1)[[name]]
    dry = replace(synthetic.REGIONS["dry"], south=44.0, west=6.0)
    other = synthetic.generate(dry, shape=(16, 16), times=40, seed=2)[[name]]
    model = named("bicubic+multiplicative" if name == "pr" else "bicubic").fit(coarsen(other, 4), other)
    given = coarsen(fine, 4)
    made = predicted(model, given, coarsen(other, 4), how)
    again = coarsen(made, 4)[name].transpose(*given[name].dims, ...)
    np.testing.assert_allclose(np.squeeze(again.values), given[name].values, rtol=2e-5, atol=1e-4)
    assert made[name].attrs["units"] == fine[name].attrs["units"]


def test_a_method_that_only_scales_is_healed_by_alignment():
    """What learnt in a region of half the rain and cuts at its largest value is right again from aligned fields."""
    fine = synthetic.generate(synthetic.REGIONS["alpine"], shape=(16, 16), times=60, seed=3)[["pr"]]
    learnt = fine.copy()
    learnt["pr"] = (0.5 * fine["pr"]).assign_attrs(fine["pr"].attrs)
    model = method("ridge+multiplicative").fit(coarsen(learnt, 4), learnt)
    direct = method("ridge+multiplicative").fit(coarsen(fine, 4), fine).predict(coarsen(fine, 4))
    errors = {
        how: float(np.abs(predicted(model, coarsen(fine, 4), coarsen(learnt, 4), how)["pr"] - direct["pr"]).mean())
        for how in ALIGNMENTS
    }
    assert max(errors.values()) < 0.02 * float(direct["pr"].mean())


def test_fields_without_rain_stay_as_they_are():
    fine = synthetic.generate(synthetic.REGIONS["dry"], shape=(16, 16), times=12, seed=1)[["pr"]]
    model = method("bicubic+multiplicative").fit(coarsen(fine, 4), fine)
    dry = xr.zeros_like(coarsen(fine, 4))
    assert float(predicted(model, dry, coarsen(fine, 4), "quantile")["pr"].max()) == 0.0
