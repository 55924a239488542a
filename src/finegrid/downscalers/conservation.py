"""A constraint together with the grids, the training statistics and the zero of the units that it needs.

Constraints for quantities without negative values (multiplicative, softmax) act on temperatures in kelvin also where
the file has
degrees Celsius: the field is shifted there and back, and what rounding leaves of the violation is removed in the
file's own units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from finegrid.bridge import BlockMean
from finegrid.constraints import CONSTRAINTS, AddConstraint, Constraint, violation
from finegrid.conventions import InputError, unit_conversion
from finegrid.conventions.components import build
from finegrid.data.pairs import Pair
from finegrid.downscalers.domain import Domain

# Part of the usual size of a variable by which packed integers miss zero.
_PACKING = 1e-4


@dataclass(frozen=True, eq=False)
class Conservation:
    """What is done to every fine field before it leaves.

    Attributes:
        table: the constraint as the user named it.
        statistics: numbers of the training data, per output: scale (mean of |coarse|), low and high (extremes of fine).
        offsets: what is added to each output so that zero means nothing; not zero for degrees Celsius.
        constraint: the constraint.
        operator: the area-weighted mean over blocks.
    """

    table: str | Mapping[str, Any]
    statistics: Mapping[str, list[float]]
    offsets: tuple[float, ...]
    constraint: Constraint
    operator: BlockMean

    @classmethod
    def of(cls, table: str | Mapping[str, Any], matched: Pair, domain: Domain) -> Self:
        """The constraint for a training pair.

        Raises:
            InputError: when it needs values that are not negative and the pair has some.
        """
        offsets = tuple(_kelvin_offset(domain.inputs.units[name]) for name in domain.outputs)
        return cls._built(table, _statistics(matched, domain), offsets, domain)

    @classmethod
    def _built(
        cls,
        table: str | Mapping[str, Any],
        statistics: Mapping[str, list[float]],
        offsets: tuple[float, ...],
        domain: Domain,
    ) -> Self:
        name = table if isinstance(table, str) else str(table.get("name"))
        positive = getattr(CONSTRAINTS.get(name), "needs_positive", False)
        if positive:
            _check_positive(name, domain, _lowest(statistics, offsets))
            shifted = {
                "scale": [
                    s if not offset else s + offset for s, offset in zip(statistics["scale"], offsets, strict=True)
                ]
            }
        else:
            offsets, shifted = tuple(0.0 for _ in offsets), {}
        needed = getattr(CONSTRAINTS.get(name), "statistics", ())
        known = {key: {**statistics, **shifted}[key] for key in needed}
        return cls(table, statistics, offsets, build(table, CONSTRAINTS, "constraint", **known), _mean(domain))

    def project(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fine fields (..., output, H, W) that obey the constraint, for coarse values (..., output, h, w)."""
        if not any(self.offsets):
            return self.constraint.project(fine, coarse, self.operator)
        zero = torch.tensor(self.offsets, dtype=fine.dtype, device=fine.device).reshape(-1, 1, 1)
        shifted = self.constraint.project(fine + zero, coarse + zero, self.operator) - zero
        return AddConstraint().reproject(shifted, coarse, self.operator)

    def penalty(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """What a soft constraint adds to the loss, per sample."""
        value: Tensor = self.constraint.penalty(fine, coarse, self.operator)  # type: ignore[attr-defined]
        return value

    @property
    def has_penalty(self) -> bool:
        """Whether the constraint acts through the loss."""
        return hasattr(self.constraint, "penalty")

    @property
    def conserves(self) -> bool:
        """Whether fine fields reproduce the coarse ones to rounding."""
        return self.constraint.conserves

    def violation(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Largest relative error of conservation of each sample."""
        typical = torch.tensor(self.statistics["scale"], dtype=torch.float64).reshape(-1, 1, 1)
        return violation(fine, coarse, self.operator, typical=typical)

    def to(self, device: torch.device | str) -> Conservation:
        """The same on another device (modules move in place)."""
        self.operator.to(device)
        if isinstance(self.constraint, torch.nn.Module):
            self.constraint.to(device)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        table = self.table if isinstance(self.table, str) else dict(self.table)
        return {"table": table, "statistics": dict(self.statistics), "offsets": list(self.offsets)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], domain: Domain) -> Self:
        """The constraint that `to_dict` described."""
        return cls._built(values["table"], values["statistics"], tuple(values["offsets"]), domain)


def _mean(domain: Domain) -> BlockMean:
    return BlockMean(domain.grid.area, domain.factor, mask=domain.grid.mask)


def _statistics(matched: Pair, domain: Domain) -> dict[str, list[float]]:
    fine = [matched.fine[name].values for name in domain.outputs]
    coarse = [matched.coarse[name].values for name in domain.outputs]
    low, high = [float(np.nanmin(each)) for each in fine], [float(np.nanmax(each)) for each in fine]
    return {
        "scale": [float(np.nanmean(np.abs(each), dtype=np.float64)) or 1.0 for each in coarse],
        "low": low,
        "high": [top if top > bottom else bottom + 1.0 for bottom, top in zip(low, high, strict=True)],
    }


def _kelvin_offset(units: str) -> float:
    """273.15 for degrees Celsius, 0 for everything else."""
    try:
        scale, offset = unit_conversion(units, "K")
    except InputError:
        return 0.0
    return offset if scale == 1.0 else 0.0


def _lowest(statistics: Mapping[str, list[float]], offsets: tuple[float, ...]) -> list[float]:
    """Smallest values above the zero of the units; what packing leaves just below zero counts as zero."""
    found = zip(statistics["low"], statistics["scale"], offsets, strict=True)
    return [0.0 if -_PACKING * scale <= low + offset < 0 else low + offset for low, scale, offset in found]


def _check_positive(name: str, domain: Domain, lowest: list[float]) -> None:
    for variable, low in zip(domain.outputs, lowest, strict=True):
        if low < 0:
            raise InputError(
                f"the constraint '{name}' is for quantities without negative values, and '{variable}' goes down to "
                f"{low:g} {domain.inputs.units[variable]}; expected rain, humidity, radiation or a temperature; "
                "choose the "
                "constraint add or scaled-add"
            )
