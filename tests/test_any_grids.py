"""Conservative remapping between any two grids, as polygons: integrals, agreement, gaps, cache and weight files."""

import functools
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import sph_harm_y

from finegrid.conventions import InputError
from finegrid.grids import OPERATORS, Grid, Operator, overlap, storage, tiling
from finegrid.grids.conservative import shared_areas
from finegrid.grids.geometry import EARTH_RADIUS
from finegrid.grids.overlap import overlaps
from test_grids import LAMBERT, ROTATED_POLE, evenly, gaussian_latitudes, grid_of

POLAR = {
    "grid_mapping_name": "polar_stereographic",
    "standard_parallel": 60.0,
    "straight_vertical_longitude_from_pole": 25.0,
    "earth_radius": 6371288.0,
    "latitude_of_projection_origin": 90.0,
}


def cells(ny, nx, step, south, west, crs=None) -> Grid:
    """`ny` x `nx` cells of a size, or of a height and a width, from their south-western corner."""
    high, wide = (step, step) if np.isscalar(step) else step
    return grid_of(evenly(south + high / 2, high, ny), evenly(west + wide / 2, wide, nx), crs)


def fields_on(grid: Grid, values: np.ndarray) -> xr.DataArray:
    dims = ("time", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords={"y": grid.y, "x": grid.x})


GLOBAL = {
    "pole rows": grid_of(evenly(-90, 2.5, 73), evenly(-180, 2.5, 144)),
    "gaussian": grid_of(gaussian_latitudes(64), evenly(0, 2.8125, 128)),
    "rotated": cells(72, 144, 2.5, -90, -180, ROTATED_POLE),
}
REGIONS = {
    "rotated": cells(28, 30, 0.44, -15.07, -23.15, ROTATED_POLE),
    "lambert": cells(20, 24, 5e4, -5e5, -6e5, LAMBERT),
    "polar": cells(24, 24, 2e4, -4.4e6, -3e5, POLAR),
    "pole inside": cells(20, 20, 1e5, -1e6, -1e6, POLAR),
}


def harmonic(degree: int, order: int):
    def field(grid: Grid) -> np.ndarray:
        latitude, longitude = (np.deg2rad(each) for each in grid.centres)
        return np.real(sph_harm_y(degree, order, np.pi / 2 - latitude, longitude))

    return field


# Fields and their integrals over the sphere in units of the radius squared.
FIELDS = {
    "one": (lambda grid: np.ones(grid.shape), 4 * np.pi),
    "cos": (lambda grid: np.cos(np.deg2rad(grid.centres[0])), np.pi**2),
    "Y(2, 1)": (harmonic(2, 1), 0.0),
    "Y(16, 8)": (harmonic(16, 8), 0.0),
}


@functools.cache
def between(source: str, target: str) -> Operator:
    return Operator.conservative(GLOBAL[source], GLOBAL[target], cache=False)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("source", "target"), list(permutations(GLOBAL, 2)))
def test_integrals_over_the_globe_are_kept_to_rounding_and_are_right_to_first_order(source, target, name):
    field, exact = FIELDS[name]
    operator, source, target = between(source, target), GLOBAL[source], GLOBAL[target]
    values = field(source)
    result = operator(fields_on(source, values)).values
    before = (source.area * values).sum() / EARTH_RADIUS**2
    own = (np.asarray(operator.shared.sum(axis=1)) * result.ravel()).sum() / EARTH_RADIUS**2
    size = (source.area * np.abs(values)).sum() / EARTH_RADIUS**2
    assert abs(own - before) <= 1e-12 * size
    # The sides of cells are chords of some hundred kilometres: areas of cells are right to 2e-4.
    assert abs((target.area * result).sum() / EARTH_RADIUS**2 - before) <= 1e-4 * size
    assert abs(own - exact) <= 1e-3 * size
    error = np.sqrt((target.area * (result - field(target)) ** 2).sum() / (target.area * field(target) ** 2).sum())
    # First order: the error is about the steepness of the field times half a cell.
    assert error < {"one": 1e-12, "cos": 0.01, "Y(2, 1)": 0.04, "Y(16, 8)": 0.3}[name]


