"""What long jobs take beside the network, and whether many of them leave anything behind.

The bare network answers to batches that lie ready in memory, as large as those of a job; end to end is `downscale`,
with reading, first guess, constraint, measuring and writing, on the same cores, in turns.
"""

from __future__ import annotations

import gc
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from finegrid.backbones.manner import Manner
from finegrid.benchmark.faults import long_record, record_dim, task_at_hand
from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.speed import apart
from finegrid.data import coarsen, open_fields, synthetic, write
from finegrid.downscalers import NeuralDownscaler, load, method
from finegrid.downscalers.neural import _CELLS
from finegrid.evaluation import evaluate
from finegrid.pipeline.calibrate import calibrate
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.naming import named
from finegrid.training import Settings

_NETWORKS = ("resnet-on-ridge", "unet-on-ridge", "srresnet-on-ridge")
_TIMES, _BLOCK, _TURNS = {"resnet-on-ridge": 16_384, "unet-on-ridge": 8_192, "srresnet-on-ridge": 8_192}, 512, 3
_SHARE = 0.8
_MANNERS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, compiled": {"compiled": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, compiled": {"precision": "bfloat16", "compiled": True},
}
_CYCLES, _SETTLED = 200, 50
_GROWTH = 0.02


def throughput(bench: Bench) -> list[Figure]:
    """Frames a second from file to file against those of the bare network."""
    figures = []
    for name in _NETWORKS:
        folder = bench.out / "throughput" / name
        _prepared(folder, name, _TIMES[name])
        told = _told("rates", folder)
        bare, whole = max(told["bare"]), max(told["whole"])
        words = f"{100 * whole / bare:.0f} % ({whole:.0f} against {bare:.0f} frames a second)"
        title = f"from file to file against the bare network, {name}"
        figures.append(Figure(title, ">= 80 %", words, whole >= _SHARE * bare, told))
    return figures


def rates(folder: str) -> str:
    """Frames a second of the bare network and of a whole job, in turns."""
    place, found = Path(folder), dict[str, list[float]](bare=[], whole=[])
    model = load(place / "model")
    batches = _batches(model, place)
    _answered(model, batches, Manner())
    for _ in range(_TURNS):
        start = time.perf_counter()
        found["bare"].append(_answered(model, batches, Manner()) / (time.perf_counter() - start))
        start = time.perf_counter()
        done = downscale(place / "model", place / "coarse.nc", place / "out.nc", guard="off")
        found["whole"].append(done.times / (time.perf_counter() - start))
    return json.dumps(found)


def manners(bench: Bench) -> list[Figure]:
    """Frames a second of the bare network in other manners, and how far its fields are from those of float32."""
    figures = []
    for name in _NETWORKS:
        folder = bench.out / "throughput" / name
        _prepared(folder, name, _TIMES[name])
        told = {key: _told("manner", folder, json.dumps(how)) for key, how in _MANNERS.items()}
        plain = told["float32"]["rate"]
        parts = [
            f"{key} {each['rate'] / plain:.2f} times as fast, {each['first']:.0f} s before the first answer, "
            f"{each['departure']:.0e} of the deviation"
            for key, each in told.items()
            if key != "float32"
        ]
        figures.append(Figure(f"manners of answering, {name}", "-", "; ".join(parts), None, told))
    return figures


def manner(folder: str, how: str) -> str:
    """One of them, in a process of its own."""
    place = Path(folder)
    model = load(place / "model")
    batches, asked = _batches(model, place), Manner(**json.loads(how))
    some = open_fields(place / "coarse.nc").isel(time=slice(0, _BLOCK)).load()
    plain = model.answering(Manner()).predict(some)
    start = time.perf_counter()
    made = model.answering(asked).predict(some)
    first, rate = time.perf_counter() - start, 0.0
    (name,) = made.data_vars
    for _ in range(_TURNS):
        start = time.perf_counter()
        rate = max(rate, _answered(model, batches, asked) / (time.perf_counter() - start))
    residual = float((made[name] - plain[name]).std() / plain[name].std())
    return json.dumps({"rate": rate, "first": first, "departure": residual})


