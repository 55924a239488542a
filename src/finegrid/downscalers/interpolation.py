"""Downscalers that learn nothing: the coarse field itself, drawn on finer cells.

Every table needs them; none is a strong baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.fitting import Fitting
from finegrid.grids import OPERATORS, Operator


@dataclass(kw_only=True)
class _Interpolation(Downscaler):
    learns: ClassVar[bool] = False
    _operator: Operator | None = field(default=None, init=False, repr=False)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        return

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._operator is None:
            domain = self.domain
            self._operator = OPERATORS[self.name](domain.inputs.grid, domain.grid.masked(None))
        outputs = list(self.domain.outputs)
        return torch.nan_to_num(to_tensor(self._operator(coarse[outputs]), outputs), nan=0.0)


class Nearest(_Interpolation):
    """The value of the coarse cell in which the fine centre lies."""

    name: ClassVar[str] = "nearest"


class Bilinear(_Interpolation):
    """Straight lines between coarse centres."""

    name: ClassVar[str] = "bilinear"


class Bicubic(_Interpolation):
    """Cubic convolution between coarse centres."""

    name: ClassVar[str] = "bicubic"


class Conservative(_Interpolation):
    """The area-weighted mean of the coarse cells that a fine cell touches; conserves by construction."""

    name: ClassVar[str] = "conservative"
