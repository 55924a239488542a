"""Indices of the climate in a report, and of its extremes: a portrait diagram and a table of each.

In the portrait (Gleckler et al. 2008, doi:10.1029/2007JD008972) a column is a method, a row an index; of many methods
it is the other way round. The number is that of the table, the colour the departure from the truth. It is full where
that is large: half the true standard deviation for means, percentiles and ranges in units; half the true value for
frequencies and lengths; 50 % of relative ones; a factor of 1.5; 0.5 of skewness and correlation; a month of phase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices import USUAL_INDICES
from finegrid.evaluation.indices.found import IndexScore
from finegrid.evaluation.page import picture
from finegrid.evaluation.scores import Scores, View
from finegrid.evaluation.value_table import ValueTable, heading, true_value
from finegrid.evaluation.wording import FEW, number

_CAPTION = (
    "Departure from the truth. Colours are full at half of the true standard deviation (values in units), half of the "
    "true value (frequencies, lengths), 50 %, a factor of 1.5, 0.5 (skewness, correlation) or 30 days (phase); grey: "
    "not to be had."
)
_HALF = 0.5
_LARGE = {"ratio": float(np.log(1.5)), "relative difference": 50.0, "difference within the year": 30.0}
# Colours dark enough for white letters.
_DARK = 0.6


def climates(evaluation: Scores, view: View) -> list[str]:
    """HTML of the climate of the methods, and of its extremes, where these were measured."""
    known = [each for each in evaluation.indices if each.variable == view.variable]
    parts = []
    for usual, title, of in (
        (True, "Climate: indices of VALUE", "the climate"),
        (False, "Extremes", "the extremes"),
    ):
        table = ValueTable(tuple(each for each in known if (each.index in USUAL_INDICES) == usual)).without_empty()
        if table.scores:
            alternative = f"Departures of each method from {of} of {view.label}"
            drawn = picture(portrait(table, view.variable), alternative, _CAPTION, narrow=len(table.methods) <= FEW)
            parts += [f"<h3>{title}</h3>", climate_table(table, view.variable, evaluation.method), drawn]
    return parts


def portrait(table: ValueTable, variable: str) -> Figure:
    """Departures from the true climate: indices (rows) by methods (columns), or methods by indices where these many."""
    columns = [table.of(variable, name) for name in table.indices(variable)]
    departures = np.stack([_departures(column, table) for column in columns])
    words = [[number(column[method].value, digits=2) for method in table.methods] for column in columns]
    titles = [heading(column) for column in columns]
    if len(table.methods) <= FEW:
        return _coloured(departures, words, titles, table.methods, size=(1.15, 0.34), margins=(4.6, 1.0))
    across = [list(row) for row in zip(*words, strict=True)]
    return _coloured(departures.T, across, table.methods, titles, size=(0.72, 0.38), margins=(2.4, 2.9))


def _coloured(
    departures: Array,
    words: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    size: tuple[float, float],
    margins: tuple[float, float],
) -> Figure:
    """Cells (row, column) of a size in inches, with a word in each, and a bar of the colours."""
    count, width = departures.shape
    figure = Figure(figsize=(margins[0] + size[0] * width, margins[1] + size[1] * count), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#d9dde2")
    drawn = axes.pcolormesh(np.ma.masked_invalid(departures), cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white")
    for row, column in np.ndindex(count, width):
        colour = "white" if abs(departures[row, column]) > _DARK else "black"
        place = (column + 0.5, row + 0.5)
        axes.text(*place, words[row][column], ha="center", va="center", fontsize=10, color=colour)
    axes.set_xticks(np.arange(width) + 0.5, columns, rotation=40, ha="right")
    axes.set_yticks(np.arange(count) + 0.5, rows)
    axes.tick_params(length=0, labelsize=10.5)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, ticks=[-1, 0, 1], shrink=0.8, pad=0.01)
    bar.ax.set_yticklabels(["too low", "as the truth", "too high"], fontsize=10)
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
    """The numbers in HTML, with their spread over the cells, and the truth; `method` stands out.

    A row for each index, or for each of many methods.
    """
    columns = [table.of(variable, name) for name in table.indices(variable)]
    if len(table.methods) <= FEW:
        return _upright(table, columns, method)
    head = "".join(f'<th scope="col">{escape(heading(column))}</th>' for column in columns)
    rows = []
    for name in table.methods:
        cells = "".join(_cell(column[name], table) for column in columns)
        rows.append(f'<tr{_own(name, method)}><th scope="row">{escape(name)}</th>{cells}</tr>')
    truth = "".join(f"<td>{escape(true_value(column))}</td>" for column in columns)
    rows.append(f'<tr><th scope="row">truth</th>{truth}</tr>')
    return _framed(f'<th scope="col">Method</th>{head}', rows)


def _upright(table: ValueTable, columns: Sequence[Mapping[str, IndexScore]], method: str) -> str:
    names = [f'<th scope="col"{_own(name, method)}>{escape(name)}</th>' for name in table.methods]
    rows = []
    for column in columns:
        cells = "".join(_cell(column[name], table) for name in table.methods)
        title = f'<th scope="row">{escape(heading(column))}</th>'
        rows.append(f"<tr>{title}{cells}<td>{escape(true_value(column))}</td></tr>")
    return _framed(f'<th scope="col">Index</th>{"".join(names)}<th scope="col">truth</th>', rows)


def _own(name: str, method: str) -> str:
    return ' class="own"' if name == method else ""


def _framed(head: str, rows: Sequence[str]) -> str:
    caption = (
        "Differences, ratios or relative differences to the truth, mean over the cells by area; nearest to the truth "
        "in bold. Small print: standard deviation over the cells. Of ensembles, the mean over the members' indices."
    )
    return (
        f'<div class="scroll"><table class="scores"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(score: IndexScore, table: ValueTable) -> str:
    value = number(score.value)
    if score.method in table.best(score.variable, score.index):
        value = f"<strong>{value}</strong>"
    return f"<td>{value}<small>± {number(score.spread, digits=2)}</small></td>"
