"""Which part of a record is a warm future: whole units, held back with as many of the climate that is learnt in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from finegrid.benchmark.protocols.units import Units
from finegrid.benchmark.task import SCENARIO, Task
from finegrid.conventions import InputError, harmonise, unit_conversion
from finegrid.data.series import series_of
from finegrid.data.splits import Indices, check_training_times
from finegrid.pipeline.material import Material

SHARE = 0.2
"""Part of the units that is held back as warm, and as the known climate."""
_LEAST = 5
_MOST = 0.4


@dataclass(frozen=True, eq=False)
class Climates:
    """Which times are learnt from and which are held back.

    Attributes:
        learning: indices of the times to learn from.
        warm: of the warm units.
        inside: of units of the same climate as the learning times.
        unit: what the units are.
        count: number of units in either test.
        by: what made them warm: "warmest" or "last".
        variable, units: what was averaged over the domain.
        warmer: mean of the warm units less that of the learning times.
        apart: mean of the units inside less that of the learning times.
    """

    learning: Indices
    warm: Indices
    inside: Indices
    unit: str
    count: int
    by: str
    variable: str
    units: str
    warmer: float
    apart: float

    @property
    def test(self) -> Indices:
        """All times that are held back, ascending."""
        return np.sort(np.concatenate([self.warm, self.inside]))

    @property
    def words(self) -> str:
        """What was held back, in a sentence."""
        return (
            f"The {self.by} {self.count} {self.unit} by mean {self.variable} are {self.warmer:+.2f} {self.units} from "
            f"what was learnt from; {self.count} {self.unit} from the middle, {self.apart:+.2f} {self.units} from it, "
            f"are the climate that is known. Learnt: {len(self.learning)} times; held back: {len(self.warm)} and "
            f"{len(self.inside)}."
        )


def climates_of(
    task: Task, material: Material, *, share: float = SHARE, by: str | None = None, seed: int = 0
) -> Climates:
    """Which times of a task are warm, which are like the rest, and which are learnt from.

    Raises:
        InputError: on a short record, or numbers that leave nothing to learn from.
    """
    chosen = by or ("last" if task.sample == SCENARIO else "warmest")
    if chosen not in ("warmest", "last") or not 0 < share <= _MOST:
        raise InputError(f"got by='{by}', share={share}; expected 'warmest' or 'last', and a share up to {_MOST}")
    name, units, series = _temperature(material.coarse, (*task.variables, *task.companions, *task.predictors))
    record = Units.of(harmonise(material.fine)[0].time, _LEAST)
    means, count = record.means(series), max(1, round(share * len(record.parts)))
    order = np.argsort(means, kind="stable")
    held = order[-count:] if chosen == "warmest" else np.arange(len(means))[-count:]
    rest = order[~np.isin(order, held)]
    middle = np.random.default_rng(seed).choice(rest[count:], size=min(count, len(rest) - count), replace=False)
    both = np.concatenate([held, middle]).tolist()
    learning, values = record.apart(both), series.values
    check_training_times(learning, record.time)
    warm_times, inside = record.times(held.tolist()), record.times(middle.tolist())
    known = float(np.nanmean(values[learning]))
    differences = (float(np.nanmean(values[each])) - known for each in (warm_times, inside))
    return Climates(learning, warm_times, inside, record.word, count, chosen, name, units, *differences)


def _temperature(coarse: xr.Dataset, names: Sequence[str]) -> tuple[str, str, xr.DataArray]:
    """Name, units and mean over the domain (time,) of the coarse temperature; without one of the first variable."""
    standard = harmonise(coarse)[0]
    there = [name for name in names if name in standard.data_vars]
    name = next((each for each in there if _is_temperature(standard[each])), there[0])
    series = series_of(coarse, name)
    if not _is_temperature(standard[name]):
        return name, str(series.attrs.get("units", "1")), series
    scale, offset = unit_conversion(str(series.attrs["units"]), "K")
    return name, "K", scale * series + offset


def _is_temperature(field: xr.DataArray) -> bool:
    try:
        unit_conversion(str(field.attrs.get("units", "1")), "K")
    except InputError:
        return False
    return True
