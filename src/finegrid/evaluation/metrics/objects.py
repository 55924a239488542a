"""Showers as objects: are they as large and peaked, as wet, and where they should be?

    S = 2 (V_p - V_t) / (V_p + V_t),    V = sum_n R_n V_n / sum_n R_n,    V_n = R_n / R_n^max
    A = 2 (D_p - D_t) / (D_p + D_t),    D the mean over the domain
    L = |x_p - x_t| / d + 2 |r_p - r_t| / d,    r = sum_n R_n |x - x_n| / sum_n R_n
    sal = mean over times of |S| + |A| + |L|

R_n is the rain in object n, R_n^max its largest value, x_n its centre of mass, x that of the whole field, and d the
largest distance within the domain. Objects are cells that touch, at a side or a corner, with at least 1/15 of the 95th
percentile of the wet (positive) cells of the same field at the same time (Wernli et al. 2009). S and A are between -2
and 2: positive where objects are too large or flat, and where there is too much rain. L is between 0 and 2. Zero is
best.

Sums are weighted by the area of the cells. Places are points on the unit sphere, distances are straight lines between
them, which on domains of a few thousand kilometres are those along the ground. Objects do not go on across the date
line of a global grid. Cells without a truth are taken as dry in both fields.

Without rain in the truth S, A and L are not defined (NaN), and the time is left out for all methods alike. A
prediction without rain has V = 0 and D = 0, hence S = A = -2; its place is unknown, and L is set to the worst, 2. Each
member is judged by itself, as a mean over members has larger and flatter objects by right. For variables that cannot
be negative; negative values of a prediction count as zero.

Sources: Wernli et al. 2008 and 2009, doi:10.1175/2008MWR2415.1 and doi:10.1175/2009WAF2222271.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.base import Block, Metric, equal_weights
from finegrid.evaluation.metrics.pointwise import first, never_negative
from finegrid.grids import Grid

_PART, _QUANTILE = 1 / 15, 0.95
# Sides and corners within one time, nothing between times.
_TOUCHING = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
_WORST_PLACE = 2.0
_POINTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Sal:
    """Structure, amplitude and location of a field at each time (time,); NaN where the truth is dry."""

    structure: Array
    amplitude: Array
    location: Array

    @property
    def total(self) -> Array:
        """|S| + |A| + |L|, at most 6."""
        return np.asarray(np.abs(self.structure) + np.abs(self.amplitude) + np.abs(self.location))


@dataclass(frozen=True)
class _Showers:
    """Of each time: rain (time,), centre of mass (time, 3), scatter of the objects (time,), scaled volume (time,)."""

    mean: Array
    centre: Array
    scatter: Array
    volume: Array


def structure_amplitude_location(prediction: Array, truth: Array, grid: Grid) -> Sal:
    """SAL of fields (time, y, x) on a grid; missing in one of them is dry in both."""
    known = np.isfinite(truth) & np.isfinite(prediction)
    places = _places(grid)
    mine, true = (_showers(np.where(known, np.maximum(each, 0.0), 0.0), grid, places) for each in (prediction, truth))
    wet = true.mean > 0
    structure = np.where(wet, 2 * ratio(mine.volume - true.volume, mine.volume + true.volume), np.nan)
    amplitude = np.where(wet, 2 * ratio(mine.mean - true.mean, mine.mean + true.mean), np.nan)
    apart = np.linalg.norm(mine.centre - true.centre, axis=-1) + 2 * np.abs(mine.scatter - true.scatter)
    location = np.where(mine.mean > 0, apart / _diameter(places), _WORST_PLACE)
    return Sal(structure, amplitude, np.where(wet, location, np.nan))


def _places(grid: Grid) -> Array:
    """Points on the unit sphere (3, y, x)."""
    latitude, longitude = np.deg2rad(grid.centres)
    return np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])


def _diameter(places: Array) -> float:
    """Largest distance between two cells on the border of the domain."""
    sides = [places[:, 0], places[:, -1], places[:, :, 0], places[:, :, -1]]
    border = np.concatenate(sides, axis=1).T
    parts = np.array_split(border, len(border) // _POINTS_AT_ONCE + 1)
    return max(float(cdist(part, border).max()) for part in parts)


def _showers(fields: Array, grid: Grid, places: Array) -> _Showers:
    mass = fields * grid.area
    centre = ratio(np.einsum("tyx,cyx->tc", mass, places), mass.sum(axis=(1, 2))[:, None])
    labels, count = ndimage.label(fields >= _thresholds(fields)[:, None, None], _TOUCHING)
    moments = (mass, *(mass * place for place in places))
    amount, *sums = (np.bincount(labels.ravel(), each.ravel(), count + 1)[1:] for each in moments)
    time, peak = _times_and_peaks(fields, labels, count)
    away = np.linalg.norm(np.stack(sums, axis=-1) / amount[:, None] - centre[time], axis=-1)
    each_time = [np.bincount(time, amount * each, len(fields)) for each in (np.ones(count), away, amount / peak)]
    total, scatter, volume = np.array(each_time, dtype=np.float64)
    scaled = np.where(total > 0, ratio(volume, total), 0.0)
    return _Showers(mass.mean(axis=(1, 2)), centre, ratio(scatter, total), scaled)


def _times_and_peaks(fields: Array, labels: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], Array]:
    """When each object is, and its largest value (object,)."""
    time, peak = np.zeros(count + 1, dtype=np.int64), np.zeros(count + 1)
    time[labels] = np.arange(len(fields))[:, None, None]
    np.maximum.at(peak, labels, fields)
    return time[1:], peak[1:]


def _thresholds(fields: Array) -> Array:
    """A fifteenth of the 95th percentile of the wet cells of each time (time,); infinite on dry days."""
    ranked = np.sort(fields.reshape(len(fields), -1), axis=1)
    wet = (ranked > 0).sum(axis=1)
    place = np.asarray(ranked.shape[1] - wet + _QUANTILE * (wet - 1), dtype=np.float64)
    before = np.clip(np.floor(place).astype(int), 0, ranked.shape[1] - 1)
    after = np.minimum(before + 1, ranked.shape[1] - 1)
    low, high = (np.take_along_axis(ranked, index[:, None], axis=1)[:, 0] for index in (before, after))
    return np.where(wet > 0, _PART * (low + (place - before) * (high - low)), np.inf)


def _score(block: Block) -> Array:
    scores = [structure_amplitude_location(each, block.truth, block.reference.grid).total for each in block.prediction]
    return np.asarray(np.mean(scores, axis=0)[None, :, None])


SAL = Metric("sal", "|S| + |A| + |L|", _score, first, weights=equal_weights, applies=never_negative)
