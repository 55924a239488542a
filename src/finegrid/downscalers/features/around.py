"""The large-scale situation: all coarse cells in and around the fine domain, or their principal components.

Every cell of every field is standardised with its own mean and deviation over the training times. Components are those
of all fields together, in units of their own deviation, as many as explain the wanted part of the variance or as
cross-validation chooses (Huth, J. Climate 12, 1999: fields together, not one by one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError, natural_limits
from finegrid.data.surroundings import wide_name
from finegrid.downscalers.features.base import Features, moments
from finegrid.downscalers.features.window import neighbourhoods

# Of values relative to their usual size; a twentieth of it is what counts as nearly nothing.
_SHAPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "value": lambda values: values,
    "sqrt": lambda values: values.clamp(min=0.0).sqrt(),
    "log": lambda values: torch.log(values.clamp(min=0.0) + 0.05),
}


@dataclass(kw_only=True)
class Around(Features):
    """All cells of all fields around, the same for every fine cell.

    Args:
        shapes: how what cannot be negative is seen: "value", "sqrt" or "log", or several of them.
    """

    name: ClassVar[str] = "around"
    looks_around: ClassVar[bool] = True
    shapes: Sequence[str] = ("value",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shapes or not set(self.shapes) <= set(_SHAPES):
            raise InputError(f"got shapes: {self.shapes}; expected some of {', '.join(_SHAPES)}; set features.shapes")

    def _fit(self, coarse: xr.Dataset) -> None:
        self._fit_climatology(coarse)

    def _fit_climatology(self, coarse: xr.Dataset) -> None:
        usual = torch.nanmean(torch.stack([each.abs() for each in self._around(coarse).unbind(1)]), dim=(1, 2))
        self.numbers = {"usual": torch.where(usual > 0, usual, 1.0)}
        values = self._shaped(coarse)
        mean, deviation = moments(values, (0,))
        known = torch.isfinite(values).float().mean(0) > 0.5
        if not known.any():
            raise InputError("got no coarse value around the fine domain that is known at half of the times or more")
        self.numbers |= {"around/mean": mean, "around/deviation": deviation, "around/used": torch.nonzero(known)[:, 0]}

    def _standard(self, coarse: xr.Dataset) -> Tensor:
        """Standardised values of all cells that are usually known, all frames (time, predictor), without holes."""
        mean, deviation, used = (self.numbers[f"around/{key}"] for key in ("mean", "deviation", "used"))
        standard = (self._shaped(coarse) - mean) / deviation
        values = torch.full_like(standard, torch.nan)
        values[:, used] = standard[:, used]
        grid = self.domain.inputs.wide or self.domain.inputs.grid
        framed = self._framed(values.reshape(len(values), -1, *grid.shape), coarse.time)
        return framed.reshape(len(values), len(self.frames), -1)[:, :, used].flatten(1)

    def _shaped(self, coarse: xr.Dataset) -> Tensor:
        """All fields beside each other, those that cannot be negative in every shape (time, predictor)."""
        parts = []
        for index, (name, field) in enumerate(zip(self.channels, self._around(coarse).unbind(1), strict=True)):
            attributes = {**coarse[wide_name(name)].attrs, "units": self.domain.inputs.units[name]}
            positive = natural_limits(name, attributes)[0] == 0.0
            relative = field / self.numbers["usual"][index]
            shapes = self.shapes if positive else ("value",)
            parts += [_SHAPES[each](relative) if positive else field for each in shapes]
        return torch.cat(parts, dim=1)

    def _prepared(self, coarse: xr.Dataset) -> tuple[Tensor | None, Tensor]:
        return None, self._standard(coarse)

    def words(self) -> dict[str, Any]:
        return {"predictors seen": f"{len(self.numbers['around/used']) * len(self.frames)} coarse values around"}


@dataclass(kw_only=True)
class Components(Around):
    """Principal components of all cells of all fields around.

    Args:
        counts: candidates for the number of components.
        variance: part of the variance that the components explain at most; further ones are left out.
        half_width: cells on either side of the own one whose fields on blocks are predictors too; None for none.
    """

    name: ClassVar[str] = "components"
    counts: Sequence[int] = (10, 20, 40, 80)
    variance: float = 0.999
    half_width: int | None = None

    def variants(self) -> Sequence[Features]:
        return [replace(self, counts=(each,)) for each in self.counts]

    def _fit(self, coarse: xr.Dataset) -> None:
        if not 0 < self.variance <= 1:
            raise InputError(f"got variance={self.variance:g}; expected a part between 0 and 1; set features.variance")
        self._fit_climatology(coarse)
        values = self._standard(coarse).double()
        self.numbers["patterns"] = _patterns(values, self.counts[0], self.variance).float()
        if self.half_width is not None:
            mean, deviation = moments(self._blocks(coarse), (0, 2, 3))
            self.numbers |= {"mean": mean, "deviation": deviation}

    def _prepared(self, coarse: xr.Dataset) -> tuple[Tensor | None, Tensor]:
        components = self._standard(coarse) @ self.numbers["patterns"]
        local = None if self.half_width is None else neighbourhoods(self, coarse, self.half_width)
        return local, components

    def words(self) -> dict[str, Any]:
        return {"principal components": self.numbers["patterns"].shape[1]}


def _patterns(values: Tensor, count: int, variance: float) -> Tensor:
    """Patterns (predictor, component) that turn standardised values into components of deviation one."""
    centred = values - values.mean(0)
    _, singular, right = torch.linalg.svd(centred, full_matrices=False)
    share = singular.square().cumsum(0) / singular.square().sum().clamp(min=1e-30)
    enough = int((share < variance).sum()) + 1
    kept = max(1, min(count, enough, int((singular > 1e-6 * singular[0]).sum())))
    scale = singular[:kept].clamp(min=1e-30) / max(1, len(values)) ** 0.5
    # One sign for each pattern, so that the same data give the same numbers on every machine.
    patterns = right[:kept]
    sign = torch.sign(patterns.gather(1, patterns.abs().argmax(1, keepdim=True)))
    signed: Tensor = (patterns * sign / scale[:, None]).T.contiguous()
    return signed
