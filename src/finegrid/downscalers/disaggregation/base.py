"""What the methods of spatial disaggregation share: interpolation of tensors, the kind of each variable, its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.downscalers.base import Downscaler
from finegrid.downscalers.disaggregation.anomalies import DRY
from finegrid.downscalers.disaggregation.seasons import Seasons, check_by
from finegrid.grids import OPERATORS, Operator

INTERPOLATIONS = ("bicubic", "bilinear")
KINDS = ("natural", "additive", "ratio")


@dataclass(kw_only=True)
class Disaggregation(Downscaler):
    """Options that all methods of spatial disaggregation share.

    Args:
        interpolation: "bicubic" or "bilinear", between the centres of coarse cells.
        by: groups of times with a climatology of their own: "month", "season", "day-of-year" or "all".
    """

    interpolation: str = "bicubic"
    by: str = "month"
    _operator: Operator | None = field(default=None, init=False, repr=False)
    _seasons: Seasons | None = field(default=None, init=False, repr=False)

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_by(self.by, self.name)
        check_word(self.interpolation, INTERPOLATIONS, "interpolation", self.name)

    def _notes(self) -> list[str]:
        """What a person should know of the fit, in sentences."""
        return []

    def _notes_on(self, coarse: xr.Dataset) -> list[str]:
        """What a person should know of a prediction from these coarse fields, in sentences."""
        time = self.read(coarse).time
        strange = 0 if self._seasons is None else int((~self._seasons.known(time)).sum())
        if not strange or self._seasons is None:
            return []
        return [
            f"{strange} of {len(time)} times are in {self._seasons.strangers(time)}, of which the training period has "
            "none or few; there the climatology of all training times is used"
        ]

    def _interpolated(self, values: Tensor) -> Tensor:
        """Values (time, output, h, w) at fine centres (time, output, H, W), in float64; gaps take no part."""
        if self._operator is None:
            self._operator = OPERATORS[self.interpolation](self.domain.inputs.grid, self.domain.grid.masked(None))
        flat = values.numpy().reshape(-1, self._operator.source.size)
        fine = self._operator.weights.times(flat, 0.0)
        return torch.from_numpy(fine).reshape(*values.shape[:2], *self.domain.grid.shape)

    def _values(self, coarse: xr.Dataset) -> Tensor:
        """Coarse fields (time, output, h, w) within the limits of nature: packed integers may miss zero by a hair."""
        return self._limited(to_tensor(coarse, self.domain.outputs))

    def _limited(self, values: Tensor) -> Tensor:
        limits = torch.tensor(list(map(self.domain.limits, self.domain.outputs)), dtype=values.dtype)[:, :, None, None]
        return torch.minimum(torch.maximum(values, limits[:, 0]), limits[:, 1])

    def _ratios(self, kind: str, matched: Pair) -> Tensor:
        """Which outputs are ratios (output,): those that cannot be negative, all or none.

        Raises:
            InputError: when one has negative values and is to be a ratio.
        """
        check_word(kind, KINDS, "kind", self.name)
        chosen = [
            kind == "ratio" or (kind == "natural" and self.domain.limits(each)[0] == 0) for each in matched.variables
        ]
        for name, is_ratio in zip(matched.variables, chosen, strict=True):
            if is_ratio:
                self._check_positive(name, matched)
        return torch.tensor(chosen)

    def _check_positive(self, name: str, matched: Pair) -> None:
        for fields in (matched.coarse, matched.fine):
            values = fields[name].values
            lowest, size = float(np.nanmin(values)), float(np.nanmean(np.abs(values), dtype=np.float64))
            if lowest < -DRY * size:
                raise InputError(
                    f"the method '{self.name}' takes ratios of '{name}', which goes down to {lowest:g} "
                    f"{self.domain.inputs.units[name]}; expected a quantity without negative values, such as rain; "
                    "give temperatures in K, or choose kind: additive, the method delta or lapse-rate"
                )

    def _block_means(self, matched: Pair) -> Tensor:
        """Area-weighted means of the fine fields over coarse cells (time, output, h, w), NaN where none is known."""
        mean = Operator.conservative(matched.grid, matched.inputs.grid)
        return self._limited(to_tensor(mean(matched.fine), self.domain.outputs))


def paired(coarse: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse values and goals of the same times: NaN where no fine value of the cell is known.

    Cells in which no fine value is ever known, at sea perhaps, have their own values as goals: their anomalies still
    help to interpolate.
    """
    goals = torch.where(torch.isfinite(means).any(0), means, coarse)
    return torch.where(torch.isfinite(goals), coarse, torch.nan), goals


def check_word(word: str, valid: tuple[str, ...], option: str, method: str) -> None:
    """An option has one of the valid words.

    Raises:
        InputError: lists the words.
    """
    if word not in valid:
        raise InputError(
            f"the method '{method}' got {option}: {word}; expected one of {', '.join(valid)}; "
            f"change downscaler.{option}"
        )
