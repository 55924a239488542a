"""What a regression sees: a matrix of predictors for every coarse cell, or one that all cells share.

    window        the coarse fields on blocks in a window around each cell
    domain        the coarse file's own cells in and around the fine domain, all of them, for every cell
    components    the principal components of these, with the window beside them where it is wanted
    convolutions  random patches of coarse fields as filters, then the window

Each variant adds the coarse fields of neighbouring time steps (`frames`) and the cycles of day and year. Everything is
standardised with the climatology of the training times; a one for the intercept is the last column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.predictors import cycles, frame_indices, useful_cycles
from finegrid.data.surroundings import wide_name
from finegrid.downscalers.domain import Domain


@dataclass(frozen=True)
class Prepared:
    """Predictors of some times before they are put together cell by cell.

    Attributes:
        local: predictors of each coarse cell (time, predictor, cell); None where there are none.
        common: predictors that all cells share (time, predictor).
    """

    local: Tensor | None
    common: Tensor

    @property
    def times(self) -> int:
        """Number of times."""
        return len(self.common)

    @property
    def cells(self) -> int:
        """Number of matrices: one where all cells share it."""
        return 1 if self.local is None else self.local.shape[-1]

    @property
    def width(self) -> int:
        """Number of predictors, the one included."""
        return self.common.shape[1] + 1 + (0 if self.local is None else self.local.shape[1])

    def at(self, cells: slice) -> Prepared:
        """Some of the cells."""
        return self if self.local is None else Prepared(self.local[:, :, cells], self.common)

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Predictors (cell, time, predictor): local, common, one."""
        shared = torch.cat([self.common, torch.ones(self.times, 1)], dim=1)
        if self.local is None:
            return shared[None].to(dtype)
        local = self.local.permute(2, 0, 1)
        return torch.cat([local, shared.expand(len(local), -1, -1)], dim=2).to(dtype)


@dataclass(kw_only=True)
class Features(ABC):
    """What all variants share.

    Args:
        frames: offsets in time steps of the coarse fields that are predictors.
        cycles: phases of time that are predictors; None is those that the record can teach.
        fields: names of the coarse fields that are seen; None is all. Where a model's own rain is not trusted, leave it
            out.
    """

    frames: Sequence[int] = (0,)
    cycles: Sequence[str] | None = None
    fields: Sequence[str] | None = None

    name: ClassVar[str]
    looks_around: ClassVar[bool] = False
    """Whether it needs the coarse file's own cells around the fine domain."""

    def __post_init__(self) -> None:
        self.numbers: dict[str, Tensor] = {}
        self._domain: Domain | None = None

    def variants(self) -> Sequence[Features]:
        """The candidates among which cross-validation chooses."""
        return [self]

    def fit(self, coarse: xr.Dataset, domain: Domain) -> Self:
        """Learn the climatology, and what else the predictors need, from training fields."""
        self._domain = domain
        if unknown := [name for name in self.fields or () if name not in domain.inputs.channels]:
            raise InputError(
                f"the features '{self.name}' got the field '{unknown[0]}'; expected some of "
                f"{', '.join(domain.inputs.channels)}; change features.fields, or add it to data.predictors"
            )
        if self.cycles is None:
            self.cycles = useful_cycles(coarse.time)
        self._fit(coarse)
        return self

    def __call__(self, coarse: xr.Dataset) -> Prepared:
        """The predictors of coarse fields as `Downscaler.read` gives them."""
        local, common = self._prepared(coarse)
        phases = torch.from_numpy(cycles(coarse.time, self.cycles or ()))
        return Prepared(local, torch.cat([common, phases], dim=1))

    @abstractmethod
    def _fit(self, coarse: xr.Dataset) -> None:
        """Fill `numbers`."""

    @abstractmethod
    def _prepared(self, coarse: xr.Dataset) -> tuple[Tensor | None, Tensor]:
        """Local predictors (time, predictor, cell) or None, and common ones (time, predictor)."""

    @property
    def options(self) -> dict[str, Any]:
        """Name and arguments, for a model file."""
        return {"name": self.name, **{each.name: getattr(self, each.name) for each in fields_of(self)}}

    def remember(self, numbers: Mapping[str, Tensor], domain: Domain) -> Self:
        """Become what `numbers` says."""
        self.numbers, self._domain = dict(numbers), domain
        return self

    def words(self) -> dict[str, Any]:
        """What a person wants to know about them."""
        return {"predictors seen": self.name}

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the coarse fields that are seen."""
        return self.domain.inputs.channels if self.fields is None else tuple(self.fields)

    @property
    def domain(self) -> Domain:
        """The domain of the downscaler."""
        if self._domain is None:
            raise RuntimeError("features that were not fitted")
        return self._domain

    def _blocks(self, coarse: xr.Dataset) -> Tensor:
        """The coarse fields on blocks (time, channel, h, w)."""
        return to_tensor(coarse, self.channels)

    def _around(self, coarse: xr.Dataset) -> Tensor:
        """The coarse fields on all cells around (time, channel, cell)."""
        return to_tensor(coarse, [wide_name(name) for name in self.channels]).flatten(2)

    def _framed(self, values: Tensor, time: xr.DataArray) -> Tensor:
        """Fields (time, channel, h, w) of all frames beside each other, without holes.

        What is missing in another frame is as in the time itself.
        """
        parts = [values[torch.as_tensor(frame_indices(time, offset))] for offset in self.frames]
        return filled(torch.cat([torch.where(torch.isfinite(each), each, values) for each in parts], dim=1))


def moments(values: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of known values over some dimensions; the deviation of what does not vary is 1.

    Where nothing is known the mean is 0.
    """
    wide = values.double()
    known = torch.isfinite(wide)
    count = known.sum(dims, keepdim=True).clamp(min=1)
    mean = torch.where(known, wide, 0.0).sum(dims, keepdim=True) / count
    deviation = (torch.where(known, wide - mean, 0.0).square().sum(dims, keepdim=True) / count).sqrt()
    small = deviation <= 1e-6 * mean.abs().clamp(min=float(np.finfo(np.float32).tiny))
    return mean.float(), torch.where(small, 1.0, deviation).float()


