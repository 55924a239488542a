"""The NetCDF library as it has to be used: one thread at a time, and not on a file that would keep it busy for ever.

netCDF4 and HDF5 are not safe in threads. xarray holds its lock while it reads values, but not while it looks through
the variables of a file that it opens: two opened at once by dask, or one beside a read, crash the process.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from types import TracebackType

from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from finegrid.conventions.errors import InputError

# HDF5 keeps texts and links between variables near the start of a file, behind which the values follow.
_LOOKED_AT = 1 << 20
_HEAP = b"GCOL\x01"
_HEAD = 16


class _Lock:
    """xarray's lock of the NetCDF library, which a thread that holds it may take again.

    A file is opened while the lock is held and is given it for all that follows:

        with LOCK:
            fields = xr.open_dataset(path, engine="netcdf4", lock=LOCK)
    """

    def __init__(self) -> None:
        self._own = threading.local()

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock, or take it once more."""
        depth: int = getattr(self._own, "depth", 0)
        if not depth and not NETCDF4_PYTHON_LOCK.acquire(blocking):
            return False
        self._own.depth = depth + 1
        return True

    def release(self) -> None:
        """Give back what was taken once."""
        self._own.depth -= 1
        if not self._own.depth:
            NETCDF4_PYTHON_LOCK.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __reduce__(self) -> str:
        return "LOCK"


LOCK = _Lock()


def check_heaps(path: str | Path) -> None:
    """The texts and links of an HDF5 file have an end, which the HDF5 library takes for granted.

    It steps from object to object of a heap ("III.E. Disk Format: Level 1E - Global Heap" of the HDF5 file format) and
    stands still for ever at a free one that says it has no bytes. Only the first MB of a file is looked at.

    Raises:
        InputError: names the file and the byte.
    """
    with Path(path).open("rb") as file:
        start = file.read(_LOOKED_AT)
    at = start.find(_HEAP)
    while at >= 0:
        at = start.find(_HEAP, _end_of_heap(path, start, at))


def _end_of_heap(path: str | Path, start: bytes, heap: int) -> int:
    if heap + _HEAD > len(start):
        return len(start)
    end = min(len(start), heap + struct.unpack_from("<Q", start, heap + 8)[0])
    at = heap + _HEAD
    while at + _HEAD <= end:
        number, size = struct.unpack_from("<H6xQ", start, at)
        step = _HEAD + (size + 7 & ~7) if number else size
        if not _HEAD <= step < 1 << 63:
            raise InputError(
                f"{path} is damaged (its texts have no end at byte {at}); expected NetCDF or HDF5. Copy or download it "
                "again"
            )
        at += step
    return at
