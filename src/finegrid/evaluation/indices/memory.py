"""How much one time tells of the next.

    lag1    correlation of x(t) and x(t + 1), x less the mean of its calendar month    difference

over pairs of known values that follow each other without a gap. Without the means of the months a season would pass for
memory.
"""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import DIFFERENCE, Cells, Index, anomalies, mean_of_known


def _autocorrelation(cells: Cells) -> Array:
    values = anomalies(cells)
    earlier, later = values[:-1], values[1:]
    paired = np.isfinite(earlier) & np.isfinite(later) & cells.clock.follows[1:, None]
    earlier, later = (np.where(paired, each, np.nan) for each in (earlier, later))
    earlier, later = (each - mean_of_known(each, axis=0) for each in (earlier, later))
    spread = np.sqrt(mean_of_known(earlier**2, axis=0) * mean_of_known(later**2, axis=0))
    return ratio(mean_of_known(earlier * later, axis=0), spread)[None]


LAG1 = Index("lag1", "lag-1 autocorrelation", _autocorrelation, DIFFERENCE, units="1")
