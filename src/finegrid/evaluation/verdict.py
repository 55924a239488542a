"""The sentence on top of a report. It says when a simple baseline wins, and when nobody can tell."""

from __future__ import annotations

import numpy as np

from finegrid.evaluation.metrics import CONSERVED, METRICS
from finegrid.evaluation.scores import MAIN_METRIC, Score, Scores
from finegrid.evaluation.wording import number, pretty, range_of, with_units

_FITTING = 0.05
"""Departure from one of a ratio of spread and error that is too small to matter."""


def verdict(evaluation: Scores) -> str:
    """Who has the smallest error of each variable, with figures, and whether the coarse field is kept."""
    clauses = [_clause(evaluation, variable) for variable in evaluation.variables]
    sentence = "; ".join([*clauses, *_conservation(evaluation)]) + "."
    return sentence[0].upper() + sentence[1:]


def _clause(evaluation: Scores, variable: str) -> str:
    own = evaluation.of(variable, MAIN_METRIC)[evaluation.method]
    rival = evaluation.strongest_baseline(variable)
    about = f"for {_label(evaluation, variable)}"
    figures = f"typical error ({METRICS[MAIN_METRIC].title}) {with_units(own.value, own.units)}"
    if rival is None:
        extent = range_of(own.low, own.high)
        between = f" (95 % interval {extent})" if extent else ""
        good = "and no baseline says whether that is good"
        return f"{about}, {own.method} has a {figures}{between}, {good}{_as_ensemble(evaluation, variable)}"
    against = f"{figures} against {with_units(rival.value, rival.units)}"
    members = _as_ensemble(evaluation, variable)
    worse = rival if own.best else own
    if worse.tied:
        undecided = _undecided(worse, own, rival)
        return f"{about}, {own.method} and the strongest baseline, {rival.method}, {undecided}: {against}{members}"
    against += (
        f" (95 % interval of the difference {range_of(worse.gap_low, worse.gap_high)} {pretty(own.units)}".rstrip()
        + ")"
    )
    against += members
    if own.best:
        share = number(100 * (1 - own.value / rival.value), digits=2)
        return f"{about}, {own.method} beats the strongest baseline, {rival.method}, by {share} %: {against}"
    return f"{about}, the simple baseline {rival.method} is better than {own.method}: {against}"


def _as_ensemble(evaluation: Scores, variable: str) -> str:
    """What the error of the mean does not say of an ensemble: its CRPS, and whether its spread is honest."""
    members = next((view.members for view in evaluation.views if view.variable == variable), 1)
    spread = evaluation.of(variable, "spread-skill").get(evaluation.method)
    if members < 2 or spread is None:
        return ""
    told = [f"has a CRPS of {each}" for each in _compared(evaluation, variable)]
    return f"; as an ensemble of {members} members it {' and '.join([*told, dispersion(spread)])}"


def _compared(evaluation: Scores, variable: str) -> list[str]:
    """The CRPS beside the best of the baselines, where there is one."""
    scores = evaluation.of(variable, "crps")
    rivals = {name: each for name, each in scores.items() if name != evaluation.method and not np.isnan(each.value)}
    if not rivals:
        return []
    rival = min(rivals, key=lambda name: rivals[name].value)
    own, other = (with_units(scores[name].value, scores[name].units) for name in (evaluation.method, rival))
    return [f"{own} (the best of the others, {rival}, has {other})"]


def dispersion(score: Score) -> str:
    """Whether members are as far apart as they are from the truth, from the ratio of the two."""
    if np.isnan(score.value):
        return "has no error to compare its spread with"
    ratio = f"its spread is {number(score.value)} times its error"
    # Without an interval comparisons with its ends are false, and the ratio alone decides.
    if score.value < 1 - _FITTING and not score.high >= 1:
        return f"is underdispersive, too sure of itself ({ratio})"
    if score.value > 1 + _FITTING and not score.low <= 1:
        return f"is overdispersive, less sure of itself than it could be ({ratio})"
    return f"has the spread that its error asks for ({ratio})"


def _label(evaluation: Scores, variable: str) -> str:
    labels = {view.variable: view.label for view in evaluation.views}
    return labels.get(variable, variable)


def _undecided(score: Score, own: Score, rival: Score) -> str:
    if abs(own.value - rival.value) < score.floor:
        return (
            "cannot be told apart: their difference is within internal variability (that of the mean of the truth's "
            f"members is {with_units(score.floor, score.units)})"
        )
    if np.isnan(score.gap_low):
        return "cannot be told apart on so few times"
    if score.gap_low > 0:
        return "are equal but for less than a thousandth"
    return "are tied (the 95 % interval of the difference includes zero)"


def _conservation(evaluation: Scores) -> list[str]:
    found = [evaluation.of(variable, "violation").get(evaluation.method) for variable in evaluation.variables]
    values = {score.variable: score.value for score in found if score is not None and not np.isnan(score.value)}
    if not values:
        return []
    variable = max(values, key=lambda name: values[name])
    if values[variable] <= CONSERVED:
        departure = f"largest relative departure {number(values[variable])}"
        return [f"{evaluation.method} conserves the coarse field to rounding ({departure})"]
    share = f"{number(100 * values[variable])} %"
    adjustment, adjusted, _ = evaluation.method.partition("/")
    if adjusted:
        return [
            f"{evaluation.method} adjusts the coarse field ({adjustment}) before it conserves it: it departs from the "
            f"field as given by up to {share} ({variable})"
        ]
    return [f"{evaluation.method} does not conserve the coarse field: it departs from it by up to {share} ({variable})"]
