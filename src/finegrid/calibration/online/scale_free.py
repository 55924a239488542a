"""Scale-free online gradient descent: the radius goes a step up after a miss, and a small one down after a hit.

    q <- max(0, q - (D / sqrt 3) g / sqrt(sum g^2)),      g = (1 - b) - [s > q]      (notation of `radius`)

The steps need no tuning and become smaller with time, so that the radius settles where nothing drifts. Whatever the
scores do as long as they are bounded, the share of truths inside tends to the level b.

Sources: Orabona and Pál, "Scale-free online learning", Theoretical Computer Science 716, 2018; Bhatnagar, Wang, Xiong
and Bai, "Improved online conformal prediction via strongly adaptive online learning", ICML 2023 (SF-OGD).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finegrid.calibration.base import Learnt
from finegrid.calibration.kernel import Array
from finegrid.calibration.online.arrivals import Arrivals
from finegrid.calibration.online.radius import Radius, stepped


@dataclass(kw_only=True)
class ScaleFree(Radius):
    """One radius per level and group."""

    name: ClassVar[str] = "scale-free"
    guarantee: ClassVar[str] = "long-run: in time the share of truths inside tends to the level, under any drift"

    def _from(self, radius: Array) -> Learnt:
        return {"squares": np.zeros_like(radius)}

    def _moved(self, learnt: Learnt, arrived: Arrivals) -> None:
        slope = self._loss_and_slope(arrived, learnt["radius"])[1]
        learnt["squares"] += slope**2
        learnt["radius"] = stepped(learnt["radius"], slope, learnt["squares"], learnt["scale"] / np.sqrt(3))
