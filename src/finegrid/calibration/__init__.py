"""Honest uncertainty: calibrators learn from predictions and what came true, and correct what a model promises."""

from __future__ import annotations

from finegrid.calibration.base import Calibrator
from finegrid.calibration.conformal import Mondrian, Normalised, QuantileBands, Split
from finegrid.calibration.crude import Crude
from finegrid.calibration.dressing import Dressing
from finegrid.calibration.emos import EMOS
from finegrid.calibration.heteroscedastic import SpreadByInput
from finegrid.calibration.recalibration import Recalibration
from finegrid.calibration.spread import Spread

CALIBRATORS: dict[str, type[Calibrator]] = {
    each.name: each
    for each in (
        Spread,
        SpreadByInput,
        Crude,
        Recalibration,
        EMOS,
        Dressing,
        Split,
        Normalised,
        QuantileBands,
        Mondrian,
    )
}

__all__ = ["CALIBRATORS", "Calibrator"]
