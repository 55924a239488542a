"""Which job it is: everything that its result depends on, as plain values, so that it never goes on as another one.

Input is known by its coordinates and by the mean of |values| of each variable, not by the names and dates of its files:
a file that was damaged may be replaced by a good copy before the job goes on. Blocks remember the sum of what they were
made of, which is looked at again where a file was touched meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid import __version__
from finegrid.data.open import expanded
from finegrid.downscalers import Downscaler

_BESIDE_MODEL = ("calibration.json", "events.json", "guard.json")


def identity_of(
    model: str | Path | Downscaler,
    downscaler: Downscaler,
    given: xr.Dataset,
    typical: Mapping[str, float],
    options: Mapping[str, Any],
    plan: Mapping[str, Any],
) -> dict[str, Any]:
    """What a job is, as JSON has it.

    Args:
        model: model folder, or a fitted downscaler.
        downscaler: the model.
        given: coarse fields of the times of the job, as the model sees them.
        typical: mean of |coarse| of each variable.
        options: that change the result.
        plan: how the times are cut.
    """
    return {
        "finegrid": __version__,
        "model": {"digest": downscaler.digest, **_beside(model)},
        "input": {
            "times": _times(given),
            "coordinates": _digest({str(name): each.values for name, each in given.coords.items()}),
            "mean": dict(typical),
        },
        "options": dict(options),
        "blocks": dict(plan),
    }


def stamps_of(*paths: str | Path | Sequence[str | Path] | None) -> list[list[Any]]:
    """Name, size and time of change of every file."""
    return [_stamp(path) for each in paths if each is not None for path in expanded(each)]


def _stamp(path: Path) -> list[Any]:
    about = [each.stat() for each in (path.rglob("*") if path.is_dir() else [path])]
    return [path.name, sum(each.st_size for each in about), max((each.st_mtime_ns for each in about), default=0)]


def _beside(model: str | Path | Downscaler) -> dict[str, str]:
    """What a model folder holds besides the model that may change the result."""
    if isinstance(model, Downscaler):
        return {}
    files = [Path(model) / name for name in _BESIDE_MODEL]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files if path.exists()}


def _times(given: xr.Dataset) -> str:
    values = given["time"].values
    return f"{len(values)} from {str(values[0])[:19]} to {str(values[-1])[:19]}"


def _digest(arrays: Mapping[str, Any]) -> str:
    found = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        found.update(name.encode())
        content = np.asarray(values)
        if content.dtype.kind in "OUSM":  # dates of other calendars, names
            content = np.asarray(list(map(str, content.ravel())), dtype="U")
        found.update(np.ascontiguousarray(content).tobytes())
    return found.hexdigest()[:16]
