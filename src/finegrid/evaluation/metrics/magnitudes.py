"""A first estimate of a high percentile in one pass: how many values there are of each magnitude.

Magnitudes are sixteenths of powers of two, so that the estimate is within four per cent; what is built on it
(`tail`) needs no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_STEPS = 16
# Powers of two of the smallest and largest magnitude: 5e-20 and 2e19 in any units.
_LAST = 64


def _none() -> NDArray[np.int64]:
    return np.zeros(2 * _LAST * _STEPS + 1, dtype=np.int64)


@dataclass
class Magnitudes:
    """Numbers of values by magnitude, growing with every block.

    Attributes:
        counts: of positive values, the smallest magnitude first.
        total: of all known values.
    """

    counts: NDArray[np.int64] = field(default_factory=_none)
    total: int = 0

    def add(self, values: NDArray[np.floating]) -> None:
        """Count in the finite ones among values of any shape."""
        known = values[np.isfinite(values)]
        self.total += known.size
        logs = np.log2(known[known > 0], dtype=np.float64)
        steps = np.clip(np.floor(logs * _STEPS), -_LAST * _STEPS, _LAST * _STEPS).astype(np.int64)
        self.counts += np.bincount(steps + _LAST * _STEPS, minlength=len(self.counts))

    def exceeded_by(self, part: float) -> float:
        """A value that about this part of all values exceeds; NaN where fewer are positive."""
        above = self.counts[::-1].cumsum()[::-1]
        enough = np.flatnonzero(above > part * self.total)
        if not enough.size:
            return np.nan
        return float(2.0 ** ((enough[-1] + 0.5) / _STEPS - _LAST))
