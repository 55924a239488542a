"""Training, validation and test times: blocks in the order of time with a gap between them.

Weather lasts for days, so a random day in the test set has its neighbours in the training set and its score flatters.
Blocks separated by a gap do not leak (law 4 of the plan).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Indices into the time axis, ascending, without overlap."""

    train: Indices
    validate: Indices
    test: Indices


def split_times(
    time: xr.DataArray,
    *,
    train: float | str = 0.7,
    validate: float | str = 0.1,
    test: float | str = 0.2,
    gap: int = 1,
) -> Blocks:
    """Blocks by fractions of the times, or by periods such as "1983/1996".

    With fractions the test block is the last one; `gap` time steps before each later block are left out of the earlier
    one.

    Raises:
        InputError: when a block that was asked for is empty, or fewer than two training times are left.
    """
    parts: Mapping[str, float | str] = {"train": train, "validate": validate, "test": test}
    if any(isinstance(part, str) for part in parts.values()):
        blocks = {name: _period(time, part) for name, part in parts.items()}
    else:
        blocks = _fractions(len(time), {name: float(part) for name, part in parts.items()}, gap)
    for name, part in parts.items():
        if part and not len(blocks[name]):
            raise InputError(
                f"got no times for the {name} block ({part}) among {len(time)} times {_span(time)}; expected at "
                f"least one; change data.split.{name}"
            )
    check_training_times(blocks["train"], time)
    return Blocks(**blocks)


def check_training_times(train: Indices, time: xr.DataArray) -> None:
    """Two training times are the least from which anything can be learnt.

    Raises:
        InputError: when there are fewer.
    """
    if len(train) < 2:
        raise InputError(
            f"got {len(train)} training time(s) out of {len(time)} {_span(time)}; expected at least two; give a longer "
            "file, or a larger data.split.train"
        )


def holdout(count: int, fraction: float, *, gap: int = 1) -> tuple[Indices, Indices]:
    """The last `fraction` of `count` times for validation, and those before it less the gap."""
    size = round(count * fraction)
    if size < 1 or count - size - gap < 2:
        return np.arange(count), np.arange(0)
    return np.arange(count - size - gap), np.arange(count - size, count)


def folds(count: int, number: int) -> list[Indices]:
    """`number` contiguous blocks (fewer when there are fewer times) that cover all times."""
    return [np.asarray(block) for block in np.array_split(np.arange(count), min(number, count))]


def _fractions(count: int, parts: Mapping[str, float], gap: int) -> dict[str, Indices]:
    total = sum(parts.values())
    if total > 1 + 1e-9:
        raise InputError(f"got fractions that add up to {total:g}; expected at most 1; change data.split")
    starts: dict[str, int] = {}
    edge = count
    for name in ("test", "validate"):
        edge -= round(parts[name] * count)
        starts[name] = edge
    ends = {"train": starts["validate"], "validate": starts["test"], "test": count}
    first = max(0, ends["train"] - round(parts["train"] * count)) if total < 1 - 1e-9 else 0
    starts["train"] = first
    later = {"train": parts["validate"] + parts["test"] > 0, "validate": parts["test"] > 0, "test": False}
    return {name: np.arange(starts[name], max(starts[name], ends[name] - gap * later[name])) for name in parts}


def _period(time: xr.DataArray, part: Any) -> Indices:
    if not part:
        return np.arange(0)
    if not isinstance(part, str):
        raise InputError(f"got the fraction {part} next to periods; expected all of one kind; change data.split")
    first, _, last = part.partition("/")
    numbers = xr.DataArray(np.arange(len(time)), coords={"time": time.values}, dims="time")
    return np.asarray(numbers.sel(time=slice(first, last or first)).values)


def _span(time: xr.DataArray) -> str:
    if not len(time):
        return "(none)"
    return f"({str(time.values[0])[:16]} to {str(time.values[-1])[:16]})"
