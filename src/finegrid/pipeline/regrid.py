"""A file brought onto the grid of another, of any length: read, remapped and written block by block."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from finegrid.data.write import Writer, write
from finegrid.grids import OPERATORS, Grid, Operator
from finegrid.grids.conservative import extents
from finegrid.grids.geometry import Array
from finegrid.grids.vectors import to_earth, to_grid
from finegrid.pipeline.history import history_of
from finegrid.pipeline.material import in_period

Paths = str | Path | Sequence[str | Path]
Progress = Callable[[int, int], None]
Pairs = tuple[tuple[str, str], ...]

# Winds along the axes of a grid, and those along the axes of the earth, as CF names them.
_ALONG_GRID = ("x_wind", "y_wind")
_ALONG_EARTH = ("eastward_wind", "northward_wind")
# A cell that the source covers but for this part of it is covered: sides of cells are chords.
_ROUNDING = 1e-3


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
        min_valid: part of a target cell (0..1) that the source must cover, and of that the part that must have values;
            below it it is missing.
        weights: a weight file of ESMF, xesmf or finegrid to use instead of building weights.
        save_weights: where to write the weights.
        time: period to remap, such as "2019-03"; None is all.
        command: what to note in the history; by default the command line.
        progress: called with the target cells done and in all, while weights are built.

    Raises:
        InputError: when files cannot be used or the output cannot be written; nothing is left behind.
    """
    Writer(out)  # says at once where nothing can be written
    fields = in_period(open_fields(paths, variables=variables), time)
    goal_fields = open_fields(like)
    (standard, own), (goal, theirs) = _standard(fields), _standard(goal_fields)
    operator = _operator(standard, goal, fields, goal_fields, method, weights, progress)
    pairs = () if operator.source.aligned(operator.target) else _winds(standard)
    remapped = _remapped(_turned(standard, pairs, operator.source, to_earth), operator, min_valid)
    remapped, told = _on_axes(remapped, pairs, operator.target)
    result = restore(remapped, placed(own, theirs))
    how = method if weights is None else f"weights of {Path(weights).name}"
    with _kept(operator, save_weights):
        write(result, out, history=history_of(fields, command), finegrid_regrid=f"{how}, {__version__}")
    covered = int((operator.coverage > 0).sum())
    return Regridded(Path(out), (operator.target.size, covered), (*_words(operator), *told))


@contextmanager
def _kept(operator: Operator, path: str | Path | None) -> Iterator[None]:
    """Weights in a file that gets its name when all else is done."""
    if path is None:
        yield
        return
    target = Path(path).expanduser()
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        _to_disk(target, lambda: operator.write(part))
        yield
        _to_disk(target, lambda: part.replace(target))
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _to_disk(path: Path, act: Callable[[], object]) -> None:
    try:
        act()
    except (OSError, RuntimeError) as error:  # the NetCDF library calls a full disk RuntimeError("NetCDF: HDF error")
        raise InputError(
            f"could not write the weights to {path} ({error}); expected a folder that may be written to, with space "
            "left; choose another path with --save-weights"
        ) from error


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
    source, target = Grid.of(standard), Grid.of(goal)
    if weights is not None:
        operator = Operator.read(weights, fields, goal_fields)
    elif method == "conservative":
        operator = Operator.conservative(source, target, progress=progress)
    else:
        operator = OPERATORS[method](source, target)
    if not operator.coverage.any():
        here, there = extents(source, target)
        raise InputError(
            f"no cell of the target grid (over {there}) lies within the source grid (over {here}); expected grids that "
            "overlap; choose another file with --like"
        )
    return operator


def _remapped(fields: xr.Dataset, operator: Operator, min_valid: float) -> xr.Dataset:
    remapped = operator(fields, min_valid=min_valid)
    if operator.conserving:
        # Of a cell that sticks out of the source grid, what sticks out has no values either.
        enough = xr.DataArray(operator.coverage >= min_valid - _ROUNDING, dims=("y", "x"))
        means = {name: described(field) for name, field in remapped.data_vars.items()}
        remapped = remapped.assign({name: each if enough.all() else each.where(enough) for name, each in means.items()})
    times = {name: each for name, each in fields.coords.items() if "time" in each.dims and name not in remapped.coords}
    return remapped.assign_coords(times)


def _turned(
    fields: xr.Dataset, pairs: Pairs, grid: Grid, turn: Callable[[Array, Array, Grid], tuple[Array, Array]]
) -> xr.Dataset:
    """Pairs of winds between the axes of the grid they are on and those of the earth, each with its own attributes."""
    for pair in pairs:
        parts = xr.apply_ufunc(
            lambda first, second: turn(first, second, grid),
            *(fields[name] for name in pair),
            input_core_dims=[["y", "x"]] * 2,
            output_core_dims=[["y", "x"]] * 2,
            dask="parallelized",
            output_dtypes=[np.float32] * 2,
        )
        named = zip(pair, parts, strict=True)
        fields = fields.assign({name: part.astype(np.float32).assign_attrs(fields[name].attrs) for name, part in named})
    return fields


def _on_axes(fields: xr.Dataset, pairs: Pairs, target: Grid) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Winds along the axes of the target, or named as what they are where these are the earth's."""
    where = "to the east and north" if target.is_latlon else "to the axes of the new grid"
    told = tuple(f"{first} and {second} were turned {where}." for first, second in pairs)
    if not target.is_latlon:
        return _turned(fields, pairs, target, to_grid), told
    names = [each for pair in pairs for each in zip(pair, _ALONG_EARTH, strict=True)]
    return fields.assign({own: fields[own].assign_attrs(standard_name=name) for own, name in names}), told


def _winds(fields: xr.Dataset) -> Pairs:
    """Names of the components along the axes of the grid that belong together.

    Raises:
        InputError: when a component has no other one to be turned with.
    """
    along: dict[str, list[str]] = {each: [] for each in _ALONG_GRID}
    for name, field in fields.data_vars.items():
        along.get(standard_name_of(str(name), field.attrs), []).append(str(name))
    first, second = along.values()
    only = len(first) == len(second) == 1
    found = {one: [other for other in second if only or _together(one, other)] for one in first}
    alone = [one for one, others in found.items() if len(others) != 1]
    alone += [other for other in second if [other] not in found.values()]
    if alone:
        raise InputError(
            f"'{alone[0]}' is a wind along an axis of the source grid, which the target grid does not share; expected "
            "its other component beside it (uas and vas, u10 and v10), to turn both; keep both or leave both out with "
            "--variables"
        )
    return tuple((one, others[0]) for one, others in found.items())


def _together(one: str, other: str) -> bool:
    """Whether names differ in just one letter, as ua@850 and va@850 do."""
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def _words(operator: Operator) -> tuple[str, ...]:
    covered = operator.coverage
    whole = covered > 1 - _ROUNDING
    part = f"{100 * float(whole.mean()):.3g} % of the target cells are covered"
    partly = int(((covered > 0) & ~whole).sum())
    rest = f", {partly} in part" if partly else ""
    return (f"{part}{rest}, {int((covered == 0).sum())} not at all.",)
