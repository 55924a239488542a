"""A saved model over files of any length: read, compute and write, block by block and at the same time.

While the network works on one block, a second thread measures and writes the one before, so that a long record takes
little longer than the network alone and no more memory than a few blocks. What is written is measured: how far its
means over coarse cells are from the coarse field, as the evaluation defines it (`evaluation.metrics.conservation`).

Until all is written, the output lies in NAME.unfinished with a note of every finished block (`pipeline.manifest`). A
job that was stopped, however that came, goes on from them, and ends in the same bytes as if it had never been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.conventions.errors import provenance
from finegrid.data import open_fields
from finegrid.data.damage import readable
from finegrid.data.open import expanded
from finegrid.data.write import check_target, record_of
from finegrid.downscalers import Downscaler
from finegrid.pipeline.about import about_of, conservation_words
from finegrid.pipeline.assembly import Assembly
from finegrid.pipeline.blocks import Blocks, Options, Plan
from finegrid.pipeline.claim import again, claimed
from finegrid.pipeline.cluster import by_workers, connected
from finegrid.pipeline.costs import remember
from finegrid.pipeline.departure import Departure
from finegrid.pipeline.guarding import Guarded, guarded
from finegrid.pipeline.history import history_of
from finegrid.pipeline.identity import identity_of, stamps_of
from finegrid.pipeline.ledger import Watch
from finegrid.pipeline.manifest import Manifest, begun, run_of
from finegrid.pipeline.material import times_of_period
from finegrid.pipeline.quantiles import checked
from finegrid.pipeline.running import Files, Running
from finegrid.pipeline.share import Share
from finegrid.pipeline.stopping import stoppable

_BETWEEN = "; "
# Coarse fields read at once: less than what belongs to a block of fine fields, so that little is read twice.
_READ_BYTES = 2_000_000
_ONE_OF_MANY = (
    "this is one member of an ensemble, as likely as any other and not the best guess: --members 20 draws more, and "
    "--quantiles 0.5 is their middle"
)


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
    coarse: Files,
    out: str | Path,
    *,
    members: int = 1,
    quantiles: Sequence[float] = (),
    interval: float | None = None,
    raw: bool = False,
    chances: bool = False,
    time: str | None = None,
    seed: int = 0,
    reference: Files | None = None,
    guard: str = "warn",
    tile: int | None = None,
    precision: str = "float32",
    compiled: bool = False,
    resume: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
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
        tile: coarse cells along a side of the pieces for which networks answer; None for what suits the domain.
        precision: of the numbers with which networks compute: "float32", or "bfloat16", which is faster and rounds.
        compiled: compile networks first, which takes half a minute and a C++ compiler.
        resume: go on with a run of the same job that was stopped; where it is finished already, nothing is done.
        workers: processes of this machine that work on blocks, or how many of `scheduler` to wait for.
        scheduler: address of a dask scheduler whose workers work on blocks, or its scheduler file.
        command: what to note in the history; by default the command line.
        progress: called with the times done and the times in all.

    Raises:
        InputError: when files do not suit the model or the output cannot be written; finished blocks are kept, and the
            message says how to go on.
        Interrupted: on Ctrl-C, when a block is finished.
    """
    watch, wanted = Watch(), checked(quantiles, members) if quantiles else ()
    options = Options(members, wanted, interval, raw, chances, seed, tile, precision, compiled)
    downscaler = options.loaded(model)
    honest = options.honesty(model, downscaler)
    target = Path(out).expanduser()
    check_target(target)
    with (
        stoppable() as stop,
        claimed(target, again=again(command)) as claim,
        connected(workers, scheduler) as client,
    ):
        with readable(coarse, reference):
            given = _given(model, downscaler, coarse, time, reference, guard)
        plan = Plan.of(downscaler, given.times, given.seen.sizes["time"], members)
        asked = {**asdict(options), "guard": guard, "format": target.suffix}
        identity = identity_of(model, downscaler, given.conserved, given.departure.typical, asked, asdict(plan))
        if resume and (done := _finished(target, run_of(identity))) is not None:
            given.looked.draw(target)
            return done
        claim.manifest, touched = begun(
            Manifest(claim.folder, identity, stamps_of(coarse, reference), plan.blocks), claim.empty, resume=resume
        )
        resumed = bool(claim.manifest.records)
        draw = partial(downscaler.blocks, given.seen, members=members, seed=seed, source=given.source)
        with readable(coarse, reference):
            honest = honest.adapted(claim.folder, lambda part: draw(times=part), given.times)
        blocks = options.blocks(downscaler, honest, given.departure, given.source)
        running = Running(blocks, given.seen, plan, (coarse, reference), progress, stop)
        first = None if client is not None or claim.manifest.records else running.draw(0)
        outline = running.outline(first)
        stop.gently()
        with Assembly(target, claim.manifest, plan, outline, stop) as assembly:
            running.recall(assembly, touched=touched)
            if client is None:
                running.here(assembly, first)
            else:
                share = _share(model, options, blocks, assembly, (coarse, reference))
                running.elsewhere(assembly, partial(by_workers, client, running, share))
            done, about = _told(blocks, given, target, plan)
            run = {"finegrid_run": claim.manifest.run}
            assembly.close(**about, **run, history=history_of(given.fields, command))
    given.looked.draw(target)
    if not resumed:
        remember(target, watch.seconds)
    return done


