"""Attributions of many times together: where and what a model looks at, and how far from the target.

    signed     mean over times of a: what usually pushes the number up or down against the baseline
    size       mean over times of |a|: how much a cell matters, whichever way
    share      of a variable: sum of its sizes over cells / that of all variables
    distance   the same of the cells at a distance from the target, in rings about a cell wide

Neighbouring steps are added up: signed with their signs, sizes without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, harmonise
from finegrid.grids import Grid, cells
from finegrid.grids.geometry import EARTH_RADIUS, unit_vectors

_SEASONS = ("DJF", "MAM", "JJA", "SON")
LAG = "lag"


@dataclass(frozen=True, eq=False)
class Aggregate:
    """Attributions over times.

    Attributes:
        signed: mean maps (y, x) in the user's words.
        size: mean absolute maps.
        seasonal_signed: the same by season (season, y, x).
        seasonal_size: likewise.
        share: of each variable, in parts of one.
        distance: share (variable, distance) by distance from the target in km, the middle of each ring.
        grid: cells of the maps.
        times: number of times.
    """

    signed: xr.Dataset
    size: xr.Dataset
    seasonal_signed: xr.Dataset
    seasonal_size: xr.Dataset
    share: Mapping[str, float]
    distance: xr.DataArray
    grid: Grid
    times: int


def aggregate(attributions: xr.Dataset) -> Aggregate:
    """Maps over all times and by season, shares of variables and of distances.

    Args:
        attributions: what `attribute` gave, or several of them joined along time.

    Raises:
        InputError: when it is no such Dataset.
    """
    if "target_latitude" not in attributions.attrs:
        raise InputError(
            "got a Dataset without the attribute target_latitude; expected what attribution.attribute(...) or "
            "`finegrid attribute` made"
        )
    signed, size = _added(attributions), _added(abs(attributions))
    standard, names = harmonise(signed)
    time = names.coordinates["time"].dimension
    when = xr.DataArray(standard["time"].dt.season.values, dims=time, name="season")
    seasons = [season for season in _SEASONS if season in set(when.values.tolist())]
    grid = Grid.of(standard)
    planes = {str(name): field.mean("time").values for name, field in harmonise(size)[0].data_vars.items()}
    total = sum(float(np.nansum(plane)) for plane in planes.values())
    share = {name: float(np.nansum(plane)) / total if total else 0.0 for name, plane in planes.items()}
    return Aggregate(
        signed=signed.mean(time, keep_attrs=True),
        size=size.mean(time, keep_attrs=True),
        seasonal_signed=signed.groupby(when).mean(time).sel(season=seasons).assign_attrs(attributions.attrs),
        seasonal_size=size.groupby(when).mean(time).sel(season=seasons).assign_attrs(attributions.attrs),
        share=share,
        distance=_by_distance(planes, grid, attributions, total),
        grid=grid,
        times=signed.sizes[time],
    )


def _added(attributions: xr.Dataset) -> xr.Dataset:
    """The sum over neighbouring steps; missing where all are."""
    if LAG not in attributions.dims:
        return attributions
    return attributions.sum(LAG, min_count=1, keep_attrs=True)


def _by_distance(planes: Mapping[str, np.ndarray], grid: Grid, attributions: xr.Dataset, total: float) -> xr.DataArray:
    place = np.array([attributions.attrs["target_longitude"], attributions.attrs["target_latitude"]], dtype=np.float64)
    chord = np.linalg.norm(cells.middles(grid) - unit_vectors(place), axis=-1)
    away = EARTH_RADIUS / 1000 * 2 * np.arcsin(np.minimum(chord / 2, 1.0))
    width = float(np.sqrt(np.median(grid.area))) / 1000
    ring = np.floor(away / width).astype(int)
    sums = [np.bincount(ring, np.nan_to_num(plane).ravel(), ring.max() + 1) for plane in planes.values()]
    return xr.DataArray(
        np.stack(sums) / (total or 1.0),
        dims=("variable", "distance"),
        coords={
            "variable": list(planes),
            "distance": ("distance", (np.arange(ring.max() + 1) + 0.5) * width, {"units": "km"}),
        },
    )
