"""Cell edges, areas on the sphere and coordinate reference systems.

Conservation is a statement about areas, so areas are worked out once, here, in closed form. Angles enter in
degrees, areas leave in m2 on a sphere of radius R = 6371 km.

    latitude-longitude   R2 * dlon * (sin(north) - sin(south)), the difference as 2 cos(mid) sin(half width),
                         so that narrow cells near the poles keep their digits
    any other cell       the two spherical triangles of its four corners; a triangle with unit vectors a, b, c
                         has tan(E / 2) = a . ((b - a) x (c - a)) / (1 + a.b + b.c + c.a)
                         (Van Oosterom and Strackee 1983; differences first, for cells of some metres)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from finegrid.conventions import InputError

Array = NDArray[np.float64]

EARTH_RADIUS = 6_371_000.0
"""Radius of the sphere on which areas are measured, in metres."""

# The outermost Gaussian latitude circle lies 0.27 spacings short of the pole once half a spacing is added;
# and its spacings differ by a percent; an even grid that ends short of the pole was cut there.
_POLE_GAP, _UNEVEN = 0.4, 1e-3


def edges_between(centres: Array) -> Array:
    """Edges half-way between centres; the two outer ones lie half a spacing beyond the outer centres."""
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = centres[0] - (middle[0] - centres[0]), centres[-1] + (centres[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


def clip_to_poles(edges: Array, *, closed: bool) -> Array:
    """Latitude edges within -90..90; `closed` (a global grid) fills the gap that a Gaussian grid leaves."""
    width = np.diff(edges)
    edges = np.clip(edges, -90.0, 90.0)
    if closed and np.ptp(width) > _UNEVEN * width.max():
        if 90.0 + edges[0] < _POLE_GAP * width[0]:
            edges[0] = -90.0
        if 90.0 - edges[-1] < _POLE_GAP * width[-1]:
            edges[-1] = 90.0
    return edges


def sine_difference(south: Array, north: Array) -> Array:
    """sin(north) - sin(south) of angles in degrees, without cancellation."""
    south, north = np.deg2rad(south), np.deg2rad(north)
    return np.asarray(2 * np.cos((north + south) / 2) * np.sin((north - south) / 2))


def length(lower: Array, upper: Array) -> Array:
    """Plain length of an interval: the measure of longitudes and of projected coordinates."""
    return upper - lower


def latlon_areas(y_edges: Array, x_edges: Array) -> Array:
    """Areas (ny, nx) in m2 of the cells between latitude and longitude edges in degrees."""
    heights = sine_difference(y_edges[:-1], y_edges[1:])
    return np.asarray(EARTH_RADIUS**2 * np.outer(heights, np.deg2rad(np.diff(x_edges))))


def unit_vectors(lonlat: Array) -> Array:
    """Unit vectors (..., 3) of points (..., 2) given as longitude, latitude in degrees."""
    longitude, latitude = np.deg2rad(lonlat[..., 0]), np.deg2rad(lonlat[..., 1])
    east, north = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)
    return np.stack([east, north, np.sin(latitude)], axis=-1)


def lonlat_of(vectors: Array) -> Array:
    """Longitude and latitude (..., 2) in degrees of vectors (..., 3) of any length; the inverse of `unit_vectors`."""
    east, north, up = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    angles = [np.arctan2(north, east), np.arctan2(up, np.hypot(east, north))]
    return np.asarray(np.rad2deg(np.stack(angles, axis=-1)))


def normalised(vectors: Array) -> Array:
    """Vectors (..., 3) made of length one."""
    return np.asarray(vectors / np.sqrt(_dot(vectors, vectors))[..., None])


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("...i,...i->...", a, b))


def _triangle_areas(a: Array, b: Array, c: Array) -> Array:
    volume = _dot(a, np.cross(b - a, c - a))
    return np.asarray(2 * np.arctan2(volume, 1 + _dot(a, b) + _dot(b, c) + _dot(c, a)))


def polygon_areas(corners: Array) -> Array:
    """Areas (ny, nx) in m2 of the cells between corners (ny + 1, nx + 1, 2), sides being great circles."""
    return np.abs(signed_areas(corners))


def signed_areas(corners: Array) -> Array:
    """The same, positive where rows run to the left of columns (northward of eastward) and negative where mirrored."""
    points = unit_vectors(corners)
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    return EARTH_RADIUS**2 * (_triangle_areas(a, b, c) + _triangle_areas(a, c, d))


def crs_of(attributes: Mapping[str, Any]) -> str | None:
    """WKT of a CF grid mapping, None for plain latitude-longitude.

    Raises:
        InputError: when the attributes do not describe a reference system.
    """
    try:
        return _wkt(json.dumps({name: np.asarray(value).tolist() for name, value in attributes.items()}))
    except (pyproj.exceptions.ProjError, KeyError, ValueError) as error:
        raise InputError(
            f"got a grid mapping that cannot be understood: {dict(attributes)} ({error}); "
            "expected the attributes "
            "of a CF grid mapping (grid_mapping_name and its parameters, or crs_wkt); "
            "fix them with fields['crs'].attrs.update(...)"
        ) from error


@lru_cache(maxsize=64)
def _wkt(attributes: str) -> str | None:
    crs = pyproj.CRS.from_cf(json.loads(attributes))
    if crs.is_geographic and not crs.is_derived:
        return None
    # Read back once: what a file gives back later is then the same text, and the same digest of the grid.
    return str(pyproj.CRS.from_wkt(crs.to_wkt()).to_wkt())


@lru_cache(maxsize=64)
def grid_mapping(crs: str) -> Mapping[str, Any]:
    """Attributes of the CF grid mapping of a reference system; do not change them."""
    return dict(pyproj.CRS.from_wkt(crs).to_cf())


@lru_cache(maxsize=64)
def in_degrees(crs: str | None) -> bool:
    """Whether y and x are angles in degrees: plain or rotated latitude and longitude."""
    return crs is None or bool(pyproj.CRS.from_wkt(crs).is_geographic)


@lru_cache(maxsize=64)
def same_crs(first: str | None, second: str | None) -> bool:
    """Whether two reference systems are the same, however their text is written."""
    if first == second:
        return True
    if first is None or second is None:
        return False
    return bool(pyproj.CRS.from_wkt(first).equals(pyproj.CRS.from_wkt(second), ignore_axis_order=True))


@lru_cache(maxsize=64)
def _transformer(crs: str) -> pyproj.Transformer:
    # To the longitude and latitude of the grid's own datum: a shift to another datum would need correction
    # files that not every machine has, for some hundred metres.
    native = pyproj.CRS.from_wkt(crs)
    geographic = native.source_crs if native.is_derived else native.geodetic_crs
    return pyproj.Transformer.from_crs(native, geographic, always_xy=True)


def to_lonlat(crs: str | None, x: Array, y: Array) -> tuple[Array, Array]:
    """Longitude and latitude in degrees of points in a reference system."""
    if crs is None:
        return x, y
    longitude, latitude = _transformer(crs).transform(x, y)
    return np.asarray(longitude), np.asarray(latitude)


def from_lonlat(crs: str | None, longitude: Array, latitude: Array) -> tuple[Array, Array]:
    """X and y in a reference system of points given by longitude and latitude in degrees."""
    if crs is None:
        return longitude, latitude
    x, y = _transformer(crs).transform(longitude, latitude, direction="INVERSE")
    return np.asarray(x), np.asarray(y)
