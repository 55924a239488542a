"""What an adjustment has to know of a variable: added or multiplied, its natural limits, what a wet day is.

The threshold of a wet day is in mm/day and is converted to the units of the variable. Amounts (mm, m) are those of one
time step; a rain rate without units is taken to be in mm/day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, natural_limits, unit_conversion
from finegrid.conventions.variables import standard_name_of
from finegrid.data.adjustments.base import Values, bare_name
from finegrid.data.predictors import usual_step

KINDS = {"additive": "+", "multiplicative": "*"}
_PRECIPITATION = (
    "precipitation", "lwe_precipitation", "lwe_thickness_of_precipitation", "lwe_thickness_of_convective_precipitation",
    "lwe_thickness_of_stratiform_precipitation", "rainfall", "convective_precipitation", "stratiform_precipitation",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """How one variable is adjusted.

    Attributes:
        sign: "+" or "*".
        lowest: no adjusted value is below it; None for no limit.
        highest: and none above it.
        wet: value of a wet day, in the units of the variable; None where it is no precipitation.
    """

    sign: str
    lowest: float | None
    highest: float | None
    wet: float | None

    @classmethod
    def of(cls, field: xr.DataArray, kind: str | None, wet: float | None) -> Self:
        """The kind of a coarse field.

        Args:
            field: with the units of the fine field.
            kind: "additive", "multiplicative", or None for multiplicative where nature allows no negative values.
            wet: mm/day, None for none.
        """
        name = bare_name(field.name)
        low, high = natural_limits(name, field.attrs)
        limits = [float(each) if np.isfinite(each) else None for each in (low, high)]
        sign = KINDS[kind] if kind is not None else "*" if low == 0 else "+"
        rains = standard_name_of(name, field.attrs).startswith(_PRECIPITATION)
        return cls(sign, limits[0], limits[1], _in_units(wet, field) if rains and wet else None)

    @property
    def neutral(self) -> float:
        """The factor that changes nothing."""
        return 0.0 if self.sign == "+" else 1.0

    def applied(self, values: Values, factors: Values) -> Values:
        """Values with factors added or multiplied."""
        return values + factors if self.sign == "+" else values * factors

    def undone(self, values: Values, factors: Values) -> Values:
        """Values with factors subtracted or divided out."""
        return values - factors if self.sign == "+" else values / factors

    def limited(self, values: Values) -> Values:
        """Values within the natural limits; missing ones stay missing."""
        if self.lowest is None and self.highest is None:
            return values
        return np.clip(values, self.lowest, self.highest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The kind that `to_dict` described."""
        return cls(values["sign"], values["lowest"], values["highest"], values["wet"])


def check_kind(name: str, kind: str | None) -> None:
    """A kind is one of two words, or none.

    Raises:
        InputError: names them.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(
            f"the adjustment '{name}' got kind: {kind}; expected {' or '.join(KINDS)}, or null for the one that suits "
            "the variable"
        )


def _in_units(wet: float, field: xr.DataArray) -> float:
    units = str(field.attrs.get("units", "")) or "mm/day"
    return wet * unit_conversion("mm/day", units, interval_seconds=usual_step(field.time))[0]
