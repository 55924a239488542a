"""Coarse fields on blocks, standardised over time and space, in (2 k + 1)^2 cells around each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.downscalers.features.base import Features, moments, window


@dataclass(kw_only=True)
class Window(Features):
    """The neighbourhood of every coarse cell.

    Args:
        half_widths: candidates for the cells on either side of the own one.
    """

    name: ClassVar[str] = "window"
    half_widths: Sequence[int] = (1, 2)

    def variants(self) -> Sequence[Features]:
        return [replace(self, half_widths=(each,)) for each in self.half_widths]

    def _fit(self, coarse: xr.Dataset) -> None:
        self.numbers = dict(zip(("mean", "deviation"), moments(self._blocks(coarse), (0, 2, 3)), strict=True))

    def _prepared(self, coarse: xr.Dataset) -> tuple[Tensor | None, Tensor]:
        weather = neighbourhoods(self, coarse, self.half_widths[0])
        return weather, torch.zeros(len(weather), 0)

    def words(self) -> dict[str, Any]:
        width = 2 * self.half_widths[0] + 1
        return {"window": f"{width} x {width}"}


def neighbourhoods(features: Features, coarse: xr.Dataset, half_width: int) -> Tensor:
    """Standardised fields of all frames in the window of every cell (time, predictor, cell), without holes."""
    numbers, periodic = features.numbers, features.domain.inputs.grid.periodic
    standard = (features._blocks(coarse) - numbers["mean"]) / numbers["deviation"]
    framed = features._framed(standard, coarse.time)
    return window(framed, half_width, periodic=periodic)
