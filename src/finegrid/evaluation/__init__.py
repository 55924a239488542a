"""How good is a prediction? Metrics, intervals, verdict and report."""

from finegrid.evaluation.evaluation import Evaluation
from finegrid.evaluation.indices import INDICES, Index
from finegrid.evaluation.judge import evaluate
from finegrid.evaluation.metrics import METRICS, USUAL, Metric
from finegrid.evaluation.scores import Score
from finegrid.evaluation.value_table import ValueTable, value_table

__all__ = [
    "INDICES",
    "METRICS",
    "USUAL",
    "Evaluation",
    "Index",
    "Metric",
    "Score",
    "ValueTable",
    "evaluate",
    "value_table",
]
