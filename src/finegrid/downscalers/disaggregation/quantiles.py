"""Empirical quantile mapping of every cell and month, as tensors.

A coarse value x between the training quantiles a_k and a_k+1 of its cell and month goes to the same place between the
quantiles b_k and b_k+1 of the goal. Where several quantiles are equal (dry days), x goes to the mean of theirs, except
zeros of ratios, which go to the lowest: what is dry stays dry. Beyond the training quantiles the correction is that of
the outermost one, constant as a difference, or as a ratio for what cannot be negative (Boe et al., International
Journal of Climatology 27(12), 2007). Months that training has not seen have the quantiles of all training times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import xarray as xr
from torch import Tensor

from finegrid.downscalers.disaggregation.seasons import Seasons


@dataclass(frozen=True, eq=False)
class QuantileMap:
    """Quantiles of given and wanted values.

    Attributes:
        seasons: the months.
        ratio: which outputs are ratios (output,).
        cap: largest ratio beyond the quantiles, and one over the smallest.
        given: quantiles of the coarse values (1 + month, output, cell, quantile).
        wanted: those of the goal.
    """

    seasons: Seasons
    ratio: Tensor
    cap: float
    given: Tensor
    wanted: Tensor

    @classmethod
    def of(
        cls, time: xr.DataArray, given: Tensor, wanted: Tensor, *, quantiles: int, ratio: Tensor, cap: float
    ) -> Self:
        """Learn from coarse values and goals (time, output, h, w), NaN where unknown."""
        seasons = Seasons.of("month", time)
        weights = seasons.basis(time).bool()
        groups = [torch.ones(len(time), dtype=torch.bool), *weights.mT]
        count = min(quantiles, max(int(weights.sum(0).max()), 2))
        tables = [torch.stack([quantiles_of(each[group], count) for group in groups]) for each in (given, wanted)]
        # A cell without values in a month has the quantiles of all times.
        filled = [torch.where(torch.isfinite(table), table, table[:1]) for table in tables]
        return cls(seasons, ratio, cap, *filled)

    def __call__(self, values: Tensor, time: xr.DataArray) -> Tensor:
        """Values (time, output, h, w) mapped, in float64."""
        result = torch.full(values.shape, torch.nan, dtype=torch.float64)
        for group, chosen in self._groups(time):
            mapped = self._mapped(_by_cell(values[chosen]), group)
            result[chosen] = mapped.movedim(-1, 0).reshape(values[chosen].shape)
        return result

    def beyond(self, values: Tensor, time: xr.DataArray) -> Tensor:
        """How many values of every output lie beyond the training quantiles (output,)."""
        total = torch.zeros(values.shape[1], dtype=torch.int64)
        for group, chosen in self._groups(time):
            x, given = _by_cell(values[chosen]), self.given[group]
            total += ((x < given[..., :1]) | (x > given[..., -1:])).sum((1, 2))
        return total

    def _groups(self, time: xr.DataArray) -> list[tuple[int, Tensor]]:
        """Place of every group of these times among the quantiles, and the indices of its times."""
        places = self.seasons.weights(time).argmax(1)
        return [(place, (places == place).nonzero()[:, 0]) for place in torch.unique(places).tolist()]

    def _mapped(self, x: Tensor, group: int) -> Tensor:
        """Values (output, cell, n) by the quantiles of a group."""
        x, given, wanted = x.double(), self.given[group].double(), self.wanted[group].double()
        left, right = (torch.searchsorted(given, x, right=side) for side in (False, True))
        last = given.shape[-1] - 1
        below, above = (left - 1).clamp(0, last), left.clamp(0, last)
        a, b = given.gather(-1, below), given.gather(-1, above)
        p, q = wanted.gather(-1, below), wanted.gather(-1, above)
        between = p + (x - a) / torch.where(b > a, b - a, 1.0) * (q - p)
        sums = torch.nn.functional.pad(wanted.cumsum(-1), (1, 0))
        tied = (sums.gather(-1, right) - sums.gather(-1, left)) / (right - left).clamp(min=1)
        ratio = self.ratio[:, None, None]
        tied = torch.where(ratio & (x <= 0), q, torch.where(right - left == 1, q, tied))
        result = torch.where(right > left, tied, between)
        outer = torch.where(right == 0, given[..., :1], given[..., -1:])
        goal = torch.where(right == 0, wanted[..., :1], wanted[..., -1:])
        outside = (right == 0) | (left > last)
        return torch.where(outside, self._extended(x, outer, goal), result)

    def _extended(self, x: Tensor, outer: Tensor, goal: Tensor) -> Tensor:
        """Values beyond the outermost quantile, with its correction."""
        factor = torch.where(outer > 0, goal / torch.where(outer > 0, outer, 1.0), 1.0)
        scaled = x * factor.clamp(1 / self.cap, self.cap)
        return torch.where(self.ratio[:, None, None], scaled, x + goal - outer)

    def tensors(self) -> dict[str, Tensor]:
        """What has to be saved beside the seasons and the ratios."""
        return {"given": self.given, "wanted": self.wanted}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], seasons: Seasons, ratio: Tensor, cap: float) -> Self:
        """What `tensors` gave."""
        return cls(seasons, ratio, cap, tensors["given"], tensors["wanted"])


def quantiles_of(values: Tensor, count: int) -> Tensor:
    """`count` equally spaced quantiles from the lowest to the highest, of values (time, output, h, w).

    Linear between order statistics, as in NumPy; (output, cell, quantile) in float32, NaN where nothing is known.
    """
    flat = _by_cell(values).double()
    known = torch.isfinite(flat).sum(-1, keepdim=True)
    ordered = torch.where(torch.isfinite(flat), flat, torch.inf).sort(dim=-1).values
    place = torch.linspace(0, 1, count, dtype=torch.float64) * (known - 1).clamp(min=0)
    low = place.floor().long()
    high = torch.minimum(low + 1, (known - 1).clamp(min=0))
    bottom, top = ordered.gather(-1, low), ordered.gather(-1, high)
    # The difference of two infinite values, in cells without any, is not to be seen.
    return torch.where(known > 0, bottom + (place - low) * (top - bottom).nan_to_num(), torch.nan).float()


def _by_cell(values: Tensor) -> Tensor:
    """Values (time, output, h, w) as (output, cell, time), contiguous."""
    return values.flatten(2).movedim(0, -1).contiguous()
