"""Answers of protocols to be seen: dots with intervals, and lines.

Matplotlib's objects only, no pyplot: a picture that is drawn in a server changes nothing for anyone else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from finegrid.benchmark.protocols.base import Estimate
from finegrid.evaluation.figures import GREY, tidy
from finegrid.evaluation.wording import number

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a6d00")
_APART = 0.16


@dataclass(frozen=True)
class Dots:
    """A panel with a row for each name and a dot for each series in it.

    Attributes:
        words: below the axis.
        names: of the rows, the first on top.
        series: numbers in the order of the names, by label.
        limits: of the axis; None is as the numbers are.
    """

    words: str
    names: Sequence[str]
    series: Mapping[str, Sequence[Estimate]]
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Lines:
    """A panel with a line for each series, on logarithmic axes.

    Attributes:
        words: below the axis and beside it.
        at: places on the axis.
        series: numbers there by label.
        spread: half the width of the band around each, NaN for none.
        dashed: label of the line that is not a method.
    """

    words: tuple[str, str]
    at: Sequence[int]
    series: Mapping[str, Sequence[float]]
    spread: Mapping[str, Sequence[float]]
    dashed: str


def dots(panels: Sequence[Dots]) -> Figure:
    """Panels side by side."""
    most = max(len(panel.names) for panel in panels)
    figure = Figure(figsize=(5.2 * len(panels), 1.3 + 0.5 * most), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(every, panels, strict=True):
        _dots(axes, panel)
    every[0].legend(fontsize=8, frameon=False)
    return figure


def lines(panels: Sequence[Lines]) -> Figure:
    """Panels side by side."""
    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(every, panels, strict=True):
        _lines(axes, panel)
    every[-1].legend(fontsize=8, frameon=False)
    return figure


def _dots(axes: Axes, panel: Dots) -> None:
    rows = np.arange(len(panel.names))[::-1]
    for index, (label, numbers) in enumerate(panel.series.items()):
        height = rows - _APART * (index - (len(panel.series) - 1) / 2)
        colour = _COLOURS[index % len(_COLOURS)]
        axes.plot([each.value for each in numbers], height, "o", color=colour, markersize=6, label=label)
        axes.hlines(
            height, [each.low for each in numbers], [each.high for each in numbers], colour, linewidth=2, alpha=0.6
        )
    axes.set_yticks(rows, panel.names)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(panel.words, fontsize=10)
    if panel.limits is not None:
        axes.set_xlim(*panel.limits)
    tidy(axes)


def _lines(axes: Axes, panel: Lines) -> None:
    for index, (label, numbers) in enumerate(panel.series.items()):
        colour, dashes = (GREY, ":") if label == panel.dashed else (_COLOURS[index % len(_COLOURS)], "-")
        values, spread = np.asarray(numbers), np.nan_to_num(panel.spread[label])
        axes.plot(panel.at, values, "o", color=colour, linestyle=dashes, markersize=4, label=label)
        axes.fill_between(panel.at, values - spread, values + spread, color=colour, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(panel.at, [str(each) for each in panel.at])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, digits=2)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(panel.words[0], fontsize=10)
    axes.set_ylabel(panel.words[1], fontsize=10)
    tidy(axes)
