"""Temperature, pressure, specific and relative humidity that agree at every cell, with air never above saturation.

    e_s(T) = 611.2 Pa exp(17.67 (T - 273.15) / (T - 29.65))              over water, T in K (Bolton 1980, eq. 10)
    e      = q p / (epsilon + (1 - epsilon) q),      epsilon = 0.622      vapour pressure of specific humidity q
    h      = e / e_s(T)                                                  relative humidity, 0..1

Temperature and pressure are conserved as by `add`. Of the two humidities one is conserved, between its bounds, and the
other follows from it: relative humidity is no extensive quantity, so that by default specific humidity is conserved,
0 <= q <= q_s(T, p), and relative humidity is what the three others say.

Source: Bolton, Mon. Weather Rev. 108, 1980, doi:10.1175/1520-0493(1980)108<1046:TCOEPT>2.0.CO;2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from finegrid.constraints.add import AddConstraint
from finegrid.constraints.base import Aggregation
from finegrid.constraints.bounded import BoundedConstraint
from finegrid.constraints.relation import Relation, checked, excess
from finegrid.conventions import InputError

_EPSILON = 0.622
_HUMIDITIES = {"hurs": 3, "huss": 2}


def saturation_pressure(temperature: Tensor) -> Tensor:
    """Vapour pressure in Pa of saturated air over water at temperatures in K."""
    return 611.2 * torch.exp(17.67 * (temperature - 273.15) / (temperature - 29.65))


def relative_humidity(temperature: Tensor, pressure: Tensor, specific: Tensor) -> Tensor:
    """Relative humidity (0..1) at temperatures in K, pressures in Pa and specific humidities in kg/kg."""
    vapour = specific * pressure / (_EPSILON + (1 - _EPSILON) * specific)
    return vapour / saturation_pressure(temperature)


def specific_humidity(temperature: Tensor, pressure: Tensor, relative: Tensor | float) -> Tensor:
    """Specific humidity in kg/kg at temperatures in K, pressures in Pa and relative humidities (0..1)."""
    vapour = relative * saturation_pressure(temperature)
    # Beyond its boiling point water is all vapour.
    vapour = torch.minimum(vapour, pressure)
    return _EPSILON * vapour / (pressure - (1 - _EPSILON) * vapour)


class HumidityConstraint(Relation):
    """Keeps temperature, pressure and the two humidities consistent.

    Args:
        variables: names of temperature, surface pressure, specific and relative humidity, in this order.
        derive: the humidity that follows from the others, "hurs" (relative) or "huss" (specific).
        standard: scale and offset of each variable's units to K, Pa, kg/kg and 1.
    """

    roles: ClassVar[tuple[str, ...]] = ("tas", "ps", "huss", "hurs")
    statistics: ClassVar[tuple[str, ...]] = ("standard",)
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        *,
        variables: Sequence[str],
        derive: str = "hurs",
        standard: Sequence[tuple[float, float]] = ((1.0, 0.0),) * 4,
    ) -> None:
        super().__init__()
        self.variables = checked("humidity", variables, least=4, most=4)
        if derive not in _HUMIDITIES:
            raise InputError(f"the constraint 'humidity' got derive: {derive}; expected hurs or huss")
        self.derived = (_HUMIDITIES[derive],)
        self._add, self._bounded = AddConstraint(), BoundedConstraint(low=0.0)
        scale, offset = zip(*standard, strict=True)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64).reshape(-1, 1, 1))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float64).reshape(-1, 1, 1))

    def project(self, fine: Tensor, coarse: Tensor, operator: Aggregation) -> Tensor:
        air: Tensor = self._add.project(fine[..., :2, :, :], coarse[..., :2, :, :], operator)
        temperature, pressure = self._standard(air[..., :1, :, :], 0), self._standard(air[..., 1:2, :, :], 1)
        if self.derived == (3,):
            most = self._own(specific_humidity(temperature, pressure, 1.0), 2).to(fine.dtype)
            specific = self._bounded.project(fine[..., 2:3, :, :], coarse[..., 2:3, :, :], operator, high=most)
            relative = relative_humidity(temperature, pressure, self._standard(specific, 2)).clamp(max=1.0)
            return torch.cat([air, specific, self._own(relative, 3).to(fine.dtype)], dim=-3)
        full = self._own(torch.ones_like(temperature), 3).to(fine.dtype)
        relative = self._bounded.project(fine[..., 3:, :, :], coarse[..., 3:, :, :], operator, high=full)
        specific = specific_humidity(temperature, pressure, self._standard(relative, 3))
        return torch.cat([air, self._own(specific, 2).to(fine.dtype), relative], dim=-3)

    def disorder(self, fine: Tensor, operator: Aggregation) -> Tensor:
        """How far relative humidity is from what the others say, or above saturation or below zero; 0..1, (...,)."""
        values = [self._standard(fine[..., index : index + 1, :, :], index) for index in range(4)]
        gap = (values[3] - relative_humidity(*values[:3])).abs()
        wrong = torch.cat([gap, values[3] - 1, -values[2]], dim=-3)
        return excess(wrong, torch.ones_like(gap), operator)

    def _standard(self, field: Tensor, index: int) -> Tensor:
        """A channel in K, Pa, kg/kg or 1, in double precision: exp is steep."""
        return self.scale[index] * field.double() + self.offset[index]

    def _own(self, field: Tensor, index: int) -> Tensor:
        return (field - self.offset[index]) / self.scale[index]
