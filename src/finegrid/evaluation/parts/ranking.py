"""Methods in the order of their error, with its interval and that of the difference to the best one."""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.parts.base import markdown_table
from finegrid.evaluation.scores import MAIN_METRIC, Score, Scores
from finegrid.evaluation.wording import heading, labelled, number, range_of


def order(evaluation: Scores, variable: str) -> list[Score]:
    """Errors from the smallest to the largest, those that are not known last."""
    found = evaluation.of(variable, MAIN_METRIC).values()
    return sorted(found, key=lambda score: (np.isnan(score.value), score.value))


def ranked(evaluation: Scores, variable: str) -> str:
    """A table in Markdown, a row for each method, the smallest error first."""
    scores = order(evaluation, variable)
    units = scores[0].units
    head = (
        "rank",
        variable,
        heading(MAIN_METRIC, units),
        "95 % interval",
        labelled("more than the best, 95 %", units),
        "verdict",
    )
    rows = [
        [
            str(place),
            score.method,
            number(score.value),
            range_of(score.low, score.high),
            "" if score.best else range_of(score.gap_low, score.gap_high),
            _words(score),
        ]
        for place, score in enumerate(scores, 1)
    ]
    return markdown_table(head, rows)


def _words(score: Score) -> str:
    return "best" if score.best else "tied with the best" if score.tied else "worse"
