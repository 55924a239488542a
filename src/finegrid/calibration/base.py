"""What a calibrator is: predictions and what came true in, predictions that keep their promise out.

A variant says what it notes of each case (`_evidence`), what it learns from these notes in groups (`_learn`), and which
values a prediction then has at given chances (`_quantiles`). What all share is here: names, units and times, groups,
missing cells, blocks of times, members in the order of the raw ones, and the state in the model folder.

Values at chances are no possible weather, and neither are members whose values were calibrated cell by cell: whoever
needs them to conserve has to project them again (`finegrid downscale` does).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.cases import Cases, cases, lazily, matched, standard
from finegrid.calibration.groups import Groups
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.members import checked_levels, in_order_of
from finegrid.conventions import InputError, harmonise, natural_limits, restore

Evidence = dict[str, NDArray[Any]]
"""Notes on cases (..., time, y, x)."""
Learnt = dict[str, NDArray[Any]]
"""What was learnt of a variable, as arrays."""

Make = Callable[..., Array]

DIMENSION = "quantile"
_ABOUT = {"long_name": "chance of a value at or below", "units": "1"}


@dataclass(frozen=True, eq=False)
class Notes:
    """What was noted of all calibration cases of a variable.

    Attributes:
        evidence: of each case (..., time, y, x).
        places: group of each case (time, y, x), below 0 for none.
        groups: the groups.
        time: (time,).
        members: number of members.
        limits: lowest and highest value that nature allows.
    """

    evidence: Evidence
    places: Places
    groups: Groups
    time: xr.DataArray
    members: int
    limits: tuple[float, float]

    def means(self, values: NDArray[Any], weights: NDArray[Any] | None = None, shrink: float = 0.0) -> Array:
        """Means over the cases of each group (group,), drawn to that of all by so many cases of its own."""
        kept = (self.places >= 0) & np.isfinite(values)
        weight = np.where(kept, 1.0 if weights is None else weights, 0.0)[kept]
        place, count = self.places[kept], self.groups.count
        sums = np.bincount(place, weight * values[kept], count)
        masses = np.bincount(place, weight, count)
        whole = sums.sum() / masses.sum() if masses.sum() else np.nan
        prior = max(shrink, 1e-9) * (masses.sum() / max(1, kept.sum()))
        return np.asarray((sums + prior * whole) / (masses + prior))


@dataclass(kw_only=True)
class Calibrator(ABC):
    """Options that all share.

    Args:
        groups: which cases are calibrated together, of `groups.GROUPS`; none for all.
        regions: blocks along each side of the domain, for the group region.
        regimes: classes of the predicted value, for the group regime.
        shrink: how many cases of all groups together count in a group beside its own; it keeps small groups, such as
            cells, from learning chance. Guarantees of a group hold with 0.
    """

    groups: Sequence[str] = ()
    regions: int = 3
    regimes: int = 5
    shrink: float = 0.0
    _groups: dict[str, Groups] = field(default_factory=dict, init=False, repr=False)
    _learnt: dict[str, Learnt] = field(default_factory=dict, init=False, repr=False)

    name: ClassVar[str]
    guarantee: ClassVar[str]
    """What it promises, in a sentence."""
    least_members: ClassVar[int] = 1
    bound: ClassVar[bool] = False
    """Whether what it learns belongs to the cells of one grid."""
    draws: ClassVar[bool] = True
    """Whether it has values at all chances, and so members."""
    adapts: ClassVar[bool] = False
    """Whether it is for the predictions alone that `adapt` has seen."""

    def fit(self, ensemble: xr.Dataset, observed: xr.Dataset, *, labels: xr.DataArray | None = None) -> Self:
        """Learn from predictions (member, time, y, x) of times that their model has not seen, and what came true.

        Args:
            ensemble: predictions in any names; a single one may do without a member dimension.
            observed: the truth (time, y, x), on the same grid; times that one of them has not are left out.
            labels: regions of the cells (y, x) as whole numbers, in place of blocks.

        Raises:
            InputError: when the two do not fit together, or there are too few cases or members.
        """
        given, truth = matched(ensemble, observed)
        self._check_members(given.sizes["member"])
        self._groups, self._learnt = self._taught(given, truth, None if labels is None else np.asarray(labels.values))
        return self

    def adapt(self, ensemble: xr.Dataset) -> Self:
        """Look at predictions (member, time, y, x) that are to be calibrated, without truth; most need not."""
        return self

    def quantiles(self, ensemble: xr.Dataset, levels: Sequence[float]) -> xr.Dataset:
        """Values at so many chances (quantile, time, y, x), in the names and units of the predictions.

        Raises:
            InputError: before `fit`, on chances that are none, and on fewer cases than a chance needs.
        """
        chances = checked_levels(levels)
        return self._mapped(ensemble, self._quantiles, chances, chances)

    def interval(self, ensemble: xr.Dataset, level: float = 0.9) -> xr.Dataset:
        """The ends of intervals that hold the truth with a chance, as the quantiles (1 -+ level) / 2."""
        chances = checked_levels([(1 - level) / 2, (1 + level) / 2])
        return self._mapped(ensemble, self._interval, chances, level)

    def apply(self, ensemble: xr.Dataset) -> xr.Dataset:
        """Calibrated members (member, time, y, x), of which each keeps its rank among all at every time and cell."""
        if not self.draws:
            raise InputError(
                f"got the calibrator '{self.name}' for members; it makes intervals alone; ask for these, or fit one "
                "that has values at all chances, such as crude or recalibration"
            )
        return self._mapped(ensemble, self._members, None)

    def update(self, ensemble: xr.Dataset, observed: xr.Dataset) -> Self:
        """Learn more from later predictions and what came true.

        Raises:
            InputError: on times that are not later than all before, and of methods that learn only once.
        """
        raise InputError(
            f"got new cases for the calibrator '{self.name}', which learns only once; expected one that learns as "
            "truth arrives: scale-free, strongly-adaptive, decaying or reservoir; or fit it on all cases together"
        )

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    @property
    def variables(self) -> tuple[str, ...]:
        """What it was fitted for.

        Raises:
            InputError: before `fit`.
        """
        if not self._learnt:
            raise InputError(
                f"got a calibrator '{self.name}' that has learnt nothing; expected one after fit; call "
                "fit(ensemble, observed), or `finegrid calibrate model/ --on ...`"
            )
        return tuple(self._learnt)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Name and options as plain values, and all that was learnt as arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        for name in self.variables:
            arrays |= {f"{name}/groups/{key}": each for key, each in self._groups[name].arrays().items()}
            arrays |= {f"{name}/{key}": each for key, each in self._learnt[name].items()}
        return {"name": self.name, "options": self.options, "variables": list(self.variables)}, arrays

    def remember(self, variables: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Become the calibrator that had this state."""
        for name in variables:
            own = {key.removeprefix(f"{name}/"): each for key, each in arrays.items() if key.startswith(f"{name}/")}
            placed = {key.removeprefix("groups/"): own.pop(key) for key in list(own) if key.startswith("groups/")}
            self._groups[name] = Groups.from_arrays(self.groups, placed)
            self._learnt[name] = own
        return self

    @abstractmethod
    def _evidence(self, some: Cases) -> Evidence:
        """Notes on cases (..., time, y, x)."""

    @abstractmethod
    def _learn(self, notes: Notes) -> Learnt:
        """What all notes of a variable teach."""

    @abstractmethod
    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        """Values (level, time, y, x) at chances (level,), of cases in groups (time, y, x)."""

    def _interval(self, some: Cases, learnt: Learnt, place: Places, level: float) -> Array:
        return self._quantiles(some, learnt, place, np.array([(1 - level) / 2, (1 + level) / 2]))

    def _members(self, some: Cases, learnt: Learnt, place: Places) -> Array:
        chances = np.arange(1, some.count + 1) / (some.count + 1)
        return in_order_of(self._quantiles(some, learnt, place, chances), some.members)

    def _taught(
        self, given: xr.Dataset, truth: xr.Dataset, labels: NDArray[Any] | None
    ) -> tuple[dict[str, Groups], dict[str, Learnt]]:
        """Groups and what was learnt of each variable, from standard fields that fit together."""
        learnt, found = {}, {}
        for name in map(str, given.data_vars):
            notes = self._noted(given, truth, name, labels)
            found[name], learnt[name] = notes.groups, self._learn(notes)
        return found, learnt

    def _noted(self, given: xr.Dataset, truth: xr.Dataset, name: str, labels: NDArray[Any] | None) -> Notes:
        parts, predicted = [], []
        for some in cases(given, truth, name):
            evidence, mean = self._evidence(some), some.mean
            unknown = ~(np.isfinite(mean) & np.isfinite(some.known))
            parts.append({key: np.where(unknown, np.nan, each) for key, each in evidence.items()})
            predicted.append(np.where(unknown, np.nan, mean))
        values = np.concatenate(predicted)
        groups = Groups.of(self.groups, values, regions=self.regions, regimes=self.regimes, labels=labels)
        limits = natural_limits(name, given[name].attrs)
        whole = Cases(name, values[None].astype(np.float32), None, given.time, 0, limits)
        place = np.where(np.isfinite(values), groups(whole, values), -1)
        evidence = {key: np.concatenate([part[key] for part in parts], axis=parts[0][key].ndim - 3) for key in parts[0]}
        return Notes(evidence, place, groups, given.time, given.sizes["member"], limits)

    def _mapped(
        self, ensemble: xr.Dataset, make: Make, chances: Array | None, *more: Any, lazy: bool = True
    ) -> xr.Dataset:
        """A function of (cases, what was learnt, groups, more) over blocks of times, later where these may wait."""
        known = self.variables
        given, names = standard(ensemble, "the predictions"), harmonise(ensemble)[1]
        self._check_members(given.sizes["member"])
        chosen = [name for name in map(str, given.data_vars) if name in known]
        if not chosen:
            raise InputError(
                f"got predictions of {', '.join(map(str, given.data_vars))}; expected some of {', '.join(known)}, for "
                f"which the calibrator '{self.name}' was fitted; predict these, or fit another one"
            )
        rows = given.sizes["member"] if chances is None else len(chances)
        made = {name: self._values(given, name, make, rows if lazy else None, *more) for name in chosen}
        dims = ("member" if chances is None else DIMENSION, *given[chosen[0]].transpose("member", "time", ...).dims[1:])
        filled = {name: (dims, values, given[name].attrs) for name, values in made.items()}
        bare = given.drop_vars(list(given.data_vars))
        if chances is None:
            return restore(bare.assign(filled), names)
        bare = bare.drop_vars("member", errors="ignore").assign_coords({DIMENSION: (DIMENSION, chances, _ABOUT)})
        return restore(bare.assign(filled), names)

    def _values(self, given: xr.Dataset, name: str, make: Make, rows: int | None, *more: Any) -> Any:
        """What a function makes of all cases (row, time, y, x): at once, or later where fields are lazy."""
        field = given[name].transpose("member", "time", ...)
        if rows is not None and field.chunks is not None:
            limits = natural_limits(name, field.attrs)

            def later(members: NDArray[Any], times: slice) -> NDArray[np.float32]:
                some = Cases(name, members, None, given.time[times], times.start, limits)
                return self._made(some, make, *more)

            return lazily(field, rows, later)
        return np.concatenate([self._made(some, make, *more) for some in cases(given, None, name)], axis=1)

    def _made(self, some: Cases, make: Make, *more: Any) -> NDArray[np.float32]:
        groups = self._groups[some.name]
        if some.shape[1:] != groups.place.shape and (groups.places > 1 or self.bound):
            raise InputError(
                f"got predictions on {some.shape[1:]} cells; expected {groups.place.shape}, as the calibrator "
                f"'{self.name}' was fitted; predict the same domain, or fit another one"
            )
        place = groups(some)
        values = some.within(make(some, self._learnt[some.name], place, *more))
        known = np.isfinite(some.members).all(axis=0) & (place >= 0)
        return np.where(known, values, np.nan).astype(np.float32)

    def _check_members(self, count: int) -> None:
        if count < self.least_members:
            raise InputError(
                f"got {count} member(s) for the calibrator '{self.name}'; expected at least {self.least_members}, by "
                "whose spread it knows sure cases from unsure ones; predict with --members 20, or take split"
            )
