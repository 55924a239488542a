"""Square pieces of several regions as one record: how a method learns from some places and is judged at others.

A downscaler is fitted on one domain and a record of times. Frames of any region are cut into patches of one size, and
the patches of all regions are put one after the other on a nominal plane (a cell is a cell, whatever its region: equal
areas) and on nominal days. Fits, predictions, splits by periods and scores then work as on any other record:

    day(k) = 1 January of the part's first year + k days,      every part (region, event) begins a year of its own

Patches of a part are in the order of their place (row by row from the lower edge) and within a place in the order of
time, so that consecutive days are the same place minutes apart, then its neighbour: blocks of a bootstrap over time
keep together what belongs together. Nominal days mean nothing: methods must not see a season or an hour in them
(`cycles: []`), and no method that learns a place (a mean map, a position embedding) makes sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError, harmonise

Values = NDArray[Any]

FIRST_YEAR = 2001
# Equal areas about the middle of the plane, on the sphere of `grids`.
_PLANE: Mapping[str, str | float] = {
    "grid_mapping_name": "lambert_azimuthal_equal_area",
    "latitude_of_projection_origin": 0.0,
    "longitude_of_projection_origin": 0.0,
    "false_easting": 0.0,
    "false_northing": 0.0,
    "earth_radius": 6_371_000.0,
}
# What is not true any more of a field that was cut out and moved.
_OF_THE_PLACE = ("grid_mapping", "coordinates")


@dataclass(frozen=True, eq=False)
class Record:
    """Patches of several parts one after the other.

    Attributes:
        fields: (time, y, x) on the nominal plane, y and x in kilometres, in memory.
        periods: years of each part, as "2003" or "2003/2004".
    """

    fields: xr.Dataset
    periods: Mapping[str, str]

    def span(self, *names: str) -> str:
        """The period of consecutive parts, as `split_times` reads it.

        Raises:
            InputError: when there is no part of that name.
        """
        for name in names:
            if name not in self.periods:
                raise InputError(f"got the part '{name}'; expected one of {', '.join(self.periods)}; change the name")
        years = sorted(year for name in names for year in self.periods[name].split("/"))
        return years[0] if years[0] == years[-1] else f"{years[0]}/{years[-1]}"


def cut(fields: xr.Dataset, size: int | tuple[int, int], *, every: int = 1) -> xr.Dataset:
    """Patches (patch, y, x) of fields (time, y, x), place by place, in memory.

    Args:
        fields: fields in any names that harmonise understands.
        size: cells of a patch (along y, along x), or one number for both. The last rows and columns that fill no patch
            are left out.
        every: keep every so many-th time.

    Returns:
        The fields with the coordinates `row` and `column` (which patch, counted from the lowest y and x) and `moment`
        (the time) along `patch`; without places and without grid mapping.

    Raises:
        InputError: when a patch is larger than the fields, or a number is below 1.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(rows, columns, every) < 1:
        raise InputError(f"got patches of {rows} x {columns} cells, every {every}. time; expected at least 1 of each")
    standard = harmonise(fields)[0].isel(time=slice(None, None, every))
    down, across, times = standard.sizes["y"] // rows, standard.sizes["x"] // columns, standard.sizes["time"]
    if not down or not across:
        raise InputError(
            f"got patches of {rows} x {columns} cells for fields of {standard.sizes['y']} x {standard.sizes['x']}; "
            "expected patches that are no larger; set a smaller size"
        )
    row, column, time = (each.ravel() for each in np.indices((down, across, times)))
    pieces = {
        str(name): (("patch", "y", "x"), _pieces(field.transpose("time", "y", "x").values, rows, columns), _kept(field))
        for name, field in standard.data_vars.items()
        if {"time", "y", "x"} == set(field.dims)
    }
    moments = standard.time.values[time]
    places = {"row": ("patch", row), "column": ("patch", column), "moment": ("patch", moments)}
    return xr.Dataset(pieces, coords=places, attrs=dict(fields.attrs))


