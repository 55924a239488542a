"""What a calibration does to the blocks of a prediction: members that conserve again, or intervals.

Members whose values were calibrated cell by cell no longer have the area means that the constraint gave them. It is
applied once more, to every member. That takes away what they differed by in those means, so that they are too near to
each other again; one factor for each variable moves them apart about their mean, and they are projected a last time:

    x <- P( m + w (P(x) - m) ),      m the mean of P(x)

with w such that 90 % intervals of the members hold their promise on the calibration cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration import CALIBRATORS, EVENT_CALIBRATORS, Calibrator, EventCalibrator
from finegrid.calibration import store as stored
from finegrid.calibration.cases import matched
from finegrid.calibration.kernel import Pool
from finegrid.calibration.members import quantiles
from finegrid.conventions import InputError, harmonise, natural_limits, restore
from finegrid.downscalers import Downscaler
from finegrid.pipeline.quantiles import Make

_LEVEL = 0.9
# Factors nearer to one are left out, and those for which projected members are no ensemble any more.
_LITTLE = 0.02
_SMALL, _FAR, _MOST = 1e-9, 1e9, 3.0
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibrator and the model that it was fitted to.

    Attributes:
        downscaler: the model.
        calibrator: what was learnt of its errors.
        facts: what the calibrator was fitted on.
    """

    downscaler: Downscaler
    calibrator: Calibrator
    facts: dict[str, Any]

    @classmethod
    def of(cls, folder: str | Path, downscaler: Downscaler) -> Calibration | None:
        """The calibration in a model folder; None where there is none.

        Raises:
            InputError: when it was made for another model.
        """
        if not stored.exists(folder):
            return None
        calibrator, facts = stored.load(folder, CALIBRATORS)
        if facts["model"] != downscaler.digest:
            raise InputError(
                f"got a calibration in {folder} that was made for another model ({facts['model'][:12]}...); expected "
                f"one for this ({downscaler.digest[:12]}...); calibrate again: finegrid calibrate {folder} --on ..."
            )
        return cls(downscaler, calibrator, facts)

    def members(self, block: xr.Dataset, coarse: xr.Dataset) -> xr.Dataset:
        """Calibrated members of a block in the user's names, which obey the constraint again.

        Args:
            block: members (member, time, y, x).
            coarse: coarse fields of the same times, as the model sees them.
        """
        made = projected(self.downscaler, self.calibrator.apply(block), coarse)
        factors = self.facts.get("apart", {})
        return made if not factors else projected(self.downscaler, apart(made, factors), coarse)

    def interval(self, block: xr.Dataset, level: float) -> xr.Dataset:
        """Ends of intervals (quantile, time, y, x) of a block in the user's names; they do not conserve."""
        return self.calibrator.interval(block, level)


def projected(downscaler: Downscaler, fields: xr.Dataset, coarse: xr.Dataset) -> xr.Dataset:
    """Members in the user's names with the constraint of their model applied to each; missing cells stay missing.

    Args:
        downscaler: a fitted one.
        fields: members (member, time, y, x) of all its variables.
        coarse: coarse fields of the same times, as the model sees them.
    """
    standard, names = harmonise(fields)
    domain, conservation = downscaler.domain, downscaler.conservation
    arrays = [standard[name].transpose("member", "time", "y", "x").values for name in domain.outputs]
    values = torch.from_numpy(np.stack(arrays, axis=2).astype(np.float32))
    # Cells that were added behind those of the file take part in no mean.
    whole = torch.zeros(*values.shape[:3], *domain.grid.shape)
    rows, columns = values.shape[-2:]
    whole[..., :rows, :columns] = torch.nan_to_num(values)
    made = conservation.project(whole, conservation.given(coarse))[..., :rows, :columns]
    kept = torch.where(torch.isfinite(values), made, torch.nan).numpy()
    dims = ("member", "time", "y", "x")
    again = {name: (dims, kept[:, :, channel], standard[name].attrs) for channel, name in enumerate(domain.outputs)}
    return restore(standard.assign(again), names)


def apart(fields: xr.Dataset, factors: Mapping[str, float]) -> xr.Dataset:
    """Members in any names, moved apart about their mean by a factor for each variable, as far as nature allows."""
    standard, names = harmonise(fields)
    moved = {}
    for name, factor in factors.items():
        field = standard[name]
        mean = field.mean("member")
        values = (mean + factor * (field - mean)).clip(*natural_limits(name, field.attrs)).transpose(*field.dims)
        moved[name] = values.astype(field.dtype).assign_attrs(field.attrs)
    return restore(standard.assign(moved), names)


def factors_apart(
    downscaler: Downscaler, calibrator: Calibrator, predicted: xr.Dataset, truth: xr.Dataset, coarse: xr.Dataset
) -> dict[str, float]:
    """The factors for projected members, from calibration cases; empty where none is needed.

    Args:
        downscaler: the model.
        calibrator: a fitted one that makes members.
        predicted: members of the calibration times.
        truth: what came true.
        coarse: coarse fields of these times, as the model sees them.
    """
    given, right = matched(predicted, truth)
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in calibrator.variables}
    step = max(1, _BLOCK_VALUES // max(1, given[calibrator.variables[0]].isel(time=0).size))
    for start in range(0, given.sizes["time"], step):
        some = given.isel(time=slice(start, start + step)).load()
        made = harmonise(projected(downscaler, calibrator.apply(some), coarse.sel(time=some.time)))[0]
        for name, found in scores.items():
            members = made[name].transpose("member", "time", "y", "x").values
            known = right[name].isel(time=slice(start, start + step)).transpose("time", "y", "x").values
            found.append(_reach(members, known.astype(np.float64)))
    chosen = {name: float(Pool.of(np.concatenate(found)).upper(_LEVEL)[0]) for name, found in scores.items()}
    # Never nearer: rain that is dry in most cells is inside more often than was promised, and that is no fault.
    return {name: each for name, each in chosen.items() if 1 + _LITTLE < each < _MOST}


def _reach(members: NDArray[Any], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """By what factor the interval of the members would have to grow about their mean to end at the truth."""
    low, high = quantiles(members, np.array([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]))
    mean = members.mean(axis=0, dtype=np.float64)
    away, room = np.abs(truth - mean), np.where(truth > mean, high - mean, mean - low)
    reach = away / np.maximum(room, _SMALL)
    return np.where(away <= _SMALL, 0.0, np.clip(reach, 0.0, _FAR))


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
            "finegrid_guarantee": facts["guarantee"] if self.level is not None else "none for members",
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
    if facts["model"] != downscaler.digest:
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
