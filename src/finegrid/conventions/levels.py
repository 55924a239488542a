"""A vertical dimension as variables: `ta` on 850 hPa is the field `ta@850`, and back.

Pressure is labelled in hPa whatever its units, so that `ta@850` means the same in every archive; other levels
are labelled by their own numbers.
"""

from __future__ import annotations

import xarray as xr

from finegrid.conventions.errors import InputError
from finegrid.conventions.names import Levels, attributes, plain
from finegrid.conventions.units import unit_conversion


def split(fields: xr.Dataset, level: str | None) -> tuple[xr.Dataset, Levels | None]:
    """One variable per level for every variable that has the dimension of the coordinate `level`."""
    if level is None:
        return fields, None
    dimension = str(fields[level].dims[0])
    values = fields[level].values
    levels = Levels(
        name=level,
        labels=tuple(f"{value:g}" for value in values * _hectopascals(fields[level])),
        values=tuple(plain(values)),
        dtype=str(values.dtype),
        attributes=plain(fields[level].attrs),
    )
    parts: dict[str, xr.DataArray] = {}
    for name, field in fields.data_vars.items():
        if dimension not in field.dims:
            parts[str(name)] = field
            continue
        for index, label in enumerate(levels.labels):
            parts[f"{name}@{label}"] = field.isel({dimension: index}, drop=True)
    rest = fields.drop_vars(list(fields.data_vars)).drop_dims(dimension)
    return rest.assign(parts), levels


def join(fields: xr.Dataset, levels: Levels | None) -> xr.Dataset:
    """Stack `ta@850`, `ta@500`, ... of all levels to `ta` again; variables that lack a level stay."""
    if levels is None:
        return fields
    coordinate = xr.Variable(levels.name, list(levels.values), attributes(levels.attributes)).astype(levels.dtype)
    for base in dict.fromkeys(str(name).partition("@")[0] for name in fields.data_vars if "@" in str(name)):
        parts = [f"{base}@{label}" for label in levels.labels]
        if all(part in fields.data_vars for part in parts):
            stacked = xr.concat([fields[part] for part in parts], dim=levels.name, combine_attrs="override")
            joined = stacked.rename(base).assign_coords({levels.name: coordinate})
            fields = fields.drop_vars(parts).assign({base: joined})
    return fields


def _hectopascals(level: xr.DataArray) -> float:
    """What turns the values into the numbers of the labels."""
    try:
        scale, _ = unit_conversion(str(level.attrs["units"]), "hPa")
    except (KeyError, InputError):
        return 1.0
    return scale
