"""Interpolated rain times the fine climatology over the interpolated coarse one.

    y(t, i) = X(t, i) min(f(t, i) / m(t, i), cap)

X is the interpolated coarse field, m its climatology and f that of the fine field, at the time of year of t and over
the times at which the fine cell is known. The pattern of the climate is put upon the weather of the day; what is dry
stays dry, and nothing is negative. Where m is dry the factor is 1. Unlike the delta method it divides after
interpolation, so that the ratio of a coarse cell with little rain does not spread to its neighbours.

Source: Widmann, Bretherton and Salathe, Journal of Climate 16(5), 2003 ("local scaling").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.base import State
from finegrid.downscalers.disaggregation.anomalies import DRY
from finegrid.downscalers.disaggregation.base import Disaggregation, check_word
from finegrid.downscalers.disaggregation.climatology import Climatology, at, blocks
from finegrid.downscalers.disaggregation.seasons import Seasons
from finegrid.downscalers.fitting import Fitting


@dataclass(kw_only=True)
class ClimatologyRatio(Disaggregation):
    """Local scaling of rain and other quantities that cannot be negative.

    Args:
        cap: largest factor.
        others: what to do with variables that can be negative, "refuse" or "interpolate" them.
    """

    name: ClassVar[str] = "climatology-ratio"
    cap: float = 10.0
    others: str = "refuse"
    _ratio: Tensor | None = field(default=None, init=False, repr=False)
    _fine: Tensor | None = field(default=None, init=False, repr=False)
    _plain: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self.others, ("refuse", "interpolate"), "others", self.name)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        training = matched.at(fit_block)
        self._ratio = self._ratios("natural", training)
        self._check_others(training)
        time = training.coarse.time
        self._seasons = Seasons.of(self.by, time)
        coarse, truth = self._values(training.coarse), to_tensor(training.fine, self.domain.outputs)
        fine, plain = (Climatology(self._seasons, tuple(truth.shape[1:])) for _ in range(2))
        for part in blocks(len(time)):
            drawn = self._interpolated(coarse[part].double())
            known = torch.isfinite(truth[part]) & torch.isfinite(drawn)
            fine.add(time[part], torch.where(known, truth[part], torch.nan))
            plain.add(time[part], torch.where(known, drawn, torch.nan))
        self._fine, self._plain = fine.coefficients, plain.coefficients

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        drawn = self._interpolated(self._values(coarse).double())
        return self._limited(torch.nan_to_num(drawn * self._factor(coarse.time), nan=0.0)).float()

    def _factor(self, time: xr.DataArray) -> Tensor:
        """Fine over interpolated climatology (time, output, H, W), at most `cap`; 1 where that is dry."""
        if self._fine is None or self._plain is None or self._seasons is None or self._ratio is None:
            raise RuntimeError("a climatology ratio without climatologies")
        fine, plain = (at(each, self._seasons, time) for each in (self._fine, self._plain))
        wet = self._ratio[:, None, None] & (plain > _dry(self._plain)) & torch.isfinite(fine)
        return torch.where(wet, (fine / plain).clamp(0.0, self.cap), 1.0)

    def _check_others(self, matched: Pair) -> None:
        if self._ratio is None or self.others == "interpolate" or self._ratio.all():
            return
        name = matched.variables[int((~self._ratio).nonzero()[0])]
        raise InputError(
            f"the method '{self.name}' got '{name}', which can be negative or is not known to be a rain; expected "
            "quantities that cannot be negative, such as precipitation, humidity or radiation; leave it out of "
            f"data.variables, set fine['{name}'].attrs['standard_name'], choose the method delta, or set others: "
            "interpolate"
        )

    def _notes(self) -> list[str]:
        """What a person should know of the fit, in sentences."""
        if self._fine is None or self._plain is None or self._seasons is None or self._ratio is None:
            return []
        rows = slice(0, 1) if self._seasons.waves or len(self._plain) == 1 else slice(1, None)
        fine, plain, ratio = self._fine[rows], self._plain[rows], self._ratio[:, None, None]
        dry = ratio & (plain <= _dry(self._plain))
        capped, words = ratio & ~dry & (fine > self.cap * plain), []
        if dry.any():
            words.append(f"{int(dry.any(0).sum())} fine cells are dry in some part of the year; their factor is 1")
        if capped.any():
            words.append(f"the factor of {int(capped.any(0).sum())} fine cells is capped at {self.cap:g}")
        return words

    def _learnt(self) -> State:
        if self._fine is None or self._plain is None or self._seasons is None or self._ratio is None:
            return {}, {}
        tensors = {"fine": self._fine, "plain": self._plain, "ratio": self._ratio}
        return {"seen": list(self._seasons.seen)}, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._seasons = Seasons(self.by, tuple(plain["seen"]))
        self._fine, self._plain, self._ratio = tensors["fine"], tensors["plain"], tensors["ratio"]


def _dry(plain: Tensor) -> Tensor:
    """Climatology below which a ratio means nothing, of every output (output, 1, 1)."""
    return DRY * torch.nanmean(plain[0].abs().double(), dim=(-2, -1), keepdim=True)
