"""Do coarse and fine data agree? To be asked before training: hard conservation presumes that they do.

With A the conservative mean from the fine to the coarse grid, what is judged is d(t, i) = (A fine)(t, i) - coarse(t, i)
in the coarse cells that the fine grid covers. It has a part that stays, the bias, and a part that changes from time to
time, the spread, and the two call for different remedies. The verdict is the first of these that holds:

    same        root mean square of d <= 0.001 of the range of the coarse field: the rounding of a coarsened copy
    unrelated   correlation of A fine and coarse < 0.3
    scattered   correlation < 0.8, or spread > half the variability of the coarse field
    biased      some cell has a bias in some season that is no chance (false discovery rate 0.1), and the bias matters:
                its root mean square over the cells > 0.1 of the spread; below, d is hardly larger for it
    close       none of these: the same weather, without a bias that matters

Correlation, spread and variability are about the means of each cell in each season, so that neither the seasons nor
the relief count as agreement. A spread of half the variability is a quarter of its variance. A pair without any bias is
called biased about one time in ten. How intervals and significance are found stands in `seasonal` and `disagreement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.disagreement import Disagreement
from finegrid.evaluation.intervals import LEAST_TIMES
from finegrid.evaluation.seasonal import SeasonAgreement, plain, seasons_of
from finegrid.evaluation.wording import (
    NOTHING,
    decimals_of,
    labelled,
    number,
    pretty,
    range_of,
    rounded,
    with_units,
)
from finegrid.grids import Grid, Operator

Verdict = Literal["same", "unrelated", "scattered", "biased", "close"]

_SAME = 1e-3
_RELATED, _FOLLOWING = 0.3, 0.8
_WIDE = 0.5
_MATTERS = 0.1
# Coordinates may be rounded, but not by more than this part of a cell.
_ROUNDING = 0.01

_RELAXED = "`constraint: {name: relaxed, strength: learned}`"
_NONE = "`constraint: {name: none}`"
_ADJUST = "adjust the bias first (`adjust: {name: natural}` in the recipe, or `--adjust natural`)"
_ADVICE: dict[Verdict, str] = {
    "same": "A hard constraint is right: fine fields that keep the coarse means lose nothing.",
    "close": "They show the same weather, without a bias that matters. A hard constraint does little harm; a relaxed "
    f"one ({_RELAXED}) need not pass the remaining differences on to the fine fields.",
    "biased": "They follow each other, but a hard constraint would carry the bias of the coarse data into every fine "
    f"field: {_ADJUST}, then use a hard constraint, or a relaxed one ({_RELAXED}).",
    "scattered": "They differ too much from time to time for a hard constraint, which would carry these differences "
    f"into the fine fields: use a relaxed constraint ({_RELAXED}) or none ({_NONE}).",
    "unrelated": "This is no pair of the same weather: the two come from different runs, or their times do not match. "
    f"Check the time stamps. If they are right, do not force agreement ({_NONE}), and expect no skill from day to day.",
}
_STILL = f"There is a bias too: {_ADJUST}."


@dataclass(frozen=True, eq=False)
class Agreement:
    """What was found about a pair of coarse and fine fields.

    Attributes:
        name: the variable.
        units: its units, "1" for none.
        grid: the coarse grid, on which the maps lie.
        seasons: those that there are, in the order of the year.
        overall: all times.
        difference: root mean square of d, by area.
        extent: range of the coarse field.
    """

    name: str
    units: str
    grid: Grid
    seasons: tuple[SeasonAgreement, ...]
    overall: SeasonAgreement
    difference: float
    extent: float

    @cached_property
    def biased(self) -> bool:
        """Whether some cell in some season has a bias that is no chance, and the bias matters."""
        tested = [season for season in self.seasons if np.isfinite(season.share)] or [self.overall]
        told = [season for season in tested if season.significant.any()]
        return any(self._size(season.bias_map) > _MATTERS * season.spread for season in told)

    def _size(self, values: Array) -> float:
        known = np.isfinite(values)
        return float(np.sqrt(np.average(values[known] ** 2, weights=self.grid.area[known])))

    @cached_property
    def verdict(self) -> Verdict:
        """One of five words, see the module."""
        found = self.overall
        if self.difference <= _SAME * self.extent:
            return "same"
        if not found.correlation >= _RELATED:
            return "unrelated"
        if found.correlation < _FOLLOWING or found.spread > _WIDE * found.variability:
            return "scattered"
        return "biased" if self.biased else "close"

    @property
    def fires(self) -> bool:
        """Whether hard conservation would cost accuracy."""
        return self.verdict != "same"

    @property
    def advice(self) -> tuple[str, ...]:
        """What was found, and what to do about it."""
        still = (_STILL,) if self.verdict == "scattered" and self.biased else ()
        return *_findings(self), _ADVICE[self.verdict], *still

    @property
    def rows(self) -> tuple[SeasonAgreement, ...]:
        """What a table shows: the seasons, and all times where there are several."""
        return (*self.seasons, self.overall) if len(self.seasons) > 1 else self.seasons

    def to_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """Plain values for JSON, None for NaN; maps as lists of rows when wanted."""
        seasons = {each.season: each.to_dict(maps=maps) for each in (*self.seasons, self.overall)}
        words = {"name": self.name, "units": self.units, "verdict": self.verdict, "advice": list(self.advice)}
        sizes = {"difference": plain(self.difference), "extent": plain(self.extent)}
        return {**words, "fires": self.fires, **sizes, "seasons": seasons}

    def table(self) -> str:
        """Markdown with the seasons as rows."""
        head, *rows = words_of(self)
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def agreement(fine: xr.DataArray, coarse: xr.DataArray, operator: Operator) -> Agreement:
    """Compare the means of a fine field with a coarse field of the same times.

    Coarse cells count that lie within the fine grid; of each, the fine cells that are known.

    Args:
        fine: harmonised (time, y, x) on the operator's source; may be lazy, and is read once in blocks of times.
        coarse: harmonised (time, y, x) on its target, in the same units.
        operator: the conservative mean from the fine to the coarse grid.

    Raises:
        InputError: when dimensions, units, times or grids differ, or there are fewer than eight times or no cell to
            compare.
    """
    units = _checked_units(fine, coarse)
    _check_axes(fine, coarse, operator)
    _check_number(fine.sizes["time"], fine)
    found = Disagreement.of(fine, coarse, operator)
    *seasons, overall = seasons_of(found)
    _check_number(overall.times, fine)
    name, extent = str(coarse.name if fine.name is None else fine.name), found.highest - found.lowest
    return Agreement(name, units, operator.target, tuple(seasons), overall, found.difference, extent)


def words_of(found: Agreement) -> list[list[str]]:
    """A table in words: its head, and a row for each season."""
    units, name = found.units, labelled(found.name, found.units)
    heads = [labelled(word, units) for word in ("bias", "95 % interval", "spread", "variability")]
    head = [name, "times", *heads[:2], "significant cells", *heads[2:], "correlation"]
    return [head, *(_row(season) for season in found.rows)]


def _row(season: SeasonAgreement) -> list[str]:
    decimals = _decimals(season)
    return [
        season.season,
        str(season.times),
        rounded(season.bias, decimals),
        range_of(season.low, season.high, decimals=decimals) or NOTHING,
        NOTHING if np.isnan(season.share) else f"{100 * season.share:.0f} %",
        number(season.spread) if season.spread > _SAME * season.variability else rounded(season.spread, decimals),
        number(season.variability),
        rounded(season.correlation, 2),
    ]


def _decimals(season: SeasonAgreement) -> int | None:
    """Of a bias: as far as it matters beside the spread, or beside the variability where there is hardly any spread."""
    return decimals_of("bias", max(season.spread, season.variability / 10))


def _findings(found: Agreement) -> tuple[str, ...]:
    """The figures behind the verdict in sentences."""
    all_times, units = found.overall, found.units
    if found.verdict == "same":
        return (
            f"The coarse field of {found.name} is the mean of the fine one but for "
            f"{with_units(found.difference, units)} (root mean square), no more than rounding and packing.",
        )
    decimals = _decimals(all_times)
    bias, extent = rounded(all_times.bias, decimals), range_of(all_times.low, all_times.high, decimals=decimals)
    cells: Array = all_times.bias_map[np.isfinite(all_times.bias_map)]
    single = range_of(float(cells.min()), float(cells.max()), decimals=decimals)
    return (
        f"Fine minus coarse data of {found.name}: {_in(bias, units)} on average (95 % interval {extent}), "
        f"{_in(single, units)} in single cells.",
        f"About that bias they differ by {with_units(all_times.spread, units)} from time to time, where the coarse "
        f"field itself varies by {with_units(all_times.variability, units)}; their correlation is "
        f"{rounded(all_times.correlation, 2)}.",
    )


def _in(figures: str, units: str) -> str:
    return f"{figures}\u00a0{pretty(units)}".rstrip()


def _checked_units(fine: xr.DataArray, coarse: xr.DataArray) -> str:
    units, theirs = (str(field.attrs.get("units") or "1") for field in (fine, coarse))
    if units == theirs:
        return units
    raise InputError(
        f"got '{fine.name}' in '{units}' and the coarse field in '{theirs}'; expected one unit; convert with "
        f"finegrid.conventions.convert_units(coarse, '{units}')"
    )


def _check_number(times: int, fine: xr.DataArray) -> None:
    if times < LEAST_TIMES:
        raise InputError(
            f"got {times} times of '{fine.name}' at which a coarse cell within the fine grid is known in both fields; "
            f"expected at least {LEAST_TIMES}; give a longer period, or files of the same region"
        )


def _check_axes(fine: xr.DataArray, coarse: xr.DataArray, operator: Operator) -> None:
    for field, role in ((fine, "fine"), (coarse, "coarse")):
        if set(field.dims) != {"time", "y", "x"}:
            raise InputError(
                f"got a {role} field with dimensions {', '.join(map(str, field.dims)) or 'none'}; expected time, y, x; "
                "bring it to standard form with finegrid.conventions.harmonise and choose one member or level with isel"
            )
    if not fine.indexes["time"].equals(coarse.indexes["time"]):
        raise InputError(
            f"got {fine.sizes['time']} fine and {coarse.sizes['time']} coarse times that are not the same; expected "
            "the same times; select those that both have with fine.sel(time=common) and coarse.sel(time=common), where "
            "common = fine.indexes['time'].intersection(coarse.indexes['time'])"
        )
    if not _lies_on(coarse, operator.target):
        raise InputError(
            f"got a coarse field of {coarse.sizes['y']} x {coarse.sizes['x']} cells (y, x) that is not on the "
            f"operator's target grid of {operator.target.shape[0]} x {operator.target.shape[1]} cells; build the "
            "operator with Operator.conservative(Grid.of(fine), Grid.of(coarse))"
        )


def _lies_on(field: xr.DataArray, grid: Grid) -> bool:
    places = {"lat": grid.centres[0], "lon": grid.centres[1]} if grid.is_curvilinear else {"y": grid.y, "x": grid.x}
    return (field.sizes["y"], field.sizes["x"]) == grid.shape and all(
        np.abs(field[name].values - place).max() <= _ROUNDING * np.ptp(place) / max(max(place.shape) - 1, 1)
        for name, place in places.items()
        if name in field.coords
    )
