"""Bias correction and spatial disaggregation.

Coarse values are mapped to the distribution of the mean of the fine field over their cell, by cell and month
(`quantiles`); what results departs from its climatology by an anomaly, which is interpolated and added to, or
multiplied by, the fine climatology (`anomalies`).

    period: day     every time step is mapped and disaggregated on its own
    period: month   monthly means are; the days of a month are those of a month of the same name drawn from the
                    training years, shifted or scaled to the monthly value (`history`). Members draw different years.

Source: Wood, Maurer, Kumar and Lettenmaier, Journal of Geophysical Research 107(D20), 2002; Wood, Leung, Sridhar and
Lettenmaier, Climatic Change 62, 2004; for days Thrasher, Maurer, McKellar and Duffy, Hydrology and Earth System
Sciences 16, 2012, who use a window of days where this has months.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices
from finegrid.downscalers.base import State
from finegrid.downscalers.disaggregation.anomalies import Anomalies
from finegrid.downscalers.disaggregation.base import Disaggregation, check_word, paired
from finegrid.downscalers.disaggregation.delta import dry_words
from finegrid.downscalers.disaggregation.history import (
    LEAST_DAYS,
    History,
    check_daily,
    month_numbers,
    monthly_means,
    resampled,
)
from finegrid.downscalers.disaggregation.quantiles import QuantileMap
from finegrid.downscalers.disaggregation.seasons import Seasons
from finegrid.downscalers.fitting import Fitting

# No month is longer, so that this many days on either side of a day hold the whole of its month.
_MONTH = 31


@dataclass(kw_only=True)
class Bcsd(Disaggregation):
    """Quantile mapping of the coarse field, then fine climatology and coarse anomaly.

    Args:
        period: "day", which takes every time step as it is, or "month", which needs daily fields of several years.
        quantiles: most quantiles of a cell and month; fewer where there are fewer training times.
        kind: "natural" (ratios for what cannot be negative), "additive" or "ratio" for all variables.
        cap: largest fine value of a ratio in units of the interpolated coarse value, and largest correction factor
            beyond the training quantiles.
    """

    name: ClassVar[str] = "bcsd"
    period: str = "day"
    quantiles: int = 101
    kind: str = "natural"
    cap: float = 10.0
    _map: QuantileMap | None = field(default=None, init=False, repr=False)
    _anomalies: Anomalies | None = field(default=None, init=False, repr=False)
    _history: History | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self.period, ("day", "month"), "period", self.name)
        if self.quantiles < 2:
            raise InputError(f"the method 'bcsd' got quantiles: {self.quantiles}; expected at least 2, such as 101")

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        training = matched.at(fit_block)
        time, fine = training.coarse.time, to_tensor(training.fine, self.domain.outputs)
        given, goals = paired(self._values(training.coarse), self._block_means(training))
        ratio = self._ratios(self.kind, training)
        if self.period == "month":
            self._history = History.of(time, fine)
            time, (given, goals, fine) = _whole_months(time, given, goals, fine)
        self._map = QuantileMap.of(time, given, goals, quantiles=self.quantiles, ratio=ratio, cap=self.cap)
        self._seasons = Seasons.of(self.by, time)
        self._anomalies = Anomalies.of(self._seasons, time, (goals, fine), self._interpolated, ratio, self.cap)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self.period == "month":
            return next(self._drawn(coarse, 1, 0))
        return self._disaggregated(self._values(coarse), coarse.time).float()

    def _members(self, coarse: xr.Dataset, members: int, seed: int) -> Tensor:
        if self.period == "day":
            return super()._members(coarse, members, seed)
        given = self.conservation.given(coarse)
        return torch.stack([self.conservation.project(each, given) for each in self._drawn(coarse, members, seed)])

    @property
    def random(self) -> bool:
        """Whether members differ: days that are drawn for a month do."""
        return self.period == "month"

    @property
    def _reach(self) -> int:
        return _MONTH if self.period == "month" else 0

    def _disaggregated(self, values: Tensor, time: xr.DataArray) -> Tensor:
        """Fine fields in float64 of coarse values (time, output, h, w), of days or of months."""
        _, anomalies = self._parts
        return self._limited(anomalies(self._mapped(values, time), time, self._interpolated))

    def _mapped(self, values: Tensor, time: xr.DataArray) -> Tensor:
        return self._limited(self._parts[0](values, time))

    def _drawn(self, coarse: xr.Dataset, members: int, seed: int) -> Iterator[Tensor]:
        """Days of every member (time, output, H, W), from the monthly means of these times."""
        if self._history is None:
            raise RuntimeError("a monthly BCSD without historical months")
        time, history, ratio = coarse.time, self._history, self._parts[1].ratio
        check_daily(time)
        history.check_known(time)
        numbers, days = month_numbers(time), np.asarray(time.dt.day.values - 1, dtype=np.int64)
        monthly = self._disaggregated(monthly_means(self._values(coarse), numbers).float(), _first_days(time))
        for member in range(members):
            fields = history.fields[history.drawn(numbers, days, seed, member)].double()
            yield self._limited(resampled(fields, monthly, numbers, ratio, self.cap)).float().nan_to_num(nan=0.0)

    @property
    def _parts(self) -> tuple[QuantileMap, Anomalies]:
        if self._map is None or self._anomalies is None:
            raise RuntimeError("a BCSD without quantiles")
        return self._map, self._anomalies

    def _notes(self) -> list[str]:
        """What a person should know of the fit, in sentences."""
        if self._history is None:
            return dry_words(self._anomalies)
        return [f"days are drawn from {self._history.kept} months of the training period", *dry_words(self._anomalies)]

    def _notes_on(self, coarse: xr.Dataset) -> list[str]:
        """What a person should know of a prediction from these coarse fields, in sentences."""
        fields = self.read(coarse)
        values, time = self._values(fields), fields.time
        if self.period == "month":
            values, time = monthly_means(values, month_numbers(time)).float(), _first_days(time)
        counts = self._parts[0].beyond(values, time).tolist()
        known = torch.isfinite(values).sum((0, 2, 3)).tolist()
        sentences = [
            f"{count} of {total} coarse values of {name} lie beyond the training quantiles of their cell and month; "
            "the correction of the outermost quantile is used for them"
            for name, count, total in zip(self.domain.outputs, counts, known, strict=True)
            if count
        ]
        return [*super()._notes_on(coarse), *sentences]

    def _learnt(self) -> State:
        if self._map is None or self._anomalies is None or self._seasons is None:
            return {}, {}
        plain: dict[str, Any] = {"seen": list(self._seasons.seen), "months": list(self._map.seasons.seen)}
        tensors = {**self._anomalies.tensors(), **self._map.tensors()}
        if self._history is not None:
            plain["history"] = self._history.months.tolist()
            tensors["history"] = self._history.fields
        return plain, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._seasons, months = Seasons(self.by, tuple(plain["seen"])), Seasons("month", tuple(plain["months"]))
        known = {name: each for name, each in tensors.items() if name in Anomalies.__dataclass_fields__}
        self._anomalies = Anomalies.from_tensors(known, self._seasons, self.cap)
        self._map = QuantileMap.from_tensors(tensors, months, tensors["ratio"], self.cap)
        if "history" in plain:
            self._history = History(tensors["history"], np.array(plain["history"], dtype=np.int64))


def _first_days(time: xr.DataArray) -> xr.DataArray:
    """The first time of every month."""
    return time[np.unique(month_numbers(time), return_index=True)[1]]


def _whole_months(time: xr.DataArray, *fields: Tensor) -> tuple[xr.DataArray, list[Tensor]]:
    """Monthly means of the months with enough days, and their first times."""
    numbers = month_numbers(time)
    _, counts = np.unique(numbers, return_counts=True)
    kept = np.flatnonzero(counts >= LEAST_DAYS)
    means = [monthly_means(each, numbers)[torch.from_numpy(kept)].float() for each in fields]
    return _first_days(time)[kept], means
