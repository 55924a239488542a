"""Are there as many events nearby as there should be?

    fss = 1 - sum (f_p - f_t)^2 / sum (f_p^2 + f_t^2)

with f the fraction of the cells in a square window around each cell that have an event, a value above
`reference.threshold` (Roberts and Lean 2008, doi:10.1175/2007MWR2123.1). Both sums are over all cells, by area, and
over all times, so quiet times count for little; each member is judged by itself, and the sums are means over the
members. At the edge of the domain and next to missing cells a fraction is that of the known cells in the window. One
is best, zero means no overlap at all, and without any event the score is NaN. `fss` has a window of five cells,
`fractions_skill` any odd one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric

_CELLS = 5

Mask = NDArray[np.bool_]


def local_means(values: Array | Mask, known: Mask, cells: int) -> Array:
    """Means (..., y, x) over the known ones of cells x cells around each known cell; NaN elsewhere."""
    counted, valid = np.broadcast_arrays(np.where(known, values, 0.0), known)
    sums, counts = (_windowed(each.astype(np.float64), cells) for each in (counted, valid))
    return np.where(known, ratio(sums, counts), np.nan)


def _windowed(values: Array, cells: int) -> Array:
    return np.asarray(uniform_filter(values, cells, mode="constant", axes=(-2, -1)))


def fractions_skill(cells: int) -> Metric:
    """The fractions skill score with a window of so many cells on a side.

    Raises:
        InputError: when the window has no central cell.
    """
    if cells < 1 or cells % 2 == 0:
        raise InputError(f"got a window of {cells} cells; expected an odd number; pass {max(1, cells + 1)}")

    def squares(block: Block) -> Array:
        known, threshold = block.known & np.isfinite(block.mean), block.reference.threshold
        truth = local_means(block.truth > threshold, known, cells)
        sums = np.zeros((2, *truth.shape))
        for member in block.prediction:
            fraction = local_means(member > threshold, known, cells)
            sums += np.stack([(fraction - truth) ** 2, fraction**2 + truth**2])
        return sums / len(block.prediction)

    return Metric("fss", f"fractions skill ({cells} cells)", squares, _skill, best=1.0)


def _skill(means: Array) -> Array:
    return 1 - ratio(means[0], means[1])


FSS = fractions_skill(_CELLS)
