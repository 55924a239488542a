"""What long jobs survive and what that costs: kills at random moments, and the notes of finished blocks."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.speed import apart
from finegrid.benchmark.task import Task
from finegrid.benchmark.tasks import find_task
from finegrid.data import write
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.manifest import RUN, Manifest
from finegrid.pipeline.naming import named
from finegrid.pipeline.workplace import unfinished

_TASK, _OTHERWISE = "era5-uk-t2m-x4", "synthetic-x4"
_KILLS, _TIMES = 20, 12_000
_WRITTEN, _TURNS = 40_000, 3
_SILENT = subprocess.DEVNULL


def kills(bench: Bench) -> list[Figure]:
    """`finegrid downscale` killed at random moments, NetCDF and Zarr in turn, and what `--resume` makes of it."""
    folder = prepared(bench, "ridge", _TIMES)
    chance, found, lost = random.Random(0), [], []
    seconds = {form: _whole(folder, form) for form in (".nc", ".zarr")}
    for number in range(_KILLS):
        form = (".nc", ".zarr")[number % 2]
        number_of_signal = signal.SIGTERM if number % 5 == 4 else signal.SIGKILL
        kept = _killed(folder, form, chance.uniform(0, seconds[form]), number_of_signal)
        _command(folder, form, "part", "--resume")
        found.append(identical(folder / f"part{form}", folder / f"whole{form}"))
        lost.append(kept)
        bench.say(f"{form} {number_of_signal.name}: {kept} blocks finished, {'the same' if found[-1] else 'DIFFERS'}")
        removed(folder / f"part{form}")
    words = f"{sum(found)} of {_KILLS} the same bits; stopped with {min(lost)} to {max(lost)} finished blocks"
    removed(folder)
    return [Figure("downscale killed at random moments, then --resume", "the same bits", words, all(found))]


def notes(bench: Bench) -> list[Figure]:
    """What it costs that a job can go on: with blocks that are kept and noted, and without, in turns."""
    folder = prepared(bench, "ridge", _WRITTEN)
    seconds: dict[str, list[float]] = {"kept": [], "not kept": []}
    for _ in range(_TURNS):
        for how, each in seconds.items():
            each.append(_alone("processor_seconds", folder, how))
    removed(folder)
    kept, bare = min(seconds["kept"]), min(seconds["not kept"])
    words = f"{100 * (kept / bare - 1):+.1f} % ({kept:.1f} against {bare:.1f} s of processors)"
    return [Figure("downscale: keeping finished blocks", "<= 5 %", words, kept <= 1.05 * bare, dict(seconds))]


def processor_seconds(folder: str, how: str) -> float:
    """Seconds of processors of a job, with or without keeping its blocks."""
    from finegrid.data.regions import Regions

    if how == "not kept":
        Regions.put = lambda *_: {}  # type: ignore[method-assign]
        Manifest.add = lambda self, record: self.records.update({record.number: record})  # type: ignore[method-assign]
    place = Path(folder)
    start = time.process_time()
    downscale(place / "model", place / "coarse.nc", place / "out.nc", guard="off")
    return time.process_time() - start


def identical(path: Path, other: Path) -> bool:
    """Whether two outputs hold the same bits: variables, coordinates, attributes, but for the time in the history."""
    with _opened(path) as found, _opened(other) as expected:
        if set(found.variables) != set(expected.variables) or _about(found) != _about(expected):
            return False
        pairs = [(found[name].variable, each) for name, each in expected.variables.items()]
        return all(
            one.dims == two.dims and one.values.tobytes() == two.values.tobytes() and str(one.attrs) == str(two.attrs)
            for one, two in pairs
        )


def _opened(path: Path) -> xr.Dataset:
    if path.suffix == ".zarr":
        return xr.open_dataset(path, engine="zarr", consolidated=False, decode_cf=False)
    return xr.open_dataset(path, engine="netcdf4", decode_cf=False)


def _about(fields: xr.Dataset) -> dict[str, str]:
    """Global attributes, without those that say when and by which command."""
    return {str(name): str(each) for name, each in fields.attrs.items() if name != "history"}


def prepared(bench: Bench, method: str, times: int) -> Path:
    """A folder with a model and a record of so many hours."""
    task = task_at_hand()
    material = task.material()
    folder = bench.out / "faults"
    removed(folder)
    folder.mkdir(parents=True)
    coarse, fine = material.at(material.learning)
    named(method, variables=task.variables).fit(coarse, fine).save(folder / "model")
    write(long_record(coarse, times), folder / "coarse.nc")
    return folder


def long_record(coarse: xr.Dataset, times: int) -> xr.Dataset:
    """So many hours of a record, again and again."""
    record, stamps = record_dim(coarse), np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "h")
    return coarse.isel({record: np.arange(times) % coarse.sizes[record]}).assign_coords({record: stamps})


def task_at_hand() -> Task:
    """The real task, or a synthetic one where the files are not there."""
    task = find_task(_TASK)
    return task if task.available else find_task(_OTHERWISE)


def record_dim(fields: xr.Dataset) -> str:
    """The dimension of time."""
    return str(next(dim for dim in fields.dims if fields[dim].dtype.kind == "M"))


def _arguments(folder: Path, form: str, name: str) -> list[str]:
    files = [str(folder / "model"), str(folder / "coarse.nc"), "--out", str(folder / f"{name}{form}")]
    return [sys.executable, "-m", "finegrid", "downscale", *files, "--guard", "off"]


def _command(folder: Path, form: str, name: str, *more: str) -> None:
    subprocess.run([*_arguments(folder, form, name), *more], check=True, capture_output=True)


def _whole(folder: Path, form: str) -> float:
    """Seconds that a run works on blocks when nobody disturbs it."""
    with subprocess.Popen(_arguments(folder, form, "whole"), stdout=_SILENT, stderr=_SILENT) as run:
        _begun(run, folder / f"whole{form}")
        start = time.perf_counter()
        run.wait()
    if run.returncode:
        raise RuntimeError(f"downscale ended with {run.returncode}")
    return time.perf_counter() - start


def _begun(run: subprocess.Popen[bytes], target: Path) -> None:
    """Wait until a run has begun to work on blocks."""
    while run.poll() is None and not (unfinished(target) / RUN).exists():
        time.sleep(0.01)


def _killed(folder: Path, form: str, after: float, number: int) -> int:
    """How many blocks a run had finished when it was killed, so many seconds after it began to work on them."""
    with subprocess.Popen(_arguments(folder, form, "part"), stdout=_SILENT, stderr=_SILENT) as run:
        _begun(run, folder / f"part{form}")
        with suppress(subprocess.TimeoutExpired):
            run.wait(after)
        run.send_signal(number)
    found = Manifest.read(unfinished(folder / f"part{form}"))
    return 0 if found is None else len(found.records)


def _alone(function: str, *arguments: object) -> float:
    """What a function of this module gives in a process of its own."""
    return float(apart(__name__, function, *arguments))


def removed(path: Path) -> None:
    """Without an output, or what there is of it."""
    for each in (path, unfinished(path)):
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)
