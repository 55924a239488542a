"""ClimateBench and ChaosBench: years of several experiments as one record, days ahead from one store a day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finegrid.conventions import InputError, harmonise, natural_limits
from finegrid.data.layouts import open_layout, recognised
from finegrid.downscalers import PatternScaling
from finegrid.pipeline.material import Material

OUTPUTS = ("tas", "diurnal_temperature_range", "pr", "pr90")
YEARS = {
    "historical": (1850, 40),
    "ssp126": (2015, 86),
    "ssp370": (2015, 86),
    "ssp585": (2015, 86),
    "hist-GHG": (1850, 40),
    "hist-aer": (1850, 40),
    "ssp245": (2015, 86),
}


def climatebench(folder: Path, *names: str, members: int = 2) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """Experiments on 8 x 16 cells, warming by 2 K for 1000 Gt of CO2; returns inputs and outputs."""
    written = {}
    lat, lon = -90 + 180 / 8 * (np.arange(8) + 0.5), 22.5 * np.arange(16)
    for number, name in enumerate(names or YEARS):
        rng = np.random.default_rng(number)
        start, count = YEARS[name]
        years = start + np.arange(count)
        co2 = np.linspace(0, 1000 * (1 + number), count)
        maps = {key: (("time", "latitude", "longitude"), rng.gamma(1.0, size=(count, 8, 16))) for key in ("SO2", "BC")}
        inputs = xr.Dataset(
            {"CO2": ("time", co2), "CH4": ("time", co2 / 3000), **maps},
            {"time": years, "latitude": lat, "longitude": lon},
        )
        warming = 0.002 * co2[:, None, None] * (1 + 0.3 * np.sin(np.deg2rad(lat))[:, None])
        shape = (members, count, 8, 16)
        fields = {
            key: (
                ("member", "time", "lat", "lon"),
                (scale * (warming + 0.1 * rng.normal(size=shape))).astype(np.float32),
            )
            for key, scale in zip(OUTPUTS, (1.0, -0.1, 1e-6, 3e-6), strict=True)
        }
        places = {"member": 1 + np.arange(members), "time": years, "lat": lat, "lon": lon, "quantile": 0.9}
        outputs = xr.Dataset(fields, places)
        place = folder / ("test" if name == "ssp245" else "train_val")
        place.mkdir(exist_ok=True, parents=True)
        inputs.to_netcdf(place / f"inputs_{name}.nc")
        outputs.to_netcdf(place / f"outputs_{name}.nc")
        written[name] = inputs, outputs
    return written


def test_all_experiments_are_one_record_whose_years_are_said(tmp_path):
    written = climatebench(tmp_path)
    assert recognised(tmp_path).name == "climatebench"
    opened = open_layout(tmp_path)
    assert all(field.chunks is not None for field in (*opened.fine.data_vars.values(), opened.coarse.SO2))
    order = ("historical", "ssp126", "ssp370", "ssp585", "hist-GHG", "hist-aer", "ssp245")
    assert opened.chosen == {"experiment": ", ".join(order)} and set(opened.choices["experiment"]) == set(YEARS)
    nominal = [each.year for each in opened.coarse.time.values]
    assert nominal == list(range(1850, 1850 + sum(count for _, count in YEARS.values())))
    for name in order:
        here = np.flatnonzero(opened.fine.experiment.values == name)
        inputs, outputs = written[name]
        assert opened.fine.year.values[here].tolist() == inputs.time.values.tolist()
        np.testing.assert_array_equal(opened.coarse.CO2.values[here], inputs.CO2)
        np.testing.assert_array_equal(opened.coarse.BC.values[here], inputs.BC)
        np.testing.assert_allclose(opened.fine.tas.values[here], outputs.tas.mean("member"), rtol=1e-6)
        part = "test" if name == "ssp245" else "train"
        assert set(here) <= set(opened.splits[part])
    assert sum(map(len, (opened.splits["train"], opened.splits["test"]))) == opened.fine.sizes["time"]
    assert opened.fine.year.values[opened.splits["scored"]].tolist() == list(range(2080, 2101))


def test_units_are_stated_and_differences_have_no_lower_limit(tmp_path):
    climatebench(tmp_path, "ssp245")
    opened = open_layout(tmp_path)
    units = {name: opened.fine[name].attrs["units"] for name in OUTPUTS}
    assert units == {"tas": "K", "diurnal_temperature_range": "K", "pr": "kg m-2 s-1", "pr90": "kg m-2 s-1"}
    assert opened.coarse.CO2.attrs["units"] == "Gt" and opened.coarse.SO2.attrs["units"] == "kg m-2 s-1"
    assert natural_limits("pr", opened.fine.pr.attrs) == (-np.inf, np.inf)
    assert natural_limits("pr", {}) == (0.0, np.inf)
    assert opened.coarse.time.values[0].year == 2015  # a single experiment keeps its years
    harmonise(opened.fine)


def test_history_stands_before_a_scenario_and_is_not_tested(tmp_path):
    written = climatebench(tmp_path, "historical", "ssp126", "hist-aer", "ssp245")
    opened = open_layout(tmp_path, experiment=["ssp126", "hist-aer", "ssp245"], history=True)
    here = opened.coarse.experiment.values == "ssp126"
    assert opened.coarse.year.values[here].tolist() == [*range(1850, 1890), *range(2015, 2101)]
    joined = np.concatenate([written[name][0].CO2 for name in ("historical", "ssp126")])
    np.testing.assert_array_equal(opened.coarse.CO2.values[here], joined)
    assert (opened.coarse.experiment.values == "hist-aer").sum() == 40  # begins when history does
    assert (opened.coarse.year.values[opened.splits["test"]] >= 2015).all() and len(opened.splits["test"]) == 86
    usual = open_layout(tmp_path, history=True)
    assert "historical" not in usual.coarse.experiment.values


def test_members_of_one_experiment_are_kept_and_a_missing_value_of_one_is_filled_by_the_others(tmp_path):
    written = climatebench(tmp_path, "ssp245")
    outputs = written["ssp245"][1].copy(deep=True)
    outputs.diurnal_temperature_range[0, 5] = np.nan
    outputs.to_netcdf(tmp_path / "test" / "outputs_ssp245.nc")
    mean = open_layout(tmp_path).fine.diurnal_temperature_range
    np.testing.assert_array_equal(mean[5], outputs.diurnal_temperature_range[1, 5])
    every = open_layout(tmp_path, members=True).fine
    assert every.tas.dims == ("member", "time", "lat", "lon") and every.sizes["member"] == 2
    with pytest.raises(InputError, match="expected a single experiment"):
        climatebench(tmp_path, "ssp126")
        open_layout(tmp_path, members=True)


def test_idealised_experiments_have_maps_of_nothing(tmp_path):
    written = climatebench(tmp_path, "ssp585")
    inputs = written["ssp585"][0]
    flat = inputs.drop_vars(["SO2", "BC", "latitude", "longitude"]).assign(SO2=inputs.CO2 * 0, BC=inputs.CO2 * 0)
    flat.to_netcdf(tmp_path / "train_val" / "inputs_ssp585.nc")
    opened = open_layout(tmp_path, experiment="ssp585")
    assert opened.coarse.SO2.dims == ("time", "lat", "lon") and not opened.coarse.SO2.any()


def test_pattern_scaling_on_emissions_learns_the_warming_and_predicts_the_scenario(tmp_path):
    written = climatebench(tmp_path)
    opened = open_layout(tmp_path, factor=4)
    assert opened.coarse.tas.shape == (opened.fine.sizes["time"], 2, 4)
    material = Material(opened.coarse, opened.fine[["tas"]], opened.static, opened.blocks)
    model = PatternScaling(predictor="CO2", by="all", variables={"tas": "tas"}, constraint="none")
    model.fit(*material.at(material.blocks.train))
    prediction = model.predict(material.at(material.blocks.test)[0]).tas.values
    forced = 0.002 * written["ssp245"][0].CO2.values[:, None, None]
    forced = forced * (1 + 0.3 * np.sin(np.deg2rad(opened.fine.lat.values))[:, None])
    assert np.abs(prediction.reshape(forced.shape[0], 8, 16) - forced).max() < 0.15  # 14 K of warming, noise of 0.1 K


def test_what_is_missing_of_climatebench_is_named(tmp_path):
    climatebench(tmp_path, "ssp245", "ssp126")
    with pytest.raises(InputError, match=r"no experiment 'ssp999'; expected some of ssp126, ssp245|ssp245, ssp126"):
        open_layout(tmp_path, experiment="ssp999")
    with pytest.raises(InputError, match="no experiment 'historical'"):
        open_layout(tmp_path, experiment="ssp245", history=True)
    path = tmp_path / "test" / "outputs_ssp245.nc"
    fields = xr.load_dataset(path).drop_vars("pr90")
    fields.to_netcdf(path)
    with pytest.raises(InputError, match=r"outputs_ssp245\.nc lacks pr90"):
        open_layout(tmp_path)
    path.unlink()
    assert open_layout(tmp_path).choices["experiment"] == ("ssp126",)


LEVELS = (10, 500, 1000)
NAMES = ("z", "q", "t", "u", "v", "w")


def chaosbench(folder: Path, days: list[str], *, ending: str = "zarr") -> xr.Dataset:
    """Days on 3 levels and 5 x 8 points; returns all of them."""
    (folder / "era5").mkdir(parents=True)
    rng = np.random.default_rng(0)
    dims = ("time", "level", "latitude", "longitude")
    fields = xr.Dataset(
        {name: (dims, rng.normal(size=(len(days), 3, 5, 8)).astype(np.float32)) for name in NAMES},
        {
            "time": np.array(days, dtype="datetime64[ns]"),
            "level": np.array(LEVELS),
            "latitude": np.linspace(90, -90, 5),
            "longitude": 45.0 * np.arange(8),
        },
    )
    fields.z.attrs["units"] = "m**2 s**-2"  # what the download said before it was divided
    for index, day in enumerate(days):
        path = folder / "era5" / f"era5_full_1.5deg_{day.replace('-', '')}.{ending}"
        one = fields.isel(time=index)
        one.to_zarr(path, consolidated=False) if ending == "zarr" else one.to_netcdf(path)
    channels = [f"{name}-{level}" for name in NAMES for level in LEVELS]
    sigma = ("param", 1.0 + np.arange(18))
    normal = xr.Dataset({"mean": ("param", np.arange(18.0)), "sigma": sigma}, {"param": channels})
    normal.to_zarr(folder / "climatology" / "climatology_era5.zarr", zarr_format=2)
    return fields


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_the_truth_of_a_day_is_the_state_days_later(tmp_path, ending):
    days = [
        "2015-12-29",
        "2015-12-30",
        "2015-12-31",
        "2016-01-01",
        "2016-01-03",
        "2021-12-31",
        "2022-01-01",
        "2022-01-02",
    ]
    fields = chaosbench(tmp_path, days, ending=ending)
    assert recognised(tmp_path).name == "chaosbench"
    opened = open_layout(tmp_path, lead=1)
    assert all(field.chunks is not None for field in opened.coarse.data_vars.values())
    start = ["2015-12-29", "2015-12-30", "2015-12-31", "2021-12-31", "2022-01-01"]
    assert [str(each)[:10] for each in opened.coarse.time.values] == start
    assert (opened.fine.time == opened.coarse.time).all()
    for name in NAMES:
        np.testing.assert_array_equal(opened.coarse[name], fields[name].sel(time=start))
        later = np.array(start, dtype="datetime64[ns]") + np.timedelta64(1, "D")
        np.testing.assert_array_equal(opened.fine[name], fields[name].sel(time=later))
    # A pair that begins in training and ends in validation is in neither.
    assert {name: each.tolist() for name, each in opened.splits.items()} == {
        "train": [0, 1],
        "validate": [],
        "test": [4],
    }
    assert [str(each)[:10] for each in open_layout(tmp_path, lead=3).coarse.time.values] == ["2015-12-29", "2015-12-31"]


def test_variables_and_levels_are_channels_with_units_and_so_is_the_climatology(tmp_path):
    fields = chaosbench(tmp_path, ["2000-01-01", "2000-01-02"])
    opened = open_layout(tmp_path, lead=0)
    standard, _ = harmonise(opened.coarse)
    assert len(standard.data_vars) == 18 and standard["z@500"].attrs["units"] == "m"
    np.testing.assert_array_equal(standard["t@1000"], fields.t.sel(level=1000).isel(latitude=slice(None, None, -1)))
    assert opened.coarse.w.attrs["units"] == "Pa s-1" and opened.coarse.level.attrs["units"] == "hPa"
    normal = opened.extras["climatology_era5"]
    assert set(normal.param.values) == set(standard.data_vars)
    assert float(normal["mean"].sel(param="q@10")) == 3.0


def test_land_variables_join_those_of_the_air(tmp_path):
    fields = chaosbench(tmp_path, ["2000-01-01", "2000-01-02"])
    (tmp_path / "lra5").mkdir()
    for index, day in enumerate(("20000101", "20000102")):
        t2m = fields.t.isel(time=index, level=2, drop=True).rename("t2m").assign_attrs(units="K")
        t2m.to_dataset().to_zarr(tmp_path / "lra5" / f"lra5_full_1.5deg_{day}.zarr", consolidated=False)
    opened = open_layout(tmp_path, lead=0, land=["t2m"])
    np.testing.assert_array_equal(opened.coarse.t2m, fields.t.isel(level=2))
    assert opened.coarse.t2m.attrs["units"] == "K"
    with pytest.raises(InputError, match="lacks tp"):
        open_layout(tmp_path, lead=0, land=["tp"])
    with pytest.raises(InputError, match="oras5 does not exist"):
        open_layout(tmp_path, ocean=["sosstsst"])


def test_a_bad_day_is_found_when_it_is_read_and_a_lead_without_pairs_at_once(tmp_path):
    chaosbench(tmp_path, ["2000-01-01", "2000-01-02", "2000-01-03"], ending="nc")
    path = tmp_path / "era5" / "era5_full_1.5deg_20000102.nc"
    fields = xr.load_dataset(path).isel(latitude=slice(4))
    fields.to_netcdf(path)
    opened = open_layout(tmp_path)
    with pytest.raises(InputError, match=r"20000102\.nc holds \(3, 4, 8\) values where the first file has \(3, 5, 8\)"):
        opened.coarse.t.load()
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"20000102\.nc is damaged"):
        opened.coarse.t.load()
    with pytest.raises(InputError, match="3 days from 2000-01-01 to 2000-01-03, no two of them 44 days apart"):
        open_layout(tmp_path, lead=44)
    with pytest.raises(InputError, match="lead=-1"):
        open_layout(tmp_path, lead=-1)
