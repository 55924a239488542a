"""The arrays of ClimSim: columns of several steps below each other, normalised.

    <part>_input.npy, <part>_target.npy      (step * columns, 124 and 128) for v1, (557 and 368) for v2;
                                             part is train, val or scoring

    input  = (x - mean) / (max - min)        with input_mean.nc, input_max.nc, input_min.nc, each (lev,) or one number
    target = y * scale                       with output_scale.nc

With these files the values are brought back to their units; without them they stay as they are, with units of 1. The
columns of a step follow each other as in the grid, so that the number of columns has to be known: that of the grid, or
384. Steps are numbered from 0, for the arrays do not say when they are. They are mapped, not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.layouts.climsim_words import INPUTS, OUTPUTS, Column, apart, width
from finegrid.data.layouts.stepwise import joined, mapped, mapped_array, read_step

PARTS = {"train": "train", "validate": "val", "test": "scoring"}
COLUMNS, LEVELS = 384, 60
_BLOCK_BYTES = 32_000_000
_SCALES = ("input_mean.nc", "input_max.nc", "input_min.nc", "output_scale.nc")

Read = tuple[xr.Dataset, xr.Dataset, dict[str, NDArray[np.intp]]]


def has_arrays(folder: Path) -> bool:
    """Whether there is a part with inputs and targets."""
    return any((folder / f"{part}_{side}.npy").exists() for part in PARTS.values() for side in ("input", "target"))


def arrays(folder: Path, grid: xr.Dataset | None, scaling: str | Path | None) -> Read:
    """Inputs, targets and splits of the arrays in a folder.

    Raises:
        InputError: when one of two arrays is missing, or has other columns than v1 and v2.
    """
    points = COLUMNS if grid is None else grid.sizes["point"]
    levels = LEVELS if grid is None else grid.sizes["lev"]
    pairs = {name: _pair(folder, part) for name, part in PARTS.items() if _there(folder, part)}
    variables = _variables([each.shape[1] for each in next(iter(pairs.values()))], levels, folder)
    scales = _scales(folder, scaling)
    sides, counts = [], [len(given) // points for given, _ in pairs.values()]
    for side, columns in enumerate((INPUTS[variables], OUTPUTS[variables])):
        parts = [_steps(pair[side], points, folder / f"{PARTS[name]}_*.npy") for name, pair in pairs.items()]
        shift, scale = _terms(columns, levels, scales, side)
        values = joined(parts) * scale + shift  # float64, as the scale is
        sides.append(_apart(values, columns, levels, known=scales is not None))
        sides[-1].encoding["source"] = f"{folder} ({'inputs' if not side else 'targets'})"
    edges = np.cumsum([0, *counts])
    splits = {name: np.arange(edges[index], edges[index + 1]) for index, name in enumerate(pairs)}
    return sides[0], sides[1], splits


def _there(folder: Path, part: str) -> bool:
    return any((folder / f"{part}_{side}.npy").exists() for side in ("input", "target"))


def _pair(folder: Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    found = []
    for side in ("input", "target"):
        path = folder / f"{part}_{side}.npy"
        if not path.exists():
            raise InputError(
                f"{path} cannot be read (no such file); expected {part}_input.npy and {part}_target.npy; download them"
            )
        found.append(mapped_array(path))
    if any(each.ndim != 2 for each in found) or len(found[0]) != len(found[1]):
        shapes = " and ".join(str(each.shape) for each in found)
        raise InputError(
            f"the arrays {part} in {folder} are {shapes}; expected as many rows in both; download them again"
        )
    return found[0], found[1]


def _variables(widths: list[int], levels: int, folder: Path) -> str:
    known = {name: [width(INPUTS[name], levels), width(OUTPUTS[name], levels)] for name in INPUTS}
    for name, each in known.items():
        if each == widths:
            return name
    raise InputError(
        f"the arrays in {folder} have {widths[0]} and {widths[1]} columns; expected one of "
        f"{', '.join(f'{name}: {each[0]} and {each[1]}' for name, each in known.items())}; choose these variables"
    )


def _steps(rows: NDArray[Any], points: int, path: Path) -> Any:
    """Rows as (step, column of air, column), mapped."""
    if len(rows) % points:
        raise InputError(
            f"{path} has {len(rows)} rows; expected a multiple of the {points} columns of the grid; give the grid with "
            "grid=..."
        )
    shaped = rows.reshape(-1, points, rows.shape[1])
    size = max(1, _BLOCK_BYTES // max(1, points * rows.shape[1] * rows.dtype.itemsize))
    return mapped(shaped, (size, -1, -1))


def _scales(folder: Path, scaling: str | Path | None) -> list[xr.Dataset] | None:
    """Mean, maximum, minimum and scale; None where there are none."""
    where = folder if scaling is None else Path(scaling).expanduser()
    missing = [name for name in _SCALES if not (where / name).exists()]
    if len(missing) == len(_SCALES) and scaling is None:
        return None
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; expected {', '.join(_SCALES)}; put them there")
    return [read_step(where / name) for name in _SCALES]


def _terms(
    columns: Mapping[str, Column], levels: int, scales: list[xr.Dataset] | None, side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is added to, and multiplied with, every column to undo the normalisation."""
    if scales is None:
        return np.zeros(1), np.ones(1)
    mean, largest, smallest, scale = scales

    def each(fields: xr.Dataset, name: str) -> NDArray[np.float64]:
        if name not in fields:
            raise InputError(
                f"the scaling lacks {name}; expected all variables of the arrays; give the files of ClimSim"
            )
        size = levels if columns[name].levels else 1
        return np.broadcast_to(np.asarray(fields[name].values, dtype=np.float64).reshape(-1), (size,))

    if side == 0:
        shift = [each(mean, name) for name in columns]
        factor = [each(largest, name) - each(smallest, name) for name in columns]
    else:
        shift = [np.zeros_like(each(scale, name)) for name in columns]
        factor = [1.0 / each(scale, name) for name in columns]
    return np.concatenate(shift), np.concatenate(factor)


def _apart(values: Any, columns: Mapping[str, Column], levels: int, *, known: bool) -> xr.Dataset:
    fields = apart(values, columns, levels)
    if not known:
        for field in fields.data_vars.values():
            field.attrs = {"units": "1", "comment": "normalised"}
    return fields.assign_coords(time=np.arange(values.shape[0]))