def useful(patches: xr.Dataset, *, above: float | None = None) -> xr.Dataset:
    """The patches without missing cells and, with `above`, with a value above it in some variable.

    Of fields that are mostly nothing (rain), patches with nothing in them teach nothing and flatter every score.
    """
    whole, eventful = (np.full(patches.sizes["patch"], full) for full in (True, above is None))
    for field in patches.data_vars.values():
        values = field.values
        whole &= np.isfinite(values).all(axis=(1, 2))
        if above is not None:
            eventful |= (values > above).any(axis=(1, 2))
    return patches.isel(patch=np.flatnonzero(whole & eventful))


def stacked(parts: Mapping[str, xr.Dataset], *, cell: float = 1.0) -> Record:
    """Patches of several parts as one record on nominal days.

    Args:
        parts: patches by name of the part, of one size and with the same variables, in the order of the record.
        cell: side of a fine cell on the nominal plane in kilometres.

    Raises:
        InputError: when a part has no patches, or sizes or variables differ.
    """
    _check(parts)
    periods, days = _nominal(parts)
    first = next(iter(parts.values()))
    bare = [part.drop_vars([str(name) for name in part.coords]) for part in parts.values()]
    joined = xr.concat(bare, dim="patch", combine_attrs="drop_conflicts").rename(patch="time")
    axes = {axis: (axis, _centres(first.sizes[axis], cell), _axis(axis)) for axis in ("y", "x")}
    fields = joined.assign_coords({"time": ("time", days), **axes, "crs": ((), np.int32(0), dict(_PLANE))})
    for name in first.data_vars:
        fields[name].attrs = {**first[name].attrs, "grid_mapping": "crs"}
    return Record(fields, periods)


def _pieces(values: Values, rows: int, columns: int) -> Values:
    """Pieces (place * time, row, column) of fields (time, y, x)."""
    times, down, across = len(values), values.shape[1] // rows, values.shape[2] // columns
    whole = values[:, : down * rows, : across * columns]
    split = whole.reshape(times, down, rows, across, columns).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(split.reshape(-1, rows, columns))


def _kept(field: xr.DataArray) -> dict[str, Any]:
    return {str(key): each for key, each in field.attrs.items() if key not in _OF_THE_PLACE}


def _check(parts: Mapping[str, xr.Dataset]) -> None:
    if not parts:
        raise InputError("got no parts; expected patches of at least one region; give some")
    first = next(iter(parts))
    for name, part in parts.items():
        if not part.sizes["patch"]:
            raise InputError(f"got no patch of '{name}' that can be used; expected at least one; leave the part out")
        theirs, ours = _shape(part), _shape(parts[first])
        if theirs != ours:
            raise InputError(
                f"got patches {theirs} of '{name}' beside {ours} of '{first}'; expected one size and the same "
                "variables; cut all parts alike"
            )


def _shape(part: xr.Dataset) -> str:
    return f"{part.sizes['y']} x {part.sizes['x']} of {', '.join(sorted(map(str, part.data_vars)))}"


def _nominal(parts: Mapping[str, xr.Dataset]) -> tuple[dict[str, str], NDArray[np.datetime64]]:
    """Years of each part and the days of all patches."""
    year, periods, days = FIRST_YEAR, {}, []
    for name, part in parts.items():
        start = np.datetime64(f"{year}-01-01", "D")
        own = start + np.arange(part.sizes["patch"])
        last = int(str(own[-1])[:4])
        periods[name] = str(year) if last == year else f"{year}/{last}"
        days.append(own)
        year = last + 1
    return periods, np.concatenate(days).astype("datetime64[ns]")


def _centres(count: int, cell: float) -> NDArray[np.float64]:
    return np.asarray((np.arange(count) + 0.5 - count / 2) * cell, dtype=np.float64)


def _axis(axis: str) -> dict[str, str]:
    return {"standard_name": f"projection_{axis}_coordinate", "units": "km", "axis": axis.upper()}
