"""Scores by lead time to be seen: one panel for each of some metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finegrid.evaluation.figures import Dashes, tidy
from finegrid.evaluation.leads.metrics import LEAD_METRICS
from finegrid.evaluation.leads.scores import LeadScore, LeadScores
from finegrid.evaluation.wording import labelled

SHOWN = ("rmse", "acc", "bias", "activity-ratio")
"""Metrics that a picture shows unless others are asked for."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a6d00")
_DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))


def by_lead(found: LeadScores, variable: str, *, metrics: Sequence[str] = SHOWN, truth: str | None = None) -> Figure:
    """Lines over the lead time, one a system, with shaded 95 % intervals.

    Args:
        found: from `verify`.
        variable: of `found`.
        metrics: names in LEAD_METRICS, a panel each.
        truth: of `found`; by default the first.
    """
    rows = -(-len(metrics) // 2)
    figure = Figure(figsize=(9.5, 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, min(2, len(metrics)), squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _panel(axes, found.of(variable, metric, truth), metric)
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    names, labels = panels[0].get_legend_handles_labels()
    figure.legend(names, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.suptitle(f"{variable} against {truth or found.truths[0]}", fontsize=11)
    return figure


def _panel(axes: Axes, scores: dict[str, list[LeadScore]], metric: str) -> None:
    for index, (name, each) in enumerate(scores.items()):
        leads = [score.lead for score in each]
        colour, dashes = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
        axes.plot(leads, [score.value for score in each], color=colour, linestyle=dashes, linewidth=1.8, label=name)
        low, high = (np.array([getattr(score, end) for score in each]) for end in ("low", "high"))
        axes.fill_between(leads, low, high, color=colour, alpha=0.12, linewidth=0)
    if np.isfinite(LEAD_METRICS[metric].best):
        axes.axhline(LEAD_METRICS[metric].best, color="black", linewidth=0.8)
    units = next(iter(scores.values()))[0].units
    axes.set_ylabel(labelled(LEAD_METRICS[metric].title, units), fontsize=10)
    axes.set_xlabel("lead time (days)", fontsize=10)
    tidy(axes)
