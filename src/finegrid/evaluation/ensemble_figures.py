"""Three pictures of an ensemble's honesty: ranks of the truth, intervals between members, spread against error."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finegrid.evaluation.ensembles import Ensemble
from finegrid.evaluation.figures import BLUE, GREY, tidy
from finegrid.evaluation.wording import labelled

_ORANGE, _BAND = "#D55E00", "#c9ced6"
_MOST_POINTS = 2000


def honesty(ensemble: Ensemble, units: str) -> Figure:
    """The histogram of ranks with its sampling band, coverage of intervals by what they promise, spread and error."""
    figure = Figure(figsize=(10.5, 9.2), layout="constrained")
    rows = figure.add_gridspec(2, 2, height_ratios=(1, 1.2))
    _ranks(figure.add_subplot(rows[0, :]), ensemble)
    _intervals(figure.add_subplot(rows[1, 0]), ensemble)
    _spread(figure.add_subplot(rows[1, 1]), ensemble, units)
    return figure


def _ranks(axes: Axes, ensemble: Ensemble) -> None:
    count = len(ensemble.ranks)
    ranks, shares, (low, high) = np.arange(count), 100 * ensemble.ranks, 100 * ensemble.band
    outside = (shares < low) | (shares > high)
    if ensemble.outside is not None:
        axes.bar(ranks, high - low, 1.0, bottom=low, color=_BAND, label="95 % band of a flat histogram")
    for chosen, colour, hatch, label in (
        (~outside, BLUE, "", "within the band" if outside.any() else "ensemble"),
        (outside, _ORANGE, "///", "outside the band"),
    ):
        if chosen.any():
            look = {"facecolor": (*to_rgb(colour), 0.35), "edgecolor": colour, "linewidth": 1.4, "hatch": hatch}
            axes.bar(ranks[chosen], shares[chosen], 0.6, label=label, **look)  # type: ignore[arg-type]
    axes.axhline(100 / count, color="black", linestyle="--", linewidth=1.2, label="flat: an honest ensemble")
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_ylim(0, 1.3 * max(shares.max(), 100 / count, np.nan_to_num(high).max()))
    axes.xaxis.set_major_locator(MaxNLocator(11, integer=True))
    axes.set_xlabel(f"members below the truth (of {count - 1})", fontsize=10)
    axes.set_ylabel("share of cells and times (%)", fontsize=10)
    axes.legend(fontsize=9, frameon=False, ncols=2, loc="upper center")
    axes.set_title("Rank of the truth", fontsize=12)
    tidy(axes)


def _intervals(axes: Axes, ensemble: Ensemble) -> None:
    found = ensemble.nested
    promised, inside, (low, high) = 100 * found.promised, 100 * found.inside, 100 * found.bounds
    if np.isfinite(low).all():
        axes.fill_between(promised, low, high, color=BLUE, alpha=0.25, linewidth=0, label="95 % interval")
    axes.plot(promised, inside, "o-", color=BLUE, markersize=5, linewidth=1.8, label="ensemble")
    axes.plot([0, 100], [0, 100], "--", color="black", linewidth=1.2, label="an honest ensemble")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("promised by the interval (%)", fontsize=10)
    axes.set_ylabel("truth inside (%)", fontsize=10)
    axes.legend(fontsize=9, frameon=False, loc="upper left")
    axes.set_title("Intervals between members", fontsize=12)
    tidy(axes)


def _spread(axes: Axes, ensemble: Ensemble, units: str) -> None:
    step = -(-len(ensemble.spread) // _MOST_POINTS)
    spread, error = ensemble.spread[::step], ensemble.error[::step]
    axes.plot(spread, error, ".", color=GREY, alpha=0.3, markersize=5, label="single times", rasterized=True)
    axes.plot(*ensemble.classes, "o-", color=BLUE, markersize=7, linewidth=1.8, label="classes of times")
    highest = 1.05 * max(np.quantile(spread, 0.995), np.quantile(error, 0.995), ensemble.classes.max())
    axes.plot([0, highest], [0, highest], "--", color="black", linewidth=1.2, label="equal: an honest ensemble")
    axes.set_xlim(0, highest)
    axes.set_ylim(0, highest)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(labelled("spread of the members", units), fontsize=10)
    axes.set_ylabel(labelled("error of their mean (RMSE)", units), fontsize=10)
    under = bool(ensemble.classes[0].mean() < ensemble.classes[1].mean())
    axes.legend(fontsize=9, loc="lower right" if under else "upper left")
    axes.set_title("Spread against error", fontsize=12)
    tidy(axes)
