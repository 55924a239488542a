"""What a calibrator of events is: an ensemble, thresholds and what came true in; chances that keep their promise out.

A variant says what it learns from raw chances (`chances`) of cases and whether the events came true (`_learn`), and
which chances it makes of raw ones (`_calibrated`). What all share is here: names and units, groups, missing cells,
blocks of times, several thresholds of a variable, and the state in the model folder. A higher threshold is never
exceeded with a larger chance than a lower one.

    p_1 >= p_2 >= ...     for thresholds t_1 < t_2 < ...: each chance is at most the one before
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration.base import Learnt
from finegrid.calibration.cases import Cases, cases, matched, standard
from finegrid.calibration.events.chances import exceedance
from finegrid.calibration.groups import Groups
from finegrid.calibration.kernel import Array, Places
from finegrid.conventions import InputError, convert_units, harmonise, restore

Thresholds = Mapping[str, float | Sequence[float]]

# Cases that came true, and that did not, which a group needs to have a map of its own.
_LEAST = 30


@dataclass(frozen=True, eq=False)
class Known:
    """What was learnt of a variable.

    Attributes:
        thresholds: ascending (threshold,).
        units: of the thresholds.
        groups: the groups.
        row: which map each group has (group,).
        maps: that of all cases, and those of groups that had enough.
    """

    thresholds: Array
    units: str
    groups: Groups
    row: Places
    maps: tuple[Learnt, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it for a model file."""
        units = np.frombuffer(self.units.encode(), np.uint8)
        arrays: dict[str, NDArray[Any]] = {"thresholds": self.thresholds, "units": units, "row": self.row}
        arrays |= {f"groups/{key}": each for key, each in self.groups.arrays().items()}
        return arrays | {f"maps/{n}/{key}": each for n, own in enumerate(self.maps) for key, each in own.items()}

    @classmethod
    def from_arrays(cls, by: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        groups = Groups.from_arrays(by, _under(arrays, "groups/"))
        count = int(arrays["row"].max(initial=0)) + 1
        maps = tuple(_under(arrays, f"maps/{number}/") for number in range(count))
        return cls(arrays["thresholds"], arrays["units"].tobytes().decode(), groups, arrays["row"], maps)


@dataclass(kw_only=True)
class EventCalibrator(ABC):
    """Options that all share.

    Args:
        groups: which cases are calibrated together, of `groups.GROUPS`; none for all. Groups in which an event came
            true, or did not, in fewer than 30 cases take the map of all.
        regions: blocks along each side of the domain, for the group region.
        regimes: classes of the predicted value, for the group regime.
    """

    groups: Sequence[str] = ()
    regions: int = 3
    regimes: int = 5
    _known: dict[str, Known] = field(default_factory=dict, init=False, repr=False)

    name: ClassVar[str]

    def fit(
        self,
        ensemble: xr.Dataset,
        observed: xr.Dataset,
        thresholds: Thresholds,
        *,
        labels: xr.DataArray | None = None,
    ) -> Self:
        """Learn from predictions (member, time, y, x) of times that their model has not seen, and what came true.

        Args:
            ensemble: predictions in any names.
            observed: the truth (time, y, x), on the same grid; times that one of them has not are left out.
            thresholds: of each variable, one or several, in the units of the predictions.
            labels: regions of the cells (y, x) as whole numbers, in place of blocks.

        Raises:
            InputError: when these do not fit together, or an event came true never or always.
        """
        given, truth = matched(ensemble, observed)
        found = {}
        for name, levels in _checked(thresholds, given).items():
            found[name] = self._fitted(given, truth, name, levels, None if labels is None else labels.values)
        self._known = found
        return self

    def probability(self, ensemble: xr.Dataset) -> xr.Dataset:
        """Chances of each event (time, y, x), in fields such as `pr_above_10` that say of what.

        Raises:
            InputError: before `fit`, and on predictions of other variables or cells.
        """
        self._check_fitted()
        given, names = standard(ensemble, "the predictions"), harmonise(ensemble)[1]
        chosen = [name for name in self._known if name in given]
        if not chosen:
            raise InputError(
                f"got predictions of {', '.join(map(str, given.data_vars))}; expected some of "
                f"{', '.join(self._known)}, for which '{self.name}' was fitted; predict these, or fit another one"
            )
        bare = given.drop_vars([*given.data_vars, "member"], errors="ignore")
        fields = {key: each for name in chosen for key, each in self._fields(given, name).items()}
        return restore(bare.assign(fields), names)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Name and options as plain values, and all that was learnt as arrays."""
        self._check_fitted()
        arrays = {f"{name}/{key}": each for name, own in self._known.items() for key, each in own.arrays().items()}
        return {"name": self.name, "options": self.options, "variables": list(self._known)}, arrays

    def remember(self, variables: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Become the calibrator that had this state."""
        self._known = {name: Known.from_arrays(self.groups, _under(arrays, f"{name}/")) for name in variables}
        return self

    @abstractmethod
    def _learn(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        """What cases teach: their raw chances (threshold, case), and which events came true (threshold, case)."""

    @abstractmethod
    def _calibrated(self, raw: Array, learnt: Learnt) -> Array:
        """Chances (threshold, case) of raw ones (threshold, case)."""

    def _fitted(
        self, given: xr.Dataset, truth: xr.Dataset, name: str, levels: Array, labels: NDArray[Any] | None
    ) -> Known:
        blocks = [(exceedance(some.members, levels), some.known, some.mean) for some in cases(given, truth, name)]
        raw, known, mean = (np.concatenate(each, axis=-3) for each in zip(*blocks, strict=True))
        mean = np.where(np.isfinite(known), mean, np.nan)
        groups = Groups.of(self.groups, mean, regions=self.regions, regimes=self.regimes, labels=labels)
        whole = Cases(name, mean[None].astype(np.float32), None, given.time, 0, (-np.inf, np.inf))
        kept = np.isfinite(mean) & np.isfinite(raw).all(axis=0)
        place = np.where(kept, groups(whole, mean), -1)
        row, maps = self._maps(raw[:, kept], known[kept] > levels[:, None], place[kept], groups.count, name)
        return Known(levels, str(given[name].attrs.get("units", "")), groups, row, maps)

    def _maps(
        self, raw: Array, happened: NDArray[np.bool_], place: Places, count: int, name: str
    ) -> tuple[Places, tuple[Learnt, ...]]:
        if not _enough(happened, 1):
            raise InputError(
                f"got events of {name} that came true never or always in {happened.shape[1]} calibration cases; "
                "expected both; calibrate on more times, or choose thresholds within the values that occur"
            )
        row, maps = np.zeros(count, np.int64), [self._learn(raw, happened)]
        for group in np.unique(place[place >= 0]) if count > 1 else ():
            own = place == group
            if _enough(happened[:, own], _LEAST):
                row[group] = len(maps)
                maps.append(self._learn(raw[:, own], happened[:, own]))
        return row, tuple(maps)

    def _fields(self, given: xr.Dataset, name: str) -> dict[str, tuple[Any, ...]]:
        known, units = self._known[name], given[name].attrs.get("units")
        if units and known.units and units != known.units:
            given = given.assign({name: convert_units(given[name], known.units)})
        values = np.concatenate(list(self._blocks(given, name, known)), axis=1).astype(np.float32)
        dims = given[name].transpose("member", "time", ...).dims[1:]
        return {
            f"{name}_above_{level:g}": (dims, each, _about(name, level, known.units))
            for level, each in zip(known.thresholds, values, strict=True)
        }

    def _blocks(self, given: xr.Dataset, name: str, known: Known) -> Iterator[Array]:
        for some in cases(given, None, name):
            if some.shape[1:] != known.groups.place.shape and known.groups.places > 1:
                raise InputError(
                    f"got predictions on {some.shape[1:]} cells; expected {known.groups.place.shape}, as "
                    f"'{self.name}' was fitted; predict the same domain, or fit another one"
                )
            raw, place = exceedance(some.members, known.thresholds), known.groups(some)
            row = np.where(np.isfinite(raw[0]) & (place >= 0), known.row[place], -1)
            result = np.full(raw.shape, np.nan)
            for number in np.unique(row[row >= 0]):
                result[:, row == number] = self._calibrated(raw[:, row == number], known.maps[number])
            yield np.minimum.accumulate(result, axis=0)

    def _check_fitted(self) -> None:
        if not self._known:
            raise InputError(
                f"got '{self.name}' that has learnt nothing; expected one after fit; call "
                "fit(ensemble, observed, thresholds)"
            )


@dataclass(kw_only=True)
class Separate(EventCalibrator):
    """Those that have a map of its own for every threshold."""

    @abstractmethod
    def _one(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        """What cases (case,) teach of a single event."""

    @abstractmethod
    def _map(self, raw: Array, learnt: Learnt) -> Array:
        """Chances (case,) of raw ones (case,)."""

    def _learn(self, raw: Array, happened: NDArray[np.bool_]) -> Learnt:
        parts = [self._one(*each) for each in zip(raw, happened, strict=True)]
        return {f"{number}/{key}": each for number, own in enumerate(parts) for key, each in own.items()}

    def _calibrated(self, raw: Array, learnt: Learnt) -> Array:
        return np.stack([self._map(each, _under(learnt, f"{number}/")) for number, each in enumerate(raw)])


def _checked(thresholds: Thresholds, given: xr.Dataset) -> dict[str, Array]:
    """Ascending thresholds of variables that there are."""
    unknown = [name for name in thresholds if name not in given]
    levels = {name: np.unique(np.atleast_1d(np.asarray(each, np.float64))) for name, each in thresholds.items()}
    if unknown or not levels:
        raise InputError(
            f"got thresholds of {', '.join(unknown) or 'nothing'}; expected some of "
            f"{', '.join(map(str, given.data_vars))}, which predictions and observed fields have; say "
            "thresholds={'" + str(next(iter(given.data_vars))) + "': 10}"
        )
    wrong = [name for name, each in levels.items() if not each.size or not np.isfinite(each).all()]
    if wrong:
        raise InputError(f"got thresholds of {wrong[0]}: {thresholds[wrong[0]]}; expected numbers; give one or several")
    return levels


def _about(name: str, level: float, units: str) -> dict[str, Any]:
    event = f"{name} > {level:g} {units}".rstrip()
    return {"long_name": f"chance of {event}", "units": "1", "event": event, "threshold": level}


def _enough(happened: NDArray[np.bool_], least: int) -> bool:
    """Whether every event came true, and did not, in so many cases."""
    return bool((happened.sum(axis=1) >= least).all() and ((~happened).sum(axis=1) >= least).all())


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): each for key, each in arrays.items() if key.startswith(prefix)}
