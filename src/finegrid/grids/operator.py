"""Linear maps between two grids, one sparse matrix each, applied to fields with gaps.

The value of a target cell t is y(t) = sum_s W(t, s) f(s), the rows of W summing to one. Where sources are
missing the remaining weights are scaled up,

    y(t) = sum_valid P(t, s) f(s) / sum_valid P(t, s),        P = max(W, 0)

with the positive weights only, since what is left of a stencil with negative weights may sum to nearly
nothing. A target cell whose valid part is below `min_valid`, or nothing, is missing. The block mean (target
cells are whole blocks of source cells) is done by reshaping, which is the same sum. Sums are in float64
whatever the fields are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.conventions import InputError
from finegrid.grids.conservative import block_areas, shared_areas
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid, nesting
from finegrid.grids.interpolation import (
    KEYS,
    cubic_kernel,
    interpolation_matrix,
    linear_kernel,
    nearest_matrix,
)

Fields = TypeVar("Fields", xr.Dataset, xr.DataArray)


@dataclass(frozen=True, eq=False)
class Operator:
    """A linear map from fields on `source` to fields on `target`.

    Attributes: source: grid of the fields that come in. target: grid of the fields that go out. matrix:
    weights (target.size, source.size) in float64; rows sum to one, or to zero where nothing is covered.
    factor: rows and columns of source cells in each target cell, when the target is a block mean of the
    source. conserving: whether area integrals are kept.
    """

    source: Grid
    target: Grid
    matrix: sparse.csr_array
    factor: tuple[int, int] | None = None
    conserving: bool = False

    @classmethod
    def conservative(cls, source: Grid, target: Grid) -> Operator:
        """Area-weighted mean over what each target cell covers; both grids in one reference system."""
        factor = nesting(source, target)
        if factor is None and nesting(target, source) is not None:
            return cls.conservative(target, source).T
        areas = shared_areas(source, target) if factor is None else block_areas(source, factor)
        return cls(source, target, _weights(areas, source, target), factor, conserving=True)

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

    @cached_property
    def T(self) -> Operator:
        """The way back: every source cell gets the mean of the target cells that drew on it, by shared area.

        For a block mean it gives each fine cell the value of its coarse cell.
        """
        shared = sparse.csr_array(self.matrix * self.target.area.ravel()[:, None])
        back = _weights(sparse.csr_array(shared.T), self.target, self.source)
        return Operator(self.target, self.source, back, conserving=self.conserving)

    def __call__(self, fields: Fields, *, min_valid: float = 0.0) -> Fields:
        """Fields on the target grid; lazy when they come lazy, float32 when they come as float32.

        Args:
            fields: harmonised fields on the source grid; variables without y and x pass through.
            min_valid: part of the weights (0..1) that must fall on valid cells; below it a cell is missing.
        """
        _check_grid(fields, self.source)
        if isinstance(fields, xr.DataArray):
            coords = {name: coord for name, coord in self.target.coords().items() if "bounds" not in coord.dims}
            return self._apply(fields, min_valid).assign_coords(coords)
        mapped = {name: self._apply(field, min_valid) for name, field in _spatial(fields).items()}
        kept = {name: field for name, field in fields.data_vars.items() if not {"y", "x"} & set(field.dims)}
        ordered = {name: {**mapped, **kept}[name] for name in fields.data_vars if name in mapped or name in kept}
        return xr.Dataset(ordered, attrs=fields.attrs).assign_coords(self.target.coords())

    def _apply(self, field: xr.DataArray, min_valid: float) -> xr.DataArray:
        lengths = dict(zip(("y", "x"), self.target.shape, strict=True))
        dtype = np.float32 if field.dtype in (np.float16, np.float32) else np.float64
        method = self._block_mean if self.factor and self.conserving else self._multiply
        result: xr.DataArray = xr.apply_ufunc(
            partial(_in_dtype, method, min_valid, dtype),
            field.drop_vars([name for name in ("crs", "lat", "lon") if name in field.coords]),
            input_core_dims=[["y", "x"]],
            output_core_dims=[["y", "x"]],
            exclude_dims={"y", "x"},
            dask="parallelized",
            output_dtypes=[dtype],
            dask_gufunc_kwargs={"output_sizes": lengths, "allow_rechunk": True},
            keep_attrs=True,
        )
        return result.transpose(*field.dims)

    def _multiply(self, values: NDArray[Any], min_valid: float) -> Array:
        flat = values.reshape(-1, self.source.size).T
        missing = np.isnan(flat)
        result = self.matrix @ np.where(missing, 0.0, flat)
        covered = np.asarray(self._positive.sum(axis=1))[:, None]
        if missing.any():
            gaps = abs(self.matrix) @ missing.astype(np.float64) > 0
            valid = self._positive @ (~missing).astype(np.float64)
            partial_mean = _ratio(self._positive @ np.where(missing, 0.0, flat), valid, covered, min_valid)
            result = np.where(gaps, partial_mean, result)
        result = np.where(covered > 0, result, np.nan)
        return result.T.reshape(*values.shape[:-2], *self.target.shape)

    @cached_property
    def _positive(self) -> sparse.csr_array:
        return sparse.csr_array(self.matrix.maximum(0))

    def _block_mean(self, values: NDArray[Any], min_valid: float) -> Array:
        area = self.source.area if self.source.mask is None else self.source.area * self.source.mask
        missing = np.isnan(values)
        total = self._block_sum(area)
        valid = self._block_sum(area * ~missing) if missing.any() else total
        filled = np.where(missing, 0.0, values) if missing.any() else values
        result = _ratio(self._block_sum(area * filled), valid, total, min_valid)
        return result if self.target.mask is None else np.where(self.target.mask, result, np.nan)

    def _block_sum(self, values: Array) -> Array:
        assembled = (*values.shape[:-2], *_interleaved(self.target.shape, self.factor or (1, 1)))
        return np.asarray(values.reshape(assembled).sum(axis=(-3, -1)))


def _interleaved(shape: tuple[int, int], factor: tuple[int, int]) -> tuple[int, int, int, int]:
    return shape[0], factor[0], shape[1], factor[1]


def _ratio(total: Array, valid: Array, covered: Array, min_valid: float) -> Array:
    enough = (valid > 0) & (valid >= (min_valid - 1e-9) * covered)
    return np.where(enough, total / np.where(enough, valid, 1.0), np.nan)


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


def _check_grid(fields: xr.Dataset | xr.DataArray, grid: Grid) -> None:
    got = tuple(fields.sizes.get(axis) for axis in ("y", "x"))
    same = got == grid.shape and all(
        np.abs(fields[axis].values - expected).max() <= 0.01 * np.ptp(expected) / max(len(expected) - 1, 1)
        for axis, expected in (("y", grid.y), ("x", grid.x))
        if axis in fields.coords
    )
    if not same:
        raise InputError(
            f"got fields of {got[0]} x {got[1]} cells (y, x); expected the operator's source grid, "
            f"{grid.shape[0]} x {grid.shape[1]} cells "
            f"over y {grid.y[0]:g}..{grid.y[-1]:g}, x {grid.x[0]:g}..{grid.x[-1]:g}; "
            "build the operator with Grid.of(fields) as its source"
        )
