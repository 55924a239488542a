"""Distributions of a value given the parameters that a network says, by name."""

from __future__ import annotations

from collections.abc import Callable

from finegrid.heads.distributions.base import Distribution
from finegrid.heads.distributions.censored import CensoredShiftedGamma
from finegrid.heads.distributions.gaussian import Gaussian
from finegrid.heads.distributions.mixture import Mixture
from finegrid.heads.distributions.quantiles import Quantiles
from finegrid.heads.distributions.rain import BernoulliGamma
from finegrid.heads.distributions.student import StudentT

DISTRIBUTIONS: dict[str, Callable[..., Distribution]] = {
    "gaussian": Gaussian,
    "student-t": StudentT,
    "bernoulli-gamma": BernoulliGamma,
    "csgd": CensoredShiftedGamma,
    "quantiles": Quantiles,
    "mixture": Mixture,
}

__all__ = [
    "DISTRIBUTIONS",
    "BernoulliGamma",
    "CensoredShiftedGamma",
    "Distribution",
    "Gaussian",
    "Mixture",
    "Quantiles",
    "StudentT",
]
