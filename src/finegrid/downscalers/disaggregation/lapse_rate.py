"""Interpolated temperature, corrected for the height of the place by a lapse rate.

    y(t, i) = X(t, i) + g(t) (h(i) - H(i))

X is the interpolated coarse field, h the elevation of the fine cell, and H the interpolated mean elevation of the valid
fine cells of the coarse cells: the height for which X stands. The lapse rate g is a number, or is regressed from the
training pairs, with deviations from the mean over the fine cells of each time so that a bias of X is not taken for it:

    g = sum_t,i d'(t, i) h'(i) / sum_t,i h'(i)^2,        d = truth - X,   h' = h - H less its mean

Source: Liston and Elder, Journal of Hydrometeorology 7(2), 2006 (monthly rates); Gao, Bernhardt and Schulz, Hydrology
and Earth System Sciences 16, 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError, unit_conversion
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.base import State
from finegrid.downscalers.disaggregation.base import Disaggregation, check_word
from finegrid.downscalers.disaggregation.climatology import at, blocks
from finegrid.downscalers.disaggregation.elevation import elevation_above_coarse
from finegrid.downscalers.disaggregation.seasons import Seasons
from finegrid.downscalers.fitting import Fitting

RATES = ("seasonal", "regressed")
# A relief of less than a metre in the square mean tells no lapse rate.
_LEAST_RELIEF = 1e-3


@dataclass(kw_only=True)
class LapseRate(Disaggregation):
    """Interpolation and a lapse rate; needs the fine elevation as a static field.

    Args:
        rate: a number in K per km, "seasonal" for one regressed for each group of times (`by`), or "regressed" for one
            from all training times.
        others: what to do with variables that are no temperatures, "refuse" or "interpolate" them.
    """

    name: ClassVar[str] = "lapse-rate"
    rate: float | str = -6.5
    others: str = "refuse"
    _height: Tensor | None = field(default=None, init=False, repr=False)
    _rates: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self.others, ("refuse", "interpolate"), "others", self.name)
        if isinstance(self.rate, str) and self.rate not in RATES:
            raise InputError(
                f"the method '{self.name}' got rate: {self.rate}; expected a number in K per km such as -6.5, or one "
                f"of {', '.join(RATES)}; change downscaler.rate"
            )

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        scales = self._scales()
        if how.static is not None or self._height is None:  # copies that learn from other times keep the place
            self._height = elevation_above_coarse(how.static, self.domain, self._interpolated)
        training = matched.at(fit_block)
        regressed = isinstance(self.rate, str)
        self._seasons = Seasons.of(self.by if self.rate == "seasonal" else "all", training.coarse.time)
        if regressed:
            self._rates = self._regressed(training, self._height) * (scales > 0)
        else:
            self._rates = float(self.rate) * scales[None].float()

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._height is None or self._rates is None or self._seasons is None:
            raise RuntimeError("a lapse rate without elevation")
        drawn = self._interpolated(self._values(coarse).double())
        rates = at(self._rates[:, :, None, None], self._seasons, coarse.time)
        return self._limited(torch.nan_to_num(drawn, nan=0.0) + rates * self._height.double()).float()

    def _regressed(self, training: Pair, height: Tensor) -> Tensor:
        """Rates in units per km (1 + k, output): of all training times, and of every group or wave."""
        self._check_relief(height)
        seasons, time = self._seasons or Seasons("all", ()), training.coarse.time
        basis = torch.cat([torch.ones(len(time), 1, dtype=torch.float64), seasons.basis(time)], dim=1)
        products, squares = self._slopes(training, height)
        return torch.stack(
            [_fitted(basis, product, square, seasons) for product, square in zip(products.mT, squares.mT, strict=True)],
            dim=1,
        ).float()

    def _slopes(self, training: Pair, height: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over fine cells of d' h' and of h' squared, of every time and output (time, output)."""
        coarse, truth = self._values(training.coarse), to_tensor(training.fine, self.domain.outputs)
        products, squares = [], []
        for part in blocks(len(coarse)):
            lacking = truth[part] - self._interpolated(coarse[part].double())
            known = torch.isfinite(lacking)
            place = torch.where(known, height.double(), torch.nan)
            above = torch.nan_to_num(place - place.nanmean((-2, -1), keepdim=True), nan=0.0)
            products.append((above * torch.nan_to_num(lacking, nan=0.0)).sum((-2, -1)))
            squares.append((above**2).sum((-2, -1)))
        return torch.cat(products), torch.cat(squares)

    def _scales(self) -> Tensor:
        """Units of every output in a kelvin (output,), 0 for those that are only interpolated.

        Raises:
            InputError: on one that is no temperature.
        """
        return torch.tensor([self._scale(name) for name in self.domain.outputs], dtype=torch.float64)

    def _scale(self, name: str) -> float:
        units = self.domain.inputs.units[name]
        try:
            scale = unit_conversion("K", units)[0] if units else 0.0
        except InputError:
            scale = 0.0
        if scale or self.others == "interpolate":
            return scale
        raise InputError(
            f"the method '{self.name}' got '{name}' with the units '{units}'; expected temperatures, in K or degC; "
            f"leave it out of data.variables, correct fine['{name}'].attrs['units'], or set others: interpolate"
        )

    def _check_relief(self, height: Tensor) -> None:
        mask = self.domain.grid.mask
        valid = height if mask is None else height[torch.from_numpy(np.array(mask))]
        if float(valid.double().var(correction=0)) < _LEAST_RELIEF**2:
            raise InputError(
                f"the method '{self.name}' got an elevation that does not differ between the fine cells of a coarse "
                "cell; expected some relief to regress a lapse rate on; give another elevation, or a number: rate: -6.5"
            )

    def _summary(self) -> dict[str, Any]:
        if self._rates is None or self._seasons is None:
            return {}
        scales = self._scales().tolist()
        shown = {
            name: self._shown(self._rates[:, index] / scale)
            for index, (name, scale) in enumerate(zip(self.domain.outputs, scales, strict=True))
            if scale
        }
        return {"lapse rate (K/km)": shown, **super()._summary()}

    def _shown(self, rates: Tensor) -> Any:
        """A rate in K per km, or one for each group; of waves, that of all times."""
        seasons = self._seasons or Seasons("all", ())
        if len(rates) == 1 or seasons.waves:
            return round(float(rates[0]), 3)
        return {name: round(float(rates[place]), 3) for name, place in seasons.words.items()}

    def _learnt(self) -> State:
        if self._height is None or self._rates is None or self._seasons is None:
            return {}, {}
        plain = {"by": self._seasons.by, "seen": list(self._seasons.seen)}
        return plain, {"height": self._height, "rates": self._rates}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._seasons = Seasons(plain["by"], tuple(plain["seen"]))
        self._height, self._rates = tensors["height"], tensors["rates"]


def _fitted(basis: Tensor, product: Tensor, square: Tensor, seasons: Seasons) -> Tensor:
    """Coefficients of the rate (1 + k,) that minimise the squared error over all times."""
    overall = product.sum() / square.sum().clamp(min=1e-30)
    waves = basis[:, 1:]
    gram, moments = waves.mT @ (square[:, None] * waves), waves.mT @ product
    if seasons.waves:
        own = seasons.solve(gram[None] / square.mean(), moments[None] / square.mean())[0]
    else:
        own = moments / gram.diagonal().clamp(min=1e-30)
    return torch.cat([overall[None], own])
