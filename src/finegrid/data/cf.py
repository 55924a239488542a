"""What a Dataset says of itself in a file: the attributes of CF-1.11."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any

import xarray as xr

from finegrid import __version__
from finegrid.conventions.axes import bounds_of, grid_mapping_of
from finegrid.conventions.credentials import without_credentials

CONVENTIONS = "CF-1.11"
# Attributes that this module writes itself, or that belong to the storage.
_OURS = ("coordinates", "grid_mapping", "bounds", "_FillValue", "missing_value")


def global_attributes(fields: xr.Dataset) -> dict[str, Any]:
    """The user's attributes, with our conventions and a line of history; without passwords of addresses in them."""
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} written by finegrid {__version__}"
    told = {key: without_credentials(each) if isinstance(each, str) else each for key, each in fields.attrs.items()}
    history = str(told.get("history", "")).strip()
    return {**told, "Conventions": CONVENTIONS, "history": f"{stamp}\n{history}".strip()}


def variable_attributes(fields: xr.Dataset, name: Hashable) -> dict[str, Any]:
    """Attributes of a variable in the file, with the links to its coordinates, bounds and grid mapping."""
    variable = fields[name]
    kept = {key: value for key, value in variable.attrs.items() if key not in _OURS and value is not None}
    if name in linked_bounds(fields):
        return {}  # CF: they are those of the coordinate
    if name in fields.coords:
        bounds = bounds_of(fields, str(name)) if variable.ndim else None
        return {**kept, "bounds": bounds} if bounds else kept
    mapping = grid_mapping_of(fields)
    named = variable.attrs.get("grid_mapping", variable.encoding.get("grid_mapping"))
    if mapping is not None and named is not None and name != mapping:
        kept["grid_mapping"] = str(named)
    others = [
        str(other) for other, coordinate in variable.coords.items() if _is_auxiliary(fields, other, coordinate, mapping)
    ]
    return {**kept, "coordinates": " ".join(sorted(others))} if others and name != mapping else kept


def linked_bounds(fields: xr.Dataset) -> set[str]:
    """Names of the variables that are bounds of a coordinate."""
    found = (bounds_of(fields, str(name)) for name, each in fields.coords.items() if each.ndim)
    return {name for name in found if name is not None}


def _is_auxiliary(fields: xr.Dataset, name: Hashable, coordinate: xr.DataArray, mapping: str | None) -> bool:
    return name not in fields.dims and name != mapping and name not in linked_bounds(fields)
