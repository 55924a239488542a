"""Which part of the year a time belongs to, as weights of a climatology.

A climatology is c(t) = sum_k w_k(t) c_k with coefficients c_k for every cell. The first weight is for the mean over all
training times; the others are

    month, season   1 for the group of t, 0 else: c_k is the mean of the group (seasons are DJF, MAM, JJA, SON)
    day-of-year     1, sin p, cos p, sin 2 p, cos 2 p with the phase p of the year: a smooth annual cycle
    all             none: c is the mean over all training times

Times in groups (for day-of-year: calendar months) that training has not seen, or seen for less than a fifth as long as
the others, have the mean over all training times: one odd day is no climatology.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.predictors import cycles

BY = ("month", "season", "day-of-year", "all")
_SEASONS = ("DJF", "MAM", "JJA", "SON")
# Part of the usual number of times in a group, below which it counts as not seen.
_FEW = 0.2
# Penalty on the waves, per time: holds an annual cycle that half a year cannot tell, and is nothing beside real data.
_WAVE_PENALTY = 1e-6


@dataclass(frozen=True)
class Seasons:
    """Groups of times.

    Attributes:
        by: one of `BY`.
        seen: numbers of the groups that training has seen, months 1 to 12 or seasons 1 to 4.
    """

    by: str
    seen: tuple[int, ...]

    @classmethod
    def of(cls, by: str, time: xr.DataArray) -> Self:
        """The groups that these training times can tell."""
        found, counts = np.unique(_labels(by, time), return_counts=True)
        return cls(by, tuple(int(each) for each in found[counts >= _FEW * counts.max()]))

    @property
    def waves(self) -> bool:
        """Whether the weights are waves, and not groups that exclude each other."""
        return self.by == "day-of-year"

    def known(self, time: xr.DataArray) -> NDArray[np.bool_]:
        """Whether training has seen the group of each time (time,)."""
        return np.isin(_labels(self.by, time), self.seen)

    def basis(self, time: xr.DataArray) -> Tensor:
        """Weights of the groups or waves (time, k), 0 at times whose group training has not seen."""
        if self.by == "all":
            return torch.zeros(len(time), 0, dtype=torch.float64)
        if self.waves:
            rows = np.concatenate([np.ones((len(time), 1)), cycles(time, ("day_of_year",))], axis=1)
            return torch.from_numpy(rows * self.known(time)[:, None])
        return torch.from_numpy((_labels(self.by, time)[:, None] == np.array(self.seen)).astype(np.float64))

    def weights(self, time: xr.DataArray) -> Tensor:
        """All weights (time, 1 + k): the first is 1 where the mean over all training times stands in."""
        basis = self.basis(time)
        known = self.known(time) if basis.shape[1] else np.zeros(len(time), dtype=bool)
        return torch.cat([torch.from_numpy(~known)[:, None].double(), basis], dim=1)

    def solve(self, gram: Tensor, moments: Tensor) -> Tensor:
        """Coefficients (n, k) of waves from their normal matrices (n, k, k) and moments (n, k)."""
        penalty = torch.full((gram.shape[-1],), _WAVE_PENALTY, dtype=gram.dtype)
        penalty[0] = 1e-12  # the mean is free; the hair keeps the matrix of a cell without values regular
        ridge = torch.diag(penalty) * gram[:, :1, :1].clamp(min=1.0)
        found: Tensor = torch.linalg.solve(gram + ridge, moments)
        return found

    @property
    def words(self) -> dict[str, int]:
        """Names of the groups that training has seen, with their place among the coefficients."""
        names = list(_SEASONS) if self.by == "season" else list(calendar.month_abbr)[1:]
        return {} if self.by == "all" else {names[each - 1]: 1 + place for place, each in enumerate(self.seen)}

    def strangers(self, time: xr.DataArray) -> str:
        """Names of the groups among these times that training has not seen, with commas; empty for none."""
        names = list(_SEASONS) if self.by == "season" else list(calendar.month_abbr)[1:]
        return ", ".join(names[each - 1] for each in np.unique(_labels(self.by, time)[~self.known(time)]))


def check_by(by: str, method: str) -> None:
    """The word names a kind of groups.

    Raises:
        InputError: lists the words.
    """
    if by not in BY:
        raise InputError(f"the method '{method}' got by: {by}; expected one of {', '.join(BY)}; change downscaler.by")


def _labels(by: str, time: xr.DataArray) -> NDArray[np.int64]:
    """The number of the group of each time (time,)."""
    if by == "all":
        return np.ones(len(time), dtype=np.int64)
    month = np.asarray(time.dt.month.values, dtype=np.int64)
    return month % 12 // 3 + 1 if by == "season" else month
