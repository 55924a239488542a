"""Metrics by name; each is a statistic per point, a weighted mean and a finish (see `base`)."""

from collections.abc import Sequence

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
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

ALL = "all"
USUAL = (
    *("rmse", "mae", "crps", "spread-skill", "rank", "bias", "correlation", "ssim", "power-ratio"),
    *("high-quantile", "negatives", "violation"),
)
"""Metrics of a report unless others are asked for."""


def metrics_of(names: Sequence[str]) -> tuple[Metric, ...]:
    """Metrics by name, in the order of METRICS; the error by which methods are ranked is always among them.

    Raises:
        InputError: on an unknown name.
    """
    wanted = (names,) if isinstance(names, str) else tuple(names)
    if ALL in wanted:
        return tuple(METRICS.values())
    for name in wanted:
        if name not in METRICS:
            raise InputError(
                f"There is no metric '{name}'. The names are {', '.join(METRICS)}, or {ALL}.{nearest(name, METRICS)}"
            )
    return tuple(metric for name, metric in METRICS.items() if name in (*wanted, RMSE.name))


__all__ = ["CONSERVED", "METRICS", "USUAL", "Block", "Metric", "Reference", "metrics_of"]
