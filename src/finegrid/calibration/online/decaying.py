"""Conformal intervals on the latest scores, of which older ones count less.

    s = |y - mean|,      mean -+ Q,      Q the weighted quantile of the last W scores with weights rho^age

where the newest score has the age 1 and the case to come the weight 1. Where cases drift, the coverage falls short of
the level by at most the sum of the weights times how much each case differs from the one to come.

Sources: Barber, Candès, Ramdas and Tibshirani, "Conformal prediction beyond exchangeability", Annals of Statistics 51,
2023 (NexCP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finegrid.calibration.base import Learnt, Notes
from finegrid.calibration.kernel import Array, Places, Pool, needed
from finegrid.calibration.online.base import Online
from finegrid.conventions import InputError


@dataclass(kw_only=True)
class Decaying(Online):
    """Weighted quantiles of a window; every cell keeps its own latest scores, and groups put them together.

    Args:
        decay: weight of a score over that of the one after it, rho.
        window: scores that a cell keeps, W.
    """

    decay: float = 0.99
    window: int = 500

    name: ClassVar[str] = "decaying"
    guarantee: ClassVar[str] = "approximate: marginal, short by no more than the drift within the scores that count"
    bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay <= 1 or self.window < 1:
            raise InputError(
                f"got decay: {self.decay:g} and window: {self.window}; expected a decay above 0 and at most 1, and a "
                "window from 1 on, such as 0.99 and 500"
            )

    def _begun(self, notes: Notes) -> Learnt:
        cells = notes.groups.place.shape
        return {
            "scores": np.full((self.window, *cells), np.nan, np.float32),
            "places": np.full((self.window, *cells), -1, np.int32),
            "counts": np.zeros(cells, np.int64),
            "number": np.array([notes.groups.count]),
        }

    def _step(self, learnt: Learnt, residual: Array, place: Places) -> None:
        kept = np.isfinite(residual) & (place >= 0)
        slot = (learnt["counts"] % self.window)[kept]
        learnt["scores"][(slot, *np.nonzero(kept))] = np.abs(residual[kept])
        learnt["places"][(slot, *np.nonzero(kept))] = place[kept]
        learnt["counts"] += kept

    def _offsets(self, learnt: Learnt, chances: Array) -> Array:
        slots = np.arange(self.window).reshape(-1, *[1] * learnt["counts"].ndim)
        ages = (learnt["counts"] - 1 - slots) % self.window + 1
        weights = self.decay**ages
        own = Pool.of(learnt["scores"], learnt["places"], int(learnt["number"][0]), weights=weights, own=1.0)
        common = Pool.of(learnt["scores"], weights=weights, own=1.0) if (own.counts == 0).any() else None
        return np.stack([_offset(own, common, chance) for chance in chances])


def _offset(own: Pool, common: Pool | None, chance: float) -> Array:
    """The offset at a chance (group,); groups without a score take that of all."""
    level = abs(2 * chance - 1)
    if level == 0:
        return np.zeros(len(own.counts))
    found = own.upper(level)
    if common is not None:
        found = np.where(own.counts > 0, found, common.upper(level))
    if not np.isfinite(found).all():
        raise InputError(
            f"got {own.counts[~np.isfinite(found)].min()} cases in the smallest group, of which older ones count less; "
            f"expected the weight of {needed(level)} at least, without which no bound holds with a chance of "
            f"{level:g}; fit on more times, use larger groups, a longer window, a decay closer to 1, or a lower level"
        )
    return np.asarray(np.sign(chance - 0.5) * found)
