"""From sums to scores: values, their intervals, and how far each method is behind the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.floor import Floor
from finegrid.evaluation.intervals import LEAST_TIMES, Draws, block_length, interval
from finegrid.evaluation.metrics import METRICS, Metric
from finegrid.evaluation.scores import MAIN_METRIC, Score
from finegrid.evaluation.tally import Tally

NEGLIGIBLE = 1e-3
"""Part of a distance from perfect that is too small to matter."""


def draws_for(
    tallies: Mapping[str, Tally], *, block: int | None, step_seconds: float | None, seed: int
) -> Draws | None:
    """Times to draw for the intervals, the same for all methods; None when there are too few."""
    errors = next(iter(tallies.values())).totals(MAIN_METRIC).per_time()[0]
    if len(errors) < LEAST_TIMES:
        return None
    length = block_length(errors, step_seconds=step_seconds) if block is None else min(max(1, block), len(errors))
    return Draws.of(len(errors), length, seed=seed)


def compare(tallies: Mapping[str, Tally], *, variable: str, units: str, draws: Draws | None) -> list[Score]:
    """Scores of all methods and metrics of one variable."""
    names = next(iter(tallies.values())).parts
    return [score for name in names for score in _compare(tallies, METRICS[name], variable, units, draws)]


def above(scores: Sequence[Score], floor: Floor | None) -> list[Score]:
    """Scores with their floors; who is behind the best by less than the floor is tied with it."""
    if floor is None:
        return list(scores)
    found = []
    for score in scores:
        level = floor.floors.get(score.metric, np.nan)
        away = METRICS[score.metric].distance(np.array(score.value))
        leading = [METRICS[each.metric].distance(np.array(each.value)) for each in scores if _leads(each, score)]
        within = bool(leading) and bool(away - leading[0] < level)
        found.append(replace(score, floor=level, tied=score.tied or within))
    return found


def _leads(each: Score, score: Score) -> bool:
    return each.best and each.metric == score.metric


def _compare(
    tallies: Mapping[str, Tally], metric: Metric, variable: str, units: str, draws: Draws | None
) -> list[Score]:
    values, samples = {}, {}
    for method, each in tallies.items():
        totals = each.totals(metric.name)
        values[method] = float(metric.finish(totals.mean()[:, None])[0])
        samples[method] = _samples(metric, totals, values[method], draws)
    away = {method: float(metric.distance(np.array(value))) for method, value in values.items()}
    known = [method for method, distance in away.items() if not np.isnan(distance)]
    leader = min(known, key=lambda method: away[method], default=None)
    scores = []
    for method, value in values.items():
        low, high = interval(samples[method])
        gap = _gap(metric, samples[method], samples[leader]) if leader and method != leader else (0.0, 0.0)
        best = leader is not None and away[method] == away[leader]
        tied = leader is not None and _tied(away[method], away[leader], gap[0])
        scale = units if metric.in_units else "1"
        scores.append(Score(method, variable, metric.name, value, low, high, scale, *gap, best, tied))
    return scores


def _tied(distance: float, leading: float, gap_low: float) -> bool:
    # What is statistically certain can still be too small to matter.
    return not np.isnan(distance) and (not gap_low > 0 or distance - leading <= NEGLIGIBLE * distance)


def _samples(metric: Metric, totals: Totals, value: float, draws: Draws | None) -> Array:
    # The largest departure is a fact about these data and no estimate of a mean: nothing to draw.
    if metric.extreme:
        return np.array([value])
    return np.full(1, np.nan) if draws is None else metric.finish(draws.means(totals))


def _gap(metric: Metric, samples: Array, leading: Array) -> tuple[float, float]:
    with np.errstate(invalid="ignore"):
        return interval(metric.distance(samples) - metric.distance(leading))
