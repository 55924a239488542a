"""Is the input of what was judged like that from which its model has learnt? What the guard says of it (`guard`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from finegrid.evaluation.guard import Verdict
from finegrid.evaluation.guard.difference import Difference
from finegrid.evaluation.guard.usual import DISTANCE, OUTLYINGNESS, RANGE, Finding
from finegrid.evaluation.parts.base import Part, Picture, markdown_table
from finegrid.evaluation.wording import labelled, number, pretty

_TITLE = "Is the input like that of training?"
_TESTS = {
    DISTANCE: "distance of distributions",
    RANGE: "values beyond the range of training",
    OUTLYINGNESS: "outlyingness of its times",
    "shift": "shift of the mean",
}
_TRAITS = {
    "mean": "mean",
    "deviation": "deviation in space",
    "p05": "5th percentile",
    "p50": "median",
    "p95": "95th percentile",
    "fine": "amplitude of the finest scales",
    "anomaly": "anomaly, in usual deviations",
    "departure": "departure from the usual, in deviations",
    "correlation": "correlation in space",
}
_MOST = 8
_WIDTH, _HEAD = 12.0, 0.4


def likeness(found: Verdict) -> Part:
    """What a guard found of the coarse input of the times that were judged."""
    words = [f"{each}." for each in found.words]
    words.append(f"{found.times} times of the input were compared with {found.compared} of training.")
    tests = (
        "Each number beside that of blocks of the training record. Severity is 1 at the limit, and 0 where the input "
        "is as usual; the input is flagged where one of the tests of all variables is beyond its limit."
    )
    traits = (
        "What differs most, beside how much such a mean differs from block to block of the training record; z is the "
        "difference in such deviations (of cube roots for amounts)."
    )
    tables = ((" ".join(words), ""), (tests, _tests(found)), (traits, _differences(found)))
    return Part("guard", _TITLE, tables, found.to_dict(), (_picture(found),))


def remembered(words: str) -> Part:
    """What the guard said when the prediction was made, as its file states it."""
    return Part("guard", _TITLE, ((f"When the prediction was made: {words}.", ""),), {"words": [words]})


def _tests(found: Verdict) -> str:
    rows = [_test("all together", name, each) for name, each in found.findings.items()]
    if len(found.variables) > 1:
        rows += [_test(own, name, each) for own, tests in found.variables.items() for name, each in tests.items()]
    return markdown_table(("variables", "test", "this input", "usual", "limit", "severity", "verdict"), rows)


def _test(variables: str, name: str, each: Finding) -> list[str]:
    values = each.value, each.usual, each.limit
    told = [f"{number(100 * value, digits=2)} %" for value in values] if name == RANGE else [*map(number, values)]
    return [
        variables,
        _TESTS.get(name, name),
        *told,
        number(each.severity, digits=2),
        "beyond the limit" if each.severity > 1 else "within",
    ]


def _differences(found: Verdict) -> str:
    head = ("variable", "trait", "this input", "training", "± usual", "z")
    return markdown_table(head, [_difference(each) for each in found.differences[:_MOST]])


def _difference(each: Difference) -> list[str]:
    units = pretty(each.units)
    values = [f"{number(value)} {units}".strip() for value in (each.new, each.training, each.usual)]
    return [
        " and ".join(each.trait.variables),
        _TRAITS.get(each.trait.kind, each.trait.kind),
        *values,
        number(each.z, digits=2),
    ]


def _picture(found: Verdict) -> Picture:
    caption = (
        "Each row is a variable. Left: how its traits are distributed over times, in training (filled) and in this "
        "input (dashed). Right: where the means differ."
    )
    names = ", ".join(labelled(name, each.units) for name, each in found.shown.items())
    return Picture(partial(_drawn, found), f"The input beside that of training: {names}", caption)


def _drawn(found: Verdict) -> Any:
    from finegrid.evaluation.guard.figure import drawn  # matplotlib is heavy

    figure = drawn(found.shown, found.grid)
    # Of the width of a page, so that words are as large as elsewhere.
    figure.set_size_inches(_WIDTH, _WIDTH / figure.get_figwidth() * figure.get_figheight() + _HEAD)
    return figure
