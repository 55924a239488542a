"""Linear maps between two grids, one sparse matrix each, applied to fields with gaps (`applying`).

The value of a target cell t is y(t) = sum_s W(t, s) f(s), the rows of W summing to one. The block mean (target
cells are whole blocks of source cells) is done by reshaping, which is the same sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.conventions import InputError
from finegrid.grids import applying, storage
from finegrid.grids.conservative import block_areas, extent, shared_areas
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid, nesting
from finegrid.grids.interpolation import (
    KEYS,
    cubic_kernel,
    interpolation_matrix,
    linear_kernel,
    nearest_matrix,
)
from finegrid.grids.overlap import Progress

Fields = TypeVar("Fields", xr.Dataset, xr.DataArray)


@dataclass(frozen=True, eq=False)
class Operator:
    """A linear map from fields on `source` to fields on `target`.

    Attributes:
        source: grid of the fields that come in.
        target: grid of the fields that go out.
        matrix: weights (target.size, source.size) in float64; rows sum to one, or to zero where nothing is covered.
        factor: rows and columns of source cells in each target cell, when the target is a block mean of the source.
        shared: areas in m2 that the cells share (target.size, source.size), whatever the masks, when area integrals
            are kept; else None.
    """

    source: Grid
    target: Grid
    matrix: sparse.csr_array = field(repr=False)
    factor: tuple[int, int] | None = None
    shared: sparse.csr_array | None = field(default=None, repr=False)

    @classmethod
    def conservative(
        cls, source: Grid, target: Grid, *, progress: Progress = lambda done, total: None, cache: bool = True
    ) -> Operator:
        """Area-weighted mean over what each target cell covers, between any two grids.

        Args:
            source: grid of the fields that come in; masked cells carry no weight, others by their fraction.
            target: grid of the fields that go out.
            progress: called with the target cells done and those in all, where the building takes long.
            cache: keep weights that take long to build on disk (`storage`).

        Raises:
            InputError: when the grids do not overlap, or have cells that are no polygons.
        """
        factor = nesting(source, target)
        if factor is None and nesting(target, source) is not None:
            return cls.conservative(target, source).T
        if factor is not None:
            shared = block_areas(source, factor)
        else:
            shared = storage.cached(source, target, partial(shared_areas, progress=progress), use=cache)
        return cls.from_areas(source, target, shared, factor)

    @classmethod
    def from_areas(
        cls, source: Grid, target: Grid, shared: sparse.csr_array, factor: tuple[int, int] | None = None
    ) -> Operator:
        """The conservative operator of cells that share these areas."""
        counted = shared if source.fraction is None else sparse.csr_array(shared * source.fraction.ravel()[None, :])
        return cls(source, target, _weights(counted, source, target), factor, shared)

    @classmethod
    def bilinear(cls, source: Grid, target: Grid) -> Operator:
        """Linear interpolation between cell centres along each axis."""
        matrix = interpolation_matrix(source, target, linear_kernel, reach=1)
        return cls(source, target, _weights(matrix, source, target))

    @classmethod
    def bicubic(cls, source: Grid, target: Grid, *, a: float = KEYS) -> Operator:
        """Cubic convolution between cell centres along each axis; `a` is the kernel's slope at 1."""
        matrix = interpolation_matrix(source, target, partial(cubic_kernel, a=a), reach=2)
        return cls(source, target, _weights(matrix, source, target))

    @classmethod
    def nearest(cls, source: Grid, target: Grid) -> Operator:
        """Value of the source cell that contains the target cell's centre."""
        return cls(source, target, _weights(nearest_matrix(source, target), source, target))

    @classmethod
    def read(cls, path: str | Path, source: Grid | xr.Dataset, target: Grid | xr.Dataset) -> Operator:
        """The operator of a weight file of ESMF, xesmf or finegrid.

        Args:
            path: NetCDF file with `S`, `row` and `col`.
            source: grid of the fields that come in, or fields on it as the file's maker had them: then cells are
                counted in the order of these fields, not in that of the standard form.
            target: likewise.

        Raises:
            InputError: when the file holds no weights, or those of other grids.
        """
        matrix, ends = storage.read(path, source, target)
        return cls(*ends, _weights(matrix, *ends))

    def write(self, path: str | Path) -> Path:
        """Write the weights as ESMF and xesmf read them."""
        return storage.write(path, self.source, self.target, self.matrix)

    @property
    def areas(self) -> tuple[sparse.csr_array, tuple[int, int] | None]:
        """Shared areas and factor: what `from_areas` needs to build the operator for other masks.

        Raises:
            InputError: when the operator is none that keeps area integrals.
        """
        if self.shared is None:
            raise InputError("got an operator that interpolates; expected one of Operator.conservative(source, target)")
        return self.shared, self.factor

    @property
    def conserving(self) -> bool:
        """Whether area integrals are kept."""
        return self.shared is not None

    @cached_property
    def coverage(self) -> Array:
        """Part of each target cell that source cells cover, whatever the masks (ny, nx), 0..1."""
        if self.shared is None:
            return np.asarray(self.weights.covered[:, 0] > 0, dtype=np.float64).reshape(self.target.shape)
        covered = np.asarray(self.shared.sum(axis=1)) / self.target.area.ravel()
        return np.minimum(covered, 1.0).reshape(self.target.shape)

    @cached_property
    def T(self) -> Operator:
        """The way back: every source cell gets the mean of the target cells that drew on it, by shared area.

        For a block mean it gives each fine cell the value of its coarse cell.
        """
        if self.shared is not None:
            return Operator.from_areas(self.target, self.source, sparse.csr_array(self.shared.T))
        drawn = sparse.csr_array(self.matrix * self.target.area.ravel()[:, None])
        return Operator(self.target, self.source, _weights(sparse.csr_array(drawn.T), self.target, self.source))

    def __call__(self, fields: Fields, *, min_valid: float = 0.0) -> Fields:
        """Fields on the target grid; lazy when they come lazy, float32 when they come as float32.

        Args:
            fields: harmonised fields on the source grid; variables without y and x pass through.
            min_valid: part of the weights (0..1) that must fall on valid cells; below it a cell is missing.
        """
        check_grid(fields, self.source)
        if isinstance(fields, xr.DataArray):
            coords = {
                name: coord
                for name, coord in self.target.coords().items()
                if not {"bounds", "vertices"} & set(coord.dims)
            }
            return self._apply(fields, min_valid).assign_coords(coords)
        mapped = {name: self._apply(field, min_valid) for name, field in _spatial(fields).items()}
        kept = {name: field for name, field in fields.data_vars.items() if not {"y", "x"} & set(field.dims)}
        ordered = {name: {**mapped, **kept}[name] for name in fields.data_vars if name in mapped or name in kept}
        return xr.Dataset(ordered, attrs=fields.attrs).assign_coords(self.target.coords())

    def _apply(self, field: xr.DataArray, min_valid: float) -> xr.DataArray:
        lengths = dict(zip(("y", "x"), self.target.shape, strict=True))
        dtype = np.float32 if field.dtype in (np.float16, np.float32) else np.float64
        method = self._block_mean if self.factor and self.conserving else self._multiply
        placed = [name for name, each in field.coords.items() if {"y", "x"} & set(each.dims) and name not in ("y", "x")]
        result: xr.DataArray = xr.apply_ufunc(
            partial(_in_dtype, method, min_valid, dtype),
            field.drop_vars([*placed, *(name for name in ("crs",) if name in field.coords)]),
            input_core_dims=[["y", "x"]],
            output_core_dims=[["y", "x"]],
            exclude_dims={"y", "x"},
            dask="parallelized",
            output_dtypes=[dtype],
            dask_gufunc_kwargs={"output_sizes": lengths, "allow_rechunk": True},
            keep_attrs=True,
        )
        return result.transpose(*field.dims)

    @cached_property
    def weights(self) -> applying.Weights:
        """The matrix, ready to be applied to fields with gaps."""
        return applying.Weights(self.matrix)

    def _multiply(self, values: NDArray[Any], min_valid: float) -> Array:
        means = self.weights.times(values.reshape(-1, self.source.size), min_valid)
        return means.reshape(*values.shape[:-2], *self.target.shape)

    def _block_mean(self, values: NDArray[Any], min_valid: float) -> Array:
        result = applying.block_mean(values, self.source.weights, self.factor or (1, 1), min_valid)
        return result if self.target.mask is None else np.where(self.target.mask, result, np.nan)


