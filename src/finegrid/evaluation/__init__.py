"""How good is a prediction? Metrics, intervals, verdict and report."""

from finegrid.evaluation.evaluation import Evaluation
from finegrid.evaluation.judge import evaluate
from finegrid.evaluation.metrics import METRICS, Metric
from finegrid.evaluation.scores import Score

__all__ = ["METRICS", "Evaluation", "Metric", "Score", "evaluate"]
