"""From sums to scores: values, their intervals, and how far each method is behind the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from finegrid.evaluation.averaging import Totals
from finegrid.evaluation.floor import Floor
from finegrid.evaluation.intervals import Draws
from finegrid.evaluation.metrics import METRICS, Metric
from finegrid.evaluation.sampled import Sampled, draws_of
from finegrid.evaluation.scores import MAIN_METRIC, Score
from finegrid.evaluation.tally import Tally

NEGLIGIBLE = 1e-3
"""Part of a distance from perfect that is too small to matter."""


def draws_for(
    tallies: Mapping[str, Tally], *, block: int | None, step_seconds: float | None, seed: int
) -> Draws | None:
    """Times to draw for the intervals, the same for all methods; None when there are too few."""
    errors = next(iter(tallies.values())).totals(MAIN_METRIC).per_time()[0]
    return draws_of(errors, block=block, step_seconds=step_seconds, seed=seed)


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


def _sampled(metric: Metric, totals: Totals, draws: Draws | None) -> Sampled:
    if not metric.extreme:
        return Sampled.of(totals, metric.finish, draws)
    # The largest departure is a fact about these data and no estimate of a mean: nothing to draw.
    value = metric.finish(totals.mean()[:, None])
    return Sampled(float(value[0]), value, value, None)


def _compare(
    tallies: Mapping[str, Tally], metric: Metric, variable: str, units: str, draws: Draws | None
) -> list[Score]:
    sampled = {method: _sampled(metric, each.totals(metric.name), draws) for method, each in tallies.items()}
    away = {method: float(metric.distance(np.array(each.value))) for method, each in sampled.items()}
    known = [method for method, distance in away.items() if not np.isnan(distance)]
    leader = min(known, key=lambda method: away[method], default=None)
    scores = []
    for method, each in sampled.items():
        gap = _gap(metric, each, sampled[leader]) if leader and method != leader else (0.0, 0.0)
        best = leader is not None and away[method] == away[leader]
        tied = leader is not None and _tied(away[method], away[leader], gap[0])
        scale = units if metric.in_units else "1"
        scores.append(Score(method, variable, metric.name, each.value, *each.interval(), scale, *gap, best, tied))
    return scores


def _tied(distance: float, leading: float, gap_low: float) -> bool:
    # What is statistically certain can still be too small to matter.
    return not np.isnan(distance) and (not gap_low > 0 or distance - leading <= NEGLIGIBLE * distance)


def _gap(metric: Metric, each: Sampled, leader: Sampled) -> tuple[float, float]:
    behind = each.combined(leader, lambda own, best: metric.distance(own) - metric.distance(best))
    return behind.interval(centred=True)
