"""What nature allows: the lowest and the highest value of a quantity, in the units of the user.

Only limits that fields come near to count: no air is at 0 K, but much of it is dry. Where units are not stated or not
known, such as oktas, there is no upper limit: a relative humidity without units may well be in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from finegrid.conventions.errors import InputError
from finegrid.conventions.units import unit_conversion
from finegrid.conventions.variables import standard_name_of

# How CF standard names of quantities begin that are parts of a whole, 0..1.
_PARTS = (
    "relative_humidity",
    "specific_humidity",
    "cloud_area_fraction",
    "sea_ice_area_fraction",
    "land_area_fraction",
    "surface_albedo",
)
# And of those that are never negative.
_AMOUNTS = (
    "humidity_mixing_ratio",
    "precipitation",
    "lwe_precipitation",
    "lwe_thickness_of",
    "rainfall",
    "snowfall",
    "convective_precipitation",
    "surface_snow",
    "wind_speed",
    "surface_downwelling",
    "toa_incoming",
    "mass_content_of_water",
)


def natural_limits(name: str, attributes: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest value of a variable, by its standard name or its usual name; infinite where there is none."""
    standard, units = standard_name_of(name, attributes), str(attributes.get("units", ""))
    if standard.startswith(_PARTS):
        return 0.0, _whole(units)
    return (0.0 if standard.startswith(_AMOUNTS) else -np.inf), np.inf


def _whole(units: str) -> float:
    """What 1 is in these units; infinite where these do not say."""
    if not units:
        return np.inf
    try:
        return unit_conversion("1", units)[0]
    except InputError:
        return np.inf
