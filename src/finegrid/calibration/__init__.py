"""Honest uncertainty: calibrators learn from predictions and what came true, and correct what a model promises."""

from __future__ import annotations

from finegrid.calibration.base import Calibrator
from finegrid.calibration.boosting import Multicalibrated
from finegrid.calibration.conformal import Mondrian, Normalised, QuantileBands, Split
from finegrid.calibration.crude import Crude
from finegrid.calibration.dressing import Dressing
from finegrid.calibration.emos import EMOS
from finegrid.calibration.events import EVENT_CALIBRATORS, EventCalibrator
from finegrid.calibration.heteroscedastic import SpreadByInput
from finegrid.calibration.joint import Joint, MapBand
from finegrid.calibration.online import Decaying, Reservoir, ScaleFree, StronglyAdaptive
from finegrid.calibration.recalibration import Recalibration
from finegrid.calibration.shifted import Shifted
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
        Multicalibrated,
        Split,
        Normalised,
        QuantileBands,
        Mondrian,
        Shifted,
        MapBand,
        Joint,
        ScaleFree,
        StronglyAdaptive,
        Decaying,
        Reservoir,
    )
}

__all__ = ["CALIBRATORS", "EVENT_CALIBRATORS", "Calibrator", "EventCalibrator"]
