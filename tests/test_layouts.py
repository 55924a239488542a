"""Folders of public benchmarks are recognised and read: RainShift, CORDEX ML-Bench and its submission, none of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, convert_units, harmonise
from finegrid.data.layouts import LAYOUTS, Opened, open_layout, recognised
from finegrid.data.layouts.cordex_submission import packed
from finegrid.grids import Grid
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named

INPUTS = ("cape", "cp", "sp", "tclw", "tcw", "tisr", "tp", "u", "v")
LEVELS = (850, 700, 500)


def latlon(size: int, spacing: float, *, south: float = 10.0, west: float = 30.0) -> dict[str, tuple]:
    centres = spacing * (np.arange(size) + 0.5)
    return {
        "lat": ("lat", south + centres, {"units": "degrees_north"}),
        "lon": ("lon", west + centres, {"units": "degrees_east"}),
    }


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=shape).astype(np.float32)


def hours(start: str, count: int) -> np.ndarray:
    return np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(1, "h")


def rainshift(folder: Path, *regions: str, ending: str = "zarr") -> dict[str, xr.Dataset]:
    """Regions of 8 x 8 coarse and 20 x 20 fine cells; returns what was written, by "region/file"."""
    written = {}
    for number, region in enumerate(regions):
        (folder / region).mkdir(parents=True)
        for part, start, count in (("train", "2001-01-01", 12), ("test", "2021-01-01", 6)):
            time = {"time": hours(start, count)}
            coarse = {
                name: (("time", "lat", "lon"), values(count, 8, 8, seed=number + index))
                for index, name in enumerate(INPUTS)
            }
            fine = {"precipitation": (("time", "lat", "lon"), values(count, 20, 20, seed=number + 50))}
            written[f"{region}/{part}_data_in"] = xr.Dataset(coarse, {**time, **latlon(8, 0.25)})
            written[f"{region}/{part}_data_out"] = xr.Dataset(fine, {**time, **latlon(20, 0.1)})
        written[f"{region}/static"] = xr.Dataset(
            {"lsm": (("lat", "lon"), values(20, 20)), "z": (("lat", "lon"), values(20, 20))}, latlon(20, 0.1)
        )
        for name in ("train_data_in", "train_data_out", "test_data_in", "test_data_out"):
            fields, path = written[f"{region}/{name}"], folder / region / f"{name}.{ending}"
            fields.to_zarr(path, consolidated=False) if ending == "zarr" else fields.to_netcdf(path)
        written[f"{region}/static"].to_netcdf(folder / region / "static_variables.nc")
    return written


def predictors(count: int, start: str, *, seed: int = 0) -> xr.Dataset:
    names = [f"{kind}_{level}" for kind in "tuvqz" for level in LEVELS]
    days = np.datetime64(f"{start}T12", "ns") + np.arange(count) * np.timedelta64(1, "D")
    fields = {
        name: (("time", "lat", "lon"), values(count, 4, 4, seed=seed + index)) for index, name in enumerate(names)
    }
    return xr.Dataset(fields, {"time": days, **latlon(4, 2.0)})


def cordex(folder: Path, domain: str = "NZ", *, tests: bool = True) -> tuple[xr.Dataset, xr.Dataset]:
    """A domain of 4 x 4 and 16 x 16 cells with one experiment; returns its predictors and target."""
    top = folder / domain / f"{domain}_domain"
    train = top / "train" / "ESD_pseudo_reality"
    given = predictors(20, "1961-01-01")
    target = xr.Dataset(
        {name: (("time", "lat", "lon"), values(20, 16, 16, seed=seed)) for name, seed in (("pr", 3), ("tasmax", 4))},
        {"time": given.time, **latlon(16, 0.1, south=12.0, west=32.0)},
    )
    for path, fields in (
        (train / "predictors" / "ACCESS-CM2_1961-1980.nc", given),
        (train / "predictors" / "Static_fields.nc", target[["pr"]].isel(time=0, drop=True).rename(pr="orog")),
        (train / "target" / "pr_tasmax_ACCESS-CM2_1961-1980.nc", target),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        fields.to_netcdf(path)
    for period, start in (("historical", "1981-01-01"), ("end_century", "2080-01-01")) if tests else ():
        for kind in ("perfect", "imperfect"):
            path = top / "test" / period / "predictors" / kind / f"EC-Earth3_{start[:4]}-{int(start[:4]) + 19}.nc"
            path.parent.mkdir(parents=True, exist_ok=True)
            predictors(5, start, seed=7).to_netcdf(path)
    return given, target


def lazy(fields: xr.Dataset) -> bool:
    return all(field.chunks is not None for field in fields.data_vars.values())


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_a_region_of_rainshift_is_its_two_stores_one_after_the_other(tmp_path, ending):
    written = rainshift(tmp_path, "blacksea", "melanesia", ending=ending)
    assert recognised(tmp_path).name == "rainshift"
    opened = open_layout(tmp_path, region="melanesia")
    assert lazy(opened.coarse) and lazy(opened.fine)
    assert opened.choices == {"region": ("blacksea", "melanesia")} and opened.chosen == {"region": "melanesia"}
    assert dict(opened.coarse.sizes) == {"time": 18, "lat": 8, "lon": 8}
    assert {name: len(each) for name, each in opened.splits.items()} == {"train": 12, "test": 6}
    for part in ("train", "test"):
        coarse, fine = opened.part(part)
        for name in INPUTS:
            np.testing.assert_array_equal(coarse[name], written[f"melanesia/{part}_data_in"][name])
        np.testing.assert_array_equal(fine.precipitation, written[f"melanesia/{part}_data_out"].precipitation)
        assert (coarse.time == fine.time).all()
    assert opened.coarse.tp.attrs["units"] == "m" and opened.fine.precipitation.attrs["units"] == "mm h-1"
    assert set(opened.static[0]) == {"lsm", "z"}


def test_units_that_a_file_states_stand(tmp_path):
    rainshift(tmp_path, "blacksea", ending="nc")
    path = tmp_path / "blacksea" / "train_data_in.nc"
    fields = xr.load_dataset(path)
    fields.tp.attrs["units"] = "mm"
    fields.to_netcdf(path)
    assert open_layout(tmp_path).coarse.tp.attrs["units"] == "mm"


def test_a_folder_of_one_region_is_that_region_and_a_method_learns_on_it(tmp_path):
    rainshift(tmp_path, "blacksea")
    opened = open_layout(tmp_path / "blacksea")
    ours = opened.coarse.assign(precipitation=convert_units(opened.coarse.tp, "mm h-1"))
    material = Material(ours, opened.fine, opened.static, opened.blocks)
    method = named("ridge", variables={"precipitation": "precipitation"}, predictors=("tcw",))
    method.fit(*material.at(material.blocks.train), static=material.static)
    prediction = method.predict(material.at(material.blocks.test)[0])
    assert prediction.precipitation.sizes["time"] == 6 and np.isfinite(prediction.precipitation).all()


def test_a_missing_store_is_named_and_an_archive_is_to_be_unpacked(tmp_path):
    rainshift(tmp_path, "blacksea", "melanesia")
    with pytest.raises(InputError, match=r"region None.*blacksea, melanesia.*region=\.\.\."):
        open_layout(tmp_path)
    store = tmp_path / "blacksea" / "test_data_out.zarr"
    store.rename(store.with_name("moved"))
    with pytest.raises(InputError, match=r"lacks test_data_out\.zarr.*download it"):
        open_layout(tmp_path, region="blacksea")
    store.with_name("test_data_out.zarr.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"unpack test_data_out\.zarr\.zip"):
        open_layout(tmp_path, region="blacksea")


def test_a_variable_that_is_missing_is_named(tmp_path):
    rainshift(tmp_path, "blacksea", ending="nc")
    path = tmp_path / "blacksea" / "train_data_in.nc"
    fields = xr.load_dataset(path).drop_vars(["cape", "tp"])
    fields.to_netcdf(path)
    with pytest.raises(InputError, match=r"lacks cape, tp; its variables are cp"):
        open_layout(tmp_path)


def test_an_experiment_of_cordex_comes_with_orography_and_the_predictors_of_the_tests(tmp_path):
    given, target = cordex(tmp_path)
    assert recognised(tmp_path).name == "cordex-ml-bench"
    opened = open_layout(tmp_path, domain="NZ", experiment="ESD_pseudo_reality")
    assert lazy(opened.coarse) and lazy(opened.fine)
    for own, theirs in (("t", "ta"), ("u", "ua"), ("v", "va"), ("q", "hus"), ("z", "zg")):
        for level in LEVELS:
            np.testing.assert_array_equal(opened.coarse[f"{theirs}{level}"], given[f"{own}_{level}"])
    np.testing.assert_array_equal(opened.fine.pr, target.pr)
    units = {name: opened.fine[name].attrs["units"] for name in opened.fine}
    assert units == {"pr": "mm day-1", "tasmax": "K"} and opened.coarse.zg500.attrs["units"] == "m"
    assert list(opened.static[0]) == ["orog"]
    assert sorted(opened.tests) == [
        f"{period}/{kind}/EC-Earth3_{years}"
        for period, years in (("end_century", "2080-2099"), ("historical", "1981-2000"))
        for kind in ("imperfect", "perfect")
    ]
    assert all(set(each) == set(opened.coarse) for each in opened.tests.values())
    assert opened.splits["train"].tolist() == list(range(20)) and len(opened.blocks.test) == 0


def test_the_hyphen_and_the_short_name_of_the_readme_are_understood(tmp_path):
    cordex(tmp_path)
    train = tmp_path / "NZ" / "NZ_domain" / "train"
    (train / "ESD_pseudo_reality").rename(train / "ESD_pseudo-reality")
    static = train / "ESD_pseudo-reality" / "predictors" / "Static_fields.nc"
    static.rename(static.with_name("static.nc"))
    opened = open_layout(tmp_path / "NZ" / "NZ_domain")
    assert opened.chosen == {"domain": "NZ", "experiment": "ESD_pseudo_reality"} and len(opened.static) == 1


def test_missing_files_and_unknown_choices_of_cordex_are_named(tmp_path):
    cordex(tmp_path)
    with pytest.raises(InputError, match=r"the domain 'ALPS'.*expected one of NZ"):
        open_layout(tmp_path, domain="ALPS")
    with pytest.raises(InputError, match=r"the experiment 'Emulator_hist_future'.*ESD_pseudo_reality"):
        open_layout(tmp_path, experiment="Emulator_hist_future")
    with pytest.raises(InputError, match=r"option 'domian'.*domain, experiment.*Did you mean 'domain'"):
        open_layout(tmp_path, domian="NZ")
    next(tmp_path.rglob("pr_tasmax_*.nc")).unlink()
    with pytest.raises(InputError, match=r"pr_tasmax_ACCESS-CM2_1961-1980\.nc does not exist"):
        open_layout(tmp_path)


def predicted(tests: dict[str, xr.Dataset], target: xr.Dataset, *, members: int = 1) -> dict[str, xr.Dataset]:
    """Answers in other units than the benchmark's, with a member dimension as downscalers give it."""
    found = {}
    for name, given in tests.items():
        shape = (members, given.sizes["time"], *target.pr.shape[1:])
        fields = {
            "pr": (("member", "time", "lat", "lon"), values(*shape) / 86400, {"units": "kg m-2 s-1"}),
            "tasmax": (("member", "time", "lat", "lon"), values(*shape, seed=1), {"units": "degC"}),
        }
        found[name] = xr.Dataset(fields, {"time": given.time, "lat": target.lat, "lon": target.lon})
    return found


