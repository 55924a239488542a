"""Coastlines: known places, clipping, the date line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import InputError
from finegrid.evaluation.coastlines import _clipped, coastlines, within


def distance_to_coast(lines, longitude, latitude) -> float:
    """Smallest distance in degrees from a point to the segments."""
    point, best = np.array([longitude, latitude]), np.inf
    for line in lines:
        start, step = line[:-1], np.diff(line, axis=0)
        along = np.clip(((point - start) * step).sum(axis=1) / (step**2).sum(axis=1), 0, 1)
        best = min(best, float(np.hypot(*(start + along[:, None] * step - point).T).min()))
    return best


# Land's End, Cape Agulhas, Cape Farewell (Greenland), Cape Leeuwin, North Cape, Diamond Head, Cape Reinga.
CAPES = [
    (-5.71, 50.07),
    (20.0, -34.83),
    (-43.9, 59.77),
    (115.14, -34.37),
    (25.8, 71.17),
    (-157.8, 21.26),
    (172.68, -34.42),
]


@pytest.mark.parametrize("place", CAPES)
def test_capes_lie_on_the_coast(place):
    assert distance_to_coast(within(place[0] - 2, place[0] + 2, place[1] - 2, place[1] + 2), *place) < 0.1


@pytest.mark.parametrize("resolution", ["50m", "110m"])
def test_no_line_jumps_around_the_globe_or_runs_along_a_seam(resolution):
    for line in coastlines(resolution):
        assert line.ndim == 2 and line.shape[1] == 2 and len(line) >= 2
        steps = np.abs(np.diff(line, axis=0))
        assert steps.max() < 10
        assert np.abs(line[:, 1]).max() < 89
        along_seam = (np.abs(np.abs(line[1:, 0]) - 180) < 1e-9) & (steps[:, 0] == 0)
        assert not along_seam.any()


@given(
    west=st.floats(-180, 350),
    south=st.floats(-85, 80),
    width=st.floats(0.5, 360),
    height=st.floats(0.5, 90),
)
def test_clipped_lines_stay_in_the_box_and_lose_nothing(west, south, width, height):
    east, north = west + width, min(south + height, 90)
    lines = within(west, east, south, north, resolution="110m")
    points = np.concatenate(lines) if lines else np.empty((0, 2))
    assert (points >= [west - 1e-9, south - 1e-9]).all() and (points <= [east + 1e-9, north + 1e-9]).all()
    everything = np.concatenate(
        [line + np.array([turn, 0]) for line in coastlines("110m") for turn in (-360, 0, 360, 720)]
    )
    inside = everything[(everything > [west, south]).all(axis=1) & (everything < [east, north]).all(axis=1)]
    assert {tuple(point) for point in np.round(inside, 6)} <= {tuple(point) for point in np.round(points, 6)}


def test_a_box_across_the_date_line_shows_both_sides():
    lines = np.concatenate(within(170, 190, 60, 72))
    assert (lines[:, 0] < 179).any() and (lines[:, 0] > 181).any()
    shifted = np.concatenate(within(-190, -170, 60, 72))
    np.testing.assert_allclose(np.sort(lines[:, 0]) - 360, np.sort(shifted[:, 0]), atol=1e-9)


def test_a_segment_through_the_box_is_kept_without_a_point_inside():
    # The middle of the longest segment of all, in a box far smaller than the segment.
    line = max(coastlines("110m"), key=lambda each: np.abs(np.diff(each, axis=0)).max())
    longest = np.abs(np.diff(line, axis=0)).max(axis=1).argmax()
    middle = line[longest : longest + 2].mean(axis=0)
    box = (middle[0] - 0.01, middle[0] + 0.01, middle[1] - 0.01, middle[1] + 0.01)
    assert len(within(*box, resolution="110m")) == 1
    assert within(-30, -29, 0, 1) == []


def test_a_line_that_leaves_the_box_and_comes_back_is_two_lines():
    line = np.array([[0.5, 0.4], [2.0, 0.4], [0.5, 0.6], [0.2, 0.6]])
    left, back = _clipped(line, np.array([0.0, 0.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(left, [[0.5, 0.4], [1.0, 0.4]])
    np.testing.assert_allclose(back, [[1.0, 0.4 + 0.2 * 2 / 3], [0.5, 0.6], [0.2, 0.6]])


def test_wrong_boxes_and_resolutions_are_refused():
    with pytest.raises(InputError, match=r"170\.\.-170.*170\.\.190"):
        within(170, -170, 0, 1)
    with pytest.raises(InputError, match='"50m" or "110m"'):
        coastlines("10m")
