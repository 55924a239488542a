"""Patches of several regions are one record: cells come back, parts keep apart, what is no use is left out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from finegrid.benchmark import TASKS, find_task
from finegrid.benchmark.regions import Regions, in_quarter
from finegrid.conventions import InputError, harmonise
from finegrid.data import split_times
from finegrid.data.coarsen import coarsen
from finegrid.data.patches import cut, stacked, useful
from finegrid.downscalers import Bicubic
from finegrid.evaluation import evaluate
from finegrid.grids import Grid

RAIN = {"units": "mm h-1", "standard_name": "rainfall_rate", "grid_mapping": "crs"}


def radar(*, times: int = 6, size: int = 16, seed: int = 0, northward: bool = True) -> xr.Dataset:
    """Rain of a region on latitudes and longitudes, a few minutes apart."""
    values = np.random.default_rng(seed).gamma(1.0, size=(times, size, size)).astype(np.float32)
    lat = 30.0 + 0.01 * np.arange(size)
    fields = xr.Dataset(
        {"rain_rate": (("time", "lat", "lon"), values, RAIN)},
        coords={
            "time": np.datetime64("2019-06-10", "ns") + np.arange(times) * np.timedelta64(2, "m"),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", -80.0 + 0.01 * np.arange(size), {"units": "degrees_east"}),
        },
    )
    return fields if northward else fields.isel(lat=slice(None, None, -1))


def test_patches_put_side_by_side_are_the_frame():
    fields = radar()
    patches = cut(fields, (4, 8))
    first = patches.isel(patch=patches.moment.values == fields.time.values[2])
    rows = [
        np.concatenate(list(first.rain_rate.values[first.row.values == row]), axis=1)
        for row in range(int(first.row.max()) + 1)
    ]
    np.testing.assert_array_equal(np.concatenate(rows), fields.rain_rate.values[2])


def test_a_place_keeps_its_times_together_and_its_neighbour_follows():
    patches = cut(radar(times=6), 8, every=2)
    assert patches.row.values.tolist() == [0] * 6 + [1] * 6
    assert patches.column.values.tolist() == ([0] * 3 + [1] * 3) * 2
    assert (np.diff(patches.moment.values[:3]) == np.timedelta64(4, "m")).all()


def test_rows_are_counted_from_the_south_whichever_way_the_file_runs():
    south, north = cut(radar(), 8), cut(radar(northward=False), 8)
    xr.testing.assert_identical(south, north)


def test_rows_and_columns_that_fill_no_patch_are_left_out():
    patches = cut(radar(size=16), 6)
    assert patches.sizes == {"patch": 4 * 6, "y": 6, "x": 6}
    np.testing.assert_array_equal(patches.rain_rate.values[0], radar().rain_rate.values[0, :6, :6])


def test_patches_that_are_dry_or_not_whole_are_left_out():
    patches = cut(radar(times=1), 8)
    patches.rain_rate[1] = 0.0
    patches.rain_rate[2, 0, 0] = np.nan
    kept = useful(patches, above=0.0)
    np.testing.assert_array_equal(kept.rain_rate.values, patches.rain_rate.values[[0, 3]])
    assert useful(patches).sizes["patch"] == 3


def test_the_record_is_a_plane_of_equal_areas_in_kilometres():
    record = stacked({"a": cut(radar(), 8)}, cell=2.0)
    grid = Grid.of(harmonise(record.fields)[0])
    np.testing.assert_allclose(grid.area, 4e6, rtol=1e-6)
    assert record.fields.x.attrs["units"] == "km"
    assert record.fields.rain_rate.attrs["units"] == "mm h-1"
    # Equal areas: the block mean is the plain mean of the cells.
    means = coarsen(record.fields, 4).rain_rate.values
    plain = record.fields.rain_rate.values.reshape(-1, 2, 4, 2, 4).mean((2, 4))
    np.testing.assert_allclose(means, plain, rtol=1e-5)


def test_every_part_has_years_of_its_own_and_a_split_by_them_mixes_none():
    parts = {name: cut(radar(seed=seed), 8) for seed, name in enumerate("abc")}
    long = {"a": cut(radar(times=100), 8), **{name: parts[name] for name in "bc"}}
    assert stacked(parts).periods == {"a": "2001", "b": "2002", "c": "2003"}
    record = stacked(long)
    assert record.periods == {"a": "2001/2002", "b": "2003", "c": "2004"}
    blocks = split_times(record.fields.time, train=record.span("a"), validate=record.span("b"), test=record.span("c"))
    np.testing.assert_array_equal(record.fields.rain_rate.values[blocks.test], parts["c"].rain_rate.values)
    np.testing.assert_array_equal(record.fields.rain_rate.values[blocks.train], long["a"].rain_rate.values)


def test_a_method_fits_and_is_judged_on_the_record_as_on_any_other():
    record = stacked({"a": cut(radar(), 8), "b": cut(radar(seed=1), 8)})
    low = coarsen(record.fields, 4)
    fitted = Bicubic(constraint="add").fit(low.sel(time="2001"), record.fields.sel(time="2001"))
    right = record.fields.sel(time="2002")
    found = evaluate(fitted.predict(low.sel(time="2002")), right, coarse=low.sel(time="2002"))
    assert found.of("rain_rate", "violation")["prediction"].value < 1e-6
    assert found.of("rain_rate", "rmse")["prediction"].value < float(right.rain_rate.std())


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda: cut(radar(size=16), 17), "patches of 17 x 17 cells for fields of 16 x 16"),
        (lambda: cut(radar(), 0), "expected at least 1"),
        (lambda: stacked({}), "got no parts"),
        (lambda: stacked({"a": cut(radar(), 8).isel(patch=slice(0))}), "got no patch of 'a'"),
        (lambda: stacked({"a": cut(radar(), 8), "b": cut(radar(), 4)}), "4 x 4 of rain_rate of 'b' beside 8 x 8"),
        (lambda: stacked({"a": cut(radar(), 8)}).span("z"), "got the part 'z'; expected one of a"),
    ],
)
def test_what_cannot_be_cut_or_stacked_is_refused_in_words(do, words):
    with pytest.raises(InputError, match=words):
        do()


@pytest.fixture
def regions(monkeypatch):
    fields = {name: radar(seed=seed) for seed, name in enumerate(("one", "two", "other"))}
    fields["two"].rain_rate[:, :8, :8] = 0.0
    monkeypatch.setattr("finegrid.benchmark.regions.samples.open", fields.__getitem__)
    return Regions(train=("one", "two"), test=("other",), size=4, every=2, every_test=3)


def test_the_south_eastern_quarter_of_each_training_region_is_for_validation(regions):
    record = regions.record(("rain_rate",))
    blocks = split_times(record.fields.time, **regions.split(record))
    train, validate, test = (record.fields.rain_rate.values[each] for each in vars(blocks).values())
    # 16 places of 3 frames each; the dry quarter of the second region is a third of its training patches.
    assert [len(train), len(validate), len(test)] == [36 + 24, 12 + 12, 32]
    np.testing.assert_array_equal(validate[0], radar(seed=0).rain_rate.values[0, :4, 8:12])
    assert "two: 24 of 36" in record.fields.attrs["comment"]


def test_the_quarter_is_a_quarter():
    patches = cut(radar(times=1), 4)
    assert in_quarter(patches).sum() == 4
    assert set(
        zip(patches.row.values[in_quarter(patches)], patches.column.values[in_quarter(patches)], strict=True)
    ) == {
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
    }


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mrms-x8", "mrms-fmi-x8"])
def test_the_radar_tasks_hold_what_the_documentation_says(name, data_dir):
    material = find_task(name).material()
    sizes = [len(each) for each in vars(material.blocks).values()]
    assert sizes == {"mrms-x8": [562, 179, 121], "mrms-fmi-x8": [562, 179, 145]}[name]
    rain = material.fine.rain_rate
    assert bool(rain.notnull().all())
    assert float(rain.max(("y", "x")).min()) > 0
    assert TASKS[name].options["cycles"] == ()
