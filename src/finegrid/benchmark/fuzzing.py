"""Damaged files and recipes by the hundred thousand: every reader answers with fields or with an InputError.

    python -m finegrid.benchmark.fuzzing --count 200000

A mutation is a function of the reader and a number, so that what goes wrong can be made again: bits are flipped, bytes
overwritten, cut out, doubled or inserted, and the end is cut off. Readers run in processes of their own: one that
crashes, hangs or takes more memory than it should ends, is noted, and another one goes on behind that input. What is
kept with a checksum (models) must be refused or be what it was: a silent change counts as a failure too.
"""

from __future__ import annotations

import argparse
import json
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
from numpy.typing import NDArray

from finegrid.benchmark.figures import Bench, Figure
from finegrid.benchmark.fuzzed import READERS
from finegrid.conventions import InputError

_COUNT = 200_000
_PATIENCE = 60.0
# Address space of a reader: torch and HDF5 map a few GB that they never touch.
_MEMORY = 12 << 30
_GOOD = ("read", "refused")


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
    for name in names:
        each = -(-count // len(names))
        begun = time.perf_counter()
        number = start
        while number < start + each:
            number = _run(name, number, start + each, found)
        wrong = sum(reader == name for reader, _, _ in found.bad)
        say(f"{name}: {each} inputs in {time.perf_counter() - begun:.0f} s, {wrong} wrong")
    return found


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one to four things done to it."""
    values = np.frombuffer(content, dtype=np.uint8)
    for _ in range(int(random.integers(1, 5))):
        values = _WAYS[int(random.integers(len(_WAYS)))](values, random)
    return values.tobytes()


def _place(values: NDArray[np.uint8], random: np.random.Generator) -> tuple[int, int]:
    """Where something happens and how much; heads of files, where everything is described, twice as often."""
    most = len(values) if random.random() < 0.5 else min(len(values), 4096)
    start = int(random.integers(0, max(1, most)))
    return start, min(len(values), start + int(2 ** random.integers(0, 9)))


def _flipped(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, _ = _place(values, random)
    changed = values.copy()
    changed[start : start + 1] ^= np.uint8(1 << int(random.integers(8)))
    return changed


def _overwritten(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    changed = values.copy()
    filled = random.choice([0, 255, 127, 32, 48])
    changed[start:stop] = filled if random.random() < 0.5 else random.integers(0, 256, stop - start, dtype=np.uint8)
    return changed


def _cut(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    return np.delete(values, slice(start, stop))


def _doubled(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    return np.insert(values, start, values[start:stop])


def _inserted(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    start, stop = _place(values, random)
    return np.insert(values, start, random.integers(0, 256, stop - start, dtype=np.uint8))


def _ended(values: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    return values[: int(random.integers(0, len(values) + 1))]


_WAYS = (_flipped, _flipped, _overwritten, _cut, _doubled, _inserted, _ended)


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
        good = reader.make(Path(folder) / "good")
        warnings.simplefilter("ignore")
        truth = reader.read(good) if reader.checked else None
        for number in range(start, stop):
            verdict, words = _tried(name, good, number, Path(folder), truth)
            print(json.dumps([number, verdict, words]), file=out, flush=True)


def _tried(name: str, good: Path, number: int, folder: Path, truth: object) -> tuple[str, str]:
    reader = READERS[name]
    random = np.random.default_rng([sum(name.encode()), number])
    spoilt = folder / f"spoilt{good.suffix}"
    if good.is_dir():
        shutil.rmtree(spoilt, ignore_errors=True)
        shutil.copytree(good, spoilt)
        files = sorted(path for path in spoilt.rglob("*") if path.is_file())
        chosen = files[int(random.integers(len(files)))]
    else:
        chosen = spoilt
    source = good if not good.is_dir() else good / chosen.relative_to(spoilt)
    chosen.write_bytes(mutated(source.read_bytes(), random))
    try:
        answer = reader.read(spoilt)
    except InputError as error:
        return "refused", str(error)[:200]
    except Exception as error:  # a fault is what this looks for
        return "fault", f"{type(error).__name__}: {str(error)[:300]}"
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
    for reader, number, words in found.bad[:50]:
        print(f"{reader} {number} {words}")  # noqa: T201
    sys.exit(bool(found.bad))


if __name__ == "__main__":
    main()
