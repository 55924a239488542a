"""What a graph is given, and how the fields of a Dataset are handed to it.

    coarse        (batch, channel, y, x)   coarse fields on the blocks of the model, in its units
    conserved     (batch, channel, y, x)   values on the coarse file's own cells, where these are not the blocks
    around        (batch, channel, y, x)   coarse fields on the cells in and around the domain, where a method sees them
    hour          (batch)                  hour of the day, 0 <= hour < 24, minutes as a part of it
    phase_of_year (batch)                  (day of the year - 1 + hour / 24) / days in a year
    scores        (batch, channel, y, x)   standard normal fields on the fine grid, where cells have a distribution;
                                           0 gives its median

Channels of `coarse` and `around` are the variables at every frame, the steps before first. Hour and
phase are what any language can say of a date in any calendar; their waves are part of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.bridge import to_tensor
from finegrid.conventions.components import word_of
from finegrid.data.predictors import days_of_year, frame_indices
from finegrid.data.surroundings import wide_name
from finegrid.downscalers import Downscaler, LinearMap, NeuralDownscaler
from finegrid.downscalers.domain import Domain
from finegrid.grids import Grid

Feeds = dict[str, NDArray[np.float32]]
_CLOCK: Mapping[str, str] = {"hour": "hour", "day_of_year": "phase_of_year"}
"""What is asked for each cycle."""
_PHASE = (
    "(day of the year - 1 + hour / 24) / days, with 1 for the first of January and days = 365.25, or those of the year "
    "in calendars of 365 or 360 days"
)


@dataclass(frozen=True, eq=False)
class Signature:
    """The inputs of a graph.

    Attributes:
        domain: variables, units and grids.
        frames: offsets in time steps of the coarse fields, ascending; 0 is among them.
        sees_around: whether cells around the domain are an input.
        sees_own: whether the coarse file's own cells are an input of their own.
        clock: which of hour and phase_of_year are inputs.
        draws: whether normal scores are an input.
    """

    domain: Domain
    frames: tuple[int, ...]
    sees_around: bool
    sees_own: bool
    clock: tuple[str, ...]
    draws: bool

    @classmethod
    def of(cls, downscaler: Downscaler) -> Signature:
        """The inputs that a downscaler needs."""
        seen = list(_parts(downscaler))
        frames = {0, *(offset for each in seen for offset in each.frames)}
        cycles = {name for each in seen for name in each.cycles}
        own = downscaler.domain.inputs.own is not None and _uses_coarse(downscaler)
        around = any(each.around for each in seen)
        clock = tuple(name for kind, name in _CLOCK.items() if kind in cycles)
        return cls(downscaler.domain, tuple(sorted(frames)), around, own, clock, downscaler.random)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs in their order."""
        more = [name for name, wanted in (("conserved", self.sees_own), ("around", self.sees_around)) if wanted]
        return ("coarse", *more, *self.clock, *(["scores"] if self.draws else []))

    @property
    def around(self) -> Grid:
        """The cells in and around the domain."""
        return self.domain.inputs.wide or self.domain.inputs.grid

    def feeds(self, fields: xr.Dataset) -> Feeds:
        """The inputs of the graph (time, ...) for fields as `Downscaler.read` gives them."""
        channels, inputs = self.domain.inputs.channels, self.domain.inputs
        found = {"coarse": self._framed(fields, channels)}
        if self.sees_own:
            found["conserved"] = to_tensor(fields, inputs.conserved_names).numpy()
        if self.sees_around:
            found["around"] = self._framed(fields, [wide_name(name) for name in channels])
        dates = fields.time.dt
        clock = {"hour": (dates.hour + dates.minute / 60).values, "phase_of_year": days_of_year(fields.time) / 366.0}
        return found | {name: np.asarray(clock[name], dtype=np.float32) for name in self.clock}

    def _framed(self, fields: xr.Dataset, names: Iterable[str]) -> NDArray[np.float32]:
        values = to_tensor(fields, list(names)).numpy()
        return np.concatenate([values[frame_indices(fields.time, offset)] for offset in self.frames], axis=1)

    def described(self) -> list[dict[str, Any]]:
        """The inputs in words and numbers, ready for JSON."""
        inputs, domain = self.domain.inputs, self.domain
        every = [(name, offset) for offset in self.frames for name in inputs.channels]
        channels = [
            {"name": name, "coarse_name": inputs.variables.get(name, name), "units": inputs.units[name], "step": offset}
            for name, offset in every
        ]
        only = [{"name": name, "units": inputs.units[name]} for name in domain.outputs]
        scores = [{"name": name, "units": "standard normal score; 0 is the median"} for name in domain.outputs]
        dims, step = ["batch", "channel", "y", "x"], domain.step_seconds
        told: dict[str, dict[str, Any]] = {
            "coarse": {"dims": dims, "channels": channels, "step_seconds": step, "grid": axes(inputs.grid)},
            "conserved": {"dims": dims, "channels": only, "grid": axes(inputs.conserved_grid)},
            "around": {"dims": dims, "channels": channels, "step_seconds": step, "grid": axes(self.around)},
            "hour": {"dims": ["batch"], "units": "hours of the day of the date, 0 <= hour < 24, minutes as a fraction"},
            "phase_of_year": {"dims": ["batch"], "units": _PHASE},
            "scores": {"dims": dims, "channels": scores, "grid": axes(domain.grid)},
        }
        return [{"name": name, "type": "float32", **told[name]} for name in self.names]


def axes(grid: Grid) -> dict[str, Any]:
    """Where the values of a grid lie, ready for JSON: y and x ascend."""
    if grid.is_curvilinear:
        latitude, longitude = grid.centres
        return {"kind": "curvilinear", "latitude": latitude.tolist(), "longitude": longitude.tolist()}
    kind = "latitude-longitude, degrees" if grid.is_latlon else "y and x of the reference system"
    return {"kind": kind, "y": grid.y.tolist(), "x": grid.x.tolist(), "crs": grid.crs}


@dataclass(frozen=True)
class _Part:
    """What one part of a downscaler looks at."""

    frames: tuple[int, ...]
    cycles: tuple[str, ...]
    around: bool


def _parts(downscaler: Downscaler) -> Iterable[_Part]:
    if isinstance(downscaler, NeuralDownscaler):
        layout = downscaler._trained[0].layout
        yield _Part(layout.frames, layout.cycles, False)
        if downscaler._mean is not None:
            yield from _parts(downscaler._mean)
    if isinstance(downscaler, LinearMap):
        features = downscaler._known_features()
        yield _Part(tuple(features.frames), tuple(features.cycles or ()), features.looks_around)


def _uses_coarse(downscaler: Downscaler) -> bool:
    """Whether values on the file's own cells change the answer."""
    inner = downscaler._mean if isinstance(downscaler, NeuralDownscaler) else None
    unbound = {"none", "soft"}
    every = [each for each in (downscaler, inner) if each is not None]
    return any(word_of(each.conservation.table) not in unbound for each in every)
