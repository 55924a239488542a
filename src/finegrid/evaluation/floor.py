"""The internal-variability floor: what of an error is the truth's own chance, which no method can know.

A truth of M members is scored as their mean. Where members differ by chance with variance s^2, that mean lies around
the response which they have in common with the variance s^2 / M, and a perfect prediction of the response still has

    RMSE = sqrt(mean over cells and times of s^2 / M)

s^2 is estimated from the members in every cell and at every time (with M - 1 in the denominator), so it does not
depend on any prediction. A difference between two methods below the floor is within internal variability: another
draw of the members may turn it around. How it would with fewer members is found by scoring against the means of
disjoint groups of them.

Besides the error in all cells and times, as ClimateBench does (Watson-Parris et al. 2022, doi:10.1029/2021MS002954),

    spatial   sqrt(mean over cells of (mean over times of the error)^2)
    global    sqrt(mean over times of (mean over cells of the error)^2)

each with its own floor, divided by the mean of the truth where it cannot be negative, and otherwise, as a temperature
has no natural zero, by the standard deviation of the truth over cells and times. All means over cells are by area.

Source: Lütjens et al. 2025, doi:10.1029/2024MS004619.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finegrid.evaluation.alignment import Case
from finegrid.evaluation.averaging import Array
from finegrid.evaluation.metrics import Reference
from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded

SIZES = (3, 5, 10, 20, 50)
"""Numbers of members for which the skill is shown, as far as there are so many."""


@dataclass(frozen=True)
class Subset:
    """Scores against means of fewer members.

    Attributes:
        members: how many.
        floor: sqrt(mean s^2 / members).
        errors: RMSE against the mean of each disjoint group of members (group,), by method.
    """

    members: int
    floor: float
    errors: Mapping[str, Array]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(next(iter(self.errors.values())))

    def error(self, method: str) -> float:
        """RMSE over all groups."""
        return float(np.sqrt((self.errors[method] ** 2).mean()))

    def turned(self, better: str, worse: str) -> float:
        """Part of the groups in which the ranking of two methods is the other way round."""
        return float((self.errors[better] > self.errors[worse]).mean())


@dataclass(frozen=True)
class Floor:
    """What internal variability leaves of one variable's scores.

    Attributes:
        variable: name of the variable.
        units: of the errors.
        members: M.
        floors: smallest score that can be expected, by metric: "rmse", "mae", "bias".
        spatial, overall: normalised errors by method, spatial and global.
        spatial_floor, overall_floor: their floors.
        scale: what they are divided by, in the units of the variable.
        subsets: the same scores against fewer members, the fewest first.
    """

    variable: str
    units: str
    members: int
    floors: Mapping[str, float]
    spatial: Mapping[str, float]
    overall: Mapping[str, float]
    spatial_floor: float
    overall_floor: float
    scale: float
    subsets: tuple[Subset, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        subsets = [
            {
                "members": each.members,
                "floor": _plain(each.floor),
                "groups": each.groups,
                "rmse": {name: _plain(each.error(name)) for name in each.errors},
            }
            for each in self.subsets
        ]
        return {
            "variable": self.variable,
            "units": self.units,
            "members": self.members,
            "floor": {name: _plain(each) for name, each in self.floors.items()},
            "nrmse_spatial": {name: _plain(each) for name, each in self.spatial.items()},
            "nrmse_global": {name: _plain(each) for name, each in self.overall.items()},
            "nrmse_spatial_floor": _plain(self.spatial_floor),
            "nrmse_global_floor": _plain(self.overall_floor),
            "nrmse_scale": _plain(self.scale),
            "by_members": subsets,
        }


def floor_of(case: Case, reference: Reference) -> Floor | None:
    """The floor of a variable whose truth has members; None where it has one or none."""
    if case.members is None or case.members.sizes["member"] < 2:
        return None
    sums = _Sums(case.members.sizes["member"], reference.grid.area)
    # Errors are the same after a shift, and squares of numbers around zero lose no digits.
    shift = (reference.lowest + reference.highest) / 2
    for members, errors, known in _blocks(case, shift):
        sums.add(members, errors, known)
    scale = abs(sums.mean + shift) if reference.never_negative else sums.deviation
    scale = scale if scale > 0 else np.nan
    (spatial, spatial_floor), (overall, overall_floor) = sums.in_cells(), sums.at_times()
    methods = list(case.predictions)
    return Floor(
        case.name,
        reference.units or "1",
        sums.count,
        sums.floors(),
        dict(zip(methods, (spatial / scale).tolist(), strict=True)),
        dict(zip(methods, (overall / scale).tolist(), strict=True)),
        spatial_floor / scale,
        overall_floor / scale,
        scale,
        sums.subsets(methods),
    )


def _blocks(case: Case, shift: float) -> Iterator[tuple[Array, Array, Array]]:
    """Block by block: members (member, time, y, x), predictions less their mean (method, time, y, x), what is known.

    Known (time, y, x) is 1 where all members are and 0 elsewhere, where everything is 0.
    """
    if case.members is None:
        return
    size = case.members.sizes["member"] * case.truth.sizes["y"] * case.truth.sizes["x"]
    for part in parts_of(case.truth.sizes["time"], size):
        members = loaded(case.members, part) - shift
        known = np.isfinite(loaded(case.truth, part)) & np.isfinite(members).all(axis=0)
        members = np.where(known, members, 0.0)
        predicted = np.stack([loaded(each, part).mean(axis=0) for each in case.predictions.values()]) - shift
        yield members, np.where(known, predicted - members.mean(axis=0), 0.0), known.astype(np.float64)


class _Sums:
    """Sums over known cells and times, growing block by block."""

    def __init__(self, count: int, area: Array) -> None:
        self.count = count
        self._area = area
        self._weight = self._variance = self._spread = self._truth = self._squares = 0.0
        self._cells: list[Array] = []
        self._times: list[list[Array]] = [[], [], []]
        self._groups: dict[int, Array] = {}

    def add(self, members: Array, errors: Array, known: Array) -> None:
        """Take in a block."""
        weight = known * self._area
        variance, mean = members.var(axis=0, ddof=1), members.mean(axis=0)
        self._weight += float(weight.sum())
        self._variance += float((variance * weight).sum())
        self._spread += float((np.sqrt(variance) * weight).sum())
        self._truth += float((mean * weight).sum())
        self._squares += float((mean**2 * weight).sum())
        block = [members.sum(axis=1), errors.sum(axis=1), known.sum(axis=0)]
        self._cells = [old + new for old, new in zip(self._cells, block, strict=True)] if self._cells else block
        at_times = [np.einsum("ktyx,tyx->kt", each, weight) for each in (members, errors)]
        for kept, new in zip(self._times, (*at_times, weight.sum(axis=(-2, -1))), strict=True):
            kept.append(new)
        for size in dict.fromkeys((*(each for each in SIZES if each < self.count), self.count)):
            self._groups[size] = self._groups.get(size, 0.0) + _group_squares(members, errors, weight, size)

    @property
    def mean(self) -> float:
        """Of the truth, shifted."""
        return self._truth / self._weight

    @property
    def deviation(self) -> float:
        """Standard deviation of the truth over cells and times."""
        return float(np.sqrt(max(self._squares / self._weight - self.mean**2, 0.0)))

    def floors(self) -> dict[str, float]:
        """Floors by metric; that of the absolute error is the mean distance of a Gaussian."""
        members, _, times = self._cells
        whole = (members * self._area).sum(axis=(-2, -1)) / (times * self._area).sum()
        return {
            "rmse": self._floor(self.count),
            "mae": float(np.sqrt(2 / np.pi / self.count) * self._spread / self._weight),
            "bias": float(whole.std(ddof=1) / np.sqrt(self.count)),
        }

    def in_cells(self) -> tuple[Array, float]:
        """Root-mean-square over cells of errors averaged over times (method,), and its floor."""
        members, errors, times = self._cells
        return _rooted(members, errors, times, np.where(times > 0, self._area, 0.0))

    def at_times(self) -> tuple[Array, float]:
        """Root-mean-square over times of errors averaged over cells (method,), and its floor."""
        members, errors, areas = (np.concatenate(each, axis=-1) for each in self._times)
        return _rooted(members, errors, areas, (areas > 0).astype(np.float64))

    def subsets(self, methods: list[str]) -> tuple[Subset, ...]:
        """Scores by number of members."""
        errors = {size: np.sqrt(each / self._weight) for size, each in self._groups.items()}
        return tuple(
            Subset(size, self._floor(size), dict(zip(methods, each, strict=True))) for size, each in errors.items()
        )

    def _floor(self, count: int) -> float:
        return float(np.sqrt(self._variance / self._weight / count))


def _rooted(members: Array, errors: Array, weights: Array, area: Array) -> tuple[Array, float]:
    """Root-mean-square (method,) of errors (method, ...) that are sums with these weights, and that of the members."""
    axes = tuple(range(1, members.ndim))
    share, weights = area / area.sum(), np.where(weights > 0, weights, 1.0)
    variance = (members / weights).var(axis=0, ddof=1)
    floor = float(np.sqrt((variance * share).sum() / len(members)))
    return np.asarray(np.sqrt(((errors / weights) ** 2 * share).sum(axis=axes))), floor


def _group_squares(members: Array, errors: Array, weight: Array, size: int) -> Array:
    """Weighted sums (method, group) of squared errors against the means of groups of that size."""
    groups = len(members) // size
    means = members[: groups * size].reshape(groups, size, *members.shape[1:]).mean(axis=1) - members.mean(axis=0)
    # |e - g|^2 = |e|^2 - 2 e g + |g|^2, with e the error against the mean of all members and g that of a group's.
    own = np.einsum("gtyx,tyx->g", means**2, weight)
    both = np.einsum("ktyx,gtyx->kg", errors * weight, means, optimize=True)
    return np.asarray(np.einsum("ktyx,tyx->k", errors**2, weight)[:, None] - 2 * both + own)


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
