"""Two threads that work at the same time: one makes things, the other takes them in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
# Things that wait to be taken, besides the one in work on either side.
_WAITING = 1


@contextmanager
def in_turn(take: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """A function that hands things to a thread, which takes them in order; what it raises is raised here."""
    waiting: queue.Queue[T | None] = queue.Queue(maxsize=_WAITING)
    failures: list[BaseException] = []

    def work() -> None:
        while (item := waiting.get()) is not None:
            if failures:
                continue  # empty the queue, so that nobody waits for room in it
            try:
                take(item)
            except BaseException as error:
                failures.append(error)

    def put(item: T) -> None:
        if failures:
            raise failures[0]
        waiting.put(item)

    thread = threading.Thread(target=work, name="finegrid-writer", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(None)
        thread.join()
    if failures:
        raise failures[0]
