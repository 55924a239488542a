"""Forecasts by lead time: scores against one truth or several, drift of the bias, and where skill ends."""

from finegrid.evaluation.leads.metrics import LEAD_METRICS
from finegrid.evaluation.leads.scores import Difference, Drift, Horizon, LeadScore, LeadScores
from finegrid.evaluation.leads.verifying import BASELINES, verify

__all__ = ["BASELINES", "LEAD_METRICS", "Difference", "Drift", "Horizon", "LeadScore", "LeadScores", "verify"]
