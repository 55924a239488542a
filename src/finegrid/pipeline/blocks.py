"""How a job is cut into blocks of times, and what is made of each, whoever does it and in whatever order.

A member is a function of seed, number and time stamp; calibrations, quantiles and chances look at one time after the
other, or were shown the record before the first block. So a block is a function of the job and of its coarse values,
and what is measured of blocks is put together by largest values and sums.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import dask.array
import numpy as np
import xarray as xr

from finegrid.backbones.manner import Manner
from finegrid.conventions import restore
from finegrid.data.regions import Regions
from finegrid.data.stores import Layout
from finegrid.data.write import record_of
from finegrid.downscalers import Downscaler, load
from finegrid.downscalers.members import check_members
from finegrid.downscalers.windows import Seen, Window, windows
from finegrid.pipeline.departure import Departure, Found
from finegrid.pipeline.honest import Honesty, honesty
from finegrid.pipeline.manifest import Record
from finegrid.pipeline.quantiles import Summary


@dataclass(frozen=True)
class Options:
    """What is made of a model and coarse fields, as plain values (`pipeline.downscale` says what each means)."""

    members: int = 1
    quantiles: tuple[float, ...] = ()
    interval: float | None = None
    raw: bool = False
    chances: bool = False
    seed: int = 0
    tile: int | None = None
    precision: str = "float32"
    compiled: bool = False

    def loaded(self, model: str | Path | Downscaler) -> Downscaler:
        """The model.

        Raises:
            InputError: when it cannot make so many members.
        """
        downscaler = model if isinstance(model, Downscaler) else load(model)
        check_members(self.members, downscaler.name, random=downscaler.random)
        return downscaler.answering(Manner(self.tile, self.precision, self.compiled))

    def honesty(self, model: str | Path | Downscaler, downscaler: Downscaler) -> Honesty:
        """What is made of its members, before a calibration has looked at the predictions to come.

        Raises:
            InputError: when the model folder does not hold what is wanted.
        """
        return honesty(
            model,
            downscaler,
            self.members,
            interval=self.interval,
            raw=self.raw,
            quantiles=self.quantiles,
            chances=self.chances,
        )

    def blocks(self, downscaler: Downscaler, honest: Honesty, departure: Departure, source: str) -> Blocks:
        """What makes the blocks."""
        ends = self.quantiles or honest.ends
        member = downscaler.domain.names.member
        summary = Summary(ends, self.members, member, departure.fresh(), honest.made) if ends else None
        return Blocks(downscaler, honest, departure, summary, self.members, self.seed, source)


@dataclass(frozen=True)
class Plan:
    """Which times belong to which block; it depends on model, members and times alone.

    Attributes:
        first: time of the record that is the first of the output.
        last: the one behind its last.
        count: times of the record.
        steps: times in a block.
        chunk: times in a chunk of a Zarr store; a block is some of them.
        reach: neighbouring times on either side that a prediction looks at.
    """

    first: int
    last: int
    count: int
    steps: int
    chunk: int
    reach: int

    @classmethod
    def of(cls, downscaler: Downscaler, times: range, count: int, members: int) -> Plan:
        """The plan for some times of a record, with blocks of about as many times as the model predicts at once."""
        usual = downscaler.times_at_once(members)
        shape = downscaler.domain.true_grid.shape
        layout = Layout(("time", "y", "x"), (1, *shape), np.dtype(np.float32), record="time")
        pieces = -(-usual // layout.chunks()[0])
        chunk = usual // pieces
        return cls(times.start, times.stop, count, chunk * pieces, chunk, downscaler._reach)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-(self.last - self.first) // self.steps)

    def window(self, number: int) -> Window:
        """What a block is of the record."""
        start = self.first + number * self.steps
        wanted = range(start, min(start + self.steps, self.last))
        return next(windows(wanted, self.count, steps=self.steps, reach=self.reach))

    def times(self, number: int) -> range:
        """What it is of the output."""
        start = number * self.steps
        return range(start, min(start + self.steps, self.last - self.first))


@dataclass(frozen=True, eq=False)
class Blocks:
    """What makes the blocks of an output.

    Attributes:
        downscaler: the model.
        honest: what is made of its members.
        departure: how far members depart from the coarse field.
        summary: what takes quantiles or intervals and measures them; None where members or chances are written.
        members: size of the ensemble.
        seed: of the ensemble.
        source: name of the coarse files, for messages.
    """

    downscaler: Downscaler
    honest: Honesty
    departure: Departure
    summary: Summary | None
    members: int
    seed: int
    source: str

    def draw(self, fields: xr.Dataset, window: Window) -> xr.Dataset:
        """Members of a block, in the user's names, from the fields that have been read for it."""
        seen = Seen(fields, window)
        block = self.downscaler.block(seen, members=self.members, seed=self.seed, source=self.source)
        return self.honest.members(block, fields.isel(time=window.inner))

    def finish(self, block: xr.Dataset, fields: xr.Dataset, window: Window) -> tuple[xr.Dataset, Found, Found | None]:
        """What is written of a block of members, how far these depart from the coarse field, and how far that does."""
        coarse = self.downscaler.domain.inputs.conserved(fields.isel(time=window.inner))
        departure = self.departure.fresh()
        departure.add(block, coarse)
        if self.honest.events is not None:
            block = self.honest.events.probability(block)
        if self.summary is None:
            return block, departure.found, None
        summary = replace(self.summary, departure=self.summary.departure.fresh())
        return summary.of(block, coarse), departure.found, summary.departure.found

    def sample(self, seen: xr.Dataset, plan: Plan) -> xr.Dataset:
        """What is written of the first time alone: what blocks look like."""
        window = replace(plan, last=plan.first + 1).window(0)
        fields = seen.isel(time=window.read).load()
        return self.finish(self.draw(fields, window), fields, window)[0]

    def sampled(self, drawn: Drawn) -> xr.Dataset:
        """The same of a block that was drawn."""
        start = drawn.window.inner.start
        window = replace(drawn.window, inner=slice(start, start + 1))
        return self.finish(drawn.block.isel({str(record_of(drawn.block)): [0]}), drawn.fields, window)[0]

    def include(self, record: Record) -> None:
        """Take in what was measured of a finished block."""
        self.departure.include(record.members)
        if self.summary is not None and record.summary is not None:
            self.summary.departure.include(record.summary)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Members of a block on their way to the disk.

    Attributes:
        number: of the block.
        block: members, in the user's names.
        fields: what was read for them.
        window: which of these times they are of.
    """

    number: int
    block: xr.Dataset
    fields: xr.Dataset
    window: Window

    def put(self, blocks: Blocks, regions: Regions, start: int) -> tuple[Record, xr.Dataset]:
        """Write what is made of them from a time of the output on; its record, and what was written."""
        made, members, summary = blocks.finish(self.block, self.fields, self.window)
        written = regions.put(made, start)
        return Record(self.number, written, sum_of(self.fields), members, summary), made


def sum_of(fields: xr.Dataset) -> int:
    """CRC-32 of all values of fields in memory."""
    found = 0
    for name in sorted(map(str, fields.data_vars)):
        found = zlib.crc32(np.ascontiguousarray(fields[name].values).data, zlib.crc32(name.encode(), found))
    return found


def outline(downscaler: Downscaler, template: xr.Dataset, time: xr.DataArray) -> xr.Dataset:
    """All that is written but the values of the fields, which are lazy zeros.

    Args:
        downscaler: the model.
        template: what is written of some of the times.
        time: all times, as the model reads them.
    """
    domain = downscaler.domain
    empty = dask.array.zeros((1, len(time), *domain.grid.shape), dtype=np.float32, chunks=-1)
    fields = dict.fromkeys(domain.outputs, (("member", "time", "y", "x"), empty))
    coords = {**domain.grid.coords(), "time": time, "member": [0]}
    frame = restore(domain.described(xr.Dataset(fields, coords=coords)), domain.names)
    record = record_of(frame)
    timed = {name: each for name, each in frame.coords.items() if record in each.dims}
    long = {name: _longer(each.variable, record, len(time)) for name, each in template.data_vars.items()}
    bare = template.drop_vars([*template.data_vars, *timed])
    whole = bare.assign_coords(timed).assign(long)
    return whole[[str(name) for name in template.variables]]  # in the order of the blocks


def _longer(field: xr.Variable, record: str | None, count: int) -> xr.Variable:
    """A field with so many times, lazy zeros."""
    shape = [count if dim == record else size for dim, size in field.sizes.items()]
    zeros = dask.array.zeros(shape, dtype=field.dtype, chunks=-1)
    return xr.Variable(field.dims, zeros, field.attrs, field.encoding)