def test_temperature_is_learnt_from_that_of_the_free_air_and_handed_in(tmp_path):
    cordex(tmp_path / "data")
    opened = open_layout(tmp_path / "data")
    method = named("ridge+none", variables={"tasmax": "ta850"}, predictors=("zg500", "hus700"))
    method.fit(*(each.load() for each in opened.part("train")), static=opened.static)
    answers = {name: method.predict(each) for name, each in opened.tests.items()}
    rain = predicted(opened.tests, opened.fine)
    whole = {
        name: each.assign(pr=(each.tasmax.dims, rain[name].pr.values, {"units": "mm day-1"}))
        for name, each in answers.items()
    }
    assert len(LAYOUTS["cordex-ml-bench"].submits(tmp_path / "mine", opened, whole)) == 4


@pytest.mark.parametrize("members", [1, 10])
def test_a_submission_has_the_names_and_the_form_that_the_benchmark_wants(tmp_path, members):
    cordex(tmp_path / "data")
    opened = open_layout(tmp_path / "data")
    answers = predicted(opened.tests, opened.fine, members=members)
    written = LAYOUTS["cordex-ml-bench"].submits(tmp_path / "mine", opened, answers)
    names = sorted(str(path.relative_to(tmp_path / "mine")) for path in written)
    assert names[0] == "NZ_Domain/ESD_pseudo_reality/end_century/imperfect/Predictions_pr_tasmax_EC-Earth3_2080-2099.nc"
    assert len(names) == len(set(names)) == 4
    with xr.open_dataset(tmp_path / "mine" / names[-1]) as file:
        answer = answers["historical/perfect/EC-Earth3_1981-2000"]
        assert file.pr.dims == (("member",) if members > 1 else ()) + ("time", "lat", "lon")
        assert (file.pr.attrs["units"], file.tasmax.attrs["units"]) == ("mm day-1", "K")
        np.testing.assert_allclose(file.pr.values.reshape(-1), answer.pr.values.reshape(-1) * 86400, rtol=1e-5)
        np.testing.assert_allclose(file.tasmax.values.reshape(-1), answer.tasmax.values.reshape(-1) + 273.15, rtol=1e-6)
        assert (file.time == opened.tests["historical/perfect/EC-Earth3_1981-2000"].time).all()
    with zipfile.ZipFile(packed(tmp_path / "mine")) as archive:
        assert sorted(archive.namelist()) == [f"mine/{name}" for name in names]


