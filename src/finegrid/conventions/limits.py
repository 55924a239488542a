"""What nature allows: the lowest and the highest value of a quantity, in the units of the user.

Only limits that fields come near to count: no air is at 0 K, but much of it is dry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from finegrid.conventions.errors import InputError
from finegrid.conventions.units import unit_conversion
from finegrid.conventions.variables import standard_name_of

# CF standard names, or how they begin, with the units of the limits; the first that fits counts.
_LIMITS: tuple[tuple[str, str, float, float], ...] = (
    ("relative_humidity", "1", 0.0, 1.0),
    ("specific_humidity", "1", 0.0, 1.0),
    ("humidity_mixing_ratio", "1", 0.0, np.inf),
    ("cloud_area_fraction", "1", 0.0, 1.0),
    ("sea_ice_area_fraction", "1", 0.0, 1.0),
    ("land_area_fraction", "1", 0.0, 1.0),
    ("surface_albedo", "1", 0.0, 1.0),
    ("precipitation", "", 0.0, np.inf),
    ("lwe_precipitation", "", 0.0, np.inf),
    ("lwe_thickness_of", "", 0.0, np.inf),
    ("rainfall", "", 0.0, np.inf),
    ("snowfall", "", 0.0, np.inf),
    ("convective_precipitation", "", 0.0, np.inf),
    ("surface_snow", "", 0.0, np.inf),
    ("wind_speed", "", 0.0, np.inf),
    ("surface_downwelling", "", 0.0, np.inf),
    ("toa_incoming", "", 0.0, np.inf),
    ("mass_content_of_water", "", 0.0, np.inf),
)


def natural_limits(name: str, attributes: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest value of a variable, by its standard name or its usual name; infinite where there is none."""
    standard, units = standard_name_of(name, attributes), str(attributes.get("units", ""))
    for start, own, low, high in _LIMITS:
        if standard.startswith(start):
            return _converted(low, own, units), _converted(high, own, units)
    return -np.inf, np.inf


def _converted(limit: float, own: str, units: str) -> float:
    if not np.isfinite(limit) or not own or not units:
        return limit
    try:
        scale, offset = unit_conversion(own, units)
    except InputError:
        return limit
    return scale * limit + offset
