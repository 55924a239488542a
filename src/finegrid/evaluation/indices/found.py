"""One index of one method, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finegrid.evaluation.averaging import Array


@dataclass(frozen=True, eq=False)
class IndexScore:
    """How an index of the prediction compares with that of the truth.

    Attributes:
        method: who made the prediction.
        variable: of what.
        index: a name in INDICES.
        value: mean over the cells by area of the difference, ratio or relative difference; NaN where there is none.
        spread: standard deviation over the cells by area: what cancels in the mean shows here.
        low: quantile 0.05 over the cells by area.
        high: quantile 0.95.
        units: of the four; "1" for ratios.
        comparison: "difference", "ratio", "relative difference" or "difference within the year".
        best: the value of a perfect prediction.
        truth: the index of the truth, mean over the same cells by area.
        predicted: that of the prediction, mean over its members.
        statistic_units: of the two.
        cells: number of cells compared.
        map: what was compared in each cell (y, x); NaN where it was not.
    """

    method: str
    variable: str
    index: str
    value: float
    spread: float
    low: float
    high: float
    units: str
    comparison: str
    best: float
    truth: float
    predicted: float
    statistic_units: str
    cells: int
    map: Array = field(repr=False)

    @property
    def distance(self) -> float:
        """How far it is from perfect; half and double are equally far for a ratio."""
        if self.comparison == "ratio" and self.value > 0:
            return abs(float(np.log(self.value)))
        return abs(self.value - self.best)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, NaN as None and without the map."""
        names = ("value", "spread", "low", "high", "best", "truth", "predicted")
        numbers = {name: _plain(getattr(self, name)) for name in names}
        words = {name: getattr(self, name) for name in ("method", "variable", "index", "units", "comparison")}
        return {**words, **numbers, "statistic_units": self.statistic_units, "cells": self.cells}


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
