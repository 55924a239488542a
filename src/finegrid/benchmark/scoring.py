"""What scoring costs, and whether its intervals hold what they promise.

What is measured is the scoring, so making the fields must cost next to nothing: members and truth are cut from one
pool of random numbers in memory, from another place for every chunk. A reader sees an array that gives chunks of four
times when it is asked for them, as an uncompressed Zarr store would.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.speed import peak_bytes
from finegrid.evaluation import evaluate
from finegrid.evaluation.metrics import METRICS
from finegrid.grids import Grid

_MEMBERS, _TIMES, _SIDE, _CHUNK = 50, 1000, 256, 4
# Times that the other package gets, in memory: all of them would take its memory. It is scaled by the number of times.
_FEW = 8
_ROUNDS = 5
_GIB = 2**30
_TWENTY = 20
_NAMES = ("rmse", "crps", "power-ratio")
_TOGETHER = "together"
# A prime, so that chunks begin at different places.
_STEP = 7919


def speed(bench: Bench) -> list[Figure]:
    """RMSE, CRPS and the spectrum of 50 members over 1000 x 256 x 256, and CRPS against the package `scores`."""
    numbers: dict[str, float] = {}
    around: list[float] = []
    for name in (*_NAMES, _TOGETHER):
        around += _theirs() if name == "crps" else []
        code = f"from finegrid.benchmark.scoring import measured\nprint(measured({name!r}))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        numbers |= json.loads(run.stdout)
        around += _theirs() if name == "crps" else []
        bench.say(f"{name}: {numbers[name]:.0f} s, {numbers[f'{name} peak']:.2f} GB")
    words = ", ".join(f"{name} {numbers[name]:.0f} s" for name in _NAMES)
    peak = max(numbers[f"{name} peak"] for name in (*_NAMES, _TOGETHER))
    what = f"50 members over {_TIMES} x 256 x 256, lazily"
    together = f"{words}; all from one read by evaluate {numbers[_TOGETHER]:.0f} s; {peak:.2f} GB"
    return [Figure(what, "2 GB", together, peak <= 2.0, numbers), *_against_scores(numbers["crps processor"], around)]


def measured(name: str) -> str:
    """Seconds and processor seconds of a metric, or all together, over all times, and the peak of the process; JSON."""
    prediction, truth = _fields(_TIMES)
    work: Callable[[], object] = partial(evaluate, prediction.to_dataset(), truth.to_dataset(), metrics=_NAMES)
    if name != _TOGETHER:
        work = partial(METRICS[name], prediction, truth)
    processor = time.process_time()
    seconds = _seconds(work)
    processor = time.process_time() - processor
    return json.dumps({name: seconds, f"{name} processor": processor, f"{name} peak": peak_bytes() / _GIB})


def _against_scores(lazily: float, around: list[float]) -> list[Figure]:
    """CRPS in memory, and over all times by processor seconds, as a number of times as fast as the other package."""
    name, target = "CRPS of 50 members against the package scores", ">= 3 times faster"
    if not around:
        return [Figure(name, target, "scores is not installed", None)]
    prediction, truth = (each.load() for each in _fields(_FEW))
    own, other = _interleaved(partial(METRICS["crps"], prediction, truth), partial(_their_crps, prediction, truth))
    ratio, scaled = other / own, float(np.median(around)) * _TIMES / _FEW
    words = f"{ratio:.1f} times ({own:.2f} s against {other:.2f} s for {_FEW} times in memory)"
    words_of_all = f"{lazily:.0f} s of processors, lazily, against {scaled:.0f} s, scaled from {_FEW} times in memory"
    return [
        Figure(name, target, words, ratio >= 3, {"own": own, "other": other}),
        Figure(
            f"the same over {_TIMES} times",
            target,
            f"{scaled / lazily:.1f} times ({words_of_all})",
            scaled >= 3 * lazily,
            {"own": lazily, "other": scaled},
        ),
    ]


def _theirs() -> list[float]:
    """Processor seconds of the other package for a few times; nothing if it is not installed.

    Over minutes other programs come and go: by the clock, what is measured later would be judged by them.
    """
    prediction, truth = (each.load() for each in _fields(_FEW))
    spent = [time.process_time()]
    for _ in range(_ROUNDS):
        try:
            _their_crps(prediction, truth)
        except ImportError:
            return []
        spent.append(time.process_time())
    return np.diff(spent).tolist()


def _their_crps(prediction: xr.DataArray, truth: xr.DataArray) -> object:
    from scores.probability import crps_for_ensemble

    return crps_for_ensemble(prediction, truth, "member", method="fair")


def _interleaved(*works: Callable[[], object]) -> list[float]:
    """Least seconds of each of some works, taken in turns: what else the machine does falls upon all of them."""
    rounds = [[_seconds(work) for work in works] for _ in range(_ROUNDS)]
    return [min(each) for each in zip(*rounds, strict=True)]


def shared_read(bench: Bench) -> list[Figure]:
    """Twenty metrics of an evaluation read the data as often as one does."""
    names = [name for name, metric in METRICS.items() if not metric.of_members][:_TWENTY]
    reads = {}
    for count in (1, len(names)):
        prediction, truth, counted = _counted()
        evaluate(prediction, truth, metrics=names[:count])
        reads[count] = len(counted)
    words = f"{reads[len(names)]} block reads for {len(names)} metrics, {reads[1]} for one"
    return [Figure("metrics that share one read of the data", "as for one", words, reads[len(names)] == reads[1], {})]


def _fields(times: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Members and truth as they would come from a Zarr store, cut from a pool when they are asked for."""
    pool = np.random.default_rng(0).standard_normal((_MEMBERS + 10) * _CHUNK * _SIDE**2, dtype=np.float32)
    about, coords = {"units": "K", "standard_name": "air_temperature"}, _coords(times)
    days = dask.array.arange(times, chunks=_CHUNK)

    def field(numbers: NDArray[np.float32], *members: int) -> xr.DataArray:
        axes, around = [*range(len(members)), len(members) + 1, len(members) + 2], [(each,) for each in members]
        cut = partial(_cut, numbers, members)
        lazy = days.map_blocks(cut, dtype="float32", new_axis=axes, chunks=(*around, *days.chunks, _SIDE, _SIDE))
        dims = ("member", "time", "y", "x")[1 - len(members) :]
        return xr.DataArray(lazy, dims=dims, coords=coords, name="tas", attrs=about)

    return field(pool, _MEMBERS), field(pool[::-1])


