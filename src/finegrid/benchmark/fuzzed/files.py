"""Files of fields, and what else is read beside fields: the recipe, weights, tensors, logs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from finegrid.benchmark.fuzzed.base import Reader, small_fields
from finegrid.conventions import harmonise
from finegrid.data import open_fields, write
from finegrid.data.damage import readable
from finegrid.data.layouts.torch_file import mapped_tensor
from finegrid.evaluation.report import read_training_log
from finegrid.grids import Grid, Operator
from finegrid.pipeline.recipe import Recipe

# Bytes of fields that are read whole; larger ones are read in blocks, of which the first will do.
_WHOLE = 50_000_000


def _written(suffix: str) -> Callable[[Path], Path]:
    return lambda path: write(small_fields(), path.with_suffix(suffix))


def _classic(path: Path) -> Path:
    target = path.with_suffix(".nc")
    fields = small_fields().drop_encoding()
    encoding = {str(name): {"dtype": "float32"} for name in fields.data_vars}
    fields.to_netcdf(target, format="NETCDF3_CLASSIC", encoding=encoding)
    return target


def _zipped(path: Path) -> Path:
    write(small_fields(), path.with_suffix(".zarr"))
    shutil.make_archive(str(path), "zip", path.with_suffix(".zarr"))
    shutil.rmtree(path.with_suffix(".zarr"))
    return path.with_suffix(".zip")


def _tiff(path: Path) -> Path:
    import rioxarray  # noqa: F401

    bands = small_fields().tas.rename(lat="y", lon="x").drop_encoding().astype("float32")
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


def _sharded(path: Path) -> Path:
    encoding = {name: {"chunks": (1, 4, 4), "shards": (2, 8, 8)} for name in ("tas", "pr")}
    fields = small_fields()[["tas", "pr"]].drop_encoding()
    fields.to_zarr(path.with_suffix(".zarr"), zarr_format=3, consolidated=True, encoding=encoding)
    return path.with_suffix(".zarr")


def _second_format(path: Path) -> Path:
    small_fields().drop_encoding().to_zarr(path.with_suffix(".zarr"), zarr_format=2, consolidated=True)
    return path.with_suffix(".zarr")


def _weights(path: Path) -> Path:
    fine = Grid.of(harmonise(small_fields())[0])
    return Operator.conservative(fine, fine.coarsened(2)).write(path.with_suffix(".nc"))


def _read_weights(path: Path) -> str:
    fine = Grid.of(harmonise(small_fields())[0])
    return str(Operator.read(path, fine, fine.coarsened(2)))


def _log(path: Path) -> Path:
    rows = [{"step": step, "loss": 1 / (1 + step), "validation_loss": 0.5, "seconds": 1.0} for step in range(9)]
    lines = map(json.dumps, rows)
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path.with_suffix(".jsonl")


FILES: dict[str, Reader] = {
    "netcdf": Reader(_written(".nc"), _read_fields),
    "netcdf-classic": Reader(_classic, _read_fields),
    "zarr": Reader(_written(".zarr"), _read_fields),
    "zarr-2": Reader(_second_format, _read_fields),
    "zarr-shards": Reader(_sharded, _read_fields),
    "zarr-zip": Reader(_zipped, _read_fields),
    "grib": Reader(_grib, _read_fields),
    "geotiff": Reader(_tiff, _read_fields),
    "recipe": Reader(_recipe, lambda path: Recipe.read(path).to_dict()),
    "weights": Reader(_weights, _read_weights),
    "torch-tensor": Reader(_tensor, lambda path: str(mapped_tensor(path).sum())),
    "training-log": Reader(_log, read_training_log),
}
