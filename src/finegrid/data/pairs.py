"""Coarse and fine fields that belong together: the same variables, units and times, one grid nested in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from finegrid.conventions import InputError, Names, check_values, find_variable, harmonise
from finegrid.conventions.errors import provenance
from finegrid.data.calendars import in_calendar_of
from finegrid.data.inputs import CoarseInputs, check_known, in_units, settled
from finegrid.data.matching import check_covers, turned, work_grids
from finegrid.data.members import check_one_run, mean_of_members
from finegrid.data.splits import Indices
from finegrid.data.surroundings import surroundings
from finegrid.grids import Grid, Operator, nesting


@dataclass(frozen=True, eq=False)
class Pair:
    """Aligned fields in standard form.

    Attributes:
        coarse: fields named by `inputs.channels`, (time, h, w), and beside them those on the file's own cells.
        fine: the predicted variables, (time, H, W), in the user's units; missing in cells that were added.
        inputs: how `coarse` was taken from the coarse file.
        grid: fine grid, its mask False where the fine field is always missing; whole blocks, for which rows and columns
            may have been added behind the last ones.
        true_grid: that of the fine file, without added cells.
        factor: fine cells in a coarse cell along y and x.
        names: the way back to the fine file's own words.
        remapped: whether the coarse file had other cells than whole blocks of fine ones.
    """

    coarse: xr.Dataset
    fine: xr.Dataset
    inputs: CoarseInputs
    grid: Grid
    true_grid: Grid
    factor: tuple[int, int]
    names: Names
    remapped: bool

    @property
    def variables(self) -> tuple[str, ...]:
        """Fine names of the predicted variables."""
        return tuple(self.inputs.variables)

    @property
    def operator(self) -> Operator:
        """The area-weighted mean from the fine cells to those whose values are conserved."""
        return Operator.conservative(self.true_grid, self.inputs.conserved_grid)

    @property
    def true_fine(self) -> xr.Dataset:
        """The fine fields of the file, without added cells."""
        return within(self.fine, self.true_grid)

    @property
    def given(self) -> xr.Dataset:
        """The coarse values that are conserved, (time, y, x) on the operator's target."""
        return self.inputs.conserved(self.coarse)

    def at(self, indices: Indices) -> Pair:
        """The same pair at some of its times."""
        return replace(self, coarse=self.coarse.isel(time=indices), fine=self.fine.isel(time=indices))


def pair(
    coarse: xr.Dataset,
    fine: xr.Dataset,
    *,
    variables: Mapping[str, str] | Sequence[str] | None = None,
    predictors: Sequence[str] = (),
    reach: float | None = None,
    lazy: bool = False,
) -> Pair:
    """Bring coarse and fine fields together and into memory.

    Args:
        coarse: coarse fields, in any names.
        fine: fine fields, in any names; of members the mean is taken.
        variables: fine names to predict, mapped to coarse names where these differ; None is all that both have.
        predictors: further coarse variables.
        reach: degrees around the fine domain within which the coarse file's own cells are wanted too; None for none.
        lazy: leave the fields on disk and unchecked, and the grids without masks, for archives larger than memory:
            whoever reads them block by block does both (`downscalers.archive`).

    Raises:
        InputError: on variables, units, times or domains that do not fit together, or values that are not numbers.
    """
    sources = provenance(coarse, otherwise="the coarse input"), provenance(fine, otherwise="the fine input")
    (low, _), (high, names) = harmonise(coarse, source=sources[0]), harmonise(fine, source=sources[1])
    check_one_run(low, sources[0])
    low, high = mean_of_members(low), mean_of_members(high)
    matched = _matched(low, high, variables, sources)
    low, high = _common_times(low, high[list(matched)], sources)
    inputs, work = _settled(low, high, matched, tuple(predictors), sources)
    if reach is not None:
        inputs = replace(inputs, wide=surroundings(low, Grid.of(high), reach))
    fields, way = inputs.placed(_taken(low, inputs, sources[0]), sources[0])
    true_grid, grid = Grid.of(high).masked(None), work.masked(None)
    if not lazy:
        for part, source in ((fields, sources[0]), (high, sources[1])):
            check_values(part, source=source)
        fields, high = fields.load(), high.load()
        true_grid = _masked(true_grid, high)
    high = _extended(high, work)
    grid = grid if lazy else _masked(grid, high)
    factor = nesting(grid, inputs.grid)
    if factor is None:
        raise InputError(f"the coarse grid of {sources[0]} is not made of blocks of cells of {sources[1]}")
    return Pair(fields, high, inputs, grid, true_grid, factor, names, way == "remap")


