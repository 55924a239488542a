"""Weights on disk: a cache of what takes long to build, and the files of ESMF and xesmf.

A weight file has the non-zero weights `S(n_s)` with one-based cells `row(n_s)` of the target and `col(n_s)` of the
source, cells counted with x running fastest (ESMF Reference Manual, section "Regrid weight file format"). Files of ESMF
also hold the centres of all cells, by which the order of rows is recognised; in files of xesmf cells are counted as in
the Datasets that they were made from.

The cache lies in the folder that FINEGRID_CACHE names, or in the user's cache folder; every file in it may be deleted
at any time. Its names are hashes of the two grids, masks left out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pooch
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.conventions import InputError, harmonise
from finegrid.conventions.axes import is_time
from finegrid.conventions.netcdf import LOCK, check_heaps
from finegrid.grids import geometry
from finegrid.grids.grid import Grid

FOLDER_VARIABLE = "FINEGRID_CACHE"
# Changes when the same grids would get other areas.
_VERSION = b"areas 1"
_WORTH_KEEPING_SECONDS = 0.5

Build = Callable[[Grid, Grid], sparse.csr_array]
Order = NDArray[np.intp]


def cached(source: Grid, target: Grid, build: Build, *, use: bool = True) -> sparse.csr_array:
    """Areas that the cells of two grids share, from the cache where they are in it."""
    if not use:
        return build(source, target)
    path = _folder() / f"{_key(source, target)}.npz"
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):  # absent or damaged: build anew
        with path.open("rb") as file:
            found = sparse.csr_array(sparse.load_npz(file))
        if found.shape == (target.size, source.size):
            return found
    start = time.perf_counter()
    built = build(source, target)
    if time.perf_counter() - start > _WORTH_KEEPING_SECONDS:
        with suppress(OSError):  # a full disk or a read-only home is no reason to fail
            _keep(built, path)
    return built


def _folder() -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(pooch.os_cache("finegrid")) / "operators"


def _key(source: Grid, target: Grid) -> str:
    ends = (replace(grid, mask=None, fraction=None).digest for grid in (source, target))
    return hashlib.sha256(_VERSION + "".join(ends).encode()).hexdigest()


def _keep(matrix: sparse.csr_array, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.npz")
    try:
        sparse.save_npz(part, matrix, compressed=False)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write(path: str | Path, source: Grid, target: Grid, matrix: sparse.csr_array) -> Path:
    """Write a weight file with the centres and areas of all cells."""
    entries = sparse.coo_array(matrix)
    with LOCK, netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.title = "finegrid weights"
        file.createDimension("n_s", entries.nnz)
        for name, values in (("S", entries.data), ("row", entries.row + 1), ("col", entries.col + 1)):
            file.createVariable(name, "f8" if name == "S" else "i4", ("n_s",))[:] = values
        for end, grid in (("a", source), ("b", target)):
            file.createDimension(f"n_{end}", grid.size)
            latitude, longitude = grid.centres
            planes = {"xc": longitude, "yc": latitude, "area": grid.area / geometry.EARTH_RADIUS**2}
            for name, plane in planes.items():
                variable = file.createVariable(f"{name}_{end}", "f8", (f"n_{end}",))
                variable.units = "steradian" if name == "area" else "degrees"
                variable[:] = plane.ravel()
        file.createVariable("frac_b", "f8", ("n_b",))[:] = np.asarray(matrix.sum(axis=1))
    return Path(path)


def read(
    path: str | Path, source: Grid | xr.Dataset, target: Grid | xr.Dataset
) -> tuple[sparse.csr_array, tuple[Grid, Grid]]:
    """Weights of a file in the order of the standard form, and the two grids.

    Raises:
        InputError: when the file holds no weights, or those of other grids.
    """
    with _opened(path) as file:
        grids, orders = zip(*(_end(file, end, each, path) for end, each in (("a", source), ("b", target))), strict=True)
        row, column = file["row"].values.astype(np.intp) - 1, file["col"].values.astype(np.intp) - 1
        shape = grids[1].size, grids[0].size
        for index, size, what in ((row, shape[0], "target"), (column, shape[1], "source")):
            if len(index) and not (index.min() >= 0 and index.max() < size):
                raise InputError(
                    f"{path} has weights for cell {int(index.max()) + 1} of the {what} grid, which has {size} cells; "
                    "expected weights of these two grids; make them anew, or give the grids they were made for"
                )
        # Where the cell that the file counts as number n stands in the standard form.
        place = [np.argsort(order) for order in orders]
        weights = file["S"].values.astype(np.float64)
        matrix = sparse.csr_array((weights, (place[1][row], place[0][column])), shape=shape)
    return matrix, (grids[0], grids[1])


def _opened(path: str | Path) -> xr.Dataset:
    try:
        check_heaps(path)
        with LOCK, xr.open_dataset(path, engine="netcdf4", decode_cf=False, lock=LOCK) as opened:
            file = opened.load()
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{path} cannot be read as NetCDF ({error}); expected a weight file of ESMF or xesmf"
        ) from error
    missing = [name for name in ("S", "row", "col") if name not in file.variables]
    if missing:
        file.close()
        raise InputError(
            f"{path} has no {', '.join(missing)}; expected a weight file of ESMF or xesmf with S, row and col; "
            "make one with ESMF_RegridWeightGen, xesmf's to_netcdf, or Operator.write"
        )
    return file


def _end(file: xr.Dataset, end: str, given: Grid | xr.Dataset, path: str | Path) -> tuple[Grid, Order]:
    """A grid, and for each of its cells in the standard form the place of that cell in the file's order."""
    if isinstance(given, Grid):
        grid, order = given, np.arange(given.size)
    else:
        grid, order = _ordered(given)
    count = file.sizes.get(f"n_{end}", grid.size)
    if count != grid.size:
        raise InputError(
            f"{path} is for {count} cells of the {'source' if end == 'a' else 'target'} grid; got a grid of "
            f"{grid.size} cells; give the grid that the weights were made for"
        )
    if f"xc_{end}" in file and f"yc_{end}" in file:
        order = _recognised(grid, file[f"xc_{end}"].values, file[f"yc_{end}"].values, path)
    return grid, order


