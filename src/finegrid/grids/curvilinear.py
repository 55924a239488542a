"""Cells of grids that are rectangular in their indices only: corners from centres or from CF bounds.

Ocean models, WRF output without its projection and satellite swaths give latitude and longitude of every centre as
two-dimensional coordinates, and sometimes the four vertices of every cell. Everything is worked out on unit vectors,
so that neither the date line nor a pole inside a cell is special:

    inner corner    the mean of the four centres around it, brought back to the sphere
    outer corner    continued straight on from the inner ones, by half a cell
    vertices        whichever of their 24 orders lets neighbouring cells share vertices
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.grids import geometry
from finegrid.grids.geometry import Array

# Vertices that neighbours share may differ by this part of a cell: files keep them as float32.
_SHARED = 1e-2


def corners_between(latitude: Array, longitude: Array) -> Array:
    """Corners (ny + 1, nx + 1, 2), longitude and latitude in degrees, of cells around centres (ny, nx).

    Raises:
        InputError: when there are fewer than two rows or columns, or a centre is missing.
    """
    if min(latitude.shape) < 2:
        raise InputError(
            f"got {latitude.shape[0]} x {latitude.shape[1]} cells by their centres only; expected at least two rows "
            "and columns, or the vertices of the cells, to know how large they are; add lat_bnds and lon_bnds "
            "(y, x, 4) and name them in the attribute 'bounds' of lat and lon"
        )
    missing = ~(np.isfinite(latitude) & np.isfinite(longitude))
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise InputError(
            f"got {int(missing.sum())} cells without latitude or longitude (the first in row {row}, column {column}); "
            "expected coordinates of every cell, also where fields are missing: the corners of cells cannot be "
            "inferred without. Fill them from the grid file of the model, or give vertices (lat_bnds, lon_bnds)"
        )
    centres = geometry.unit_vectors(np.stack([longitude, latitude], axis=-1))
    wide = continued(centres, periodic=False)
    return geometry.lonlat_of(wide[:-1, :-1] + wide[:-1, 1:] + wide[1:, :-1] + wide[1:, 1:])


def corners_of_bounds(latitude: Array, longitude: Array) -> Array:
    """Corners (ny + 1, nx + 1, 2) of vertices (ny, nx, 4), in whichever order these run around the cells.

    Raises:
        InputError: when neighbouring cells do not share their vertices.
    """
    vertices = geometry.unit_vectors(np.stack([longitude, latitude], axis=-1))
    order = min(permutations(range(4)), key=lambda each: _mismatch(vertices[:, :, list(each)]))
    cells = vertices[:, :, list(order)]
    size = np.linalg.norm(cells[:, :, 0] - cells[:, :, 2], axis=-1)
    apart = _gaps(cells) > _SHARED * np.median(size)
    if apart.any():
        raise InputError(
            f"got vertices (lat_bnds, lon_bnds) with gaps or overlaps between {int(apart.sum())} pairs of neighbouring "
            "cells; expected cells that touch; drop the bounds to use corners between the centres: "
            "fields.drop_vars([...]) and del fields['lat'].attrs['bounds']"
        )
    return geometry.lonlat_of(_joined(cells))


def check_cells(corners: Array) -> None:
    """Cells must be simple quadrilaterals that all turn the same way.

    Raises:
        InputError: counts the cells that are folded, crossed or empty, and names the first.
    """
    areas = geometry.signed_areas(corners)
    turn = np.sign(np.median(areas))
    folded = ~(areas * turn > 1e-9 * np.abs(np.median(areas))) | _crossed(corners, turn)
    if not folded.any():
        return
    row, column = np.argwhere(folded)[0]
    longitude, latitude = corners[row, column]
    raise InputError(
        f"got {int(folded.sum())} cells that overlap their neighbours, cross themselves or have no area (the first in "
        f"row {row}, column {column}, near {latitude:.4g} N, {longitude:.4g} E); expected cells that lie side by "
        "side; correct the latitudes and longitudes, or leave out these rows and columns with fields.isel(...)"
    )


def block_centres(latitude: Array, longitude: Array, rows: int, columns: int) -> tuple[Array, Array]:
    """Latitude and longitude of the middles of blocks of cells."""
    points = geometry.unit_vectors(np.stack([longitude, latitude], axis=-1))
    ny, nx = latitude.shape[0] // rows, latitude.shape[1] // columns
    middles = geometry.lonlat_of(points.reshape(ny, rows, nx, columns, 3).sum(axis=(1, 3)))
    turns = np.round((longitude[::rows, ::columns] - middles[..., 0]) / 360.0)
    return middles[..., 1], middles[..., 0] + 360.0 * turns


def continued(points: Array, *, periodic: bool) -> Array:
    """Unit vectors (ny + 2, nx + 2, 3) with one more on every side: straight on, or columns around the globe."""
    tall = _continued(points)
    if periodic:
        return np.concatenate([tall[:, -1:], tall, tall[:, :1]], axis=1)
    return _continued(tall.swapaxes(0, 1)).swapaxes(0, 1)


def extended(lonlat: Array, rows: int, columns: int) -> Array:
    """Points (ny, nx, 2) of longitude and latitude with further rows and columns, straight on from the last two."""
    points = geometry.unit_vectors(lonlat)
    for axis, count in ((0, rows), (1, columns)):
        moved = np.moveaxis(points, axis, 0)
        step = moved[-1] - moved[-2] if len(moved) > 1 else np.zeros_like(moved[-1])
        further = [geometry.normalised(moved[-1] + number * step) for number in range(1, count + 1)]
        points = np.moveaxis(np.concatenate([moved, *(each[None] for each in further)]), 0, axis)
    found = geometry.lonlat_of(points)
    found[: lonlat.shape[0], : lonlat.shape[1]] = lonlat
    return found


def _continued(points: Array) -> Array:
    if len(points) < 2:
        return np.concatenate([points] * 3)
    first, last = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    return np.concatenate([geometry.normalised(first)[None], points, geometry.normalised(last)[None]])


def _gaps(cells: Array) -> Array:
    """Distance between the vertices that neighbours should share, in units of the sphere's radius."""
    across = [cells[:, :-1, 1] - cells[:, 1:, 0], cells[:, :-1, 2] - cells[:, 1:, 3]]
    along = [cells[:-1, :, 3] - cells[1:, :, 0], cells[:-1, :, 2] - cells[1:, :, 1]]
    return np.concatenate([np.linalg.norm(each, axis=-1).ravel() for each in (*across, *along)])


