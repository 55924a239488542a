"""What a calibration learns from a period, and does to a prediction: members that conserve again, or intervals.

Members whose values were calibrated cell by cell no longer have the area means that the constraint gave them. It is
applied once more, to every member. That takes away what they differed by in those means, so that they are too near to
each other again; one factor for each variable moves them apart about their mean, and they are projected a last time:

    x <- P( m + w (P(x) - m) ),      m the mean of P(x)

with w such that 90 % intervals of the members hold their promise on the calibration cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from finegrid.calibration import CALIBRATORS, Calibrator
from finegrid.calibration import store as stored
from finegrid.calibration.cases import matched
from finegrid.calibration.kernel import Pool
from finegrid.calibration.members import quantiles
from finegrid.conventions import InputError, harmonise, natural_limits, restore
from finegrid.downscalers import Downscaler
from finegrid.pipeline.material import at_times

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
        maker = str(facts.get("model"))
        if maker != downscaler.digest:
            raise InputError(
                f"got a calibration in {folder} that was made for another model ({maker[:12]}...); expected "
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

    def members_of(self, fields: xr.Dataset, coarse: xr.Dataset) -> xr.Dataset:
        """The same of a whole record, by blocks of times where it is lazy; the result is so too."""

        def made(block: xr.Dataset) -> xr.Dataset:
            return self.members(block, coarse.sel(time=harmonise(block)[0].time))

        standard, names = harmonise(fields)
        kept = restore(standard[list(self.downscaler.domain.outputs)], names)
        if not kept.chunks:
            return made(kept)
        step = max(1, _BLOCK_VALUES * kept.sizes[names.time] // sum(each.size for each in kept.values()))
        blocks = kept.chunk({**dict.fromkeys(kept.dims, -1), names.time: step})
        found: xr.Dataset = xr.map_blocks(made, blocks, template=blocks)
        return found

    def interval(self, block: xr.Dataset, level: float) -> xr.Dataset:
        """Ends of intervals (quantile, time, y, x) of a block in the user's names; they do not conserve."""
        return self.calibrator.interval(block, level)


@dataclass(frozen=True, eq=False)
class Period:
    """Times that a model has predicted but not learnt from, and what came true.

    Attributes:
        downscaler: the model.
        predicted: members (member, time, y, x), in the user's names.
        truth: what came true (time, y, x).
        coarse: coarse fields of these times, as the model sees them.
    """

    downscaler: Downscaler
    predicted: xr.Dataset
    truth: xr.Dataset
    coarse: xr.Dataset

    @property
    def several(self) -> bool:
        """Whether there is an ensemble."""
        return harmonise(self.predicted)[0].sizes.get("member", 1) > 1

    def learn(self, calibrator: Calibrator) -> Calibration:
        """Fit a calibrator, and what its members need to hold their promise after they are projected.

        Raises:
            InputError: as `Calibrator.fit`.
        """
        calibrator.fit(self.predicted, self.truth)
        given = (self.downscaler, calibrator, self.predicted, self.truth, self.coarse)
        apart = factors_apart(*given) if calibrator.draws and self.several else {}
        return Calibration(self.downscaler, calibrator, {"apart": apart})

    def halves(self) -> tuple[Period, Period]:
        """Its first and its second half of times."""
        times = harmonise(self.truth)[0].time.values
        first, second = (self._at(part) for part in np.array_split(times, 2))
        return first, second

    def _at(self, times: NDArray[Any]) -> Period:
        def kept(fields: xr.Dataset) -> xr.Dataset:
            return at_times(fields, np.flatnonzero(np.isin(harmonise(fields)[0].time.values, times)))

        return Period(self.downscaler, kept(self.predicted), kept(self.truth), self.coarse)


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