def _cut(pool: NDArray[np.float32], members: tuple[int, ...], days: NDArray[np.int64]) -> NDArray[np.float32]:
    """Fields (..., time, y, x) of the days of a chunk; a view of the pool."""
    shape = (*members, len(days), _SIDE, _SIDE)
    start = int(days[0]) * _STEP % (len(pool) - math.prod(shape))
    return pool[start:][: math.prod(shape)].reshape(shape)


def _coords(times: int) -> dict[str, xr.DataArray]:
    north, east = (np.asarray(start + 0.1 * np.arange(_SIDE + 1), dtype=np.float64) for start in (30.0, 0.0))
    grid = Grid((north[1:] + north[:-1]) / 2, (east[1:] + east[:-1]) / 2, north, east)
    days = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    places = {name: coord for name, coord in grid.coords().items() if name in ("y", "x", "crs")}
    return {**places, "time": xr.DataArray(days, dims="time")}


def _counted() -> tuple[xr.Dataset, xr.Dataset, list[int]]:
    counted: list[int] = []

    def read(block: np.ndarray) -> np.ndarray:
        counted.append(1)
        return block

    prediction, truth = _fields(_FEW)
    plain = prediction.isel(member=0, y=slice(64), x=slice(64)).load()
    chunked = dask.array.from_array(plain.values, chunks=(2, -1, -1))  # type: ignore[no-untyped-call]
    lazy = plain.copy(data=chunked.map_blocks(read, dtype="float32", meta=plain.values[:0]))
    return lazy.to_dataset(), truth.isel(y=slice(64), x=slice(64)).load().to_dataset(), counted


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
