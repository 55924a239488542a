"""Figures of quantile mapping: blocks of cells against xsdba called once for every cell, in one process, and memory."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.speed import peak_bytes
from finegrid.data.adjustments import ADJUSTMENTS
from finegrid.data.adjustments.training import library

_GIGABYTE = 1 << 30
_DAYS, _CELLS = 7305, (100, 100)
# Cells for which xsdba is called one by one; all of them would take an hour.
_NAIVE = 24
_QUANTILES = 50
_NAMES = {"eqm": "EmpiricalQuantileMapping", "dqm": "DetrendedQuantileMapping", "qdm": "QuantileDeltaMapping"}


def adjusting(bench: Bench) -> list[Figure]:
    """Learning and applying quantile mapping for 20 years of days on 100 x 100 cells, month by month."""
    code = "import sys\nfrom finegrid.benchmark.adjusting import measured\nprint(*measured(sys.argv[1]))"
    figures = []
    for name in _NAMES:
        run = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        seconds, naive, peak = map(float, run.stdout.split())
        words = f"{naive / seconds:.0f} times, {seconds:.0f} s, {peak / _GIGABYTE:.2f} GB"
        reached = naive >= 20 * seconds and peak <= 2 * _GIGABYTE
        what = f"{name}, 20 years of days on 100 x 100 cells, against xsdba per cell"
        numbers = {"seconds": seconds, "naive": naive, "peak": peak}
        figures.append(Figure(what, ">= 20 times faster, <= 2 GB", words, reached, numbers))
        bench.say(f"{name}: {words}")
    return figures


def measured(name: str) -> tuple[float, float, float]:
    """Seconds for all cells, seconds that xsdba would take cell by cell, and the peak of the process in bytes."""
    hist, goal, future = (_days(number) for number in range(3))
    few = [xr.Dataset({"tas": each.tas[:, :2, :2]}) for each in (hist, goal, future)]
    ADJUSTMENTS[name](by="month").learn(few[0], {"tas": few[1].tas})(few[2])  # what is compiled once is not counted
    start = time.perf_counter()
    ADJUSTMENTS[name](by="month").learn(hist, {"tas": goal.tas})(future)
    seconds = time.perf_counter() - start
    peak = peak_bytes()
    return seconds, _naive(name, hist, goal, future) * hist.tas[0].size, peak


def _naive(name: str, hist: xr.Dataset, goal: xr.Dataset, future: xr.Dataset) -> float:
    """Seconds of one cell, as a user of xsdba without blocks would have them."""
    method = getattr(library(), _NAMES[name])
    seconds: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in range(_NAIVE + 1):
            series = [each.tas[:, cell, cell].drop_vars(("y", "x"), errors="ignore") for each in (goal, hist, future)]
            start = time.perf_counter()
            method.train(*series[:2], nquantiles=_QUANTILES, group="time.month", kind="+").adjust(series[2]).load()
            seconds.append(time.perf_counter() - start)
    return float(np.mean(seconds[1:]))  # the first one compiles


def _days(number: int) -> xr.Dataset:
    """Days of temperature (time, y, x), each with a climate of its own."""
    generator = np.random.default_rng(number)
    season = 10 * np.sin(2 * np.pi * np.arange(_DAYS) / 365.25).astype(np.float32)
    values: NDArray[np.float32] = generator.standard_normal((_DAYS, *_CELLS), dtype=np.float32)
    values *= 3 + 0.5 * number
    values += 280 + number
    values += season[:, None, None]
    dates = xr.date_range(f"{1981 + 30 * (number == 2)}-01-01", periods=_DAYS, freq="D")
    return xr.Dataset({"tas": (("time", "y", "x"), values, {"units": "K"})}, coords={"time": dates})
