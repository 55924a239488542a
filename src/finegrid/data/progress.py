"""A bar for what takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Step(Protocol):
    """What to call after every step: without arguments, or with what is done and what is to do."""

    def __call__(self, done: int | None = None, total: int | None = None) -> None: ...


@contextmanager
def bar(words: str, total: int | None = None, *, show: bool = True) -> Iterator[Step]:
    """A progress bar on stderr, where that is a terminal.

    Args:
        words: what takes long.
        total: number of steps, where it is known beforehand.
        show: whether there is a bar at all.
    """

    def silent(done: int | None = None, total: int | None = None) -> None:
        return

    if not show:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        job = progress.add_task(words, total=total)

        def step(done: int | None = None, total: int | None = None) -> None:
            if done is None:
                progress.advance(job)
            else:
                progress.update(job, completed=done, total=total)

        yield step
