"""Numbers and tables as people read them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from finegrid.evaluation.floor import Floor
from finegrid.evaluation.metrics import METRICS
from finegrid.evaluation.scores import MAIN_METRIC, Score, Scores

_PLAIN_FROM, _PLAIN_TO = 1e-4, 1e6
_SHORT_BELOW = 1e-2
_MOST_DECIMALS = 6
NOTHING = "–"

# A letter followed by a (signed) whole number is a power.
_POWER = re.compile(r"(?<=[A-Za-z])(\*\*)?-?\d+")
_DEGREES = {"degC": "°C", "degrees_Celsius": "°C", "degree_Celsius": "°C", "celsius": "°C", "C": "°C"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MANY = 14
"""Metrics that fit side by side in a text; of more, each has a row."""
FEW, WIDE = 6, 8
"""On a page, methods that fit side by side, and metrics beside which they do not have to."""


def number(value: float, *, digits: int = 3) -> str:
    """Three significant digits; powers of ten only for the very small and the very large."""
    if not np.isfinite(value):
        return NOTHING if np.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if not _PLAIN_FROM <= abs(value) < _PLAIN_TO:
        mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")
    digits = min(digits, 2) if abs(value) < _SHORT_BELOW else digits
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{decimals}f}".replace("-", "−")


def range_of(low: float, high: float, *, decimals: int | None = None) -> str:
    """An interval in words; nothing when it is not known."""
    if np.isnan(low) or np.isnan(high):
        return ""
    return f"{rounded(low, decimals)} to {rounded(high, decimals)}"


def rounded(value: float, decimals: int | None) -> str:
    """A number with so many decimals; with three significant digits when they are not said."""
    if decimals is None or not np.isfinite(value):
        return number(value)
    text = f"{value:.{decimals}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text.lstrip("−")


def decimals_of(metric: str, rival: float) -> int | None:
    """Decimals of a bias: a thousandth of the error counts, not its own size."""
    if metric != "bias" or not np.isfinite(rival) or rival <= 0:
        return None
    decimals = 3 - int(np.floor(np.log10(rival)))
    return decimals if 0 <= decimals <= _MOST_DECIMALS else None


def pretty(units: str) -> str:
    """Units with raised powers, degree signs and no line breaks: m s⁻¹, °C; nothing for pure numbers."""
    if units in ("", "1"):
        return ""
    raised = _POWER.sub(lambda match: match.group().replace("**", "").translate(_SUPERSCRIPTS), units)
    return _DEGREES.get(units, raised).replace(" ", "\u00a0")


def with_units(value: float, units: str) -> str:
    """A number and its units."""
    return f"{number(value)}\u00a0{pretty(units)}".rstrip()


def labelled(words: str, units: str) -> str:
    """Words and, in brackets, units."""
    return f"{words} ({pretty(units)})" if pretty(units) else words


def heading(metric: str, units: str) -> str:
    """Title of a column."""
    return labelled(METRICS[metric].title, units)


def markdown_table(evaluation: Scores, variable: str) -> str:
    """Scores of one variable: a row for each method, a column for each metric; of many metrics the other way round."""
    columns = {metric: evaluation.of(variable, metric) for metric in evaluation.metrics(variable)}
    rows = [[variable, *(heading(metric, units_of(scores)) for metric, scores in columns.items())]]
    for method in evaluation.methods:
        rows.append([method, *(" ".join(cell(scores[method], evaluation)) for scores in columns.values())])
    floor = evaluation.floor(variable)
    if floor is not None:
        rows.append([floor_label(floor), *(floor_cell(scores) for scores in columns.values())])
    if len(columns) > MANY:
        rows = [list(row) for row in zip(*rows, strict=True)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def floor_label(floor: Floor) -> str:
    """What stands before the floors in a table of scores."""
    return f"internal variability (M = {floor.members})"


def floor_cell(scores: Mapping[str, Score]) -> str:
    """The floor of a column of scores; nothing where it has none."""
    value = next(iter(scores.values())).floor
    return "" if np.isnan(value) else number(value)


def units_of(scores: Mapping[str, Score]) -> str:
    """Units shared by the scores of a column."""
    return next(iter(scores.values())).units


def cell(score: Score, evaluation: Scores, *, bold: str = "**{}**", tie: str = "~") -> tuple[str, str]:
    """A score in a table, marked when best or tied with the best, and its interval in brackets."""
    decimals = decimals_of(score.metric, evaluation.of(score.variable, MAIN_METRIC)[score.method].value)
    value = rounded(score.value, decimals)
    marked = bold.format(value) if score.best else f"{value} {tie}" if score.tied else value
    extent = range_of(score.low, score.high, decimals=decimals) if score.low < score.high else ""
    return marked, f"({extent})" if extent else ""