def test_a_submission_that_is_not_whole_is_refused(tmp_path):
    cordex(tmp_path / "data")
    opened = open_layout(tmp_path / "data")
    answers = predicted(opened.tests, opened.fine)
    submit, name = LAYOUTS["cordex-ml-bench"].submits, "historical/perfect/EC-Earth3_1981-2000"
    one = {name: answers[name]}
    with pytest.raises(InputError, match="no prediction of 'end_century/imperfect"):
        submit(tmp_path / "mine", opened, one)
    assert len(submit(tmp_path / "mine", opened, one, partial=True)) == 1
    for change, words in (
        (lambda fields: fields.drop_vars("pr"), "lacks pr"),
        (lambda fields: fields.isel(time=slice(3)), "is at 3 times"),
        (lambda fields: fields.isel(lat=slice(8)), "8 x 16 cells; expected the 16 x 16"),
        (lambda fields: xr.concat([fields] * 3, "member"), "has 3 members; expected 1, or 10"),
    ):
        with pytest.raises(InputError, match=words):
            submit(tmp_path / "mine", opened, {name: change(answers[name])}, partial=True)
    with pytest.raises(InputError, match="'historical/perfect/none', which is no test"):
        submit(tmp_path / "mine", opened, {"historical/perfect/none": answers[name]}, partial=True)
    with pytest.raises(InputError, match="holds no predictions"):
        packed(tmp_path / "data")


