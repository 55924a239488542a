"""Means and integrals over regions and over the globe, which may overlap.

With the area w(c) of grid cell c that counts (`Grid.weights`) and its part m(r, c) in region r, 0..1,

    mean        y(r) = sum_c m(r, c) w(c) f(c) / sum_c m(r, c) w(c)        over valid cells
    integral    I(r) = y(r) sum_c m(r, c) w(c)

so that an integral takes missing cells for the mean of the others. The areas m w are what a constraint needs to keep
the budget of every region (`shared`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Self, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.conventions import InputError, unit_conversion
from finegrid.grids import applying
from finegrid.grids.geometry import Array
from finegrid.grids.grid import Grid
from finegrid.grids.operator import check_grid

Fields = TypeVar("Fields", xr.Dataset, xr.DataArray)


@dataclass(frozen=True, eq=False)
class RegionOperator:
    """A linear map from fields on a grid to one value per region.

    Attributes:
        source: grid of the fields that come in.
        names: names of the regions.
        shared: areas in m2 of the cells in each region (regions, cells), without masked cells.
    """

    source: Grid
    names: tuple[str, ...]
    shared: sparse.csr_array = field(repr=False)

    @classmethod
    def globe(cls, grid: Grid) -> Self:
        """One region, "globe", of all valid cells.

        Raises:
            InputError: when the grid has no valid cell.
        """
        return cls._of(grid, ("globe",), sparse.csr_array(np.ones((1, grid.size))))

    @classmethod
    def of(cls, grid: Grid, masks: xr.DataArray) -> Self:
        """Regions that may overlap.

        Args:
            grid: grid of the fields that come in.
            masks: part of each cell in each region (region, y, x): True and False, or 0..1. The coordinate `region`
                has the names; without it regions are called by their numbers.

        Raises:
            InputError: when the masks are on another grid or beyond 0..1, or a region has no valid cell or no name of
                its own.
        """
        if set(masks.dims) != {"region", "y", "x"}:
            raise InputError(
                f"got masks over {', '.join(map(str, masks.dims)) or 'nothing'}; expected region, y, x. A single mask "
                'becomes one with mask.expand_dims(region=["name"])'
            )
        check_grid(masks, grid)
        names, parts = _names(masks), masks.transpose("region", "y", "x").values.reshape(-1, grid.size)
        return cls._of(grid, names, sparse.csr_array(parts).astype(np.float64))

    @classmethod
    def _of(cls, grid: Grid, names: tuple[str, ...], parts: sparse.csr_array) -> Self:
        _check_parts(names, parts)
        shared = sparse.csr_array(parts * grid.weights.ravel()[None, :])
        shared.eliminate_zeros()
        empty = [name for name, area in zip(names, shared.sum(axis=1), strict=True) if not area > 0]
        if empty:
            raise InputError(
                f"got no valid cell in the region {', '.join(empty)}; expected some in each. Leave it out with "
                f"masks.drop_sel(region={empty}), or check the mask of the grid"
            )
        return cls(grid, names, shared)

    @property
    def areas(self) -> Array:
        """Area of each region in m2."""
        return np.asarray(self.shared.sum(axis=1))

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """Weights (regions, cells); rows sum to one."""
        return sparse.csr_array(self.shared * (1 / self.areas)[:, None])

    @cached_property
    def weights(self) -> applying.Weights:
        """The matrix, ready to be applied to fields with gaps."""
        return applying.Weights(self.matrix)

    def __call__(self, fields: Fields, *, integral: bool = False, min_valid: float = 0.0) -> Fields:
        """One value per region, dims (..., region); lazy when fields come lazy, float32 when they come as float32.

        Args:
            fields: harmonised fields on the source grid; variables without y and x pass through.
            integral: multiply the mean by the region's area, and the units by m2.
            min_valid: part of a region's area (0..1) that must be valid; below it the value is missing.

        Raises:
            InputError: when fields are on another grid, or have units such as degC that cannot be integrated.
        """
        check_grid(fields, self.source)
        apply = partial(self._apply, integral=integral, min_valid=min_valid)
        if isinstance(fields, xr.DataArray):
            return apply(fields)
        mapped = {name: apply(each) if {"y", "x"} <= set(each.dims) else each for name, each in _usable(fields)}
        kept = {name: each for name, each in fields.coords.items() if not _placed(name, each)}
        return xr.Dataset(mapped, coords=kept, attrs=fields.attrs).drop_vars("crs", errors="ignore")

    def _apply(self, values: xr.DataArray, *, integral: bool, min_valid: float) -> xr.DataArray:
        attributes = _integrated(values) if integral else values.attrs
        dtype = np.float32 if values.dtype in (np.float16, np.float32) else np.float64
        factor = self.areas if integral else np.ones(len(self.names))
        result: xr.DataArray = xr.apply_ufunc(
            partial(_means, self.weights, factor, min_valid, dtype),
            values.drop_vars([name for name, each in values.coords.items() if _placed(name, each)]),
            input_core_dims=[["y", "x"]],
            output_core_dims=[["region"]],
            dask="parallelized",
            output_dtypes=[dtype],
            keep_attrs=False,
            dask_gufunc_kwargs={"output_sizes": {"region": len(self.names)}, "allow_rechunk": True},
        )
        before, method = str(attributes.get("cell_methods", "")), f"area: {'sum' if integral else 'mean'}"
        methods = before if before.endswith(method) else f"{before} {method}".strip()
        described = result.assign_attrs({**attributes, "cell_methods": methods})
        return described.rename(values.name).assign_coords(region=list(self.names))


def _means(
    weights: applying.Weights, factor: Array, min_valid: float, dtype: type, values: NDArray[Any]
) -> NDArray[Any]:
    flat = values.reshape(-1, weights.matrix.shape[1])
    return (factor * weights.times(flat, min_valid)).astype(dtype).reshape(*values.shape[:-2], -1)


def _usable(fields: xr.Dataset) -> list[tuple[Hashable, xr.DataArray]]:
    """Fields on the grid, and those without y and x."""
    return [(name, each) for name, each in fields.data_vars.items() if len({"y", "x"} & set(each.dims)) != 1]


def _placed(name: Hashable, coordinate: xr.DataArray) -> bool:
    """Whether a coordinate means nothing without the grid."""
    return bool({"y", "x"} & set(coordinate.dims)) or name == "crs"


def _integrated(values: xr.DataArray) -> dict[str, Any]:
    """Attributes of an integral over area."""
    units = values.attrs.get("units")
    if units is None:
        return values.attrs
    if _has_offset(str(units)):
        raise InputError(
            f"got '{values.name}' in '{units}' to be integrated; expected units that start from nothing. Use "
            f"convert_units(fields['{values.name}'], 'K'), or the mean: integral=False"
        )
    return {**values.attrs, "units": "m2" if units in ("", "1") else f"{units} m2"}


def _has_offset(units: str) -> bool:
    try:
        return unit_conversion(units, "K")[1] != 0
    except InputError:
        return False


def _names(masks: xr.DataArray) -> tuple[str, ...]:
    names = tuple(map(str, masks["region"].values))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"got more than one region called {', '.join(twice)}; expected names of their own. Set them with "
            "masks.assign_coords(region=[...])"
        )
    return names


def _check_parts(names: tuple[str, ...], parts: sparse.csr_array) -> None:
    right = (parts.data >= 0) & (parts.data <= 1)
    if not right.all():
        first = names[np.searchsorted(parts.indptr, right.argmin(), side="right") - 1]
        raise InputError(
            f"got values beyond 0..1, or missing ones, in the mask of the region {first}; expected the part of each "
            "cell in the region. Use masks.fillna(0).clip(0, 1)"
        )
