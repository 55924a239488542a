"""Per-cell ridge regression on the coarse cells around: the baseline that a network on a short record must beat.

For every coarse cell, the departures of its fine cells from its value are regressed on the coarse fields in a window
of cells around it and on the cycles of the day and the year:

    y(t, i) - x(t, I) = a(i) + sum_j b(i, j) z(t, j),        b minimises |residual|^2 + penalty |b|^2

z are all coarse fields, standardised over time and space, in (2 k + 1)^2 cells around I (at an edge the edge cell
again, around the globe the other side). The half-width k and the penalty are chosen by cross-validation over blocks of
time, pooled over outputs and up to a hundred cells (each in units of its own variance).

Source: Hoerl and Kennard, Technometrics 12(1), 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from finegrid.downscalers.features import Features, Window
from finegrid.downscalers.linear import LinearMap
from finegrid.downscalers.solvers import RidgePenalty, Solver


@dataclass(kw_only=True)
class Ridge(LinearMap):
    """Linear regression of each fine cell on its coarse surroundings.

    Args:
        half_widths: candidates for the cells on either side of the own one in the window.
        penalties: candidates for the penalty, on standardised predictors summed over times.
    """

    name: ClassVar[str] = "ridge"
    clips: ClassVar[bool] = False
    features: str | Mapping[str, Any] = field(default="window", init=False)
    solver: str | Mapping[str, Any] = field(default="ridge", init=False)
    start: str | Sequence[str] = "coarse"
    half_widths: Sequence[int] = (1, 2)
    penalties: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

    def _planned(self) -> Features:
        return Window(half_widths=tuple(self.half_widths), frames=tuple(self.frames), cycles=self.cycles)

    def _solver(self) -> Solver:
        return RidgePenalty(penalties=tuple(self.penalties))
