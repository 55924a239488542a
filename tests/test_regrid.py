"""A file on the grid of another: in whose words, with which values, and what becomes of gaps, times and levels."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.data import open_fields
from finegrid.data.stores import NetcdfStore
from finegrid.grids import OPERATORS, Grid, Operator, nesting
from finegrid.grids.vectors import to_earth, to_grid
from finegrid.pipeline.regrid import Regridded, regrid
from test_any_grids import POLAR, cells
from test_any_pair import fields_on
from test_cli import complaint, finegrid, full_disk
from test_curvilinear import plane_file, rotated
from test_grids import LAMBERT, ROTATED_POLE, evenly

DAYS = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
NORTH, EAST = {"units": "degrees_north", "axis": "Y"}, {"units": "degrees_east"}
METHODS = ("conservative", "bilinear", "bicubic", "nearest")


def source(lat: np.ndarray | None = None, lon: np.ndarray | None = None) -> xr.Dataset:
    """Fields that grow to the north and to the east, and with time, in words of their own, from north to south."""
    lat = evenly(49.0, -1.0, 21) if lat is None else lat
    lon = evenly(-16.0, 1.0, 26) if lon is None else lon
    values = 2 * lat[:, None] + lon + np.arange(4)[:, None, None]
    about = {
        "units": "degC",
        "long_name": "how warm it is",
        "standard_name": "air_temperature",
        "cell_methods": "when: mean",
    }
    return xr.Dataset(
        {
            "warm": (("when", "breite", "laenge"), values.astype(np.float32), about),
            "land": (
                ("breite", "laenge"),
                (values[0] > 64).astype(np.int8),
                {"flag_values": np.array([0, 1], np.int8)},
            ),
        },
        coords={"when": DAYS, "breite": ("breite", lat, NORTH), "laenge": ("laenge", lon, EAST)},
        attrs={"title": "made up", "history": "2001 made up"},
    )


def with_mapping(grid: Grid, dims: tuple[str, str], mapping: str, crs: dict[str, object], unit: str) -> xr.Dataset:
    """A file on a rotated or projected grid, as models write them."""
    kind = "grid_{}" if unit == "degrees" else "projection_{}_coordinate"
    words = ("latitude", "longitude") if unit == "degrees" else ("y", "x")
    scale = 1000 if unit == "km" else 1
    coords = {
        dim: (dim, values / scale, {"standard_name": kind.format(word), "units": unit})
        for dim, values, word in zip(dims, (grid.y, grid.x), words, strict=True)
    }
    for name, values, about in zip(("breit", "lang"), grid.centres, (NORTH, EAST), strict=True):
        coords[name] = (dims, values, {"standard_name": "latitude" if about is NORTH else "longitude", **about})
    field = (("time", *dims), np.zeros((1, *grid.shape), np.float32), {"grid_mapping": mapping})
    return xr.Dataset({"any": field, mapping: ((), 0, crs)}, coords={"time": DAYS[:1], **coords})


TARGETS = {
    "latitudes": source(evenly(44.25, -0.5, 15), evenly(-9.75, 0.5, 21)).rename(breite="nord", laenge="ost"),
    "to 360": source(evenly(40.25, 0.5, 8), np.array([358.25, 358.75, 359.25, 359.75, 0.25, 0.75])),
    "rotated": with_mapping(rotated(10, 12), ("rlat", "rlon"), "pole", ROTATED_POLE, "degrees"),
    "projected": with_mapping(cells(9, 8, 3e4, -8e5, -9e5, LAMBERT), ("north", "east"), "lambert", LAMBERT, "km"),
    "curvilinear": plane_file(rotated(10, 12), bounds=True),
    "no vertices": plane_file(rotated(10, 12)),
}
PLACES = {
    "latitudes": ("nord", "ost"),
    "to 360": ("breite", "laenge"),
    "rotated": ("rlat", "rlon", "breit", "lang"),
    "projected": ("north", "east", "breit", "lang"),
    "curvilinear": ("nav_lat_vertices", "nav_lon_vertices", "nav_lat", "nav_lon"),
    "no vertices": ("nav_lat", "nav_lon"),
}


def brought(given: xr.Dataset, like: xr.Dataset, folder: Path, **options) -> tuple[xr.Dataset, Regridded]:
    """What is written, read as any other program would."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    given.to_netcdf(folder / "given.nc", engine="netcdf4")
    like.to_netcdf(folder / "like.nc", engine="netcdf4")
    done = regrid(folder / "given.nc", folder / "like.nc", folder / "out.nc", **options)
    with xr.open_dataset(done.path, engine="netcdf4", decode_coords="all") as written:
        return written.load(), done


