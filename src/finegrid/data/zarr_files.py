"""Zarr folders and zips through a store that looks at what it hands over: at descriptions, and at compressed pieces.

Every description of an array passes through here before zarr makes room for its chunks, and every chunk before a codec
unpacks it. A chunk may become eight times what the description says, for filters may lie in between, and 64 MB; zarr
itself refuses what does not have the right length afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.storage import LocalStore, WrapperStore, ZipStore

from finegrid.conventions import InputError
from finegrid.conventions.documents import json_of
from finegrid.data.bounds import check_axis, check_chunk, largest_chunk
from finegrid.data.compressed import COMPRESSIONS, Swollen, check_swelling
from finegrid.data.zips import checked_names

_SLACK_TIMES, _SLACK_BYTES = 8, 64 << 20
# Values whose size is not known beforehand, such as text.
_UNKNOWN_BYTES = 16
_INDEX_ENTRY, _CHECKSUM, _ABSENT = 16, 4, (1 << 64) - 1
_CONSOLIDATED = ".zmetadata"
_REMEDY = "rewrite it with smaller chunks: xr.open_zarr(PATH, chunks={}).chunk({DIM: SIZE}).to_zarr(NEW, encoding={})"


@dataclass(frozen=True)
class Pieces:
    """How the pieces of an array are kept.

    Attributes:
        codec: what unpacks them.
        most: bytes that one may become.
        shard: pieces in one object; 0 where each is an object of its own.
        first: whether the index of a shard comes before its pieces.
        checked: whether the index ends with a checksum.
    """

    codec: str
    most: int
    shard: int = 0
    first: bool = False
    checked: bool = False


def bounded_store(path: Path) -> tuple[BoundedStore, bool]:
    """The store of a folder or a zip, read only, and whether its descriptions are in one place.

    Raises:
        InputError: when the zip holds what no archive of fields does.
    """
    if path.is_dir():
        return BoundedStore(LocalStore(path, read_only=True), path), (path / _CONSOLIDATED).exists()
    consolidated = _CONSOLIDATED in checked_names(path)
    return BoundedStore(ZipStore(path, mode="r"), path), consolidated


class BoundedStore(WrapperStore[Any]):
    """A store that refuses what would take too much memory.

    Args:
        store: where the bytes are.
        path: for messages.
    """

    def __init__(self, store: Any, path: Path) -> None:
        super().__init__(store)
        self._path = path
        self._arrays: dict[str, Pieces] = {}

    def _with_store(self, store: Any) -> BoundedStore:
        return type(self)(store, self._path)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Bytes of an entry, looked at.

        Raises:
            InputError: when an array has chunks, or a chunk has content, beyond the limits.
        """
        found = await self._store.get(key, prototype, byte_range)
        if found is None:
            return None
        name, _, rest = key.rpartition("/")
        if rest in ("zarr.json", ".zarray", _CONSOLIDATED):
            self._learn(name, rest, found.to_bytes())
        elif key.split("/")[0] in self._arrays and not rest.startswith("."):
            self._check(key, memoryview(found.as_numpy_array()).cast("B"), byte_range)
        return found

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        """Bytes of parts of entries, looked at."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    def _learn(self, name: str, document: str, content: bytes) -> None:
        try:
            values = json_of(content)
        except ValueError:
            return  # zarr says what is wrong with it
        for array, description in _arrays(name, document, values):
            self._arrays[array] = _pieces(self._path, array, description)

    def _check(self, key: str, content: memoryview, part: Any) -> None:
        pieces = self._arrays[key.split("/")[0]]
        try:
            for each in _parts(content, pieces, part):
                check_swelling(each, pieces.codec, pieces.most)
        except Swollen as error:
            raise InputError(
                f"{self._path} is damaged or made to fill the memory: in {key}, {error}; expected chunks of the size "
                "that their description states. Copy or download it again"
            ) from None


def _arrays(name: str, document: str, values: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names and descriptions of the arrays that a document describes."""
    if not isinstance(values, Mapping):
        return
    if document == _CONSOLIDATED:
        inner, ending = values.get("metadata"), "/.zarray"
    else:
        consolidated = values.get("consolidated_metadata")
        inner, ending = consolidated.get("metadata") if isinstance(consolidated, Mapping) else None, ""
    for key, each in inner.items() if isinstance(inner, Mapping) else ():
        if key.endswith(ending) and isinstance(each, Mapping) and "shape" in each:
            yield key.removesuffix(ending), each
    if "shape" in values:
        yield name, values


