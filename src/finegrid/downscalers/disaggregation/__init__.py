"""Spatial disaggregation: the climatology of the place, and the weather of the coarse field."""

from finegrid.downscalers.disaggregation.bcsd import Bcsd
from finegrid.downscalers.disaggregation.climatology_ratio import ClimatologyRatio
from finegrid.downscalers.disaggregation.delta import Delta
from finegrid.downscalers.disaggregation.lapse_rate import LapseRate

__all__ = ["Bcsd", "ClimatologyRatio", "Delta", "LapseRate"]
