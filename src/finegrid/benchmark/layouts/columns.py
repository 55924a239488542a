"""Columns of air and their tendencies: regressions that learn on one part and are judged on another, level by level.

Outputs are weighted as energy (`benchmark.columns`) where the folder says where columns and levels are; R2 is that of
the benchmark. Predictions of others are files with the variables of the outputs on the times that are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from finegrid.benchmark.columns import ColumnRegression, energy, linear, network, r_squared
from finegrid.benchmark.layouts.task import LayoutTask
from finegrid.benchmark.protocols.base import Answer, Say, Table, quiet
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.data import open_fields
from finegrid.data.damage import readable
from finegrid.data.layouts import Opened
from finegrid.pipeline.ledger import Watch
from finegrid.training import Settings

if TYPE_CHECKING:  # matplotlib is heavy
    from matplotlib.figure import Figure

REGRESSIONS: dict[str, Callable[[int, int], ColumnRegression]] = {
    "linear": lambda steps, seed: linear(),
    "network": lambda steps, seed: network(steps=steps, seed=seed),
}
"""By name: from passes over the training columns and a seed."""
_STEPS = 50
_PRESSURE = "state_ps"
_STYLES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"))
_MOST = 6


@dataclass(frozen=True)
class ColumnScore:
    """R2 of one output of one method.

    Attributes:
        method: name.
        variable: of the outputs.
        level: nominal pressure or number; None for what has no levels.
        r_squared: mean over the points; NaN where the truth varies nowhere.
    """

    method: str
    variable: str
    level: float | None
    r_squared: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnAnswer(Answer):
    """What `columns` found."""

    protocol: ClassVar[str] = "columns"
    rows: tuple[ColumnScore, ...]

    def tables(self) -> Iterator[tuple[str, Table]]:
        methods = list(dict.fromkeys(row.method for row in self.rows))
        variables = list(dict.fromkeys(row.variable for row in self.rows))
        means = [[name, *(_word(self._mean(method, name)) for method in methods)] for name in variables]
        yield "R2, mean over levels and points (1 is perfect)", [["output", *methods], *means]
        for method in methods:
            upper = [name for name in variables if self._profile(method, name)[0].size]
            if upper:
                levels = self._profile(method, upper[0])[0]
                values = [self._profile(method, name)[1] for name in upper]
                rows = [
                    [f"{level:.4g}", *map(_word, row)]
                    for level, row in zip(levels, zip(*values, strict=True), strict=True)
                ]
                yield f"R2 of {method} by level", [["level", *upper], *rows]

    def picture(self) -> Figure:
        from matplotlib.figure import Figure

        from finegrid.evaluation.figures import tidy

        methods = list(dict.fromkeys(row.method for row in self.rows))
        known = dict.fromkeys(row.variable for row in self.rows if row.level is not None)
        names = list(known or dict.fromkeys(row.variable for row in self.rows))[:_MOST]
        figure = Figure(figsize=(3.4 * min(3, len(names)) + 1, 3.8 * -(-len(names) // 3)), layout="constrained")
        panels = figure.subplots(-(-len(names) // 3), min(3, len(names)), squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            for number, method in enumerate(methods):
                colour, dashes = _STYLES[number % len(_STYLES)]
                levels, values = self._profile(method, name)
                if levels.size:
                    axes.plot(np.clip(values, -1, 1), levels, color=colour, linestyle=dashes, linewidth=2, label=method)
                else:
                    axes.barh([method], [np.clip(self._mean(method, name), -1, 1)], color=colour)
            if known:
                axes.invert_yaxis()
                axes.set_ylabel("level (hPa, or number from above)", fontsize=10)
                axes.legend(fontsize=9, frameon=False)
            axes.set_xlabel("R2 (values below −1 at −1)", fontsize=10)
            axes.set_title(name, fontsize=12)
            tidy(axes)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        return figure

    def _mean(self, method: str, variable: str) -> float:
        values = [row.r_squared for row in self.rows if (row.method, row.variable) == (method, variable)]
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else np.nan

    def _profile(self, method: str, variable: str) -> tuple[Any, Any]:
        """Levels and R2 there; empty for what has no levels."""
        own = [row for row in self.rows if (row.method, row.variable) == (method, variable) and row.level is not None]
        return np.array([row.level for row in own]), np.array([row.r_squared for row in own])


def columns(
    task: LayoutTask,
    methods: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    settings: Settings | None = None,
    out: str | Path | None = None,
    say: Say = quiet,
    progress: bool = False,
) -> ColumnAnswer:
    """Ask regressions for the tendencies of columns; see `protocols.base.Inquiry` for the arguments.

    Args:
        task: from a folder of columns.
        methods: names in REGRESSIONS; by default all.
        settings: `steps` are passes over the training columns, 50 unless they are given.

    Raises:
        InputError: on an unknown method, or predictions of others that do not fit.
    """
    watch, names = Watch(), list(methods or REGRESSIONS)
    for name in names:
        if name not in REGRESSIONS:
            known = ", ".join(REGRESSIONS)
            raise InputError(f"There is no method '{name}' of columns. Names: {known}.{nearest(name, REGRESSIONS)}")
    opened = task.opened()
    blocks = task.blocks(opened)
    part, judged = ("test", blocks.test) if len(opened.splits.get("test", ())) else ("validation", blocks.validate)
    (given, wanted), (later, truth) = (_at(opened, each, task) for each in (blocks.train, judged))
    steps, seed = (settings.steps if settings and settings.steps else _STEPS), settings.seed if settings else 0
    predictions: dict[str, xr.Dataset] = {}
    for name in names:
        predictions[name] = REGRESSIONS[name](steps, seed).fit(given, wanted).predict(later)
        say(f"{name}: learnt from {given.sizes['time']} times of {given.sizes['point']} columns")
    predictions |= {name: _entry(path, truth, name) for name, path in task.entries.items()}
    weighted = _weighted(opened, later)
    right = weighted(truth)
    rows = [row for name, each in predictions.items() for row in _rows(name, r_squared(weighted(each), right))]
    how = "as energy in W m-2" if "grid" in opened.extras else "as they are, for the folder has no file of the grid"
    return ColumnAnswer(
        task=task.name,
        title=task.title,
        words=f"Learnt from {given.sizes['time']} times, judged on {later.sizes['time']} of {part}; outputs {how}.",
        rows=tuple(rows),
        notes=(f"Cite: {opened.citation}. Terms: {opened.licence}.",),
        seconds=watch.seconds,
    )


def _at(opened: Opened, times: Any, task: LayoutTask) -> tuple[xr.Dataset, xr.Dataset]:
    return opened.coarse.isel(time=times).load(), opened.fine[list(task.variables)].isel(time=times).load()


def _weighted(opened: Opened, inputs: xr.Dataset) -> Callable[[xr.Dataset], xr.Dataset]:
    """Outputs as energy where the levels are known, else as they are."""
    grid = opened.extras.get("grid")
    if grid is None or _PRESSURE not in inputs:
        return lambda fields: fields
    return lambda fields: energy(fields, inputs[_PRESSURE], grid)


def _entry(path: str, truth: xr.Dataset, name: str) -> xr.Dataset:
    """A prediction by others, with the units of the truth.

    Raises:
        InputError: when it has not the variables, times or points of the truth.
    """
    with readable(path):
        found = open_fields(path).load()
    for variable, right in truth.data_vars.items():
        if variable not in found or found[variable].sizes != right.sizes:
            sizes = " x ".join(f"{size} {dim}" for dim, size in right.sizes.items())
            raise InputError(
                f"the entry {name} ({path}) lacks {variable} of {sizes}; expected that of the judged times"
            )
    right_order = {
        str(each): found[each].transpose(*truth[each].dims).assign_attrs(truth[each].attrs) for each in truth
    }
    # Stamps of calendars are written in many ways: the order of the times is taken.
    return xr.Dataset(right_order).drop_vars("time", errors="ignore").assign_coords(time=truth.time)


def _rows(method: str, scores: xr.Dataset) -> Iterator[ColumnScore]:
    for name, each in scores.data_vars.items():
        if "lev" not in each.dims:
            yield ColumnScore(method, str(name), None, float(each))
            continue
        levels = each.lev.values if "lev" in each.coords else np.arange(each.sizes["lev"])
        for level, value in zip(levels, each.values, strict=True):
            yield ColumnScore(method, str(name), float(level), float(value))


def _word(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.3f}"
