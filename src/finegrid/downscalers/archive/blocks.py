"""Pieces of an archive, cut where it is cut on disk, so that every chunk is read once in a pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from finegrid.conventions import check_values
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.fitting import teachable

# Bytes of fine fields in a piece.
_PIECE_BYTES = 32_000_000
# Parts of one chunk that may be read one after the other before the user is told.
_PARTS = 4


@dataclass(frozen=True, eq=False)
class Archive:
    """A pair on disk.

    Attributes:
        pair: the lazy pair.
        pieces: consecutive times that are read together.
    """

    pair: Pair
    pieces: tuple[range, ...]

    @classmethod
    def of(cls, lazy: Pair) -> Archive:
        """Pieces of whole chunks along time, of as many as fit in 32 MB, or of parts of one that is larger."""
        count = lazy.fine.sizes["time"]
        most = max(1, _PIECE_BYTES // step_bytes(lazy))
        stored = max(_chunk(lazy.fine), _chunk(lazy.coarse))
        size = most // stored * stored if stored <= most else most
        return cls(lazy, tuple(range(start, min(start + size, count)) for start in range(0, count, size)))

    def read(self, times: range, halo: int = 0) -> tuple[Pair, slice]:
        """The pair at some times and `halo` more on either side, in memory and checked; and which they are within.

        The truth of missing coarse cells is left out.
        """
        count = self.pair.fine.sizes["time"]
        first, last = max(0, times.start - halo), min(count, times.stop + halo)
        part = replace(
            self.pair,
            coarse=self.pair.coarse.isel(time=slice(first, last)).load(),
            fine=self.pair.fine.isel(time=slice(first, last)).load(),
        )
        for fields in (part.coarse, part.fine):
            check_values(fields, part=True)
        return teachable(part), slice(times.start - first, times.stop - first)

    def pieces_of(self, times: Indices) -> list[range]:
        """The pieces that hold these times, without others."""
        wanted, found = np.zeros(self.pair.fine.sizes["time"], dtype=bool), []
        wanted[times] = True
        for piece in self.pieces:
            inside = piece.start + np.flatnonzero(wanted[piece.start : piece.stop])
            runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1) if len(inside) else []
            found += [range(int(run[0]), int(run[-1]) + 1) for run in runs]
        return found

    def sample(self, times: Indices, most: int) -> Pair:
        """The pair at some of these times in memory, evenly spread, of at most so many bytes."""
        count = int(np.clip(most // step_bytes(self.pair), 2, len(times)))
        chosen = times[np.unique(np.linspace(0, len(times) - 1, count).round().astype(int))]
        some = self.pair.at(chosen)
        return teachable(replace(some, coarse=some.coarse.load(), fine=some.fine.load()))

    def advice(self) -> str:
        """What to tell whose chunks are so long in time that each is read many times; nothing otherwise."""
        stored, read = _chunk(self.pair.fine), len(self.pieces[0])
        if stored <= _PARTS * read:
            return ""
        chunks = {"time": read, "y": -1, "x": -1}
        return (
            f"the fine archive has chunks of {stored} times, of which {read} fit in memory at once: each chunk is read "
            f"{-(-stored // read)} times. Training is faster after xr.open_dataset(PATH, chunks={{}})"
            f".chunk({chunks}).to_zarr('rechunked.zarr')"
        )


def step_bytes(lazy: Pair) -> int:
    """Bytes of the fine fields of one time, as float32."""
    return 4 * len(lazy.variables) * lazy.fine.sizes["y"] * lazy.fine.sizes["x"]


def _chunk(fields: xr.Dataset) -> int:
    """Times in a chunk; one where fields are in memory."""
    found = [max(field.chunksizes.get("time", (1,))) for field in fields.data_vars.values()]
    return max(found, default=1)
