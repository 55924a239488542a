"""Indices of the climate in a report: a portrait diagram and a table.

In the portrait (Gleckler et al. 2008, doi:10.1029/2007JD008972) a row is a method, a column an index. The number is
that of the table, the colour the departure from the truth. It is full where that is large: half the true standard
deviation for means, percentiles and ranges in units; half the true value for frequencies and lengths; 50 % of relative
ones; a factor of 1.5; 0.5 of skewness and correlation; a month of phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from matplotlib.figure import Figure

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices.found import IndexScore
from finegrid.evaluation.value_table import ValueTable, heading, true_value
from finegrid.evaluation.wording import number

_HALF = 0.5
_LARGE = {"ratio": float(np.log(1.5)), "relative difference": 50.0, "difference within the year": 30.0}
# Colours dark enough for white letters.
_DARK = 0.6


def portrait(table: ValueTable, variable: str) -> Figure:
    """Departures from the true climate: methods (rows) by indices (columns)."""
    names = table.indices(variable)
    columns = [table.of(variable, name) for name in names]
    departures = np.stack([_departures(column, table) for column in columns], axis=1)
    rows, width = departures.shape
    figure = Figure(figsize=(2.2 + 0.62 * width, 2.3 + 0.36 * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#d9dde2")
    drawn = axes.pcolormesh(np.ma.masked_invalid(departures), cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white")
    for column, scores in enumerate(columns):
        for row, method in enumerate(table.methods):
            colour = "white" if abs(departures[row, column]) > _DARK else "black"
            words = number(scores[method].value, digits=2)
            axes.text(column + 0.5, row + 0.5, words, ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(np.arange(width) + 0.5, [heading(column) for column in columns], rotation=40, ha="right")
    axes.set_yticks(np.arange(rows) + 0.5, table.methods)
    axes.tick_params(length=0, labelsize=9)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, ticks=[-1, 0, 1], shrink=0.8, pad=0.01)
    bar.ax.set_yticklabels(["too low", "as the truth", "too high"], fontsize=9)
    return figure


def _departures(column: Mapping[str, IndexScore], table: ValueTable) -> Array:
    """Signed departures of the methods (method,) as parts of one that is large."""
    scores = [column[method] for method in table.methods]
    sides = np.array([np.sign(score.value - score.best) * score.distance for score in scores])
    large = _large(scores[0], table)
    return np.asarray(np.clip(sides / large, -1, 1) if large > 0 else np.sign(sides))


def _large(score: IndexScore, table: ValueTable) -> float:
    """What is shown in full colour."""
    if score.comparison in _LARGE:
        return _LARGE[score.comparison]
    if score.units == "1":
        return _HALF
    deviation = table.of(score.variable, "sd").get(score.method)
    in_units = deviation is not None and score.units == deviation.statistic_units
    return _HALF * abs(deviation.truth if deviation is not None and in_units else score.truth)


def climate_table(table: ValueTable, variable: str, method: str) -> str:
    """The numbers in HTML: a row for each method with its spread over the cells, and the truth; `method` stands out."""
    columns = [table.of(variable, name) for name in table.indices(variable)]
    head = "".join(f'<th scope="col">{escape(heading(column))}</th>' for column in columns)
    rows = []
    for name in table.methods:
        own = ' class="own"' if name == method else ""
        cells = "".join(_cell(column[name], table) for column in columns)
        rows.append(f'<tr{own}><th scope="row">{escape(name)}</th>{cells}</tr>')
    truth = "".join(f"<td>{escape(true_value(column))}</td>" for column in columns)
    rows.append(f'<tr><th scope="row">truth</th>{truth}</tr>')
    caption = (
        "Differences, ratios or relative differences to the truth, mean over the cells by area; nearest to the truth "
        "in bold. Small print: standard deviation over the cells. Of ensembles, the mean over the members' indices."
    )
    return (
        f'<div class="scroll"><table class="scores"><caption>{caption}</caption>'
        f'<thead><tr><th scope="col">Method</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _cell(score: IndexScore, table: ValueTable) -> str:
    value = number(score.value)
    if score.method in table.best(score.variable, score.index):
        value = f"<strong>{value}</strong>"
    return f"<td>{value}<small>± {number(score.spread, digits=2)}</small></td>"