def _ordered(fields: xr.Dataset) -> tuple[Grid, Order]:
    """The grid of fields in the user's form, and where each of its cells stands in the order of these fields."""
    static = not any(is_time(coordinate) for coordinate in fields.coords.values())
    names = harmonise(fields, static=static)[1]
    dims = [names.coordinates[axis].dimension for axis in ("y", "x")]
    ny, nx = (fields.sizes[dim] for dim in dims)
    numbers = {"row": np.repeat(np.arange(ny), nx), "column": np.tile(np.arange(nx), ny)}
    placed = fields.drop_vars(list(fields.data_vars)).assign(
        {name: (dims, each.reshape(ny, nx)) for name, each in numbers.items()}
    )
    standard, _ = harmonise(placed.drop_vars([n for n, c in placed.coords.items() if is_time(c)]), static=True)
    order = standard["row"].values.astype(np.intp) * nx + standard["column"].values.astype(np.intp)
    return Grid.of(standard), order.ravel()


def _recognised(grid: Grid, longitude: NDArray[np.float64], latitude: NDArray[np.float64], path: str | Path) -> Order:
    """The order of cells in which the centres of a file are those of the grid: rows or columns turned round."""
    here = _vectors(*grid.centres[::-1]).reshape(*grid.shape, 3)
    there = _vectors(longitude, latitude).reshape(*grid.shape, 3)
    numbers = np.arange(grid.size).reshape(grid.shape)
    cell = np.sqrt(np.median(grid.area)) / geometry.EARTH_RADIUS
    for rows in (slice(None), slice(None, None, -1)):
        for columns in (slice(None), slice(None, None, -1)):
            if np.linalg.norm(there[rows, columns] - here, axis=-1).max() < 0.1 * cell:
                return numbers[rows, columns].ravel()
    shift = _rolled(here, there, 0.1 * cell)
    if shift is not None:
        return np.roll(numbers, -shift, axis=1).ravel()
    raise InputError(
        f"the cells of {path} lie elsewhere than those of the grid of {grid.shape[0]} x {grid.shape[1]} cells; "
        "expected weights of this grid; give the grid that they were made for"
    )


def _rolled(here: NDArray[np.float64], there: NDArray[np.float64], tolerance: float) -> int | None:
    """By how many columns a global grid starts elsewhere."""
    shift = int(np.linalg.norm(there[0] - here[0, 0], axis=-1).argmin())
    same = np.linalg.norm(np.roll(there, -shift, axis=1) - here, axis=-1).max() < tolerance
    return shift if same else None


def _vectors(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    return geometry.unit_vectors(np.stack([longitude, latitude], axis=-1))
