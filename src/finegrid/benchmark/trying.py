"""Trials of several methods: taken from the shelf or made, one after another or in several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from os import cpu_count

from finegrid.benchmark.fitting import protocol_of
from finegrid.benchmark.folds import Protocol
from finegrid.benchmark.trials import Order, Shelf, Trial
from finegrid.conventions import InputError
from finegrid.downscalers.processors import processors
from finegrid.pipeline.material import Material


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of an order.

    Attributes:
        trial: what was made, or why it could not be.
        kept: whether an earlier run had made it.
    """

    trial: Trial | InputError
    kept: bool


@dataclass(frozen=True)
class Tried:
    """Methods that were fitted.

    Attributes:
        trials: one for each method and seed.
        inapplicable: reasons by method name.
    """

    trials: tuple[Trial, ...]
    inapplicable: Mapping[str, str]


def tried(
    orders: Sequence[Order],
    shelf: Shelf | None,
    material: Material,
    division: Protocol,
    *,
    say: Callable[[str], None],
    progress: bool = False,
) -> Tried:
    """All trials of a task, kept ones before new ones are made, and why methods do not apply.

    Raises:
        InputError: when no method applies.
    """
    trials: list[Trial] = []
    inapplicable: dict[str, str] = {}
    for order in orders:
        if order.method in inapplicable:
            continue
        found = found_or_made(order, shelf, material, division, progress=progress)
        if isinstance(found.trial, InputError):
            inapplicable[order.method] = str(found.trial)
            say(f"{order.method}: not applicable: {found.trial}")
            continue
        trials.append(found.trial)
        known = "kept from an earlier run, " if found.kept else ""
        say(f"{found.trial.label}: {known}fitted in {found.trial.seconds:.1f} s")
    if not trials:
        raise InputError(f"no method applies to {orders[0].task.name}: " + "; ".join(inapplicable.values()))
    return Tried(tuple(trials), inapplicable)


def found_or_made(
    order: Order, shelf: Shelf | None, material: Material, division: Protocol, *, progress: bool = False
) -> Outcome:
    """A trial from the shelf, or a new one that is put there."""
    if shelf is None:
        return Outcome(_attempted(order, material, division, progress=progress), kept=False)
    key = order.key(material)
    found = shelf.found(order, key)
    if found is not None:
        return Outcome(found, kept=True)
    made = _attempted(order, material, division, progress=progress)
    shelf.keep(order, key, made, material.at(division.parts[-1].learning)[0])
    return Outcome(made, kept=False)


def _attempted(order: Order, material: Material, protocol: Protocol, *, progress: bool) -> Trial | InputError:
    """A trial, or why it could not be made."""
    try:
        return order.carried_out(material, protocol, progress=progress)
    except InputError as error:
        return error


def made_beside(orders: Sequence[Order], shelf: Shelf, workers: int) -> Iterator[tuple[Order, bool]]:
    """Make trials in several processes and put them on the shelf; tells of each whether it was made now."""
    threads = max(1, (cpu_count() or 1) // workers)
    with _processes(workers) as pool:
        waiting = {pool.submit(_made, order, shelf, threads): order for order in orders}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that are not waited for when a run is stopped."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _made(order: Order, shelf: Shelf, threads: int) -> bool:
    with processors(threads):
        material = order.task.material()
        return not found_or_made(order, shelf, material, protocol_of(order.task, material, order.folds)).kept