def _in_dtype(
    method: Callable[[NDArray[Any], float], Array], min_valid: float, dtype: type, values: NDArray[Any]
) -> NDArray[Any]:
    return method(values, min_valid).astype(dtype)


def _weights(matrix: sparse.csr_array, source: Grid, target: Grid) -> sparse.csr_array:
    """Rows scaled to sum to one, without the cells that the two masks exclude."""
    if source.mask is not None:
        touched = abs(matrix) @ (~source.mask.ravel()).astype(np.float64) > 0
        usable = matrix.maximum(0) * source.mask.ravel()[None, :]
        matrix = sparse.csr_array(matrix * ~touched[:, None] + usable * touched[:, None])
    if target.mask is not None:
        matrix = sparse.csr_array(matrix * target.mask.ravel()[:, None])
    total = np.asarray(matrix.sum(axis=1))
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total != 0)
    scaled = sparse.csr_array(matrix * scale[:, None])
    scaled.eliminate_zeros()
    return scaled


def _spatial(fields: xr.Dataset) -> dict[Any, xr.DataArray]:
    return {name: field for name, field in fields.data_vars.items() if {"y", "x"} <= set(field.dims)}


def check_grid(fields: xr.Dataset | xr.DataArray, grid: Grid) -> None:
    """The fields lie on the cells of the grid.

    Raises:
        InputError: when they do not.
    """
    got = tuple(fields.sizes.get(axis) for axis in ("y", "x"))
    places = {"lat": grid.centres[0], "lon": grid.centres[1]} if grid.is_curvilinear else {"y": grid.y, "x": grid.x}
    same = got == grid.shape and all(
        np.abs(fields[name].values - expected).max() <= 0.01 * np.ptp(expected) / max(max(expected.shape) - 1, 1)
        for name, expected in places.items()
        if name in fields.coords
    )
    if not same:
        raise InputError(
            f"got fields of {got[0]} x {got[1]} cells (y, x); expected the operator's source grid, "
            f"{grid.shape[0]} x {grid.shape[1]} cells over {extent(grid)}; "
            "build the operator with Grid.of(fields) as its source"
        )
