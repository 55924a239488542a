"""Where things end: quantities by nature, grids behind their last rows, names that belong to another file's places."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrid.conventions import harmonise, natural_limits
from finegrid.conventions.names import Names, placed
from finegrid.grids import Grid
from finegrid.grids.cells import middles
from finegrid.grids.geometry import EARTH_RADIUS
from test_any_grids import GLOBAL, REGIONS, cells
from test_curvilinear import plane_file, rotated
from test_regrid import PLACES, TARGETS, source

NOTHING = (-np.inf, np.inf)
AMOUNT = (0.0, np.inf)


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("hurs", {"units": "%"}, (0, 100)),
        ("hurs", {"units": "1"}, (0, 1)),
        ("anything", {"standard_name": "relative_humidity", "units": "percent"}, (0, 100)),
        ("huss", {"units": "g/kg"}, (0, 1000)),
        ("hus@850", {"units": "kg kg-1"}, (0, 1)),
        ("clt", {"units": "(0 - 1)"}, (0, 1)),
        ("siconc", {"units": "%"}, (0, 100)),
        ("pr", {"units": "kg m-2 s-1"}, AMOUNT),
        ("tp", {}, AMOUNT),
        ("x", {"standard_name": "lwe_thickness_of_snowfall_amount", "units": "mm"}, AMOUNT),
        ("rsds", {"units": "W m-2"}, AMOUNT),
        ("sfcWind", {"units": "m s-1"}, AMOUNT),
        ("tas", {"units": "K"}, NOTHING),
        ("uas", {"units": "m s-1"}, NOTHING),
        ("psl", {"units": "Pa"}, NOTHING),
        ("unheard_of", {"units": "1"}, NOTHING),
        # What the file says goes before what a name usually means.
        ("pr", {"standard_name": "air_temperature", "units": "K"}, NOTHING),
    ],
)
def test_limits_are_those_of_the_quantity_in_the_units_of_the_file(name, attributes, expected):
    assert natural_limits(name, attributes) == pytest.approx(expected)


@pytest.mark.parametrize("units", [None, "", "oktas", "K"])
def test_where_units_do_not_say_what_a_whole_is_there_is_no_upper_limit(units):
    attributes = {} if units is None else {"units": units}
    assert natural_limits("hurs", attributes) == natural_limits("clt", attributes) == AMOUNT


CURVILINEAR = Grid.of(harmonise(plane_file(rotated(9, 11), bounds=True))[0])
BASES = {**REGIONS, "curvilinear": CURVILINEAR, "latitudes": cells(6, 9, 0.7, 40, -5)}


@given(
    name=st.sampled_from(sorted(BASES)),
    rows=st.integers(0, 4),
    columns=st.integers(0, 4),
    masked=st.booleans(),
)
def test_an_extended_grid_is_the_grid_with_masked_cells_behind_it(name, rows, columns, masked):
    base = BASES[name]
    if masked:
        base = base.masked(np.arange(base.size).reshape(base.shape) % 3 > 0)
    longer = base.extended(rows, columns)
    (ny, nx), inner = base.shape, (slice(base.shape[0]), slice(base.shape[1]))
    assert longer.shape == (ny + rows, nx + columns)
    assert not longer.mask[ny:].any() and not longer.mask[:, nx:].any()
    np.testing.assert_array_equal(longer.mask[inner], True if base.mask is None else base.mask)
    np.testing.assert_allclose(longer.weights.sum(), base.weights.sum(), rtol=1e-12)
    np.testing.assert_array_equal(longer.cropped(*inner).corners, base.corners)
    # What was added lies behind the grid, not on it, and is about as large as the last cells.
    added = np.ones(longer.shape, dtype=bool)
    added[inner] = False
    points, own = (middles(each).reshape(*each.shape, 3) for each in (longer, base))
    apart = np.linalg.norm(points[added][:, None] - own.reshape(-1, 3), axis=-1).min(initial=np.inf)
    assert apart > 0.5 * np.sqrt(base.area.min()) / EARTH_RADIUS
    edge = base.area.min() * 0.3, base.area.max() * 2
    assert edge[0] < longer.area.min() and longer.area.max() < edge[1]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("step", [2.5, 0.25])
def test_rows_that_have_no_room_behind_the_pole_take_nothing_that_matters(rows, step):
    cap = cells(8, 12, step, 90 - 8 * step, 0)
    longer = cap.extended(rows, 0)
    assert longer.shape == (8 + rows, 12) and longer.y_edges[-1] == 90 and (np.diff(longer.y_edges) > 0).all()
    np.testing.assert_allclose(longer.area[:8], cap.area, rtol=1e-6)
    np.testing.assert_allclose(longer.area.sum(), cap.area.sum(), rtol=1e-12)
    assert longer.y[7] < longer.y_edges[8] and not longer.mask[8:].any()


def test_columns_do_not_go_around_the_globe_twice():
    assert GLOBAL["pole rows"].extended(0, 1) is None
    assert GLOBAL["pole rows"].extended(2, 0) is not None
    assert cells(4, 35, 10.0, 0, 0).extended(0, 1) is not None
    assert cells(4, 35, 10.0, 0, 0).extended(0, 2) is None


def names_of(name: str) -> Names:
    return harmonise(TARGETS[name])[1]


@pytest.mark.parametrize("name", TARGETS)
def test_names_that_are_placed_have_the_other_places_and_their_own_rest(name):
    own, other = harmonise(source())[1], names_of(name)
    found = placed(own, other)
    assert (found.y, found.x) == (other.y, other.x) == (found.order[-2], found.order[-1])
    assert found.time == own.time == found.order[0]
    for key in ("lat", "lon", "y", "x"):
        assert found.coordinates.get(key) == other.coordinates.get(key)
    assert found.coordinates["time"] == own.coordinates["time"] and found.levels == own.levels
    assert found.grid_mapping == other.grid_mapping and (set(found.scalars) == {other.grid_mapping} - {None})
    if len(PLACES[name]) == 4:
        assert found.latitude == PLACES[name][-2] and found.longitude == PLACES[name][-1]
    assert Names.from_dict(found.to_dict()) == found


def test_a_grid_mapping_that_no_longer_holds_is_left_behind():
    assert set(names_of("rotated").scalars) == {"pole"}
    assert placed(names_of("rotated"), names_of("latitudes")).scalars == {}


@pytest.mark.parametrize("name", TARGETS)
def test_placing_is_idempotent_and_a_file_on_its_own_places_keeps_its_names(name):
    own, other = names_of("rotated"), names_of(name)
    assert placed(placed(own, other), other) == placed(own, other)
    again = placed(other, other)
    assert {each.name for each in fields(Names) if getattr(again, each.name) != getattr(other, each.name)} == set()