def within(fine: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Fine fields without the cells that were added behind those of a grid."""
    if (fine.sizes["y"], fine.sizes["x"]) == grid.shape:
        return fine
    kept = fine.isel(y=slice(grid.shape[0]), x=slice(grid.shape[1]))
    return kept.assign_coords(grid.coords())  # rows before a pole were moved by a hair


def _extended(fine: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Fine fields on a grid with more rows and columns, missing there."""
    lacking = {axis: (0, size - fine.sizes[axis]) for axis, size in zip(("y", "x"), grid.shape, strict=True)}
    if not any(after for _, after in lacking.values()):
        return fine
    padded = {name: field.variable.pad(lacking, constant_values=np.nan) for name, field in fine.data_vars.items()}
    for name, field in fine.data_vars.items():
        padded[name].attrs = field.attrs
    return xr.Dataset(padded, coords={"time": fine.time, **grid.coords()}, attrs=fine.attrs)


def _matched(
    coarse: xr.Dataset,
    fine: xr.Dataset,
    variables: Mapping[str, str] | Sequence[str] | None,
    sources: tuple[str, str],
) -> dict[str, str]:
    """Coarse name of every fine variable."""
    if variables is None:
        found = {str(name): theirs for name in fine.data_vars if (theirs := _alike(coarse, fine[name])) is not None}
        if found:
            return found
        raise InputError(
            f"{sources[0]} and {sources[1]} have no variable in common: {_listed(coarse)} and {_listed(fine)}; "
            "expected at "
            "least one that both have; map them with data.variables: {fine name: coarse name} (--variables fine=coarse)"
        )
    wanted = dict(variables) if isinstance(variables, Mapping) else {name: name for name in variables}
    matched = {}
    for name, theirs in wanted.items():
        mine = find_variable(fine, name, source=sources[1])
        matched[mine] = find_variable(coarse, theirs, source=sources[0])
    return matched


def _alike(coarse: xr.Dataset, field: xr.DataArray) -> str | None:
    """The coarse variable with the name of a fine one, or what is usually meant by it, or its CF standard name."""
    for wanted in (str(field.name), str(field.attrs.get("standard_name", ""))):
        try:
            return find_variable(coarse, wanted)
        except InputError:
            continue
    return None


def _listed(fields: xr.Dataset) -> str:
    return ", ".join(map(str, fields.data_vars)) or "none"


def _common_times(coarse: xr.Dataset, fine: xr.Dataset, sources: tuple[str, str]) -> tuple[xr.Dataset, xr.Dataset]:
    fine = in_calendar_of(fine, coarse)
    common = coarse.indexes["time"].intersection(fine.indexes["time"])
    if not len(common):
        spans = [f"{str(f.time.values[0])[:16]} to {str(f.time.values[-1])[:16]}" for f in (coarse, fine)]
        raise InputError(
            f"{sources[0]} ({spans[0]}) and {sources[1]} ({spans[1]}) have no times in common; expected the same "
            "time stamps; "
            "when days are stamped at different hours, use fields.assign_coords(time=fields.time.dt.floor('D')) on both"
        )
    return coarse.sel(time=common), fine.sel(time=common)


def _settled(
    coarse: xr.Dataset,
    fine: xr.Dataset,
    matched: Mapping[str, str],
    predictors: tuple[str, ...],
    sources: tuple[str, str],
) -> tuple[CoarseInputs, Grid]:
    """The inputs of a downscaler for this pair, and its fine grid, which blocks fill."""
    own = Grid.of(fine)
    given = Grid.of(turned(coarse, own))
    work, grid = work_grids(own, given)
    check_covers(given, own, sources[0])
    # Blocks that reach beyond the file are no cells that could be conserved.
    theirs = settled(coarse, own, grid, blocks=work.shape == own.shape)
    units = {name: str(fine[name].attrs.get("units", "")) for name in matched}
    found = {name: find_variable(coarse, name, source=sources[0]) for name in predictors}
    check_known(predictors, matched)
    units |= {name: str(coarse[their].attrs.get("units", "")) for name, their in found.items()}
    return CoarseInputs(dict(matched), predictors, units, grid, theirs), work


def _taken(coarse: xr.Dataset, inputs: CoarseInputs, source: str) -> xr.Dataset:
    theirs = {**inputs.variables, **{name: find_variable(coarse, name) for name in inputs.predictors}}
    fields = {name: in_units(coarse[own], inputs.units[name], source).rename(name) for name, own in theirs.items()}
    return coarse.drop_vars(list(coarse.data_vars)).assign(fields)


def _masked(grid: Grid, fine: xr.Dataset) -> Grid:
    """The grid without the cells that never hold a value in some variable."""
    seen = np.logical_and.reduce([np.isfinite(field.values).any(axis=0) for field in fine.data_vars.values()])
    return grid if seen.all() else grid.masked(seen)
