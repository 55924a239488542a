"""Damaged files and recipes by the hundred thousand: every reader answers with fields or with an InputError.

    python -m finegrid.benchmark.fuzzing --count 200000

A mutation (`mutations`) is a function of the reader and a number, so that what goes wrong can be made again. Readers
run in processes of their own: one that crashes, hangs or takes more memory than it should ends, is noted, and another
one goes on behind that input. What is kept with a checksum (models) must be refused or be what it was: a silent change
counts as a failure too. Where it is sealed anew, as whoever means harm would do, it must be refused or read.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.fuzzed import READERS, Reader
from finegrid.benchmark.mutations import mutated
from finegrid.conventions import InputError

_COUNT = 200_000
_PATIENCE = 60.0
# Address space of a reader: torch and HDF5 map a few GB that they never touch.
_MEMORY = 12 << 30
_GOOD = ("read", "refused")
# What went wrong with a reader, at most so many times.
_TOLD = 10


@dataclass
class Found:
    """What readers did with mutated input.

    Attributes:
        counts: inputs by reader and verdict: read, refused, or what went wrong.
        bad: reader, number and words of what went wrong.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[tuple[str, int, str]] = field(default_factory=list)

    def note(self, reader: str, number: int, verdict: str, words: str) -> None:
        """Count one input in."""
        self.counts[reader, verdict] += 1
        if verdict not in _GOOD:
            self.bad.append((reader, number, f"{verdict}: {words}"))


def fuzz(bench: Bench) -> list[Figure]:
    """The section of the bench."""
    found = fuzzed(_COUNT, say=bench.say)
    total = sum(found.counts.values())
    by_verdict: Counter[str] = Counter()
    for (_, verdict), count in found.counts.items():
        by_verdict[verdict] += count
    words = f"{total} inputs of {len(READERS)} readers: " + ", ".join(f"{n} {v}" for v, n in by_verdict.most_common())
    numbers = {"counts": {"/".join(key): n for key, n in found.counts.items()}, "bad": found.bad[:100]}
    return [
        Figure(
            "mutated files and recipes", "200,000 without crash, hang or silent change", words, not found.bad, numbers
        )
    ]


def fuzzed(count: int, *, readers: tuple[str, ...] = (), start: int = 0, say: Callable[[str], None] = print) -> Found:
    """Try so many inputs, shared out among the readers."""
    found, names = Found(), readers or tuple(READERS)
    shares = sum(READERS[name].share for name in names)
    for name in names:
        each = math.ceil(count * READERS[name].share / shares)
        begun = time.perf_counter()
        number = start
        while number < start + each:
            number = _run(name, number, start + each, found)
        wrong = [f"{name} {number} {words}" for reader, number, words in found.bad if reader == name]
        told = [f"{name}: {each} inputs in {time.perf_counter() - begun:.0f} s, {len(wrong)} wrong", *wrong[:_TOLD]]
        say("\n".join(told))
    return found


def _run(name: str, start: int, stop: int, found: Found) -> int:
    """Let a process read inputs from a number on; the number at which the next one goes on."""
    command = [sys.executable, "-m", "finegrid.benchmark.fuzzing", "--worker", name, str(start), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        number = start
        for line in _lines(process):
            if line is None:
                process.kill()
                found.note(name, number, "hang", f"longer than {_PATIENCE:.0f} s")
                return number + 1
            _, verdict, words = json.loads(line)
            found.note(name, number, verdict, words)
            number += 1
        code = process.wait()
    if number < stop:
        found.note(name, number, "crash", f"the process ended with {code}")
        number += 1
    return number


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """What a process says, and None where it says nothing for too long."""
    if process.stdout is None:
        return
    while True:
        ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
        line = process.stdout.readline() if ready else None
        if line == "":
            return
        yield line


def work(name: str, start: int, stop: int) -> None:
    """Read mutated inputs, and say what became of each."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader = READERS[name]
    out = os.fdopen(os.dup(1), "w")  # libraries that print must not be taken for answers
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Spoilt.of(reader, Path(folder))
        warnings.simplefilter("ignore")
        truth = reader.read(bench.good) if reader.checked else None
        for number in range(start, stop):
            verdict, words = tried(reader, bench, np.random.default_rng([sum(name.encode()), number]), truth)
            print(json.dumps([number, verdict, words]), file=out, flush=True)


@dataclass(frozen=True)
class Spoilt:
    """A good file or folder, and a copy of it that is damaged and mended again.

    Attributes:
        good: what is read when nothing is wrong.
        copy: what is damaged.
        files: within both; only "." for a file.
    """

    good: Path
    copy: Path
    files: tuple[str, ...]

    @classmethod
    def of(cls, reader: Reader, folder: Path) -> Spoilt:
        """Make both in a folder."""
        good = reader.make(folder / "good")
        copy = folder / f"spoilt{good.suffix}"
        if not good.is_dir():
            shutil.copy(good, copy)
            return cls(good, copy, (".",))
        shutil.copytree(good, copy)
        found = sorted(path for path in good.rglob(reader.only) if path.is_file())
        return cls(good, copy, tuple(str(path.relative_to(good)) for path in found))

    def mend(self) -> None:
        """Put everything back."""
        for name in self.files:
            shutil.copyfile(self.good / name, self.copy / name)


def tried(reader: Reader, spoilt: Spoilt, random: np.random.Generator, truth: object) -> tuple[str, str]:
    """What becomes of one input: read, refused, or what went wrong; and words about it."""
    name = spoilt.files[int(random.integers(len(spoilt.files)))]
    source, target = spoilt.good / name, spoilt.copy / name
    # A new file: HDF5 keeps what it knows of one that is still open somewhere.
    target.unlink()
    target.write_bytes(mutated(source.read_bytes(), source.name, random))
    if reader.seal is not None:
        reader.seal(spoilt.copy)
    try:
        answer = reader.read(spoilt.copy)
    except InputError as error:
        return "refused", str(error)[:200]
    except Exception as error:  # a fault is what this looks for
        return "fault", f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        if reader.seal is not None:
            spoilt.mend()
        else:
            shutil.copyfile(source, target)
    return ("silent change", "") if reader.checked and answer != truth else ("read", "")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m finegrid.benchmark.fuzzing", description=__doc__)
    parser.add_argument("--count", type=int, default=_COUNT, help="inputs in all")
    parser.add_argument("--start", type=int, default=0, help="number of the first input of each reader")
    parser.add_argument("--readers", default="", help=f"some of {', '.join(READERS)}, parted by commas")
    parser.add_argument("--worker", nargs=3, metavar=("READER", "START", "STOP"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.worker[0], *map(int, asked.worker[1:]))
        return
    found = fuzzed(asked.count, readers=tuple(filter(None, asked.readers.split(","))), start=asked.start)
    sys.exit(bool(found.bad))


if __name__ == "__main__":
    main()