def on(like: xr.Dataset) -> tuple[str, ...]:
    """The horizontal dimensions of a file."""
    return tuple(map(str, max(like.data_vars.values(), key=lambda field: field.ndim).dims[1:]))


def operator_of(given: xr.Dataset, like: xr.Dataset, method: str = "conservative") -> Operator:
    grids = (
        Grid.of(harmonise(fields, static="when" not in fields and "time" not in fields)[0]) for fields in (given, like)
    )
    return OPERATORS[method](*grids)


@pytest.mark.parametrize("name", TARGETS)
def test_fields_get_the_places_of_the_other_file_in_its_words_and_keep_their_own(name, tmp_path):
    given, like = source(), TARGETS[name]
    written, done = brought(given, like, tmp_path)
    assert written.warm.dims == ("when", *on(like)) and set(written.data_vars) == {"warm", "land"}
    for place in PLACES[name]:
        np.testing.assert_allclose(written[place], like[place], rtol=1e-14, err_msg=place)
        assert {**like[place].attrs, "bounds": ""}.items() <= {**written[place].attrs, "bounds": ""}.items()
    assert ("j" in written.coords) == ("j" in like.coords)
    about = {key: value for key, value in given.warm.attrs.items() if key != "cell_methods"}
    assert about.items() <= written.warm.attrs.items() and written.title == "made up"
    np.testing.assert_array_equal(written.when, given.when)
    mapping = {"rotated": "pole", "projected": "lambert"}.get(name)
    assert written.warm.encoding.get("grid_mapping") == mapping
    if mapping is not None:
        assert written[mapping].attrs["grid_mapping_name"] == like[mapping].attrs["grid_mapping_name"]
    grids = [Grid.of(harmonise(open_fields(done.path.with_name(name)))[0]) for name in ("out.nc", "like.nc")]
    assert nesting(*grids) == (1, 1)
    assert done.cells[0] == np.prod([like.sizes[dim] for dim in on(like)])


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_values_are_those_of_the_operator_and_of_the_place(name, method, tmp_path):
    given, like = source(), TARGETS[name]
    written, _ = brought(given, like, tmp_path, method=method)
    operator = operator_of(given, like, method)
    expected = (operator.matrix @ harmonise(given)[0].warm.values.reshape(4, -1).T).T.reshape(4, *operator.target.shape)
    np.testing.assert_allclose(harmonise(written)[0].warm.values, expected, rtol=1e-6)
    # The field says where it is: rows and columns are those of the other file, whichever way these run.
    lat, lon = (written[place] for place in PLACES[name][-2:])
    here = 2 * lat + (lon + 180) % 360 - 180
    tolerance = 0.02 if method in ("bilinear", "bicubic") else 1.5
    assert float(abs(written.warm.isel(when=0) - here).max()) < tolerance


def test_means_keep_the_integral_over_the_globe(tmp_path):
    given = fields_on(cells(36, 72, 5.0, -90, -180), 2)
    like = fields_on(cells(24, 40, (7.5, 9.0), -90, -180), 1)
    written, done = brought(given, like, tmp_path, variables=["pr"])
    assert list(written.data_vars) == ["pr"] and done.cells == (960, 960)
    totals = []
    for fields in (given, written):
        standard = harmonise(fields)[0]
        totals.append((standard.pr.values.astype(float) * Grid.of(standard).area).sum(axis=(1, 2)))
    np.testing.assert_allclose(*totals, rtol=1e-7)