@dataclass(frozen=True, eq=False)
class Given:
    """The input of a job.

    Attributes:
        fields: in the user's names.
        seen: all times as the model sees them.
        times: which of these are wanted.
        conserved: the values that are conserved at these.
        looked: what the guard has found.
        departure: what measures blocks.
        notes: what a user should know.
    """

    fields: xr.Dataset
    seen: xr.Dataset
    times: range
    conserved: xr.Dataset
    looked: Guarded
    departure: Departure
    notes: tuple[str, ...]

    @property
    def source(self) -> str:
        """What the input is called in messages."""
        return provenance(self.fields, otherwise="the coarse input")


def _given(
    model: str | Path | Downscaler,
    downscaler: Downscaler,
    coarse: Files,
    time: str | None,
    reference: Files | None,
    guard: str,
) -> Given:
    """The input of a job, checked before anything is computed."""
    fields = _opened(coarse)
    chosen = times_of_period(fields, time)
    # Of the whole record: ranks within it, and the days beside the period, must not depend on the period.
    seen = downscaler.read(fields, reference=None if reference is None else open_fields(reference))
    looked = guarded(model, downscaler, fields, seen, chosen, guard)
    conserved = _settled(downscaler, looked.fields.isel(time=chosen), fields)
    departure = Departure.of(downscaler.domain, conserved, derived=downscaler.conservation.derived)
    times = range(looked.fields.sizes["time"])[chosen]
    notes = (*looked.notes, *downscaler.notes_on(fields))
    return Given(fields, looked.fields, times, conserved, looked, departure, notes)


def _share(
    model: str | Path | Downscaler, options: Options, blocks: Blocks, assembly: Assembly, paths: Sequence[Files | None]
) -> Share:
    """What workers have to know of a job; a model that is in no folder gets one."""
    folder = assembly.manifest.folder.absolute()
    if isinstance(model, Downscaler):
        model.save(folder / "model")
        model = folder / "model"
    return Share(
        model=str(Path(model).absolute()),
        digest=blocks.downscaler.digest,
        options=options,
        typical=tuple(blocks.departure.typical.items()),
        source=blocks.source,
        paths=tuple(str(path.absolute()) for each in paths if each is not None for path in expanded(each)),
        folder=str(folder),
        store=str(assembly.regions.path.absolute()),
        record=assembly.regions.record,
    )


def _told(blocks: Blocks, given: Given, target: Path, plan: Plan) -> tuple[Downscaled, dict[str, Any]]:
    """What was written, and the attributes that say so."""
    downscaler, honest, summary, departure = blocks.downscaler, blocks.honest, blocks.summary, blocks.departure
    words, violation = given.looked.words(conservation_words(downscaler, departure)), departure.largest
    notes = (*given.notes, *([] if summary is None else summary.notes))
    notes += (_ONE_OF_MANY,) if downscaler.random and blocks.members == 1 else ()
    notes += honest.notes
    more: dict[str, Any] = {}
    if summary is not None:
        more = {"finegrid_members_conservation_violation": violation}
        words, violation = f"{summary.words}; of the members, {words}", summary.departure.largest
    if honest.events is not None:
        words = f"chances of events by {honest.events.name}; of the members, {words}"
    about = about_of(downscaler, blocks.members, blocks.seed, given.fields, violation, words) | more
    about |= honest.about | given.looked.about
    about |= {"finegrid_notes": _BETWEEN.join(notes)} if notes else {}
    return Downscaled(target, plan.last - plan.first, violation, words, notes), about


def _finished(target: Path, run: str) -> Downscaled | None:
    """What an earlier run of the same job has written; None where there is nothing, or something else."""
    if not target.exists():
        return None
    try:
        made = open_fields(target)
        about, times = made.attrs, made.sizes[str(record_of(made))]
    except (InputError, KeyError):
        return None
    if about.get("finegrid_run") != run:
        return None
    notes = tuple(filter(None, str(about.get("finegrid_notes", "")).split(_BETWEEN)))
    violation, words = float(about["finegrid_conservation_violation"]), str(about["finegrid_conservation"])
    return Downscaled(target, times, violation, words, notes)


def _opened(coarse: Files) -> xr.Dataset:
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
