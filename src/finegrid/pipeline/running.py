"""The blocks that a job has left: made by this process, one while the other is written, or by workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from finegrid.data.damage import readable
from finegrid.data.working import ahead
from finegrid.pipeline.assembly import Assembly
from finegrid.pipeline.blocks import Blocks, Drawn, Plan, outline, sum_of
from finegrid.pipeline.manifest import Record
from finegrid.pipeline.memory import steady
from finegrid.pipeline.stopping import Stop
from finegrid.pipeline.turns import in_turn

Files = str | Path | Sequence[str | Path]
Made = Callable[[Sequence[int]], Iterable[Record]]
"""Blocks that others make and put into the store: of their numbers, their records as they come."""


@dataclass(frozen=True, eq=False)
class Running:
    """A job at work.

    Attributes:
        blocks: what makes blocks.
        seen: coarse fields as the model sees them, lazily.
        plan: which times belong to which block.
        paths: of the files that are read.
        progress: called with the times done and the times in all.
        stop: whether it was asked to stop.
    """

    blocks: Blocks
    seen: xr.Dataset
    plan: Plan
    paths: Sequence[Files | None]
    progress: Callable[[int, int], None]
    stop: Stop

    def fields(self, number: int) -> xr.Dataset:
        """The coarse fields that are read for a block."""
        with readable(*self.paths):
            return self.seen.isel(time=self.plan.window(number).read).load()

    def draw(self, number: int, fields: xr.Dataset | None = None) -> Drawn:
        """Members of a block, of which the fields may have been read."""
        fields, window = self.fields(number) if fields is None else fields, self.plan.window(number)
        return Drawn(number, self.blocks.draw(fields, window), fields, window)

    def outline(self, first: Drawn | None) -> xr.Dataset:
        """The whole output without its values; of the first block, or of the first time alone."""
        times = slice(self.plan.first, self.plan.last)
        if first is None:
            with readable(*self.paths):
                template = self.blocks.sample(self.seen, self.plan)
        else:
            template = self.blocks.sampled(first)
        return outline(self.blocks.downscaler, template, self.seen.time[times])

    def recall(self, assembly: Assembly, *, touched: bool) -> None:
        """Take in what is finished; what was damaged meanwhile, or made of other input, is to be made again.

        Args:
            assembly: what is written.
            touched: whether a file was changed since a block was made of it.
        """
        records = assembly.manifest.records
        with self.stop.at_once():
            for number in assembly.damaged():
                del records[number]
            for number in list(records) if touched else []:
                if sum_of(self.fields(number)) != records[number].read:
                    del records[number]
        for record in records.values():
            self.blocks.include(record)
        self._tell(assembly)

    def here(self, assembly: Assembly, first: Drawn | None) -> None:
        """Make what is left, measuring and writing a block while the next one is made, and reading the one after it."""

        def keep(drawn: Drawn) -> None:
            record, values = drawn.put(self.blocks, assembly.regions, self.plan.times(drawn.number).start)
            self._keep(assembly, record, values)

        numbers = [number for number in self._left(assembly) if first is None or number != first.number]
        with in_turn(keep) as put, closing(ahead(self.fields, numbers)) as reads, steady() as collect:
            if first is not None:
                put(first)
            for number in numbers:
                self.stop.check()
                with self.stop.at_once():
                    drawn = self.draw(number, next(reads))
                put(drawn)
                collect()

    def elsewhere(self, assembly: Assembly, made: Made) -> None:
        """Have others make what is left."""

        def keep(record: Record) -> None:
            self._keep(assembly, record)

        with in_turn(keep) as put:
            records = iter(made(self._left(assembly)))
            while True:
                with self.stop.at_once():
                    record = next(records, None)
                if record is None:
                    break
                put(record)

    def _left(self, assembly: Assembly) -> list[int]:
        return [number for number in range(self.plan.blocks) if number not in assembly.manifest.records]

    def _keep(self, assembly: Assembly, record: Record, values: xr.Dataset | None = None) -> None:
        self.blocks.include(record)
        assembly.accept(record, values)
        self._tell(assembly)

    def _tell(self, assembly: Assembly) -> None:
        done = sum(len(self.plan.times(number)) for number in assembly.manifest.records)
        if done:
            self.progress(done, self.plan.last - self.plan.first)
