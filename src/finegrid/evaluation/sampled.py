"""A number with what the bootstrap needs to say how sure it is, so that numbers made of such numbers are sampled too.

A difference, a ratio or any other function of scores over the same draws is the function of the value, of the score of
every draw, and of the score without each day (`intervals.Draws`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.intervals import LEAST_TIMES, Draws, block_length, interval

Finish = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Sampled:
    """A number that was estimated from times.

    Attributes:
        value: over all times.
        samples: over each draw of the times (draw,); one NaN where there are no draws.
        without: over all times but one day's (day,).
        draws: the draws; None for too few times.
    """

    value: float
    samples: Array
    without: Array
    draws: Draws | None

    @classmethod
    def of(cls, totals: Totals, finish: Finish, draws: Draws | None) -> Self:
        """What `finish` makes of mean statistics (statistic, ...), such as the square root of the first."""
        value = float(finish(totals.mean()[:, None])[0])
        if draws is None:
            return cls(value, np.full(1, np.nan), np.full(1, np.nan), None)
        return cls(value, finish(draws.means(totals)), finish(draws.without(totals)), draws)

    def changed(self, function: Callable[[Array], Array]) -> Self:
        """A function of the number."""
        return self._with(*(function(np.asarray(each)) for each in (self.value, self.samples, self.without)))

    def combined(self, other: Sampled, function: Callable[[Array, Array], Array]) -> Self:
        """A function of two numbers over the same draws."""
        pairs = ((self.value, other.value), (self.samples, other.samples), (self.without, other.without))
        with np.errstate(invalid="ignore"):
            return self._with(*(function(np.asarray(one), np.asarray(two)) for one, two in pairs))

    def less(self, other: Sampled) -> Self:
        """The paired difference."""
        return self.combined(other, np.subtract)

    @property
    def widening(self) -> float:
        """How much wider than the draws an interval has to be."""
        return 1.0 if self.draws is None else self.draws.widening(self.without)

    def interval(self, *, centred: bool = False) -> tuple[float, float]:
        """Ends of the 95 % interval; NaN without draws.

        Args:
            centred: whether it is stretched about the value, as suits a difference that can have any size.
        """
        return interval(self.samples, widening=self.widening, centre=self.value if centred else None)

    def _with(self, value: Array, samples: Array, without: Array) -> Self:
        return type(self)(float(value), np.asarray(samples), np.asarray(without), self.draws)


def weighted_sum(numbers: Sequence[Sampled], weights: Array) -> Sampled:
    """The sum of numbers over the same draws, each times its weight."""
    parts = [np.stack([np.asarray(getattr(each, name)) for each in numbers]) for name in ("samples", "without")]
    value = float(weights @ np.array([each.value for each in numbers]))
    return Sampled(value, weights @ parts[0], weights @ parts[1], numbers[0].draws)


def unpaired(one: Sampled, other: Sampled) -> tuple[float, float]:
    """Ends of the 95 % interval of the difference of numbers from times that have nothing to do with each other."""
    if one.draws is None or other.draws is None:
        return np.nan, np.nan
    variances = np.array([np.nanvar(each.samples) for each in (one, other)])
    widenings = np.array([each.widening for each in (one, other)])
    total = variances.sum()
    wider = float(np.sqrt((widenings**2 * variances).sum() / total)) if total > 0 else 1.0
    return interval(one.samples - other.samples, widening=wider, centre=one.value - other.value)


def draws_of(
    errors: Array, *, block: int | None = None, step_seconds: float | None = None, seed: int = 0
) -> Draws | None:
    """Draws of as many times as there are errors (time,), in blocks as long as their memory; None for too few times."""
    if len(errors) < LEAST_TIMES:
        return None
    length = block_length(errors, step_seconds=step_seconds) if block is None else min(max(1, block), len(errors))
    return Draws.of(len(errors), length, seed=seed, step_seconds=step_seconds)
