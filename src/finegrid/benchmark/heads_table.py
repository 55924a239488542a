"""What heads reached, as tables in Markdown and as figures against their targets: one table for each test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finegrid.benchmark.figures import Figure
from finegrid.evaluation import Score
from finegrid.heads import HEADS

_CONSERVED = 1e-6
_HONEST, _SPECTRUM, _EXTREMES = (0.85, 1.15), (0.85, 1.15), (0.90, 1.10)


@dataclass(frozen=True, eq=False)
class Row:
    """One method with one seed on one test.

    Attributes:
        test: name of the task, or of one of its regions.
        label: name of the method.
        seed: of training and of the members.
        variable: what is predicted.
        single: whether it has one answer only.
        scores: by variable and metric, as "pr crps".
        outside: ranks outside the band of a flat histogram, by variable; None without a band.
        told: seconds of fitting, steps, seconds of a member.
    """

    test: str
    label: str
    seed: int
    variable: str
    single: bool
    scores: Mapping[str, Score]
    outside: Mapping[str, int | None]
    told: Mapping[str, Any]

    def of(self, metric: str) -> float:
        """A score; NaN where there is none."""
        score = self.scores.get(f"{self.variable} {metric}")
        return math.nan if score is None else score.value

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        words = {"test": self.test, "method": self.label, "seed": self.seed, "single": self.single}
        scores = [score.to_dict() for score in self.scores.values()]
        return {**words, **self.told, "ranks_outside": dict(self.outside), "scores": scores}


def tables(rows: Sequence[Row]) -> str:
    """A table for each test; several seeds as their mean and, in brackets, their range."""
    return "\n\n".join(f"## {name}\n\n{_table(_of_test(rows, name))}" for name in _tests(rows))


def best_error(rows: Sequence[Row]) -> float:
    """The least mean absolute error of a method with a single answer, on one test."""
    return min((_mean([row.of("mae") for row in each]) for each in _single(rows).values()), default=math.nan)


def figures_of(rows: Sequence[Row], target: float) -> list[Figure]:
    """The best head of every test against what is to be reached."""
    return [figure for name in _tests(rows) for figure in _figures(name, _of_test(rows, name), target)]


def _figures(name: str, rows: Sequence[Row], target: float) -> list[Figure]:
    heads = {label: each for label, each in _methods(rows).items() if label.split(" ")[0] in HEADS}
    if not heads:
        return []
    ratios = {label: _mean([row.of("crps") for row in each]) / best_error(rows) for label, each in heads.items()}
    best = min(ratios, key=lambda label: ratios[label])
    chosen = heads[best]
    figures = [
        Figure(
            f"{name}: CRPS of the best head",
            f"<= {target:.2f} of the best error",
            f"{ratios[best]:.3f} ({best})",
            ratios[best] <= target,
            ratios,
        )
    ]
    for metric, words, (low, high) in _RANGES:
        value = _mean([row.of(metric) for row in chosen])
        if not math.isnan(value):
            figures.append(
                Figure(f"{name}: {words} of {best}", f"{low:g} to {high:g}", f"{value:.3f}", low <= value <= high)
            )
    largest = max(row.of("violation") for each in heads.values() for row in each)
    figures.append(Figure(f"{name}: conservation, all heads", "<= 1e-6", f"{largest:.1e}", largest <= _CONSERVED))
    negative = [row.of("negatives") for each in heads.values() for row in each]
    if not all(map(math.isnan, negative)):
        share = float(np.nanmax(negative))
        figures.append(Figure(f"{name}: negative values, all heads", "none", f"{share:.1g} of the values", share == 0))
    return figures


_RANGES = (
    ("spread-skill", "spread over error", _HONEST),
    ("high-quantile", "99.9th percentile over truth", _EXTREMES),
    ("power-ratio", "fine-scale power over truth", _SPECTRUM),
)


def _table(rows: Sequence[Row]) -> str:
    error = best_error(rows)
    columns = (
        "method",
        "MAE of the mean",
        "CRPS",
        "95 % interval",
        "CRPS / best MAE",
        "spread / error",
        "rank departure",
        "99.9 % / truth",
        "fine power",
        "departure",
        "negative",
        "fit s",
        "steps",
        "s / member",
    )
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    methods = _methods(rows)
    ordered = sorted(methods, key=lambda label: _mean([row.of("crps") for row in methods[label]]))
    return "\n".join([*lines, *("| " + " | ".join(_cells(label, methods[label], error)) + " |" for label in ordered)])


def _cells(label: str, rows: Sequence[Row], error: float) -> list[str]:
    crps = rows[0].scores[f"{rows[0].variable} crps"]
    outside = [each for row in rows if (each := row.outside.get(row.variable)) is not None]
    beyond = f"; {np.mean(outside):.0f} out of band" if outside else ""
    return [
        label,
        _over(rows, lambda row: row.of("mae")),
        _over(rows, lambda row: row.of("crps")),
        f"{crps.low:.4f} to {crps.high:.4f}",
        _over(rows, lambda row: row.of("crps") / error),
        _over(rows, lambda row: row.of("spread-skill")),
        _over(rows, lambda row: row.of("rank")) + beyond,
        _over(rows, lambda row: row.of("high-quantile")),
        _over(rows, lambda row: row.of("power-ratio")),
        _over(rows, lambda row: row.of("violation"), "{:.0e}"),
        _over(rows, lambda row: row.of("negatives"), "{:.2g}"),
        *(
            _over(rows, lambda row, key=key: _number(row.told.get(key)), form)  # type: ignore[misc]
            for key, form in (("fit_seconds", "{:.0f}"), ("steps", "{:.0f}"), ("predict_seconds", "{:.2f}"))
        ),
    ]


def _over(rows: Sequence[Row], value: Callable[[Row], float], form: str = "{:.4g}") -> str:
    """The mean over the seeds, and their range where there are several."""
    values = [value(row) for row in rows]
    known = [each for each in values if not math.isnan(each)]
    if not known:
        return ""
    mean = form.format(_mean(known))
    return mean if len(known) == 1 else f"{mean} ({form.format(min(known))} to {form.format(max(known))})"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _tests(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.test for row in rows))


def _of_test(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if row.test == name]


def _methods(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.label, []).append(row)
    return found


def _single(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {label: each for label, each in _methods(rows).items() if each[0].single}
