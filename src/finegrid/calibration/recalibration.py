"""Chances by the chances that came true: where a forecast distribution is wrong in the same way again and again.

    u = F(y),     R = distribution of u over the calibration cases of a group
    value at the chance p:   F^-1( R^-1(p) )

R is the empirical distribution with the correction for finitely many cases, which makes it the conformal form; linear
between cases; or smoothed by a normal kernel on the line of normal numbers. F is that of the members (`members`).

Source: Dheur and Ben Taieb, "A large-scale study of probabilistic calibration in neural network regression", ICML
2023; Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using calibrated regression", ICML 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from finegrid.calibration.base import Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array, Places, Pool
from finegrid.calibration.members import chances, quantiles
from finegrid.calibration.pooled import Scored
from finegrid.conventions import InputError

MAPS = ("empirical", "linear", "smoothed")
_LEAST, _FINE, _KNOTS = 1e-6, 512, 199


@dataclass(kw_only=True)
class Recalibration(Scored):
    """A map of chances.

    Args:
        map: how R is made of the cases, of `MAPS`.
        bandwidth: of the kernel of the smoothed map, in normal numbers; None is Silverman's.
        seed: of the chances of a truth that members equal, such as on dry days.
    """

    map: str = "empirical"
    bandwidth: float | None = None
    seed: int = 0

    name: ClassVar[str] = "recalibration"
    guarantee: ClassVar[str] = (
        "marginal with the empirical map: every chance holds for a case that can change places with those of "
        "calibration; none with the others"
    )
    least_members: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.map not in MAPS:
            raise InputError(f"got map: {self.map!r}; expected one of {', '.join(MAPS)}; change calibrate.map")

    def _evidence(self, some: Cases) -> Evidence:
        return {"chance": chances(some.members, some.known, some.random(self.seed))}

    def _learn(self, notes: Notes) -> Learnt:
        return self._kept(notes.evidence["chance"], notes)

    def _brought(self, some: Cases, learnt: Learnt, scores: Array) -> Array:
        return quantiles(some.members, np.clip(scores, _LEAST, 1 - _LEAST))

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        if self.map == "empirical":
            return super()._quantiles(some, learnt, place, levels)
        return self._brought(some, learnt, self._mapped_chances(learnt, levels)[:, place])

    def _mapped_chances(self, learnt: Learnt, levels: Array) -> Array:
        """R^-1 of each group (level, group)."""
        if self.map == "linear":
            return np.stack([self._between(learnt, level) for level in levels])
        # On the line of normal numbers, which has no ends at which a kernel would lose mass.
        knots = np.stack([self._between(learnt, (each + 0.5) / _KNOTS) for each in range(_KNOTS)])
        lines = ndtri(np.clip(knots, _LEAST, 1 - _LEAST))
        pool, _ = self._pools(learnt)
        width = self.bandwidth or 0.9 * np.maximum(lines.std(axis=0), 0.05) * np.maximum(pool.counts, 1) ** -0.2
        return np.asarray(ndtr(_inverse(lines, np.broadcast_to(width, lines.shape[1:]), levels)))


def _inverse(knots: Array, width: Array, levels: Array) -> Array:
    """Where the smoothed distribution of knots (knot, group) reaches levels (level, group)."""
    grid = np.linspace(knots.min() - 3 * width.max(), knots.max() + 3 * width.max(), _FINE)
    reached = np.zeros((_FINE, knots.shape[1]))
    for knot in knots:
        reached += ndtr((grid[:, None] - knot) / width)
    reached /= len(knots)
    # Distribution functions one above the other, as in the kernel: one line for all groups.
    found = Pool(np.tile(grid, reached.shape[1]), reached.T.ravel(), np.arange(reached.shape[1] + 1) * _FINE)
    return np.stack([found.between(level) for level in levels])
