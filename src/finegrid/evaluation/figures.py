"""Lines and dots: scores with their intervals, variance by scale, and how training went.

Matplotlib's objects only, no pyplot: a report drawn in a server or a notebook changes nothing for anyone
else. Colours are those of Okabe and Ito, and lines differ in dashes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from finegrid.evaluation.scores import MAIN_METRIC, Scores, View
from finegrid.evaluation.viewing import TRUTH
from finegrid.evaluation.wording import heading, number, pretty

BLUE, GREY = "#0072B2", "#5f6670"
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a6d00")
Dashes = str | tuple[int, tuple[int, ...]]
_DASHES: tuple[Dashes, ...] = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))


def intervals(evaluation: Scores, variable: str) -> Figure:
    """Error of each method with its 95 % interval, the best on top."""
    scores = sorted(evaluation.of(variable, MAIN_METRIC).values(), key=lambda score: -score.value)
    figure = Figure(figsize=(7.5, 1.1 + 0.42 * len(scores)), layout="constrained")
    axes = figure.add_subplot()
    for row, score in enumerate(scores):
        colour = BLUE if score.method == evaluation.method else GREY
        if not np.isnan(score.low):
            axes.plot(
                [score.low, score.high],
                [row, row],
                color=colour,
                linewidth=3,
                solid_capstyle="butt",
                alpha=0.6,
            )
        axes.plot(score.value, row, "o", color=colour, markersize=8)
    axes.set_yticks(range(len(scores)), [score.method for score in scores], fontsize=11)
    axes.set_ylim(-0.6, len(scores) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{heading(MAIN_METRIC, scores[0].units)}; bars: 95 % interval; smaller is better", fontsize=10)
    tidy(axes)
    axes.tick_params(axis="y", labelsize=11)
    return figure


def spectra(view: View, method: str) -> Figure:
    """Variance against wavelength, of the truth, a method and at most six others (`drawn`)."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    wavelength = 2 * np.sqrt(view.grid.area.mean()) / 1000 / view.wavenumbers
    others = drawn(view, method)
    styles: dict[str, tuple[str, Dashes, float]] = {TRUTH: ("black", "-", 2.2), method: (BLUE, "-", 2.2)}
    for index, name in enumerate(others):
        styles[name] = (_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)], 1.6)
    for name in (TRUTH, method, *others):
        colour, dashes, width = styles[name]
        axes.plot(wavelength, view.spectra[name], color=colour, linestyle=dashes, linewidth=width, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.axvspan(wavelength.min(), 3 * np.sqrt(view.grid.area.mean()) / 1000, color="#0072B2", alpha=0.08, linewidth=0)
    axes.set_xlim(wavelength.max(), wavelength.min())
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("wavelength (km); shaded: the finest third, as in the fine-scale power", fontsize=10)
    axes.set_ylabel("variance" if view.units == "1" else f"variance ({_squared(view.units)})", fontsize=10)
    axes.legend(fontsize=10, frameon=False)
    tidy(axes)
    return figure


def drawn(view: View, method: str) -> list[str]:
    """The methods beside one that a picture of spectra has room for.

    Of more than six those with the smallest errors, and the one whose finest third is most like the truth's.
    """
    others = [name for name in view.spectra if name not in (TRUTH, method)]
    most = len(_COLOURS)
    if len(others) <= most:
        return others
    finest = view.wavenumbers >= view.wavenumbers.max() * 2 / 3
    truth = view.spectra[TRUTH][finest].sum()
    ranked = sorted(others, key=lambda name: float(np.nanmean(view.errors[name] ** 2)))
    alike = min(others, key=lambda name: abs(np.log(max(view.spectra[name][finest].sum(), 1e-300) / truth)))
    kept = {*[name for name in ranked if name != alike][: most - 1], alike}
    return [name for name in others if name in kept]


def training(log: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, and loss on validation data where it was measured, against steps."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, colour, style in (
        ("loss", "training", GREY, "-"),
        ("validation_loss", "validation", BLUE, "o-"),
    ):
        points = [(row["step"], row[key]) for row in log if row.get(key) is not None and np.isfinite(row[key])]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, markersize=4, linewidth=1.6, label=label)
    if all(value > 0 for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=float)):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, digits=2)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    seconds = [row["seconds"] for row in log if row.get("seconds") is not None]
    axes.set_xlabel("step" + (f" ({number(seconds[-1])} s in all)" if seconds else ""), fontsize=10)
    axes.set_ylabel("loss (of scaled values, no units)", fontsize=10)
    if axes.lines:
        axes.legend(fontsize=10, frameon=False)
    tidy(axes)
    return figure


def _squared(units: str) -> str:
    return f"{pretty(units)}²" if units.isalpha() else f"({pretty(units)})²"


def tidy(axes: Axes) -> None:
    """A quiet frame: no box, a light grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.grid(True, color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
