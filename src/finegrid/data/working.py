"""Work on a record piece by piece: one piece is read while the one before is worked on, or others do both.

    workers(read, work, pieces)     is     work(read(piece)) of every piece, one after the other

What is done with a piece is a function of that piece, and results are put together in their order, so that it does not
matter who does the work. `alone` is this process; the pipeline has workers of dask that are called alike.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

Piece = TypeVar("Piece")
Read = TypeVar("Read")
Found = TypeVar("Found")

# Threads come into being as they are needed: what reads may itself have something done aside, and wait for it.
_MOST = 64


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
    coming: Future[Read] | None = None
    try:
        for piece in pieces:
            if coming is None:
                coming = aside(read, piece)
                continue
            found = coming.result()
            coming = aside(read, piece)
            yield found
            del found
        if coming is not None:
            yield coming.result()
    finally:
        if coming is not None:
            over(coming)


def aside(work: Callable[[Piece], Found], piece: Piece) -> Future[Found]:
    """Have a thread do it. Threads are used again: dask keeps, to the end, threads for each one that ever computed."""
    return _threads().submit(work, piece)


def over(*begun: Future[Any]) -> None:
    """Give up what was begun aside, and come back when nothing of it goes on."""
    for each in begun:
        each.cancel()
    wait(begun)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_MOST, thread_name_prefix="finegrid-aside")


# A process that is forked has none of the threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)
