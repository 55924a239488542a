"""The page of a run: beside the report of the best method, the ranking of all and what their skill costs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from finegrid.benchmark.results import Result
from finegrid.evaluation.figures import BLUE, GREY, tidy
from finegrid.evaluation.page import picture
from finegrid.evaluation.scores import MAIN_METRIC
from finegrid.evaluation.wording import heading

_LEAST_SECONDS = 0.01


def section(result: Result) -> str:
    """HTML of the skill of every method against what it costs; nothing where no cost is known."""
    if not _costs(result):
        return ""
    parts = ["<section><h2>Skill against cost</h2>"]
    for variable in result.evaluation.variables:
        parts.append(
            picture(
                skill_against_cost(result, variable),
                f"Error of each method for {variable} against the seconds it took to fit",
                "Error and seconds to fit, on this machine. On the line no method is both better and cheaper. Bars: "
                "95 % intervals.",
                narrow=True,
            )
        )
    return "".join(parts) + "</section>"


def skill_against_cost(result: Result, variable: str) -> Figure:
    """Error of each method against the seconds it took to fit, and the line of those that no other one dominates."""
    costs, scores = _costs(result), result.evaluation.of(variable, MAIN_METRIC)
    names = sorted(costs, key=lambda name: (costs[name], scores[name].value))
    seconds = np.array([costs[name] for name in names])
    errors = np.array([scores[name].value for name in names])
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    best = errors <= np.minimum.accumulate(errors)
    axes.step(seconds[best], errors[best], where="post", color=BLUE, linewidth=1.4, alpha=0.7)
    for name, x, y, leads in zip(names, seconds, errors, best, strict=True):
        colour = BLUE if leads else GREY
        if not np.isnan(scores[name].low):
            axes.plot([x, x], [scores[name].low, scores[name].high], color=colour, linewidth=2, alpha=0.5)
        axes.plot(x, y, "o" if leads else "s", color=colour, markersize=7)
        axes.annotate(name, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=9, color=colour)
    axes.set_xscale("log")
    axes.set_xlim(seconds.min() / 2, seconds.max() * 8)  # names stand to the right of their dots
    axes.set_xlabel("seconds to fit", fontsize=10)
    axes.set_ylabel(heading(MAIN_METRIC, next(iter(scores.values())).units), fontsize=10)
    tidy(axes)
    return figure


def _costs(result: Result) -> dict[str, float]:
    known = {name: trial.seconds for name, trial in result.trials.items() if not np.isnan(trial.seconds)}
    return {name: max(each, _LEAST_SECONDS) for name, each in known.items()}
