"""The names, units, bounds and dimensions that every Dataset obeys, and the way back to the user's own."""

from finegrid.conventions.checks import check_times, check_values
from finegrid.conventions.errors import InputError
from finegrid.conventions.harmonise import harmonise
from finegrid.conventions.limits import natural_limits
from finegrid.conventions.names import Names
from finegrid.conventions.restore import restore
from finegrid.conventions.units import convert_units, step_seconds, unit_conversion
from finegrid.conventions.variables import find_variable

__all__ = [
    "InputError",
    "Names",
    "check_times",
    "check_values",
    "convert_units",
    "find_variable",
    "harmonise",
    "natural_limits",
    "restore",
    "step_seconds",
    "unit_conversion",
]
