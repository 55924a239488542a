"""Work on a record piece by piece: one piece is read while the one before is worked on, or others do both.

    workers(read, work, pieces)     is     work(read(piece)) of every piece, one after the other

What is done with a piece is a function of that piece, and results are put together in their order, so that it does not
matter who does the work. `alone` is this process; the pipeline has workers of dask that are called alike.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

Piece = TypeVar("Piece")
Read = TypeVar("Read")
Found = TypeVar("Found")


class Workers(Protocol):
    """Whoever works on pieces."""

    def __call__(
        self, read: Callable[[Piece], Read], work: Callable[[Read], Found], pieces: Iterable[Piece]
    ) -> Iterator[Found]:
        """What is found in the pieces, in their order.

        Args:
            read: brings a piece into memory.
            work: what is done with it.
            pieces: the pieces, lazily.
        """
        ...


def alone(read: Callable[[Piece], Read], work: Callable[[Read], Found], pieces: Iterable[Piece]) -> Iterator[Found]:
    """This process, of which a thread reads the next piece."""
    return map(work, ahead(read, pieces))


def ahead(read: Callable[[Piece], Read], pieces: Iterable[Piece]) -> Generator[Read]:
    """What is read of each piece, while a thread reads the next one."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="finegrid-reader") as reader:
        coming: Future[Read] | None = None
        for piece in pieces:
            following = reader.submit(read, piece)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
