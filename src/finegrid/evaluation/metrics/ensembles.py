"""Is an ensemble honest: are its members as far apart as they are from the truth, and is the truth one of them?

    spread-skill    sqrt((M + 1) / M <s^2>) / sqrt(<(mean - t)^2>)

s^2 is the variance of the M members (with M - 1 in the denominator), t the truth. Where truth and members are drawn
from one distribution, the mean of the members misses the truth by more than they miss each other, by the factor
(M + 1) / M, and the ratio is one (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1). Below one there are too few
surprises in the ensemble, above one too many.

    rank            sum over r of |f_r - 1 / (M + 1)|,    r = 0, ..., M

f_r is how often r members lie below the truth (Hamill 2001,
doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2); an honest ensemble has all r equally often. The score is the
reliability index of Delle Monache et al. (2006, doi:10.1029/2005JD006917). Of finitely many times it is never quite
zero: the report draws how far a flat histogram would be from flat by chance.

Members that equal the truth, such as all on a dry day, leave r open: it is drawn among its possible values, by a number
that depends on the cell and the time alone. One member has no spread and no rank: its scores are NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric


def spread_and_error(block: Block) -> Array:
    """Variance that the error of the mean should have, and its square (2, time, y, x)."""
    members = len(block.prediction)
    if members < 2:
        return _nothing(block, 2)
    variance = ((block.prediction - block.mean) ** 2).sum(axis=0) / (members - 1)
    return np.stack([(members + 1) / members * variance, (block.mean - block.truth) ** 2])


def ranks(block: Block) -> Array:
    """One where so many members lie below the truth, zero elsewhere (M + 1, time, y, x)."""
    members = len(block.prediction)
    if members < 2:
        return _nothing(block, 2)
    below = (block.prediction < block.truth).sum(axis=0)
    equal = (block.prediction == block.truth).sum(axis=0)
    rank = below + np.floor(lots(block) * (equal + 1)).astype(np.int64)
    known = np.isfinite(block.truth) & np.isfinite(block.mean)
    possible = np.arange(members + 1)[:, None, None, None]
    return np.where(known, (rank == possible).astype(np.float64), np.nan)


def _nothing(block: Block, statistics: int) -> Array:
    return np.full((statistics, *block.truth.shape), np.nan)


def lots(block: Block) -> Array:
    """Numbers in [0, 1) of each time and cell (time, y, x), the same in whatever blocks they are asked for.

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195) of a running number.
    """
    mixed = _running(block) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)


def _running(block: Block) -> NDArray[np.uint64]:
    """Numbers from one on of each time and cell (time, y, x), among all times and all cells of the grid."""
    firsts, sides = (block.first, *block.corner), block.reference.grid.shape
    time, row, column = (
        np.arange(first, first + count, dtype=np.uint64) for first, count in zip(firsts, block.truth.shape, strict=True)
    )
    rows, columns = (np.uint64(side) for side in sides)
    return np.asarray(((time[:, None, None] * rows + row[:, None]) * columns + column) + np.uint64(1))


def _spread_over_error(means: Array) -> Array:
    return np.sqrt(ratio(means[0], means[1]))


def _departure_from_flat(means: Array) -> Array:
    return np.asarray(np.abs(means - 1 / len(means)).sum(axis=0))


SPREAD_SKILL = Metric(
    "spread-skill",
    "spread over error",
    spread_and_error,
    _spread_over_error,
    best=1.0,
    proportional=True,
    of_members=True,
    cellwise=True,
    asks=(),
)
RANK = Metric("rank", "rank departure", ranks, _departure_from_flat, of_members=True, cellwise=True, asks=())
