"""From sums to scores by lead: values, intervals, differences, the drift of the bias, and where skill ends.

Blocks of the bootstrap are as long as the memory of what is judged: of the errors of a system, of the difference
between those of two systems, or of what each initial time adds to the drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.intervals import Draws, block_length
from finegrid.evaluation.leads.metrics import LEAD_METRICS, LeadMetric
from finegrid.evaluation.leads.scene import Scene, Sums
from finegrid.evaluation.leads.scores import Difference, Drift, Horizon, LeadScore
from finegrid.evaluation.leads.times import in_days
from finegrid.evaluation.sampled import Sampled, draws_of, weighted_sum

MAIN, BIAS = "rmse", "bias"


@dataclass(frozen=True)
class Drawing:
    """How initial times are drawn.

    Attributes:
        block: of them in a block; None is as long as the memory.
        seed: of the random numbers.
        step: seconds between initial times.
    """

    block: int | None
    seed: int
    step: float | None

    def draws(self, *series: Array) -> Draws | None:
        """Draws for series (init,), in blocks as long as the longest memory; None for too few initial times."""
        length = self.block or max(block_length(each, step_seconds=self.step) for each in series)
        return draws_of(series[0], block=length, step_seconds=self.step, seed=self.seed)


def scores(scene: Scene, sums: Sums, drawing: Drawing) -> Iterator[LeadScore]:
    """All metrics of all systems at all leads."""
    every = [_draws_at(sums, index, drawing) for index in range(len(scene.leads))]
    for metric in scene.metrics:
        for index, lead in enumerate(scene.leads):
            found = {name: _at_lead(metric, each[metric.name][index], every[index]) for name, each in sums.items()}
            away = {name: each.changed(metric.distance) for name, each in found.items()}
            known = [name for name in away if np.isfinite(away[name].value)]
            leader = min(known, key=lambda name: away[name].value, default=None)
            for name, each in found.items():
                best = leader is not None and away[name].value == away[leader].value
                tied = leader is not None and name in known and not best and _tied(away[name], away[leader])
                where = (name, scene.truth, scene.variable, metric.name, in_days(lead))
                units = scene.units if metric.in_units else "1"
                yield LeadScore(*where, each.value, *each.interval(), units, best, tied)


def longest(scene: Scene, sums: Sums, drawing: Drawing) -> int:
    """Initial times in the longest block by which scores are judged; 0 without intervals."""
    draws = [_draws_at(sums, index, drawing) for index in range(len(scene.leads))]
    return max(0 if each is None else each.length for each in draws)


def differences(scene: Scene, sums: Sums, drawing: Drawing) -> Iterator[Difference]:
    """RMSE of every system less that of every later one, on the same draws."""
    metric = LEAD_METRICS[MAIN]
    for index, lead in enumerate(scene.leads):
        totals = {name: each[MAIN][index] for name, each in sums.items()}
        for one, other in combinations(totals, 2):
            draws = drawing.draws(_series(totals[one]) - _series(totals[other]))
            apart = _at_lead(metric, totals[one], draws).less(_at_lead(metric, totals[other], draws))
            ends = apart.interval(centred=True)
            yield Difference(one, other, scene.truth, scene.variable, in_days(lead), apart.value, *ends)


def drifts(scene: Scene, sums: Sums, drawing: Drawing) -> Iterator[Drift]:
    """Slope of the bias of every system; nothing where there is one lead."""
    days = np.array([in_days(lead) for lead in scene.leads])
    if len(days) < 2:
        return
    metric, weights = LEAD_METRICS[BIAS], (days - days.mean()) / ((days - days.mean()) ** 2).sum()
    for name, each in sums.items():
        draws = drawing.draws(weights @ np.stack([_series(totals) for totals in each[BIAS]]))
        slope = weighted_sum([_at_lead(metric, totals, draws) for totals in each[BIAS]], weights)
        yield Drift(name, scene.truth, scene.variable, slope.value, *slope.interval(centred=True), scene.units)


def horizons(scene: Scene, found: Sequence[Difference], baselines: Sequence[str]) -> Iterator[Horizon]:
    """Where the skill of every system over the simple ones among them ends."""
    names = [system.name for system in scene.systems]
    for baseline in (each for each in baselines if each in names):
        for name in (each for each in names if each != baseline):
            both = (each for each in found if {each.model, each.other} == {name, baseline})
            lost = [each.lead for each in both if not _wins(each, name)]
            yield Horizon(name, baseline, scene.truth, scene.variable, min(lost, default=np.nan))


def _at_lead(metric: LeadMetric, totals: Totals, draws: Draws | None) -> Sampled:
    return Sampled.of(totals, metric.finish, draws)


def _series(totals: Totals) -> Array:
    """The mean over the area at each initial time (init,)."""
    return np.asarray(totals.per_time()[0])


def _draws_at(sums: Sums, index: int, drawing: Drawing) -> Draws | None:
    """Draws that all systems share at a lead."""
    return drawing.draws(*(_series(each[MAIN][index]) for each in sums.values()))


def _tied(away: Sampled, leading: Sampled) -> bool:
    low, _ = away.less(leading).interval(centred=True)
    return not low > 0


def _wins(difference: Difference, name: str) -> bool:
    """Whether the system of that name has the smaller error beyond chance."""
    return difference.high < 0 if difference.model == name else difference.low > 0