@pytest.mark.parametrize("other", REGIONS)
@pytest.mark.parametrize("direction", ["to", "from"])
def test_weights_sum_to_one_and_keep_constants_between_reference_systems(other, direction):
    region = REGIONS[other]
    latitude, longitude = region.centres
    west = -180.0 if other == "pole inside" else np.floor(longitude.min())
    width = 360.0 if other == "pole inside" else np.ceil(longitude.max()) - west
    south = np.floor(latitude.min())
    plain = cells(int((90 - south) / 1.5), int(width / 1.5), 1.5, south, west)
    source, target = (plain, region) if direction == "to" else (region, plain)
    operator = Operator.conservative(source, target, cache=False)
    total = np.asarray(operator.matrix.sum(axis=1)).reshape(target.shape)
    np.testing.assert_allclose(total[operator.coverage > 0], 1, rtol=1e-12)
    assert (operator.matrix.data > 0).all()
    result = operator(fields_on(source, np.full(source.shape, 271.3))).values
    np.testing.assert_allclose(result[np.isfinite(result)], 271.3, rtol=1e-12)
    # What target cells inside the source share with it is their own area.
    shared = np.asarray(operator.shared.sum(axis=1)).reshape(target.shape)
    inner = operator.coverage > 0.98
    assert inner.any()
    np.testing.assert_allclose(shared[inner], target.area[inner], rtol=0.02)
    assert np.median(np.abs(shared[inner] / target.area[inner] - 1)) < 2e-4


def test_polygons_give_the_areas_of_the_closed_form_within_one_reference_system():
    source, target = cells(36, 72, 2.5, 0, -180), cells(25, 100, 3.6, 0, -180)
    exact, drawn = shared_areas(source, target), overlaps(source, target)
    assert exact.nnz and abs(exact - drawn).max() < 3e-4 * exact.max()


@pytest.mark.parametrize("ratio", ["nested", "2.5", "gaussian", "finer"])
def test_rectilinear_results_are_those_of_xarray_regrid(ratio):
    import xarray_regrid  # noqa: F401  (adds the `.regrid` accessor)

    source = cells(80, 100, 0.5, 20, -30)
    target = {
        "nested": cells(20, 25, 2.0, 20, -30),
        "2.5": cells(32, 40, 1.25, 20, -30),
        "gaussian": grid_of(gaussian_latitudes(94)[59:76], evenly(-28, 1.875, 24)),
        "finer": cells(100, 125, 0.3, 22, -28),
    }[ratio]
    values = np.random.default_rng(0).normal(280, 10, (3, *source.shape))
    ours = Operator.conservative(source, target)(fields_on(source, values))
    # Their weights are overlaps of latitudes, in which a row's area is spread evenly. In sin(latitude) overlaps are
    # areas; centres are chosen so that the edges half-way between them are those of the rows.
    equal_area = xr.DataArray(values, dims=("time", "s", "x"), coords={"s": _between(source.y_edges), "x": source.x})
    goal = xr.Dataset(coords={"s": _between(target.y_edges), "x": target.x})
    theirs = equal_area.regrid.conservative(goal, latitude_coord=None, nan_threshold=1)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(ours.values[inner], theirs.values[inner], rtol=1e-8)


@given(seed=st.integers(0, 999), share=st.sampled_from([0.1, 0.5, 0.9]))
def test_missing_cells_are_left_out_and_means_stay_within_what_is_there(seed, share):
    source = REGIONS["rotated"]
    operator = _to_regular(source)
    generator = np.random.default_rng(seed)
    values = generator.uniform(0, 1, (2, *source.shape))
    values[generator.random(values.shape) < share] = np.nan
    result = operator(fields_on(source, values)).values.reshape(2, -1)
    for index, field in enumerate(values.reshape(2, -1)):
        known = np.isfinite(field)
        total = operator.matrix[:, known] @ field[known]
        weight = operator.matrix[:, known].sum(axis=1)
        expected = np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)
        np.testing.assert_allclose(result[index], expected, rtol=1e-9)
    assert np.nanmin(result) >= 0 and np.nanmax(result) <= 1


def test_a_mask_that_does_not_change_in_time_gives_the_same_as_one_that_does():
    source = REGIONS["rotated"]
    operator, generator = _to_regular(source), np.random.default_rng(1)
    values = generator.uniform(0, 1, (4, *source.shape))
    values[:, generator.random(source.shape) < 0.4] = np.nan
    constant = operator(fields_on(source, values))
    other = values.copy()
    other[3] = np.nan
    changing = operator(fields_on(source, other))
    np.testing.assert_array_equal(constant[:3], changing[:3])
    assert np.isnan(changing[3]).all()