def filled(values: Tensor) -> Tensor:
    """Standardised fields (time, channel, h, w) without holes: a missing cell is the mean of its known neighbours.

    Ring by ring inwards. The mean of the training times, 0, stands only for fields that are missing altogether: amid
    warm cells it would be a cold one, of which weights of opposite signs make a lot.
    """
    fields = values.flatten(0, 1)
    holed = ~torch.isfinite(fields).flatten(1).all(1)
    if not holed.any():
        return values
    part, missing = fields[holed], ~torch.isfinite(fields[holed])
    while missing.any():
        known = (~missing).to(part.dtype)[:, None]
        sums = functional.avg_pool2d(part.nan_to_num(nan=0.0)[:, None] * known, 3, 1, 1)[:, 0]
        counts = functional.avg_pool2d(known, 3, 1, 1)[:, 0]
        reached = missing & (counts > 0)
        if not reached.any():
            break
        part, missing = torch.where(reached, sums / counts.clamp(min=1e-3), part), missing & ~reached
    fields = fields.clone()
    fields[holed] = part.nan_to_num(nan=0.0)
    return fields.reshape(values.shape)


def window(values: Tensor, half_width: int, *, periodic: bool) -> Tensor:
    """Values (time, channel, h, w) in the window of every cell, (time, channel * window, cell).

    At an edge stands the edge cell again, around the globe the other side.
    """
    k = half_width
    wide = functional.pad(values, (k, k, 0, 0), mode="circular" if periodic else "replicate")
    tall = functional.pad(wide, (0, 0, k, k), mode="replicate")
    # A view, then one copy: torch's own im2col is several times slower beside a thread that writes.
    shifted = tall.unfold(2, 2 * k + 1, 1).unfold(3, 2 * k + 1, 1)
    return shifted.permute(0, 1, 4, 5, 2, 3).reshape(len(values), -1, values.shape[2] * values.shape[3])
