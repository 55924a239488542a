"""Ctrl-C between two steps and never within one, so that what is saved is the state of a whole number of steps.

Half a step has drawn random numbers, or moved the weights and not yet their average: a run that went on from there
would end elsewhere than one that was never stopped.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class HeldBack:
    """While it is open, the first Ctrl-C waits for `release`; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Another handler, or none as under nohup, is somebody's will.
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def release(self) -> None:
        """Let a Ctrl-C through that came since the last call.

        Raises:
            KeyboardInterrupt: when there was one.
        """
        if self._asked:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
