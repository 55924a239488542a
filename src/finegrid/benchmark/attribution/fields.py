"""Attribution of predictions to coarse fields: what a downscaler made of every time, on maps in the user's words.

Each time is a function of its own (`moment`). What a model reads is attributed: fields on the cells that it works with,
after a bias adjustment where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finegrid.benchmark.attribution.base import Attributed, Attribution, Function
from finegrid.benchmark.attribution.baselines import Baseline, baseline_of, fitted, knows_climate
from finegrid.benchmark.attribution.differentiable import differentiable, network_of
from finegrid.benchmark.attribution.inputs import Inputs
from finegrid.benchmark.attribution.kinds import ATTRIBUTIONS
from finegrid.benchmark.attribution.labels import labelled
from finegrid.benchmark.attribution.mean import AffineGuess
from finegrid.benchmark.attribution.moment import Moment, window_of
from finegrid.benchmark.attribution.occlusion import Grouped
from finegrid.benchmark.attribution.targets import Aim, Target
from finegrid.conventions import check_values
from finegrid.conventions.components import build
from finegrid.conventions.errors import provenance
from finegrid.data.progress import bar
from finegrid.downscalers import Downscaler
from finegrid.downscalers.members import check_members
from finegrid.pipeline.material import times_of_period

USUAL = "integrated-gradients"
# Fine values in one call of a downscaler: more leave the caches.
_VALUES = 1 << 19
_MEMBERS = 10


def attribute(
    downscaler: Downscaler,
    coarse: xr.Dataset,
    *,
    target: Target | None = None,
    method: str | Mapping[str, Any] | Attribution = USUAL,
    baseline: str | xr.Dataset | None = None,
    time: str | None = None,
    members: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """The part of every coarse value in one number of the prediction, in the units of that number.

    Args:
        downscaler: a fitted one.
        coarse: coarse fields as in training.
        target: the number; by default the area mean of the first variable.
        method: name or table of one of `ATTRIBUTIONS`, or an instance.
        baseline: "climate", "zero", "record", or coarse fields; by default the climate of training where it is known,
            and the record for gradient-shap.
        time: period that is attributed, such as "2019-03"; None is all.
        members: size of the ensemble whose mean is attributed; by default 10 where members differ.
        seed: of the members.
        progress: show a bar.

    Returns:
        Maps (time, y, x), one for each coarse variable, in its name and on its cells; (lag, time, y, x) where the
        downscaler looks at neighbouring steps. Coordinates `prediction` and `baseline_prediction` (time) are the number
        and that of the baseline: the maps sum to their difference, up to `completeness_error`.

    Raises:
        InputError: when target, method or fields do not suit the downscaler; says how to mend it.
    """
    chosen = method if isinstance(method, Attribution) else build(method, ATTRIBUTIONS, "method of attribution")
    if chosen.needs_gradients:
        network_of(downscaler)
    source = provenance(coarse, otherwise="the coarse input")
    record = _Record(downscaler, downscaler.read(coarse, source=source), Inputs.of(downscaler.domain.inputs), source)
    if baseline is None:
        baseline = "climate" if not chosen.several and knows_climate(downscaler, record.inputs) else "record"
    work = _Work(
        record,
        (target or Target()).aim(downscaler.domain, deviation=partial(_deviation, record)),
        _limited(chosen, record, _members(downscaler, members)),
        baseline_of(baseline, downscaler, record.given, record.inputs, several=chosen.several),
        _members(downscaler, members),
        seed,
    )
    times = range(record.given.sizes["time"])[times_of_period(coarse, time)]
    maps = np.empty((len(times), len(record.lags), len(record.inputs.variables), *record.inputs.grid.shape))
    numbers = np.empty((3, len(times)))
    with bar("attributing", len(times), show=progress) as step:
        for row, index in enumerate(times):
            maps[row], numbers[:, row] = work.at(index, check=row == 0)
            step()
    return labelled(
        maps,
        record.given["time"].isel(time=list(times)),
        numbers,
        record.lags,
        domain=downscaler.domain,
        coarse=coarse,
        inputs=record.inputs,
        aim=work.aim,
        words={"method": chosen.name, "baseline": work.baseline.words},
    )


@dataclass(frozen=True, eq=False)
class _Record:
    """A downscaler and what it read."""

    downscaler: Downscaler
    given: xr.Dataset
    inputs: Inputs
    source: str

    @property
    def lags(self) -> range:
        """Steps around a time that are looked at."""
        return range(-self.downscaler._reach, self.downscaler._reach + 1)


@dataclass(frozen=True, eq=False)
class _Work:
    """What is the same for all times."""

    record: _Record
    aim: Aim
    method: Attribution
    baseline: Baseline
    members: int
    seed: int
    affine: AffineGuess = field(default_factory=AffineGuess)

    def at(self, index: int, *, check: bool) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
        """Maps (lag, variable, y, x) of a time; the number, that of the baseline, and the error of completeness."""
        record, inputs = self.record, self.record.inputs
        times, position = window_of(record.given["time"], index, record.downscaler._reach)
        window = record.given.isel(time=times).load()
        check_values(window, source=record.source, part=True)
        moment = Moment(record.downscaler, inputs, self.aim, window, position, self.members, self.seed)
        values, known = moment.values, range(-position, moment.steps - position)
        baseline = fitted(self.baseline.at(window["time"], known), values)
        if check:
            moment.check_alone(baseline)
        found = self._explained(moment, values, baseline)
        maps = np.zeros((len(record.lags), len(inputs.variables), *inputs.grid.shape))
        steps = slice(record.lags.index(known.start), record.lags.index(known.start) + moment.steps)
        missing = inputs.missing(values.reshape(moment.steps, -1))
        maps[steps] = np.where(missing, np.nan, inputs.maps(found.values.reshape(moment.steps, -1)))
        value = float(moment(values[None])[0])
        return maps, (value, value - float(found.change[0]), float(found.error[0]))

    def _explained(self, moment: Moment, values: Tensor, baseline: Tensor) -> Attributed:
        inputs, function, groups = self.record.inputs, cast(Function, moment), None
        if self.method.needs_gradients:
            usual = inputs.usual((values - baseline).reshape(-1, inputs.size)).repeat(moment.steps)
            function = differentiable(moment, self.affine, baseline, usual)
        if isinstance(self.method, Grouped):
            side = self.method.side((moment.steps * len(inputs.variables), *inputs.grid.shape))
            groups = _groups(torch.from_numpy(inputs.groups(side)), moment.steps)
        return self.method.explain(function, values[None], baseline, groups=groups)


def _groups(numbers: Tensor, steps: int) -> Tensor:
    """Numbers (value,) of groups of a window, those of each step apart."""
    return torch.cat([numbers + step * (int(numbers.max()) + 1) for step in range(steps)])


def _members(downscaler: Downscaler, members: int | None) -> int:
    count = members or (_MEMBERS if downscaler.random else 1)
    check_members(count, downscaler.name, random=downscaler.random)
    return count


def _limited(method: Attribution, record: _Record, members: int) -> Attribution:
    """The method with no more points in a call than fit into the caches."""
    domain = record.downscaler.domain
    values = domain.grid.size * len(domain.outputs) * members * len(record.lags)
    return replace(method, batch=max(1, min(method.batch, _VALUES // values)))


def _deviation(record: _Record, variable: str) -> float:
    """Usual deviation of a variable about the climate of its month, or in the record where that is not known."""
    known = record.downscaler._climatology
    if known is not None and np.isfinite(known.deviation[variable]).any():
        found = float(np.nanmean(known.deviation[variable]))
    else:
        found = float(record.given[variable].std())
    return found if found > 0 else 1.0
