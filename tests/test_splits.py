"""Blocks of time for training, validation and test: ordered, apart and never empty by accident."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError
from finegrid.data.splits import check_training_times, folds, holdout, split_times


def days(count: int, start: str = "2001-01-01") -> xr.DataArray:
    values = np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(1, "D")
    return xr.DataArray(values, dims="time", coords={"time": values})


@given(
    count=st.integers(30, 400),
    train=st.sampled_from([0.5, 0.6, 0.7]),
    validate=st.sampled_from([0.0, 0.1, 0.2]),
    test=st.sampled_from([0.0, 0.1]),
    gap=st.integers(0, 3),
)
def test_blocks_ascend_without_overlap_and_keep_the_gap(count, train, validate, test, gap):
    blocks = split_times(days(count), train=train, validate=validate, test=test, gap=gap)
    parts = [part for part in (blocks.train, blocks.validate, blocks.test) if len(part)]
    for part in parts:
        np.testing.assert_array_equal(np.diff(part), 1)
    for earlier, later in pairwise(parts):
        assert later[0] - earlier[-1] == gap + 1
    assert parts[-1][-1] == count - 1
    for part, share in ((blocks.validate, validate), (blocks.test, test)):
        assert abs(len(part) - share * count) <= gap + 1
    assert len(blocks.train) <= train * count + 1 or train + validate + test == pytest.approx(1)


def test_a_whole_record_without_gaps_is_used_to_the_last_time():
    blocks = split_times(days(100), train=0.7, validate=0.1, test=0.2, gap=0)
    assert (len(blocks.train), len(blocks.validate), len(blocks.test)) == (70, 10, 20)


def test_a_small_training_part_is_the_one_next_to_the_later_blocks():
    blocks = split_times(days(100), train=0.1, validate=0.1, test=0.2, gap=0)
    np.testing.assert_array_equal(blocks.train, np.arange(60, 70))


def test_periods_name_their_first_and_last_years_and_days():
    time = days(4 * 365)
    blocks = split_times(time, train="2001/2002", validate="2003-01", test="2003-06-01/2004-05-31")
    assert time.values[blocks.train[[0, -1]]].astype("M8[D]").astype(str).tolist() == ["2001-01-01", "2002-12-31"]
    assert len(blocks.validate) == 31
    assert time.values[blocks.test[[0, -1]]].astype("M8[D]").astype(str).tolist() == ["2003-06-01", "2004-05-31"]


@pytest.mark.parametrize(("calendar", "length"), [("noleap", 365), ("360_day", 360)])
def test_periods_work_in_other_calendars(calendar, length):
    time = xr.date_range("2001-01-01", periods=3 * length, calendar=calendar, use_cftime=True)
    times = xr.DataArray(time, dims="time", coords={"time": time})
    blocks = split_times(times, train="2001", validate=0, test="2003")
    np.testing.assert_array_equal(blocks.train, np.arange(length))
    np.testing.assert_array_equal(blocks.test, np.arange(2 * length, 3 * length))


def test_a_part_that_is_not_wanted_is_empty():
    blocks = split_times(days(40), train="2001-01", validate=0, test=0)
    assert len(blocks.validate) == len(blocks.test) == 0


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"train": 0.9, "validate": 0.2, "test": 0.2}, r"fractions that add up to 1.3; expected at most 1"),
        ({"train": "2001", "validate": 0.1, "test": 0}, r"the fraction 0.1 next to periods"),
        (
            {"train": "2001", "validate": 0, "test": "1999"},
            r"no times for the test block \(1999\) among 60 times \(2001-01-01.*2001-03-01.*change data.split.test",
        ),
        ({"train": 0.98, "validate": 0.0, "test": 0.005}, r"no times for the test block \(0.005\)"),
        ({"train": "2001-01-01", "validate": 0, "test": 0}, r"got 1 training time\(s\) out of 60.*at least two"),
    ],
)
def test_a_split_that_cannot_be_is_answered_with_the_key_to_change(parts, words):
    with pytest.raises(InputError, match=words):
        split_times(days(60), **parts)


def test_one_training_time_is_too_few():
    with pytest.raises(InputError, match=r"got 1 training time\(s\) out of 5 \(2001-01-01.*longer file"):
        check_training_times(np.arange(1), days(5))
    check_training_times(np.arange(2), days(5))


@given(count=st.integers(2, 300), fraction=st.floats(0, 0.9), gap=st.integers(1, 5))
def test_what_is_held_out_lies_at_the_end_behind_a_gap_or_nothing_is(count, fraction, gap):
    train, held = holdout(count, fraction, gap=gap)
    if len(held):
        assert len(train) >= 2
        assert held[-1] == count - 1
        assert held[0] - train[-1] == gap + 1
    else:
        np.testing.assert_array_equal(train, np.arange(count))


@given(count=st.integers(1, 200), number=st.integers(1, 10))
def test_folds_cover_every_time_once_in_order(count, number):
    blocks = folds(count, number)
    assert len(blocks) == min(count, number)
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(count))
    sizes = [len(block) for block in blocks]
    assert max(sizes) - min(sizes) <= 1
