"""Coarse Dataset in, fine ensemble Dataset out: interpolation, statistics and networks behind one interface."""

from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.baselines import BASELINES
from finegrid.downscalers.disaggregation import Bcsd, ClimatologyRatio, Delta, LapseRate
from finegrid.downscalers.interpolation import Bicubic, Bilinear, Conservative, Nearest
from finegrid.downscalers.mean_map import MeanMap
from finegrid.downscalers.method import DOWNSCALERS, load, method
from finegrid.downscalers.neural import NeuralDownscaler
from finegrid.downscalers.pattern_scaling import PatternScaling
from finegrid.downscalers.ridge import Ridge

__all__ = [
    "BASELINES",
    "DOWNSCALERS",
    "Bcsd",
    "Bicubic",
    "Bilinear",
    "ClimatologyRatio",
    "Conservative",
    "Delta",
    "Downscaler",
    "LapseRate",
    "MeanMap",
    "Nearest",
    "NeuralDownscaler",
    "PatternScaling",
    "Ridge",
    "load",
    "method",
]