def _mismatch(cells: Array) -> float:
    gaps = _gaps(cells)
    return float(gaps.mean()) if gaps.size else 0.0


def _joined(cells: Array) -> Array:
    """Corners of cells whose vertices run lower left, lower right, upper right, upper left."""
    lower = np.concatenate([cells[:, :, 0], cells[:, -1:, 1]], axis=1)
    upper = np.concatenate([cells[-1:, :, 3], cells[-1:, -1:, 2]], axis=1)
    return np.concatenate([lower, upper])


def _crossed(corners: Array, turn: float) -> NDArray[np.bool_]:
    """Cells two of whose sides cross: then the corners do not all turn the same way."""
    points = geometry.unit_vectors(corners)
    ring = [points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]]
    wrong = np.zeros(ring[0].shape[:-1], dtype=np.int64)
    for index in range(4):
        before, here, after = ring[index - 1], ring[index], ring[(index + 1) % 4]
        sine = np.einsum("...i,...i->...", here, np.cross(here - before, after - here))
        length = np.linalg.norm(here - before, axis=-1) * np.linalg.norm(after - here, axis=-1)
        wrong += turn * sine < -1e-9 * length
    return wrong >= 2


def same_corners(first: Array, second: Array, area: Array) -> bool:
    """Whether corners are the same within 1e-6 of a cell of `area` m2, or the rounding of float32 degrees."""
    apart = np.linalg.norm(geometry.unit_vectors(first) - geometry.unit_vectors(second), axis=-1).max()
    cell = np.sqrt(float(np.median(area))) / geometry.EARTH_RADIUS
    rounding = 4 * float(np.finfo(np.float32).eps) * np.pi
    return bool(apart <= min(1e-6 * cell + rounding, 0.05 * cell))


def closes(corners: Array) -> bool:
    """Whether the last column of corners is the first one again, around the globe."""
    points = geometry.unit_vectors(corners)
    apart = np.linalg.norm(points[:, 0] - points[:, -1], axis=-1)
    width = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1)
    return bool(corners.shape[1] > 3 and (apart <= 0.05 * width + 1e-12).all())
