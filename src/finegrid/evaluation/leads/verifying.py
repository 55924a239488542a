"""Verify forecasts by lead time: against the analysis they started from, and against observations.

Systems are compared from the same initial conditions, at the same leads, cells and times. A system that is verified
against its own analysis is judged by a truth with its own errors in it; observations have errors too, but not those. A
ranking that holds against both is worth more than one that does not.

    bias drift   slope of the bias on the lead time, by least squares
    horizon      the first lead at which a system is not better than a simple forecast beyond chance: in the end every
                 forecast knows no more than the climate

Differences are judged by the paired bootstrap: blocks of consecutive initial times are drawn with replacement, the same
for both systems, as forecasts that start one after the other share their weather (`intervals`).

>>> found = verify({"ours": ours, "theirs": theirs}, {"analysis": era5, "observations": gridded})    # doctest: +SKIP
>>> print(found.markdown())                                                                         # doctest: +SKIP

Source: Ben Bouallègue et al. 2024, doi:10.1175/BAMS-D-23-0162.1; Nathaniel et al., ChaosBench, arXiv:2402.00712.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from finegrid.conventions import InputError, find_variable
from finegrid.conventions.components import nearest
from finegrid.evaluation.leads.comparing import BIAS, MAIN, Drawing, differences, drifts, horizons, longest, scores
from finegrid.evaluation.leads.metrics import LEAD_METRICS, LeadMetric
from finegrid.evaluation.leads.scene import Scene, known_of
from finegrid.evaluation.leads.scores import Difference, Drift, Horizon, LeadScore, LeadScores
from finegrid.evaluation.leads.times import Forecast, Truth, common_inits, common_leads
from finegrid.evaluation.metrics.reference import EVENT

BASELINES = ("climatology", "persistence")
"""What simple forecasts are usually called."""
Truths = Mapping[str, xr.Dataset | Mapping[str, xr.Dataset]]


@dataclass
class _Found:
    """Rows as they come."""

    scores: list[LeadScore] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    horizons: list[Horizon] = field(default_factory=list)
    block: int = 0

    def add(self, scene: Scene, baselines: Sequence[str], drawing: Drawing) -> None:
        """Take in one variable against one truth."""
        sums = scene.summed()
        pairs = list(differences(scene, sums, drawing))
        self.scores += scores(scene, sums, drawing)
        self.differences += pairs
        self.drifts += drifts(scene, sums, drawing)
        self.horizons += horizons(scene, pairs, baselines)
        self.block = max(self.block, longest(scene, sums, drawing))


def verify(
    forecasts: Mapping[str, xr.Dataset],
    truths: Truths,
    *,
    climatology: xr.Dataset | None = None,
    baselines: Sequence[str] = BASELINES,
    variables: Sequence[str] | None = None,
    metrics: Sequence[str] = tuple(LEAD_METRICS),
    thresholds: Mapping[str, float] | None = None,
    level: float = EVENT,
    block: int | None = None,
    seed: int = 0,
) -> LeadScores:
    """Scores of forecasts by lead time; they need not fit in memory, as each lead is read on its own.

    Args:
        forecasts: fields (init, lead, [member], y, x) by name of the system.
        truths: fields (time, y, x) on the same grid by name, such as "analysis" and "observations"; missing where
            nothing is known. Where every system has a truth of its own (its own analysis): those, by name of the
            system.
        climatology: record (time, y, x) whose means by month and hour anomalies are taken from, and whose quantiles are
            the thresholds of events; None is the truth itself.
        baselines: names of the simple forecasts among `forecasts`, whose skill is no skill.
        variables: names in the truth; by default all that the first forecast has.
        metrics: names in LEAD_METRICS; the error is always among them, and the bias.
        thresholds: of the events of the variables, in the units of the truth; by default the quantile `level` in each
            cell.
        level: of events and of the quantile score.
        block: initial times in a block of the bootstrap; by default from the data (`intervals`).
        seed: of the bootstrap.

    Raises:
        InputError: when nothing is common, grids or units differ, a metric is unknown, or a forecast is missing where
            there is a truth.
    """
    systems = [Forecast.of(fields, name) for name, fields in forecasts.items()]
    inits, leads, chosen = common_inits(systems), common_leads(systems), _metrics_of(metrics)
    settled = {name: _truths_of(name, given, systems) for name, given in truths.items()}
    if not settled:
        raise InputError("got no truth; expected one at least; pass truths={'analysis': fields}")
    record = None if climatology is None else Truth.of(climatology, "climatology")
    names = variables or _variables(next(iter(next(iter(settled.values())).values())), systems[0])
    found, drawing = _Found(), Drawing(block, seed, _step(inits))
    for truth, own in settled.items():
        for variable in names:
            known = known_of(own, variable, record, (thresholds or {}).get(variable), level)
            scene = Scene(variable, truth, systems, known, chosen, inits, leads, level)
            found.add(scene, baselines, drawing)
    rows = (tuple(found.scores), tuple(found.differences), tuple(found.drifts), tuple(found.horizons))
    return LeadScores(*rows, len(inits), found.block, _notes(len(inits), found.block))


def _metrics_of(names: Sequence[str]) -> list[LeadMetric]:
    for name in names:
        if name not in LEAD_METRICS:
            raise InputError(
                f"There is no metric '{name}' of forecasts. The names are {', '.join(LEAD_METRICS)}."
                f"{nearest(name, LEAD_METRICS)}"
            )
    return [metric for name, metric in LEAD_METRICS.items() if name in (*names, MAIN, BIAS)]


def _truths_of(
    name: str, given: xr.Dataset | Mapping[str, xr.Dataset], systems: Sequence[Forecast]
) -> dict[str, Truth]:
    """The truth of each system."""
    if isinstance(given, xr.Dataset):
        shared = Truth.of(given, name)
        own = {system.name: shared for system in systems}
    else:
        lacking = [system.name for system in systems if system.name not in given]
        if lacking:
            raise InputError(
                f"got {name} of {', '.join(given)}, and none of {lacking[0]}; expected one for every forecast; add "
                f"truths['{name}']['{lacking[0]}'], or give one Dataset for all"
            )
        own = {system.name: Truth.of(given[system.name], f"{name} of {system.name}") for system in systems}
    for system in systems:
        own[system.name].check_grid(system)
    return own


def _variables(truth: Truth, system: Forecast) -> list[str]:
    """What a truth and a forecast share."""
    shared = []
    for name, each in truth.fields.data_vars.items():
        try:
            find_variable(system.at[0], str(name), source=system.name)
        except InputError:
            continue
        shared += [str(name)] if {"time", "y", "x"} <= set(each.dims) else []
    if not shared:
        raise InputError(
            f"got {system.name} with {', '.join(map(str, system.at[0].data_vars))}; expected one of "
            f"{', '.join(map(str, truth.fields.data_vars))}; rename it with fields.rename({{'old': 'new'}})"
        )
    return shared


def _step(inits: pd.Index) -> float | None:
    """Usual seconds between initial times; None for a single one."""
    if len(inits) < 2:
        return None
    return float(np.median(pd.to_timedelta(np.diff(np.asarray(inits))).total_seconds()))


def _notes(inits: int, block: int) -> tuple[str, ...]:
    if block:
        return (f"{inits} initial times; intervals of scores by drawing blocks of up to {block} of them.",)
    return (f"{inits} initial times are too few for intervals: every difference counts as a tie.",)
