"""Adjustments that are learnt group by group and cell by cell through xsdba, and applied to whole blocks of cells.

A method says what xsdba teaches it of many columns (`_taught`), and how a record is changed by that (`_adapted`). This
module cuts pairs and records into blocks, keeps what cannot be learnt neutral, and counts.

Where the coarse values of a cell are missing, constant or all dry in a group of times, the cell keeps its values there.
Adjusted values stay within natural limits: no negative rain, no humidity above 100 %.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finegrid.conventions import InputError
from finegrid.data.adjustments.base import BLOCK_VALUES, Adjustment, Numbers, Values, bare_name, changed
from finegrid.data.adjustments.groups import Grouping, Places, Times, label, occurring
from finegrid.data.adjustments.kinds import Kind, check_kind
from finegrid.data.adjustments.training import (
    CONSTANT,
    MISSING,
    Columns,
    blocks_of,
    joined,
    number_of_blocks,
    repeatable,
    spread,
)
from finegrid.data.progress import bar

# Values that ranks or a trend within a group of the new record need.
_FEWEST = 10


@dataclass
class Grouped(Adjustment):
    """What methods that are learnt through xsdba share.

    Args:
        by: groups of times: "month", "season", "day_of_year" (with a moving window) or "all".
        window: days of the window around a day of the year, an odd number.
        kind: "additive" or "multiplicative"; None takes what suits the variable: multiplicative where nature allows
            no negative values.
    """

    groupings: ClassVar[tuple[str, ...]] = ("month", "season", "day_of_year", "all")
    window: int = 31
    kind: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.name, self.kind)
        if self.window < 1 or self.window % 2 == 0:
            raise InputError(
                f"the adjustment '{self.name}' got window: {self.window}; expected an odd number of days, such as 31"
            )

    def __call__(self, coarse: xr.Dataset, *, progress: bool = False) -> xr.Dataset:
        grouping, kinds = Grouping.from_dict(self.facts["grouping"]), self._kinds
        places = grouping.places(coarse.time)
        whole = [names for names in self._together(kinds) if any(self._needs_record(kinds[name]) for name in names)]
        fields: dict[str, xr.DataArray] = {}
        if whole:
            times = self._times(coarse.time, grouping)
            with bar(f"adjusting by {self.name}", len(whole), show=progress) as step:
                for names in whole:
                    fields |= self._at_once({name: coarse[name] for name in names}, times)
                    step()
        fields |= {name: self._one_by_one(coarse[name], places) for name in kinds if name not in fields}
        return coarse.assign(fields)

    def notes(self) -> list[str]:
        """How many cells keep their values, and why."""
        told = []
        for name, counts in self.facts.get("neutral", {}).items():
            if name == bare_name(name) and sum(counts[each] for each in ("missing", "constant")):
                told.append(
                    f"{self.name} of {name}: of {counts['cells']} coarse cells, {counts['missing']} have too few "
                    f"values and {counts['constant']} are constant or dry in some group of times ({self.by}); they "
                    "keep their values there"
                )
        return told

    def notes_on(self, coarse: xr.Dataset) -> list[str]:
        """How many values lie beyond those of training."""
        places = Grouping.from_dict(self.facts["grouping"]).places(coarse.time)
        told = []
        for name in self._kinds:
            if name != bare_name(name) or f"{name}/ends" not in self.numbers:
                continue
            beyond, known = self._beyond(coarse[name], places)
            if beyond:
                told.append(
                    f"{self.name} of {name}: {beyond} of {known} coarse values ({100 * beyond / known:.2g} %) lie "
                    f"beyond all training values of their cell and group of times; {self._extrapolated}"
                )
        return told

    # What happens to values beyond those of training, where that is another thing than happens to all.
    _extrapolated: ClassVar[str] = ""

    @property
    def _kinds(self) -> dict[str, Kind]:
        return {name: Kind.from_dict(each) for name, each in self.facts["kinds"].items()}

    @property
    def _least(self) -> int:
        """Training values that a group of times needs."""
        return _FEWEST

    @property
    def _threshold(self) -> float | None:
        """A wet day in mm/day."""
        return None

    @property
    def _noise(self) -> int:
        """Seed of random numbers."""
        return 0

    def _needs_record(self, kind: Kind) -> bool:
        """Whether values depend on other times of the record."""
        return False

    def _together(self, names: Iterable[str]) -> list[tuple[str, ...]]:
        """Fields that are adjusted together: each for itself."""
        return [(name,) for name in names]

    @abstractmethod
    def _taught(self, goal: xr.DataArray, given: xr.DataArray, kind: Kind) -> Numbers:
        """Arrays (..., column) that xsdba learns from goal and coarse values (time, column)."""

    @abstractmethod
    def _adapted(self, values: Values, learnt: Numbers, kind: Kind, times: Times, seed: Sequence[int]) -> Values:
        """A record (time, cell) changed by arrays (group, ..., cell)."""

    def _learn(self, coarse: xr.Dataset, goals: Mapping[str, xr.DataArray], progress: bool) -> None:
        grouping = Grouping.of(coarse.time, self.by, self.window, self._least)
        samples = grouping.samples(coarse.time)
        kinds = {name: Kind.of(coarse[name], self.kind, self._threshold) for name in goals}
        self.facts = {
            "grouping": grouping.to_dict(),
            "kinds": {name: kind.to_dict() for name, kind in kinds.items()},
            "neutral": {},
        }
        together = self._together(goals)
        total = sum(number_of_blocks(coarse[names[0]][0].size, samples) for names in together)
        with bar(f"learning {self.name}", total, show=progress) as step:
            for names in together:
                pairs = [(_flat(coarse[name]), _flat(goals[name]), samples, kinds[name].wet) for name in names]
                parts = []
                for columns in zip(*(blocks_of(*each) for each in pairs), strict=True):
                    parts.append(self._learnt_together(columns, [kinds[name] for name in names]))
                    step()
                for number, name in enumerate(names):
                    self._keep(name, [part[number] for part in parts], coarse[name].shape[1:])

    def _learnt_together(self, columns: Sequence[Columns], kinds: Sequence[Kind]) -> list[Numbers]:
        """What `_learnt` gives, of each of the fields that are adjusted together."""
        return [self._learnt(each, kind) for each, kind in zip(columns, kinds, strict=True)]

    def _learnt(self, columns: Columns, kind: Kind) -> Numbers:
        """Arrays (group, ..., cell) of a block of cells, and which columns (group, cell) nothing is learnt from."""
        missing = columns.counts < self._least
        constant = ~missing & ~columns.varied
        chosen = ~missing & ~constant
        result: Numbers = {MISSING: missing, CONSTANT: constant}
        if self._extrapolated:
            result["ends"] = np.moveaxis(columns.ends, 0, 1)
        if not chosen.any():
            return result
        with repeatable([self._noise, columns.cells.start]):
            taught = self._taught(*columns.fields(chosen), kind)
        return result | spread(taught, chosen, kind)

    def _keep(self, name: str, parts: Sequence[Numbers], shape: tuple[int, ...]) -> None:
        """Put the blocks of a field together."""
        kind = self._kinds[name]
        whole = joined(parts, kind)
        missing, constant = whole.pop(MISSING), whole.pop(CONSTANT)
        if (missing | constant).all():
            raise InputError(
                f"got no cell of {bare_name(name)} from which the adjustment '{self.name}' could learn; expected at "
                f"least {self._least} known values that differ in some cell and group of times; check the coarse and "
                "the fine file, or take adjust: shift"
            )
        counts = {"cells": missing.shape[-1], MISSING: missing, CONSTANT: constant}
        self.facts["neutral"][name] = {
            key: each if isinstance(each, int) else int(each.any(axis=0).sum()) for key, each in counts.items()
        }
        self.numbers |= {f"{name}/{key}": each.reshape(*each.shape[:-1], *shape) for key, each in whole.items()}

    def _at_once(self, fields: Mapping[str, xr.DataArray], times: Times) -> dict[str, xr.DataArray]:
        """Fields that have to be known as a whole, in blocks of cells; copies in memory, changed in place."""
        given = {name: np.array(field.values) for name, field in fields.items()}
        flat = [each.reshape(len(each), -1) for each in given.values()]
        kinds = [self._kinds[name] for name in fields]
        learnt = [self._flat_numbers(name) for name in fields]
        size = max(1, BLOCK_VALUES // max(1, len(flat[0])))
        for start in range(0, flat[0].shape[1], size):
            cells = slice(start, start + size)
            values = [each[:, cells].astype(np.float64) for each in flat]
            numbers = [{key: each[..., cells] for key, each in known.items()} for known in learnt]
            with np.errstate(all="ignore"):
                found = self._adapted_together(values, numbers, kinds, times, [self._noise, start, 1])
            for each, old, new, kind in zip(flat, values, found, kinds, strict=True):
                each[:, cells] = _safe(new, old, kind)
        return {name: field.copy(data=given[name]) for name, field in fields.items()}

    def _adapted_together(
        self,
        values: Sequence[Values],
        learnt: Sequence[Numbers],
        kinds: Sequence[Kind],
        times: Times,
        seed: Sequence[int],
    ) -> list[Values]:
        """What `_adapted` gives, of each of the fields that are adjusted together."""
        each = zip(values, learnt, kinds, strict=True)
        return [self._adapted(*one, times, [*seed, number]) for number, one in enumerate(each)]

    def _one_by_one(self, field: xr.DataArray, places: Places) -> xr.DataArray:
        kind, learnt = self._kinds[str(field.name)], self._flat_numbers(field.name)

        def change(values: NDArray[Any], at: Places) -> NDArray[Any]:
            groups = occurring(places[at])
            times = Times(at, groups, [members for _, members in groups])
            flat = values.reshape(len(values), -1).astype(np.float64)
            with np.errstate(all="ignore"):
                found = self._adapted(flat, learnt, kind, times, [self._noise])
            return _safe(found, flat, kind).reshape(values.shape).astype(values.dtype)

        return changed(field, change)

    def _flat_numbers(self, name: object) -> Numbers:
        """Arrays (group, ..., cell) of a field."""
        start = f"{name}/"
        found = {key.removeprefix(start): each for key, each in self.numbers.items() if key.startswith(start)}
        return {key: each.reshape(*each.shape[:-2], -1) for key, each in found.items()}

    def _times(self, time: xr.DataArray, grouping: Grouping) -> Times:
        """The times of a record, of which every group has enough."""
        times = Times.of(time, grouping)
        short = [place for (place, _), each in zip(times.groups, times.around, strict=True) if len(each) < _FEWEST]
        if short:
            counts = {place: len(each) for (place, _), each in zip(times.groups, times.around, strict=True)}
            told = ", ".join(f"{counts[each]} in {label(grouping.learnt[each], self.by)}" for each in short[:4])
            raise InputError(
                f"the adjustment '{self.name}' works with the distribution of the whole record and got too few times: "
                f"{told}; expected at least {_FEWEST} in each group; give the whole period at once, or fit with "
                "adjust: eqm, scaling or natural, which take one time after the other"
            )
        return times

    def _beyond(self, field: xr.DataArray, places: Places) -> tuple[int, int]:
        """Values beyond those of training, and known values."""
        ends = self._flat_numbers(field.name)["ends"]
        beyond = known = 0
        steps = max(1, BLOCK_VALUES // max(1, field[0].size))
        for start in range(0, len(places), steps):
            part = slice(start, start + steps)
            values = np.asarray(field[part].values).reshape(-1, ends.shape[-1])
            low, high = (ends[places[part], each] for each in (0, 1))
            beyond += int(((values < low) | (values > high)).sum())
            known += int(np.isfinite(values).sum())
        return beyond, known


def _safe(adapted: Values, values: Values, kind: Kind) -> Values:
    """Adjusted values within their limits; no known value becomes a missing one."""
    return np.asarray(np.where(np.isfinite(adapted), kind.limited(adapted), values))


def _flat(field: xr.DataArray) -> NDArray[Any]:
    return np.asarray(field.values).reshape(len(field), -1)
