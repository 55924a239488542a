"""The simple downscalers by name: what a network may build on, and what it must beat."""

from __future__ import annotations

from finegrid.downscalers.analogues import Analogues, ConstructedAnalogues, NearestNeighbours
from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.disaggregation import Bcsd, ClimatologyRatio, Delta, LapseRate
from finegrid.downscalers.generalised import GeneralisedLinear
from finegrid.downscalers.interpolation import Bicubic, Bilinear, Conservative, Nearest
from finegrid.downscalers.linear import (
    ComponentRegression,
    LassoAround,
    Linear,
    RandomFeatures,
    RidgeAround,
    SketchedRegression,
)
from finegrid.downscalers.mean_map import MeanMap
from finegrid.downscalers.pattern_scaling import PatternScaling
from finegrid.downscalers.regimes import RegimeMixture
from finegrid.downscalers.ridge import Ridge

BASELINES: dict[str, type[Downscaler]] = {
    each.name: each
    for each in (
        Nearest,
        Bilinear,
        Bicubic,
        Conservative,
        MeanMap,
        PatternScaling,
        Delta,
        Bcsd,
        LapseRate,
        ClimatologyRatio,
        Linear,
        Ridge,
        RidgeAround,
        LassoAround,
        ComponentRegression,
        SketchedRegression,
        RandomFeatures,
        GeneralisedLinear,
        Analogues,
        NearestNeighbours,
        ConstructedAnalogues,
        RegimeMixture,
    )
}
