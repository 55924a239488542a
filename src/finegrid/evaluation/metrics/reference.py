"""What has to be known about the truth as a whole before any block of it can be scored.

One pass over the truth (and the coarse field) finds its range, where it is ever known, and the largest
rectangle of cells that is complete at all times: the spectrum needs complete fields, and filling gaps would
invent variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.data.matching import COVERED
from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.magnitudes import Magnitudes
from finegrid.grids import Grid, Operator

_TIMES_AT_ONCE = 256
EXCEEDED = 1e-3
"""Part of the values that exceed the percentile by which extremes are judged."""
EVENT = 0.95
"""Chance of the quantile of the truth above which there is an event, unless a threshold is given."""
# Values of the truth, evenly spread, of which quantiles are taken.
_SAMPLED = 1 << 20

# Beginnings of CF standard names of quantities that cannot be negative, and units that say the same.
_POSITIVE_NAMES = (
    "precipitation",
    "rainfall",
    "snowfall",
    "specific_humidity",
    "relative_humidity",
    "wind_speed",
)
_POSITIVE_WORDS = ("radiative_flux_in_air", "shortwave_flux", "longwave_flux", "mass_fraction", "humidity")
_POSITIVE_UNITS = ("mm/h", "mm h-1", "mm/hr", "mm/day", "mm d-1", "mm day-1", "kg m-2 s-1", "kg kg-1", "%")
_TEMPERATURE_UNITS = ("K", "kelvin", "degC", "degree_Celsius", "degrees_celsius", "celsius", "C", "degF")
_SIGNED_WORDS = (
    "eastward",
    "northward",
    "net_",
    "anomaly",
    "vorticity",
    "divergence",
    "temperature",
    "altitude",
)


@dataclass(frozen=True)
class Reference:
    """The truth of one variable in a few numbers.

    Attributes:
        name: name of the variable.
        units: its units.
        standard_name: its CF standard name, or nothing.
        grid: where it lies.
        lowest: smallest value.
        highest: largest value.
        ever: cells known at some time (y, x).
        complete: cells known at all times at which any is (y, x).
        operator: block mean from the fine to the coarse grid, where there is a coarse field.
        inside: coarse cells that lie within the fine domain (y, x).
        typical: mean magnitude of the coarse field.
        disagreement: root-mean-square difference between the truth's block means and the coarse field.
        tail: about its 99.9th percentile over cells and times; NaN where that is not positive.
        threshold: values above it are an event; by default the 95th percentile over cells and times.
        climate: mean over the times (y, x); NaN where nothing is known.
    """

    name: str
    units: str
    standard_name: str
    grid: Grid
    lowest: float
    highest: float
    ever: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    operator: Operator | None = None
    inside: NDArray[np.bool_] | None = None
    typical: float = np.nan
    disagreement: float = np.nan
    tail: float = np.nan
    threshold: float = np.nan
    climate: Array | None = None

    @classmethod
    def unread(cls, truth: xr.DataArray, *, threshold: float = np.nan) -> Reference:
        """What is known of a harmonised truth before any of its values is read: where it lies."""
        units, standard_name = (str(truth.attrs.get(key, "")) for key in ("units", "standard_name"))
        grid, words = Grid.of(truth), (str(truth.name), units, standard_name)
        everywhere = np.ones(grid.shape, dtype=bool)
        return cls(*words, grid, np.nan, np.nan, everywhere, everywhere, threshold=threshold)

    @classmethod
    def of(
        cls, truth: xr.DataArray, coarse: xr.DataArray | None = None, *, threshold: float | None = None
    ) -> Reference:
        """Read a harmonised truth once, in blocks of time."""
        lowest, highest, magnitudes, sample = np.inf, -np.inf, Magnitudes(), []
        step = max(1, truth.size // _SAMPLED) | 1  # odd, so as not to walk down a column
        ever = np.zeros((truth.sizes["y"], truth.sizes["x"]), dtype=bool)
        complete, sums, counts = np.ones_like(ever), np.zeros(ever.shape), np.zeros(ever.shape)
        for values in _times_of(truth):
            known = np.isfinite(values)
            magnitudes.add(values)
            lowest = min(lowest, float(np.min(values, where=known, initial=np.inf)))
            highest = max(highest, float(np.max(values, where=known, initial=-np.inf)))
            ever |= known.any(axis=0)
            sums += np.where(known, values, 0.0).sum(axis=0, dtype=np.float64)
            counts += known.sum(axis=0)
            sample.append(values[known][::step])
            complete &= known[known.any(axis=(1, 2))].all(axis=0)
        grid, attributes = Grid.of(truth), truth.attrs
        words = str(truth.name), str(attributes.get("units", "")), str(attributes.get("standard_name", ""))
        values = np.concatenate(sample)
        event = threshold if threshold is not None else float(np.quantile(values, EVENT)) if values.size else np.nan
        tail, climate = magnitudes.exceeded_by(EXCEEDED), ratio(sums, counts)
        reference = cls(
            *words, grid, lowest, highest, ever, complete & ever, tail=tail, threshold=event, climate=climate
        )
        if coarse is None:
            return reference
        target = Grid.of(coarse)
        operator = Operator.conservative(grid, target)
        # A coarse cell that sticks out of the fine domain cannot be compared with the mean of a part of it.
        inside = operator.coverage >= COVERED
        reference = replace(reference, operator=operator, inside=inside)
        typical, disagreement = _agreement(truth, coarse, reference)
        return replace(reference, typical=typical, disagreement=disagreement)

    @cached_property
    def rectangle(self) -> tuple[slice, slice]:
        """Rows and columns of the largest rectangle without a missing cell."""
        return largest_rectangle(self.complete)

    def block_means(self, fields: Array) -> Array:
        """Means (..., h, w) over coarse cells of fields (..., y, x), by area; NaN outside the fine domain.

        Only cells in which the truth is ever known count: the others are no part of the coarse value.
        """
        if self.operator is None or self.inside is None:
            raise ValueError("block means need a coarse field")
        valid = np.where(self.ever, fields, np.nan).reshape(-1, *fields.shape[-2:])
        coords = {name: coord for name, coord in self.grid.coords().items() if name in ("y", "x", "crs")}
        means = self.operator(xr.DataArray(valid, coords=coords, dims=("time", "y", "x"), name=self.name))
        return np.where(self.inside, means.values, np.nan).reshape(*fields.shape[:-2], *self.inside.shape)

    @property
    def never_negative(self) -> bool:
        """Whether a negative value would be nonsense: by name, by units, or because the truth has none."""
        name, units = self.standard_name or self.name, self.units
        if units in _TEMPERATURE_UNITS or any(word in name for word in _SIGNED_WORDS):
            return False
        named = name.startswith(_POSITIVE_NAMES) or any(word in name for word in _POSITIVE_WORDS)
        return named or units in _POSITIVE_UNITS or self.lowest >= 0


def largest_rectangle(complete: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the largest all-true rectangle of a mask (y, x); empty slices when there is none.

    Row by row with the height of the run of true cells that ends there; O(rows * columns * widest run).
    """
    if complete.all():
        return slice(0, complete.shape[0]), slice(0, complete.shape[1])
    best, rows, columns = 0, slice(0, 0), slice(0, 0)
    height = np.zeros(complete.shape[1], dtype=np.int64)
    for row, known in enumerate(complete):
        height = np.where(known, height + 1, 0)
        for left in np.flatnonzero(height):
            lowest = np.minimum.accumulate(height[left:])
            sizes = lowest * np.arange(1, len(lowest) + 1)
            width = int(sizes.argmax())
            if sizes[width] > best:
                best, rows = int(sizes[width]), slice(row + 1 - int(lowest[width]), row + 1)
                columns = slice(int(left), int(left) + width + 1)
    return rows, columns


def _times_of(field: xr.DataArray) -> Iterator[Array]:
    ordered = field.transpose("time", "y", "x")
    starts = range(0, field.sizes["time"], _TIMES_AT_ONCE)
    return (np.asarray(ordered.isel(time=slice(start, start + _TIMES_AT_ONCE)).values) for start in starts)


def _agreement(truth: xr.DataArray, coarse: xr.DataArray, reference: Reference) -> tuple[float, float]:
    total, squares, count, compared = 0.0, 0.0, 0, 0
    for fine, given in zip(_times_of(truth), _times_of(coarse), strict=True):
        total += float(np.nansum(np.abs(given), dtype=np.float64))
        count += int(np.isfinite(given).sum())
        difference = reference.block_means(fine.astype(np.float64)) - given
        squares += float(np.nansum(difference**2))
        compared += int(np.isfinite(difference).sum())
    return total / max(1, count), float(np.sqrt(squares / max(1, compared)))
