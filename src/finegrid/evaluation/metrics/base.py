"""What a metric is: a statistic per point, a weighted mean over points and times, and a finish.

    score = finish(mean(statistic_1), mean(statistic_2), ...)

The root-mean-square error is `(prediction - truth)**2`, averaged, then the square root. Splitting it so
keeps weights and missing cells in one place (`averaging`), lets fields stream through in blocks of time, and
gives the bootstrap per-time sums that it can draw from at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.working import ahead
from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.metrics.reading import Stored, loaded, reads_of, stored_each
from finegrid.evaluation.metrics.reference import Reference

# Values of a prediction held at once: 16 MB as float64, and some twenty fields of that size while it is scored.
_VALUES_AT_ONCE = 2_000_000

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Block:
    """Consecutive times of one variable, missing values as NaN.

    Attributes:
        stored: members of the prediction as they are kept, float32 or float64 (member, time, y, x).
        truth: (time, y, x).
        reference: what is known about the truth as a whole.
        coarse: (time, y, x) on the coarse grid, where there is one.
        first: number of its first time among all times.
        corner: row and column of its first cell in the grid of the reference, of which it may be a part.
    """

    stored: Stored
    truth: Array
    reference: Reference
    coarse: Array | None = None
    first: int = 0
    corner: tuple[int, int] = (0, 0)
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def prediction(self) -> Array:
        """The members in double precision (member, time, y, x)."""
        return np.asarray(self.stored, dtype=np.float64)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Where there is a truth to compare with (time, y, x)."""
        return np.isfinite(self.truth)

    @cached_property
    def mean(self) -> Array:
        """Mean over the members (time, y, x)."""
        return np.asarray(self.stored.mean(axis=0, dtype=np.float64))

    def once(self, work: Callable[[Block], _Found]) -> _Found:
        """What `work` finds in the block, found once however many metrics ask for it."""
        if work not in self._made:
            self._made[work] = work(self)
        found: _Found = self._made[work]
        return found

    def missing(self) -> int:
        """Number of cells and times with a truth and no finite prediction."""
        return int((self.known & ~np.isfinite(self.mean)).sum())


def area_weights(reference: Reference) -> Array:
    """Areas of the fine cells."""
    return reference.grid.area


def equal_weights(reference: Reference) -> Array:
    """The same weight for every point."""
    return np.ones(())


def always(reference: Reference) -> bool:
    """Every variable."""
    return True


def rounding(reference: Reference) -> float:
    """Differences of values that are no larger than this are rounding."""
    return 1e-12 * max(abs(reference.lowest), abs(reference.highest))


def absolute(difference: Array) -> Array:
    """Distance of a score from the best one on a plain scale."""
    return np.abs(difference)


@dataclass(frozen=True)
class Metric:
    """A score of predictions (member, time, y, x) against a truth (time, y, x).

    Attributes:
        name: as in METRICS.
        title: for people.
        statistics: from a block to statistics per point (statistic, time, *points).
        finish: from mean statistics (statistic, ...) to scores (...).
        best: the score of a perfect prediction; infinite of scores in decibels.
        in_units: whether the score has the units of the variable.
        weights: weight of each point.
        applies: which variables it is for.
        extreme: the largest statistic counts and not the mean.
        resolution: scores closer to the best than this count as perfect.
        proportional: whether half the best score is as far from it as twice.
        of_members: whether it says nothing about a single prediction; its score is NaN then.
        summed: the totals of a block, where statistics are too many to be held for each point.
        cellwise: whether the points are the cells, each judged without its neighbours: so there are maps of the score.
        asks: what it asks of the reference besides the grid; None is anything.
    """

    name: str
    title: str
    statistics: Callable[[Block], Array]
    finish: Callable[[Array], Array]
    best: float = 0.0
    in_units: bool = False
    weights: Callable[[Reference], Array] = area_weights
    applies: Callable[[Reference], bool] = always
    extreme: bool = False
    resolution: float = 0.0
    proportional: bool = False
    of_members: bool = False
    summed: Callable[[Block], Totals] | None = None
    cellwise: bool = False
    asks: tuple[str, ...] | None = None

    def totals(self, block: Block) -> Totals:
        """Sums over the points of each time of the block."""
        if self.summed is not None:
            return self.summed(block)
        return Totals.of(self.statistics(block), self.weights(block.reference), extreme=self.extreme)

    def distance(self, scores: Array) -> Array:
        """How far scores are from the best one: the smaller the better; of decibels without end the amplitude lost."""
        if np.isinf(self.best):
            away = 10.0 ** (-scores / 20)
        elif self.proportional:
            with np.errstate(divide="ignore"):
                away = np.abs(np.log(np.maximum(scores, 0.0) / self.best))
        else:
            away = np.abs(scores - self.best)
        return np.where(away < self.resolution, 0.0, away)

    def __call__(
        self,
        prediction: xr.DataArray,
        truth: xr.DataArray,
        coarse: xr.DataArray | None = None,
        *,
        threshold: float | None = None,
    ) -> float:
        """The score of a harmonised prediction on the grid and times of the truth, members or not.

        Args:
            prediction: (time, y, x), or with members.
            truth: (time, y, x).
            coarse: (time, y, x) on the coarse grid, for metrics of conservation.
            threshold: of metrics of an event; by default the 95th percentile of the truth.

        Raises:
            InputError: for a variable that the metric is not for.
        """
        reference = Reference.of(truth, coarse, threshold=threshold)
        self.check_applies(reference)
        if "member" not in prediction.dims:
            prediction = prediction.expand_dims("member")
        parts = [self.totals(block) for block in blocks(prediction, truth, reference, coarse)]
        return float(self.finish(Totals.joined(parts).mean()[:, None])[0])

    def check_applies(self, reference: Reference) -> None:
        """Refuse a variable that the metric is not for.

        Raises:
            InputError: for such a variable.
        """
        if not self.applies(reference):
            raise InputError(
                f"got the metric '{self.name}' for the variable '{reference.name}'; expected one that it is "
                "for "
                "(a coarse field for 'violation', a variable that cannot be negative for 'negatives', "
                "'high-quantile' and 'sal'); "
                "leave it out"
            )


