"""A file brought onto the grid of another, of any length: read, remapped and written block by block."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from finegrid import __version__
from finegrid.conventions import InputError, harmonise, restore
from finegrid.conventions.axes import is_time
from finegrid.conventions.components import nearest
from finegrid.conventions.names import Names, placed
from finegrid.conventions.variables import standard_name_of
from finegrid.data import open_fields
from finegrid.data.coarsen import described
from finegrid.data.write import write
from finegrid.grids import OPERATORS, Grid, Operator
from finegrid.grids.vectors import to_earth, to_grid
from finegrid.pipeline.material import in_period

Paths = str | Path | Sequence[str | Path]
Progress = Callable[[int, int], None]

# Winds along the axes of a grid, and those along the axes of the earth, as CF names them.
_ALONG_GRID = ("x_wind", "y_wind")


@dataclass(frozen=True)
class Regridded:
    """What was written.

    Attributes:
        path: the file.
        cells: number of target cells, and of those that the source covers.
        words: what happened, as sentences.
    """

    path: Path
    cells: tuple[int, int]
    words: tuple[str, ...]


def regrid(
    paths: Paths,
    like: Paths,
    out: str | Path,
    *,
    method: str = "conservative",
    variables: Sequence[str] | None = None,
    min_valid: float = 0.0,
    weights: str | Path | None = None,
    save_weights: str | Path | None = None,
    time: str | None = None,
    command: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Regridded:
    """Remap files onto the grid of other files.

    Args:
        paths: what is remapped.
        like: a file on the wanted grid; its values do not matter.
        out: NetCDF file (.nc) or Zarr folder (.zarr) to write.
        method: a name in OPERATORS.
        variables: what to keep; by default everything on the grid.
        min_valid: part of a target cell (0..1) that valid cells must cover; below it it is missing.
        weights: a weight file of ESMF, xesmf or finegrid to use instead of building weights.
        save_weights: where to write the weights.
        time: period to remap, such as "2019-03"; None is all.
        command: what to note in the history; by default the command line.
        progress: called with the target cells done and in all, while weights are built.

    Raises:
        InputError: when files cannot be used or the output cannot be written; nothing is left behind.
    """
    fields = in_period(open_fields(paths, variables=variables), time)
    goal_fields = open_fields(like)
    (standard, own), (goal, theirs) = _standard(fields), _standard(goal_fields)
    operator = _operator(standard, goal, fields, goal_fields, method, weights, progress)
    if save_weights is not None:
        operator.write(save_weights)
    turned = _turned(standard, own, operator)
    remapped = operator(turned[0], min_valid=min_valid)
    remapped = remapped.assign({name: described(field) for name, field in remapped.data_vars.items()})
    remapped, winds = _on_axes(remapped, turned[1], operator.target)
    result = restore(remapped, placed(own, theirs))
    result.attrs |= {"history": _history(fields, command), "finegrid_regrid": f"{method}, {__version__}"}
    write(result, out)
    covered = int((operator.coverage > 0).sum())
    return Regridded(Path(out), (operator.target.size, covered), (*_words(operator), *winds))


def _standard(fields: xr.Dataset) -> tuple[xr.Dataset, Names]:
    return harmonise(fields, static=not any(is_time(coordinate) for coordinate in fields.coords.values()))


def _operator(
    standard: xr.Dataset,
    goal: xr.Dataset,
    fields: xr.Dataset,
    goal_fields: xr.Dataset,
    method: str,
    weights: str | Path | None,
    progress: Progress,
) -> Operator:
    if method not in OPERATORS:
        valid = ", ".join(OPERATORS)
        raise InputError(f"There is no method '{method}'. The names are {valid}.{nearest(method, OPERATORS)}")
    if weights is not None:
        return Operator.read(weights, fields, goal_fields)
    source, target = Grid.of(standard), Grid.of(goal)
    if method == "conservative":
        return Operator.conservative(source, target, progress=progress)
    return OPERATORS[method](source, target)


def _turned(fields: xr.Dataset, names: Names, operator: Operator) -> tuple[xr.Dataset, tuple[str, str] | None]:
    """Winds along the axes of the source as eastward and northward ones, where the target has other axes."""
    pair = _winds(fields)
    if pair is None or operator.source.aligned(operator.target):
        return fields, None
    u, v = (fields[name] for name in pair)
    east, north = xr.apply_ufunc(
        lambda first, second: to_earth(first, second, operator.source),
        u,
        v,
        input_core_dims=[["y", "x"]] * 2,
        output_core_dims=[["y", "x"]] * 2,
        dask="parallelized",
        output_dtypes=[np.float32] * 2,
        keep_attrs=True,
    )
    return fields.assign({pair[0]: east.astype(np.float32), pair[1]: north.astype(np.float32)}), pair


def _on_axes(fields: xr.Dataset, pair: tuple[str, str] | None, target: Grid) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Winds along the axes of the target, or named as what they are where these are the earth's."""
    if pair is None:
        return fields, ()
    if target.is_latlon:
        names = ("eastward_wind", "northward_wind")
        changed = {own: fields[own].assign_attrs(standard_name=name) for own, name in zip(pair, names, strict=True)}
        return fields.assign(changed), (f"{' and '.join(pair)} were turned to the east and north.",)
    east, north = (fields[name] for name in pair)
    u, v = xr.apply_ufunc(
        lambda first, second: to_grid(first, second, target),
        east,
        north,
        input_core_dims=[["y", "x"]] * 2,
        output_core_dims=[["y", "x"]] * 2,
        dask="parallelized",
        output_dtypes=[np.float32] * 2,
        keep_attrs=True,
    )
    changed = {pair[0]: u.astype(np.float32), pair[1]: v.astype(np.float32)}
    return fields.assign(changed), (f"{' and '.join(pair)} were turned to the axes of the new grid.",)


def _winds(fields: xr.Dataset) -> tuple[str, str] | None:
    """Names of the components along the axes of the grid, where there are just two."""
    named = {standard_name_of(str(name), field.attrs): str(name) for name, field in fields.data_vars.items()}
    found = [named[each] for each in _ALONG_GRID if each in named]
    return (found[0], found[1]) if len(found) == 2 else None


def _words(operator: Operator) -> tuple[str, ...]:
    covered = operator.coverage
    part = f"{100 * float((covered > 0.999).mean()):.3g} % of the target cells are covered"
    partly = int(((covered > 0) & (covered <= 0.999)).sum())
    rest = f", {partly} in part" if partly else ""
    return (f"{part}{rest}, {int((covered == 0).sum())} not at all.",)


def _history(fields: xr.Dataset, command: str | None) -> str:
    line = command or shlex.join([Path(sys.argv[0]).name or "finegrid", *sys.argv[1:]])
    return f"{line} (finegrid {__version__})\n{fields.attrs.get('history', '')}".strip()