def soak(bench: Bench) -> list[Figure]:
    """Two hundred cycles of all that a service does every day, in one process: memory and open files."""
    told = _told("cycles", bench.out / "soak")
    settled, last = told["memory"][_SETTLED], max(told["memory"][-10:])
    files = max(told["files"][_SETTLED:]) - told["files"][_SETTLED]
    words = (
        f"{_CYCLES} cycles in {told['seconds']:.0f} s: {settled / 1e6:.0f} MB after {_SETTLED}, {last / 1e6:.0f} MB at "
        f"the end ({100 * (last / settled - 1):+.1f} %); open files {files:+d}"
    )
    target = "no growth of memory (2 %) or open files"
    return [Figure("200 cycles in one process", target, words, last < (1 + _GROWTH) * settled and files <= 0, told)]


def cycles(folder: str) -> str:
    """Fit, save, load, downscale to both formats, calibrate, evaluate: again and again."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    fine = synthetic.generate(synthetic.REGIONS["maritime"], shape=(16, 16), times=180)[["pr"]]
    write(fine, place / "fine.nc")
    write(coarsen(fine, 4), place / "coarse.nc")
    memory, files, start = [], [], time.perf_counter()
    for number in range(_CYCLES):
        _cycle(place, number)
        gc.collect()
        memory.append(_resident())
        files.append(len(os.listdir("/proc/self/fd")))
    return json.dumps({"memory": memory, "files": files, "seconds": time.perf_counter() - start})


def _cycle(place: Path, number: int) -> None:
    """One day of a service."""
    coarse, fine = (open_fields(place / f"{name}.nc") for name in ("coarse", "fine"))
    kind = ("ridge+multiplicative", "analogues+multiplicative", "resnet+multiplicative")[number % 3]
    options = {"settings": Settings(steps=2, budget=None, patience=None)} if kind.startswith("resnet") else {}
    learnt = [each.isel(time=slice(0, 120)) for each in (coarse, fine)]
    model = place / "model"
    method(kind, **options).fit(*learnt).save(model)
    members: dict[str, Any] = {"members": 3} if load(model).random else {}
    for form in (".nc", ".zarr"):
        downscale(model, place / "coarse.nc", place / f"out{form}", guard="off", raw=True, **members)
    if members:
        calibrate(model, coarse=place / "coarse.nc", fine=place / "fine.nc", method="crude", overlap=True, **members)
    evaluate(open_fields(place / "out.nc"), fine, coarse=coarse)


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _batches(model: Any, place: Path) -> list[Any]:
    """What networks see of a block of times, in batches as large as those of a job."""
    some = model.read(open_fields(place / "coarse.nc").isel(time=slice(0, _BLOCK))).load()
    plan, head = model._trained
    given = plan.conditions(some, model.conservation.given(some), model._reference(some))
    size = max(1, _CELLS // model.domain.grid.area.size)
    head.placed("cpu")
    return [head.space.see(given.at(slice(start, start + size))) for start in range(0, _BLOCK, size)]


def _answered(model: Any, batches: list[Any], how: Manner) -> int:
    """How many times the networks have answered for, and nothing else."""
    with torch.no_grad():
        for seen in batches:
            for network in model._trained[1].backbones:
                replace(seen, manner=how).through(network)
    return sum(len(seen) for seen in batches)


def _prepared(folder: Path, name: str, times: int) -> None:
    """A model with weights of a few steps and a record of so many hours, unless they are there."""
    if (folder / "model").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    task = task_at_hand()
    material = task.material()
    coarse, fine = material.at(material.learning)
    settings = Settings(steps=2, budget=None, patience=None)
    model = named(name, variables=task.variables)
    if isinstance(model, NeuralDownscaler):
        model = replace(model, settings=settings)
    model.fit(*(each.isel({record_dim(each): slice(0, 200)}) for each in (coarse, fine))).save(folder / "model")
    write(long_record(coarse, times), folder / "coarse.nc")


def _told(function: str, *arguments: object) -> dict[str, Any]:
    """What a function of this module says, in a process of its own."""
    told: dict[str, Any] = json.loads(apart(__name__, function, *arguments))
    return told
