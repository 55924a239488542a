"""Distributions of fine values given the weather, by name."""

from finegrid.downscalers.families.base import Family, Numbers
from finegrid.downscalers.families.choosing import fitted, named, penalties_for, pieces, suiting
from finegrid.downscalers.families.gamma import LEAST, Gamma
from finegrid.downscalers.families.gaussian import Gaussian
from finegrid.downscalers.families.rain import BernoulliGamma

FAMILIES: dict[str, type[Family]] = {each.name: each for each in (Gaussian, Gamma, BernoulliGamma)}

__all__ = [
    "FAMILIES",
    "LEAST",
    "BernoulliGamma",
    "Family",
    "Gamma",
    "Gaussian",
    "Numbers",
    "fitted",
    "named",
    "penalties_for",
    "pieces",
    "suiting",
]
