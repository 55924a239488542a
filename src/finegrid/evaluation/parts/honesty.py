"""Is an ensemble honest? Ranks of the truth, intervals between members that hold what they promise, spread and error.

All of it comes from what `evaluate` has summed already (`ensembles`); nothing is read again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from finegrid.evaluation.ensembles import Ensemble, Nested
from finegrid.evaluation.parts.base import Part, Picture, markdown_table
from finegrid.evaluation.scores import Scores, View
from finegrid.evaluation.verdict import dispersion
from finegrid.evaluation.wording import range_of

# Chances of the intervals in a table; the nearest that the members have are taken.
_SHOWN = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95)


def calibration(evaluation: Scores) -> list[Part]:
    """The calibration of the judged ensemble; nothing for a single prediction."""
    views = [(view, view.ensemble) for view in evaluation.views if view.ensemble is not None]
    if not views:
        return []
    tables = tuple(_table(evaluation, view, ensemble, alone=len(views) == 1) for view, ensemble in views)
    plain = {view.variable: _plain(evaluation, view, ensemble) for view, ensemble in views}
    pictures = tuple(_picture(view, ensemble) for view, ensemble in views)
    return [Part("calibration", "Calibration: do chances come true?", tables, plain, pictures)]


def _table(evaluation: Scores, view: View, ensemble: Ensemble, *, alone: bool) -> tuple[str, str]:
    score = evaluation.of(view.variable, "spread-skill").get(evaluation.method)
    spread = "" if score is None else f"Taken together, it {dispersion(score)}. "
    name = "" if alone else f" of {view.variable}"
    words = (
        f"{evaluation.method} as an ensemble of {view.members} members{name}. {spread}"
        "An interval between two members promises to hold the truth so often:"
    )
    found, shown = ensemble.nested, _nearest(ensemble.nested)
    rows = [
        [
            f"{100 * found.promised[place]:.1f} %",
            f"{100 * found.inside[place]:.1f} %",
            _percent(*found.bounds[:, place]),
            _judgement(found, place),
        ]
        for place in shown
    ]
    return words, markdown_table(("promised", "truth inside", "95 % interval of it", "verdict"), rows)


def _nearest(found: Nested) -> list[int]:
    """Places of the intervals in the table, the narrowest first."""
    return sorted({int(np.abs(found.promised - chance).argmin()) for chance in _SHOWN}, reverse=True)


def _percent(low: float, high: float) -> str:
    return f"{range_of(100 * low, 100 * high, decimals=1)} %" if np.isfinite(low) else "too few times"


def _judgement(found: Nested, place: int) -> str:
    promised, (low, high) = found.promised[place], found.bounds[:, place]
    if not np.isfinite(low):
        return ""
    return "too narrow" if high < promised else "too wide" if low > promised else "as promised"


def _plain(evaluation: Scores, view: View, ensemble: Ensemble) -> dict[str, Any]:
    found = ensemble.nested
    rows = zip(found.promised, found.inside, *found.bounds, strict=True)
    score = evaluation.of(view.variable, "spread-skill").get(evaluation.method)
    return {
        "method": evaluation.method,
        "members": view.members,
        "ranks": [_number(each) for each in ensemble.ranks],
        "ranks_outside_band": ensemble.outside,
        "intervals": [dict(zip(("promised", "inside", "low", "high"), map(_number, row), strict=True)) for row in rows],
        "spread_and_error_by_class": [[_number(each) for each in row] for row in ensemble.classes],
        "units": view.units,
        "spread_over_error": None if score is None else _number(score.value),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _picture(view: View, ensemble: Ensemble) -> Picture:
    outside = ensemble.outside
    band = (
        "There are too few times for a sampling band."
        if outside is None
        else f"{outside} of {len(ensemble.ranks)} bars lie outside the 95 % band of a flat histogram (by chance, one "
        "in twenty does)."
    )
    caption = (
        f"Members of {view.label}. Above: a hump in the middle means too much spread, high ends too little, a slope a "
        f"bias. {band} Left: intervals between members; below the line they are too narrow. Right: spread and error "
        "should be equal of the surest and of the least sure times alike."
    )
    alternative = (
        f"Histogram of the truth's rank among the members of {view.label}, coverage of intervals by what they promise, "
        "and spread of the members against error of their mean"
    )
    return Picture(partial(_drawn, ensemble, view.units), alternative, caption)


def _drawn(ensemble: Ensemble, units: str) -> Any:
    from finegrid.evaluation.ensemble_figures import honesty  # matplotlib is heavy

    return honesty(ensemble, units)
