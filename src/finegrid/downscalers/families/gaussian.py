"""y = z b + s e with e normal: temperature, pressure, wind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.downscalers.families.base import Family, Numbers, count_of, curvature, linear, ridge_of
from finegrid.heads.distributions.gaussian import normal_crps


class Gaussian(Family):
    """Normal about a linear mean, with one deviation for each cell."""

    name: ClassVar[str] = "gaussian"

    def fit(self, z: Tensor, y: Tensor, known: Tensor, penalties: Sequence[float]) -> dict[str, Tensor]:
        factor = torch.linalg.cholesky(curvature(z, known, ridge_of(z, penalties[0])))
        moments = (y * known).mT @ z
        weights = torch.cholesky_solve(moments[..., None], factor)[..., 0]
        squares = ((y - linear(z, weights)).square() * known).sum(1) / count_of(known)
        return {"mean": weights, "deviation": squares.sqrt().clamp(min=1e-6)}

    def mean(self, z: Tensor, numbers: Numbers) -> Tensor:
        return linear(z, numbers["mean"])

    def chance(self, z: Tensor, y: Tensor, numbers: Numbers, uniform: Tensor) -> Tensor:
        below: Tensor = torch.special.ndtr(self._standard(z, y, numbers))
        return below

    def quantile(self, z: Tensor, chance: Tensor, numbers: Numbers) -> Tensor:
        standard: Tensor = torch.special.ndtri(chance)
        return self.mean(z, numbers) + numbers["deviation"][:, None] * standard

    def losses(self, z: Tensor, y: Tensor, numbers: Numbers) -> list[Tensor]:
        return [normal_crps(y, self.mean(z, numbers), numbers["deviation"][:, None])]

    def _standard(self, z: Tensor, y: Tensor, numbers: Numbers) -> Tensor:
        return (y - self.mean(z, numbers)) / numbers["deviation"][:, None]
