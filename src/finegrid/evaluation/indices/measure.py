"""All indices of a variable: truth and every method, block of rows by block of rows, and what they come to.

Truth and predictions count at times and cells that all of them have, so that all are sampled alike. A second pass reads
the blocks again for indices of space, which set a sample of cells against all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.data.working import Workers, alone
from finegrid.evaluation.alignment import Case
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.indices import ALL, INDICES, USUAL_INDICES
from finegrid.evaluation.indices.around import KM, Around, farthest
from finegrid.evaluation.indices.base import IN_UNITS, Away, Cells, Clock, Index
from finegrid.evaluation.indices.found import IndexScore
from finegrid.evaluation.indices.series import LEAST_TIMES, Series, values_of
from finegrid.evaluation.indices.turned import turned
from finegrid.grids import cells as places

TRUTH = ""
# Rows and columns from which cells are taken to be correlated with all others.
_SAMPLED = 10
# Part of a mean over cells below which its spread is that of the arithmetic.
_ROUNDING = 1e-12

Parts = dict[str, dict[str, Array]]


def measure(
    case: Case,
    wanted: str | Sequence[str] | None = None,
    *,
    workers: Workers = alone,
    folder: str | Path | None = None,
) -> tuple[IndexScore, ...]:
    """Indices of all methods of one variable.

    Args:
        case: truth and predictions on common ground.
        wanted: names in INDICES, or "all"; by default the usual ones that the variable and its times have.
        workers: who counts.
        folder: where the record may be turned (`turned`), which all workers see; by default the system's.

    Raises:
        InputError: on an unknown name, an index that does not apply, too few times, steps that differ, or a disk that
            has no room to turn the record.
    """
    series = Series.of(case)
    chosen, blocks = _chosen(series, wanted), list(series.blocks())
    with turned({TRUTH: series.truth, **series.predictions}, blocks, workers, folder) as fields:
        measured = _measured(Measured.empty(series, fields), chosen, blocks, workers)
    return tuple(_score(measured, index, method) for index in chosen for method in series.predictions)


def _measured(measured: Measured, chosen: Sequence[Index], blocks: Sequence[slice], workers: Workers) -> Measured:
    """All statistics of all rows."""
    series = measured.series
    counted = partial(_counted, series.clock, [index for index in chosen if not index.is_spatial])
    pieces = (Rows.of(measured.fields, rows) for rows in blocks)
    for found in workers(Rows.read, counted, pieces):
        measured.include(found)
    if not measured.known.any():
        raise InputError(
            f"got no cell of '{series.name}' with {LEAST_TIMES} values that truth and all predictions have; expected "
            "some; give a longer record, or leave the indices out"
        )
    for index in chosen:
        if index.is_spatial:
            measured.correlate(index, workers)
    return measured


def _chosen(series: Series, wanted: str | Sequence[str] | None) -> list[Index]:
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    if wanted is None or ALL in wanted:
        names = USUAL_INDICES if wanted is None else INDICES
        return [INDICES[name] for name in names if INDICES[name].applies(series.kind)]
    for name in wanted:
        if name not in INDICES:
            known = ", ".join(INDICES)
            raise InputError(f"There is no index '{name}'. The names are {known}, or {ALL}.{nearest(name, INDICES)}")
        if not INDICES[name].applies(series.kind):
            raise InputError(
                f"got the index '{name}' for '{series.name}' with steps of {series.clock.step_days:.3g} days; expected "
                f"{INDICES[name].needs}; leave it out of indices=[...]"
            )
    return [INDICES[name] for name in wanted]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of the truth and of all predictions, lazily.

    Attributes:
        rows: which ones.
        fields: (member, time, y, x) by method, the truth under an empty name.
    """

    rows: slice
    fields: Mapping[str, xr.DataArray]

    @classmethod
    def of(cls, fields: Mapping[str, xr.DataArray], rows: slice) -> Rows:
        """Some rows of fields."""
        return cls(rows, {name: each.isel(y=rows) for name, each in fields.items()})

    def read(self) -> tuple[slice, dict[str, Array]]:
        """Which ones, and their values (time, member, cell)."""
        return self.rows, {name: values_of(each) for name, each in self.fields.items()}


@dataclass(frozen=True, eq=False)
class Counted:
    """What was found in some rows.

    Attributes:
        rows: which ones.
        enough: cells with enough values (cell,).
        mask: times and cells (time, cell) that count, eight times in a byte; of one cell where it is that of all.
        parts: statistics (part, cell with enough values) by index and method.
    """

    rows: slice
    enough: NDArray[np.bool_]
    mask: NDArray[np.uint8]
    parts: Parts


def _counted(clock: Clock, indices: Sequence[Index], held: tuple[slice, dict[str, Array]]) -> Counted:
    """Statistics of some rows."""
    rows, values = held
    mask = np.logical_and.reduce([np.isfinite(each).all(axis=1) for each in values.values()])
    enough = mask.sum(axis=0) >= LEAST_TIMES
    # Of twenty years of the Earth it would be a gigabyte, and most often nothing is missing.
    packed = np.packbits(np.ones_like(mask[:, :1]) if mask.all() else mask & enough, axis=0)
    parts = {index.name: dict[str, Array]() for index in indices}
    if not enough.any():
        return Counted(rows, enough, packed, {})
    true = np.where(mask[:, None, enough], values[TRUTH][..., enough], np.nan)
    for name, each in values.items():
        cells = Cells(np.where(mask[:, None, enough], each[..., enough], np.nan), clock, truth=true)
        for index in indices:
            parts[index.name][name] = index.of(cells)
    return Counted(rows, enough, packed, parts)


