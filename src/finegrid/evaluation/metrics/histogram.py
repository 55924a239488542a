"""Is the truth one more draw from the predicted distribution, wherever in it?

    pit    sum over b of |f_b - 1 / 20|,    b = 1, ..., 20

f_b is the share, by area, of cases whose probability integral transform lies in the b-th twentieth of [0, 1]: the
chance that the ensemble gave to values up to the truth. With M members of which r lie below the truth it is drawn
evenly between r / (M + 1) and (r + 1) / (M + 1), and up to (r + e + 1) / (M + 1) where e members equal it, such as all
on a dry day. So it is uniform for an honest ensemble of any size, where a histogram of ranks (`rank`) has one bin more
than there are members: departures of ensembles of different sizes can be compared. Numbers are drawn for each cell and
time as for ranks. An honest ensemble has about sqrt(38 / (pi n)) on n independent cases, not zero.

One member gives no chances, as nothing is known of its spread: its score is NaN.

Sources: Dawid 1984, doi:10.2307/2981683; Czado, Gneiting and Held 2009, doi:10.1111/j.1541-0420.2009.01191.x.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.classes import sums_by_class
from finegrid.evaluation.metrics.ensembles import lots

BINS = 20


def transforms(block: Block) -> Array:
    """Probability integral transform of each case (time, y, x); NaN where something is missing."""
    below = (block.prediction < block.truth).sum(axis=0)
    equal = (block.prediction == block.truth).sum(axis=0)
    drawn = (below + lots(block) * (equal + 1)) / (len(block.prediction) + 1)
    return np.where(block.known & np.isfinite(block.mean), drawn, np.nan)


def histogram(block: Block) -> Totals:
    """Sums (bin, time) of the areas of the cases in each bin."""
    if len(block.prediction) < 2:
        return Totals(np.zeros((BINS, len(block.truth))), np.zeros(len(block.truth)))
    chance = transforms(block)
    weights = np.where(np.isfinite(chance), block.reference.grid.area, 0.0)
    bins = np.minimum(np.nan_to_num(chance) * BINS, BINS - 1).astype(np.int64)
    return Totals(sums_by_class(bins, weights, BINS), weights.sum(axis=(1, 2)))


def _departure_from_flat(means: Array) -> Array:
    return np.asarray(np.abs(means - 1 / BINS).sum(axis=0))


def _per_point(block: Block) -> Array:
    raise ValueError("a histogram is of many cases; ask for its totals")


PIT = Metric("pit", "PIT departure", _per_point, _departure_from_flat, of_members=True, summed=histogram)
