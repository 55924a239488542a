"""Blocks made by workers of dask.distributed: processes of this machine, or those of a scheduler that runs elsewhere.

A worker gets the number of a block and where its coarse values are, reads these, makes the block, and writes it into
the store, of which no two blocks share a file. What comes back is the record of the block. Dask starts a block again
whose worker was lost; written twice, it is the same. Model, coarse files and output have to lie on disks that all see.

Source: Rocklin, "Dask: parallel computation with blocked algorithms and task scheduling", SciPy 2015,
doi:10.25080/Majora-7b98e3ed-013.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from dask.base import optimize

from finegrid import __version__
from finegrid.conventions import InputError
from finegrid.data.working import Workers, alone
from finegrid.pipeline.manifest import Record
from finegrid.pipeline.running import Running
from finegrid.pipeline.share import Parcel, Share, made, version, worked, wrong_version

if TYPE_CHECKING:
    from distributed import Client, Future

# Seconds to wait for a scheduler to answer; and for workers, which a queue may start later.
_ANSWER, _WORKERS = 10, 600
# Seconds between looks whether there are still workers, and looks without any before nobody waits any longer.
_LOOK, _LOOKS = 30, 20
# Blocks that are on their way for every thread of a worker.
_AHEAD = 2
# Dask has workers give memory back after every array, and scores of large fields take twice as long.
_ENVIRON, _TRIM = "distributed.nanny.pre-spawn-environ", "MALLOC_TRIM_THRESHOLD_"


@contextmanager
def connected(workers: int | None, scheduler: str | None) -> Iterator[Client | None]:
    """A client of the workers that are asked for; None where none are.

    Args:
        workers: number of processes of this machine, or of workers of the scheduler to wait for.
        scheduler: its address or its file; None for processes of this machine.

    Raises:
        InputError: when dask.distributed is not installed, the scheduler does not answer, no workers come, or they have
            another finegrid.
    """
    if workers is None and scheduler is None:
        yield None
        return
    with _cluster(workers, scheduler) as where, _client(where) as client:
        try:
            client.wait_for_workers(workers or 1, timeout=_WORKERS)
        except TimeoutError:
            raise InputError(
                f"got {_threads(client)} workers of {scheduler} within {_WORKERS} s; expected {workers or 1}; start "
                f"them with `dask worker {scheduler} --nthreads 1`, or lower --workers"
            ) from None
        _check_versions(client)
        yield client


def by_workers(client: Client, running: Running, share: Share, numbers: Sequence[int]) -> Iterator[Record]:
    """The records of blocks that workers make, as they come.

    Raises:
        InputError: when workers die again and again, none are left, or the scheduler is lost; and what a block raises.
    """
    left, pending = list(reversed(numbers)), dict[Any, int]()
    try:
        with _failures():
            while left or pending:
                while left and len(pending) < _AHEAD * max(1, _threads(client)):
                    number = left.pop()
                    pending[_sent(client, running, share, number)] = number
                for future in _done(client, pending):
                    del pending[future]
                    yield future.result()
    finally:
        if client.status == "running":
            client.cancel(list(pending))


def workers_of(client: Client | None) -> Workers:
    """The workers of a client as those who work on pieces; this process where there is none.

    Results come in order, and no more pieces are on their way than keep every worker busy.
    """
    return alone if client is None else partial(_by_client, client)


def _by_client(
    client: Client, read: Callable[[Any], Any], work: Callable[[Any], Any], pieces: Iterable[Any]
) -> Iterator[Any]:
    left, pending = iter(pieces), deque[Any]()
    try:
        with _failures():
            (job,) = client.scatter([(read, work)], broadcast=True, hash=False)
            while True:
                few = max(1, _AHEAD * _threads(client) - len(pending))
                pending += [client.submit(worked, job, *optimize(each), pure=False) for each in islice(left, few)]  # type: ignore[no-untyped-call]
                if not pending:
                    return
                yield _result(client, pending.popleft())
    finally:
        if client.status == "running":
            client.cancel(list(pending))


def _sent(client: Client, running: Running, share: Share, number: int) -> Future:
    """A block on its way, with no more of the plan of its input than it needs."""
    window = running.plan.window(number)
    (fields,) = optimize(running.seen.isel(time=window.read))  # type: ignore[no-untyped-call]
    parcel = Parcel(number, running.plan.times(number).start, fields, window)
    return client.submit(made, share, parcel, pure=False, key=f"finegrid-block-{number}-{id(running)}")


def _done(client: Client, pending: dict[Any, int]) -> list[Any]:
    """Blocks that are finished, at least one.

    Raises:
        InputError: when there have been no workers for long.
    """
    from distributed import wait

    for _ in _until_alone(client):
        try:
            with client.as_current():
                return list(wait(list(pending), timeout=_LOOK, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            continue
    raise _no_workers()


def _result(client: Client, future: Future) -> Any:
    """What a worker found.

    Raises:
        InputError: when there have been no workers for long.
    """
    for _ in _until_alone(client):
        try:
            return future.result(timeout=_LOOK)
        except TimeoutError:
            if future.done():
                raise
    raise _no_workers()


def _no_workers() -> InputError:
    return InputError(
        f"there have been no workers for {_LOOK * _LOOKS} s; expected some to do the work; start them with `dask "
        "worker ADDRESS --nthreads 1`"
    )


def _until_alone(client: Client) -> Iterator[None]:
    """Again and again, until there are no workers for long."""
    alone = 0
    while alone < _LOOKS:
        yield
        alone = 0 if _threads(client) else alone + 1


def _threads(client: Client) -> int:
    return sum(client.nthreads().values())


@contextmanager
def processes(count: int) -> Iterator[Any]:
    """A cluster of so many processes of this machine, with one thread each."""
    from distributed import LocalCluster

    environ = {name: each for name, each in dask.config.get(_ENVIRON).items() if name != _TRIM}
    quiet = {"silence_logs": logging.CRITICAL, "dashboard_address": ":0"}
    with (
        dask.config.set({_ENVIRON: environ}),
        LocalCluster(n_workers=count, threads_per_worker=1, processes=True, **quiet) as cluster,
    ):
        yield cluster


@contextmanager
def _cluster(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """Where the scheduler is: what a client wants to know."""
    if find_spec("distributed") is None:
        raise InputError(
            "got --workers or --scheduler without dask.distributed; expected it to be installed; run `pip install "
            "'finegrid[cluster]'`"
        )
    if scheduler is None:
        with processes(workers or 1) as cluster:
            yield {"address": cluster}
    elif not scheduler.endswith(".json"):
        yield {"address": scheduler}
    elif Path(scheduler).exists():
        yield {"scheduler_file": scheduler}
    else:
        raise InputError(
            f"there is no file {scheduler}; expected what `dask scheduler --scheduler-file {scheduler}` writes; start "
            "it, or give its address, such as tcp://host:8786"
        )


@contextmanager
def _client(where: dict[str, Any]) -> Iterator[Client]:
    from distributed import Client

    try:
        # Not the default one: what this process computes itself stays here.
        client = Client(**where, timeout=_ANSWER, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"the scheduler {where.get('address', where.get('scheduler_file'))} does not answer within {_ANSWER} s "
            f"({error}); expected the address that `dask scheduler` prints, such as tcp://host:8786; check that it "
            "runs and that this machine reaches it, or take --workers for processes of this machine"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=_ANSWER)


def _check_versions(client: Client) -> None:
    try:
        with _failures():
            found = client.run(version)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"workers cannot load finegrid ({error}); expected finegrid {__version__} there too; install it where they "
            "run, and start them again"
        ) from error
    wrong = {name: each for name, each in found.items() if each != __version__}
    if wrong:
        raise wrong_version(wrong, __version__)


@contextmanager
def _failures() -> Iterator[None]:
    """What the cluster raises, in words."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise InputError(
            f"workers died again and again over one block ({error}); expected them to last, most likely with more "
            "memory; take fewer --workers, or give each more memory"
        ) from error
    except (CommClosedError, CancelledError, asyncio.CancelledError) as error:
        raise InputError(
            f"the scheduler or its workers were lost ({error}); expected them to last as long as the job; start them "
            "again"
        ) from error