def parts_of(times: int, values_a_time: int) -> Iterator[slice]:
    """Slices of the times that keep a block within the memory that a machine surely has."""
    step = max(1, _VALUES_AT_ONCE // max(1, values_a_time))
    return (slice(start, min(start + step, times)) for start in range(0, times, step))


@dataclass(frozen=True, eq=False)
class Piece:
    """Some consecutive times of one variable, lazily.

    Attributes:
        start: number of the first of them.
        cuts: parts of these times, each of them chunks of the first prediction.
        predictions: (member, time, y, x) by method.
        truth: (time, y, x).
        coarse: (time, y, x) on the coarse grid, where there is one.
    """

    start: int
    cuts: tuple[slice, ...]
    predictions: Mapping[str, xr.DataArray]
    truth: xr.DataArray
    coarse: xr.DataArray | None

    def read(self) -> Held:
        """The same in memory; every chunk is read once."""
        given = [None] * len(self.cuts) if self.coarse is None else [loaded(self.coarse, each) for each in self.cuts]
        truth = [loaded(self.truth, each) for each in self.cuts]
        members = {name: stored_each(each, self.cuts) for name, each in self.predictions.items()}
        return Held(self.start, self.cuts, members, truth, given)


@dataclass(frozen=True, eq=False)
class Held:
    """Some consecutive times of one variable in memory, by cut (see `Piece`)."""

    start: int
    cuts: tuple[slice, ...]
    predictions: Mapping[str, list[Stored]]
    truth: list[Array]
    coarse: Sequence[Array | None]

    def blocks(self, reference: Reference) -> Iterator[tuple[str, Block]]:
        """Blocks of the predictions by name."""
        values = max(each[0][:, :1].size for each in self.predictions.values())
        for name, members in self.predictions.items():
            for cut, some, true, given in zip(self.cuts, members, self.truth, self.coarse, strict=True):
                for part in parts_of(len(true), values):
                    mean = None if given is None else given[part]
                    yield name, Block(some[:, part], true[part], reference, mean, self.start + cut.start + part.start)


def pieces_of(
    predictions: Mapping[str, xr.DataArray], truth: xr.DataArray, coarse: xr.DataArray | None
) -> Iterator[Piece]:
    """Pieces of fields with the same times, as large as may be read at once."""
    for cuts in reads_of(list(predictions.values()), _VALUES_AT_ONCE):
        start, times = cuts[0].start, slice(cuts[0].start, cuts[-1].stop)
        inner = tuple(slice(each.start - start, each.stop - start) for each in cuts)
        some = {name: each.isel(time=times) for name, each in predictions.items()}
        yield Piece(start, inner, some, truth.isel(time=times), None if coarse is None else coarse.isel(time=times))


def blocks(
    prediction: xr.DataArray, truth: xr.DataArray, reference: Reference, coarse: xr.DataArray | None
) -> Iterator[Block]:
    """The fields block by block, each chunk of them read once."""
    for held in ahead(Piece.read, pieces_of({"prediction": prediction}, truth, coarse)):
        yield from (block for _, block in held.blocks(reference))
