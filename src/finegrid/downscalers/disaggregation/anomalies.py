"""Fine climatology plus, or times, the coarse anomaly: the step that the delta method and BCSD share.

    additive   y(t, i) = f(t, i) + A(t, i) - q(t, i),    A = interpolation of x(t) - c(t)
    ratio      y(t, i) = f(t, i) A(t, i) / q(t, i),      A = interpolation of x(t) / c(t)

c and f are the climatologies of the coarse and of the fine field at the time of year of t, and q is that of A over the
times at which the fine cell is known: 0 or 1 but for gaps, so that the mean over the training times is that of the fine
field also where it has gaps. A ratio is never negative and never more than `cap` times the interpolated coarse value.
Where the coarse climatology is dry, a ratio to it means nothing: the value of the coarse cell is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones.blocks import repeated
from finegrid.downscalers.disaggregation.climatology import Climatology, at, blocks
from finegrid.downscalers.disaggregation.seasons import Seasons

Interpolate = Callable[[Tensor], Tensor]

# Part of the usual size of a variable below which a climatology is dry: packed integers miss zero by less.
DRY = 1e-4
# Least mean ratio at the known times of a cell that says anything.
_LEAST_MEAN = 0.05


@dataclass(frozen=True, eq=False)
class Anomalies:
    """What the step learnt.

    Attributes:
        seasons: groups of times.
        ratio: which outputs are ratios (output,).
        dry: coarse climatology below which a ratio means nothing (output,).
        cap: largest fine value in units of the interpolated coarse one.
        coarse: coefficients of c (1 + k, output, h, w).
        fine: those of f (1 + k, output, H, W).
        mean: those of q (1 + k, output, H, W).
    """

    seasons: Seasons
    ratio: Tensor
    dry: Tensor
    cap: float
    coarse: Tensor
    fine: Tensor
    mean: Tensor

    @classmethod
    def of(
        cls,
        seasons: Seasons,
        time: xr.DataArray,
        fields: tuple[Tensor, Tensor],
        interpolate: Interpolate,
        ratio: Tensor,
        cap: float,
    ) -> Self:
        """Learn from coarse and fine fields (time, output, ..., ...), NaN where unknown."""
        low, high = fields
        coarse, fine, mean = (Climatology(seasons, tuple(each.shape[1:])) for each in (low, high, high))
        for part in blocks(len(time)):
            coarse.add(time[part], low[part])
        size = low.double().abs().nan_to_num(nan=0.0).flatten(2).sum((0, 2)) / torch.isfinite(low).sum((0, 2, 3))
        blank = torch.zeros(1, *high.shape[1:])
        found = cls(seasons, ratio, (DRY * size).float(), cap, coarse.coefficients, blank, blank)
        for part in blocks(len(time)):
            anomaly = found._fine_anomaly(low[part].double(), time[part], interpolate)
            known = torch.isfinite(high[part]) & torch.isfinite(anomaly)
            fine.add(time[part], torch.where(known, high[part], torch.nan))
            mean.add(time[part], torch.where(known, anomaly, torch.nan))
        return cls(seasons, ratio, found.dry, cap, found.coarse, fine.coefficients, mean.coefficients)

    def __call__(self, coarse: Tensor, time: xr.DataArray, interpolate: Interpolate) -> Tensor:
        """Fine fields (time, output, H, W) in float64 of coarse ones (time, output, h, w); 0 where nothing is known."""
        parts = [self._of_block(coarse[part].double(), time[part], interpolate) for part in blocks(len(time))]
        return torch.cat(parts)

    def _of_block(self, coarse: Tensor, time: xr.DataArray, interpolate: Interpolate) -> Tensor:
        anomaly, plain = self._fine_anomaly(coarse, time, interpolate), interpolate(coarse)
        fine, mean = (at(each, self.seasons, time) for each in (self.fine, self.mean))
        result = torch.empty_like(fine)
        for channel, is_ratio in enumerate(self.ratio.tolist()):
            f, a, q, x = (each[:, channel] for each in (fine, anomaly, mean, plain))
            if is_ratio:
                value = f.clamp(min=0) * a / torch.where(q > _LEAST_MEAN, q, 1.0)
                value = torch.minimum(value, self.cap * x.clamp(min=0))
                x = repeated(coarse[:, channel], self._factor)
            else:
                value = f + a - q
            result[:, channel] = torch.where(torch.isfinite(value), value, x)
        return result.nan_to_num_(nan=0.0)

    def _fine_anomaly(self, coarse: Tensor, time: xr.DataArray, interpolate: Interpolate) -> Tensor:
        """Departure from the climatology, or ratio to it (time, output, H, W); NaN within coarse cells that are dry.

        Bicubic ratios may go below zero, and are held there.
        """
        ratio, usual = self.ratio[:, None, None], at(self.coarse, self.seasons, time)
        dry = ratio & (usual <= self.dry[:, None, None])
        anomaly = torch.where(ratio, coarse / torch.where(dry, torch.nan, usual), coarse - usual)
        fine = interpolate(anomaly)
        fine = torch.where(repeated(dry, self._factor), torch.nan, fine)
        return torch.where(ratio, fine.clamp(min=0), fine)

    @property
    def _factor(self) -> tuple[int, int]:
        """Fine cells in a coarse cell along y and x."""
        (fy, fx), (cy, cx) = self.fine.shape[-2:], self.coarse.shape[-2:]
        return fy // cy, fx // cx

    @property
    def dry_cells(self) -> int:
        """Coarse cells of ratio outputs whose climatology is dry in some group that training has seen."""
        # Coefficients of waves are no climatology; the mean over all times is.
        rows = self.coarse[:1] if self.seasons.waves or len(self.coarse) == 1 else self.coarse[1:]
        return int(((rows <= self.dry[:, None, None]).any(0) & self.ratio[:, None, None]).sum())

    def tensors(self) -> dict[str, Tensor]:
        """What has to be saved beside the seasons."""
        return {name: getattr(self, name) for name in ("ratio", "dry", "coarse", "fine", "mean")}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], seasons: Seasons, cap: float) -> Self:
        """What `tensors` gave."""
        return cls(seasons=seasons, cap=cap, **tensors)
