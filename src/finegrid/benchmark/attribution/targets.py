"""What is attributed: one number of a prediction.

    mean          sum_i w_i y_i,                                w_i areas of the fine cells of the target, of sum one
    exceedance    sum_i w_i sigmoid((y_i - threshold) / width)  the part of the target above a threshold, softened so
                                                                that it has a gradient

The cells of a target are the one nearest to a point, those with centres in a box of latitudes and longitudes, or all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.downscalers.domain import Domain
from finegrid.grids import Grid, cells
from finegrid.grids.geometry import EARTH_RADIUS, lonlat_of, unit_vectors

# Part of a variable's usual deviation over which an exceedance is softened.
_SOFT = 0.1
# A point lies in the domain when it is no farther from a centre than this part of the cell's own radius.
_TOUCH = 1.0001


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which number of a prediction, in the user's words.

    Args:
        variable: predicted variable; None is the first.
        at: latitude and longitude of a point.
        box: southern and northern latitude, western and eastern longitude; longitudes may run over the date line.
        above: threshold of an exceedance, in the units of the variable; None is the mean.
        width: over which the exceedance is softened; None is a tenth of the variable's usual deviation.
    """

    variable: str | None = None
    at: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    above: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if self.at is not None and self.box is not None:
            raise InputError("got a point and a box as target; expected one of them; leave --at or --box out")
        if self.width is not None and not self.width > 0:
            raise InputError(f"got width={self.width:g} of an exceedance; expected more than 0, in units of the field")

    def aim(self, domain: Domain, deviation: Callable[[str], float] = lambda name: 1.0) -> Aim:
        """The target on the cells of a downscaler.

        Args:
            domain: of the downscaler.
            deviation: usual deviation of a variable, by which an exceedance is softened.

        Raises:
            InputError: on a variable that it does not predict, and places outside of the domain.
        """
        name = self._variable(domain)
        chosen = self._cells(domain.grid) & (True if domain.grid.mask is None else domain.grid.mask)
        if not chosen.any():
            raise InputError(
                f"got a target ({self._place()}) without a fine cell that has values; expected a place within the "
                f"domain, {_extent(domain.grid)}; change --at or --box"
            )
        weights = np.where(chosen, domain.grid.area, 0.0)
        latitude, longitude = _middle(domain.grid, weights)
        return Aim(
            variable=name,
            output=domain.outputs.index(name),
            weights=torch.from_numpy(weights / weights.sum()),
            threshold=self.above,
            width=self.width or _SOFT * deviation(name),
            units="1" if self.above is not None else domain.inputs.units[name],
            words=f"{self._what(name, domain.inputs.units[name])} {self._place()}",
            latitude=latitude,
            longitude=longitude,
            box=self.box,
        )

    def _variable(self, domain: Domain) -> str:
        if self.variable is None:
            return domain.outputs[0]
        if self.variable not in domain.outputs:
            raise InputError(
                f"got the target '{self.variable}'; expected one of the predicted variables, "
                f"{', '.join(domain.outputs)}; change --target.{nearest(self.variable, domain.outputs)}"
            )
        return self.variable

    def _cells(self, grid: Grid) -> NDArray[np.bool_]:
        if self.at is not None:
            return _nearest(grid, *self.at)
        if self.box is not None:
            return _within(grid, *self.box)
        return np.ones(grid.shape, dtype=bool)

    def _what(self, name: str, units: str) -> str:
        if self.above is None:
            return f"mean of {name}"
        return f"part with {name} above {self.above:g} {units}".strip()

    def _place(self) -> str:
        if self.at is not None:
            return f"at {self.at[0]:g}, {self.at[1]:g}"
        if self.box is not None:
            south, north, west, east = self.box
            return f"over latitudes {south:g} to {north:g}, longitudes {west:g} to {east:g}"
        return "over the domain"


@dataclass(frozen=True, eq=False)
class Aim:
    """A target on fine cells.

    Attributes:
        variable: predicted variable.
        output: its channel.
        weights: of the fine cells (H, W), of sum one.
        threshold: of an exceedance; None for the mean.
        width: over which it is softened.
        units: of the number.
        words: what it is.
        latitude: of the middle of the target.
        longitude: likewise.
        box: southern and northern latitude, western and eastern longitude; None where it is none.
    """

    variable: str
    output: int
    weights: Tensor
    threshold: float | None
    width: float
    units: str
    words: str
    latitude: float
    longitude: float
    box: tuple[float, float, float, float] | None = None

    def __call__(self, fine: Tensor) -> Tensor:
        """The number (batch,) of fine fields (batch, output, H, W), over cells that are not missing."""
        field = fine[:, self.output].double()
        known = torch.isfinite(field.detach())
        weights = torch.where(known, self.weights.to(field), 0.0)
        values = torch.where(known, field, 0.0)
        if self.threshold is not None:
            values = torch.sigmoid((values - self.threshold) / self.width)
        total: Tensor = (weights * values).sum((-2, -1)) / weights.sum((-2, -1))
        return total


def _nearest(grid: Grid, latitude: float, longitude: float) -> NDArray[np.bool_]:
    point = unit_vectors(np.array([longitude, latitude], dtype=np.float64))
    away = np.linalg.norm(cells.middles(grid) - point, axis=-1)
    best = int(away.argmin())
    if away[best] > _TOUCH * cells.radii(grid)[best]:
        kilometres = EARTH_RADIUS / 1000 * 2 * np.arcsin(min(away[best] / 2, 1.0))
        raise InputError(
            f"got the point {latitude:g}, {longitude:g}, {kilometres:.0f} km away from the nearest fine cell; expected "
            f"latitude and longitude of a point within the domain, {_extent(grid)}; change --at"
        )
    chosen = np.zeros(grid.size, dtype=bool)
    chosen[best] = True
    return chosen.reshape(grid.shape)


def _within(grid: Grid, south: float, north: float, west: float, east: float) -> NDArray[np.bool_]:
    if not south < north or not west < east:
        raise InputError(
            f"got the box {south:g}, {north:g}, {west:g}, {east:g}; expected southern and northern latitude, then "
            "western and eastern longitude, each smaller first (350, 370 over the meridian of Greenwich); change --box"
        )
    latitude, longitude = grid.centres
    return np.asarray((latitude >= south) & (latitude <= north) & ((longitude - west) % 360 <= east - west))


def _middle(grid: Grid, weights: NDArray[np.float64]) -> tuple[float, float]:
    """Latitude and longitude of the centre of gravity."""
    longitude, latitude = lonlat_of(weights.ravel() @ cells.middles(grid))
    return float(latitude), float(longitude)


def _extent(grid: Grid) -> str:
    latitude, longitude = grid.centres
    return (
        f"latitudes {latitude.min():.4g} to {latitude.max():.4g}, longitudes {longitude.min():.4g} to "
        f"{longitude.max():.4g}"
    )
