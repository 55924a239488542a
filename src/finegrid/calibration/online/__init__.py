"""Calibrators that go on learning: intervals that stay honest when the climate drifts."""

from __future__ import annotations

from finegrid.calibration.online.base import Online
from finegrid.calibration.online.decaying import Decaying
from finegrid.calibration.online.reservoir import Reservoir
from finegrid.calibration.online.scale_free import ScaleFree
from finegrid.calibration.online.strongly_adaptive import StronglyAdaptive

__all__ = ["Decaying", "Online", "Reservoir", "ScaleFree", "StronglyAdaptive"]
