"""ClimSim: what the clouds inside a climate model do to a column of air (E3SM-MMF), as columns and their tendencies.

Files of the model, two a step of 20 minutes, of any number of columns (384 at low resolution):

    .../E3SM-MMF.mli.YYYY-MM-DD-SSSSS.nc     the state before: state_t (lev, ncol), ..., state_ps (ncol,), ...
    .../E3SM-MMF.mlo.YYYY-MM-DD-SSSSS.nc     the state after, and what the surface gets: cam_out_NETSW (ncol,), ...

or the arrays that the benchmark made of them (`climsim_arrays`), in a folder with train_input.npy and train_target.npy.
Fields are (time, point, lev) or (time, point), with lev from the top down, on the calendar noleap. Tendencies are

    ptend_x = (x after - x before) / 1200 s

The file of the grid (ClimSim_low-res_grid-info.nc: lat, lon, area, hyam, hybm, hyai, hybi, P0) is looked for in the
folder and becomes the extra "grid"; pass it as `grid` when it is elsewhere. Without it columns have numbers only.

Trained on years 1 to 7 and the first month of 8, validated from then to the first month of 9, every seventh step; what
is later is called test here. Set `stride=7` for their steps. Facts are those of github.com/leap-stc/ClimSim of February
2025.

Source: Yu et al. 2023, ClimSim, arXiv:2306.08754.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cftime  # type: ignore[import-untyped,unused-ignore]
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.layouts.base import Layout, Opened
from finegrid.data.layouts.climsim_arrays import arrays, has_arrays
from finegrid.data.layouts.climsim_words import INPUTS, OUTPUTS, STEP_SECONDS, Column, apart, width
from finegrid.data.layouts.stepwise import read_step, stepwise, values_of

GRID = "ClimSim_low-res_grid-info.nc"
_STEP = re.compile(r"\.mli\.(\d{4})-(\d{2})-(\d{2})-(\d{5})\.nc$")
_FILES = "files E3SM-MMF.mli.YYYY-MM-DD-SSSSS.nc and .mlo. beside them, or train_input.npy and train_target.npy"
# First and last (year, month) of the parts.
_PARTS = {"train": ((1, 1), (8, 1)), "validate": ((8, 2), (9, 1)), "test": ((9, 2), (9999, 12))}


def matches(folder: Path) -> bool:
    """Whether there is a step of the model, or an array with its targets."""
    return has_arrays(folder) or next(folder.rglob("*.mli.*.nc"), None) is not None


def read(
    folder: Path,
    *,
    variables: str = "v1",
    stride: int = 1,
    grid: str | Path | None = None,
    scaling: str | Path | None = None,
) -> Opened:
    """Columns and their tendencies.

    Args:
        folder: with the files of the model, at any depth, or with arrays.
        variables: "v1" or "v2"; arrays say themselves which they are.
        stride: of the files, every so many-th step is taken.
        grid: file of the grid; by default that in the folder.
        scaling: for arrays, the folder with input_mean.nc, input_max.nc, input_min.nc and output_scale.nc, by which
            they are brought back to their units; by default the folder itself, where they are there.

    Raises:
        InputError: when a file is missing or has other variables.
    """
    if variables not in INPUTS or stride < 1:
        raise InputError(
            f"got variables={variables!r}, stride={stride}; expected v1 or v2, and at least 1; change them"
        )
    places = grid_of(folder, grid)
    found = arrays(folder, places, scaling) if has_arrays(folder) else _steps(folder, variables, stride)
    coarse, fine, splits = found
    extras = {} if places is None else {"grid": places}
    return Opened(
        LAYOUT.name,
        _placed(coarse, places),
        _placed(fine, places),
        splits=splits,
        extras=extras,
        citation=LAYOUT.citation,
        licence=LAYOUT.licence,
    )


def grid_of(folder: Path, grid: str | Path | None) -> xr.Dataset | None:
    """Places, areas and levels of the columns; None where no file says.

    Raises:
        InputError: when a file that was named is missing, or is no such file.
    """
    path = Path(grid).expanduser() if grid is not None else folder / GRID
    if not path.exists():
        if grid is not None:
            raise InputError(f"{path} does not exist; expected the grid of the columns ({GRID}); check grid=...")
        return None
    fields = read_step(path)
    needed = ("lat", "lon", "area", "hyam", "hybm", "hyai", "hybi", "P0")
    missing = [name for name in needed if name not in fields.variables]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; expected {', '.join(needed)}; give {GRID}")
    return fields[list(needed)].rename(ncol="point")


def _steps(folder: Path, variables: str, stride: int) -> tuple[xr.Dataset, xr.Dataset, dict[str, NDArray[np.intp]]]:
    dated = sorted((match.groups(), path) for path in folder.rglob("*.mli.*.nc") if (match := _STEP.search(path.name)))
    if not dated:
        raise InputError(f"{folder} holds no step of the model; expected {_FILES}; check the names of the files")
    dated = dated[::stride]
    stamps = np.array([[int(each) for each in groups] for groups, _ in dated])
    paths = [path for _, path in dated]
    lacking = [path for path in paths if not _after(path).exists()]
    if lacking:
        raise InputError(f"{_after(lacking[0])} does not exist; expected it beside {lacking[0].name}; download it")
    first = read_step(paths[0])
    points, levels = first.sizes.get("ncol", 0), first.sizes.get("lev", 0)
    sides = [(INPUTS[variables], partial(_inputs, columns=INPUTS[variables], levels=levels))]
    sides.append((OUTPUTS[variables], partial(_outputs, columns=OUTPUTS[variables], levels=levels)))
    for _, reader in sides:
        reader(paths[0])  # a file that lacks a variable is found out now
    fields = [
        apart(stepwise(paths, reader, (points, width(columns, levels)), np.float64), columns, levels)
        for columns, reader in sides
    ]
    times = [
        cftime.DatetimeNoLeap(year, month, day, second // 3600, second % 3600 // 60)
        for year, month, day, second in stamps
    ]
    coarse, fine = (each.assign_coords(time=times) for each in fields)
    for part, what in ((coarse, "inputs"), (fine, "outputs")):
        part.encoding["source"] = f"{folder} ({what})"
    return coarse, fine, _splits(stamps[:, 0], stamps[:, 1])


def _inputs(path: Path, *, columns: Mapping[str, Column], levels: int) -> NDArray[Any]:
    """The values of a file (ncol, column)."""
    fields = read_step(path)
    return np.concatenate([_value(fields, name, column, path) for name, column in columns.items()], axis=1)


def _outputs(path: Path, *, columns: Mapping[str, Column], levels: int) -> NDArray[Any]:
    """Tendencies and what the surface gets (ncol, column), from the state before and after."""
    before, later = read_step(path), _after(path)
    after = read_step(later)
    parts = []
    for name, column in columns.items():
        if column.state is None:
            parts.append(_value(after, name, column, later))
            continue
        states = [_value(fields, column.state, column, each) for fields, each in ((after, later), (before, path))]
        parts.append((states[0] - states[1]) / STEP_SECONDS)
    return np.concatenate(parts, axis=1)


def _value(fields: xr.Dataset, name: str, column: Column, path: Path) -> NDArray[Any]:
    dims = ("ncol", "lev") if column.levels else ("ncol",)
    values = values_of(fields, name, dims, path).astype(np.float64)
    return values if column.levels else values[:, None]


def _after(path: Path) -> Path:
    return path.with_name(path.name.replace(".mli.", ".mlo."))


def _splits(years: NDArray[np.intp], months: NDArray[np.intp]) -> dict[str, NDArray[np.intp]]:
    since = years * 12 + months
    edges = {name: [year * 12 + month for year, month in span] for name, span in _PARTS.items()}
    return {name: np.flatnonzero((since >= first) & (since <= last)) for name, (first, last) in edges.items()}


def _placed(fields: xr.Dataset, grid: xr.Dataset | None) -> xr.Dataset:
    """Fields with the places of their columns and the pressure of their levels (at 1000 hPa at the ground)."""
    if grid is None:
        return fields
    if grid.sizes["point"] != fields.sizes["point"] or grid.sizes["lev"] != fields.sizes["lev"]:
        raise InputError(
            f"got {fields.sizes['point']} columns of {fields.sizes['lev']} levels and a grid of {grid.sizes['point']} "
            f"of {grid.sizes['lev']}; expected the same; give the grid of these columns with grid=..."
        )
    source = fields.encoding.get("source")
    pressure = ("lev", (1000.0 * (grid.hyam + grid.hybm)).values, {"units": "hPa", "positive": "down"})
    placed = fields.assign_coords(lat=grid.lat.variable, lon=grid.lon.variable, lev=pressure)
    placed.encoding["source"] = source
    return placed


LAYOUT = Layout(
    name="climsim",
    title="ClimSim: tendencies of columns of air by the clouds of E3SM-MMF",
    files=_FILES,
    citation="Yu et al. 2023, ClimSim, arXiv:2306.08754",
    licence="CC BY 4.0 (data), Apache 2.0 (code)",
    finds=matches,
    reads=read,
)
