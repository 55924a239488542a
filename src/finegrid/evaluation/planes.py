"""The plane in which maps of a domain are drawn: its own coordinates, or an equal-area one where it has none.

Latitude-longitude, rotated and projected domains are drawn as they are computed. A curvilinear domain is drawn in
Lambert's azimuthal equal-area plane around its middle, in kilometres. Fields on other grids, such as the coarse field
on cells of its own, are drawn into the same plane by the corners of their cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finegrid.evaluation.averaging import Array
from finegrid.grids import Grid, cells
from finegrid.grids.geometry import EARTH_RADIUS, from_lonlat, unit_vectors
from finegrid.grids.tiling import cap, drawn


@dataclass(frozen=True)
class Plane:
    """Coordinates of a map.

    Attributes:
        domain: the grid that the map shows.
    """

    domain: Grid

    def mesh(self, grid: Grid) -> tuple[Array, Array]:
        """X and y of the sides of cells: edges where the grid shares the plane's coordinates, else corners."""
        if grid.aligned(self.domain):
            return grid.x_edges, grid.y_edges
        corners = self.points(grid.corners.reshape(-1, 2)).reshape(*grid.corners.shape)
        return corners[..., 0], corners[..., 1]

    def points(self, lonlat: Array) -> Array:
        """Points (n, 2) given by longitude and latitude in degrees; not finite where the plane does not show them."""
        if self.domain.is_curvilinear:
            vectors = unit_vectors(lonlat)
            found = EARTH_RADIUS * drawn(vectors, self._centre)
            return np.where((vectors @ self._centre > 0)[:, None], found, np.nan)
        longitude = lonlat[:, 0]
        if self.domain.is_latlon:
            middle = (self.domain.x_edges[0] + self.domain.x_edges[-1]) / 2
            longitude = longitude - 360.0 * np.round((longitude - middle) / 360.0)
        return np.stack(from_lonlat(self.domain.crs, longitude, lonlat[:, 1]), axis=-1)

    @cached_property
    def limits(self) -> tuple[float, float, float, float]:
        """Lowest and highest x, lowest and highest y of the domain."""
        x, y = self.own_mesh
        return float(x.min()), float(x.max()), float(y.min()), float(y.max())

    @cached_property
    def own_mesh(self) -> tuple[Array, Array]:
        """Sides of the domain's own cells."""
        if not self.domain.is_curvilinear:
            return self.domain.x_edges, self.domain.y_edges
        corners = self.points(self.domain.corners.reshape(-1, 2)).reshape(*self.domain.corners.shape)
        return corners[..., 0], corners[..., 1]

    @property
    def centres(self) -> tuple[Array, Array]:
        """X and y of the domain's cell centres, for contours."""
        if not self.domain.is_curvilinear:
            return self.domain.x, self.domain.y
        latitude, longitude = self.domain.centres
        points = self.points(np.stack([longitude.ravel(), latitude.ravel()], axis=-1))
        return points[:, 0].reshape(latitude.shape), points[:, 1].reshape(latitude.shape)

    @property
    def stretch(self) -> float:
        """Height of a unit of y over the width of a unit of x: a degree of longitude shrinks towards the poles."""
        if not self.domain.in_degrees:
            return 1.0
        middle = float(np.deg2rad((self.domain.y_edges[0] + self.domain.y_edges[-1]) / 2))
        return float(1 / max(np.cos(middle), 0.2))

    @property
    def height_over_width(self) -> float:
        """Shape of the map."""
        west, east, south, north = self.limits
        return float(np.clip((north - south) * self.stretch / (east - west), 0.3, 1.6))

    @cached_property
    def _centre(self) -> Array:
        middles = cells.middles(self.domain)
        return cap(middles, np.zeros(len(middles)))[0]
