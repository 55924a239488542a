"""Ctrl-C and SIGTERM while blocks are written: a job stops where nothing is half done, and no lock is left behind.

Python raises KeyboardInterrupt between any two steps of the main thread, also between taking a lock and holding on to
it, and whoever cleans up then waits for ever. So a signal is only noted, and raised where that can do no harm: at once
while something is read or computed, else before the next block. A second one is raised wherever it comes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Whether a job has been asked to stop."""

    def __init__(self) -> None:
        self._asked = False
        self._at_once = True

    @property
    def asked(self) -> bool:
        """Whether it was asked to stop."""
        return self._asked

    def check(self) -> None:
        """Stop here, if that was asked for.

        Raises:
            KeyboardInterrupt: in whatever thread this is.
        """
        if self._asked:
            raise KeyboardInterrupt

    def gently(self) -> None:
        """From now on, stop where `check` is called or within `at_once` alone."""
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it the main thread may be stopped anywhere."""
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def ask(self, *_: object) -> None:
        """What a signal does."""
        now = self._at_once or self._asked
        self._asked = True
        if now:
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within it Ctrl-C and SIGTERM, with which queues and operating systems end a job, ask a job to stop.

    Where a program has its own handlers, or this is not its main thread, these stay.
    """
    stop, usual = Stop(), {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if threading.current_thread() is not threading.main_thread():  # Python allows no handlers there
        yield stop
        return
    before = {number: each for number, each in usual.items() if signal.getsignal(number) == each}
    for number in before:
        signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number, each in before.items():
            signal.signal(number, each)
