"""Metrics by name; each is a statistic per point, a weighted mean and a finish (see `base`)."""

from collections.abc import Sequence

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.evaluation.metrics.anomalies import ACC, ACTIVITY
from finegrid.evaluation.metrics.base import Block, Metric
from finegrid.evaluation.metrics.chances_of_events import BRIER, RELIABILITY, RESOLUTION, ROC_AREA
from finegrid.evaluation.metrics.code_length import CODE_LENGTH
from finegrid.evaluation.metrics.conservation import CONSERVED, VIOLATION
from finegrid.evaluation.metrics.ensembles import RANK, SPREAD_SKILL
from finegrid.evaluation.metrics.events import CSI, FREQUENCY_BIAS, SEDI
from finegrid.evaluation.metrics.histogram import PIT
from finegrid.evaluation.metrics.multiscale import MS_SSIM
from finegrid.evaluation.metrics.neighbourhood import FSS
from finegrid.evaluation.metrics.objects import SAL
from finegrid.evaluation.metrics.pointwise import BIAS, CORRELATION, MAE, NEGATIVES, RMSE
from finegrid.evaluation.metrics.probabilistic import CRPS
from finegrid.evaluation.metrics.reference import Reference
from finegrid.evaluation.metrics.relative import PSNR, R2
from finegrid.evaluation.metrics.scores_of_fields import ENERGY, VARIOGRAM
from finegrid.evaluation.metrics.similarity import SSIM
from finegrid.evaluation.metrics.spectral_distance import LOG_SPECTRAL_DISTANCE, SPECTRAL_DIVERGENCE, SPECTRAL_RESIDUAL
from finegrid.evaluation.metrics.spectrum import POWER_RATIO
from finegrid.evaluation.metrics.structure import SMOOTHING, STRUCTURE_FUNCTION
from finegrid.evaluation.metrics.tail import HIGH_QUANTILE
from finegrid.evaluation.metrics.threshold_weighted import TWCRPS

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
        *(TWCRPS, ENERGY, VARIOGRAM, BRIER, RELIABILITY, RESOLUTION, ROC_AREA, PIT, CODE_LENGTH),
        *(ACC, ACTIVITY, PSNR, R2, MS_SSIM, CSI, SEDI, FREQUENCY_BIAS, FSS, SAL, STRUCTURE_FUNCTION, SMOOTHING),
        *(SPECTRAL_DIVERGENCE, SPECTRAL_RESIDUAL, LOG_SPECTRAL_DISTANCE),
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
