"""Folders in the layouts of public benchmarks, as small as they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.fuzzed.base import Reader
from finegrid.data.damage import readable
from finegrid.data.layouts import open_layout
from finegrid.data.layouts.climsim import GRID
from finegrid.data.layouts.climsim_words import INPUTS, OUTPUTS
from finegrid.data.layouts.weather2k import PLACES, VARIABLES

_LEVELS, _POINTS = 5, 6


def _drawn(dims: tuple[str, ...], *shape: int) -> tuple[tuple[str, ...], Any]:
    return dims, np.random.default_rng(0).gamma(2.0, size=shape).astype(np.float32)


def _latlon(size: int, spacing: float) -> dict[str, Any]:
    centres = spacing * (np.arange(size) + 0.5)
    return {
        "lat": ("lat", 10 + centres, {"units": "degrees_north"}),
        "lon": ("lon", 30 + centres, {"units": "degrees_east"}),
    }


def _days(start: str, count: int) -> Any:
    return np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(1, "D")


def _kept(fields: xr.Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zarr":
        fields.to_zarr(path, consolidated=False, zarr_format=3)
    else:
        fields.to_netcdf(path, engine="netcdf4")


def _rainshift(folder: Path) -> Path:
    names = ("cape", "cp", "sp", "tclw", "tcw", "tisr", "tp", "u", "v")
    dims = ("time", "lat", "lon")
    for part, start in (("train", "2001-01-01"), ("test", "2021-01-01")):
        time = {"time": _days(start, 4)}
        coarse = {name: _drawn(dims, 4, 4, 4) for name in names}
        _kept(xr.Dataset(coarse, {**time, **_latlon(4, 0.25)}), folder / "asia" / f"{part}_data_in.nc")
        fine = {"precipitation": _drawn(dims, 4, 10, 10)}
        _kept(xr.Dataset(fine, {**time, **_latlon(10, 0.1)}), folder / "asia" / f"{part}_data_out.zarr")
    still = {name: _drawn(("lat", "lon"), 10, 10) for name in ("lsm", "z")}
    _kept(xr.Dataset(still, _latlon(10, 0.1)), folder / "asia" / "static_variables.nc")
    return folder


def _cordex(folder: Path) -> Path:
    top = folder / "NZ" / "NZ_domain" / "train" / "ESD_pseudo_reality"
    dims, time = ("time", "lat", "lon"), {"time": _days("1961-01-01T12", 5)}
    given = {f"{kind}_{level}": _drawn(dims, 5, 4, 4) for kind in "tuvqz" for level in (850, 700, 500)}
    target = xr.Dataset({"pr": _drawn(dims, 5, 8, 8), "tasmax": _drawn(dims, 5, 8, 8)}, {**time, **_latlon(8, 0.5)})
    _kept(xr.Dataset(given, {**time, **_latlon(4, 2.0)}), top / "predictors" / "ACCESS-CM2_1961-1980.nc")
    _kept(target[["pr"]].isel(time=0, drop=True).rename(pr="orog"), top / "predictors" / "Static_fields.nc")
    _kept(target, top / "target" / "pr_tasmax_ACCESS-CM2_1961-1980.nc")
    return folder


def _climatebench(folder: Path) -> Path:
    places = {"latitude": -67.5 + 45.0 * np.arange(4), "longitude": 45.0 * np.arange(8)}
    for name, start, count, part in (("ssp126", 2015, 20, "train_val"), ("ssp245", 2015, 20, "test")):
        years = {"time": start + np.arange(count)}
        maps = {key: _drawn(("time", "latitude", "longitude"), count, 4, 8) for key in ("SO2", "BC")}
        series = {key: ("time", np.linspace(0, 1, count)) for key in ("CO2", "CH4")}
        _kept(xr.Dataset({**series, **maps}, {**years, **places}), folder / part / f"inputs_{name}.nc")
        wanted = ("tas", "diurnal_temperature_range", "pr", "pr90")
        fields = {key: _drawn(("member", "time", "lat", "lon"), 2, count, 4, 8) for key in wanted}
        where = {"member": [1, 2], **years, "lat": places["latitude"], "lon": places["longitude"], "quantile": 0.9}
        _kept(xr.Dataset(fields, where), folder / part / f"outputs_{name}.nc")
    return folder


def _chaosbench(folder: Path) -> Path:
    names, levels = ("z", "q", "t", "u", "v", "w"), (10, 500)
    places = {"level": np.array(levels), "latitude": np.linspace(90, -90, 5), "longitude": 45.0 * np.arange(8)}
    for number, day in enumerate(("2015-12-30", "2015-12-31", "2016-01-01", "2022-01-01")):
        fields = {name: _drawn(("level", "latitude", "longitude"), 2, 5, 8) for name in names}
        path = folder / "era5" / f"era5_full_1.5deg_{day.replace('-', '')}.{'zarr' if number else 'nc'}"
        _kept(xr.Dataset(fields, {**places, "time": np.datetime64(day, "ns")}), path)
    channels = [f"{name}-{level}" for name in names for level in levels]
    sizes = {name: ("param", 1.0 + np.arange(len(channels))) for name in ("mean", "sigma")}
    normal = xr.Dataset(sizes, {"param": channels})
    normal.to_zarr(folder / "climatology" / "climatology_era5.zarr", zarr_format=2)
    return folder


def _climsim(folder: Path) -> Path:
    share = np.linspace(0, 1, _LEVELS + 1)
    a, b = 0.002 + 0.1 * share * (1 - share), share**2
    middle = {name: ("lev", (each[1:] + each[:-1]) / 2) for name, each in (("hyam", a), ("hybm", b))}
    places = {name: ("ncol", np.linspace(0.02, 60, _POINTS)) for name in ("lat", "lon", "area")}
    edges = {"hyai": ("ilev", a), "hybi": ("ilev", b), "P0": 1e5}
    _kept(xr.Dataset({**places, **edges, **middle}), folder / GRID)
    column, ground = _drawn(("lev", "ncol"), _LEVELS, _POINTS), _drawn(("ncol",), _POINTS)
    before = {name: column if each.levels else ground for name, each in INPUTS["v1"].items()}
    after = {each.state or name: column if each.state else ground for name, each in OUTPUTS["v1"].items()}
    for step in ("0001-02-01-00000", "0001-02-01-01200", "0009-02-01-00000"):
        when = {"ymd": int(step[:10].replace("-", "")), "tod": int(step[-5:])}
        for kind, fields in (("mli", before), ("mlo", after)):
            _kept(xr.Dataset({**fields, **when}), folder / "train" / step[:7] / f"E3SM-MMF.{kind}.{step}.nc")
    return folder


def _weather2k(folder: Path) -> Path:
    names = [*PLACES, *VARIABLES]
    cube = _drawn((), 3, len(names), 40)[1]
    (folder / "Weather2K-R").mkdir(parents=True)
    np.save(folder / "Weather2K-R" / "data.npy", cube)
    return folder


def _stations(folder: Path) -> Path:
    names = [*PLACES, *VARIABLES]
    (folder / "Weather2K-S").mkdir(parents=True)
    for number in range(2):
        rows = "\n".join(",".join(f"{value:.2f}" for value in row) for row in _drawn((), 40, len(names))[1])
        table = f"{','.join(names)}\n{rows}\n"
        (folder / "Weather2K-S" / f"{number}.csv").write_text(table, encoding="utf-8")
    return folder


def _tensors(ending: str) -> Any:
    def made(folder: Path) -> Path:
        import torch

        for part, count in (("train", 6), ("val", 3), ("test", 3)):
            place = folder / "era5_sr_data" / part
            place.mkdir(parents=True)
            for name, size in ((f"input_{part}", 4), (f"target_{part}", 8)):
                values = torch.rand((count, 1, 1, size, size), generator=torch.Generator().manual_seed(0))
                path = place / f"{name}.{ending}"
                torch.save(values, path) if ending == "pt" else np.save(path, values.numpy())
        return folder

    return made


def _read(name: str, **options: Any) -> Any:
    def read(folder: Path) -> str:
        with readable(*sorted(path for path in folder.rglob("*") if path.suffix in (".nc", ".zarr"))):
            opened = open_layout(folder, name, **options)
            sides = (opened.coarse, opened.fine, *opened.static)
            return str([each.isel({dim: slice(0, 3) for dim in each.dims}).load().sizes for each in sides])

    return read


# A layout is opened from many files, and takes some ten times as long to read as one.
_SHARE = 0.2

FOLDERS: dict[str, Reader] = {
    "rainshift": Reader(_rainshift, _read("rainshift"), share=_SHARE),
    "cordex-ml-bench": Reader(_cordex, _read("cordex-ml-bench"), share=_SHARE),
    "climatebench": Reader(_climatebench, _read("climatebench", factor=2), share=_SHARE),
    "chaosbench": Reader(_chaosbench, _read("chaosbench"), share=_SHARE),
    "climsim": Reader(_climsim, _read("climsim"), share=_SHARE),
    "weather2k": Reader(_weather2k, _read("weather2k"), share=_SHARE),
    "weather2k-tables": Reader(_stations, _read("weather2k"), share=_SHARE),
    "constrained": Reader(_tensors("pt"), _read("constrained-downscaling"), share=_SHARE),
    "constrained-npy": Reader(_tensors("npy"), _read("constrained-downscaling"), share=_SHARE),
}
