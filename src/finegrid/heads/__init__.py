"""Distributions over fine fields, each owning its network; `base` says what they share."""

from __future__ import annotations

from finegrid.heads.adversarial import AdversarialHead
from finegrid.heads.base import Conditions, Head, Place
from finegrid.heads.committee import Committee
from finegrid.heads.diffusion import DiffusionHead
from finegrid.heads.draws import Draws
from finegrid.heads.dressed import DressedHead
from finegrid.heads.flow import FlowHead
from finegrid.heads.latent import LatentHead
from finegrid.heads.next_scale import NextScaleHead
from finegrid.heads.noise_injected import NoiseInjectedHead
from finegrid.heads.parametric import (
    BernoulliGammaHead,
    CensoredGammaHead,
    GaussianHead,
    MixtureHead,
    ParametricHead,
    QuantilesHead,
    StudentTHead,
)
from finegrid.heads.point import PointHead
from finegrid.heads.space import Problem, Seen, Space
from finegrid.heads.variational import VariationalHead

HEADS: dict[str, type[Head]] = {
    "point": PointHead,
    "dressed": DressedHead,
    "parametric": ParametricHead,
    "gaussian": GaussianHead,
    "student-t": StudentTHead,
    "bernoulli-gamma": BernoulliGammaHead,
    "csgd": CensoredGammaHead,
    "quantiles": QuantilesHead,
    "mixture": MixtureHead,
    "noise-injected": NoiseInjectedHead,
    "diffusion": DiffusionHead,
    "flow": FlowHead,
    "adversarial": AdversarialHead,
    "variational": VariationalHead,
    "latent": LatentHead,
    "next-scale": NextScaleHead,
}

__all__ = [
    "HEADS",
    "Committee",
    "Conditions",
    "Draws",
    "Head",
    "LatentHead",
    "Place",
    "PointHead",
    "Problem",
    "Seen",
    "Space",
]
