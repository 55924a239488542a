"""What of a long job is finished, so that it can go on: which job it is, and a line for every finished block.

    run.json        everything that the result depends on: model, input, options, version; written once
    blocks.jsonl    a line for each block: its number, CRC-32 of the values that were read and written, what was
                    measured of them

A line is added after its values were written. A line that was cut off counts as none; values that the disk did not get,
or lost, do not have the sum of their line: both are computed again. So nothing has to wait for the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from finegrid.conventions import InputError
from finegrid.conventions.documents import json_of, read_json
from finegrid.conventions.paths import within
from finegrid.data.write import Failures
from finegrid.pipeline.departure import Found

RUN, BLOCKS = "run.json", "blocks.jsonl"
_KEPT = "nothing half-written is kept"
Identity = Mapping[str, Any]
"""Plain values, of which every one decides about the result; nested by what they are of."""


@dataclass(frozen=True)
class Record:
    """A finished block.

    Attributes:
        number: of the block.
        written: CRC-32 of its values, by variable.
        read: CRC-32 of the coarse values that it was made of.
        members: how far its members depart from the coarse field.
        summary: the same of what was made of them; None where members were written.
    """

    number: int
    written: dict[str, int]
    read: int
    members: Found
    summary: Found | None = None

    @classmethod
    def of(cls, line: str) -> Record:
        """The record of a line.

        Raises:
            ValueError: when it was cut off.
        """
        values = json_of(line)
        try:
            members, summary = _found(values.pop("members")), values.pop("summary")
            made = cls(**values, members=members, summary=None if summary is None else _found(summary))
            written = {name: _whole(each) for name, each in made.written.items()}
            return replace(made, number=_whole(made.number), read=_whole(made.read), written=written)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(line) from error


@dataclass
class Manifest:
    """The finished blocks of a job.

    Attributes:
        folder: where it is written.
        identity: which job it is.
        stamps: of the input files, when they were read: to see whether they were replaced.
        blocks: number of blocks in all.
        records: by number of the block.
    """

    folder: Path
    identity: Identity
    stamps: list[Any]
    blocks: int
    records: dict[int, Record] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest in a folder; None where there is none, or it is of no use."""
        try:
            facts = read_json(within(folder, RUN))
            found = cls(folder, dict(facts["identity"]), list(facts["stamps"]), _whole(facts["blocks"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        found.records = {record.number: record for record in _records(folder)}
        return found

    def write(self) -> None:
        """Begin the files anew, without records.

        Raises:
            InputError: when the disk is full.
        """
        facts = {"identity": self.identity, "stamps": self.stamps, "blocks": self.blocks}
        temporary = self.folder / f"{RUN}.partial"
        with Failures(self.folder, _KEPT):
            (self.folder / BLOCKS).unlink(missing_ok=True)
            temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
            temporary.replace(self.folder / RUN)

    def add(self, record: Record) -> None:
        """Note a finished block.

        Raises:
            InputError: when the disk is full.
        """
        # The line before may have been cut off: a line of its own for every record, whatever is there.
        with Failures(self.folder, _KEPT), (self.folder / BLOCKS).open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(asdict(record))}\n")
        self.records[record.number] = record

    @property
    def run(self) -> str:
        """A name of the job, which is that of every job with the same result."""
        return run_of(self.identity)


def _whole(value: Any) -> int:
    """A number that counts something, or a sum.

    Raises:
        ValueError: when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r:.40} is no whole number")
    return value


def _found(value: Any) -> Found:
    """How far a block departs from the coarse field, as it was noted."""
    departure, unmet, count = value
    return float(departure), _whole(unmet), _whole(count)


def run_of(identity: Identity) -> str:
    """The name of a job: 16 hexadecimal digits of the SHA-256 of everything that its result depends on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def finished(folder: Path) -> int:
    """Number of finished blocks in a folder."""
    found = Manifest.read(folder)
    return 0 if found is None else len(found.records)


def begun(wanted: Manifest, empty: Callable[[], None], *, resume: bool) -> tuple[Manifest, bool]:
    """The manifest of a job, with what an earlier run of it has finished; and whether an input file was changed since.

    Args:
        wanted: the job of this process.
        empty: what removes an earlier job from the folder.
        resume: whether to go on with an earlier run.

    Raises:
        InputError: when an earlier run is of another job, or would be lost.
    """
    older = Manifest.read(wanted.folder)
    if older is None or not older.records:
        return _anew(wanted, empty), False
    # As JSON has it: without tuples.
    different = differences(older.identity, json.loads(json.dumps(wanted.identity)))
    if resume and different:
        raise InputError(
            f"{wanted.folder} belongs to another run, which differs in {'; '.join(different)}; expected the same "
            "model, input and options; give those, or leave --resume out to begin anew"
        )
    if resume:
        older.records = {number: record for number, record in older.records.items() if number < wanted.blocks}
        return older, older.stamps != wanted.stamps
    if not different:
        raise InputError(
            f"{wanted.folder} holds {len(older.records)} of {older.blocks} blocks of this very run, which was stopped; "
            "expected --resume, to go on with it; add that, or remove the folder to begin anew"
        )
    return _anew(wanted, empty), False


def _anew(wanted: Manifest, empty: Callable[[], None]) -> Manifest:
    empty()
    wanted.write()
    return wanted


def differences(before: Identity, now: Identity, where: str = "") -> list[str]:
    """What differs between two jobs, in words."""
    found: list[str] = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{where}{key} ")
        elif old != new:
            found.append(f"{where}{key} ({_short(old)} then, {_short(new)} now)")
    return found


def _short(value: Any) -> str:
    words = "none" if value is None else str(value)
    return words if len(words) <= 24 else f"{words[:12]}..."


def _records(folder: Path) -> Iterator[Record]:
    try:
        lines = within(folder, BLOCKS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in filter(None, lines):
        try:
            yield Record.of(line)
        except ValueError:  # cut off
            continue
