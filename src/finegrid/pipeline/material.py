"""What a job works on: coarse and fine fields, cropped, on common times, cut into blocks of time.

Fields stay lazy and in the user's own words until a block of them is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, harmonise, restore
from finegrid.conventions.errors import provenance
from finegrid.conventions.spans import bounds
from finegrid.data import Blocks, open_fields, split_times
from finegrid.data.calendars import in_calendar_of
from finegrid.data.series import with_series
from finegrid.grids import Grid
from finegrid.pipeline.recipe import Crop, Data, Interval

_CIRCLE = 360.0


@dataclass(frozen=True, eq=False)
class Material:
    """Fields of a job, in the user's names.

    Attributes:
        coarse: coarse fields on the times that both files have.
        fine: fine fields on the same times.
        static: fields without time.
        blocks: indices of training, validation and test times.
    """

    coarse: xr.Dataset
    fine: xr.Dataset
    static: tuple[xr.Dataset, ...]
    blocks: Blocks

    @property
    def learning(self) -> NDArray[np.intp]:
        """Indices of the times that may be learnt from: training and validation."""
        return np.sort(np.concatenate([self.blocks.train, self.blocks.validate]))

    def at(self, indices: NDArray[np.intp]) -> tuple[xr.Dataset, xr.Dataset]:
        """Coarse and fine fields of some times, in memory."""
        return at_times(self.coarse, indices).load(), at_times(self.fine, indices).load()

    def times(self, indices: NDArray[np.intp]) -> xr.DataArray:
        """Some of the times."""
        time: xr.DataArray = harmonise(self.fine)[0].time
        return time.isel(time=indices)


def gathered(data: Data) -> Material:
    """Open the files of a recipe and bring them together.

    Raises:
        InputError: when a file cannot be used, or there are too few common times.
    """
    coarse, fine = open_fields(data.coarse), open_fields(data.fine)
    static = tuple(open_fields(path) for path in data.static)
    return material(coarse, cropped(fine, data.crop), static, split_of(data))


def split_of(data: Data) -> dict[str, float | str | int]:
    """The arguments of `split_times` that a recipe states."""
    return {**data.split.parts, "gap": data.split.gap}


def material(
    coarse: xr.Dataset, fine: xr.Dataset, static: Sequence[xr.Dataset], split: dict[str, float | str | int]
) -> Material:
    """Fields on their common times, with the blocks that `split` (arguments of `split_times`) says."""
    fine = _in_calendar_of(fine, coarse)
    indexes = [harmonise(fields)[0].indexes["time"] for fields in (coarse, fine)]
    _check_common(indexes, coarse, fine)
    kept = [np.flatnonzero(index.isin(other)) for index, other in zip(indexes, reversed(indexes), strict=True)]
    low, high = (at_times(fields, index) for fields, index in zip((coarse, fine), kept, strict=True))
    blocks = _split(high, split, f"{_source(coarse)} and {_source(fine)}")
    return Material(low, high, tuple(static), blocks)


def _in_calendar_of(fine: xr.Dataset, coarse: xr.Dataset) -> xr.Dataset:
    standard, names = harmonise(fine)
    matched = in_calendar_of(standard, harmonise(coarse)[0])
    return fine if matched is standard else _kept(restore(matched, names), fine)


def _split(fields: xr.Dataset, split: dict[str, float | str | int], sources: str) -> Blocks:
    time = harmonise(fields)[0].time
    try:
        return split_times(time, **split)  # type: ignore[arg-type]
    except InputError as error:
        if split.get("gap") and not any(isinstance(part, str) for part in split.values()):
            return _split(fields, {**split, "gap": 0}, sources)  # so short that the gap would be all of a block
        raise InputError(f"the times that {sources} share cannot be split: {error}") from None


def at_times(fields: xr.Dataset, indices: NDArray[np.intp]) -> xr.Dataset:
    """The fields at some of their times, in their own words."""
    standard, names = harmonise(fields)
    whole = len(indices) > 1 and indices[-1] - indices[0] == len(indices) - 1 and bool((np.diff(indices) == 1).all())
    # A slice keeps lazy fields in the pieces in which they are stored.
    chosen = slice(int(indices[0]), int(indices[-1]) + 1) if whole else indices
    return _kept(restore(standard.isel(time=chosen), names), fields)


def in_period(fields: xr.Dataset, period: str | None, option: str = "--time") -> xr.Dataset:
    """The fields within a period such as "2019-03" or "1983/1996".

    Raises:
        InputError: when it is no period, or no time lies within it.
    """
    if period is None:
        return fields
    standard, names = harmonise(fields)
    return _kept(restore(standard.isel(time=times_of_period(fields, period, option)), names), fields)


def times_of_period(fields: xr.Dataset, period: str | None, option: str = "--time") -> slice:
    """Which of the times lie within a period; all where there is none.

    Raises:
        InputError: when it is no period, or no time lies within it.
    """
    if period is None:
        return slice(None)
    try:
        wanted = bounds(period)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None
    time = harmonise(fields)[0].time
    numbers = xr.DataArray(np.arange(len(time)), coords={"time": time.values}, dims="time").sel(time=wanted).values
    if not len(numbers):
        raise InputError(
            f"{_source(fields)} has no times in {period}: its {len(time)} times go from {str(time.values[0])[:16]} to "
            f"{str(time.values[-1])[:16]}; expected a period within; change {option}"
        )
    return slice(int(numbers[0]), int(numbers[-1]) + 1)


def cropped(fields: xr.Dataset, crop: Crop) -> xr.Dataset:
    """The part of the domain between the limits of a crop, which are in the coordinates of the file.

    Raises:
        InputError: when no cell lies within, or the part is not in one piece.
    """
    if crop.y is None and crop.x is None:
        return fields
    standard, names = harmonise(fields)
    turns = Grid.of(standard).in_degrees
    window = {
        "y": _within(standard.y.values, crop.y, turns=False),
        "x": _within(standard.x.values, crop.x, turns=turns),
    }
    for axis, found in window.items():
        if not len(found) or found[-1] - found[0] + 1 != len(found):
            values = standard[axis].values
            what = "no cells" if not len(found) else "cells in two pieces"
            raise InputError(
                f"the crop {axis}: {list(getattr(crop, axis))} of {_source(fields)} has {what}; its {axis} goes from "
                f"{values[0]:g} to {values[-1]:g}; expected a range within; change data.crop"
            )
    return _kept(restore(standard.isel(window), names), fields)


def _within(values: NDArray[np.float64], limits: Interval | None, *, turns: bool) -> NDArray[np.intp]:
    if limits is None:
        return np.arange(len(values))
    low, high = limits
    if turns:  # -10 and 350 degrees east are the same place
        return np.flatnonzero((values - low) % _CIRCLE <= high - low)
    return np.flatnonzero((values >= min(low, high)) & (values <= max(low, high)))


def _kept(fields: xr.Dataset, origin: xr.Dataset) -> xr.Dataset:
    fields = with_series(fields, origin)
    if "source" in origin.encoding:
        fields.encoding["source"] = origin.encoding["source"]
    return fields


def _check_common(indexes: Sequence[pd.Index], coarse: xr.Dataset, fine: xr.Dataset) -> None:
    count = int(indexes[0].isin(indexes[1]).sum())
    if count == 1:
        raise InputError(
            f"{_source(coarse)} and {_source(fine)} share one time; expected at least two training times and some to "
            "judge on; give longer files"
        )
    if count:
        return
    first, second = (f"{index[0]} to {index[-1]}" for index in indexes)
    raise InputError(
        f"{_source(coarse)} ({first}) and {_source(fine)} ({second}) have no times in common; expected the same time "
        "stamps; give files of the same period and calendar (--coarse, --fine); when days are stamped at different "
        "hours, use fields.assign_coords(time=fields.time.dt.floor('D')) on both"
    )


def _source(fields: xr.Dataset) -> str:
    return provenance(fields, otherwise="the input")
