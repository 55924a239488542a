"""A saved model over files of any length: read, compute and write, block by block and at the same time.

While the network works on one block, a second thread measures and writes the one before, so that a long record takes
little longer than the network alone and no more memory than a few blocks. What is written is measured: how far its
means over coarse cells are from the coarse field, as the evaluation defines it (`evaluation.metrics.conservation`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid import __version__
from finegrid.conventions import InputError, harmonise
from finegrid.conventions.components import word_of
from finegrid.conventions.errors import provenance
from finegrid.data import Writer, open_fields
from finegrid.downscalers import Downscaler, load
from finegrid.downscalers.members import check_members
from finegrid.evaluation.metrics import CONSERVED
from finegrid.pipeline.departure import Departure
from finegrid.pipeline.guarding import guarded
from finegrid.pipeline.history import history_of
from finegrid.pipeline.honest import honesty
from finegrid.pipeline.material import times_of_period
from finegrid.pipeline.naming import name_of
from finegrid.pipeline.quantiles import Make, Summary, checked

# Coarse fields read at once: less than what belongs to a block of fine fields, so that little is read twice.
_READ_BYTES = 2_000_000
_COMPRESSION = 1
_ONE_OF_MANY = (
    "this is one member of an ensemble, as likely as any other and not the best guess: --members 20 draws more, and "
    "--quantiles 0.5 is their middle"
)
# Blocks that wait to be written, besides the one in work on either side.
_WAITING = 1


@dataclass(frozen=True)
class Downscaled:
    """What was written.

    Attributes:
        path: the file.
        times: number of times.
        violation: largest relative departure of what was written from the coarse field.
        words: the same as a sentence.
        notes: what else a user should know, such as values beyond those of training.
    """

    path: Path
    times: int
    violation: float
    words: str
    notes: tuple[str, ...] = ()


def downscale(
    model: str | Path | Downscaler,
    coarse: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    members: int = 1,
    quantiles: Sequence[float] = (),
    interval: float | None = None,
    raw: bool = False,
    chances: bool = False,
    time: str | None = None,
    seed: int = 0,
    reference: str | Path | Sequence[str | Path] | None = None,
    guard: str = "warn",
    command: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Downscaled:
    """Downscale files into one CF file.

    Args:
        model: model folder, or a fitted downscaler.
        coarse: coarse files, patterns included.
        out: NetCDF file (.nc) or Zarr folder (.zarr) to write.
        members: size of the ensemble; more than one where the model draws members.
        quantiles: chances whose quantiles over the members are written in place of the members, such as 0.1, 0.5 and
            0.9. They do not conserve; the members are measured all the same.
        interval: chance of the intervals that are written in place of the members, such as 0.9; the model folder has to
            hold a calibration.
        raw: leave the members as the model draws them, although the folder holds a calibration.
        chances: write chances of the events that the model folder has a calibration for, in place of the members.
        time: period to downscale, such as "2019-03"; None is all.
        seed: of the ensemble.
        reference: where the coarse files are of another source than the training ones, files of that source in a period
            whose climate should be that of training.
        guard: what to do with input unlike that of training: "warn", "align", "refuse", or "off" (`pipeline.guarding`).
        command: what to note in the history; by default the command line.
        progress: called with the times done and the times in all.

    Raises:
        InputError: when files do not suit the model or the output cannot be written; nothing is left behind.
    """
    wanted = checked(quantiles, members) if quantiles else ()
    downscaler = model if isinstance(model, Downscaler) else load(model)
    honest = honesty(model, downscaler, members, interval=interval, raw=raw, quantiles=wanted, chances=chances)
    check_members(members, downscaler.name, random=downscaler.random)
    fields = _opened(coarse)
    chosen = times_of_period(fields, time)
    with Writer(out, compression=_COMPRESSION) as writer:
        # Of the whole record: ranks within it, and the days beside the period, must not depend on the period.
        seen = downscaler.read(fields, reference=None if reference is None else open_fields(reference))
        looked = guarded(model, downscaler, fields, seen, chosen, guard)
        seen = looked.fields
        given = _settled(downscaler, seen.isel(time=chosen), fields)
        departure = Departure.of(downscaler.domain, given, derived=downscaler.conservation.derived)
        summary = _summary(downscaler, given, wanted or honest.ends, members, honest.made)

        def keep(block: xr.Dataset, coarse_of_it: xr.Dataset) -> None:
            departure.add(block, coarse_of_it)
            if honest.events is not None:
                block = honest.events.probability(block)
            writer.append(block if summary is None else summary.of(block, coarse_of_it))

        total, done = given.sizes["time"], 0
        with _in_turn(keep) as put:
            source = provenance(fields, otherwise="the coarse input")
            draw = partial(downscaler.blocks, seen, members=members, seed=seed, source=source)
            honest.look(lambda part: draw(times=part), range(seen.sizes["time"])[chosen])
            for block in draw(times=chosen):
                size = block.sizes[downscaler.domain.names.time]
                part = slice(done, done + size)
                put(honest.members(block, seen.isel(time=chosen).isel(time=part)), given.isel(time=part))
                done += size
                progress(done, total)
        words, violation = looked.words(conservation_words(downscaler, departure)), departure.largest
        notes = (*looked.notes, *downscaler.notes_on(fields), *([] if summary is None else summary.notes))
        notes += (_ONE_OF_MANY,) if downscaler.random and members == 1 else ()
        notes += honest.notes
        more = {}
        if summary is not None:
            more = {"finegrid_members_conservation_violation": violation}
            words, violation = f"{summary.words}; of the members, {words}", summary.departure.largest
        if honest.events is not None:
            words = f"chances of events by {honest.events.name}; of the members, {words}"
        about = _about(downscaler, members, seed, fields, violation, words) | more
        about |= honest.about | looked.about
        about |= {"finegrid_notes": "; ".join(notes)} if notes else {}
        writer.set_attributes(**about, history=history_of(fields, command))
    looked.draw(out)
    return Downscaled(Path(out), done, violation, words, notes)


def _summary(
    downscaler: Downscaler, given: xr.Dataset, quantiles: tuple[float, ...], members: int, make: Make | None
) -> Summary | None:
    """What takes quantiles and measures them; None where members are written."""
    if not quantiles:
        return None
    measure = Departure.of(downscaler.domain, given, derived=downscaler.conservation.derived)
    return Summary(quantiles, members, downscaler.domain.names.member, measure, make)


def conservation_words(downscaler: Downscaler, departure: Departure) -> str:
    """How far the output keeps the coarse field, for people."""
    binding, derived = downscaler.domain.binding, downscaler.conservation.derived
    where = "the coarse cells" if binding.all() else f"the {int(binding.sum())} coarse cells within the fine domain"
    field = "the coarse field" if downscaler.adjust is None else "the bias-adjusted coarse field"
    more = f"; {', '.join(derived)} follows from the other variables" if derived else ""
    (wrong, count), largest = departure.unmet, f"{100 * departure.largest:.2g} %"
    if departure.largest <= CONSERVED:
        return f"area means over {where} equal {field} to rounding{more}"
    if downscaler.conservation.conserves:
        return (
            f"area means over {where} equal {field} to rounding but for {wrong} of {count} values that cannot be met "
            f"(beyond their limits, or against their neighbours), and depart from these by up to {largest}{more}"
        )
    return f"does not conserve: area means over {where} depart from {field} by up to {largest}{more}"


def _opened(coarse: str | Path | Sequence[str | Path]) -> xr.Dataset:
    """The coarse files, lazy in pieces that are small beside a block of fine fields."""
    fields = open_fields(coarse)
    coordinate = harmonise(fields)[1].coordinates["time"]
    if coordinate.dimension not in fields.dims:
        return fields
    steps = max(1, fields.sizes[coordinate.dimension] * _READ_BYTES // max(1, fields.nbytes))
    return open_fields(coarse, chunks={coordinate.dimension: steps})


def _settled(downscaler: Downscaler, seen: xr.Dataset, fields: xr.Dataset) -> xr.Dataset:
    """The values that are conserved, of fields as the model sees them; checked before anything is computed."""
    given = downscaler.domain.inputs.conserved(seen)
    if not given.sizes["time"]:
        raise InputError(f"{fields.encoding.get('source', 'the coarse input')} has no times; expected at least one")
    return given


Put = Callable[[xr.Dataset, xr.Dataset], None]


@contextmanager
def _in_turn(keep: Put) -> Iterator[Put]:
    """A function that hands blocks to a thread, which measures and writes them in order."""
    waiting: queue.Queue[tuple[xr.Dataset, xr.Dataset] | None] = queue.Queue(maxsize=_WAITING)
    failures: list[BaseException] = []

    def work() -> None:
        while (item := waiting.get()) is not None:
            if failures:
                continue  # empty the queue, so that nobody waits for room in it
            try:
                keep(*item)
            except BaseException as error:
                failures.append(error)

    def put(block: xr.Dataset, coarse: xr.Dataset) -> None:
        if failures:
            raise failures[0]
        waiting.put((block, coarse))

    thread = threading.Thread(target=work, name="finegrid-writer", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(None)
        thread.join()
    if failures:
        raise failures[0]


def _about(
    downscaler: Downscaler, members: int, seed: int, fields: xr.Dataset, violation: float, words: str
) -> dict[str, Any]:
    """Global attributes of the output."""
    return {
        "source": f"finegrid {__version__}, {name_of(downscaler)} downscaling of {_input(fields)}",
        "finegrid_version": __version__,
        "finegrid_model": downscaler.digest,
        "finegrid_method": name_of(downscaler),
        "finegrid_members": members,
        "finegrid_seed": seed,
        "finegrid_constraint": word_of(downscaler.constraint),
        "finegrid_conservation_violation": violation,
        "finegrid_conservation": words,
    }


def _input(fields: xr.Dataset) -> str:
    return Path(str(fields.encoding.get("source", "a coarse field"))).name
