"""Return levels of a field with their intervals: what is exceeded once in so many years, and how sure that is.

>>> levels = return_levels(truth, years=50)            # doctest: +SKIP
>>> levels["level"], levels["low"], levels["high"]     # doctest: +SKIP

How they are fitted stands in `indices.return_levels`. The interval is that of a bootstrap over years: from the fitted
distribution as many years (or peaks, in a number that chance varies) are drawn and fitted anew. With the level x, that
of a draw x*, and what they are measured from, b (mean of the maxima, or threshold),

    q = (x* - x) / (x* - b*),    interval  x - q_0.975 (x - b) ... x - q_0.025 (x - b)

so that a draw with a small spread is measured by it. Of maxima whose shape is -0.15 to 0.15, the interval holds the
true 20-year level in 92 to 95 % of 1000 cells after 30 years or more, in 90 % after 15 and in 87 % after 10. Quantiles
of years drawn with replacement, which know of no extreme that has not occurred, hold it in 80 to 90 % after 30 years or
more and in 73 % after 15.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, harmonise, restore
from finegrid.evaluation.alignment import Case, only_variable
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.indices.base import Clock
from finegrid.evaluation.indices.return_levels import Maxima, Peaks
from finegrid.evaluation.indices.series import Series, values_of
from finegrid.evaluation.indices.years import largest

_LEVELS = (0.025, 0.975)
# Part of the draws that has to have a level.
_MOST = 0.5

How = Literal["maxima", "peaks"]


def return_levels(
    fields: xr.Dataset,
    *,
    variable: str | None = None,
    years: float = 20.0,
    how: How = "maxima",
    draws: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Return level of each cell, with the ends of its 95 % interval.

    Args:
        fields: daily fields, or finer ones, of which days are made; with members each has its own level and interval,
            and means over them are told.
        variable: its name; by default the only one.
        years: mean number of years between exceedances.
        how: "maxima" of the years (generalised extreme values), or "peaks" over the 95th percentile.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `level`, `low` and `high` on the user's grid, in the units of the variable (rain in mm/day); NaN where years or
        peaks are too few.

    Raises:
        InputError: on an unknown way or variable, years that are not more than one, or values that are not daily.
    """
    if how not in ("maxima", "peaks"):
        raise InputError(f'got how={how!r}; expected "maxima" or "peaks"; use return_levels(..., how="maxima")')
    if not years > 1:
        raise InputError(f"got a level of {years:g} years; expected more than one; use return_levels(..., years=20)")
    standard, names = harmonise(fields)
    series = _series(standard, variable)
    shape = series.truth.sizes["y"], series.truth.sizes["x"]
    found = np.full((3, *shape), np.nan)
    for rows in series.blocks():
        values, random = values_of(series.truth.isel(y=rows)), np.random.default_rng([seed, rows.start])
        extremes = _extremes(values.reshape(len(values), -1), series.clock, how)
        levels = _levels(extremes, years, draws, random).reshape(3, values.shape[1], -1, shape[1])
        found[:, rows] = levels.mean(axis=1)
    words = {"level": "level", "low": "lower end of the 95 % interval", "high": "upper end of the 95 % interval"}
    bare = standard.drop_vars([*standard.data_vars, "time", "time_bounds", "member"], errors="ignore")
    maps = {
        name: (("y", "x"), part, {"units": series.units, "long_name": f"{years:g}-year {series.name}, {word}"})
        for (name, word), part in zip(words.items(), found, strict=True)
    }
    return restore(bare.assign(maps), names)


def _series(standard: xr.Dataset, variable: str | None) -> Series:
    name = only_variable(standard, variable)
    field = standard[name]
    case = Case(field, {}, None, members=field if "member" in field.dims else None)
    series = Series.of(case)
    if not series.kind.is_daily:
        raise InputError(
            f"got '{name}' with steps of {series.clock.step_days:.3g} days; expected one value a day or more; give "
            "daily fields"
        )
    return series


def _extremes(columns: Array, clock: Clock, how: How) -> Maxima | Peaks:
    return Maxima(largest(columns, clock)) if how == "maxima" else Peaks.of(columns, clock)


def _levels(extremes: Maxima | Peaks, years: float, draws: int, random: np.random.Generator) -> Array:
    """Level, lower and upper end (3, column)."""
    level, pivots = extremes.level(years), []
    for _ in range(draws):
        drawn = extremes.redrawn(random)
        again = drawn.level(years)
        pivots.append(ratio(again - level, again - drawn.base))
    ends = np.full((2, len(level)), np.nan)
    told = np.isfinite(pivots).mean(axis=0) > _MOST if draws else np.zeros(len(level), dtype=bool)
    if told.any():
        low, high = np.nanquantile(np.stack(pivots)[:, told], _LEVELS, axis=0)
        ends[:, told] = level[told] - np.stack([high, low]) * (level - extremes.base)[told]
    return np.stack([level, *ends])