def test_only_a_mean_is_called_one_and_only_the_nearest_value_keeps_its_flags(tmp_path):
    for method in METHODS:
        written, _ = brought(source(), TARGETS["rotated"], tmp_path, method=method)
        mean = method == "conservative"
        assert written.warm.attrs["cell_methods"] == ("when: mean area: mean" if mean else "when: mean")
        assert not mean or "flag_values" not in written.land.attrs
        assert written.attrs["finegrid_regrid"].startswith(f"{method}, ")
    assert set(np.unique(written.land)) <= {0, 1} and "flag_values" in written.land.attrs


def by_hand(values: np.ndarray, lat: np.ndarray, valid: float) -> np.ndarray:
    """Means over 2.5-degree cells of 1-degree cells, both cut into half-degree pieces with the area of their sine."""
    pieces = np.repeat(np.repeat(values, 2, axis=0), 2, axis=1)
    south = np.repeat(lat - 0.5, 2) + np.tile([0.0, 0.5], len(lat))
    area = np.sin(np.deg2rad(south + 0.5)) - np.sin(np.deg2rad(south))
    rows, columns = len(south) // 5, pieces.shape[1] // 5
    weight = np.broadcast_to(area[:, None], pieces.shape) * np.isfinite(pieces)
    blocks = [np.nan_to_num(pieces) * weight, weight, np.broadcast_to(area[:, None], pieces.shape)]
    total, known, whole = (each.reshape(rows, 5, columns, 5).sum(axis=(1, 3)) for each in blocks)
    return np.where((known > 0) & (known >= valid * whole - 1e-9), total / np.where(known > 0, known, 1), np.nan)


@pytest.mark.parametrize("valid", [0.0, 0.3, 0.7, 1.0])
def test_missing_cells_are_left_out_and_too_few_make_a_missing_cell(valid, tmp_path):
    lat, lon = evenly(30.5, 1.0, 20), evenly(-9.5, 1.0, 20)
    values = np.random.default_rng(0).normal(280, 5, (20, 20)).astype(np.float32)
    values[np.random.default_rng(1).random((20, 20)) < 0.4] = np.nan
    values[:6, :6] = np.nan
    given = source(lat, lon)[["warm"]].isel(when=[0])
    given["warm"][0] = values
    like = source(evenly(31.25, 2.5, 8), evenly(-8.75, 2.5, 8))
    written, _ = brought(given, like, tmp_path, min_valid=valid)
    expected = by_hand(values.astype(float), lat, valid)
    assert np.isnan(expected).any() and (valid == 1 or np.isfinite(expected).any())
    np.testing.assert_allclose(written.warm[0], expected, rtol=1e-6)


def test_of_a_cell_that_sticks_out_of_the_source_the_rest_counts_as_missing(tmp_path):
    given, like = (
        source(evenly(30.5, 1.0, 20), evenly(-9.5, 1.0, 20)),
        source(evenly(26.0, 4.0, 8), evenly(-12.0, 4.0, 7)),
    )
    # Rows of 4 degrees from 24 N, columns from 14 W; the source covers 30 to 50 N, 10 W to 10 E.
    part = np.outer([0, 0.5, 1, 1, 1, 1, 0.5, 0], [0, 1, 1, 1, 1, 1, 0]) > 0
    whole = np.outer([0, 0, 1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 0]) > 0
    for valid, expected in ((0.0, part), (0.4, part), (0.6, whole), (1.0, whole)):
        written, done = brought(given, like, tmp_path, min_valid=valid)
        np.testing.assert_array_equal(np.isfinite(written.warm[0]), expected)
    assert done.cells == (56, 30)
    assert done.words[0] == "35.7 % of the target cells are covered, 10 in part, 26 not at all."


