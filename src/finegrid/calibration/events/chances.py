"""Raw chances of events, and cases that share one.

Of M members of which k exceed a threshold, the raw chance is

    p = (k + 1/2) / (M + 1)

which is a half where half of the members do, and never 0 or 1: an ensemble is not as sure as that, and a logit is
finite. Chances of so few different values are tallied: cases with the same one are one value with a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from finegrid.calibration.kernel import Array


def exceedance(members: NDArray[Any], thresholds: Array) -> Array:
    """Raw chances (threshold, ...) of more than each threshold; NaN where a member is missing.

    Args:
        members: (member, ...).
        thresholds: (threshold,), in the units of the members.
    """
    above = np.stack([(members > each).sum(axis=0) for each in thresholds])
    return np.where(np.isfinite(members).all(axis=0), (above + 0.5) / (len(members) + 1), np.nan)


@dataclass(frozen=True, eq=False)
class Tally:
    """Cases by their raw chance.

    Attributes:
        raw: different chances, ascending (value,).
        cases: how many have each (value,).
        events: how many of these came true (value,).
    """

    raw: Array
    cases: Array
    events: Array

    @classmethod
    def of(cls, raw: Array, happened: NDArray[np.bool_], most: int | None = None) -> Self:
        """Of cases (case,); of more than `most` different chances, means over neighbours, as many cases in each."""
        values, number = np.unique(raw, return_inverse=True)
        cases = np.bincount(number).astype(np.float64)
        events = np.bincount(number, happened).astype(np.float64)
        if most is None or len(values) <= most:
            return cls(values, cases, events)
        part = (np.cumsum(cases) - cases / 2) / cases.sum() * most
        _, joined = np.unique(part.astype(np.int64), return_inverse=True)
        sums = [np.bincount(joined, each).astype(np.float64) for each in (cases * values, cases, events)]
        return cls(sums[0] / sums[1], *sums[1:])
