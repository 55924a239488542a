"""An output on its way: finished blocks in a Zarr store, and the file that they become.

A Zarr output is that store. Of a NetCDF output the store is a waiting room, plain and without compression: a NetCDF
file over which a process was killed cannot be trusted, and is made again from the blocks. While all goes well, each
block is appended to it from memory when its turn has come.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xarray as xr

from finegrid.data.regions import Regions
from finegrid.data.write import Failures, Writer, record_of, replace
from finegrid.pipeline.blocks import Plan
from finegrid.pipeline.manifest import Manifest, Record
from finegrid.pipeline.stopping import Stop

_COMPRESSION = 1
_STORE = "blocks.zarr"
_KEPT = "nothing half-written is kept"


class Assembly:
    """What is written of a job; use it in a `with` statement.

    Args:
        out: the file or folder to be made.
        manifest: of the job; in its folder the output is made.
        plan: which times belong to which block.
        outline: the whole output without its values.
        stop: whether the job was asked to stop.

    Raises:
        InputError: when the disk is full.
    """

    def __init__(self, out: Path, manifest: Manifest, plan: Plan, outline: xr.Dataset, stop: Stop) -> None:
        self.out, self.manifest, self.plan, self._outline, self._stop = out, manifest, plan, outline, stop
        is_store = out.suffix == ".zarr"
        path = manifest.folder / (out.name if is_store else _STORE)
        self._record = str(record_of(outline))
        if not path.exists():
            self._create(path, whole=not is_store)
        self.regions = Regions(path, self._record)
        part = manifest.folder / out.name
        self._file = None if is_store else Writer(out, compression=_COMPRESSION, part=part)
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and self._file is not None:
            self._file.abort()

    def accept(self, record: Record, values: xr.Dataset | None = None) -> None:
        """Note a block that is in the store; `values` is what it holds, where that is in memory."""
        self.manifest.add(record)
        self.advance(record.number, values)

    def advance(self, number: int = -1, values: xr.Dataset | None = None) -> None:
        """Append to the file all blocks whose turn it is; `values` are those of one `number`."""
        while self._file is not None and self._next in self.manifest.records and not self._stop.asked:
            known = values if self._next == number else None
            self._file.append(self._stored(self._next) if known is None else known)
            self._next += 1

    def damaged(self) -> list[int]:
        """Blocks that are not in the store as they were written, in order."""
        found = []
        for number, record in sorted(self.manifest.records.items()):
            times = self.plan.times(number)
            if self.regions.checksums(record.written, times.start, times.stop) != record.written:
                found.append(number)
        return found

    def close(self, **attributes: Any) -> None:
        """Give the finished output its name."""
        if self._file is not None:
            self.advance()
            self._stop.check()
            self._file.set_attributes(**attributes)
            self._file.close()
            return
        self.regions.describe(**attributes)
        with Failures(self.out, _KEPT):
            replace(self.regions.path, self.out)

    def _stored(self, number: int) -> xr.Dataset:
        times = self.plan.times(number)
        part = self._outline.isel({self._record: slice(times.start, times.stop)})
        values = self.regions.get(map(str, part.data_vars), times.start, times.stop)
        return part.assign({name: part[name].variable.copy(data=each) for name, each in values.items()})

    def _create(self, path: Path, *, whole: bool) -> None:
        """Make the store, so that there is a whole one or none."""
        new = path.with_name(f"{path.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        steps = self.plan.steps if whole else self.plan.chunk
        Regions.create(new, self._outline, steps=steps, whole=whole)
        new.replace(path)
