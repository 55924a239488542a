"""A mean that is right in every group at every level of itself: multicalibration, reached by boosting.

With the mean of the members on a grid of m + 1 levels from the first to the last percentile of the calibration cases,

    v(x) = round(m f(x)) / m
    f(x) <- f(x) + h_v(x),       h_v(x) = sum of (y - f) over g(x), v / (n(g(x), v) + shrink)
    x_m' = x_m + f(x) - mean

where g is, for every level, the one grouping of H whose means lower the squared error most: those that `groups` names
(regions or a label field such as elevation bands, blocks beside labels, seasons, months, regimes), their product,
classes of the predicted spread, and no grouping at all. "Lowers" is judged on tenths of the times that the means were
not taken from. A round is accepted while the squared error falls by more than a part of the variance of y; how many
rounds are kept is decided on a later block of times that no round has seen, so that there the squared error does not
rise. Then as many rounds learn from all times. A shift makes drizzle of a dry cell: threshold rain afterwards.

The source writes the rounded value back; here rounding only says the level, so that predictions of a level still differ
from each other. A level in a group that is still off by b with a share s of all cases would lower the squared error by
s b^2: when no round does that any more, every b is below sqrt(threshold / s).

Source: Globus-Harris, Harrison, Kearns, Roth and Sorrell, "Multicalibration as boosting for regression", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.groups import Groups
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.members import quantiles
from finegrid.conventions import InputError

# Blocks of times of which every other one judges what the others teach.
_TENTHS = 10
# Shares of predictions below the first and the last level: single extremes would make levels of hardly any case.
_ENDS = (0.01, 0.99)


@dataclass(frozen=True, eq=False)
class Sums:
    """Residuals of a grouping at every level.

    Attributes:
        counts: cases (level, group). sums: of their residuals.
    """

    counts: Array
    sums: Array

    @classmethod
    def of(cls, level: Places, group: Places, count: tuple[int, int], residual: Array) -> Sums:
        """Of cases (case,)."""
        number, size = level * count[1] + group, count[0] * count[1]
        counts, sums = (np.bincount(number, each, size) for each in (np.ones_like(residual), residual))
        return cls(*(each.reshape(count).astype(np.float64) for each in (counts, sums)))

    def shifts(self, shrink: float) -> Array:
        """Means of the residuals (level, group), drawn to 0."""
        return self.sums / np.maximum(self.counts + shrink, 1e-9)

    def gain(self, shifts: Array) -> Array:
        """By how much shifts lower the sum of squares of every level (level,)."""
        return np.asarray((2 * shifts * self.sums - shifts**2 * self.counts).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Round:
    """One step of boosting.

    Attributes:
        which: grouping of each level (level,), below 0 for none.
        shifts: of the groups of each level (level, group), 0 beyond the last one.
    """

    which: Places
    shifts: Array

    def __call__(self, level: Places, groups: Places) -> Array:
        """Shifts (case,) of cases at levels (case,), in groups (grouping, case)."""
        which = self.which[level]
        group = np.take_along_axis(groups, np.maximum(which, 0)[None], 0)[0]
        return np.where(which < 0, 0.0, self.shifts[level, group])


@dataclass(frozen=True, eq=False)
class Ladder:
    """The levels of a prediction.

    Attributes:
        low: the lowest level. width: of a level. count: levels above the lowest one.
        limits: lowest and highest value that nature allows.
    """

    low: float
    width: float
    count: int
    limits: tuple[float, float]

    @classmethod
    def of(cls, predicted: Array, count: int, limits: tuple[float, float]) -> Ladder:
        """Even steps over the usual predictions."""
        low, high = map(float, np.quantile(predicted, _ENDS)) if predicted.size else (0.0, 1.0)
        return cls(low, (high - low) / count or 1.0, count, limits)

    def __call__(self, predicted: Array) -> Places:
        """Level of each prediction."""
        return np.clip(np.rint((predicted - self.low) / self.width), 0, self.count).astype(np.int64)

    def climbed(self, predicted: Array, groups: Places, rounds: Sequence[Round]) -> Array:
        """Predictions (case,) after so many rounds."""
        for each in rounds:
            predicted = np.clip(predicted + each(self(predicted), groups), *self.limits)
        return predicted


@dataclass(frozen=True, eq=False)
class Sample:
    """Cases in a row.

    Attributes:
        predicted: (case,). truth: likewise. time: number of the time. groups: number in each grouping (grouping, case).
    """

    predicted: Array
    truth: Array
    groups: Places
    time: Places

    def at(self, kept: NDArray[np.bool_]) -> Sample:
        """Some of them."""
        return Sample(self.predicted[kept], self.truth[kept], self.groups[:, kept], self.time[kept])


@dataclass(kw_only=True)
class Multicalibrated(Calibrator):
    """Members moved (amounts: scaled, so that dry ones stay dry) by what the mean of their groups and level was off.

    Args:
        levels: m, steps of the grid.
        rounds: most rounds of boosting.
        spreads: classes of the predicted spread.
        threshold: part of the variance of the truth by which a round has to lower the squared error.
        held_out: part of the calibration times, the last ones, that decides how many rounds are kept.
        shrink: cases without an error that are added to every level of a group.
    """

    groups: Sequence[str] = ("region", "season")
    levels: int = 20
    rounds: int = 20
    spreads: int = 3
    threshold: float = 1e-4
    held_out: float = 0.3
    shrink: float = 20.0

    name: ClassVar[str] = "multicalibrated"
    guarantee: ClassVar[str] = (
        "of the mean alone, on calibration cases: at every level, no group is off by more than the square root of the "
        "threshold over its share, where rounds were not stopped before; none for new cases"
    )

    def __post_init__(self) -> None:
        for option, least in (("levels", 1), ("rounds", 0), ("spreads", 1)):
            if getattr(self, option) < least:
                raise InputError(
                    f"got {option}: {getattr(self, option)}; expected a whole number of at least {least}; change "
                    f"calibrate.{option}"
                )
        if not 0 < self.held_out < 1:
            raise InputError(
                f"got held_out: {self.held_out}; expected a part between 0 and 1 of the calibration times, such as "
                "0.3; change calibrate.held_out"
            )

    def _evidence(self, some: Cases) -> Evidence:
        return {"predicted": some.mean, "truth": some.known, "deviation": some.deviation}

    def _learn(self, notes: Notes) -> Learnt:
        deviation, predicted = notes.evidence["deviation"], notes.evidence["predicted"]
        known = np.isfinite(deviation)
        edges = np.unique(np.quantile(deviation[known], np.arange(1, self.spreads) / self.spreads))
        blocks = Groups.of(("region",), predicted, regions=self.regions).place
        some = Cases("", predicted[None].astype(np.float32), None, notes.time, 0, notes.limits)
        groups, counts = _grouped(some, notes.groups, notes.places, deviation, edges, blocks)
        sample = _in_a_row(notes, groups)
        ladder = Ladder.of(sample.predicted, self.levels, notes.limits)
        rounds = self._boosted(sample, counts, ladder, self._accepted(sample, counts, ladder))
        which = np.stack([each.which for each in rounds] or [np.zeros(0, np.int64)])
        shifts = np.stack([each.shifts for each in rounds] or [np.zeros(0)])
        grid = np.array([ladder.low, ladder.width, ladder.count, *ladder.limits])
        return {"edges": edges, "blocks": blocks, "grid": grid, "which": which, "shifts": shifts}

    def _accepted(self, sample: Sample, counts: Places, ladder: Ladder) -> int:
        """The number of rounds, learnt from the first times, after which the last ones have the least error."""
        first = sample.time < (1 - self.held_out) * (sample.time.max(initial=0) + 1)
        rounds, last = self._boosted(sample.at(first), counts, ladder, self.rounds), sample.at(~first)
        predicted, errors = last.predicted, [_error(last.predicted, last.truth)]
        for each in rounds:
            predicted = ladder.climbed(predicted, last.groups, [each])
            errors.append(_error(predicted, last.truth))
        return int(np.argmin(errors))

    def _boosted(self, sample: Sample, counts: Places, ladder: Ladder, most: int) -> list[Round]:
        """Rounds while the error falls by more than the threshold."""
        predicted, rounds = sample.predicted, list[Round]()
        least = self.threshold * float(sample.truth.var()) if sample.truth.size else np.inf
        while len(rounds) < most:
            found = self._round(ladder(predicted), sample, predicted, counts, ladder.count + 1)
            after = ladder.climbed(predicted, sample.groups, [found])
            if not _error(predicted, sample.truth) - _error(after, sample.truth) > least:
                break
            rounds.append(found)
            predicted = after
        return rounds

    def _round(self, level: Places, sample: Sample, predicted: Array, counts: Places, levels: int) -> Round:
        residual, even = sample.truth - predicted, _even(sample.time)
        gains, shifts = np.zeros((len(counts), levels)), np.zeros((len(counts), levels, int(counts.max())))
        for number, count in enumerate(counts):
            group, shape = sample.groups[number], (levels, int(count))
            one, other = (Sums.of(level[s], group[s], shape, residual[s]) for s in (even, ~even))
            gains[number] = one.gain(other.shifts(self.shrink)) + other.gain(one.shifts(self.shrink))
            shifts[number, :, :count] = Sums(one.counts + other.counts, one.sums + other.sums).shifts(self.shrink)
        best = gains.argmax(axis=0)
        which = np.where(gains.max(axis=0) > 0, best, -1)
        return Round(which, np.where(which[:, None] < 0, 0.0, shifts[best, np.arange(levels)]))

    def _members(self, some: Cases, learnt: Learnt, place: Places) -> Array:
        moved = self._moved(some, learnt, place)
        if some.limits[0] < 0:
            return np.asarray(some.members + moved)
        return np.asarray(some.members * (1 + np.divide(moved, some.mean, where=some.mean > 0, out=0.0 * moved)))

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        if some.count < 2:
            raise InputError(
                "got 1 member for quantiles of 'multicalibrated', which corrects means; expected at least 2, whose "
                "spread says how sure they are; predict with --members 20, or use apply"
            )
        return quantiles(self._members(some, learnt, place), levels)

    def _moved(self, some: Cases, learnt: Learnt, place: Places) -> Array:
        """By how much the mean moves (time, y, x)."""
        grouped, mean = self._groups[some.name], some.mean
        groups, _ = _grouped(some, grouped, place, some.deviation, learnt["edges"], learnt["blocks"])
        low, width, count, least, most = map(float, learnt["grid"])
        ladder = Ladder(low, width, int(count), (least, most))
        rounds = [Round(which, shifts) for which, shifts in zip(learnt["which"], learnt["shifts"], strict=True)]
        kept, moved = np.isfinite(mean) & (place >= 0), np.zeros(mean.shape)
        if rounds and rounds[0].which.size:
            moved[kept] = ladder.climbed(mean[kept], groups[:, kept], rounds) - mean[kept]
        return moved


def _grouped(
    some: Cases, groups: Groups, place: Places, deviation: Array, edges: Array, blocks: Places
) -> tuple[Places, Places]:
    """Numbers of cases in all groupings (grouping, time, y, x), and how many groups each has (grouping,)."""
    found = [(np.zeros(some.shape, np.int64), 1), *((each(some), each.count) for each in _singles(groups))]
    if len(groups.by) > 1:
        found.append((place, groups.count))
    if len(edges):
        found.append((np.searchsorted(edges, deviation, side="left"), len(edges) + 1))
    if groups.places > 1 and not np.array_equal(groups.place, blocks):
        found.append((np.broadcast_to(blocks, some.shape), int(blocks.max(initial=0)) + 1))
    return np.stack([numbers for numbers, _ in found]), np.array([count for _, count in found])


def _singles(groups: Groups) -> list[Groups]:
    """The groupings of a product, each for itself."""
    nowhere, spatial = np.zeros_like(groups.place), ("cell", "region")
    return [
        Groups((by,), groups.place, groups.places, groups.edges[:0])
        if by in spatial
        else Groups((by,), nowhere, 1, groups.edges if by == "regime" else groups.edges[:0])
        for by in groups.by
    ]


def _in_a_row(notes: Notes, groups: Places) -> Sample:
    """The cases that are known and in a group."""
    predicted, truth = notes.evidence["predicted"], notes.evidence["truth"]
    kept = np.isfinite(predicted) & np.isfinite(truth) & (notes.places >= 0)
    return Sample(predicted[kept], truth[kept], groups[:, kept], np.nonzero(kept)[0])


def _even(time: Places) -> NDArray[np.bool_]:
    """Whether a case is in an even tenth of the times, of the first to the last one."""
    since = time - time.min(initial=0)
    return np.asarray(since * _TENTHS // (since.max(initial=0) + 1) % 2 == 0)


def _error(predicted: Array, truth: Array) -> float:
    return float(np.mean((truth - predicted) ** 2)) if truth.size else 0.0
