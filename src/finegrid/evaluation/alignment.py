"""Prediction, truth, baselines and coarse field on common ground: names, units, grid and times.

Everything is checked here, before anything is computed, and refused in the user's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from finegrid.conventions import InputError, convert_units, find_variable, harmonise
from finegrid.data.members import mean_of_members
from finegrid.grids import Grid, nesting


@dataclass(frozen=True)
class Case:
    """One variable, ready to be scored.

    Attributes:
        truth: (time, y, x).
        predictions: (member, time, y, x) by method, the judged one first; in the truth's units, on its grid
            and times.
        coarse: (time, y, x) on the coarse grid in the truth's units, where there is one.
        unshared: most times that one of the fields has and not all have.
        members: the members of which the truth is the mean (member, time, y, x), where it has some.
        unpredicted: cells that no method ever predicts although a truth is known, and that were left out of it.
    """

    truth: xr.DataArray
    predictions: Mapping[str, xr.DataArray]
    coarse: xr.DataArray | None
    unshared: int = 0
    unpredicted: int = 0
    members: xr.DataArray | None = None

    @property
    def name(self) -> str:
        """Name of the variable in the truth."""
        return str(self.truth.name)


def align(
    predictions: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    coarse: xr.Dataset | None,
    *,
    variables: Sequence[str] | None = None,
) -> tuple[Case, ...]:
    """Cases of all variables that truth and prediction share.

    Args:
        predictions: by method, in the user's names; the judged one first.
        truth: in the user's names; the mean of its members, where it has some.
        coarse: what the prediction was made from, in the user's names.
        variables: names in the truth; by default all that the judged prediction has.

    Raises:
        InputError: when grids differ, no time is common, units do not convert or a variable is missing.
    """
    every = _harmonised(truth, "truth")
    reference = mean_of_members(every)
    others = {name: _harmonised(fields, name) for name, fields in predictions.items()}
    given = None if coarse is None else mean_of_members(_harmonised(coarse, "coarse"))
    for name, fields in others.items():
        check_grid(fields, reference, name)
    everyone = {"truth": reference, **others} if given is None else {"truth": reference, **others, "coarse": given}
    times = common_times(everyone)
    unshared = max(fields.sizes["time"] for fields in everyone.values()) - len(times)
    cases = (
        Case(
            reference[variable].pipe(at_times, times).transpose("time", "y", "x"),
            {name: prediction_of(fields, reference[variable], times, name) for name, fields in others.items()},
            None if given is None else _coarse(given, reference[variable], times),
            unshared,
            members=_members(every[variable], times),
        )
        for variable in shared_variables(reference, next(iter(others.values())), next(iter(others)), variables)
    )
    return tuple(map(_predicted, cases))


def _members(field: xr.DataArray, times: pd.Index) -> xr.DataArray | None:
    return field.pipe(at_times, times).transpose("member", "time", "y", "x") if "member" in field.dims else None


def _predicted(case: Case) -> Case:
    """The case without cells that no method ever predicts, such as those in which another variable is never known."""
    fields = case.predictions.values()
    never = ~np.logical_or.reduce([field.isel(member=0, time=0).notnull() for field in fields])
    if not never.any():
        return case
    never &= ~np.logical_or.reduce([field.notnull().any(("member", "time")) for field in fields])
    gone = int((never & case.truth.notnull().any("time").values).sum())
    if not gone or never.all():
        return case
    return replace(case, truth=case.truth.where(xr.DataArray(~never, dims=("y", "x"))), unpredicted=gone)


def _harmonised(fields: xr.Dataset, source: str) -> xr.Dataset:
    if not isinstance(fields, xr.Dataset):
        raise InputError(
            f"got a {type(fields).__name__} as {source}; expected an xarray Dataset; "
            "make one with field.to_dataset(name=...)"
        )
    return harmonise(fields, source=source)[0]


def check_grid(fields: xr.Dataset, truth: xr.Dataset, source: str) -> None:
    """Refuse fields whose cells are not those of the truth."""
    got, expected = Grid.of(fields), Grid.of(truth)
    if nesting(got, expected) != (1, 1):
        raise InputError(
            f"got {source} on a grid of {_extent(got)}; expected the grid of the truth, {_extent(expected)}; "
            "crop both to the same cells, or bring one to the other's grid with "
            "finegrid.grids.Operator.conservative(Grid.of(fine), Grid.of(coarse))(fields)"
        )


def _extent(grid: Grid) -> str:
    system = "latitude-longitude" if grid.is_latlon else "its own projection"
    rows = f"y {grid.y[0]:g} to {grid.y[-1]:g}, x {grid.x[0]:g} to {grid.x[-1]:g}"
    return f"{grid.shape[0]} x {grid.shape[1]} cells ({rows}, {system})"


def common_times(everyone: Mapping[str, xr.Dataset]) -> pd.Index:
    """Times that all fields have, each of them once."""
    indexes = {name: fields.indexes["time"] for name, fields in everyone.items()}
    for name, index in indexes.items():
        if not index.is_unique:
            raise InputError(
                f"got times that occur twice in {name}; expected each time once; "
                "keep the first of them with fields.drop_duplicates('time')"
            )
    common = next(iter(indexes.values()))
    for index in indexes.values():
        common = common[common.isin(index)]
    if len(common):
        return common
    extents = "; ".join(f"{name} {_time_extent(index)}" for name, index in indexes.items())
    raise InputError(
        f"got no time that all fields have ({extents}); expected the same times and calendar; select "
        "overlapping "
        "periods with fields.sel(time=slice(...)), or bring calendars together with "
        "fields.convert_calendar(...)"
    )


def at_times(field: xr.DataArray, times: pd.Index) -> xr.DataArray:
    """A field at some of its times."""
    # By position: a label of one calendar class does not look up the same time in another.
    shared = field.indexes["time"].isin(times)
    return field if shared.all() else field.isel(time=np.flatnonzero(shared))


def _time_extent(index: pd.Index) -> str:
    if not len(index):
        return "has none"
    calendar = getattr(index, "calendar", "standard")
    return f"{index[0]} to {index[-1]}, {len(index)} times, {calendar} calendar"


def shared_variables(
    truth: xr.Dataset, prediction: xr.Dataset, source: str, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """Names in the truth that are wanted, or all that the prediction has too."""
    if wanted is not None:
        return tuple(find_variable(truth, name, source="truth") for name in wanted)
    fields = [str(name) for name, field in truth.data_vars.items() if {"time", "y", "x"} <= set(field.dims)]
    shared = tuple(name for name in fields if _found(prediction, name, source))
    if shared:
        return shared
    raise InputError(
        f"got {source} with {', '.join(map(str, prediction.data_vars)) or 'no variable'}; expected one of "
        "those of the "
        f"truth: {', '.join(fields) or 'none has time, y and x'}; rename it with "
        f"fields.rename({{'old': 'new'}})"
    )


def _found(fields: xr.Dataset, name: str, source: str) -> bool:
    try:
        find_variable(fields, name, source=source)
    except InputError:
        return False
    return True


def prediction_of(fields: xr.Dataset, truth: xr.DataArray, times: pd.Index, source: str) -> xr.DataArray:
    """The prediction of a truth (member, time, y, x), in its units."""
    field = _in_units_of(truth, fields[find_variable(fields, str(truth.name), source=source)], source)
    field = field if "member" in field.dims else field.expand_dims("member")
    return field.pipe(at_times, times).transpose("member", "time", "y", "x")


def _coarse(fields: xr.Dataset, truth: xr.DataArray, times: pd.Index) -> xr.DataArray | None:
    if not _found(fields, str(truth.name), "coarse"):
        return None
    field = fields[find_variable(fields, str(truth.name), source="coarse")]
    return _in_units_of(truth, field, "coarse").pipe(at_times, times).transpose("time", "y", "x")


def _in_units_of(truth: xr.DataArray, field: xr.DataArray, source: str) -> xr.DataArray:
    units = truth.attrs.get("units")
    if units is None and field.attrs.get("units") is None:
        return field
    if units is None:
        raise InputError(
            f"got '{truth.name}' of truth without units, and of {source} in '{field.attrs['units']}'; "
            "expected units on "
            f"both; set them: truth['{truth.name}'].attrs['units'] = '{field.attrs['units']}'"
        )
    return convert_units(field, units, source=source)


def only_variable(standard: xr.Dataset, wanted: str | None, *, source: str = "fields") -> str:
    """The variable of a harmonised Dataset that is wanted, or the only one with time.

    Raises:
        InputError: when there is none, or it is not said which one.
    """
    if wanted is not None:
        return find_variable(standard, wanted, source=source)
    there = [str(name) for name, field in standard.data_vars.items() if {"time", "y", "x"} <= set(field.dims)]
    if len(there) == 1:
        return there[0]
    raise InputError(
        f"got {source} with {', '.join(there) or 'no variable that has times'}; expected one variable; say which with "
        f"variable='{there[0] if there else '...'}'"
    )


def step_seconds(field: xr.DataArray) -> float | None:
    """Most common seconds between times; None for a single time."""
    time = field["time"].values
    if len(time) < 2:
        return None
    steps = pd.to_timedelta(np.diff(time)).total_seconds()
    return float(np.median(steps))
