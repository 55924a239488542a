"""Coarse Dataset in, fine ensemble Dataset out: interpolation, statistics and networks behind one interface."""

from finegrid.downscalers.analogues import Analogues, ConstructedAnalogues, NearestNeighbours
from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.baselines import BASELINES
from finegrid.downscalers.blend import Blend
from finegrid.downscalers.disaggregation import Bcsd, ClimatologyRatio, Delta, LapseRate
from finegrid.downscalers.generalised import GeneralisedLinear
from finegrid.downscalers.interpolation import Bicubic, Bilinear, Conservative, Nearest
from finegrid.downscalers.linear import (
    ComponentRegression,
    LassoAround,
    Linear,
    LinearMap,
    RandomFeatures,
    RidgeAround,
    SketchedRegression,
)
from finegrid.downscalers.mean_map import MeanMap
from finegrid.downscalers.method import DOWNSCALERS, STATISTICAL, load, method
from finegrid.downscalers.mixtures import RegressionMixture
from finegrid.downscalers.neural import NeuralDownscaler
from finegrid.downscalers.pattern_scaling import PatternScaling
from finegrid.downscalers.processors import processors
from finegrid.downscalers.regimes import RegimeMixture
from finegrid.downscalers.ridge import Ridge
from finegrid.downscalers.trees import BoostedTrees

__all__ = [
    "BASELINES",
    "DOWNSCALERS",
    "STATISTICAL",
    "Analogues",
    "Bcsd",
    "Bicubic",
    "Bilinear",
    "Blend",
    "BoostedTrees",
    "ClimatologyRatio",
    "ComponentRegression",
    "Conservative",
    "ConstructedAnalogues",
    "Delta",
    "Downscaler",
    "GeneralisedLinear",
    "LapseRate",
    "LassoAround",
    "Linear",
    "LinearMap",
    "MeanMap",
    "Nearest",
    "NearestNeighbours",
    "NeuralDownscaler",
    "PatternScaling",
    "RandomFeatures",
    "RegimeMixture",
    "RegressionMixture",
    "Ridge",
    "RidgeAround",
    "SketchedRegression",
    "load",
    "method",
    "processors",
]
