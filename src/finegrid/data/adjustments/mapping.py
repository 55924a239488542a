"""Quantile mapping: every value is changed by what its quantile lacks.

With F the distribution of a group of times and F^-1 its quantiles, at the middles of `quantiles` equal parts, for
additive adjustment (for multiplicative, quotients stand for differences):

    eqm    x' = x + (F_goal^-1 - F_coarse^-1)(F_coarse(x))            empirical (Deque 2007)
    qdm    x' = x + (F_goal^-1 - F_coarse^-1)(F_x(x))                 quantile delta: F_x of the new record itself
    dqm    eqm of the new record without its linear trend, which is put back afterwards

`qdm` keeps the change of every quantile and `dqm` the trend of the mean that the coarse model projects; `eqm` does
not: it maps the warmer future as if it were bad weather (Cannon et al. 2015, doi:10.1175/JCLI-D-14-00754.1). Beyond the
outermost quantiles the factor is that of the outermost one.

The numbers are those of xsdba (`EmpiricalQuantileMapping`, `QuantileDeltaMapping`, `DetrendedQuantileMapping`) for the
series of each group by itself. By day of the year, qdm ranks a value within the window around its day (rank_window).
xsdba's own groups differ in one point: with `time.month` it looks for the nearest quantile in the plane of values and
months, so that a value more than 1 K (or 1 mm/day) from all quantiles of its month may get the factor of the next
month. That depends on the units, and is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from finegrid.conventions import InputError
from finegrid.data.adjustments.base import Numbers, Values
from finegrid.data.adjustments.grouped import Grouped
from finegrid.data.adjustments.groups import Times
from finegrid.data.adjustments.kinds import Kind
from finegrid.data.adjustments.quantiles import completed, looked_up, nodes_of, percent_ranks
from finegrid.data.adjustments.training import library
from finegrid.data.adjustments.trend import trend_of
from finegrid.data.adjustments.wetness import adapted_frequency, dried, jittered, wet_options

_WAYS = ("nearest", "linear")


@dataclass
class QuantileMapping(Grouped):
    """What the methods share.

    Args:
        by: groups of times: "month", "season", "day_of_year" (with a moving window) or "all".
        window: days of the window around a day of the year, an odd number.
        kind: "additive" or "multiplicative"; None for what suits the variable.
        quantiles: number of quantiles; every group needs twice as many training values.
        wet: of precipitation, rain in mm/day under which a day is dry: where the coarse field is too seldom wet in
            training, some dry days become wet ones, and dry values get noise so that they can be ranked; None for
            neither.
        interpolation: "nearest" quantile or "linear" between quantiles.
        extrapolation: "constant", the only one that leaves no value missing.
        seed: of the noise that `wet` needs.
    """

    quantiles: int = 50
    wet: float | None = 0.1
    interpolation: str = "nearest"
    extrapolation: str = "constant"
    seed: int = 0
    _extrapolated: ClassVar[str] = "they are changed by the factor of the outermost quantile"
    _class: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantiles < 2:
            raise InputError(f"the adjustment '{self.name}' got quantiles: {self.quantiles}; expected at least 2")
        choices = {"interpolation": (self.interpolation, _WAYS), "extrapolation": (self.extrapolation, ("constant",))}
        for option, (given, valid) in choices.items():
            if given not in valid:
                raise InputError(f"the adjustment '{self.name}' got {option}: {given}; expected {' or '.join(valid)}")

    @property
    def _least(self) -> int:
        return 2 * self.quantiles

    @property
    def _threshold(self) -> float | None:
        return self.wet

    @property
    def _noise(self) -> int:
        return self.seed

    def _needs_record(self, kind: Kind) -> bool:
        return kind.wet is not None

    def _taught(self, goal: xr.DataArray, given: xr.DataArray, kind: Kind) -> Numbers:
        options: dict[str, Any] = {"nquantiles": self.quantiles, "kind": kind.sign, **wet_options(kind.wet)}
        learnt = getattr(library(), self._class).train(goal, given, group="time", **options).ds
        return self._found(learnt, kind)

    def _found(self, learnt: xr.Dataset, kind: Kind) -> Numbers:
        """Arrays (..., column) of what xsdba learnt."""
        order = ("quantiles", "cell")
        single = {key: learnt[key].values.reshape(-1) for key in ("P0_ref", "P0_hist", "pth") if key in learnt}
        factors = _bare(learnt.af).transpose(*order).values
        nodes = _bare(learnt.hist_q).transpose(*order).values
        return {"factors": completed(factors, kind.neutral).astype(np.float32), "nodes": nodes, **single}

    def _adapted(self, values: Values, learnt: Numbers, kind: Kind, times: Times, seed: Sequence[int]) -> Values:
        if kind.wet is None:
            return self._mapped(values, learnt, kind, times)
        mapped = self._mapped(self._wetted(values, learnt, kind.wet, times, seed), learnt, kind, times)
        return dried(mapped, values, kind.wet)

    def _wetted(self, values: Values, learnt: Numbers, wet: float, times: Times, seed: Sequence[int]) -> Values:
        """The record with as many dry values as training says, all different."""
        noise = np.random.default_rng([*seed])
        result = jittered(values, wet, noise)
        for place, members in times.groups:
            dry = {key: learnt[key][place] for key in ("P0_ref", "P0_hist", "pth")}
            result[members] = adapted_frequency(result[members], dry, wet, noise)
        return result

    def _mapped(self, values: Values, learnt: Numbers, kind: Kind, times: Times) -> Values:
        """Values changed by the factor of their quantile in training."""
        result = np.empty_like(values)
        for place, members in times.groups:
            nodes, factors = learnt["nodes"][place], learnt["factors"][place]
            chosen = looked_up(values[members], nodes, factors, self.interpolation)
            result[members] = kind.applied(values[members], chosen)
        return result


class Empirical(QuantileMapping):
    """Empirical quantile mapping: the distribution of training becomes that of the goal; trends are not kept."""

    name = "eqm"
    _class = "EmpiricalQuantileMapping"


class QuantileDelta(QuantileMapping):
    """Quantile delta mapping: like `eqm`, but the change of every quantile of the new record is kept."""

    name = "qdm"
    _class = "QuantileDeltaMapping"

    def _needs_record(self, kind: Kind) -> bool:
        return True

    def _found(self, learnt: xr.Dataset, kind: Kind) -> Numbers:
        return {key: each for key, each in super()._found(learnt, kind).items() if key != "nodes"}

    def _mapped(self, values: Values, learnt: Numbers, kind: Kind, times: Times) -> Values:
        result, nodes = np.empty_like(values), nodes_of(self.quantiles)
        for (place, members), around in zip(times.groups, times.around, strict=True):
            part = values[members]
            ranks = percent_ranks(part, part if around is members else values[around])
            chosen = looked_up(ranks, nodes, learnt["factors"][place], self.interpolation)
            result[members] = kind.applied(part, chosen)
        return result


class Detrended(QuantileMapping):
    """Detrended quantile mapping: like `eqm`, but the linear trend of the new record's mean is kept."""

    name = "dqm"
    _class = "DetrendedQuantileMapping"

    def _needs_record(self, kind: Kind) -> bool:
        return True

    def _found(self, learnt: xr.Dataset, kind: Kind) -> Numbers:
        scaling = _bare(learnt.scaling).values.reshape(-1)
        return {**super()._found(learnt, kind), "scaling": np.where(np.isfinite(scaling), scaling, kind.neutral)}

    def _mapped(self, values: Values, learnt: Numbers, kind: Kind, times: Times) -> Values:
        scaled = np.empty_like(values)
        for place, members in times.groups:
            scaled[members] = kind.applied(values[members], learnt["scaling"][place])
        trend = trend_of(scaled, times, positive=kind.sign == "*")
        mapped = super()._mapped(kind.undone(scaled, trend), learnt, kind, times)
        kept = kind.applied(mapped, trend)
        return np.where(np.isfinite(kept), kept, scaled)


def _bare(field: xr.DataArray) -> xr.DataArray:
    """Without the group, of which there is one."""
    return field.squeeze("group", drop=True) if "group" in field.dims else field
