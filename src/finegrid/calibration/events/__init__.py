"""Honest chances of events: how often a threshold is exceeded when an ensemble says so."""

from __future__ import annotations

from finegrid.calibration.events.base import EventCalibrator
from finegrid.calibration.events.error_bounded import ErrorBounded
from finegrid.calibration.events.isotonic import Isotonic
from finegrid.calibration.events.masked import MaskedTemperature
from finegrid.calibration.events.temperature import Temperature

EVENT_CALIBRATORS: dict[str, type[EventCalibrator]] = {
    each.name: each for each in (Isotonic, Temperature, ErrorBounded, MaskedTemperature)
}

__all__ = ["EVENT_CALIBRATORS", "EventCalibrator"]