def test_fractions_weigh_cells_and_masks_leave_them_out():
    source = REGIONS["rotated"]
    generator = np.random.default_rng(2)
    part, values = generator.uniform(0, 1, source.shape), generator.normal(size=source.shape)
    part[generator.random(source.shape) < 0.2] = 0
    target = _to_regular(source).target
    plain = Operator.conservative(source, target)
    weighted = Operator.conservative(source.weighted(part), target)
    shared = plain.shared * part.ravel()[None, :]
    result, weight = weighted(fields_on(source, values)).values.ravel(), np.asarray(shared.sum(axis=1))
    inside = weight > 0
    np.testing.assert_allclose(result[inside], (shared @ values.ravel())[inside] / weight[inside], rtol=1e-9)
    masked = Operator.conservative(source.masked(part > 0), target)
    zero = Operator.conservative(source.weighted((part > 0).astype(float)), target)
    np.testing.assert_allclose(masked.matrix.toarray(), zero.matrix.toarray(), rtol=1e-12)
    block = source.weighted(part)
    direct = Operator.conservative(block, block.coarsened(2))
    np.testing.assert_allclose(
        direct._block_mean(values, 0.0), direct._multiply(values, 0.0), rtol=1e-10
    )  # the same sum by reshaping


def test_the_way_back_is_the_remapping_in_the_other_direction():
    source = REGIONS["lambert"]
    operator = Operator.conservative(source, cells(20, 30, 0.7, 41, 4), cache=False)
    np.testing.assert_allclose(operator.T.shared.toarray(), operator.shared.T.toarray())
    back = np.asarray(operator.T.matrix.sum(axis=1))
    np.testing.assert_allclose(back[back > 0], 1, rtol=1e-12)


def test_grids_that_do_not_overlap_are_refused_by_name_of_their_domains():
    for name in ("rotated", "lambert"):
        with pytest.raises(InputError, match=r"expected grids that overlap"):
            Operator.conservative(REGIONS[name], cells(5, 5, 1.0, -50, 100))


def test_cells_too_wide_to_be_polygons_are_refused():
    bands = grid_of([-60.0, 0.0, 60.0], [0.0], bounds={"x": [[-180.0, 180.0]]})
    with pytest.raises(InputError, match=r"degrees across; expected cells smaller than"):
        Operator.conservative(bands, REGIONS["rotated"])


@pytest.mark.parametrize("name", OPERATORS)
def test_a_pole_inside_a_cell_is_nothing_special(name):
    target = REGIONS["pole inside"]
    source = cells(40, 80, 4.5, -90, -180)
    field = fields_on(source, np.sin(np.deg2rad(source.centres[0])))
    result = OPERATORS[name](source, target)(field)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, np.sin(np.deg2rad(target.centres[0])), atol=0.02)


