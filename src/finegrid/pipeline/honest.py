"""What a job makes of the members of a model: calibrated ones, intervals, chances of events, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finegrid.calibration import CALIBRATORS, EVENT_CALIBRATORS, EventCalibrator
from finegrid.calibration import store as stored
from finegrid.conventions import InputError
from finegrid.downscalers import Downscaler
from finegrid.pipeline.calibrated import Calibration
from finegrid.pipeline.quantiles import Make

# Times and values of the predictions that a calibration looks at before it adapts to them.
_TIMES, _VALUES = 60, 1 << 24


@dataclass(frozen=True, eq=False)
class Honesty:
    """What a job makes of the members of a model.

    Attributes:
        calibration: that of the model folder, where it is used.
        level: chance of the intervals that are wanted; None for members.
        calibrates: whether members are changed.
        notes: what a user should know of it.
        events: what makes chances of events, where these are wanted.
    """

    calibration: Calibration | None
    level: float | None = None
    calibrates: bool = False
    notes: tuple[str, ...] = ()
    events: EventCalibrator | None = None

    @property
    def ends(self) -> tuple[float, ...]:
        """The chances of the two ends of the intervals; none for members."""
        return () if self.level is None else ((1 - self.level) / 2, (1 + self.level) / 2)

    @property
    def made(self) -> Make | None:
        """What makes intervals of a block; None where members or their quantiles are wanted."""
        calibration, level = self.calibration, self.level
        if calibration is None or level is None:
            return None
        return lambda block: calibration.interval(block, level)

    @property
    def adapts(self) -> bool:
        """Whether a calibration is used that looks at the predictions to come."""
        return self.calibration is not None and self.calibration.calibrator.adapts and bool(self.about)

    def adapted(self, folder: Path, draw: Callable[[slice], Iterable[xr.Dataset]], times: range) -> Honesty:
        """The same with a calibration that has looked at the predictions to come, if it does.

        What it has seen is kept in a folder, and taken from there by whoever goes on with the job.

        Args:
            folder: where it is kept.
            draw: members of a slice of times, in blocks.
            times: those of the period.
        """
        if self.calibration is None or not self.adapts:
            return self
        if not stored.exists(folder):
            self.look(draw, times)
            stored.save(self.calibration.calibrator, folder, self.calibration.facts)
        return self.remembered(folder)

    def remembered(self, folder: str | Path) -> Honesty:
        """The same with the calibration that `adapted` has kept in a folder, if it keeps one."""
        if self.calibration is None or not self.adapts:
            return self
        calibrator, facts = stored.load(folder, CALIBRATORS)
        return replace(self, calibration=replace(self.calibration, calibrator=calibrator, facts=facts))

    def look(self, draw: Callable[[slice], Iterable[xr.Dataset]], times: range) -> None:
        """Show a calibration that adapts some of the predictions to come."""
        if self.calibration is None or not self.adapts:
            return
        time = self.calibration.downscaler.domain.names.time

        def at(number: int) -> xr.Dataset:
            return xr.concat(draw(slice(times[number], times[number] + 1)), time)

        first = at(0)
        count = min(len(times), _TIMES, max(2, _VALUES // sum(each.size for each in first.values())))
        later = np.unique(np.linspace(0, len(times) - 1, count).astype(int))[1:]
        self.calibration.calibrator.adapt(xr.concat([first, *map(at, later)], time))

    def members(self, block: xr.Dataset, coarse: xr.Dataset) -> xr.Dataset:
        """The members of a block, calibrated where that is wanted."""
        if self.calibration is None or not self.calibrates:
            return block
        return self.calibration.members(block, coarse)

    @property
    def about(self) -> dict[str, Any]:
        """Attributes of the output."""
        if self.calibration is None or not (self.calibrates or self.level is not None):
            return {}
        facts = self.calibration.facts
        return {
            "finegrid_calibration": f"{self.calibration.calibrator.name}, fitted on {facts['period']}",
            "finegrid_guarantee": str(facts.get("guarantee", "not stated"))
            if self.level is not None
            else "none for members",
        }


def honesty(
    model: str | Path | Downscaler,
    downscaler: Downscaler,
    members: int,
    *,
    interval: float | None,
    raw: bool,
    quantiles: Sequence[float],
    chances: bool = False,
) -> Honesty:
    """What is to be made of members, by what the model folder holds and what is wanted.

    Raises:
        InputError: on an interval without a calibration, or beside quantiles; and on a level that is none.
    """
    if chances:
        return Honesty(None, events=_events(model, downscaler, members, alone=interval is None and not quantiles))
    calibration = None if raw or isinstance(model, Downscaler) else Calibration.of(model, downscaler)
    if interval is not None:
        _check_interval(model, calibration, interval, quantiles)
        return Honesty(calibration, interval)
    if calibration is None:
        return Honesty(None)
    calibrator = calibration.calibrator
    if not calibration.facts.get("changes_members", True) and members > 1:
        return Honesty(calibration)
    if members < max(2, calibrator.least_members) or not calibrator.draws:
        note = f"the calibration '{calibrator.name}' in the model folder is for intervals: --interval 90"
        several = f"the calibration in the model folder is for ensembles: --members {max(20, calibrator.least_members)}"
        return Honesty(calibration, notes=(note if not calibrator.draws else several,) if downscaler.random else ())
    return Honesty(calibration, calibrates=True)


def _events(model: str | Path | Downscaler, downscaler: Downscaler, members: int, *, alone: bool) -> EventCalibrator:
    """The calibrator of events in a model folder.

    Raises:
        InputError: where there is none, it is for another model, or something else is wanted beside it.
    """
    if not alone or members < 2:
        raise InputError(
            f"got --chances with {members} member(s) or beside an interval or quantiles; expected them alone, of at "
            "least 2 members, better 50; set --members 50"
        )
    if isinstance(model, Downscaler) or not stored.exists(model, stored.EVENTS):
        raise InputError(
            f"got --chances for {model}, which knows no events; expected a model that was compared with observations; "
            "run finegrid calibrate model/ --on 2001/2005 --event pr=10 first"
        )
    calibrator, facts = stored.load(model, EVENT_CALIBRATORS, stored.EVENTS)
    if facts.get("model") != downscaler.digest:
        raise InputError(
            f"got chances in {model} that were made for another model; expected those of this one; run finegrid "
            "calibrate again with --event"
        )
    return calibrator


def _check_interval(
    model: str | Path | Downscaler, calibration: Calibration | None, interval: float, quantiles: Sequence[float]
) -> None:
    if not 0 < interval < 1:
        raise InputError(f"got an interval of {100 * interval:g} %; expected more than 0 and less than 100, such as 90")
    if quantiles:
        raise InputError(
            "got both an interval and quantiles; expected one of them; leave --quantiles or --interval out"
        )
    if calibration is None:
        raise InputError(
            f"got an interval of {100 * interval:g} % for {model}, which holds no calibration; expected a model that "
            "was compared with later observations; run finegrid calibrate model/ --on 2001/2005 first (and leave --raw "
            "out), or take --quantiles over the members, which promise nothing"
        )
