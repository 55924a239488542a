"""Figures of the maps between grids: integrals, building, applying, and a year of days through the command."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import dask.array
import numpy as np
import xarray as xr
from scipy.special import sph_harm_y

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.pairs import regular
from finegrid.benchmark.speed import command, median_seconds, peak_bytes
from finegrid.data import write
from finegrid.grids import Grid, Operator
from finegrid.grids.geometry import Array

_MEGABYTE = 1 << 20
_EUR = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
}
_BATCH = 32
_DAYS = 365


def _globe(step: float) -> Grid:
    return regular((step, step), (-90.0, -180.0), (round(180 / step), round(360 / step)))


def _reanalysis(step: float) -> Grid:
    """Rows at the poles themselves, the first column on the meridian of Greenwich."""
    return regular((step, step), (-90 - step / 2, -step / 2), (round(180 / step) + 1, round(360 / step)))


def _cordex() -> Grid:
    """EUR-44, the domain of the regional models of Europe, 103 x 106 cells."""
    y, x = -23.21 + 0.44 * np.arange(103), -28.21 + 0.44 * np.arange(106)
    return Grid.of(xr.Dataset(coords={"y": y, "x": x, "crs": ((), 0, _EUR)}))


# What is built, with the seconds that it may take.
BUILT: dict[str, tuple[Callable[[], tuple[Grid, Grid]], float]] = {
    "0.25 to 1 degree, globe, blocks": (lambda: (_globe(0.25), _globe(1.0)), 3.0),
    "0.25 degrees with rows at the poles to 1 degree, globe": (lambda: (_reanalysis(0.25), _globe(1.0)), 3.0),
    "EUR-44 rotated to 0.25 degrees": (
        lambda: (_cordex(), regular((0.25, 0.25), (22.0, -45.0), (204, 440))),
        2.0,
    ),
}


def building(bench: Bench) -> list[Figure]:
    """Weights of two grids in a fresh process, without the cache."""
    figures = []
    code = "import sys\nfrom finegrid.benchmark.remapping import built\nprint(*built(sys.argv[1]))"
    for name, (_, limit) in BUILT.items():
        runs = [
            subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
            for _ in range(3)
        ]
        seconds, peak = min(tuple(map(float, run.stdout.split())) for run in runs)
        words = f"{seconds:.2f} s, {peak / 1024:.2f} GB"
        reached = seconds <= limit and peak <= 1024
        figures.append(Figure(f"weights: {name}", f"<= {limit:g} s and 1 GB", words, reached))
        bench.say(f"{name}: {words}")
    return figures


def built(name: str) -> tuple[float, float]:
    """Seconds for the weights, and the peak of the process in megabytes."""
    source, target = BUILT[name][0]()
    start = time.perf_counter()
    Operator.conservative(source, target, cache=False)
    seconds = time.perf_counter() - start
    return seconds, peak_bytes() / _MEGABYTE


def applying(bench: Bench) -> list[Figure]:
    """Fields through an operator against the same matrix in the hands of SciPy, in turns."""
    operator = Operator.conservative(_reanalysis(0.25), _globe(1.0))
    shape = (_BATCH, *operator.source.shape)
    values = np.random.default_rng(0).normal(280, 10, shape).astype(np.float32)
    flat = values.reshape(_BATCH, -1)
    fields = xr.DataArray(values, dims=("time", "y", "x"), coords={"y": operator.source.y, "x": operator.source.x})
    ways: dict[str, Callable[[], object]] = {
        "finegrid": lambda: operator(fields),
        "all at once": lambda: operator.matrix @ flat.T,
        "one by one": lambda: [operator.matrix @ each for each in flat],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            times[name].append(median_seconds(way, repeats=1))
    best = {name: min(each) for name, each in times.items()}
    speeds = {name: best[name] / best["finegrid"] for name in ("all at once", "one by one")}
    words = ", ".join(f"{100 * speed:.0f} % of SciPy, fields {name}" for name, speed in speeds.items())
    return [Figure("applying weights", ">= 70 % of SciPy", words, min(speeds.values()) >= 0.7, times)]


def streaming(bench: Bench) -> list[Figure]:
    """`finegrid regrid` of a year of daily fields of 0.25 degrees on the globe."""
    folder = bench.out / "year"
    folder.mkdir(parents=True, exist_ok=True)
    given, like, out = (folder / name for name in ("in.nc", "like.nc", "out.nc"))
    write(_days(_reanalysis(0.25), _DAYS), given)
    write(_days(_globe(1.0), 1), like)
    start = time.perf_counter()
    peak = command(["regrid", str(given), "--like", str(like), "--out", str(out)])
    seconds = time.perf_counter() - start
    size = given.stat().st_size / _MEGABYTE
    for path in (given, like, out):
        path.unlink()
    words = f"{peak / _MEGABYTE / 1024:.2f} GB, {seconds:.0f} s for a file of {size:.0f} MB"
    return [Figure("regrid, a year of daily 0.25-degree fields", "<= 1 GB", words, peak <= 1024 * _MEGABYTE)]


def _days(grid: Grid, count: int) -> xr.Dataset:
    shape = (count, *grid.shape)
    values = dask.array.random.RandomState(0).normal(280, 10, shape, chunks=(16, -1, -1))  # type: ignore[no-untyped-call]
    time_axis = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(1, "D")
    coords = {
        "time": ("time", time_axis, {"standard_name": "time"}),
        "lat": ("lat", grid.y, {"units": "degrees_north"}),
        "lon": ("lon", grid.x, {"units": "degrees_east"}),
    }
    field = (("time", "lat", "lon"), values.astype(np.float32), {"units": "K", "standard_name": "air_temperature"})
    return xr.Dataset({"tas": field}, coords=coords)


# Fields on the sphere, and their mean over it.
FIELDS: dict[str, tuple[Callable[[Grid], Array], float]] = {
    "1": (lambda grid: np.ones(grid.shape), 1.0),
    "cos(latitude)": (lambda grid: np.cos(np.deg2rad(grid.centres[0])), np.pi / 4),
    "Y(2, 1)": (lambda grid: _harmonic(grid, 2, 1), 0.0),
    "Y(16, 8)": (lambda grid: _harmonic(grid, 16, 8), 0.0),
}

_DEGREES = {"1": 0, "cos(latitude)": 2, "Y(2, 1)": 2, "Y(16, 8)": 16}


def integrals(bench: Bench) -> list[Figure]:
    """Integrals over the globe before and after, from a rotated grid to a regular one; and against the analytic one."""
    turned = Grid.of(xr.Dataset(coords={"y": _globe(2.5).y, "x": _globe(2.5).x, "crs": ((), 0, _EUR)}))
    operator = Operator.conservative(turned, _globe(2.0), cache=False)
    shared, _ = operator.areas
    # The operator's own areas: what its cells share, all in all.
    areas = [np.asarray(shared.sum(axis=axis)) / shared.sum() for axis in (0, 1)]
    lost, wrong = {}, {}
    for name, (field, mean) in FIELDS.items():
        before = field(turned).ravel()
        size = float((areas[0] * np.abs(before)).sum())
        first, second = float(areas[0] @ before), float(areas[1] @ (operator.matrix @ before))
        lost[name], wrong[name] = abs(second - first) / size, abs(second - mean) / size
    words, more = (", ".join(f"{name} {error:.0e}" for name, error in each.items()) for each in (lost, wrong))
    # A field taken at the middle of cells 2.5 degrees wide: an error of a part (n h)^2 / 24 for waves of degree n.
    allowed = {name: max(1e-12, (degree * np.deg2rad(2.5)) ** 2 / 24) for name, degree in _DEGREES.items()}
    near = all(wrong[name] <= allowed[name] for name in FIELDS)
    return [
        Figure(
            "integral over the globe, rotated to regular grid: kept", "<= 1e-12", words, max(lost.values()) <= 1e-12
        ),
        Figure("integral over the globe: against the analytic one", "first-order error", more, near, wrong),
    ]


def _harmonic(grid: Grid, degree: int, order: int) -> Array:
    latitude, longitude = (np.deg2rad(each) for each in grid.centres)
    return np.asarray(np.real(sph_harm_y(degree, order, np.pi / 2 - latitude, longitude)))
