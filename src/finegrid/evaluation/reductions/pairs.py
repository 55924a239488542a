"""Prediction, truth and labels on common ground, without reading a value of the fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from finegrid.conventions import InputError, Names, harmonise
from finegrid.data.members import mean_of_members
from finegrid.evaluation.alignment import at_times, check_grid, common_times, prediction_of, shared_variables
from finegrid.evaluation.reductions.groups import Codes, Groups

_LABELS = "labels of groups {}"


@dataclass(frozen=True, eq=False)
class Pair:
    """One variable in standard form, lazy where it comes lazy.

    Attributes:
        prediction: (member, time, y, x), in the truth's units and on its times.
        truth: (time, y, x).
        codes: groups of the cases, each over (time, y, x) with one value along dimensions without labels.
    """

    prediction: xr.DataArray
    truth: xr.DataArray
    codes: tuple[Codes, ...]

    @property
    def lazy(self) -> bool:
        """Whether one of the fields is."""
        return self.prediction.chunks is not None or self.truth.chunks is not None


@dataclass(frozen=True, eq=False)
class Pairs:
    """All variables that prediction and truth share.

    Attributes:
        each: by name.
        names: the way back to the words of the truth.
    """

    each: dict[str, Pair]
    names: Names


def axes_of(names: Names) -> dict[str, str]:
    """The user's dimensions of time, y and x."""
    users = {"time": names.time, "y": names.y, "x": names.x}
    known = names.coordinates
    return {axis: known[axis].dimension if axis in known else name for axis, name in users.items()}


def pairs_of(prediction: xr.Dataset, truth: xr.Dataset, groups: Sequence[Groups], axes: dict[str, str]) -> Pairs:
    """Pairs of the variables that both have.

    Raises:
        InputError: when grids differ, no time is common, or units do not convert.
    """
    labelled, names = harmonise(_with_labels(truth, groups, axes), source="truth", double=True)
    placed = [_LABELS.format(number) for number in range(len(groups))]
    true = mean_of_members(labelled.drop_vars(placed, errors="ignore"))
    given, others = harmonise(prediction, source="prediction", double=True)
    check_grid(given, true, "prediction")
    times = common_times({"truth": true, "prediction": given})
    codes = tuple(_codes(group, labelled, name, true, times) for group, name in zip(groups, placed, strict=True))
    found = {
        name: Pair(
            prediction_of(given, true[name], times, "prediction"),
            at_times(true[name], times).transpose("time", "y", "x"),
            codes,
        )
        for name in shared_variables(true, given, "prediction", None)
    }
    member = {key: each for key, each in others.coordinates.items() if key == "member"}
    return Pairs(found, replace(names, member=others.member, coordinates={**names.coordinates, **member}))


def _with_labels(truth: xr.Dataset, groups: Sequence[Groups], axes: dict[str, str]) -> xr.Dataset:
    """The truth with labels of places as variables of it, so that they are turned round as its fields are."""
    for number, group in enumerate(groups):
        if set(group.codes.dims) != {axes["time"]}:
            whole = {axes[axis]: truth.sizes[axes[axis]] for axis in ("y", "x") if axes[axis] not in group.codes.dims}
            # Numbers below 2^24 are exact in single precision.
            truth = truth.assign({_LABELS.format(number): group.codes.expand_dims(whole).astype(np.float32)})
    return truth


def _codes(group: Groups, labelled: xr.Dataset, name: str, truth: xr.Dataset, times: pd.Index) -> Codes:
    shared = truth.indexes["time"].isin(times)
    if name not in labelled:
        return np.asarray(group.codes.values[shared][:, None, None])
    codes = labelled[name].values.astype(np.int64)
    return codes[None] if codes.ndim == 2 else codes[shared]


def as_dataset(fields: xr.Dataset | xr.DataArray, name: str, source: str) -> xr.Dataset:
    """Fields as a Dataset, in which a DataArray gets the name.

    Raises:
        InputError: for anything else.
    """
    if isinstance(fields, xr.DataArray):
        return fields.to_dataset(name=name)
    if isinstance(fields, xr.Dataset):
        return fields
    raise InputError(f"got a {type(fields).__name__} as {source}; expected an xarray DataArray or Dataset")
