"""A folder that is being made, and gets its name when it is complete: readers see all of it or nothing.

What a long job needs to go on after an interruption (its checkpoint) stays in the unfinished folder, `model.unfinished`
beside `model`; everything else that fails takes its folder with it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from finegrid.conventions import InputError

SUFFIX = ".unfinished"


def unfinished(target: Path) -> Path:
    """The folder in which `target` is made."""
    return target.with_name(target.name + SUFFIX)


@contextmanager
def workplace(
    target: str | Path, *, marks: tuple[str, ...], resume: bool = False, keep: Callable[[Path], bool] = lambda _: False
) -> Iterator[Path]:
    """An empty folder that becomes `target` at the end of the block.

    Args:
        target: the folder to be made; an older one is replaced when it holds one of the `marks`.
        marks: names of files by which our own folders are known, so that nobody's other files are lost.
        resume: go on in the unfinished folder of an earlier run instead of an empty one.
        keep: whether the unfinished folder is worth keeping when the block fails.

    Raises:
        InputError: when the folder cannot be made or holds something else.
    """
    goal = Path(os.path.abspath(Path(target).expanduser()))
    _check_target(goal, marks)
    folder = unfinished(goal)
    with _failures(goal):
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
            replace(folder, goal)
        except BaseException:
            if not keep(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise


def replace(folder: Path, goal: Path) -> None:
    """Give a folder its name; an older one of that name goes aside first and is removed last."""
    aside = goal.with_name(f".{goal.name}.old")
    if not goal.exists():
        folder.replace(goal)
        return
    shutil.rmtree(aside, ignore_errors=True)
    goal.replace(aside)
    try:
        folder.replace(goal)
    except OSError:
        aside.replace(goal)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _check_target(goal: Path, marks: tuple[str, ...]) -> None:
    if goal.is_dir() and any(goal.iterdir()) and not any((goal / mark).exists() for mark in marks):
        raise InputError(
            f"{goal} is a folder with other files in it; expected a new folder, or an older one of the same kind to "
            "replace. Choose another --out"
        )
    if goal.exists() and not goal.is_dir():
        raise InputError(f"{goal} is a file; expected the name of a folder. Choose another --out")


@contextmanager
def _failures(goal: Path) -> Iterator[None]:
    """Failures of the disk in words: which folder, why, and what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in _DISK:
            raise
        raise InputError(
            f"could not write {goal} ({error}); expected a folder that may be written to, with space left. Free some "
            "space or choose another --out; nothing half-written was kept"
        ) from error


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EIO)
