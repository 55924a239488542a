"""What two workers of dask do in the time of one: predictions of a short domain, scores and a fit of a large archive.

The whole call counts, with what the command itself puts together, but not the start of the workers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finegrid.benchmark.faults import prepared, removed
from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.large import earth
from finegrid.benchmark.speed import apart, peak_bytes
from finegrid.data import Writer, open_fields
from finegrid.downscalers import Bilinear, Ridge
from finegrid.downscalers.archive import fit_in_pieces
from finegrid.pipeline.cluster import connected, processes, workers_of
from finegrid.pipeline.downscale import downscale
from finegrid.pipeline.evaluate import evaluate_files

# Blocks of a method that draws members: enough that what every worker has to load does not count.
_MEMBERS, _DRAWN, _WRITTEN, _TURNS = 20, 24_000, 160_000, 3
# Daily fields of the Earth at a quarter of a degree.
_JUDGED, _LEARNT = 40, 320
_SHARE, _TARGET = 1.7, ">= 1.7 times on two cores"


def downscaling(bench: Bench) -> list[Figure]:
    """Times a second: of a method with members and quantiles, and of one with a single answer."""
    figures = []
    for method, members, times in (("analogues", _MEMBERS, _DRAWN), ("ridge", 1, _WRITTEN)):
        folder = prepared(bench, method, times)
        found = _in_turns(bench, "downscaled", folder, members)
        removed(folder)
        figures.append(_figure(f"downscale, {method}, {members} members", found))
    return figures


def judging(bench: Bench) -> list[Figure]:
    """Seconds of an evaluation of an archive against its truth, with the interpolations that stand beside it."""
    folder = bench.out / "earth-judged"
    _judgeable(folder)
    return [_figure(f"evaluate, {_JUDGED} days of the Earth at 0.25 degrees", _in_turns(bench, "judged", folder))]


def learning(bench: Bench) -> list[Figure]:
    """Seconds of a ridge regression of an archive, and what the process that puts it together takes."""
    folder = bench.out / "earth-learnt"
    earth(folder, _LEARNT, fine=True)
    return [_figure(f"fit, ridge, {_LEARNT} days of the Earth at 0.25 degrees", _in_turns(bench, "learnt", folder))]


def downscaled(folder: str, count: str, members: str) -> str:
    """Predictions by so many workers, in a process of its own."""
    place, how = Path(folder), {"quantiles": [0.1, 0.5, 0.9]} if int(members) > 1 else {}
    settings: dict[str, Any] = {"members": int(members), "guard": "off", **how}
    with _scheduler(int(count)) as address:
        where = {"scheduler": address, **settings}
        # Once for what every worker has to load.
        downscale(place / "model", place / "coarse.nc", place / "first.zarr", time="2001-01-01/2001-01-20", **where)
        start = time.perf_counter()
        downscale(place / "model", place / "coarse.nc", place / "out.zarr", **where)
        return _told(start)


def judged(folder: str, count: str) -> str:
    """Scores by so many workers, in a process of its own."""
    place = Path(folder)
    files: dict[str, Any] = {
        name: place / f"{each}.zarr" for name, each in (("prediction", "made"), ("truth", "fine"), ("coarse", "coarse"))
    }
    with _scheduler(int(count)) as address:
        evaluate_files(**files, out=place / "first", time="1981-01-01/1981-01-08", scheduler=address)
        start = time.perf_counter()
        evaluate_files(**files, out=place / f"report{count}", scheduler=address)
        return _told(start)


def learnt(folder: str, count: str) -> str:
    """A fit by so many workers, in a process of its own."""
    coarse, fine = (open_fields(Path(folder) / f"{name}.zarr") for name in ("coarse", "fine"))
    with _scheduler(int(count)) as address, connected(int(count), address) as client:
        start = time.perf_counter()
        fit_in_pieces(Ridge(half_widths=(1,)), coarse, fine, workers=workers_of(client))
        return _told(start)


@contextmanager
def _scheduler(count: int) -> Iterator[str]:
    """The address of so many workers with one thread each."""
    with processes(count) as cluster:
        yield cluster.scheduler_address


def _told(start: float) -> str:
    return json.dumps({"seconds": time.perf_counter() - start, "peak": peak_bytes()})


def _in_turns(bench: Bench, function: str, folder: Path, *more: object) -> dict[int, list[dict[str, float]]]:
    """What a function of this module says with one worker and with two, in turns."""
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(_TURNS):
        for count, each in found.items():
            each.append(json.loads(apart(__name__, function, folder, count, *more)))
            bench.say(f"{function}, {count} workers: {each[-1]['seconds']:.1f} s")
    return found


def _figure(what: str, found: dict[int, list[dict[str, float]]]) -> Figure:
    one, two = (min(each["seconds"] for each in found[count]) for count in (1, 2))
    peak = max(each["peak"] for each in found[2])
    words = f"{one / two:.2f} times ({one:.1f} against {two:.1f} s); {peak / 1e9:.2f} GB beside the workers"
    return Figure(f"two workers against one: {what}", _TARGET, words, one / two >= _SHARE, {"turns": found})


def _judgeable(folder: Path) -> None:
    """An archive and a prediction of it, unless they are there."""
    earth(folder, _JUDGED, fine=True)
    if (folder / "made.zarr").exists():
        return
    coarse, fine = (open_fields(folder / f"{name}.zarr") for name in ("coarse", "fine"))
    few = slice(0, 8)
    model = Bilinear(constraint="add").fit(coarse.isel(time=few).load(), fine.isel(time=few).load())
    with Writer(folder / "made.zarr") as writer:
        for block in model.predict_blocks(coarse):
            writer.append(block)
