"""Conservation between grids of every kind: real fields, the coarse cells of somebody else, every hard constraint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from finegrid.benchmark.figures import Bench, Figure
from finegrid.conventions import harmonise
from finegrid.data import samples
from finegrid.data.matching import COVERED
from finegrid.downscalers import method
from finegrid.grids import Grid, Operator

# The hard constraints of single variables.
HARD = ("add", "scaled-add", "multiplicative", "softmax", "bounded", "natural")
_EXACT = 1e-6
# Part of the times that a method learns from; the rest is judged.
_LEARNT = 0.7


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A fine record and coarse cells that are no blocks of its cells.

    Attributes:
        name: what is special about the two.
        sample: name of the fine record.
        variable: its variable, or two whose length is the field: a speed.
        step: height and width of the coarse cells in degrees.
        corner: their south-western corner.
        shape: rows and columns.
        window: rows and columns of the record that are used.
        longest: most times that are used.
    """

    name: str
    sample: str
    variable: tuple[str, ...]
    step: tuple[float, float]
    corner: tuple[float, float]
    shape: tuple[int, int]
    window: Mapping[str, slice] = field(default_factory=dict)
    longest: int = 100

    @property
    def available(self) -> bool:
        """Whether the record can be opened here and now."""
        return samples.available(self.sample)

    def fields(self) -> tuple[xr.Dataset, xr.Dataset]:
        """Coarse and fine fields in standard form, float32: cell means by the conservative operator."""
        standard = harmonise(samples.open(self.sample))[0].isel({"time": slice(self.longest), **self.window})
        parts = standard[list(self.variable)].astype(np.float64)
        name = "speed" if len(self.variable) > 1 else self.variable[0]
        field = (
            (parts**2).to_dataarray().sum("variable", skipna=False) ** 0.5 if len(self.variable) > 1 else parts[name]
        )
        about = standard[self.variable[0]].attrs
        fine = field.assign_attrs(about).astype(np.float32).to_dataset(name=name).load()
        fine.attrs, fine.encoding = {}, {"source": self.sample}
        fine[name].attrs.pop("standard_name", None)
        coarse = Operator.conservative(Grid.of(fine), self.coarse)(fine).astype(np.float32, keep_attrs=True)
        # A coarse file has values all around, also where the fine record has none to say anything about.
        return coarse.fillna(coarse.mean(("y", "x"))), fine

    @property
    def coarse(self) -> Grid:
        """The coarse cells."""
        return regular(self.step, self.corner, self.shape)


def regular(step: tuple[float, float], corner: tuple[float, float], shape: tuple[int, int]) -> Grid:
    """Cells of one size in degrees from their south-western corner."""
    y, x = (c + s * (np.arange(n) + 0.5) for c, s, n in zip(corner, step, shape, strict=True))
    return Grid.of(xr.Dataset(coords={"y": y, "x": x}))


PAIRS = (
    Pair(
        name="nested: ERA5-UK 0.25 to 1 degree",
        sample="era5-uk",
        variable=("t2m",),
        step=(1.0, 1.0),
        corner=(49.875, -10.125),
        shape=(8, 12),
        window={"y": slice(32), "x": slice(48)},
    ),
    Pair(
        name="ratio 2.5: ERA5-UK 0.25 to 0.625 degrees",
        sample="era5-uk",
        variable=("t2m",),
        step=(0.625, 0.625),
        corner=(49.875, -10.125),
        shape=(14, 20),
    ),
    Pair(
        name="3.7 x 2.2 with offset: ERA5-UK 0.25 to 0.925 x 0.55 degrees",
        sample="era5-uk",
        variable=("t2m",),
        step=(0.925, 0.55),
        corner=(49.2, -10.4),
        shape=(10, 23),
    ),
    Pair(
        name="rotated: RACMO 0.44 to regular 1.5 degrees, rain",
        sample="racmo-iberia",
        variable=("pr",),
        step=(1.5, 1.5),
        corner=(31.0, -15.0),
        shape=(11, 15),
    ),
    Pair(
        name="polar stereographic: FMI radar 1 km to 0.1 degrees, rain",
        sample="fmi-20160928",
        variable=("rain_rate",),
        step=(0.1, 0.1),
        corner=(59.4, 20.9),
        shape=(50, 110),
        longest=12,
    ),
    Pair(
        name="sea missing: E-OBS 0.5 to 1.25 degrees, rain",
        sample="eobs-iberia",
        variable=("pr",),
        step=(1.25, 1.25),
        corner=(34.9, -10.1),
        shape=(8, 12),
    ),
    Pair(
        name="poles and date line: US Navy 2.5 to 9 x 12 degrees, speed",
        sample="navy-winds",
        variable=("u10", "v10"),
        step=(9.0, 12.0),
        corner=(-90.0, -171.0),
        shape=(20, 30),
    ),
)


def pairs(bench: Bench) -> list[Figure]:
    """Largest relative violation in float32 of every hard constraint on every pair, as a user meets it."""
    figures = []
    for pair in PAIRS:
        if not pair.available:
            figures.append(Figure(pair.name, "<= 1e-6", "sample missing", None))
            continue
        found = {name: _violation(pair, name) for name in HARD}
        bench.say(f"{pair.name}: {found}")
        worst = max(found, key=lambda name: found[name])
        words = f"{found[worst]:.1e} ({worst}; {len(found)} constraints)"
        figures.append(Figure(f"conservation, {pair.name}", "<= 1e-6", words, found[worst] <= _EXACT, found))
    return figures


def _violation(pair: Pair, constraint: str) -> float:
    """Of the last times, by an operator of its own; the method has seen the first ones."""
    coarse, fine = pair.fields()
    learnt = int(_LEARNT * coarse.sizes["time"])
    model: Any = method(f"bicubic+{constraint}")
    model.fit(coarse.isel(time=slice(learnt)), fine.isel(time=slice(learnt)))
    unseen = coarse.isel(time=slice(learnt, None))
    (name,) = fine.data_vars
    grid = Grid.of(fine).masked(fine[name].notnull().any("time").values)
    prediction = model.predict(unseen)[name].isel(member=0).astype(np.float64)
    return largest_error(prediction, grid, unseen[name], pair.coarse)


def largest_error(fine: xr.DataArray, grid: Grid, coarse: xr.DataArray, cells: Grid) -> float:
    """Of the means over whole coarse cells, relative to the larger of a value and the usual one."""
    operator = Operator.conservative(grid, cells)
    values = xr.DataArray(fine.values, dims=("time", "y", "x"), coords={"y": grid.y, "x": grid.x})
    filled = (operator.coverage >= COVERED) & (operator.weights.covered.reshape(cells.shape) > 0)
    given = coarse.values.astype(np.float64)[:, filled]
    error = np.abs(operator(values).values[:, filled] - given) / np.maximum(np.abs(given), np.abs(given).mean())
    return float(np.max(error))  # NaN where the fine field lacks a value