def test_weights_that_took_long_are_read_from_the_cache_and_a_damaged_file_is_built_anew(tmp_path, monkeypatch):
    monkeypatch.setenv(storage.FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "_WORTH_KEEPING_SECONDS", 0.0)
    source, target = REGIONS["rotated"], _to_regular(REGIONS["rotated"]).target
    built = Operator.conservative(source, target)
    (file,) = (tmp_path / "cache").iterdir()
    calls = []

    def build(*grids, progress=None):
        calls.append(grids)
        return shared_areas(*grids)

    monkeypatch.setattr("finegrid.grids.operator.shared_areas", build)
    masked = source.masked(np.arange(source.size).reshape(source.shape) % 3 > 0)
    again = Operator.conservative(masked, target)
    assert not calls
    np.testing.assert_array_equal(again.shared.toarray(), built.shared.toarray())
    file.write_bytes(file.read_bytes()[:-300])
    mended = Operator.conservative(source, target)
    assert len(calls) == 1
    np.testing.assert_array_equal(mended.matrix.toarray(), built.matrix.toarray())
    Operator.conservative(source, target, cache=False)
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(storage.FOLDER_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(storage, "_WORTH_KEEPING_SECONDS", 0.0)
    assert _to_regular(REGIONS["rotated"]).matrix.nnz


def test_weight_files_come_back_whatever_the_order_of_rows(tmp_path):
    source, target = REGIONS["rotated"], _to_regular(REGIONS["rotated"]).target
    operator = Operator.conservative(source, target)
    path = operator.write(tmp_path / "weights.nc")
    again = Operator.read(path, source, target)
    np.testing.assert_allclose(again.matrix.toarray(), operator.matrix.toarray(), rtol=1e-14)
    # As a file whose maker counted rows from the north: the centres in it say so.
    with xr.open_dataset(path, decode_cf=False) as opened:
        file = opened.load()
    flipped = np.arange(target.size).reshape(target.shape)[::-1].ravel()
    file["row"] = file["row"].copy(data=flipped[file["row"].values - 1] + 1)
    for name in ("xc_b", "yc_b"):
        file[name] = file[name].copy(data=file[name].values[flipped])
    file.to_netcdf(tmp_path / "north.nc")
    north = Operator.read(tmp_path / "north.nc", source, target)
    np.testing.assert_allclose(north.matrix.toarray(), operator.matrix.toarray(), rtol=1e-14)


def test_a_file_of_xesmf_is_read_in_the_order_of_the_fields_that_it_was_made_for(tmp_path):
    user = xr.Dataset(
        coords={
            "latitude": ("latitude", [50.0, 49.0, 48.0], {"units": "degrees_north"}),
            "longitude": ("longitude", [0.0, 1.0, 358.0, 359.0], {"units": "degrees_east"}),
        }
    )
    user["z"] = (("latitude", "longitude"), np.arange(12.0).reshape(3, 4))
    goal = grid_of([49.0], [0.0], bounds={"y": [[48.0, 50.0]], "x": [[-1.0, 1.0]]})
    # One weight, on the cell at 50 N, 358 E: the third that the user has.
    weights = {"S": ("n_s", [1.0]), "row": ("n_s", [1]), "col": ("n_s", [3])}
    xr.Dataset(weights).to_netcdf(tmp_path / "xesmf.nc")
    operator = Operator.read(tmp_path / "xesmf.nc", user, goal)
    from finegrid.conventions import harmonise

    standard, _ = harmonise(user, static=True)
    assert operator(standard["z"]).item() == 2.0


def test_weight_files_of_other_grids_and_other_files_are_refused(tmp_path):
    source, target = REGIONS["rotated"], _to_regular(REGIONS["rotated"]).target
    path = Operator.conservative(source, target).write(tmp_path / "weights.nc")
    with pytest.raises(InputError, match=r"is for 840 cells of the source grid; got a grid of 480"):
        Operator.read(path, REGIONS["lambert"], target)
    moved = grid_of(source.y + 1, source.x, ROTATED_POLE)
    with pytest.raises(InputError, match="lie elsewhere"):
        Operator.read(path, moved, target)
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(InputError, match="has no S, row, col"):
        Operator.read(tmp_path / "other.nc", source, target)
    with pytest.raises(InputError, match="cannot be read as NetCDF"):
        Operator.read(tmp_path / "absent.nc", source, target)


@pytest.mark.data
def test_rain_of_the_radar_composite_keeps_its_volume_on_latitudes_and_longitudes(data_dir: Path):
    from finegrid.conventions import harmonise
    from finegrid.data import open_fields

    fields, _ = harmonise(open_fields(data_dir / "radar_fmi_20160928.nc").isel(time=slice(0, 2)))
    source = Grid.of(fields)
    latitude, longitude = source.centres
    south, west = np.floor(latitude.min() * 10 - 1) / 10, np.floor(longitude.min() * 10 - 1) / 10
    target = cells(int((latitude.max() - south) * 10) + 2, int((longitude.max() - west) * 10) + 2, 0.1, south, west)
    operator = Operator.conservative(source, target, cache=False)
    rain = np.nan_to_num(fields["rain_rate"].values[0].astype(float))
    before = (source.area * rain).sum()
    after = (np.asarray(operator.shared.sum(axis=1)) * (operator.matrix @ rain.ravel())).sum()
    assert after == pytest.approx(before, rel=1e-12)
    assert isinstance(operator.shared, sparse.csr_array)


def _between(latitude_edges: np.ndarray) -> np.ndarray:
    """Values half-way between which lie the sines of the edges, but for the outer two."""
    sines = np.sin(np.deg2rad(latitude_edges))
    centres = [(sines[0] + sines[1]) / 2]
    for edge in sines[1:-1]:
        centres.append(2 * edge - centres[-1])
    return np.array(centres)


def _to_regular(source: Grid) -> Operator:
    latitude, longitude = source.centres
    south, west = np.floor(latitude.min()) + 1, np.floor(longitude.min()) + 2
    target = cells(int((latitude.max() - south - 1) / 1.5), int((longitude.max() - west - 2) / 1.5), 1.5, south, west)
    return Operator.conservative(source, target)


def test_who_stops_the_building_does_not_wait_for_the_tiles_that_are_left(monkeypatch):
    measured, measure = [], overlap._shares
    monkeypatch.setattr(overlap, "_shares", lambda *given: measured.append(1) or measure(*given))
    monkeypatch.setattr(tiling, "_TILE_CELLS", 64)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        overlaps(GLOBAL["rotated"], GLOBAL["gaussian"], progress=stop)
    stopped = len(measured)
    overlaps(GLOBAL["rotated"], GLOBAL["gaussian"])
    assert stopped < (len(measured) - stopped) / 2
