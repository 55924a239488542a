"""Where and what a downscaler was fitted for.

Enough to read any coarse file like the training one and to write like the fine one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from finegrid.bridge import Layout
from finegrid.conventions import Names, natural_limits
from finegrid.conventions.names import attributes, plain
from finegrid.data.inputs import CoarseInputs
from finegrid.data.matching import COVERED
from finegrid.data.pairs import Pair, within
from finegrid.data.predictors import usual_step
from finegrid.data.traces import few_traces
from finegrid.grids import Grid, Operator


@dataclass(frozen=True, eq=False)
class Domain:
    """Facts of the training pair.

    Attributes:
        inputs: how coarse files are read.
        grid: fine grid with its mask, which blocks fill.
        true_grid: the grid of the fine file, without added cells.
        factor: fine cells in a coarse cell along y and x.
        names: the fine file's own words.
        attributes: the fine file's attributes of each variable.
        title: the fine file's title, for the output's.
        remapped: whether the fields that networks and regressions see are remapped from the file's own cells to blocks.
        period: first and last training time.
        times: number of training times.
        step_seconds: length of a time step.
        traces: hashes of the fine fields at some training times, by which they are known under other dates.
    """

    inputs: CoarseInputs
    grid: Grid
    true_grid: Grid
    factor: tuple[int, int]
    names: Names
    attributes: Mapping[str, Mapping[str, Any]]
    title: str
    remapped: bool
    period: tuple[str, str]
    times: int
    step_seconds: float = 86400.0
    traces: tuple[str, ...] = ()

    @classmethod
    def of(cls, matched: Pair) -> Self:
        """The domain of a training pair."""
        times = [str(matched.fine.time.values[index])[:19] for index in (0, -1)]
        return cls(
            inputs=matched.inputs,
            grid=matched.grid,
            true_grid=matched.true_grid,
            factor=matched.factor,
            names=matched.names,
            attributes={name: plain(matched.fine[name].attrs) for name in matched.variables},
            title=str(matched.fine.attrs.get("title", "")),
            remapped=matched.remapped,
            period=(times[0], times[1]),
            times=matched.fine.sizes["time"],
            step_seconds=usual_step(matched.fine.time),
            traces=few_traces(within(matched.fine, matched.true_grid), matched.variables),
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the predicted variables."""
        return tuple(self.inputs.variables)

    def limits(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a predicted variable that nature allows, in its units."""
        return natural_limits(name, {"units": self.inputs.units[name], **self.attributes[name]})

    @property
    def layout(self) -> Layout:
        """The channels and grids, without features."""
        return Layout(
            outputs=self.outputs,
            inputs=self.inputs.channels,
            units=self.inputs.units,
            grid=self.grid,
            coarse_grid=self.inputs.grid,
            factor=self.factor,
        )

    @cached_property
    def operator(self) -> Operator:
        """The area-weighted mean from the valid cells of the fine file to the cells whose values are conserved."""
        return Operator.conservative(self.true_grid, self.inputs.conserved_grid)

    @property
    def binding(self) -> NDArray[np.bool_]:
        """Coarse cells whose values bind (h, w): within the fine domain, and with a valid fine cell."""
        filled = np.asarray(self.operator.weights.covered[:, 0] > 0).reshape(self.operator.target.shape)
        return filled & (self.operator.coverage >= COVERED)

    @property
    def binding_areas(self) -> sparse.csr_array:
        """Areas that binding coarse cells share with valid fine cells, those of `grid`."""
        shared, _ = self.operator.areas
        mask = self.true_grid.mask
        valid = np.ones(shared.shape[1]) if mask is None else mask.ravel()
        kept = sparse.coo_array(shared * valid[None, :] * self.binding.ravel()[:, None])
        row, column = np.divmod(kept.col, self.true_grid.shape[1])
        places = (kept.row, row * self.grid.shape[1] + column)
        areas = sparse.csr_array((kept.data, places), shape=(shared.shape[0], self.grid.size))
        areas.eliminate_zeros()
        return areas

    def described(self, fine: xr.Dataset) -> xr.Dataset:
        """A prediction on the cells of the fine file, with the attributes that its variables have."""
        fine = within(fine, self.true_grid)
        for name in self.outputs:
            fine[name].attrs = attributes(self.attributes[name])
        fine.attrs = {"title": f"{self.title}, downscaled" if self.title else "Downscaled fields"}
        return fine

    def summary(self) -> dict[str, Any]:
        """The domain in words."""
        rows, columns = self.true_grid.shape
        return {
            "variables": {name: self.inputs.units[name] for name in self.outputs},
            "predictors": {name: self.inputs.units[name] for name in self.inputs.predictors},
            "coarse cells": " x ".join(map(str, self.inputs.grid.shape)),
            "fine cells": f"{rows} x {columns}",
            "factor": " x ".join(map(str, self.factor)),
            "remapped": self.remapped,
            "conserved cells": f"{int(self.binding.sum())} of {self.inputs.conserved_grid.size}",
            "training period": " to ".join(self.period),
            "training times": self.times,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "inputs": self.inputs.to_dict(),
            "grid": self.grid.to_dict(),
            "true_grid": None if self.true_grid.shape == self.grid.shape else self.true_grid.to_dict(),
            "factor": list(self.factor),
            "names": self.names.to_dict(),
            "attributes": {name: dict(each) for name, each in self.attributes.items()},
            "title": self.title,
            "remapped": self.remapped,
            "period": list(self.period),
            "times": self.times,
            "step_seconds": self.step_seconds,
            **({"traces": list(self.traces)} if self.traces else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The domain that `to_dict` described."""
        true_grid = values.get("true_grid")
        return cls(
            inputs=CoarseInputs.from_dict(values["inputs"]),
            grid=(grid := Grid.from_dict(values["grid"])),
            true_grid=grid if true_grid is None else Grid.from_dict(true_grid),
            factor=(values["factor"][0], values["factor"][1]),
            names=Names.from_dict(values["names"]),
            attributes={name: dict(each) for name, each in values["attributes"].items()},
            title=values["title"],
            remapped=values["remapped"],
            period=(values["period"][0], values["period"][1]),
            times=values["times"],
            step_seconds=values.get("step_seconds", 86400.0),
            traces=tuple(values.get("traces", ())),
        )
