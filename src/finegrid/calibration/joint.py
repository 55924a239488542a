"""Regions that hold several things at once: a whole map between two ends, or several variables as one vector.

    map-band     s = max over cells |y - mean| / d,                  mean -+ d Q in every cell at once
    joint        s = min over members || (y - x_m) / e ||,           union of balls about the members with radius Q

with d the usual error of each cell, hypot with the spread of the members; e the usual error of each variable, so that
units do not matter; and Q the conformal quantile. A map is inside its band as a whole with the chance of the level. The
union of balls takes any shape that the members have, in parts where they have several modes; of a distribution that is
sampled well it is far smaller than a box. Members take the place of the learned representation of the source.

Sources: Feldman, Bates and Romano, "Calibrated multiple-output quantile regression with representation learning", JMLR
24, 2023 (distance to a set of samples); Wang et al., "Probabilistic conformal prediction using conditional random
samples", AISTATS 2023; Diquigiovanni, Fontana and Vantini, "Conformal prediction bands for multivariate functional
data", Journal of Multivariate Analysis 189, 2022 (maximum).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases, standard
from finegrid.calibration.groups import Groups
from finegrid.calibration.kernel import Array, Places, Pool, needed
from finegrid.conventions import InputError

_SMALL, _SAME = 1e-12, 1e-6


@dataclass(kw_only=True)
class MapBand(Calibrator):
    """A band that holds whole maps."""

    name: ClassVar[str] = "map-band"
    guarantee: ClassVar[str] = (
        "joint: all cells of a map are inside with the chance of the level, for a time that can change places with "
        "those of calibration"
    )
    bound: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def _evidence(self, some: Cases) -> Evidence:
        return {"error": np.abs(some.known - some.mean), "deviation": some.deviation}

    def _learn(self, notes: Notes) -> Learnt:
        error = notes.evidence["error"]
        # The errors that set the units must be of other times than those that set the quantile.
        first, second = error[: len(error) // 2], error[len(error) // 2 :]
        usual = np.sqrt(_mean(first**2))
        usual = np.where(np.isfinite(usual), np.maximum(usual, 0.05 * np.sqrt(np.nanmean(first**2))), np.nan)
        size = np.hypot(usual, notes.evidence["deviation"][len(error) // 2 :])
        scores = np.nanmax((second / np.maximum(size, _SMALL)).reshape(len(second), -1), axis=1)
        return {"usual": usual, "scores": np.sort(scores[np.isfinite(scores)])}

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        return np.stack([self._edge(some, learnt, float(level)) for level in levels])

    def _edge(self, some: Cases, learnt: Learnt, level: float) -> Array:
        width = quantile_of(learnt["scores"], abs(2 * level - 1)) if level != 0.5 else 0.0
        return np.asarray(some.mean + np.sign(level - 0.5) * width * np.hypot(learnt["usual"], some.deviation))


@dataclass(kw_only=True)
class Joint(Calibrator):
    """Regions for the vector of all variables of a cell; their intervals are the boxes around them.

    Args:
        level: chance of a region.
        members: at most so many make a region; the others are left out.
    """

    level: float = 0.9
    members: int = 200

    name: ClassVar[str] = "joint"
    guarantee: ClassVar[str] = (
        "joint: all variables of a cell are inside together with the chance of the level, for a case that can change "
        "places with those of calibration"
    )
    draws: ClassVar[bool] = False

    def contains(self, ensemble: xr.Dataset, vectors: xr.Dataset) -> xr.DataArray:
        """Whether vectors (time, y, x) are inside the regions of predictions (member, time, y, x)."""
        given, asked = standard(ensemble, "the predictions"), standard(vectors, "the vectors")
        inside = self._distance(self._vectors(given), self._vectors(asked)[:, 0]) <= self._radius
        return self._like(given, inside, "inside", "inside the joint region")

    def area(self, ensemble: xr.Dataset, *, points: int = 200, seed: int = 0) -> xr.DataArray:
        """Area (volume) of the regions in the units of the variables (time, y, x), by random points in their boxes."""
        given = standard(ensemble, "the predictions")
        members, chance = self._vectors(given), np.random.default_rng(seed)
        low, high = members.min(1) - self._reach, members.max(1) + self._reach
        inside = np.zeros(low.shape[1:])
        for _ in range(points):
            inside += self._distance(members, low + chance.random(low.shape) * (high - low)) <= self._radius
        return self._like(given, (high - low).prod(0) * inside / points, "area", "area of the joint region")

    def _evidence(self, some: Cases) -> Evidence:
        return {}

    def _learn(self, notes: Notes) -> Learnt:
        return {}

    def _taught(
        self, given: xr.Dataset, truth: xr.Dataset, labels: NDArray[Any] | None
    ) -> tuple[dict[str, Groups], dict[str, Learnt]]:
        groups, _ = super()._taught(given, truth, labels)
        members = self._vectors(given, list(groups))
        known = self._vectors(truth.expand_dims("member"), list(groups))[:, 0]
        units = np.sqrt(_mean((members.mean(1) - known).reshape(len(known), -1) ** 2, axis=1))
        scores = _nearest(members, known, units)
        radius = quantile_of(scores[np.isfinite(scores)], self.level)
        each = zip(groups, units, strict=True)
        return groups, {name: {"unit": np.array([unit]), "radius": np.array([radius])} for name, unit in each}

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        if abs(levels[-1] - levels[0] - self.level) > _SAME or len(levels) != 2:
            raise InputError(
                f"got the chances {', '.join(f'{each:g}' for each in levels)}; expected the interval of "
                f"{100 * self.level:g} % that 'joint' was fitted for; ask for that, or fit it with another level"
            )
        reach = learnt["unit"] * learnt["radius"]
        chosen = some.members[: self.members]
        return np.stack([chosen.min(0) - reach, chosen.max(0) + reach])

    @property
    def _radius(self) -> float:
        return float(self._learnt[self.variables[0]]["radius"][0])

    @property
    def _units(self) -> Array:
        return np.concatenate([self._learnt[name]["unit"] for name in self.variables])

    @property
    def _reach(self) -> Array:
        return self._radius * self._units.reshape(-1, 1, 1, 1)

    def _vectors(self, fields: xr.Dataset, names: Sequence[str] | None = None) -> Array:
        """(variable, member, time, y, x)."""
        wanted = self.variables if names is None else names
        missing = [name for name in wanted if name not in fields]
        if missing:
            raise InputError(f"got fields without {', '.join(missing)}; expected {', '.join(wanted)}; add them")
        parts = [fields[name].transpose("member", "time", ...)[: self.members].values for name in wanted]
        return np.stack(parts).astype(np.float64)

    def _distance(self, members: Array, vectors: Array) -> Array:
        return _nearest(members, vectors, self._units)

    def _like(self, given: xr.Dataset, values: NDArray[Any], name: str, words: str) -> xr.DataArray:
        field = given[self.variables[0]].isel(member=0, drop=True)
        bare = field.copy(data=values).rename(name)
        bare.attrs = {"long_name": words}
        return bare


def _nearest(members: Array, vectors: Array, units: Array) -> Array:
    """Distance of vectors (variable, time, y, x) from the nearest member, in units of the variables (time, y, x)."""
    size = np.maximum(units, _SMALL).reshape(-1, 1, 1, 1)
    distance = np.full(vectors.shape[1:], np.inf)
    for member in range(members.shape[1]):
        distance = np.fmin(distance, (((vectors - members[:, member]) / size) ** 2).sum(0))
    known = np.isfinite(vectors).all(0) & np.isfinite(distance)
    return np.sqrt(np.where(known, distance, np.nan))


def quantile_of(scores: Array, level: float) -> float:
    """The conformal quantile of scores.

    Raises:
        InputError: where they are too few; says how many a level needs.
    """
    found = float(Pool.of(scores).upper(level)[0])
    if not np.isfinite(found):
        raise InputError(
            f"got {len(scores)} calibration cases; expected at least {needed(level)}, without which no region holds "
            f"with a chance of {level:g}; calibrate on more times, or ask for a lower level"
        )
    return found


def _mean(values: Array, axis: int | Sequence[int] = 0) -> Array:
    """Means over known values; NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
