"""Coarse Dataset in, fine ensemble Dataset out: interpolation, statistics and networks behind one interface."""

from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.baselines import BASELINES
from finegrid.downscalers.interpolation import Bicubic, Bilinear, Conservative, Nearest
from finegrid.downscalers.mean_map import MeanMap
from finegrid.downscalers.method import DOWNSCALERS, load, method
from finegrid.downscalers.neural import NeuralDownscaler
from finegrid.downscalers.ridge import Ridge

__all__ = [
    "BASELINES",
    "DOWNSCALERS",
    "Bicubic",
    "Bilinear",
    "Conservative",
    "Downscaler",
    "MeanMap",
    "Nearest",
    "NeuralDownscaler",
    "Ridge",
    "load",
    "method",
]
