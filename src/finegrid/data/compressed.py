"""How large a compressed piece becomes, before it is unpacked.

The codecs make room for what a piece says of itself, or for all that comes out of it: 33 kB of Zstandard become 1 GB.
What is read here instead:

    blosc            bytes in memory, in its header (offset 4), and stored ones     blosc.org, chunk format
                     (offset 12), which the codec takes for granted
    lz4 (numcodecs)  bytes in memory, before the block
    zstd             content size of the frame; without one, 128 kB a block         RFC 8878, section 3.1.1
    gzip, zlib       counted above 1 MB: deflate makes at most 1032 bytes of one    RFC 1951
    bz2, lzma        counted
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

# Smaller ones become 1 GB at most, for a length of 258 takes two bits: counting takes as long as unpacking.
_COUNTED = 1 << 20
_BLOSC_HEAD = 16
_ZSTD, _ZSTD_BLOCK = b"\x28\xb5\x2f\xfd", 128 << 10
_SIZE_BYTES, _WORD_BYTES = (0, 2, 4, 8), (0, 1, 2, 4)
_PIECE, _GZIP_OR_ZLIB = 1 << 20, 47


class Swollen(ValueError):
    """A piece that becomes larger than it may."""


def check_swelling(content: memoryview, codec: str, most: int) -> None:
    """A piece becomes no larger than `most` bytes and its codec finds its end; unknown codecs are passed over.

    Args:
        content: as stored.
        codec: its name in Zarr, such as "zstd".
        most: bytes that it may have in memory.

    Raises:
        Swollen: when it becomes larger.
        ValueError: when it is cut off and its codec would read beyond it.
    """
    measure = _MEASURES.get(codec)
    if measure is None:
        return
    if codec == "blosc" and len(content) < max(_BLOSC_HEAD, int.from_bytes(content[12:16], "little")):
        raise ValueError(f"a compressed piece of {len(content)} bytes is cut off")
    try:
        size = measure(content, most)
    except (IndexError, ValueError, EOFError, OSError, lzma.LZMAError, zlib.error):
        return  # damaged: the codec itself says how, and needs little memory for it
    if size > most:
        raise Swollen(f"a compressed piece of {len(content)} bytes becomes more than {most} bytes, which it may have")


def _blosc(content: memoryview, most: int) -> int:
    return int.from_bytes(content[4:8], "little")


def _lz4(content: memoryview, most: int) -> int:
    return int.from_bytes(content[:4], "little")


def _zstd(content: memoryview, most: int) -> int:
    if content[:4] != _ZSTD:
        return 0
    head = content[4]
    single = head >> 5 & 1
    start = 5 + (1 - single) + _WORD_BYTES[head & 3]
    width = _SIZE_BYTES[head >> 6] or single
    if width:
        return int.from_bytes(content[start : start + width], "little") + (256 if width == 2 else 0)
    return _zstd_blocks(content, start, most)


def _zstd_blocks(content: memoryview, start: int, most: int) -> int:
    """At most so many bytes are in the blocks of a frame; no more are counted than matter."""
    size = 0
    while size <= most and start + 3 <= len(content):
        head = int.from_bytes(content[start : start + 3], "little")
        last, kind, length = head & 1, head >> 1 & 3, head >> 3
        size += _ZSTD_BLOCK if kind == 2 else length
        start += 3 + (1 if kind == 1 else length)
        if last:
            break
    return size


def _deflate(content: memoryview, most: int) -> int:
    if len(content) <= _COUNTED:
        return 0
    reading = zlib.decompressobj(_GZIP_OR_ZLIB)
    size, rest = 0, bytes(content)
    while rest and size <= most and not reading.eof:
        size += len(reading.decompress(rest, _PIECE))
        rest = reading.unconsumed_tail
    return size


def _bz2(content: memoryview, most: int) -> int:
    return _drained(bz2.BZ2Decompressor(), content, most)


def _lzma(content: memoryview, most: int) -> int:
    return _drained(lzma.LZMADecompressor(), content, most)


def _drained(reading: Any, content: memoryview, most: int) -> int:
    """The same of decompressors that keep what they have not unpacked yet."""
    size = len(reading.decompress(content, _PIECE))
    while size <= most and not reading.eof and not reading.needs_input:
        size += len(reading.decompress(b"", _PIECE))
    return size


_MEASURES: dict[str, Callable[[memoryview, int], int]] = {
    "blosc": _blosc,
    "lz4": _lz4,
    "zstd": _zstd,
    "gzip": _deflate,
    "zlib": _deflate,
    "bz2": _bz2,
    "lzma": _lzma,
}
COMPRESSIONS = tuple(_MEASURES)
"""Names in Zarr of what is looked at."""