@dataclass(frozen=True)
class _Stored:
    """What a description says, in either format.

    Attributes:
        chunk: shape of a piece that is unpacked at once.
        whole: shape of an object of the store.
        codecs: names of all codecs of a piece.
        index: names of the codecs of the index of a shard; None where there are no shards.
        first: whether the index comes first.
    """

    chunk: tuple[int, ...]
    whole: tuple[int, ...]
    codecs: list[str]
    index: list[str] | None = None
    first: bool = False

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> _Stored:
        """What a description of an array says."""
        if "chunk_grid" not in description:
            each = [*_several(description.get("filters")), *_several(description.get("compressor"))]
            chunk = _sizes(description.get("chunks"))
            return cls(chunk, chunk, [str(_of(codec, "id")) for codec in each])
        whole = _sizes(_of(description, "chunk_grid", "configuration", "chunk_shape"))
        codecs = dict(map(_codec, _several(description.get("codecs"))))
        shard = codecs.get("sharding_indexed")
        if shard is None:
            return cls(whole, whole, list(codecs))
        inner, index = ([_codec(each)[0] for each in _several(shard.get(key))] for key in ("codecs", "index_codecs"))
        return cls(_sizes(shard.get("chunk_shape")), whole, inner, index, shard.get("index_location") == "start")

    @property
    def compressions(self) -> list[str]:
        """Codecs that make pieces smaller; with a shard in a shard or a compressed index, more than one."""
        odd = [name for name in self.index or () if name not in ("bytes", "crc32c")]
        return [*odd, *(name for name in self.codecs if name in (*COMPRESSIONS, "sharding_indexed"))]

    @property
    def count(self) -> int:
        """Pieces in an object of the store."""
        return math.prod(-(-large // max(1, small)) for large, small in zip(self.whole, self.chunk, strict=False))


def _pieces(path: Path, name: str, description: Mapping[str, Any]) -> Pieces:
    """How an array is kept.

    Raises:
        InputError: when its axis or chunks do not fit into memory, or nobody can know whether they do.
    """
    stored, itemsize = _Stored.of(description), _itemsize(description.get("data_type", description.get("dtype")))
    dims, shape = description.get("dimension_names"), _sizes(description.get("shape"))
    if len(shape) == 1 and (dims is None or dims == [name]):
        check_axis(path, name, shape[0], itemsize)
    check_chunk(path, name, stored.chunk, itemsize, remedy=_REMEDY.replace("PATH", f"'{path}'"))
    compressions = stored.compressions
    if len(compressions) > 1 or "sharding_indexed" in compressions:
        raise InputError(
            f"{path} compresses '{name}' more than once ({', '.join(compressions)}); expected one compression, or one "
            "in shards: nobody knows how large others become; rewrite it with one"
        )
    size = _SLACK_TIMES * itemsize * math.prod(stored.chunk) + _SLACK_BYTES
    known = bool(stored.chunk) and itemsize != _UNKNOWN_BYTES
    most = min(largest_chunk(), size) if known else largest_chunk()
    shard = 0 if stored.index is None else stored.count
    return Pieces(compressions[0] if compressions else "", most, shard, stored.first, "crc32c" in (stored.index or ()))


def _parts(content: memoryview, pieces: Pieces, part: Any) -> Iterator[memoryview]:
    """The compressed pieces in what was read."""
    index = _INDEX_ENTRY * pieces.shard + _CHECKSUM * pieces.checked
    if not pieces.shard or (part is not None and not _is_index(part, pieces, index)):
        yield content
    elif part is None and len(content) >= index:
        start = 0 if pieces.first else len(content) - index
        table = np.frombuffer(content[start : start + _INDEX_ENTRY * pieces.shard], "<u8").reshape(-1, 2)
        for offset, length in table[(table != _ABSENT).all(axis=1)].tolist():
            yield content[offset : offset + length]


def _is_index(part: Any, pieces: Pieces, size: int) -> bool:
    if pieces.first:
        return isinstance(part, RangeByteRequest) and (part.start, part.end) == (0, size)
    return isinstance(part, SuffixByteRequest)


def _itemsize(kind: Any) -> int:
    try:
        known = kind is not None and np.dtype(kind).kind != "O"
        return np.dtype(kind).itemsize or _UNKNOWN_BYTES if known else _UNKNOWN_BYTES
    except (TypeError, ValueError):
        return _UNKNOWN_BYTES


def _sizes(value: Any) -> tuple[int, ...]:
    whole = isinstance(value, list | tuple) and all(isinstance(each, int) and each >= 0 for each in value)
    return tuple(value) if whole else ()


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _codec(value: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and settings of a codec of format 3."""
    if isinstance(value, str):
        return value, {}
    settings = _of(value, "configuration")
    name = str(_of(value, "name")).removeprefix("numcodecs.")
    return name, settings if isinstance(settings, Mapping) else {}


def _of(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
