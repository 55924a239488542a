"""A coded field as it is kept: what has to be known of it, the table of its model, its gaps, and its code."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.evaluation.code_coder import Streams

_MARK, _HEAD, _LENGTHS = b"finegrid1", struct.Struct("<I"), struct.Struct("<4Q")


@dataclass(frozen=True)
class Head:
    """What has to be known of a field besides its code.

    Attributes:
        model: a name in `code_fields.MODELS`.
        shape: (time, y, x).
        quantum: q.
        lowest: t_min.
        symbols: number of different numbers that can be coded.
        shift: smallest number that was coded.
    """

    model: str
    shape: tuple[int, ...]
    quantum: float
    lowest: float
    symbols: int
    shift: int


def packed_gaps(known: NDArray[np.bool_]) -> bytes:
    """Bits of where values are known, deflated; nothing where all are."""
    return b"" if known.all() else zlib.compress(np.packbits(known).tobytes(), 9)


@dataclass(frozen=True, eq=False)
class Archive:
    """A field without loss to a quantum.

    Attributes:
        head: what has to be known.
        streams: the code.
        table: packed table of the model; empty for an ensemble.
        gaps: packed bits of where values are known; empty where all are.
        ideal: bits that the model asks for, the sum of -log2 p.
    """

    head: Head
    streams: Streams
    table: bytes
    gaps: bytes
    ideal: float = np.nan

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there are values (time, y, x)."""
        if not self.gaps:
            return np.ones(self.head.shape, dtype=bool)
        bits = np.frombuffer(zlib.decompress(self.gaps), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(self.head.shape))).astype(bool).reshape(self.head.shape)

    @property
    def model_bits(self) -> int:
        """Size of everything but the code."""
        return 8 * len(self.to_bytes()) - self.streams.bits

    def to_bytes(self) -> bytes:
        """Everything, as it is written to a file."""
        head = json.dumps({**asdict(self.head), "count": self.streams.count}).encode()
        words, states = self.streams.words.astype("<u4").tobytes(), self.streams.states.astype("<u8").tobytes()
        parts = (self.table, self.gaps, states, words)
        return b"".join([_MARK, _HEAD.pack(len(head)), head, _LENGTHS.pack(*map(len, parts)), *parts])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` made.

        Raises:
            InputError: when it is something else.
        """
        if not data.startswith(_MARK):
            raise InputError("got bytes that are no archive of finegrid; expected what `to_bytes` of an archive made")
        start = len(_MARK) + _HEAD.size
        end = start + _HEAD.unpack_from(data, len(_MARK))[0]
        head = json.loads(data[start:end])
        count, shape = head.pop("count"), tuple(head.pop("shape"))
        ends = np.cumsum([end + _LENGTHS.size, *_LENGTHS.unpack_from(data, end)]).tolist()
        table, gaps, states, words = (data[ends[each] : ends[each + 1]] for each in range(4))
        streams = Streams(np.frombuffer(words, "<u4"), np.frombuffer(states, "<u8"), count)
        return cls(Head(shape=shape, **head), streams, table, gaps)
