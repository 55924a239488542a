"""Bicubic interpolation plus the mean map of what it lacks: a climatology knows the place and nothing of the day.

y(t, i) = bicubic(x)(t, i) + mean over training times of (truth(i) - bicubic(x)(i))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.fitting import Fitting
from finegrid.grids import Operator


@dataclass(kw_only=True)
class MeanMap(Downscaler):
    """Interpolation corrected by its mean error at every fine cell."""

    name: ClassVar[str] = "mean-map"
    _map: Tensor | None = field(default=None, init=False, repr=False)
    _operator: Operator | None = field(default=None, init=False, repr=False)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        training = matched.at(fit_block)
        lacking = to_tensor(training.fine, self.domain.outputs) - self._interpolated(training.coarse)
        self._map = torch.nan_to_num(torch.nanmean(lacking.double(), dim=0), nan=0.0).float()

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        fields = self._interpolated(coarse)
        return fields if self._map is None else fields + self._map

    def _interpolated(self, coarse: xr.Dataset) -> Tensor:
        if self._operator is None:
            self._operator = Operator.bicubic(self.domain.inputs.grid, self.domain.grid.masked(None))
        outputs = list(self.domain.outputs)
        return torch.nan_to_num(to_tensor(self._operator(coarse[outputs]), outputs), nan=0.0)

    def _learnt(self) -> State:
        return {}, {} if self._map is None else {"map": self._map}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._map = tensors["map"]
