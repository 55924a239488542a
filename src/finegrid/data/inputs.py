"""How a user's coarse file becomes what a downscaler was trained on: its variables, in its units, on its cells.

A `CoarseInputs` is settled once, when coarse and fine meet (`pairs`), and then applied to every coarse file, so that
prediction cannot differ from training. Networks and regressions work on blocks of fine cells (`matching`). Where the
file's own cells are such blocks they are taken as they are; where they are not, the fields are remapped to blocks by
area, and the values on the file's own cells are kept beside them, under names from `own_name`: these are conserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import xarray as xr

from finegrid.conventions import InputError, convert_units, find_variable, harmonise
from finegrid.conventions.errors import provenance
from finegrid.data.matching import check_covers, on_blocks, own_window, same_window, turned
from finegrid.data.surroundings import on_surroundings
from finegrid.grids import Grid, Operator

_OWN_DIMS = ("row", "column")


def own_name(name: str) -> str:
    """What the values of a variable on the coarse file's own cells are called beside those on blocks."""
    return f"{name} (own cells)"


@dataclass(frozen=True)
class CoarseInputs:
    """What to take from a coarse file.

    Attributes:
        variables: name in the coarse file for each fine variable that is also the coarse value to conserve.
        predictors: further coarse variables.
        units: units to convert to, by fine name or predictor.
        grid: blocks of fine cells.
        own: the coarse file's own cells over the fine domain; None where they are the blocks.
        wide: the coarse file's own cells in and around the fine domain; None where nobody looks at them.
    """

    variables: Mapping[str, str]
    predictors: tuple[str, ...]
    units: Mapping[str, str]
    grid: Grid
    own: Grid | None = None
    wide: Grid | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the fields on blocks that `read` gives: fine names, then predictors."""
        return (*self.variables, *self.predictors)

    @property
    def conserved_grid(self) -> Grid:
        """The cells whose values are conserved."""
        return self.grid if self.own is None else self.own

    @property
    def conserved_names(self) -> tuple[str, ...]:
        """Names in `read` of the values that are conserved, in the order of the variables."""
        return tuple(self.variables) if self.own is None else tuple(map(own_name, self.variables))

    def read(self, coarse: xr.Dataset, *, source: str = "input") -> xr.Dataset:
        """Standard fields (time, y, x) named by `channels`, in `units`, on `grid`; lazy when they come lazy.

        Where there are `own` cells, also the values of the variables there (time, row, column), by `own_name`; where
        there are `wide` ones, all fields there (time, wide_row, wide_column), by `wide_name`.

        Raises:
            InputError: on a missing variable, other units, or a domain that does not cover the grid.
        """
        source = provenance(coarse, source, otherwise="the coarse input")
        standard, _ = harmonise(coarse, source=source)
        wanted = {**self.variables, **{name: name for name in self.predictors}}
        fields = {}
        for name, theirs in wanted.items():
            field = standard[find_variable(standard, theirs, source=source)]
            fields[name] = in_units(field, self.units[name], source).rename(name)
        return self.placed(standard.drop_vars(list(standard.data_vars)).assign(fields), source)[0]

    def placed(self, fields: xr.Dataset, source: str) -> tuple[xr.Dataset, str]:
        """Standard fields in the right units on the blocks, other cells beside them; and whether they were remapped."""
        blocks, way = on_blocks(fields, self.grid, source, whole=self.own is None)
        if self.wide is not None:
            blocks = blocks.assign(on_surroundings(fields, self.wide, source))
        if self.own is None:
            return blocks, way
        values = on_own_cells(fields[list(self.variables)], self.own, source)
        beside = {
            own_name(name): (("time", *_OWN_DIMS), values[name].transpose("time", "y", "x").data, values[name].attrs)
            for name in self.variables
        }
        return blocks.assign(beside), way

    def conserved(self, fields: xr.Dataset) -> xr.Dataset:
        """Of what `read` gave, the values that are conserved: (time, y, x) on `conserved_grid`, by fine names."""
        if self.own is None:
            return fields[list(self.variables)]
        dims = dict(zip(_OWN_DIMS, ("y", "x"), strict=True))
        values = {name: fields[own_name(name)].rename(dims).rename(name) for name in self.variables}
        bare = {name: field.drop_vars([c for c in field.coords if c != "time"]) for name, field in values.items()}
        return xr.Dataset(bare).assign_coords(self.own.coords())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "variables": dict(self.variables),
            "predictors": list(self.predictors),
            "units": dict(self.units),
            "grid": self.grid.to_dict(),
            "own": None if self.own is None else self.own.to_dict(),
            "wide": None if self.wide is None else self.wide.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inputs that `to_dict` described."""
        grid = Grid.from_dict(values["grid"])
        own, wide = (None if values.get(key) is None else Grid.from_dict(values[key]) for key in ("own", "wide"))
        return cls(dict(values["variables"]), tuple(values["predictors"]), dict(values["units"]), grid, own, wide)


def on_own_cells(fields: xr.Dataset, own: Grid, source: str) -> xr.Dataset:
    """Standard fields on the cells of the training file; of a file with other cells, their means by area.

    Raises:
        InputError: when the file does not cover these cells.
    """
    fields = turned(fields, own)
    given = Grid.of(fields)
    window = same_window(own, given)
    if window is not None:
        return fields.isel(y=window[0], x=window[1])
    check_covers(given, own, source, what="the coarse cells of the training file")
    around = own_window(own, given)
    part = fields.isel(y=around[0], x=around[1])
    return Operator.conservative(Grid.of(part), own)(part)


def settled(coarse: xr.Dataset, fine: Grid, grid: Grid, *, blocks: bool) -> Grid | None:
    """The coarse file's own cells over the fine domain, None where these are the blocks `grid`, and may be."""
    given = Grid.of(turned(coarse, fine))
    if blocks and same_window(grid, given) is not None:
        return None
    return given.cropped(*own_window(fine, given))


def in_units(field: xr.DataArray, units: str, source: str) -> xr.DataArray:
    """The field in these units; fields and targets without units are taken to agree."""
    if not units or not field.attrs.get("units"):
        return field
    return convert_units(field, units, source=source)


def check_known(predictors: Sequence[str], matched: Mapping[str, str]) -> None:
    """A predictor is not also a variable to predict.

    Raises:
        InputError: names the one that is.
    """
    clash = sorted(set(predictors) & set(matched))
    if clash:
        raise InputError(
            f"'{clash[0]}' is both a variable to predict and a predictor; expected one of the two; leave it out of "
            "data.predictors: the coarse field of a predicted variable is always used"
        )
