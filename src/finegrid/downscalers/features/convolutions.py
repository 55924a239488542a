"""Random convolution features (MOSAIKS): patches of the training fields themselves are the filters.

K patches of 3 x 3 coarse cells are drawn from standardised training fields, whitened (ZCA) and convolved with the
fields; the filters' answers pass a rectifier on either side of a bias. They stay as they are at every cell (the
unpooled activations that give resolution below the tile), and their means over the domain are common predictors.
Nothing is trained but the linear map that follows: computed once they serve any number of variables.

    a(t, k, I) = max(0, w_k . patch(t, I) - b),  max(0, -w_k . patch(t, I) - b)

Source: Rolf et al., Nature Communications 12, 4392 (2021), methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.downscalers.features.base import Features, filled, moments, window
from finegrid.downscalers.features.window import neighbourhoods

_SAMPLED = 20_000
# Deviation of the activations: weights of what was drawn at random are penalised a hundred times as much as those of
# the coarse fields themselves.
_SIZE = 0.1


@dataclass(kw_only=True)
class Convolutions(Features):
    """Rectified answers of random filters, and the window beside them.

    Args:
        patches: number of filters; each gives two predictors.
        bias: of the rectifier, in standard deviations of the answers.
        regularisation: added to the eigenvalues of the patches' covariance before whitening.
        half_width: cells on either side of the own one in the window that is a predictor too.
        seed: of the drawing.
    """

    name: ClassVar[str] = "convolutions"
    patches: int = 64
    bias: float = 0.5
    regularisation: float = 0.1
    half_width: int = 2
    seed: int = 0

    def _fit(self, coarse: xr.Dataset) -> None:
        if self.patches < 1:
            raise InputError(f"got patches={self.patches}; expected at least 1; set features.patches")
        mean, deviation = moments(self._blocks(coarse), (0, 2, 3))
        self.numbers = {"mean": mean, "deviation": deviation}
        generator = torch.Generator().manual_seed(self.seed)
        every = self._patches(coarse).permute(0, 2, 1).flatten(0, 1)
        sampled = every[torch.randperm(len(every), generator=generator)[:_SAMPLED]].double()
        whitening, centre = _zca(sampled, self.regularisation)
        drawn = (sampled[: self.patches] - centre) @ whitening
        filters = drawn / drawn.norm(dim=1, keepdim=True).clamp(min=1e-12)
        self.numbers["filters"] = (filters @ whitening.T).float()  # of patches as they are
        self.numbers["offset"] = (filters @ whitening.T @ centre).float()
        answers = self._answers(coarse)
        self.numbers["scale"] = answers.std((0, 2), keepdim=True).clamp(min=1e-6)
        self.numbers["spread"] = self._rectified(answers).std((0, 2), keepdim=True).clamp(min=1e-6)

    def _prepared(self, coarse: xr.Dataset) -> tuple[Tensor | None, Tensor]:
        activations = _SIZE * self._rectified(self._answers(coarse)) / self.numbers["spread"]
        framed = neighbourhoods(self, coarse, self.half_width)
        return torch.cat([framed, activations], dim=1), activations.mean(2)

    def _patches(self, coarse: xr.Dataset) -> Tensor:
        """Standardised fields in 3 x 3 cells around every cell (time, channel * 9, cell)."""
        standard = (self._blocks(coarse) - self.numbers["mean"]) / self.numbers["deviation"]
        return window(filled(standard), 1, periodic=self.domain.inputs.grid.periodic)

    def _answers(self, coarse: xr.Dataset) -> Tensor:
        return self.numbers["filters"] @ self._patches(coarse) - self.numbers["offset"][:, None]

    def _rectified(self, answers: Tensor) -> Tensor:
        scaled = answers / self.numbers["scale"]
        return torch.cat([(scaled - self.bias).relu(), (-scaled - self.bias).relu()], dim=1)

    def words(self) -> dict[str, Any]:
        return {"random filters": self.patches}


def _zca(patches: Tensor, regularisation: float) -> tuple[Tensor, Tensor]:
    """The whitening matrix that turns patches least, and their mean."""
    centre = patches.mean(0)
    covariance = (patches - centre).T @ (patches - centre) / max(1, len(patches) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag((values.clamp(min=0) + regularisation).rsqrt()) @ vectors.T, centre
