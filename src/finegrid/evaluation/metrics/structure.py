"""Differences between neighbours: is the field as rough as the truth, near by and further away?

    D_r = <(f(x + r) - f(x))^2>,    r = 1, 2, 4, 8, ... cells along rows and along columns, at most half the side

    structure-function  mean over r and both axes of |ln(D_r of the members / D_r of the truth)|
    smoothing           <h^2> of the members / <h^2> of the truth,    h = f - (mean of f over 3 x 3 cells)

D is the second-order structure function (Kolmogorov 1941; twice the variogram). <.> is the mean over times and over
the pairs or cells with a truth, weighted by area. Members are judged one by one and D and <h^2> averaged over them, as
a mean over members is smooth by right. `structure-function` is zero at best; lags at which the truth does not vary are
left out. `smoothing` compares what a filter of three cells takes away: one is best, and a blurred prediction is far
below. At the edge and next to missing cells the mean is that of the known ones of the nine cells.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights
from finegrid.evaluation.metrics.neighbourhood import Mask, local_means


def squared_differences(block: Block) -> Array:
    """Sums over the pairs of each lag and axis, of the truth and then of the members (2 * lag, time, 1)."""
    known = block.known & np.isfinite(block.mean)
    sums = [
        _sums(np.where(known, each, np.nan), block.reference.grid.area) for each in (block.truth, *block.prediction)
    ]
    if not len(sums[0]):
        return np.full((2, len(known), 1), np.nan)
    return np.concatenate([sums[0], np.mean(sums[1:], axis=0)])[..., None]


def _sums(fields: Array, area: Array) -> Array:
    """Squared differences (lag, time) of fields (time, y, x), times the mean area of the two cells."""
    sums = [np.nansum((far - near) ** 2 * weights, axis=(1, 2)) for near, far, weights in _pairs(fields, area)]
    return np.array(sums)


def _pairs(fields: Array, area: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Both ends of all pairs, and the mean of their areas, for each axis and lag."""
    for axis in (-2, -1):
        values, areas = np.moveaxis(fields, axis, 1), np.moveaxis(area, axis, 0)
        for lag in (1 << power for power in range((values.shape[1] // 2).bit_length())):
            yield values[:, :-lag], values[:, lag:], (areas[:-lag] + areas[lag:]) / 2


def _mean_departure(means: Array) -> Array:
    truth, members = np.split(means, 2)
    with np.errstate(divide="ignore"):
        away = np.abs(np.log(ratio(members, truth)))
    known = ~np.isnan(away)
    return ratio(np.where(known, away, 0.0).sum(axis=0), known.sum(axis=0))


def fine_squares(block: Block) -> Array:
    """Squares of what a mean over 3 x 3 cells takes away, of the truth and of the members (2, time, y, x)."""
    known = block.known & np.isfinite(block.mean)
    # Shifted by a value within the truth's range: so nothing is left of a constant.
    shift = (block.reference.lowest + block.reference.highest) / 2
    truth, *members = (_detail(each - shift, known) ** 2 for each in (block.truth, *block.prediction))
    return np.stack([truth, np.mean(members, axis=0)])


def _detail(fields: Array, known: Mask) -> Array:
    return np.asarray(fields - local_means(fields, known, 3))


def _members_over_truth(means: Array) -> Array:
    return ratio(means[1], means[0])


STRUCTURE_FUNCTION = Metric(
    "structure-function", "structure function", squared_differences, _mean_departure, weights=equal_weights
)
SMOOTHING = Metric("smoothing", "detail within 3 cells", fine_squares, _members_over_truth, best=1.0, proportional=True)