def test_alps_lies_on_a_plane_with_latitudes_of_every_cell(tmp_path):
    cordex(tmp_path, "ALPS", tests=False)
    path = next(tmp_path.rglob("pr_tasmax_*.nc"))
    with xr.open_dataset(path) as file:
        fields = file.load()
    axis = {
        f"{name}": (name, 12.5 * np.arange(16), {"units": "km", "standard_name": f"projection_{name}_coordinate"})
        for name in "yx"
    }
    lat, lon = np.meshgrid(44 + 0.1 * np.arange(16), 5 + 0.1 * np.arange(16), indexing="ij")
    places = {
        "lat": (("y", "x"), lat + 0.002 * lon, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": (("y", "x"), lon + 0.002 * lat, {"standard_name": "longitude", "units": "degrees_east"}),
    }
    flat = {name: (("time", "y", "x"), fields[name].values) for name in ("pr", "tasmax")}
    xr.Dataset(flat, {"time": fields.time, **axis, **places}).to_netcdf(path)
    opened = open_layout(tmp_path)
    grid = Grid.of(harmonise(opened.fine)[0])
    assert grid.shape == (16, 16) and opened.fine.pr.attrs["units"] == "mm day-1"


def test_a_folder_in_no_layout_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="in none of the layouts") as error:
        open_layout(tmp_path)
    for layout in LAYOUTS.values():
        assert f"{layout.name}: {layout.files}" in str(error.value)
        assert not layout.matches(tmp_path)
        with pytest.raises(InputError, match=f"not in the layout {layout.name}; expected"):
            layout.open(tmp_path)
    with pytest.raises(InputError, match=r"no layout 'rainshfit'.*Did you mean 'rainshift'"):
        open_layout(tmp_path, "rainshfit")
    with pytest.raises(InputError, match="does not exist"):
        open_layout(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        open_layout(tmp_path / "notes.txt")


def test_two_layouts_in_one_folder_have_to_be_told_apart(tmp_path):
    cordex(tmp_path)
    rainshift(tmp_path, "blacksea")
    with pytest.raises(InputError, match="in the layouts rainshift, cordex-ml-bench"):
        open_layout(tmp_path)
    assert open_layout(tmp_path, "cordex-ml-bench").layout == "cordex-ml-bench"


def test_every_layout_says_what_to_cite_and_what_is_known_of_its_terms():
    for name, layout in LAYOUTS.items():
        assert name == layout.name == name.lower() and layout.citation and layout.licence and layout.title
    opened = Opened("rainshift", xr.Dataset(), xr.Dataset(), splits={"train": np.arange(0)})
    with pytest.raises(InputError, match="the part 'final' of rainshift; expected one of train"):
        opened.part("final")
