"""Fields that are kept time after time, turned: the record of some rows is read at once.

Indices want all times of some rows. Where a chunk holds all rows of a few times, as most archives are written, every
block of rows would read and unpack the whole record: twenty years of the Earth 720 times. So the record is read once,
and written to a plain file with the rows outermost, for as long as it is needed.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.working import Workers
from finegrid.data.write import Failures
from finegrid.evaluation.metrics.reading import runs_of

_ORDER = ("y", "time", "member", "x")
# Values read at once: 32 MB as float32.
_AT_ONCE = 1 << 23
_KEPT = "nothing of the indices was kept"


@contextmanager
def turned(
    fields: Mapping[str, xr.DataArray], blocks: Sequence[slice], workers: Workers, folder: str | Path | None
) -> Iterator[dict[str, xr.DataArray]]:
    """The same fields, to be read by blocks of rows; those that would be read again and again, from files of their own.

    Args:
        fields: (time, y, x) or (member, time, y, x).
        blocks: rows that are read at once.
        workers: who reads and writes.
        folder: where the files lie, which all workers see; by default the system's for temporary files.

    Raises:
        InputError: when the disk has no room for them.
    """
    again = {name: each for name, each in fields.items() if _read_again(each, blocks)}
    if not again:
        yield dict(fields)
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".indices-") as name_of_place:
        place = Path(name_of_place).absolute()  # workers may be in another folder
        _check_room(place, again.values())
        made = {
            name: _turned(each, place / f"{number}.raw", blocks, workers)
            for number, (name, each) in enumerate(again.items())
        }
        yield {**fields, **made}


@dataclass(frozen=True)
class Turned:
    """Values on disk, as dask wants an array.

    Attributes:
        path: a file of numbers and nothing else.
        shape: (y, time, member, x).
        dtype: of the numbers.
    """

    path: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    ndim = 4

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        start, stop, _ = key[0].indices(self.shape[0])
        row = math.prod(self.shape[1:])
        values = np.fromfile(self.path, self.dtype, (stop - start) * row, offset=start * row * self.dtype.itemsize)
        return np.asarray(values.reshape(-1, *self.shape[1:])[(slice(None), *key[1:])])

    def put(self, part: tuple[int, NDArray[Any]]) -> None:
        """Write values (y, time, member, x) from a time on."""
        start, values = part
        with Failures(self.path, _KEPT), self.path.open("r+b") as file:
            for row, each in enumerate(np.ascontiguousarray(values, dtype=self.dtype)):
                place = (row * self.shape[1] + start) * math.prod(self.shape[2:])
                file.seek(place * self.dtype.itemsize)
                file.write(each.data)


@dataclass(frozen=True, eq=False)
class _Times:
    """Some times of a field, lazily, and the first of them."""

    start: int
    field: xr.DataArray

    def read(self) -> tuple[int, NDArray[Any]]:
        return self.start, np.asarray(self.field.values)


def _read_again(field: xr.DataArray, blocks: Sequence[slice]) -> bool:
    """Whether several blocks of rows lie in one chunk."""
    most = max((block.stop - block.start for block in blocks), default=1)
    return len(blocks) > 1 and max(field.chunksizes.get("y", (1,))) > most


def _turned(field: xr.DataArray, path: Path, blocks: Sequence[slice], workers: Workers) -> xr.DataArray:
    single = "member" not in field.dims
    ordered = (field.expand_dims("member") if single else field).transpose(*_ORDER)
    rows, times, members, columns = ordered.shape
    made = Turned(path, (rows, times, members, columns), np.dtype(np.float32 if field.dtype == np.float32 else float))
    path.touch()
    most = max(1, _AT_ONCE // max(1, rows * members * columns))
    pieces = (_Times(part.start, ordered.isel(time=part)) for part in runs_of(ordered, most, most))
    for _ in workers(_Times.read, made.put, pieces):
        pass
    chunks = (tuple(block.stop - block.start for block in blocks), times, members, columns)
    meta = np.empty((0, 0, 0, 0), made.dtype)
    plain: dict[str, Any] = {"name": f"turned-{path}", "fancy": False, "meta": meta}
    values = dask.array.from_array(made, chunks, **plain)  # type: ignore[no-untyped-call]
    found = ordered.copy(data=values)
    return found.isel(member=0, drop=True) if single else found


def _check_room(folder: Path, fields: Any) -> None:
    needed = sum(each.size * (4 if each.dtype == np.float32 else 8) for each in fields)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the chunks of the files hold all rows of a few times, and to turn them takes {needed / 1e9:.1f} GB on "
            f"the disk of {folder.parent}, which has {free / 1e9:.1f} GB left; expected room for them; free some, or "
            "rewrite the files by rows: xr.open_dataset(PATH, chunks={}).chunk(time=-1, lat=8).to_zarr(NEW)"
        )
