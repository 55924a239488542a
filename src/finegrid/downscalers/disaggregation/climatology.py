"""Climatologies of fields with gaps: means of groups of times, or annual cycles, of every cell on its own.

The coefficients minimise sum_t known(t) |x(t) - sum_k w_k(t) c_k|^2, which for groups is the mean of the known values.
A group without any known value in a cell has the mean over all training times there. Values come in blocks of times, so
that long records need no second copy in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import xarray as xr
from torch import Tensor

from finegrid.downscalers.disaggregation.seasons import Seasons

# Times in work at once.
_AT_ONCE = 64


class Climatology:
    """Sums over times from which the coefficients follow.

    Args:
        seasons: the groups.
        shape: of a field, such as (output, y, x).
    """

    def __init__(self, seasons: Seasons, shape: tuple[int, ...]) -> None:
        self.seasons, self.shape = seasons, shape
        self._sums: list[Tensor | float] = [0.0] * 4

    def add(self, time: xr.DataArray, values: Tensor) -> None:
        """Take further fields (time, ...) into account, NaN where unknown."""
        basis, flat = self.seasons.basis(time), values.flatten(1).double()
        known = torch.isfinite(flat).double()
        filled = torch.nan_to_num(flat, nan=0.0)
        # Groups exclude each other, so that only the diagonal of their normal matrix is not 0.
        products = (basis[:, :, None] * basis[:, None, :]).flatten(1) if self.seasons.waves else basis
        parts = (filled.sum(0), known.sum(0), basis.mT @ filled, products.mT @ known)
        self._sums = [total + part for total, part in zip(self._sums, parts, strict=True)]

    @property
    def coefficients(self) -> Tensor:
        """Coefficients (1 + k, ...) in float32, NaN where no value was known; the first is the mean of all."""
        total, count, moments, products = (torch.as_tensor(each) for each in self._sums)
        mean = total / count  # 0 / 0 is NaN: nothing known
        if self.seasons.waves:
            width = len(moments)
            found = self.seasons.solve(products.mT.reshape(-1, width, width), moments.mT).mT
            found = torch.where(count > 0, found, torch.nan)
        else:
            found = torch.where(products > 0, moments / products, mean)
        return torch.cat([mean[None], found]).reshape(-1, *self.shape).float()


def at(coefficients: Tensor, seasons: Seasons, time: xr.DataArray) -> Tensor:
    """The climatology (time, ...) in float64."""
    flat = torch.nan_to_num(coefficients, nan=0.0).flatten(1).double()
    values = (seasons.weights(time) @ flat).reshape(-1, *coefficients.shape[1:])
    return torch.where(torch.isfinite(coefficients[0]), values, torch.nan)


def blocks(count: int) -> Iterator[slice]:
    """All times, some at once."""
    for start in range(0, count, _AT_ONCE):
        yield slice(start, min(start + _AT_ONCE, count))
