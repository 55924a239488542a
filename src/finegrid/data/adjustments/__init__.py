"""Bias adjustment of coarse fields: adjust, then downscale, then constrain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finegrid.conventions.components import build
from finegrid.data.adjustments.base import Adjustment
from finegrid.data.adjustments.mapping import Detrended, Empirical, QuantileDelta
from finegrid.data.adjustments.means import Natural, Scale, Shift
from finegrid.data.adjustments.multivariate import Multivariate
from finegrid.data.adjustments.scaling import LocalIntensity, Scaling

ADJUSTMENTS: dict[str, type[Adjustment]] = {
    each.name: each
    for each in (
        Shift,
        Scale,
        Natural,
        Scaling,
        LocalIntensity,
        Empirical,
        Detrended,
        QuantileDelta,
        Multivariate,
    )
}


def adjustment(table: str | Mapping[str, Any] | None) -> Adjustment | None:
    """The unfitted adjustment of a table, None for none.

    Raises:
        InputError: on an unknown name or argument.
    """
    return None if table is None else build(table, ADJUSTMENTS, "adjustment")


__all__ = ["ADJUSTMENTS", "Adjustment", "adjustment"]
