"""What large domains and archives cost: tiles, patches from disk, and many years of the whole Earth.

The archive is a synthetic Earth: daily temperature at 1 degree and at a quarter of it, with relief that a network can
learn, stored in Zarr as a weather service would, a few fields a chunk.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from finegrid.backbones import BACKBONES
from finegrid.backbones.windows import Tiles
from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.speed import apart, median_seconds, peak_bytes
from finegrid.data import Writer, open_fields
from finegrid.downscalers import Bilinear, NeuralDownscaler
from finegrid.downscalers.archive.patches import Patches
from finegrid.pipeline.downscale import downscale
from finegrid.training import Settings

_FACTOR, _ROWS, _COLUMNS = 4, 180, 360
_DAYS, _STEPS, _PATCH, _BATCH = 400, 150, 32, 16
_YEARS = 20
_GB = 1e9
_MOST = 3.0
_DRIFT = 0.10
_COMPUTE = 0.95


def tiles(bench: Bench) -> list[Figure]:
    """The quarter-degree Earth at once and in tiles: memory, seconds, and whether the fields are the same."""
    found = []
    for name in BACKBONES:
        whole, cut = (json.loads(apart(__name__, "tiled", name, size)) for size in (10**6, 64))
        error = abs(cut["sum"] - whole["sum"]) / abs(whole["sum"])
        words = (
            f"{cut['peak'] / _GB:.2f} GB in tiles of 64 coarse cells, {whole['peak'] / _GB:.2f} GB at once; "
            f"{cut['seconds'] / whole['seconds']:.2f} times the time; mean size differs by {error:.0e}"
        )
        found.append(Figure(f"a quarter-degree Earth in tiles, {name}", "equal to 1e-5", words, error < 1e-5, cut))
    return found


def tiled(name: str, size: str) -> str:
    """One network on the whole Earth, in a process of its own."""
    torch.manual_seed(0)
    shape = (_ROWS, _COLUMNS)
    made = BACKBONES[name](
        inputs=8, outputs=1, factor=(_FACTOR, _FACTOR), shape=shape, fine=1, padding="circular-longitude"
    )
    network = made.eval()  # type: ignore[attr-defined]
    coarse = torch.randn(1, 8, *shape)
    fine = torch.randn(1, 1, _FACTOR * _ROWS, _FACTOR * _COLUMNS)
    cut = Tiles(int(size))
    with torch.no_grad():
        answer = cut.through(network, coarse, None, fine, None)
        seconds = median_seconds(lambda: cut.through(network, coarse, None, fine, None), repeats=3)
    total = float(answer.double().abs().sum())
    return json.dumps({"sum": total, "seconds": seconds, "peak": peak_bytes()})


def archive(bench: Bench) -> list[Figure]:
    """How much of a training step is compute when patches come from a Zarr archive on disk."""
    folder = bench.out / "earth"
    earth(folder, _DAYS, fine=True)
    told = json.loads(apart(__name__, "learnt", str(folder)))
    share = 1 - told["waiting"] / told["seconds"]
    words = (
        f"{100 * share:.1f} % of {told['seconds']:.0f} s ({_STEPS} steps of {_BATCH} patches, {told['shards']} shards; "
        f"after the first shard, which took {told['first']:.1f} s); {told['peak'] / _GB:.2f} GB for "
        f"{told['bytes'] / _GB:.2f} GB of fine fields"
    )
    return [Figure("compute in a step of training from a chunked Zarr", "95 %", words, share >= _COMPUTE, told)]


def learnt(folder: str) -> str:
    """Train on patches, and say how long the step waited for the reader."""
    waits: list[float] = []
    shards: set[int] = set()
    own = Patches._shard

    def timed(patches: Patches, number: int) -> object:
        start = time.perf_counter()
        shard = own(patches, number)
        waits.append(time.perf_counter() - start)
        shards.add(number)
        return shard

    Patches._shard = timed  # type: ignore[assignment,method-assign]
    coarse, fine = (open_fields(Path(folder) / f"{name}.zarr") for name in ("coarse", "fine"))
    settings = Settings(budget=None, steps=_STEPS, batch=_BATCH, patch=_PATCH, patience=None)
    model = NeuralDownscaler(mean={"name": "ridge", "half_widths": (1,)}, settings=settings).fit(coarse, fine)
    seconds = float(model.info()["training"]["seconds"]) - waits[0]
    told = {"seconds": seconds, "waiting": sum(waits[1:]), "first": waits[0], "shards": len(shards)}
    return json.dumps(told | {"peak": peak_bytes(), "bytes": fine.nbytes})


def years(bench: Bench) -> list[Figure]:
    """Twenty daily years of the Earth from 1 degree to a quarter: memory, and whether late years take longer."""
    folder = bench.out / "earth20"
    earth(folder, 365 * _YEARS, fine=False)
    told = json.loads(apart(__name__, "downscaled", str(folder)))
    drift, peak = told["last"] / told["first"] - 1, told["peak"] / _GB
    words = (
        f"{peak:.2f} GB; {1000 * told['first']:.0f} ms of processors a day in the first year, "
        f"{1000 * told['last']:.0f} ms in the last ({100 * drift:+.0f} %)"
    )
    target = "3 GB; 10 % from first to last year"
    return [
        Figure(f"{_YEARS} years of the Earth at 0.25 degrees", target, words, peak < _MOST and drift < _DRIFT, told)
    ]


def downscaled(folder: str) -> str:
    """Downscale the archive with an interpolation, which has the least to do between reading and writing."""
    place, year = Path(folder), 365
    coarse = open_fields(place / "coarse.zarr").isel(time=slice(0, 4))
    model = Bilinear(constraint="add").fit(coarse.load(), _relief(4, coarse))
    moments: list[tuple[int, float]] = []
    downscale(
        model,
        place / "coarse.zarr",
        place / "out.zarr",
        guard="off",
        progress=lambda done, total: moments.append((done, time.process_time())),
    )
    done, when = (np.array(each) for each in zip(*moments, strict=True))
    last = done[-1]
    return json.dumps(
        {
            "first": _pace(done, when, 0, year),
            "last": _pace(done, when, int(last) - year, int(last)),
            "days": int(last),
            "peak": peak_bytes(),
        }
    )


def _pace(done: NDArray[np.int64], when: NDArray[np.float64], start: int, stop: int) -> float:
    """Seconds of processors for a day between two days, from the blocks within them."""
    inside = (done > start) & (done <= stop)
    first, last = np.flatnonzero(inside)[[0, -1]]
    return float((when[last] - when[first]) / (done[last] - done[first]))


def earth(folder: Path, days: int, *, fine: bool) -> None:
    """Write the archive, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("coarse", "fine") if fine else ("coarse",)
    if all((folder / f"{name}.zarr").exists() for name in names):
        return
    writers = {name: Writer(folder / f"{name}.zarr") for name in names}
    random = np.random.default_rng(0)
    for start in range(0, days, 8):
        count = min(8, days - start)
        coarse = _weather(random, start, count)
        writers["coarse"].append(coarse)
        if fine:
            writers["fine"].append(_relief(count, coarse))
    for writer in writers.values():
        writer.close()


