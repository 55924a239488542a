"""Which coarse inputs predictions come from: methods, maps of many times, comparison, and a sparse model of the top."""

from finegrid.benchmark.attribution.aggregate import Aggregate, aggregate
from finegrid.benchmark.attribution.base import Attributed, Attribution, blocks
from finegrid.benchmark.attribution.comparing import Agreement, agreement, overlap, sizes, top
from finegrid.benchmark.attribution.fields import attribute
from finegrid.benchmark.attribution.gradients import ExpectedGradients, IntegratedGradients
from finegrid.benchmark.attribution.kinds import ATTRIBUTIONS
from finegrid.benchmark.attribution.occlusion import Occlusion
from finegrid.benchmark.attribution.shapley import Shapley
from finegrid.benchmark.attribution.sparse import SparseModel, sparse_model
from finegrid.benchmark.attribution.targets import Target

__all__ = [
    "ATTRIBUTIONS",
    "Aggregate",
    "Agreement",
    "Attributed",
    "Attribution",
    "ExpectedGradients",
    "IntegratedGradients",
    "Occlusion",
    "Shapley",
    "SparseModel",
    "Target",
    "aggregate",
    "agreement",
    "attribute",
    "blocks",
    "overlap",
    "sizes",
    "sparse_model",
    "top",
]
