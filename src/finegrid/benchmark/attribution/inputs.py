"""Everything that a downscaler reads at a time, as one vector, and the cells of the coarse file that it belongs to.

`Downscaler.read` gives coarse fields on blocks of fine cells, and beside them, where the file's cells are others, the
fields on its own cells and on those around. A vector holds them one after the other. Maps are drawn on the file's cells
that reach farthest: around, own, or the blocks where these are the file's cells. Blocks that are none of them hand
their part over by shared area, so that sums stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.data.inputs import CoarseInputs, own_name
from finegrid.data.surroundings import WIDE_DIMS, wide_name
from finegrid.grids import Grid, Operator, cells

_OWN_DIMS = ("row", "column")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Fields on cells of one kind.

    Attributes:
        variables: fine names or predictors.
        names: what they are called in the Dataset.
        dims: rows and columns.
        grid: the cells.
    """

    variables: tuple[str, ...]
    names: tuple[str, ...]
    dims: tuple[str, str]
    grid: Grid

    @property
    def size(self) -> int:
        """Values of a time."""
        return len(self.names) * self.grid.size


@dataclass(frozen=True, eq=False)
class Inputs:
    """The vector of a time.

    Attributes:
        parts: kinds of cells, the blocks first.
        variables: names of all fields.
        grid: on which maps are drawn.
    """

    parts: tuple[Part, ...]
    variables: tuple[str, ...]
    grid: Grid

    @classmethod
    def of(cls, read: CoarseInputs) -> Self:
        """Of what a downscaler reads."""
        every, conserved = read.channels, tuple(read.variables)
        parts = [Part(every, every, ("y", "x"), read.grid)]
        if read.own is not None:
            parts.append(Part(conserved, tuple(map(own_name, conserved)), _OWN_DIMS, read.own))
        if read.wide is not None:
            parts.append(Part(every, tuple(map(wide_name, every)), WIDE_DIMS, read.wide))
        return cls(tuple(parts), every, read.wide or read.own or read.grid)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(part.size for part in self.parts)

    def vectors(self, fields: xr.Dataset) -> Tensor:
        """Vectors (time, value) of fields as `Downscaler.read` gives them."""
        return torch.cat([to_tensor(fields, part.names).flatten(1) for part in self.parts], dim=1)

    def planes(self, vectors: Tensor) -> Iterator[tuple[Part, Tensor]]:
        """Each part with its fields (time, channel, rows, columns)."""
        every = torch.split(vectors, [part.size for part in self.parts], dim=1)
        for part, values in zip(self.parts, every, strict=True):
            yield part, values.reshape(len(vectors), len(part.names), *part.grid.shape)

    def fields(self, vectors: Tensor, time: xr.DataArray, like: xr.Dataset) -> xr.Dataset:
        """The fields of vectors, with attributes and coordinates of a Dataset of the same kind.

        Args:
            vectors: (time, value).
            time: times of `like`, in any order and number.
            like: where attributes, coordinates and all that is not on cells, such as a series, come from.
        """
        found = {
            name: (("time", *part.dims), planes[:, channel].numpy(), like[name].attrs)
            for part, planes in self.planes(vectors)
            for channel, name in enumerate(part.names)
        }
        others = like.drop_vars(list(found))
        return others.sel(time=time.values).assign(found)

    def usual(self, changes: Tensor) -> Tensor:
        """Mean size (value,) of changes (time, value) over times and cells, for each field; 1 where there are none."""
        sizes = []
        for part, planes in self.planes(changes):
            mean = torch.nanmean(planes.abs(), dim=(0, 2, 3)).nan_to_num(nan=0.0)
            sizes.append(torch.where(mean > 0, mean, 1.0).repeat_interleave(part.grid.size))
        return torch.cat(sizes)

    def maps(self, vectors: Tensor) -> Array:
        """Maps (time, variable, y, x) of vectors, such that all values of a variable have the same sum."""
        maps = np.zeros((len(vectors), len(self.variables), *self.grid.shape))
        for (part, planes), shares in zip(self.planes(vectors), self._shares, strict=True):
            flat = planes.double().numpy().reshape(-1, part.grid.size)
            placed = flat if shares is None else (shares @ flat.T).T
            where = [self.variables.index(name) for name in part.variables]
            maps[:, where] += np.asarray(placed).reshape(len(vectors), -1, *self.grid.shape)
        return maps

    def missing(self, vectors: Tensor) -> NDArray[np.bool_]:
        """Where maps (time, variable, y, x) have no value in the cells themselves."""
        missing = np.zeros((len(vectors), len(self.variables), *self.grid.shape), dtype=bool)
        for part, planes in self.planes(vectors):
            if part.grid == self.grid:
                where = [self.variables.index(name) for name in part.variables]
                missing[:, where] = planes.isnan().numpy()
        return missing

    def groups(self, size: int) -> NDArray[np.int64]:
        """Numbers (value,) of groups: squares of `size` cells of the maps, each variable by itself."""
        (rows, columns), across = self.grid.shape, -(-self.grid.shape[1] // size)
        plane = (np.arange(rows)[:, None] // size * across + np.arange(columns) // size).ravel()
        count = int(plane.max()) + 1
        numbers = [
            self.variables.index(name) * count + plane[nearest]
            for part, nearest in zip(self.parts, self._nearest, strict=True)
            for name in part.variables
        ]
        return np.concatenate(numbers)

    @cached_property
    def _nearest(self) -> list[NDArray[np.intp]]:
        """For every cell of each part the nearest cell of the maps."""
        tree = cKDTree(cells.middles(self.grid))
        return [
            np.arange(self.grid.size) if part.grid == self.grid else tree.query(cells.middles(part.grid))[1]
            for part in self.parts
        ]

    @cached_property
    def _shares(self) -> list[sparse.csr_array | None]:
        """Part of every cell of each part that goes to each cell of the maps (cell of the map, cell); None for same."""
        found: list[sparse.csr_array | None] = []
        for part, nearest in zip(self.parts, self._nearest, strict=True):
            found.append(None if part.grid == self.grid else _by_area(part.grid, self.grid, nearest))
        return found


def _by_area(source: Grid, target: Grid, nearest: NDArray[np.intp]) -> sparse.csr_array:
    """Shares (target cell, source cell) with columns of sum one; what shares no area goes to the nearest cell."""
    shared, _ = Operator.conservative(source.masked(None), target.masked(None)).areas
    total = np.asarray(shared.sum(axis=0)).ravel()
    lone = np.flatnonzero(total <= 0)
    alone = sparse.coo_array((np.ones(len(lone)), (nearest[lone], lone)), shape=shared.shape)
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return sparse.csr_array(sparse.csr_array(shared * scale[None, :]) + sparse.csr_array(alone))
