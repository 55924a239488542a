"""The simple downscalers by name: what a network may build on, and what it must beat."""

from __future__ import annotations

from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.interpolation import Bicubic, Bilinear, Conservative, Nearest
from finegrid.downscalers.mean_map import MeanMap
from finegrid.downscalers.ridge import Ridge

BASELINES: dict[str, type[Downscaler]] = {
    each.name: each for each in (Nearest, Bilinear, Bicubic, Conservative, MeanMap, Ridge)
}