def _weather(random: np.random.Generator, start: int, days: int) -> xr.Dataset:
    """Temperature at 1 degree: seasons, and weather of four degrees that is new every day."""
    latitude = np.deg2rad(np.arange(_ROWS) - 89.5)[:, None]
    rough = random.standard_normal((days, _ROWS // 4, _COLUMNS // 4), dtype=np.float32)
    weather = rough.repeat(4, axis=1).repeat(4, axis=2)
    season = np.cos(2 * np.pi * np.arange(start, start + days) / 365)[:, None, None]
    values = 288 + 30 * (np.cos(latitude) - 0.6) + 5 * season * np.sin(latitude) + 3 * weather
    return _fields(values.astype(np.float32), start, 1.0)


def _relief(days: int, coarse: xr.Dataset) -> xr.Dataset:
    """The same at a quarter of a degree, with relief of mean zero in every cell of one degree."""
    heights = np.random.default_rng(1).standard_normal((4 * _ROWS, 4 * _COLUMNS)).astype(np.float32)
    area = np.cos(np.deg2rad((np.arange(4 * _ROWS) + 0.5) / 4 - 90)).astype(np.float32)[:, None]
    blocks = (heights * area).reshape(_ROWS, 4, _COLUMNS, 4).sum((1, 3)) / (4 * area.reshape(_ROWS, 4, 1).sum(1))
    heights -= blocks.repeat(4, axis=0).repeat(4, axis=1)
    values = coarse.tas.values.repeat(4, axis=1).repeat(4, axis=2)
    start = int((coarse.time.values[0] - np.datetime64("1981-01-01")) / np.timedelta64(1, "D"))
    return _fields(values * (1 + 0.01 * heights), start, 0.25)


def _fields(values: NDArray[np.float32], start: int, size: float) -> xr.Dataset:
    rows, columns = values.shape[1:]
    places = {
        "lat": ("lat", (np.arange(rows) + 0.5) * size - 90, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", (np.arange(columns) + 0.5) * size, {"units": "degrees_east", "standard_name": "longitude"}),
        "time": np.datetime64("1981-01-01", "ns") + np.arange(start, start + len(values)) * np.timedelta64(1, "D"),
    }
    about = {"units": "K", "standard_name": "air_temperature"}
    return xr.Dataset({"tas": (("time", "lat", "lon"), values, about)}, coords=places)
