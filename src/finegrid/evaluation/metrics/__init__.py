"""Metrics by name; each is a statistic per point, a weighted mean and a finish (see `base`)."""

from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.conservation import CONSERVED, VIOLATION
from finegrid.evaluation.metrics.ensembles import RANK, SPREAD_SKILL
from finegrid.evaluation.metrics.pointwise import BIAS, CORRELATION, MAE, NEGATIVES, RMSE
from finegrid.evaluation.metrics.probabilistic import CRPS
from finegrid.evaluation.metrics.reference import Reference
from finegrid.evaluation.metrics.similarity import SSIM
from finegrid.evaluation.metrics.spectrum import POWER_RATIO
from finegrid.evaluation.metrics.tail import HIGH_QUANTILE

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        RMSE,
        MAE,
        CRPS,
        SPREAD_SKILL,
        RANK,
        BIAS,
        CORRELATION,
        SSIM,
        POWER_RATIO,
        HIGH_QUANTILE,
        NEGATIVES,
        VIOLATION,
    )
}

__all__ = ["CONSERVED", "METRICS", "Block", "Metric", "Reference"]
