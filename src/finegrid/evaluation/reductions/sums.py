"""Weighted sums of statistics for each group, time, row or column, as a graph of blocks.

    score(g, r) = finish(S_1 / W, S_2 / W, ...)
    S_k(g, r) = sum_i w_i s_k(i),    W(g, r) = sum_i w_i

over the known points i of group g at the kept coordinates r. Each block of the fields gives its sums; they are added
up, whatever the chunks are, and then finished. A point is known where members and truth are, and all statistics of
it; the weights are the areas of the cells. It is the sum of `averaging`, over fewer points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics import Block, Metric, Reference
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import Stored, finite
from finegrid.evaluation.reductions.groups import Codes
from finegrid.evaluation.reductions.pairs import Pair

AXES = ("time", "y", "x")
_LETTERS = "tyx"
# Values of a prediction in a block of the graph: 128 MB as float32.
_IN_BLOCK = 1 << 25


@dataclass(frozen=True)
class Plan:
    """What is summed over what.

    Attributes:
        metric: of which the statistics are summed.
        kept: those of time, y and x that stay.
        counts: number of groups by each kind of label.
        members: number of members where each is judged by itself.
        threshold: of the event, where it is given.
    """

    metric: Metric
    kept: tuple[str, ...]
    counts: tuple[int, ...] = ()
    members: int | None = None
    threshold: float | None = None

    @property
    def groups(self) -> int:
        """Number of groups by all kinds of labels together."""
        return math.prod(self.counts)


@dataclass(frozen=True, eq=False)
class _Part:
    """A block with the group of each point (time, y, x), or fewer that fit, and its weights (y, x)."""

    block: Block
    groups: Codes
    weights: Array


def scores_of(pair: Pair, plan: Plan) -> Any:
    """Scores (member, *group, *kept): a dask array of lazy fields, a NumPy array of others."""
    sums = _graph(pair, plan) if pair.lazy else _at_once(pair, plan)
    members = () if plan.members is None else (plan.members,)
    return sums.reshape((*members, *plan.counts, *sums.shape[1:]))


def _at_once(pair: Pair, plan: Plan) -> Array:
    """Scores (group, *kept) of fields in memory."""
    fields = pair.prediction.values, pair.truth.values, _weights(pair, plan), _reference(pair, plan)
    sums = _block_sums(plan, *fields, *(np.arange(size) for size in pair.truth.shape), *pair.codes)
    return _finished(plan.metric, sums.sum(axis=_gone(plan)))


def _graph(pair: Pair, plan: Plan) -> Any:
    """Scores (group, *kept) of lazy fields."""
    prediction, truth = _chunked(pair, plan.metric)
    numbers = [part for size, letter in zip(truth.shape, _LETTERS, strict=True) for part in (np.arange(size), letter)]
    sums = dask.array.blockwise(  # type: ignore[no-untyped-call]
        partial(_block_sums, plan),
        "mkgtyx",
        *(prediction.data, "mtyx", truth.data, "tyx", _weights(pair, plan), "yx", _reference(pair, plan), None),
        *numbers,
        *(part for codes in pair.codes for part in (codes, _LETTERS)),
        new_axes={"k": np.nan, "g": plan.groups * (plan.members or 1)},
        adjust_chunks={axis[0]: _one for axis in ("member", *AXES) if axis not in plan.kept},
        dtype=np.float64,
        meta=np.empty((0,) * 6),
    ).sum(axis=_gone(plan))
    meta = np.empty((0,) * (sums.ndim - 1))
    return sums.map_blocks(partial(_finished, plan.metric), drop_axis=0, dtype=np.float64, meta=meta)


def _gone(plan: Plan) -> tuple[int, ...]:
    """Axes of (member, statistic, group, time, y, x) that are summed over."""
    return (0, *(number for number, axis in enumerate(AXES, 3) if axis not in plan.kept))


def _weights(pair: Pair, plan: Plan) -> Array:
    return np.broadcast_to(plan.metric.weights(Reference.unread(pair.truth)), pair.truth.shape[1:])


def _one(size: int) -> int:
    return 1


def _chunked(pair: Pair, metric: Metric) -> tuple[xr.DataArray, xr.DataArray]:
    """Both fields in chunks that hold all members, and the whole field where the metric judges fields."""
    whole = {} if metric.cellwise else {"y": -1, "x": -1}
    prediction, truth = pair.prediction.chunk({"member": -1, **whole}), pair.truth.chunk(whole)
    sides = (max(prediction.chunksizes[dim]) for dim in ("member", "y", "x"))
    most = max(1, _IN_BLOCK // math.prod(sides))
    return (prediction if max(prediction.chunksizes["time"]) <= most else prediction.chunk(time=most)), truth


def _reference(pair: Pair, plan: Plan) -> Any:
    """What the metric has to know of the truth; read when the scores are computed if the truth is lazy."""
    given = set() if plan.threshold is None else {"threshold"}
    if plan.metric.asks is not None and set(plan.metric.asks) <= given:
        return Reference.unread(pair.truth, threshold=np.nan if plan.threshold is None else plan.threshold)
    read = partial(_read, pair.truth, plan)
    # Within a partial function the truth is not computed as a whole before it is called.
    return delayed(read, pure=False)() if pair.truth.chunks is not None else read()


def _read(truth: xr.DataArray, plan: Plan) -> Reference:
    reference = Reference.of(truth, threshold=plan.threshold)
    plan.metric.check_applies(reference)
    return reference


def _block_sums(
    plan: Plan,
    members: NDArray[Any],
    truth: NDArray[Any],
    weights: Array,
    reference: Reference,
    times: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    *codes: Codes,
) -> Array:
    """Sums and weights (1, statistic + 1, group, time, y, x) of a block; one where an axis is not kept."""
    if reference.climate is not None:
        cells = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        reference = replace(reference, climate=reference.climate[cells])
    corner = (int(rows[0]), int(columns[0]))
    whole = Block(finite(members), np.asarray(finite(truth), dtype=np.float64), reference, None, int(times[0]), corner)
    part = _Part(whole, _numbered(codes, plan.counts), weights)
    sums = [_sums(each, plan) for each in _parts(part)]
    return np.concatenate(sums, axis=2)[None] if "time" in plan.kept else np.asarray(sum(sums))[None]


def _numbered(codes: tuple[Codes, ...], counts: tuple[int, ...]) -> Codes:
    """One number for the groups by all labels, -1 where one of them is missing."""
    number, known = np.zeros((1, 1, 1), dtype=np.int64), np.ones((1, 1, 1), dtype=bool)
    for each, count in zip(codes, counts, strict=True):
        number, known = number * count + each, known & (each >= 0)
    return np.where(known, number, -1)


def _parts(whole: _Part) -> Iterator[_Part]:
    """Times that are scored at once."""
    block = whole.block
    for part in parts_of(len(block.truth), block.stored[:, :1].size):
        groups = whole.groups if len(whole.groups) == 1 else whole.groups[part]
        cut = replace(block, stored=block.stored[:, part], truth=block.truth[part], first=block.first + part.start)
        yield replace(whole, block=cut, groups=groups)


def _sums(part: _Part, plan: Plan) -> Array:
    """Sums of all members together, or of each of them behind each other."""
    members = part.block.stored
    judged = [members] if plan.members is None else [members[number : number + 1] for number in range(len(members))]
    return np.concatenate([_sums_of(members, part, plan) for members in judged], axis=1)


def _sums_of(members: Stored, part: _Part, plan: Plan) -> Array:
    block = replace(part.block, stored=members)
    # Cells in which a member is missing count as little as those without a truth.
    block = replace(block, truth=np.where(np.isfinite(block.mean), block.truth, np.nan))
    if plan.metric.cellwise:
        values = plan.metric.statistics(block)
        known = np.isfinite(values).all(axis=0)
        weights = np.where(known, part.weights, 0.0)
        return _binned(np.concatenate([np.where(known, values, 0.0) * weights, weights[None]]), part.groups, plan)
    if part.groups.shape[1:] == (1, 1):
        return _binned(_of_times(block, plan.metric), part.groups, plan)
    return _sums_of_places(block, part, plan)


def _sums_of_places(block: Block, part: _Part, plan: Plan) -> Array:
    """Sums of a metric that counts cases of whole fields: each group as if there were no other place."""
    groups = np.broadcast_to(part.groups, block.truth.shape)
    found: list[Array] = [
        _binned(
            _of_times(replace(block, truth=np.where(groups == number, block.truth, np.nan)), plan.metric),
            np.full((1, 1, 1), number),
            plan,
        )
        for number in range(plan.groups)
    ]
    return np.asarray(sum(found))


def _of_times(block: Block, metric: Metric) -> Array:
    totals = metric.totals(block)
    return np.concatenate([totals.sums, totals.weights[None]])[..., None, None]


def _binned(sums: Array, groups: Codes, plan: Plan) -> Array:
    """Sums (statistic, time, y, x) added up within groups and along the axes that are not kept."""
    sizes = [size if axis in plan.kept else 1 for axis, size in zip(AXES, sums.shape[1:], strict=True)]
    places = np.arange(math.prod(sizes)).reshape(sizes)
    beyond = plan.groups * places.size
    bins = np.where(groups >= 0, groups * places.size + places, beyond)
    flat = np.broadcast_to(bins, sums.shape[1:]).ravel()
    counted = [np.bincount(flat, each.ravel(), minlength=beyond + 1)[:beyond] for each in sums]
    return np.array(counted, dtype=np.float64).reshape(len(sums), plan.groups, *sizes)


def _finished(metric: Metric, sums: Array) -> Array:
    means = ratio(sums[:-1], sums[-1])
    return np.asarray(metric.finish(means.reshape(len(means), -1))).reshape(means.shape[1:])
