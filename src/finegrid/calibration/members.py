"""What an ensemble says of the chances of values, and members that have other values in the same order.

Of M members x_1 <= ... <= x_M the value x_k has the chance k / (M + 1) (Weibull's plotting position): a truth that is
one more draw like the members lies below it as often as that. In between chances are linear in the value. Beyond the
outermost members nothing is known; a normal tail with the deviation of the members goes on from them.

    rank structure    member m gets, of the M calibrated values at its place, the one that has its rank among the M raw
                      ones. Raw members that agree, such as all dry ones, are put in order by numbers that hold for a
                      member at all places and times, so that fields do not become grainy

Sources: Schefzik, Thorarinsdottir and Gneiting, "Uncertainty quantification in complex simulation models using
ensemble copula coupling", Statistical Science 28, 2013, doi:10.1214/13-STS443.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from finegrid.calibration.kernel import Array
from finegrid.conventions import InputError

_SMALL = 1e-12


def quantiles(members: NDArray[Any], levels: NDArray[Any]) -> Array:
    """Values (level, ...) of chances, which may differ between places.

    Args:
        members: (member, ...), at least two; NaN where missing.
        levels: (level,), or (level, ...) with the shape of the members.
    """
    ranked = np.sort(members.astype(np.float64), axis=0)
    count = len(ranked)
    chances = np.asarray(levels, dtype=np.float64)
    chances = chances if chances.ndim == ranked.ndim else chances.reshape(-1, *[1] * (ranked.ndim - 1))
    position = np.broadcast_to(chances * (count + 1) - 1, (len(chances), *ranked.shape[1:]))
    below = np.clip(np.floor(position), 0, count - 2).astype(np.int64)
    low, high = np.take_along_axis(ranked, below, 0), np.take_along_axis(ranked, below + 1, 0)
    inside = low + np.clip(position - below, 0.0, 1.0) * (high - low)
    return np.asarray(inside + _beyond(chances, count) * ranked.std(axis=0, ddof=1))


def chances(members: NDArray[Any], truth: NDArray[Any], random: NDArray[Any]) -> Array:
    """The chance of values of at most the truth (...); NaN where something is missing.

    Where members equal the truth, such as on a dry day, it is drawn among its possible values.

    Args:
        members: (member, ...).
        truth: (...).
        random: numbers between 0 and 1 (...).
    """
    ranked, count = np.sort(members.astype(np.float64), axis=0), len(members)
    below, equal = (ranked < truth).sum(axis=0), (ranked == truth).sum(axis=0)
    lower = np.take_along_axis(ranked, np.clip(below - 1, 0, count - 1)[None], 0)[0]
    upper = np.take_along_axis(ranked, np.clip(below, 0, count - 1)[None], 0)[0]
    gap = np.where(upper > lower, upper - lower, 1.0)
    between = (below + np.clip((truth - lower) / gap, 0.0, 1.0)) / (count + 1)
    tied = (below + random * (equal + 1)) / (count + 1)
    deviation = np.maximum(ranked.std(axis=0, ddof=1), _SMALL)
    outer = ndtri(1 / (count + 1))
    under, over = ndtr(outer + (truth - ranked[0]) / deviation), ndtr(-outer + (truth - ranked[-1]) / deviation)
    result = np.where(below == 0, under, np.where(below == count, over, between))
    known = np.isfinite(truth) & np.isfinite(ranked[-1])
    return np.where(known, np.where(equal > 0, tied, result), np.nan)


def in_order_of(values: NDArray[Any], members: NDArray[Any], *, seed: int = 0) -> Array:
    """Values (member, ...), sorted along the first axis, put in the order of the members (member, ...)."""
    count = len(members)
    first = np.random.default_rng(seed).permutation(count)
    ranks = np.empty(members.shape, dtype=np.int64)
    order = first[np.argsort(members[first], axis=0, kind="stable")]
    np.put_along_axis(ranks, order, np.arange(count).reshape(-1, *[1] * (members.ndim - 1)), 0)
    return np.take_along_axis(np.asarray(values, dtype=np.float64), ranks, 0)


def _beyond(chances: Array, count: int) -> Array:
    """Deviations by which a chance lies below the first or above the last member."""
    first = 1 / (count + 1)
    return np.asarray(np.minimum(ndtri(chances) - ndtri(first), 0.0) + np.maximum(ndtri(chances) + ndtri(first), 0.0))


def checked_levels(levels: Sequence[float]) -> Array:
    """Chances as an array.

    Raises:
        InputError: on one that is not between 0 and 1.
    """
    chances = np.asarray(levels, dtype=np.float64)
    if not chances.size or not ((chances > 0) & (chances < 1)).all():
        raise InputError(
            f"got the chances {', '.join(f'{each:g}' for each in chances.ravel())}; expected numbers between 0 and 1, "
            "such as 0.05 and 0.95; of a level of 90 %, write 0.9"
        )
    return chances
