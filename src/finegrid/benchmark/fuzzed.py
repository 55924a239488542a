"""What is fuzzed: every reader of files that others may have made, with a small file that is good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.leaderboard import Entry, Leaderboard
from finegrid.data import open_fields, write
from finegrid.data.coarsen import coarsen
from finegrid.data.damage import readable
from finegrid.data.layouts.torch_file import mapped_tensor
from finegrid.data.synthetic import Climate, generate
from finegrid.downscalers import Ridge, load
from finegrid.pipeline.guarding import guard_of, learn
from finegrid.pipeline.recipe import Recipe
from finegrid.training.checkpoint import Progress, State, save
from finegrid.training.checkpoint import load as load_state

# Bytes of fields that are read whole; larger ones are read in blocks, of which the first will do.
_WHOLE = 50_000_000


@dataclass(frozen=True)
class Reader:
    """A way in.

    Attributes:
        make: writes a good file or folder beside a path without suffix, and says where.
        read: reads one.
        checked: whether changes must be noticed.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    checked: bool = False


def _fields(times: int = 4) -> xr.Dataset:
    return generate(Climate(), shape=(8, 8), times=times, seed=0)


def _written(suffix: str) -> Callable[[Path], Path]:
    return lambda path: write(_fields(), path.with_suffix(suffix))


def _classic(path: Path) -> Path:
    target = path.with_suffix(".nc")
    fields = _fields().drop_encoding()
    encoding = {str(name): {"dtype": "float32"} for name in fields.data_vars}
    fields.to_netcdf(target, format="NETCDF3_CLASSIC", encoding=encoding)
    return target


def _zipped(path: Path) -> Path:
    write(_fields(), path.with_suffix(".zarr"))
    shutil.make_archive(str(path), "zip", path.with_suffix(".zarr"))
    shutil.rmtree(path.with_suffix(".zarr"))
    return path.with_suffix(".zip")


def _tiff(path: Path) -> Path:
    import rioxarray  # noqa: F401

    bands = _fields().tas.rename(lat="y", lon="x").drop_encoding().astype("float32")
    bands.rio.write_crs("EPSG:4326").rio.to_raster(path.with_suffix(".tif"))
    return path.with_suffix(".tif")


def _read_fields(path: Path) -> str:
    with readable(path):
        fields = open_fields(path)
        if fields.nbytes > _WHOLE:
            fields = fields.isel({dim: slice(0, 2) for dim in fields.dims})
        return str(fields.load().sizes)


def _recipe(path: Path) -> Path:
    target = path.with_suffix(".yaml")
    target.write_text(Recipe.example(), encoding="utf-8")
    return target


def _model(path: Path) -> Path:
    fine = _fields(times=40)[["tas"]]
    coarse = coarsen(fine, 4)
    model = Ridge(half_widths=(1,), penalties=(1.0,)).fit(coarse, fine)
    model.save(path)
    learn(model, coarse, path, seasonal=False)
    return path


def _used(path: Path) -> str:
    model = load(path)
    guard_of(path, model)
    made = model.predict(coarsen(_fields()[["tas"]], 4))
    return str(np.asarray(made.tas.values).tobytes().hex()[:4000])


def _leaderboard(path: Path) -> Path:
    target = path.with_suffix(".json")
    Leaderboard((Entry("task", "last fifth", "ridge", {"tas": {"rmse": {"value": 1.0}}}),)).write(target)
    return target


def _tensor(path: Path) -> Path:
    import torch

    torch.save(torch.randn(6, 1, 8, 8), path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def _grib(path: Path) -> Path:
    import eccodes

    keys = {"Ni": 4, "Nj": 3, "latitudeOfFirstGridPointInDegrees": 42.0, "latitudeOfLastGridPointInDegrees": 40.0}
    keys |= {"longitudeOfFirstGridPointInDegrees": 5.0, "longitudeOfLastGridPointInDegrees": 8.0}
    keys |= {"iDirectionIncrementInDegrees": 1.0, "jDirectionIncrementInDegrees": 1.0, "dataDate": 20010101}
    with path.with_suffix(".grib").open("wb") as file:
        for step in range(2):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            for key, value in (keys | {"dataTime": 100 * step, "shortName": "2t"}).items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set_values(message, np.arange(12.0) + 280)
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    return path.with_suffix(".grib")


def _state(path: Path) -> Path:
    import torch

    weights = {"w": torch.ones(3)}
    save(State(Progress(steps=3), weights, weights, {}), path, fingerprint="job")
    return path


READERS: dict[str, Reader] = {
    "netcdf": Reader(_written(".nc"), _read_fields),
    "netcdf-classic": Reader(_classic, _read_fields),
    "zarr": Reader(_written(".zarr"), _read_fields),
    "zarr-zip": Reader(_zipped, _read_fields),
    "grib": Reader(_grib, _read_fields),
    "geotiff": Reader(_tiff, _read_fields),
    "recipe": Reader(_recipe, lambda path: Recipe.read(path).to_dict()),
    "model": Reader(_model, _used, checked=True),
    "checkpoint": Reader(_state, lambda path: load_state(path, fingerprint="job").progress),
    "torch-tensor": Reader(_tensor, lambda path: str(mapped_tensor(path).sum())),
    "leaderboard": Reader(_leaderboard, Leaderboard.read),
}
