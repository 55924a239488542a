"""The folder NAME.unfinished in which an output is made, for one process alone, and what stays of it.

A lock of the operating system (flock) keeps others away; it goes with the process, however that ends. When everything
is written the folder goes. When the job stops before, it stays if a block is finished, and the message says how to go
on; a job that had not come so far leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finegrid.conventions import InputError
from finegrid.conventions.documents import read_json
from finegrid.data.write import Failures
from finegrid.pipeline.manifest import Manifest, finished
from finegrid.pipeline.workplace import unfinished
from finegrid.training import Interrupted

_LOCK, _LOCK_BYTES = "lock", 10_000
_KEPT = "nothing half-written is kept"


@dataclass
class Claim:
    """An unfinished folder that is this process's own.

    Attributes:
        folder: where it is.
        manifest: of the job, once it is known to be that of the folder.
    """

    folder: Path
    manifest: Manifest | None = None

    def empty(self) -> None:
        """Remove what an earlier job left."""
        for each in self.folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != _LOCK:
                each.unlink(missing_ok=True)


@contextmanager
def claimed(target: Path, *, again: str) -> Iterator[Claim]:
    """The folder of an output, which no other process may write meanwhile.

    Args:
        target: the file or folder to be made.
        again: how to go on with the job, in words.

    Raises:
        InputError: when another process writes it; and whatever stops the job, with what is kept of it.
        Interrupted: on Ctrl-C, when a block is finished.
    """
    folder = unfinished(target)
    lock = _locked(folder, target)
    claim = Claim(folder)
    try:
        yield claim
    except BaseException as error:
        if not finished(folder):
            shutil.rmtree(folder, ignore_errors=True)
        if claim.manifest is None or not claim.manifest.records:
            raise
        done, total = len(claim.manifest.records), claim.manifest.blocks
        kept = f"{done} of {total} blocks are finished and kept in {folder}; go on with: {again}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(kept) from None
        if isinstance(error, InputError):
            raise InputError(f"{error}. {kept}") from error
        error.add_note(kept)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def again(command: str | None) -> str:
    """How to go on with the job of this process: its command line, or what to pass in Python."""
    if command is None and Path(sys.argv[0]).name not in ("finegrid", "__main__.py"):
        return "the same call with resume=True"
    line = command or shlex.join(["finegrid", *sys.argv[1:]])
    return line if "--resume" in line.split() else f"{line} --resume"


def _locked(folder: Path, target: Path) -> int:
    """A descriptor of the lock, which is held until it is closed.

    Raises:
        InputError: when another process has it, or the folder cannot be made.
    """
    while True:
        with Failures(target, _KEPT):
            folder.mkdir(exist_ok=True)
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: nobody is kept away
            return lock
        except BlockingIOError:
            os.close(lock)
            raise InputError(
                f"{target} is being written by another process ({_holder(folder)}); expected to be alone; wait until "
                "it has ended, or choose another --out"
            ) from None
        if _is_still(lock, folder / _LOCK):
            break
        os.close(lock)  # whoever had it has removed the folder in between
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps(holder).encode())
    return lock


def _is_still(lock: int, path: Path) -> bool:
    try:
        return os.fstat(lock).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _holder(folder: Path) -> str:
    try:
        holder = read_json(folder / _LOCK, most=_LOCK_BYTES)
        return f"{holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which has only begun"
