"""What coarse fields look like, time by time: a few numbers for every variable, and how variables go together.

    mean, deviation       over the domain, by area
    p05, p50, p95         percentiles over the domain, by area
    fine                  amplitude of the upper half of wavenumbers (two to four cells): sqrt(sum of s(m, n), a >= 1/2)
                          of the cosine transform (`metrics.spectrum`) where no cell is missing; else root mean square
                          of the differences between neighbours
    anomaly, departure    of cells from what is usual for them (`anomalies`): needs the memory, and its cells
    correlation           in space, of each pair of variables

All are in the units of the variable, but for anomalies and correlations. Missing cells do not count. Fields are read in
blocks of times, and of each time at most 256 values are kept for distributions: memory is bounded however long the
record is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.evaluation.averaging import Array, ratio
from finegrid.evaluation.metrics.spectrum import variances, wavenumbers
from finegrid.grids import Grid

ANOMALIES = ("anomaly", "departure")
KINDS = ("mean", "deviation", "p05", "p50", "p95", "fine", *ANOMALIES)
CORRELATION = "correlation"
_LEVELS = (0.05, 0.5, 0.95)
_UPPER = 0.5
_SAMPLED = 256
# Values of a block of times; a dozen such arrays live at once, 8 bytes each.
_BLOCK_VALUES = 1 << 18

Floats = NDArray[np.float32]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Trait:
    """One number of a field at a time.

    Attributes:
        variables: one variable, or two for a correlation.
        kind: one of `KINDS`, or "correlation".
    """

    variables: tuple[str, ...]
    kind: str


@dataclass(frozen=True, eq=False)
class Measured:
    """What was read of some times.

    Attributes:
        traits: (row, trait) in the order of `traits_of`; NaN where nothing is known, as of all anomalies.
        neighbours: (row, variable), what stands for "fine" where cells are missing.
        samples: values (variable, row, cell) of at most 256 cells that stand for equal areas.
        counts: known values (variable, group, y, x) in each group of times.
        sums: their sums.
        squares: and sums of squares.
        groups: group of each row.
    """

    traits: Array
    neighbours: Array
    samples: Floats
    counts: Array
    sums: Array
    squares: Array
    groups: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows of which something is known."""
        return np.asarray(np.isfinite(self.traits).any(axis=1))


def traits_of(variables: Sequence[str]) -> tuple[Trait, ...]:
    """The traits of some variables in their order."""
    single = [Trait((name,), kind) for name in variables for kind in KINDS]
    return (*single, *(Trait(pair, CORRELATION) for pair in combinations(variables, 2)))


def measured(
    fields: xr.Dataset, variables: Sequence[str], rows: Places, groups: NDArray[np.int64], number: int
) -> Measured:
    """Look at some times of standard fields (time, y, x).

    Args:
        fields: may be lazy; read in blocks of times.
        variables: which of them.
        rows: indices of the times.
        groups: group of every row, from 0.
        number: how many groups there are.
    """
    area = Grid.of(fields).area
    chosen = _cells(area.ravel())
    totals = np.zeros((3, len(variables), number, *area.shape))
    parts, steps = [], max(1, _BLOCK_VALUES // max(1, area.size * len(variables)))
    for start in range(0, len(rows), steps):
        part = slice(start, start + steps)
        block = fields[list(variables)].isel(time=rows[part]).load()
        values = np.stack([block[name].transpose("time", "y", "x").values for name in variables]).astype(np.float64)
        parts.append(_looked_at(values, area, chosen))
        _add(totals, values, groups[part])
    traits, neighbours, samples = zip(*parts, strict=True)
    return Measured(
        np.concatenate(traits),
        np.concatenate(neighbours),
        np.concatenate(samples, axis=1),
        totals[0],
        totals[1],
        totals[2],
        groups,
    )


def _looked_at(values: Array, area: Array, chosen: Places) -> tuple[Array, Array, Floats]:
    """Traits (time, trait), differences of neighbours (time, variable) and samples of values (variable, time, y, x)."""
    flat = values.reshape(*values.shape[:2], -1)
    weights = np.isfinite(flat) * area.ravel()
    total = weights.sum(axis=-1)
    mean = ratio(np.where(weights > 0, flat * weights, 0.0).sum(axis=-1), total)
    anomalies = np.where(weights > 0, flat - mean[..., None], 0.0)
    deviation = np.sqrt(ratio((weights * anomalies**2).sum(axis=-1), total))
    unknown = [np.full(mean.shape, np.nan)] * len(ANOMALIES)
    single = np.stack([mean, deviation, *_percentiles(flat, weights), _fine(values), *unknown], axis=-1)
    together = [_correlation(anomalies[one], anomalies[two], np.minimum(weights[one], weights[two]))
                for one, two in combinations(range(len(values)), 2)]  # fmt: skip
    traits = np.concatenate([*single, np.stack(together, axis=-1)] if together else [*single], axis=-1)
    return traits, _differences(values).T, flat[..., chosen].astype(np.float32)


def _percentiles(values: Array, weights: Array) -> list[Array]:
    """Lowest values (variable, time) below or at which lies so large a part of the known area."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    below = np.take_along_axis(weights, order, axis=-1).cumsum(axis=-1)
    # A hair less, so that rounding in the sums does not take the next cell.
    places = [(below >= level * below[..., -1:] * (1 - 1e-12)).argmax(axis=-1) for level in _LEVELS]
    return [np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0] for place in places]


def _fine(values: Array) -> Array:
    whole = np.asarray(np.isfinite(values).all(axis=(-2, -1)))
    upper = wavenumbers((values.shape[-2], values.shape[-1])) >= _UPPER
    power = variances(np.where(whole[..., None, None], values, 0.0))[..., upper].sum(axis=-1)
    return np.where(whole, np.sqrt(power), np.nan)


def _differences(values: Array) -> Array:
    """Root mean square (variable, time) of the differences between neighbours that are both known."""
    steps = [np.diff(values, axis=axis) for axis in (-2, -1)]
    squares = sum(np.nansum(step**2, axis=(-2, -1)) for step in steps)
    return np.sqrt(ratio(np.asarray(squares), sum(np.isfinite(step).sum(axis=(-2, -1)) for step in steps)))


def _correlation(one: Array, two: Array, weights: Array) -> Array:
    total = np.sqrt((weights * one**2).sum(axis=-1) * (weights * two**2).sum(axis=-1))
    return ratio((weights * one * two).sum(axis=-1), total)


def _cells(area: Array) -> Places:
    """Cells in the middle of equal parts of the area; all where there are few."""
    if area.size <= _SAMPLED:
        return np.arange(area.size)
    share = area.cumsum() / area.sum()
    return np.unique(np.searchsorted(share, (np.arange(_SAMPLED) + 0.5) / _SAMPLED))


def _add(totals: Array, values: Array, groups: NDArray[np.int64]) -> None:
    """Add values (variable, time, y, x) to the totals (what, variable, group, y, x)."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    for group in np.unique(groups):
        chosen = groups == group
        for place, each in enumerate((known, filled, filled**2)):
            totals[place, :, group] += each[:, chosen].sum(axis=1)
