"""The header of a classic NetCDF file, read to see whether the file can be what it says.

    CDF-1, CDF-2, CDF-5:  magic, number of records, dimensions, attributes, variables (name, dims, type, size, place)

The NetCDF library believes a header: it makes room for as many dimensions as are announced, and reads zeros beyond the
end of the file. So every count is compared with the bytes that are left, and every variable with the end of the file.

Source: "File Format Specifications" of the NetCDF User's Guide (docs.unidata.ucar.edu/nug).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from finegrid.conventions import InputError

MAGIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
# Headers beyond this are no headers; the largest of CMIP and ERA have some 100 kB.
_LARGEST_HEADER = 64_000_000


class _Damaged(ValueError):
    """Something that no header says."""


@dataclass(frozen=True)
class _Variable:
    name: str
    dims: tuple[int, ...]
    itemsize: int
    begin: int


def check_header(path: Path) -> None:
    """Every variable that the header describes is in the file.

    Raises:
        InputError: when the header is damaged, or the file ends before its last value.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        reading = _Reading(file.read(min(size, _LARGEST_HEADER)))
    try:
        needed, name = reading.end()
    except _Damaged as error:
        raise InputError(
            f"{path} is damaged or truncated: {error}; expected a NetCDF file. Copy or download it again, and check it "
            "with `ncdump -h`"
        ) from None
    if needed > size:
        raise InputError(
            f"{path} is truncated: it has {size} bytes of at least {needed}, which '{name}' needs; expected a whole "
            "file. Copy or download it again"
        )


class _Reading:
    """A header and a place in it."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 4
        self._wide = 8 if content[3:4] == b"\x05" else 4
        self._offset = 4 if content[3:4] == b"\x01" else 8

    def end(self) -> tuple[int, str]:
        """Bytes that the file has at least, and the variable that needs them."""
        records = self._number(self._wide)
        if records == (1 << 8 * self._wide) - 1:  # written as a stream: the file says how many
            records = 0
        lengths = [self._dimension() for _ in range(self._count(_DIMENSIONS))]
        self._skip_attributes()
        variables = [self._variable(len(lengths)) for _ in range(self._count(_VARIABLES))]
        ends = [(_end(each, variables, lengths, records), each.name) for each in variables]
        return max(ends, default=(self._place, "the header"))

    def _dimension(self) -> int:
        self._name()
        return self._number(self._wide)

    def _variable(self, dims: int) -> _Variable:
        name = self._name()
        chosen = tuple(self._number(self._wide) for _ in range(self._number(self._wide, self._wide)))
        if any(each >= dims for each in chosen):
            raise _Damaged(f"'{name}' is over a dimension that is not there")
        self._skip_attributes()
        kind = self._type()
        self._number(self._wide)  # the size, which is redundant and wraps around in large files
        return _Variable(name, chosen, kind, self._number(self._offset))

    def _skip_attributes(self) -> None:
        for _ in range(self._count(_ATTRIBUTES)):
            self._name()
            kind = self._type()
            self._take(_padded(self._number(self._wide) * kind))

    def _count(self, tag: int) -> int:
        """Number of elements of a list; each takes at least eight bytes."""
        found, count = self._number(4), self._number(self._wide, 8)
        if found not in (0, tag) or (found == 0 and count):
            raise _Damaged(f"a list begins with {found}, not {tag}")
        return count

    def _type(self) -> int:
        kind = self._number(4)
        if kind not in _BYTES:
            raise _Damaged(f"there is no type {kind}")
        return _BYTES[kind]

    def _name(self) -> str:
        length = self._number(self._wide, 1)
        return self._take(_padded(length))[:length].decode("utf-8", errors="replace")

    def _number(self, width: int, each: int = 0) -> int:
        """A number; when it counts things of so many bytes, no more than the header has left."""
        number = int.from_bytes(self._take(width), "big")
        if number * each > len(self._content) - self._place:
            raise _Damaged(f"its header announces {number} entries, more than it has room for")
        return number

    def _take(self, count: int) -> bytes:
        start, self._place = self._place, self._place + count
        if self._place > len(self._content):
            raise _Damaged("its header is cut off")
        return self._content[start : self._place]


def _end(variable: _Variable, variables: list[_Variable], lengths: list[int], records: int) -> int:
    """Where the last value of a variable ends."""
    if not _grows(variable, lengths):
        return variable.begin + _step(variable, lengths)
    growing = [each for each in variables if _grows(each, lengths)]
    # A single record variable is not padded.
    steps = [_step(each, lengths) for each in growing]
    record = steps[0] if len(growing) == 1 else sum(map(_padded, steps))
    return variable.begin + (record * (records - 1) + _step(variable, lengths) if records else 0)


def _grows(variable: _Variable, lengths: list[int]) -> bool:
    return bool(variable.dims) and lengths[variable.dims[0]] == 0


def _step(variable: _Variable, lengths: list[int]) -> int:
    """Bytes of a variable, or of one record of it."""
    inner = variable.dims[1:] if _grows(variable, lengths) else variable.dims
    return variable.itemsize * math.prod(lengths[each] for each in inner)


def _padded(size: int) -> int:
    return -(-size // 4) * 4
