"""How good is a prediction? Metrics, intervals, verdict and report."""

from finegrid.evaluation.change import ClimateChange, change
from finegrid.evaluation.evaluation import Evaluation
from finegrid.evaluation.indices import INDICES, Index
from finegrid.evaluation.judge import evaluate
from finegrid.evaluation.metrics import METRICS, USUAL, Metric
from finegrid.evaluation.reductions import score
from finegrid.evaluation.return_levels import return_levels
from finegrid.evaluation.scores import Score
from finegrid.evaluation.significance import diebold_mariano, difference_map, discoveries, effective_size
from finegrid.evaluation.value_table import ValueTable, value_table

__all__ = [
    "INDICES",
    "METRICS",
    "USUAL",
    "ClimateChange",
    "Evaluation",
    "Index",
    "Metric",
    "Score",
    "ValueTable",
    "change",
    "diebold_mariano",
    "difference_map",
    "discoveries",
    "effective_size",
    "evaluate",
    "return_levels",
    "score",
    "value_table",
]
