"""Agreement of coarse and fine data season by season: bias with its interval, spread, correlation, significance.

The interval of the mean bias is that of a moving-block bootstrap over time, widened for memory and for few blocks
(`intervals`).

Cells are tested one by one (`disagreement`). Of so many tests some come out by chance: those count that control the
false discovery rate at 0.1, over all cells and seasons at once (all times by themselves). Where there is no bias, the
chance of any false alarm is then 10 %, or half of that with fields as smooth as the weather's (Wilks 2016,
doi:10.1175/BAMS-D-15-00267.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from finegrid.evaluation.averaging import Array, Totals
from finegrid.evaluation.disagreement import CellSums, Disagreement
from finegrid.evaluation.intervals import LEAST_TIMES, Draws, block_length, interval

ALL = "all"
_FALSE_DISCOVERIES = 0.1

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SeasonAgreement:
    """One season, or all times with each season about its own means.

    Attributes:
        season: DJF, MAM, JJA, SON or all.
        times: number of times compared.
        bias: mean of d by area, d being the mean of the fine data minus the coarse data.
        low: lower end of its 95 % interval; NaN for fewer than eight times.
        high: upper end.
        spread: root mean square of d about its cell's mean.
        variability: standard deviation of the coarse field about its cell's mean.
        correlation: of fine means and coarse field over time, about their cells' means, all cells together.
        share: part (0..1) of the cells that could be tested whose bias is significant; NaN without any.
        bias_map: mean of d in each coarse cell (h, w); NaN where not compared.
        low_map: lower ends of the cells' own 95 % intervals; NaN where there are fewer than eight times.
        high_map: upper ends.
        significant: cells whose bias is significant (h, w).
    """

    season: str
    times: int
    bias: float
    low: float
    high: float
    spread: float
    variability: float
    correlation: float
    share: float
    bias_map: Array
    low_map: Array
    high_map: Array
    significant: Mask

    def to_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """Plain values for JSON, None for NaN; maps as lists of rows when wanted."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: plain(value) for name, value in values.items() if maps or not isinstance(value, np.ndarray)}


def plain(value: Any) -> Any:
    """The same for JSON: arrays as lists, NaN as None."""
    if isinstance(value, np.ndarray):
        return [plain(each) for each in value.tolist()] if value.ndim == 1 else [plain(row) for row in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def seasons_of(found: Disagreement) -> tuple[SeasonAgreement, ...]:
    """Each season that there is, and at last all times."""
    pooled = CellSums.pooled(list(found.cells.values()))
    chosen = {name: found.season == name for name in found.cells}
    significant = {**_significant(found.cells), **_significant({ALL: pooled})}
    parts = {name: (found.cells[name], _at(found.totals, times)) for name, times in chosen.items()}
    parts[ALL] = pooled, _about_one_mean(found.totals, list(chosen.values()))
    return tuple(_season(name, *part, significant[name], found) for name, part in parts.items())


def _season(name: str, cells: CellSums, totals: Totals, significant: Mask, found: Disagreement) -> SeasonAgreement:
    low, high = _interval(totals, found.step)
    weights = found.weights
    times, d, c = (float((weights * sums).sum()) for sums in (cells.times, cells.squares, cells.coarse_squares))
    shared = float((weights * cells.products).sum())
    squares = c * (c + 2 * shared + d)  # the mean of the fine data is c + d
    tested = int(np.isfinite(cells.chance).sum())
    return SeasonAgreement(
        season=name,
        times=int((totals.weights > 0).sum()),
        bias=float(totals.mean()[0]),
        low=low,
        high=high,
        spread=_root(d, times),
        variability=_root(c, times),
        correlation=(c + shared) / float(np.sqrt(squares)) if squares > 0 else np.nan,
        share=float(significant.sum()) / tested if tested else np.nan,
        bias_map=cells.bias,
        low_map=cells.bias - cells.reach,
        high_map=cells.bias + cells.reach,
        significant=significant,
    )


def _root(squares: float, times: float) -> float:
    return float(np.sqrt(squares / times)) if times else np.nan


def _significant(cells: Mapping[str, CellSums]) -> dict[str, Mask]:
    """Cells of each season whose bias counts, all judged together."""
    chances = np.stack([each.chance for each in cells.values()])
    tested = np.isfinite(chances)
    chances[tested] = stats.false_discovery_control(chances[tested]) if tested.any() else 1.0
    return {name: np.asarray(chance <= _FALSE_DISCOVERIES) for name, chance in zip(cells, chances, strict=True)}


def _at(totals: Totals, times: Mask) -> Totals:
    return Totals(totals.sums[:, times], totals.weights[times])


def _about_one_mean(totals: Totals, seasons: list[Mask]) -> Totals:
    """The same with every season's mean moved to that of all: steps between seasons are no chance."""
    sums, mean = totals.sums.copy(), totals.mean()[0]
    for times in seasons:
        away = np.nan_to_num(_at(totals, times).mean()[0] - mean)
        sums[0, times] -= away * totals.weights[times]
    return Totals(sums, totals.weights)


def _interval(totals: Totals, step: float) -> tuple[float, float]:
    compared = _at(totals, totals.weights > 0)
    times, mean = len(compared.weights), float(compared.mean()[0])
    if times < LEAST_TIMES:
        return np.nan, np.nan
    length = block_length(compared.per_time()[0], step_seconds=step)
    draws = Draws.of(times, length, step_seconds=step)
    wider = draws.widening(draws.without(compared)[0])
    return interval(draws.means(compared)[0], widening=wider, centre=mean)
