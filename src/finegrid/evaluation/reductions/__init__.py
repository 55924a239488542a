"""Scores over time, space, members or groups, as maps, series and tables of labelled fields, all of them lazy."""

from finegrid.evaluation.reductions.score import score

__all__ = ["score"]
