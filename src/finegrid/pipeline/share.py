"""A worker's share of a job: what it has to know, and what it does with a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid import __version__
from finegrid.conventions import InputError
from finegrid.data.damage import readable
from finegrid.data.regions import Regions
from finegrid.data.working import aside
from finegrid.downscalers.windows import Window
from finegrid.pipeline.blocks import Blocks, Drawn, Options
from finegrid.pipeline.departure import Departure
from finegrid.pipeline.manifest import Record


@dataclass(frozen=True)
class Share:
    """What every worker has to know of a job: plain values, and places on disks that all see.

    Attributes:
        model: model folder.
        digest: of the model.
        options: what is made of it.
        typical: mean of |coarse| of each variable.
        source: what the input is called in messages.
        paths: of the files that are read.
        folder: the unfinished folder.
        store: the Zarr store in it.
        record: its dimension of time.
        version: of finegrid.
    """

    model: str
    digest: str
    options: Options
    typical: tuple[tuple[str, float], ...]
    source: str
    paths: tuple[str, ...]
    folder: str
    store: str
    record: str
    version: str = __version__


@dataclass(frozen=True, eq=False)
class Parcel:
    """A block on its way to a worker.

    Attributes:
        number: of the block.
        start: its first time in the output.
        fields: the coarse fields that are read for it, lazily.
        window: which times these are.
    """

    number: int
    start: int
    fields: xr.Dataset
    window: Window


def version() -> str:
    """That of finegrid on a worker."""
    return __version__


def made(share: Share, parcel: Parcel) -> Record:
    """Make a block and put it into the store.

    Raises:
        InputError: when the worker has another finegrid, or does not see a file, or a file is damaged.
    """
    blocks, regions, alone = _prepared(share)
    with readable(share.paths):
        # Not with the worker's own scheduler, which would wait for this very task.
        fields = parcel.fields.load(scheduler="synchronous")
    with alone:
        block = blocks.draw(fields, parcel.window)
    return Drawn(parcel.number, block, fields, parcel.window).put(blocks, regions, parcel.start)[0]


def worked(job: tuple[Callable[[Any], Any], Callable[[Any], Any]], piece: Any) -> Any:
    """Read a piece and work on it."""
    read, work = job
    # In a thread that is no task: within one, dask would give what is lazy to the workers, and wait for this very task.
    return aside(lambda each: work(read(each)), piece).result()


@lru_cache(maxsize=1)
def _prepared(share: Share) -> tuple[Blocks, Regions, threading.Lock]:
    """What makes the blocks of a job, loaded once a process; its networks are for one thread at a time."""
    if share.version != __version__:
        raise wrong_version({"a worker": __version__}, share.version)
    downscaler = share.options.loaded(share.model)
    if downscaler.digest != share.digest:
        raise InputError(
            f"a worker sees another model, or other versions of its packages, in {share.model}; expected those of "
            "this process; give workers the same environment and the same disk"
        )
    honest = share.options.honesty(share.model, downscaler).remembered(share.folder)
    departure = Departure.knowing(downscaler.domain, dict(share.typical))
    blocks = share.options.blocks(downscaler, honest, departure, share.source)
    return blocks, Regions(Path(share.store), share.record), threading.Lock()


def wrong_version(found: Mapping[str, str], expected: str) -> InputError:
    """What to raise where workers have another finegrid."""
    words = ", ".join(f"{name} has {each}" for name, each in found.items())
    return InputError(
        f"workers have another finegrid than this process ({words}); expected {expected} on all; install that one "
        "where the workers run, and start them again"
    )
