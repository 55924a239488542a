"""Pictures of honesty: where the truth falls in what was predicted, before a calibration and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from finegrid.evaluation.coverage import Coverage, Group
from finegrid.evaluation.figures import BLUE, GREY, tidy
from finegrid.evaluation.maps import Panel, draw
from finegrid.evaluation.planes import Plane
from finegrid.evaluation.reliability import LEVELS, Reliability
from finegrid.evaluation.wording import labelled
from finegrid.grids import Grid

_ORANGE = "#D55E00"
_STYLES = {"before": (_ORANGE, "s--"), "after": (BLUE, "o-")}
_FEWEST = 30


def chances(found: Mapping[str, Reliability], units: str) -> Figure:
    """The PIT, quantiles and an event, each before and after."""
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, each in found.items():
        colour, style = _STYLES[name]
        edges = np.linspace(0, 1, len(each.pit) + 1)
        left.stairs(100 * each.pit, edges, color=colour, linewidth=2, label=name, linestyle=style[1:])
        middle.plot(LEVELS, each.quantiles, style, color=colour, markersize=4, label=name)
        many = each.cases >= _FEWEST
        right.plot(each.predicted[many], each.happened[many], style, color=colour, markersize=4, label=name)
    first = next(iter(found.values()))
    left.axhline(100 / len(first.pit), color="black", linestyle=":", linewidth=1.2, label="honest")
    left.set_ylim(bottom=0)
    _named(left, "Where the truth falls", "chance of a value at or below the truth", "share of cases (%)")
    for axes in (middle, right):
        axes.plot([0, 1], [0, 1], ":", color="black", linewidth=1.2, label="honest")
        axes.set_aspect("equal")
    _named(middle, "Quantiles", "chance that was predicted", "how often it came true")
    _named(
        right, labelled(f"Above {first.threshold:.3g}", units), "chance that was predicted", "how often it came true"
    )
    return figure


def groups(found: Sequence[Group], level: float) -> Figure:
    """Coverage of intervals in each group."""
    figure = Figure(figsize=(7.5, 1.2 + 0.26 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(found))[::-1]
    shares = np.array([100 * group.coverage for group in found])
    axes.hlines(rows, 100 * level, shares, color=GREY, linewidth=2)
    axes.plot(shares, rows, "o", color=BLUE, markersize=7)
    axes.axvline(100 * level, color="black", linestyle=":", linewidth=1.4)
    axes.set_yticks(rows, [group.name for group in found])
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.set_xlabel(f"truth inside the {100 * level:g} % interval (%)", fontsize=10)
    tidy(axes)
    return figure


def maps(found: Coverage, grid: Grid) -> Figure:
    """Coverage and width of intervals in each cell."""
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
    figure = Figure(figsize=(9.6, float(np.clip(4.4 * Plane(grid).height_over_width + 1.2, 4, 12))), layout=layout)
    away = max(0.02, float(np.nanpercentile(np.abs(found.shares - found.level), 98)))
    widest = float(np.nanpercentile(found.widths, 99)) or 1.0
    panels = (
        (
            Panel("truth inside", 100 * found.shares, grid, "RdBu"),
            100 * (found.level - away),
            100 * (found.level + away),
            "%",
        ),
        (Panel("mean width", found.widths, grid, "cividis"), 0.0, widest, found.units),
    )
    for number, (panel, low, high, units) in enumerate(panels):
        axes, norm = figure.add_subplot(1, 2, number + 1), Normalize(low, high)
        draw(axes, panel, grid, norm, first=number == 0)
        bar = figure.colorbar(
            ScalarMappable(norm, panel.scale), ax=axes, location="bottom", fraction=0.05, pad=0.03, extend="both"
        )
        bar.set_label(labelled(panel.title, units), fontsize=10)
    return figure


def _named(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=12)
    axes.set_xlabel(x, fontsize=10)
    axes.set_ylabel(y, fontsize=10)
    axes.legend(fontsize=9, frameon=False)
    tidy(axes)
