"""Figures of speed and memory; ratios are of measurements taken in turn on one machine, so that they hold on any."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.pairs import HARD, PAIRS
from finegrid.benchmark.task import Task
from finegrid.benchmark.tasks import find_task
from finegrid.data import open_fields, write
from finegrid.downscalers import NeuralDownscaler, load
from finegrid.downscalers.conservation import Conservation, Given
from finegrid.pipeline.material import Material
from finegrid.pipeline.naming import named
from finegrid.training import Settings

_TASK = "era5-uk-t2m-x4"
_STEPS = 40
_REPEATS = 30
# The best of several measurements taken in turns: a machine is not equally fast at all times.
_TURNS = 3
_BATCH = 256
_MONTH = 744
_MEGABYTE = 1 << 20


def apart(module: str, function: str, *arguments: object) -> str:
    """What a function of a module says, in a process of its own."""
    code = f"import sys\nfrom {module} import {function}\nprint({function}(*sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def constraint(bench: Bench) -> list[Figure]:
    """Time of each constraint, forward and backward, as a part of a training step of the fastest network."""
    _, material = _data()
    figures = [_cost("blocks", 0.03, *material.at(material.learning))]
    for pair, what in (("ratio 2.5", "temperature"), ("rotated", "rain")):
        found = next(each for each in PAIRS if each.name.startswith(pair))
        if found.available:
            figures.append(_cost(f"shared cells, {what}", 0.10, *found.fields()))
        else:
            figures.append(Figure(f"constraint in a training step, {found.name}", "<= 10 %", "sample missing", None))
    return figures


def _cost(what: str, limit: float, coarse: xr.Dataset, fine: xr.Dataset) -> Figure:
    plain = _learnt("resnet+none", coarse, fine)
    batch = plain.read(coarse.isel(time=slice(plain.settings.batch))).load()
    raw = plain.fields(batch)
    layers = {name: _learnt(f"resnet+{name}", coarse, fine, steps=2).conservation for name in HARD}
    steps = [_step_seconds(plain)]
    seconds: dict[str, list[float]] = {name: [] for name in HARD}
    for _ in range(_TURNS):
        for name, layer in layers.items():
            seconds[name].append(_constraint_seconds(layer, raw, layer.given(batch)))
        steps.append(_step_seconds(_learnt("resnet+none", coarse, fine)))
    step = min(steps)
    shares = {name: min(each) / step for name, each in seconds.items()}
    words = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items()) + f" of {1e3 * step:.0f} ms"
    name, target = f"constraint in a training step of resnet, {what}", f"<= {100 * limit:g} %"
    return Figure(name, target, words, max(shares.values()) <= limit, shares)


def step(bench: Bench) -> list[Figure]:
    """A step of the default network against one of the published one, in turns; and their errors in the same time."""
    name, target = "training step of resnet against srresnet", ">= 3 times faster at lower RMSE"
    task, material = _data()
    times: dict[str, list[float]] = {"resnet": [], "srresnet": []}
    for _ in range(3):
        for method, found in times.items():
            steps = _STEPS if method == "resnet" else _STEPS // 4
            found.append(_step_seconds(_fitted(task, material, method, steps=steps)))
    fast, slow = (1e3 * min(times[name]) for name in ("resnet", "srresnet"))
    errors = _errors(bench)
    words = f"{slow / fast:.1f} times ({fast:.0f} ms against {slow:.0f} ms), "
    if not errors:
        reached = None if slow >= 3 * fast else False
        return [Figure(name, target, words + "RMSE not measured in this run (section era5)", reached, times)]
    words += f"RMSE {errors['resnet']:.3f} against {errors['srresnet']:.3f} K"
    reached = slow >= 3 * fast and errors["resnet"] < errors["srresnet"]
    return [Figure(name, target, words, reached, {**times, "rmse": errors})]


def long_record(bench: Bench) -> list[Figure]:
    """`finegrid downscale` of ten years of hours: time against the bare network, memory against one month."""
    task, material = _data()
    folder = bench.out / "long"
    model = _fitted(task, material, "resnet-on-ridge", steps=2)
    model.save(folder / "model")
    coarse = material.coarse[list(task.variables)].load()
    record, month = _repeated(coarse, bench.hours), _repeated(coarse, _MONTH)
    write(record, folder / "long.nc")
    write(month, folder / "month.nc")
    _, short_peak = _downscale(folder, "month.nc")
    before = _network_seconds(folder, bench.hours)
    seconds, peak = _downscale(folder, "long.nc")
    bare = (before + _network_seconds(folder, bench.hours)) / 2  # a machine is not equally fast at all times
    extra = (peak - short_peak) / _MEGABYTE
    for name in ("long.nc", "month.nc", "out.nc"):
        (folder / name).unlink(missing_ok=True)
    words = f"{seconds / bare:.2f} times ({seconds:.0f} s against {bare:.0f} s)"
    more = f"{extra:+.0f} MB ({peak / _MEGABYTE:.0f} against {short_peak / _MEGABYTE:.0f} MB)"
    years = f"{bench.hours / 8760:g} years of hours"
    return [
        Figure(f"downscale, {years}: time", "<= 1.5 times the bare network", words, seconds / bare <= 1.5),
        Figure(f"downscale, {years}: memory", "within 200 MB of one month", more, extra <= 200),
    ]


def importing(bench: Bench) -> list[Figure]:
    """`import finegrid` in a fresh interpreter, the best of five."""
    code = "import time; start = time.perf_counter(); import finegrid; print(time.perf_counter() - start)"
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5))
    fastest = min(float(done.stdout) for done in runs)
    return [Figure("import finegrid", "<= 0.5 s", f"{fastest:.3f} s", fastest <= 0.5)]


def _data() -> tuple[Task, Material]:
    task = find_task(_TASK)
    task = task if task.available else replace(find_task("synthetic-x4"), variables=("tas",))
    return task, task.material()


def _fitted(task: Task, material: Material, method: str, *, steps: int = _STEPS) -> NeuralDownscaler:
    return _learnt(method, *material.at(material.learning), material.static, variables=task.variables, steps=steps)


def _learnt(
    method: str,
    coarse: xr.Dataset,
    fine: xr.Dataset,
    static: Sequence[xr.Dataset] = (),
    *,
    variables: Sequence[str] | None = None,
    steps: int = _STEPS,
) -> NeuralDownscaler:
    model = named(method, variables=variables, settings=Settings(steps=steps, budget=None, patience=None))
    model.fit(coarse, fine, static=static or None, validate=0.0)
    if not isinstance(model, NeuralDownscaler):
        raise TypeError(f"{method} is no network")
    return model


def _step_seconds(model: NeuralDownscaler) -> float:
    training = model.info()["training"]
    return float(training["seconds"]) / int(training["steps"])


def _constraint_seconds(conservation: Conservation, raw: Tensor, given: Given) -> float:
    """Forward and backward through the constraint, for the raw fields of a batch."""
    fine = raw.clone().requires_grad_()

    def once() -> None:
        fine.grad = None
        projected = conservation.project(fine, given)
        projected.backward(torch.ones_like(projected))  # type: ignore[no-untyped-call]

    return median_seconds(once)


def _network_seconds(folder: Path, times: int) -> float:
    """The network of a model alone on as many times, in a process with threads as the command line has them."""
    arguments = [str(folder / "model"), str(folder / "month.nc")]
    environment = {**os.environ, "GOMP_SPINCOUNT": "10000"}
    code = "import sys\nfrom finegrid.benchmark.speed import network_seconds\nprint(network_seconds(*sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout) * times


def network_seconds(folder: str, path: str) -> float:
    """Seconds for one time, inputs ready in memory, in batches as when predicting."""
    model = load(folder)
    if not isinstance(model, NeuralDownscaler):
        raise TypeError(f"{folder} is no network")
    plan, head = model._trained
    coarse = model.domain.inputs.read(open_fields(path)).isel(time=slice(_BATCH)).load()
    guess = torch.randn(_BATCH, len(model.domain.outputs), *model.domain.grid.shape)
    given = plan.conditions(coarse, model.conservation.given(coarse), guess)

    @torch.no_grad()
    def once() -> None:
        head(given)

    return median_seconds(once, repeats=20) / _BATCH


def median_seconds(once: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Seconds of a call, the first one left out."""
    once()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _repeated(coarse: xr.Dataset, hours: int) -> xr.Dataset:
    """The fields again and again, as one long hourly record."""
    index = np.arange(hours) % coarse.sizes["time"]
    time = np.datetime64("2001-01-01", "ns") + np.arange(hours) * np.timedelta64(1, "h")
    return coarse.isel(time=index).assign_coords(time=("time", time, coarse.time.attrs))


_MEASURED = """
import sys
from finegrid.benchmark.speed import peak_bytes
from finegrid.cli import main
try:
    main(sys.argv[1:])
finally:
    print(peak_bytes(), file=sys.stderr)
"""


def _downscale(folder: Path, name: str) -> tuple[float, int]:
    """Wall seconds and peak bytes of a `finegrid downscale`."""
    start = time.perf_counter()
    peak = command(["downscale", str(folder / "model"), str(folder / name), "--out", str(folder / "out.nc")])
    return time.perf_counter() - start, peak


def command(arguments: Sequence[str]) -> int:
    """Peak bytes of a `finegrid` command in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _MEASURED, *arguments], capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def peak_bytes() -> int:
    """The most memory that this process held."""
    try:  # what `getrusage` tells includes the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _errors(bench: Bench) -> dict[str, float]:
    """Errors of the two networks after the same time of training, when they were measured in this run."""
    if _TASK not in bench.results:
        return {}
    found = bench.results[_TASK].scores("rmse")
    return {name: found[name][0] for name in ("resnet", "srresnet")}
