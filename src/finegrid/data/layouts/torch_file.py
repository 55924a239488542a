"""One tensor out of a file of torch.save, mapped from the disk, without torch and without unpickling.

Such a file is a zip that stores, uncompressed,

    <name>/data.pkl       how the tensor is made of its storage: type, offset, shape and strides, as a pickle
    <name>/data/0         the storage: the numbers, one after the other

A pickle is a program that can call anything. It is not run here: `pickletools` only lists its instructions, and of
these the few are followed that describe one tensor. A name in it is compared with the names of torch's storages and is
never imported; any other one ends the reading. What comes out is a view of a memory-mapped array.

Written by torch from 1.6 (2020) on; older files are pickles through and through and are refused.
"""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError

_TYPES = {
    "torch FloatStorage": np.float32,
    "torch DoubleStorage": np.float64,
    "torch HalfStorage": np.float16,
    "torch LongStorage": np.int64,
    "torch IntStorage": np.int32,
    "torch ShortStorage": np.int16,
    "torch CharStorage": np.int8,
    "torch ByteStorage": np.uint8,
    "torch BoolStorage": np.bool_,
}
_REBUILD, _HOOKS = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
# Bytes of the description of one tensor, which takes some hundred.
_LARGEST_PROGRAM = 100_000
_MARK, _EMPTY = object(), ()
# Fixed part of the header before a file in a zip, and where it says how long the rest is.
_LOCAL_HEADER, _NAME_LENGTH, _EXTRA_LENGTH = 30, slice(26, 28), slice(28, 30)


@dataclass(frozen=True)
class _Storage:
    """A storage that the pickle refers to."""

    kind: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    """How a tensor is made of a storage; offsets and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Refused(Exception):
    """An instruction or a name that does not describe a tensor."""


def mapped_tensor(path: Path) -> NDArray[Any]:
    """The tensor in a file, as a read-only view of the disk.

    Raises:
        InputError: when the file is damaged, older than torch 1.6, or holds anything but one dense tensor.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {"/".join(each.filename.split("/")[1:]): each for each in archive.infolist()}
            if entries["data.pkl"].file_size > _LARGEST_PROGRAM:
                raise _Refused("far more than the description of a tensor")
            tensor = _described(archive.read(entries["data.pkl"]))
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                raise _Refused("numbers of the other byte order")
            storage = entries[f"data/{tensor.storage.key}"]
        return _view(path, tensor, storage)
    except _Refused as error:
        raise InputError(
            f"{path} holds {error}; expected one dense tensor, as torch.save(tensor, path) writes it; save it alone, "
            "or as .npy with numpy.save"
        ) from None
    except Exception as error:  # zip and pickle have dozens of kinds
        raise InputError(
            f"{path} is no tensor of torch 1.6 or later ({error}); expected a file of torch.save; load it with torch "
            "and save it again, or as .npy with numpy.save"
        ) from error


def _view(path: Path, tensor: _Tensor, storage: zipfile.ZipInfo) -> NDArray[Any]:
    dtype = np.dtype(_TYPES[tensor.storage.kind])
    if storage.compress_type != zipfile.ZIP_STORED:
        raise _Refused("a compressed storage")
    lowest = min([tensor.offset, *tensor.shape, *tensor.strides])
    if lowest >= 0 and not all(tensor.shape):
        return np.empty(tensor.shape, dtype)
    extent = [(size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
    if lowest < 0 or (tensor.offset + sum(extent) + 1) * dtype.itemsize > storage.file_size:
        raise _Refused("a tensor that reaches beyond its storage")
    count = storage.file_size // dtype.itemsize
    numbers = np.memmap(path, dtype, mode="r", offset=_start(path, storage), shape=(count,))
    steps = tuple(stride * dtype.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps, writeable=False)


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where in the zip the bytes of an entry begin."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER)
    lengths = (int.from_bytes(header[part], "little") for part in (_NAME_LENGTH, _EXTRA_LENGTH))
    return entry.header_offset + _LOCAL_HEADER + sum(lengths)


def _described(program: bytes) -> _Tensor:
    """What the pickle says of the tensor."""
    reading = _Reading()
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name == "STOP":
            break
        reading.follow(opcode.name, argument)
    if len(reading.stack) != 1 or not isinstance(reading.stack[0], _Tensor):
        raise _Refused("something else than a tensor")
    return reading.stack[0]


@dataclass
class _Reading:
    """The stack and the memory of the machine whose instructions these are."""

    stack: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)

    def follow(self, name: str, argument: Any) -> None:
        """One instruction.

        Raises:
            _Refused: when it is none of those that describe a tensor.
        """
        if name in ("PROTO", "FRAME"):
            return
        if name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"):
            self.stack.append(argument)
        elif name in ("NEWTRUE", "NEWFALSE"):
            self.stack.append(name == "NEWTRUE")
        elif name == "GLOBAL":
            self.stack.append(_known(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])
        elif name in self._steps:
            self._steps[name](self)
        else:
            raise _Refused(f"the instruction {name}")

    def _mark(self) -> None:
        self.stack.append(_MARK)

    def _empty(self) -> None:
        self.stack.append(_EMPTY)

    def _tuple(self) -> None:
        start = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        self.stack[start:] = [tuple(self.stack[start + 1 :])]

    def _last(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _storage(self) -> None:
        word, kind, key, _, _ = self.stack.pop()
        if word != "storage" or kind not in _TYPES:
            raise _Refused(f"a storage of {kind}")
        self.stack.append(_Storage(kind, str(key)))

    def _made(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called == _HOOKS and arguments == ():
            self.stack.append(_EMPTY)
        elif called == _REBUILD and isinstance(arguments[0], _Storage):
            storage, offset, shape, strides = arguments[:4]
            self.stack.append(_Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides))))
        else:
            raise _Refused(f"a call of {called}")

    _steps = {  # noqa: RUF012 - a table that is never changed
        "MARK": _mark,
        "EMPTY_TUPLE": _empty,
        "TUPLE": _tuple,
        "TUPLE1": lambda self: self._last(1),
        "TUPLE2": lambda self: self._last(2),
        "TUPLE3": lambda self: self._last(3),
        "BINPERSID": _storage,
        "REDUCE": _made,
    }


def _known(name: str) -> str:
    """A name that may stand in the description of a tensor, as a word."""
    if name not in (*_TYPES, _REBUILD, _HOOKS):
        raise _Refused(f"a {name.replace(' ', '.')}")
    return name
