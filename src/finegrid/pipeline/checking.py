"""Two files looked at before anything is learnt: cells, times and units, how they fit, and what to do with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from finegrid.conventions import harmonise
from finegrid.conventions.errors import provenance
from finegrid.data import open_fields, pair
from finegrid.data.matching import COVERED
from finegrid.data.pairs import Pair
from finegrid.data.predictors import seconds_since_start, usual_step
from finegrid.downscalers.domain import Domain
from finegrid.evaluation.agreement import Agreement
from finegrid.grids import Grid
from finegrid.pipeline.agreeing import adjustment_for, agreements_of, constraint_for
from finegrid.pipeline.material import in_period
from finegrid.pipeline.recipe import Recipe

Paths = str | Path | Sequence[str | Path]
_STEPS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
_MONTH = (28 * 86400.0, 31 * 86400.0)
# Steps longer than this many usual ones are gaps; months are up to a tenth longer than one another.
_GAP = 1.5


@dataclass(frozen=True)
class Look:
    """One file in words: what it is called, and rows of what and how."""

    source: str
    rows: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Checked:
    """What was found about two files that fit together.

    Attributes:
        rows: how they fit, as rows of what and how.
        agreements: whether they show the same weather, by variable.
        recipe: the job that suits them.
    """

    rows: Mapping[str, str]
    agreements: tuple[Agreement, ...]
    recipe: Recipe

    @property
    def yaml(self) -> str:
        """The recipe, without what is as usual."""
        whole, usual = self.recipe.to_dict(), Recipe.of({"data": {"coarse": "?", "fine": "?"}}).to_dict()
        told = {"data": {key: each for key, each in whole["data"].items() if each != usual["data"][key]}}
        told |= {key: whole[key] for key in ("adjust", "downscaler") if whole[key] is not None}
        return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def look(paths: Paths) -> Look:
    """What a file holds: grid, times, variables.

    Raises:
        InputError: when it cannot be read.
    """
    fields = open_fields(paths)
    standard, _ = harmonise(fields)
    grid, time = Grid.of(standard), standard.time
    rows = {
        "grid": kind_of(grid),
        "cells": f"{grid.shape[0]} x {grid.shape[1]}, about {_length(grid)} across",
        "domain": domain_words(grid),
        "members": str(standard.sizes.get("member", 1)),
        "times": _times(time),
        "step": step_words(time),
        "calendar": str(time.dt.calendar),
        "variables": ", ".join(_variable(field) for field in standard.data_vars.values()),
        "missing": _missing(standard),
    }
    return Look(provenance(fields), rows)


def check(
    coarse: Paths,
    fine: Paths,
    *,
    variables: Mapping[str, str] | None = None,
    predictors: Sequence[str] = (),
    time: str | None = None,
) -> Checked:
    """How two files fit, whether they agree, and the recipe that suits them.

    Raises:
        InputError: when they do not fit together; says how to mend it.
    """
    low, high = (in_period(open_fields(paths), time) for paths in (coarse, fine))
    matched = pair(low, high, variables=variables, predictors=predictors)
    found = agreements_of(matched)
    data: dict[str, Any] = {"coarse": _listed(coarse), "fine": _listed(fine), "predictors": list(predictors)}
    data["variables"] = dict(matched.inputs.variables)
    settings = {"data": data, "adjust": adjustment_for(matched, found)}
    recipe = Recipe.of(settings, source="the check")
    recipe = replace(recipe, downscaler={**recipe.downscaler, "constraint": constraint_for(matched, found)})
    return Checked(fit_rows(matched), found, recipe)


def fit_rows(matched: Pair) -> dict[str, str]:
    """How the cells, variables and times of a pair fit."""
    domain = Domain.of(matched)
    binding, target = domain.binding, matched.inputs.conserved_grid
    rows = {
        "variables": ", ".join(_match(matched, name) for name in matched.variables),
        "common times": f"{matched.coarse.sizes['time']}",
    }
    fy, fx = matched.factor
    if matched.inputs.own is None:
        rows["cells"] = f"every coarse cell is a block of {fy} x {fx} fine cells"
    else:
        rows["cells"] = (
            f"coarse cells are no whole blocks of fine cells; methods work on blocks of {fy} x {fx} fine cells, and "
            "conserve the means over the coarse file's own cells"
        )
    sticking = int(((domain.operator.coverage < COVERED) & (domain.operator.coverage > 0)).sum())
    empty = int(((domain.operator.coverage >= COVERED) & ~binding).sum())
    rows["conserved"] = f"{int(binding.sum())} of {target.size} coarse cells"
    rows["conserved"] += f"; {sticking} stick out of the fine domain" if sticking else ""
    rows["conserved"] += f"; {empty} have no fine cell with values" if empty else ""
    valid = 1.0 if matched.true_grid.mask is None else float(matched.true_grid.mask.mean())
    rows["fine cells"] = f"{100 * valid:.3g} % have values"
    return rows


def kind_of(grid: Grid) -> str:
    """The kind of a grid in words."""
    if grid.is_curvilinear:
        return "curvilinear (two-dimensional latitudes and longitudes)"
    if grid.is_latlon:
        uneven = np.ptp(np.diff(grid.y)) > 1e-3 * np.diff(grid.y).max() if len(grid.y) > 2 else False
        return "latitude-longitude" + (", uneven rows (Gaussian?)" if uneven else "")
    return "rotated pole" if grid.in_degrees else "projected"


def domain_words(grid: Grid) -> str:
    """Where the cells of a grid lie, from edge to edge, in degrees of latitude and longitude."""
    longitude, latitude = (grid.corners[..., index] for index in (0, 1))
    longitude = np.unwrap(np.unwrap(longitude, axis=1, period=360.0), axis=0, period=360.0)
    south, north = (_degrees(each, "NS") for each in (latitude.min(), latitude.max()))
    if grid.periodic:
        return f"{south} to {north}, all around the globe"
    west, east = (_degrees((each + 180) % 360 - 180, "EW") for each in (longitude.min(), longitude.max()))
    return f"{south} to {north}, {west} to {east}"


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.4g}°{sides[int(value < 0)]}"


def _times(time: xr.DataArray) -> str:
    """How many times there are, from when to when, and how often the usual step is missed."""
    midnight = bool(((time.dt.hour == 0) & (time.dt.minute == 0)).all())
    first, last = (str(each)[: 10 if midnight else 16].replace("T", " ") for each in (time.values[0], time.values[-1]))
    gaps = int((np.diff(seconds_since_start(time)) > _GAP * usual_step(time)).sum())
    missed = f", with {gaps} gap" + ("s" if gaps > 1 else "") if gaps else ""
    return f"{len(time)} from {first} to {last}{missed}"


def step_words(time: xr.DataArray) -> str:
    """The usual step between times in words."""
    seconds = usual_step(time)
    if _MONTH[0] <= seconds <= _MONTH[1]:
        return "1 month"
    size, word = next((each for each in _STEPS if seconds >= each[0]), _STEPS[-1])
    return f"{seconds / size:g} {word}" + ("s" if seconds / size != 1 else "")


def _length(grid: Grid) -> str:
    metres = float(np.sqrt(np.median(grid.area)))
    return f"{metres / 1000:.3g} km"


def _variable(field: xr.DataArray) -> str:
    units = str(field.attrs.get("units", "no units"))
    return f"{field.name} ({units})"


def _missing(fields: xr.Dataset) -> str:
    first = fields.isel(time=0)
    parts = [f"{name} {100 * float(field.isnull().mean()):.3g} %" for name, field in first.data_vars.items()]
    return ", ".join(parts) + " at the first time"


def _match(matched: Pair, name: str) -> str:
    theirs = matched.inputs.variables[name]
    units = matched.inputs.units[name] or "no units"
    return f"{name} from {theirs} in {units}" if theirs != name else f"{name} in {units}"


def _listed(paths: Paths) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else [str(each) for each in paths]