def test_bounds_of_time_levels_members_and_calendars_come_along(tmp_path):
    given = source()[["warm"]].rename(when="time")
    given = given.convert_calendar("noleap", use_cftime=True)
    ends = np.stack([given.time.values, given.time.values + (given.time.values[1] - given.time.values[0])], axis=1)
    given = given.assign_coords(time_bnds=(("time", "nv"), ends))
    given.time.attrs["bounds"] = "time_bnds"
    given.time.encoding = {"units": "days since 2001-01-01", "calendar": "noleap"}
    levels = xr.DataArray([850.0, 500.0], dims="plev", attrs={"units": "hPa", "standard_name": "air_pressure"})
    members = xr.DataArray([0, 1, 2], dims="number", attrs={"standard_name": "realization"})
    given["warm"] = (given.warm + levels / 100 + 10 * members).transpose("plev", "breite", "time", "number", "laenge")
    given = given.assign_coords(plev=levels, number=members)
    written, _ = brought(given, TARGETS["rotated"], tmp_path, method="nearest")
    assert written.warm.dims == ("plev", "rlat", "time", "number", "rlon")
    np.testing.assert_array_equal(written.time_bnds, given.time_bnds)
    assert written.time.dt.calendar == "noleap" and written.time.encoding["bounds"] == "time_bnds"
    difference = written.warm.diff("plev"), written.warm.diff("number"), written.warm.diff("time")
    for found, expected in zip(difference, (-3.5, 10, 1), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_fields_without_time_are_brought_onto_a_grid_too(tmp_path):
    given = source()[["land"]]
    written, _ = brought(given, TARGETS["rotated"], tmp_path, method="nearest")
    assert written.land.dims == ("rlat", "rlon") and set(np.unique(written.land)) == {0, 1}
    other, _ = brought(source(), TARGETS["latitudes"][["land"]], tmp_path)
    assert other.warm.dims == ("when", "nord", "ost")


def wind(grid: Grid, names: tuple[str, str] = ("uas", "vas"), **attributes: str) -> xr.Dataset:
    """The wind of the earth turning about an axis of its own, along the axes of a grid: no direction is special."""
    latitude, longitude = (np.deg2rad(each) for each in grid.centres)
    east = 10 * (np.cos(latitude) - np.sin(latitude) * np.cos(longitude))
    north = 10 * np.sin(longitude)
    parts = to_grid(east, north, grid) if attributes.get("along") == "grid" else (east, north)
    words = ("x_wind", "y_wind") if attributes.get("along") == "grid" else ("eastward_wind", "northward_wind")
    fields = fields_on(grid, 2)
    for name, part, word in zip(names, parts, words, strict=True):
        about = {"units": "m s-1", "standard_name": word}
        fields[name] = (("time", "y", "x"), np.broadcast_to(part, (2, *grid.shape)).astype(np.float32), about)
    return as_file(fields[list(names)])


def as_file(fields: xr.Dataset) -> xr.Dataset:
    """A file that any program reads: with the grid mapping named by the fields."""
    for name in fields.data_vars:
        fields[name].attrs |= {"grid_mapping": "crs"} if "crs" in fields.coords else {}
    return fields.drop_vars([name for name in fields.coords if str(name).endswith("_bounds")])


def on_earth(fields: xr.Dataset, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    standard = harmonise(fields)[0]
    along = standard[names[0]].attrs["standard_name"] == "x_wind"
    parts = [standard[name].values for name in names]
    return to_earth(*parts, Grid.of(standard)) if along else tuple(parts)


WINDS = {
    "latitudes": cells(40, 60, 0.5, 30, -10),
    "rotated": cells(24, 28, 0.4, -12, -16, ROTATED_POLE),
    "lambert": cells(24, 28, 5e4, -1e6, -1e6, LAMBERT),
}
INNER = {"latitudes": cells(8, 9, 0.5, 39, 4), "rotated": cells(8, 9, 0.4, -8, -8, ROTATED_POLE)}


@pytest.mark.parametrize(
    ("start", "goal"), [("rotated", "latitudes"), ("lambert", "rotated"), ("latitudes", "rotated")]
)
@pytest.mark.parametrize("along", ["grid", "earth"])
def test_winds_blow_where_they_blew_whatever_the_axes(start, goal, along, tmp_path):
    given, like = wind(WINDS[start], along=along), wind(INNER[goal])
    written, done = brought(given, like, tmp_path, method="bilinear")
    turned = along == "grid"
    assert any("were turned" in words for words in done.words) == turned
    expected = ("eastward_wind", "northward_wind") if not turned or goal == "latitudes" else ("x_wind", "y_wind")
    assert (written.uas.attrs["standard_name"], written.vas.attrs["standard_name"]) == expected
    found, truth = on_earth(written, ("uas", "vas")), on_earth(like, ("uas", "vas"))
    np.testing.assert_allclose(found[0], truth[0], atol=0.02)
    np.testing.assert_allclose(found[1], truth[1], atol=0.02)
    plainly = np.abs(written.uas.values[0] - like.uas.values[0]).max()
    assert not (turned and goal == "rotated") or plainly > 0.1


def test_winds_stay_as_they_are_where_the_axes_do(tmp_path):
    given = wind(WINDS["rotated"], along="grid")
    written, done = brought(given, wind(INNER["rotated"]), tmp_path, method="nearest", variables=["uas"])
    assert written.uas.attrs["standard_name"] == "x_wind" and len(done.words) == 1


def test_winds_at_several_heights_are_turned_in_pairs(tmp_path):
    low, high = (
        wind(WINDS["rotated"], ("u10", "v10"), along="grid"),
        wind(WINDS["rotated"], ("u100", "v100"), along="grid"),
    )
    given = low.assign({name: (2 * high[name]).assign_attrs(high[name].attrs) for name in ("u100", "v100")})
    like = wind(INNER["latitudes"])
    written, done = brought(given, like, tmp_path, method="bilinear")
    assert sum("were turned" in words for words in done.words) == 2
    for scale, names in ((1, ("u10", "v10")), (2, ("u100", "v100"))):
        for name, truth in zip(names, on_earth(like, ("uas", "vas")), strict=True):
            np.testing.assert_allclose(written[name].values, scale * truth, atol=0.05)


@pytest.mark.parametrize("kept", [["uas"], ["vas"]])
def test_a_wind_without_its_partner_is_not_turned_by_guess(kept, tmp_path):
    with pytest.raises(InputError, match=rf"'{kept[0]}' is a wind along an axis.*keep both or leave both out"):
        brought(wind(WINDS["rotated"], along="grid"), wind(INNER["latitudes"]), tmp_path, variables=kept)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with in.nc and like.nc, in which commands run."""
    monkeypatch.chdir(tmp_path)
    source().to_netcdf("in.nc", engine="netcdf4")
    TARGETS["latitudes"].to_netcdf("like.nc", engine="netcdf4")
    return tmp_path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"in.nc", "like.nc"}


def command(*more: object) -> int:
    return finegrid("regrid", "in.nc", "--like", "like.nc", *more)


def test_the_command_writes_the_file_and_tells_how_much_of_it_is_covered(folder, capsys):
    assert command("--variables", "warm", "--time", "2001-01-02/2001-01-03", "--out", "out.nc") == 0
    assert "out.nc: 100 % of the target cells are covered, 0 not at all." in capsys.readouterr().out
    with xr.open_dataset("out.nc", engine="netcdf4") as written:
        assert set(written.data_vars) - {"nord_bnds", "ost_bnds"} == {"warm"}
        assert written.warm.dims == ("when", "nord", "ost") and written.warm.attrs["units"] == "degC"
        assert written.sizes["when"] == 2 and written.history.splitlines()[1] == "2001 made up"
    assert left(folder) == {"out.nc"}


def test_saved_weights_do_the_same_again_and_nothing_is_built(folder, monkeypatch):
    assert command("--out", "out.nc", "--save-weights", "weights.nc") == 0
    monkeypatch.setattr(Operator, "conservative", None)
    assert command("--out", "again.nc", "--weights", "weights.nc") == 0
    with xr.open_dataset("out.nc") as one, xr.open_dataset("again.nc") as other:
        np.testing.assert_allclose(other.warm, one.warm, rtol=1e-6)
        assert other.attrs["finegrid_regrid"].startswith("weights of weights.nc")
    assert left(folder) == {"out.nc", "again.nc", "weights.nc"}


@pytest.mark.parametrize("program", ["ESMF", "xesmf"])
def test_weights_of_another_program_are_used_cell_by_cell(program, folder):
    """Cells are counted from one in the order of the file, whose rows run from north to south; ESMF says where."""
    given, like = source(), TARGETS["latitudes"]
    random = np.random.default_rng(0)
    count = like.sizes["nord"] * like.sizes["ost"]
    chosen = random.integers(0, given.warm[0].size, count)
    weights = {"S": ("n_s", np.ones(count)), "row": ("n_s", np.arange(count) + 1), "col": ("n_s", chosen + 1)}
    ends = (("a", given.breite, given.laenge), ("b", like.nord, like.ost))
    for end, lat, lon in ends if program == "ESMF" else ():
        north, east = np.meshgrid(lat, lon, indexing="ij")
        weights |= {f"xc_{end}": (f"n_{end}", east.ravel() % 360), f"yc_{end}": (f"n_{end}", north.ravel())}
    xr.Dataset(weights).to_netcdf("esmf.nc")
    assert command("--out", "out.nc", "--weights", "esmf.nc") == 0
    with xr.open_dataset("out.nc") as written:
        expected = given.warm.values.reshape(4, -1)[:, chosen].reshape(4, like.sizes["nord"], like.sizes["ost"])
        np.testing.assert_array_equal(written.warm.transpose("when", "nord", "ost"), expected)


@pytest.mark.parametrize("method", METHODS)
def test_grids_that_do_not_overlap_are_refused_by_every_method(method, folder, capsys):
    spoilt("like.nc", lambda fields: fields.assign_coords(ost=fields.ost + 90))
    text = complaint(capsys, command("--out", "out.nc", "--method", method))
    assert "expected grids that overlap" in text and left(folder) == set()


def test_where_nothing_can_be_written_nothing_is_worked_out(folder, capsys, monkeypatch):
    monkeypatch.setattr("finegrid.pipeline.regrid.open_fields", None)
    assert "mkdir -p absent" in complaint(capsys, command("--out", "absent/out.nc"))


def spoilt(name: str, change) -> None:
    with xr.open_dataset(name, engine="netcdf4", decode_coords="all") as fields:
        other = change(fields.load())
    other.to_netcdf(name, engine="netcdf4")


def crossed(_: xr.Dataset) -> xr.Dataset:
    fields = plane_file(rotated(6, 7), bounds=True)
    for name in ("nav_lat_vertices", "nav_lon_vertices"):
        fields[name][2, 3] = fields[name][2, 3].isel(nv=[0, 2, 1, 3]).values
    return fields


def folded(_: xr.Dataset) -> xr.Dataset:
    fields = plane_file(rotated(6, 7))
    fields["nav_lon"][:] = fields["nav_lon"].values[:, [0, 1, 5, 2, 4, 3, 6]]
    return fields


BAD_GRIDS = {
    "crossed": (crossed, ["gaps or overlaps", "drop the bounds"]),
    "folded": (folded, ["overlap their neighbours", "isel"]),
    "one column": (lambda fields: fields.isel(laenge=[3]), ["one cell along x without bounds", "x_bounds"]),
    "one row of a plane": (
        lambda _: plane_file(rotated(2, 7).cropped(slice(0, 1), slice(0, 7))),
        ["two rows", "lat_bnds"],
    ),
    "elsewhere": (lambda fields: fields.assign_coords(laenge=fields.laenge + 90), ["expected grids that overlap"]),
    "beyond the pole": (lambda fields: fields.assign_coords(breite=fields.breite + 45), ["latitudes", "-90..90"]),
}


@pytest.mark.parametrize("fault", BAD_GRIDS)
@pytest.mark.parametrize("name", ["in.nc", "like.nc"])
def test_cells_that_are_no_grid_end_in_a_message_and_no_file(fault, name, folder, capsys):
    change, words = BAD_GRIDS[fault]
    if name == "like.nc":
        source().to_netcdf(name, engine="netcdf4")
    spoilt(name, change)
    text = complaint(capsys, command("--out", "out.nc", "--save-weights", "weights.nc"))
    for word in words:
        assert word in text
    assert left(folder) == set()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--out", "out.nc", "--method", "conservativ"], ["Did you mean 'conservative'", "nearest"]),
        (["--out", "out.nc", "--variables", "wram"], ["wram", "Did you mean 'warm'"]),
        (["--out", "out.nc", "--time", "1850"], ["1850", "--time"]),
        (["--out", "out.nc", "--weights", "like.nc"], ["like.nc has no S, row, col"]),
        (["--out", "out.nc", "--weights", "absent.nc"], ["absent.nc"]),
        (["--out", "out.txt"], [".nc", ".zarr"]),
        (["--out", "absent/out.nc"], ["mkdir -p absent"]),
        (["--out", "in.nc/out.nc"], ["no folder"]),
        (["--out", "out.nc", "--save-weights", "absent/weights.nc"], ["absent/weights.nc", "--save-weights"]),
        (["--out", "out.nc", "--save-weights", "in.nc/weights.nc"], ["in.nc/weights.nc", "--save-weights"]),
        (["--out", "out.nc", "--method", "nearest", "--like", "absent.nc"], ["absent.nc"]),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(more, words, folder, capsys):
    text = complaint(capsys, command(*more))
    for word in words:
        assert word in text
    assert left(folder) == set()


def test_a_full_disk_leaves_the_older_file_and_neither_weights_nor_parts(folder, capsys, monkeypatch):
    (folder / "out.nc").write_text("older")
    monkeypatch.setattr(NetcdfStore, "put", full_disk)
    text = complaint(capsys, command("--out", "out.nc", "--save-weights", "weights.nc"))
    assert "No space left" in text and left(folder) == {"out.nc"} and (folder / "out.nc").read_text() == "older"


def test_full_disks_while_weights_are_written_leave_nothing(folder, capsys, monkeypatch):
    def half(self, path):
        Path(path).write_text("half")
        raise RuntimeError("NetCDF: HDF error")

    monkeypatch.setattr(Operator, "write", half)
    assert "--save-weights" in complaint(capsys, command("--out", "out.nc", "--save-weights", "weights.nc"))
    assert left(folder) == set()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bounds", [True, False])
def test_a_pole_within_a_cell_of_a_file_of_latitudes_and_longitudes_is_nothing_special(method, bounds, tmp_path):
    polar = plane_file(cells(21, 21, 1e5, -1.05e6, -1.05e6, POLAR), bounds=bounds)
    assert float(polar.nav_lat[10, 10]) == pytest.approx(90)
    globe = fields_on(cells(40, 80, 4.5, -90, -180), 1)
    globe["tas"] = (("time", "y", "x"), np.sin(np.deg2rad(Grid.of(globe).centres[0]))[None].astype(np.float32))
    written, done = brought(globe[["tas"]], polar, tmp_path, method=method)
    assert done.cells == (441, 441)
    np.testing.assert_allclose(written.tas[0], np.sin(np.deg2rad(polar.nav_lat)), atol=0.02)
    around = fields_on(cells(6, 24, (1.0, 15.0), 84, -180), 1)
    back, _ = brought(polar, around, tmp_path, method=method)
    expected = 280 + Grid.of(harmonise(around)[0]).centres[0]
    np.testing.assert_allclose(harmonise(back)[0].tas[0], expected, atol=1.0)


@pytest.mark.data
def test_rain_of_the_regional_model_keeps_its_volume_on_the_grid_of_the_observations(data_dir: Path, tmp_path: Path):
    given = data_dir / "iberia_cordex_racmo22e_ecearth_historical_djf_1983_2002.nc"
    like = data_dir / "iberia_eobs_djf_1983_1996.nc"
    done = regrid(given, like, tmp_path / "out.nc", variables=["pr"], time="1983-01", min_valid=1.0)
    assert done.words[0].startswith("98.9 % of the target cells are covered")
    with xr.open_dataset(given) as model, xr.open_dataset(done.path) as written:
        whole = written.pr.mean("time")
        assert 0.95 < float(whole.notnull().mean()) < 1
        near = abs(model.lat - 40) + abs(model.lon + 4) < 3
        here = (abs(whole.lat - 40) < 1.6) & (abs(whole.lon + 4) < 2)
        mine = float(model.pr.sel(time="1983-01").mean("time").where(near).mean())
        assert float(whole.where(here).mean()) == pytest.approx(mine, rel=0.25)
        assert written.pr.attrs["cell_methods"] == "time: sum area: mean"
