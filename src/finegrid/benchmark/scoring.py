"""What scoring costs, and whether its intervals hold what they promise."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial

import dask.array
import numpy as np
import xarray as xr

from finegrid.benchmark.figures import Bench, Figure
from finegrid.evaluation.metrics import METRICS
from finegrid.grids import Grid

_MEMBERS, _TIMES, _SIDE = 50, 1000, 256
# Times that the other package gets: all of them would take its memory and an hour.
_FEW = 8
_GIB = 2**30
_TWENTY = 20


def speed(bench: Bench) -> list[Figure]:
    """RMSE, CRPS and the spectrum of 50 members over 1000 x 256 x 256, and CRPS against the package `scores`."""
    prediction, truth = _fields(_TIMES)
    seconds = {name: _seconds(partial(METRICS[name], prediction, truth)) for name in ("rmse", "crps", "power-ratio")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
    words = ", ".join(f"{name} {each:.0f} s" for name, each in seconds.items())
    return [
        Figure("50 members over 1000 x 256 x 256, lazily", "2 GB", f"{words}; {peak:.2f} GB", peak <= 2.0, seconds),
        _against_scores(),
    ]


def _against_scores() -> Figure:
    name = "CRPS of 50 members against the package scores"
    try:
        from scores.probability import crps_for_ensemble
    except ImportError:
        return Figure(name, ">= 3 times faster", "scores is not installed", None)
    prediction, truth = (each.load() for each in _fields(_FEW))
    own = min(_seconds(lambda: METRICS["crps"](prediction, truth)) for _ in range(3))
    other = min(_seconds(lambda: crps_for_ensemble(prediction, truth, "member", method="fair")) for _ in range(3))
    ratio = other / own
    words = f"{ratio:.1f} times ({own:.2f} s against {other:.2f} s for {_FEW} times)"
    return Figure(name, ">= 3 times faster", words, ratio >= 3, {"own": own, "other": other})


def shared_read(bench: Bench) -> list[Figure]:
    """Twenty metrics of an evaluation read the data as often as one does."""
    from finegrid.evaluation import evaluate

    names = [name for name, metric in METRICS.items() if not metric.of_members][:_TWENTY]
    reads = {}
    for count in (1, len(names)):
        prediction, truth, counted = _counted()
        evaluate(prediction, truth, metrics=names[:count])
        reads[count] = len(counted)
    words = f"{reads[len(names)]} block reads for {len(names)} metrics, {reads[1]} for one"
    return [Figure("metrics that share one read of the data", "as for one", words, reads[len(names)] == reads[1], {})]


def _fields(times: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Members and truth as they would come from a Zarr store, made when they are asked for."""
    random = dask.array.random.default_rng(0)  # type: ignore[no-untyped-call]
    coords = _coords(times)
    prediction = random.standard_normal((_MEMBERS, times, _SIDE, _SIDE), dtype="float32", chunks=(-1, 4, -1, -1))
    truth = random.standard_normal((times, _SIDE, _SIDE), dtype="float32", chunks=(4, -1, -1))
    about = {"units": "K", "standard_name": "air_temperature"}
    return (
        xr.DataArray(prediction, dims=("member", "time", "y", "x"), coords=coords, name="tas", attrs=about),
        xr.DataArray(truth, dims=("time", "y", "x"), coords=coords, name="tas", attrs=about),
    )


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