@dataclass
class Measured:
    """Statistics of every cell, growing with every block.

    Attributes:
        series: what is measured.
        fields: the truth under an empty name, and the predictions by method.
        known: cells with enough values (y, x).
        parts: statistics (part, y * x) by index and method, the truth under an empty name; NaN where not known.
        masks: for each block of rows, the times and cells (time, cell) that count, eight times in a byte.
    """

    series: Series
    fields: Mapping[str, xr.DataArray]
    known: NDArray[np.bool_]
    parts: Parts = field(default_factory=dict)
    masks: list[tuple[slice, NDArray[np.uint8]]] = field(default_factory=list)

    @classmethod
    def empty(cls, series: Series, fields: Mapping[str, xr.DataArray]) -> Measured:
        """Nothing yet."""
        return cls(series, fields, np.zeros((series.truth.sizes["y"], series.truth.sizes["x"]), dtype=bool))

    def include(self, found: Counted) -> None:
        """Take in a block of rows."""
        columns = self.known.shape[1]
        self.known[found.rows] = found.enough.reshape(-1, columns)
        self.masks.append((found.rows, found.mask))
        place = np.flatnonzero(found.enough) + found.rows.start * columns
        for index, by_name in found.parts.items():
            for name, each in by_name.items():
                self._keep(index, name, each, place)

    def correlate(self, index: Index, workers: Workers) -> None:
        """Take in an index of space, from a sample of cells and all others."""
        rows, columns = (np.unique(np.linspace(0, n - 1, min(n, _SAMPLED)).astype(int)) for n in self.known.shape)
        sampled = self.known[np.ix_(rows, columns)].ravel()
        place = (rows[:, None] * self.known.shape[1] + columns).ravel()[sampled]
        grid = self.series.grid
        centres, width = places.middles(grid), float(np.sqrt(np.median(grid.area[self.known]))) / KM
        reach = 0.5 * farthest(centres[place], centres[self.known.ravel()]) if len(place) else 0.0
        mask = np.logical_and.reduce(
            [np.isfinite(values_of(each.isel(y=rows, x=columns))).all(axis=1) for each in self.fields.values()]
        )[:, sampled]
        for name, each in self.fields.items():
            values = np.where(mask[:, None], values_of(each.isel(y=rows, x=columns))[..., sampled], np.nan)
            partners = partial(self._partners, each, centres, centres[place], workers)
            if reach > width:
                cells = Cells(values, self.series.clock, partners, width, reach)
                self._keep(index.name, name, index.of(cells), place)

    def _partners(
        self,
        field: xr.DataArray,
        centres: Array,
        sampled: Array,
        workers: Workers,
        work: Callable[[tuple[Array, Away]], Any],
    ) -> Iterator[Any]:
        columns = self.known.shape[1]
        some = [(rows, packed, self.known[rows].ravel()) for rows, packed in self.masks if self.known[rows].any()]
        pieces = (
            Around(field.isel(y=rows), packed, kept, centres[rows.start * columns :][: len(kept)][kept], sampled)
            for rows, packed, kept in some
        )
        return workers(Around.read, work, pieces)

    def _keep(self, index: str, name: str, found: Array, place: NDArray[np.intp]) -> None:
        empty = np.full((len(found), self.known.size), np.nan)
        self.parts.setdefault(index, {}).setdefault(name, empty)[:, place] = found


def _score(measured: Measured, index: Index, method: str) -> IndexScore:
    series, comparison = measured.series, index.compared(measured.series.kind)
    units = series.units if index.units == IN_UNITS else index.units
    found = measured.parts.get(index.name, {})
    nothing = np.full((1, measured.known.size), np.nan)
    truth, predicted = found.get(TRUTH, nothing), found.get(method, nothing)
    values = comparison.of(index.finish(predicted), index.finish(truth)) if found else nothing[0]
    compared = np.isfinite(values)
    weights = np.where(compared, series.grid.area.ravel(), 0.0)
    value, spread, low, high = _over_cells(values, weights)
    return IndexScore(
        method=method,
        variable=series.name,
        index=index.name,
        value=value,
        spread=spread,
        low=low,
        high=high,
        units=comparison.units or units,
        comparison=comparison.name,
        best=comparison.best,
        truth=_overall(index, truth, weights) if found else np.nan,
        predicted=_overall(index, predicted, weights) if found else np.nan,
        statistic_units=units,
        cells=int(compared.sum()),
        map=values.reshape(measured.known.shape),
    )


def _overall(index: Index, parts: Array, weights: Array) -> float:
    """The index of the mean over cells by area."""
    if not weights.any():
        return np.nan
    return float(index.finish(np.average(parts[:, weights > 0], axis=1, weights=weights[weights > 0])[:, None])[0])


def _over_cells(values: Array, weights: Array) -> tuple[float, float, float, float]:
    """Mean, standard deviation and quantiles 0.05 and 0.95 of cells by weight."""
    kept = weights > 0
    if not kept.any():
        return np.nan, np.nan, np.nan, np.nan
    known, weight = values[kept], weights[kept] / weights.sum()
    mean = float(known @ weight)
    order = np.argsort(known)
    reached = weight[order].cumsum() - weight[order] / 2
    low, high = np.interp([0.05, 0.95], reached, known[order])
    spread = float(np.sqrt((known - mean) ** 2 @ weight))
    return mean, 0.0 if spread < _ROUNDING * abs(mean) else spread, float(low), float(high)
