"""New input beside that of training to be seen: distributions of traits, and the map of the difference of means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.figures import BLUE, tidy
from finegrid.evaluation.guard.difference import Shown
from finegrid.evaluation.guard.traits import KINDS
from finegrid.evaluation.maps import Panel, draw
from finegrid.evaluation.wording import labelled
from finegrid.grids import Grid

_ORANGE = "#D55E00"
_DRAWN = {"mean": "mean", "deviation": "deviation in space", "fine": "amplitude of the finest scales"}
_MOST = 6
_BINS = 30
_FEW = 10
# Colours leave out the most extreme values, so that one cell does not bleach the map.
_SHOWN = 99.5
_COLOURS = "RdBu_r"


def drawn(shown: Mapping[str, Shown], grid: Grid) -> Figure:
    """A row for each of at most six variables: three traits, and the map."""
    names = list(shown)[:_MOST]
    figure = Figure(figsize=(16, 3.6 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), len(_DRAWN) + 1, squeeze=False)
    for row, name in zip(panels, names, strict=True):
        for axes, (kind, words) in zip(row, _DRAWN.items(), strict=False):
            _distribution(axes, shown[name], KINDS.index(kind), labelled(f"{words} of {name}", shown[name].units))
        _map(figure, row[-1], name, shown[name], grid)
    panels[0, 0].legend(fontsize=10, frameon=False)
    return figure


def _distribution(axes: Axes, shown: Shown, kind: int, label: str) -> None:
    """Share of the times in bins: training filled, new input as a dashed line, or as ticks where there are few."""
    old, new = (values[np.isfinite(values)] for values in (shown.training[:, kind], shown.new[:, kind]))
    edges = _edges(np.concatenate([old, new]))
    axes.stairs(_shares(old, edges), edges, fill=True, color=BLUE, alpha=0.45, label="training")
    if len(new) >= _FEW:
        axes.stairs(_shares(new, edges), edges, color=_ORANGE, linewidth=2, linestyle="--", label="new input")
    else:
        for place, value in enumerate(new):
            axes.axvline(value, color=_ORANGE, linewidth=2, linestyle="--", label=None if place else "new input")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label, fontsize=10)
    axes.set_ylabel("share of times (%)", fontsize=10)
    tidy(axes)


def _edges(values: Array) -> Array:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)


def _shares(values: Array, edges: Array) -> Array:
    return np.asarray(100 * np.histogram(values, edges)[0] / max(1, len(values)))


def _map(figure: Figure, axes: Axes, name: str, shown: Shown, grid: Grid) -> None:
    known = None if shown.change is None else np.abs(shown.change[np.isfinite(shown.change)])
    if shown.change is None or known is None or not known.size or min(grid.shape) < 2:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no map: other cells than in training", ha="center", fontsize=10)
        return
    largest = float(np.percentile(known, _SHOWN)) or 1.0
    norm = Normalize(-largest, largest)
    draw(axes, Panel(f"{name}: new input − training", shown.change, grid, _COLOURS), grid, norm, first=True)
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=axes, extend="both")
    bar.set_label(labelled("difference of means", shown.units), fontsize=10)
