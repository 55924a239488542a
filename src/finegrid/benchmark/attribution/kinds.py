"""The methods of attribution by name."""

from __future__ import annotations

from finegrid.benchmark.attribution.base import Attribution
from finegrid.benchmark.attribution.gradients import ExpectedGradients, IntegratedGradients
from finegrid.benchmark.attribution.occlusion import Occlusion
from finegrid.benchmark.attribution.shapley import Shapley

ATTRIBUTIONS: dict[str, type[Attribution]] = {
    each.name: each for each in (IntegratedGradients, ExpectedGradients, Shapley, Occlusion)
}
