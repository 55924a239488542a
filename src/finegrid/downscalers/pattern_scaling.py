"""Pattern scaling: every fine cell follows one number a time, the warming of the whole coarse file.

    y(s, t) = b(s, m(t)) + w(s, g(t)) d(t)

with d the departure of the predictor from its mean in training, an offset b for every month and a slope w, the pattern,
for every season, by least squares per cell and variable (`patterns`). The predictor is the area-weighted mean of the
temperature over all cells of the coarse file, also those outside the fine domain; or a series of the file, such as
cumulative emissions `co2(time)`; or the first as a linear function of the second, d(t) = a + c F(t) with `driver`.
It gives the mean of the climate at a time and no weather. A truth with members is learnt as their mean.

Emulators of climate have to beat it by more than the members' own variability (`evaluation.floor`).

Source: Santer et al. 1990 (MPI report 47); Mitchell 2003, doi:10.1023/A:1026035305597; Lütjens et al. 2025,
doi:10.1029/2024MS004619, on networks that seem to beat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError, restore
from finegrid.conventions.errors import provenance
from finegrid.data.members import member_mean
from finegrid.data.pairs import Pair, within
from finegrid.data.splits import Indices
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.patterns import SEASONS, Patterns, When, regress
from finegrid.downscalers.warming import Predictor, Wanted, month_of

# What the series is called beside the coarse fields.
_SERIES = "predictor (series)"
_KINDS = ("weights", "offsets", "scales", "errors")


@dataclass(kw_only=True)
class PatternScaling(Downscaler):
    """Local response to the warming of the whole coarse domain.

    Args:
        predictor: coarse field whose mean over the whole file is the predictor, or a series of the file over time
            alone; None is the temperature of the file.
        driver: series over time alone, such as cumulative emissions or a forcing, of which the predictor is a linear
            function, learnt in training; what is predicted then needs the series only.
        by: patterns for each "season", each "month" or "all" times together.
        years: calendar years over which the predictor is averaged, an odd number or 0 for none, so that the weather of
            single years does not weaken the slopes; None is 1 for a field with ten years of training and else 0.
        relative: variables whose response is a part of their mean, such as ["pr"]; these are never below zero.
    """

    name: ClassVar[str] = "pattern-scaling"
    predictor: str | None = None
    driver: str | None = None
    by: str = "season"
    years: int | None = None
    relative: Sequence[str] = ()
    _predictor: Predictor | None = field(default=None, init=False, repr=False)
    _patterns: Mapping[str, Tensor] | None = field(default=None, init=False, repr=False)

    def read(self, coarse: xr.Dataset, *, source: str = "input", reference: xr.Dataset | None = None) -> xr.Dataset:
        """Coarse fields as in training and beside them the series d, from all times and cells of the file.

        Raises:
            InputError: on months that training did not have, besides what all downscalers raise.
        """
        source = provenance(coarse, otherwise="the coarse input") if source == "input" else source
        if reference is not None:
            raise InputError(
                "'pattern-scaling' takes changes of one series against the training times, and got a reference; "
                "expected the source that it was trained with; leave --reference away"
            )
        one = member_mean(coarse)
        fields = super().read(one, source=source)
        if self._predictor is None:
            raise RuntimeError("pattern scaling without a predictor")
        self._check_months(fields.time, source)
        return fields.assign({_SERIES: ("time", self._predictor.of(one).values)})

    def patterns(self) -> xr.Dataset:
        """What was learnt, (season, y, x) on the fine grid in the fine file's names.

        For each variable `v`: the pattern `v`, in units of v per unit of the predictor (in relative terms a part of the
        mean per unit), its standard error `v_error`, and `v_significant`, 1 where its 95 % interval leaves out zero.
        """
        fields = {}
        for index, name in enumerate(self.domain.outputs):
            units = f"{self._units_of(name)} per ({self._known_predictor.units or '1'})"
            parts = {"": ("weights", units), "_error": ("errors", units), "_significant": ("significant", "1")}
            for suffix, (kind, unit) in parts.items():
                values = self._kept[kind][index].numpy().astype(np.float32)
                mask = self.domain.grid.mask
                values = values if mask is None else np.where(mask, values, np.float32(np.nan))
                fields[f"{name}{suffix}"] = (("season", "y", "x"), values, {"units": unit})
        found = xr.Dataset(fields, coords={"season": list(SEASONS[self.by]), **self.domain.grid.coords()})
        return restore(within(found, self.domain.true_grid), self.domain.names)

    def _paired(self, coarse: xr.Dataset, fine: xr.Dataset) -> Pair:
        coarse = member_mean(coarse)
        matched = super()._paired(coarse, fine)
        self._check_options(matched)
        names = Wanted(self.predictor, self.driver, self.years)
        self._predictor = Predictor.learnt(coarse, matched.coarse.time, names)
        series = self._predictor.of(coarse).sel(time=matched.coarse.time)
        return replace(matched, coarse=matched.coarse.assign({_SERIES: ("time", series.values)}))

    def _check_options(self, matched: Pair) -> None:
        if self.by not in SEASONS:
            raise InputError(f"got by='{self.by}'; expected one of {', '.join(SEASONS)}; set downscaler.by")
        unknown = sorted(set(self.relative) - set(matched.variables))
        if unknown:
            raise InputError(
                f"got relative=['{unknown[0]}', ...]; expected some of the predicted variables, "
                f"{', '.join(matched.variables)}; set downscaler.relative"
            )
        for name in self.relative:
            lowest = float(np.nanmin(matched.fine[name].values))
            if lowest < 0:
                raise InputError(
                    f"'{name}' goes down to {lowest:.3g}, and relative terms are for what is never below zero; "
                    f"expected values from 0 up; leave '{name}' out of downscaler.relative"
                )

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        if _SERIES not in matched.coarse:
            raise InputError(
                "pattern scaling needs the whole coarse file, and a network hands on a part of it; expected another "
                "mean downscaler; set downscaler.mean to ridge or mean-map"
            )
        training = matched.at(fit_block)
        time = training.coarse.time
        series, year = np.asarray(training.coarse[_SERIES].values), np.asarray(time.dt.year.values)
        when = When(series, month_of(time), year, self.by)
        found = [self._regressed(training, name, when) for name in self.domain.outputs]
        shape = matched.grid.shape
        learnt = {kind: np.stack([getattr(each, kind) for each in found]) for kind in (*_KINDS, "significant")}
        tensors = {kind: torch.from_numpy(each).float() for kind, each in learnt.items()}
        self._patterns = {kind: each.reshape(*each.shape[:2], *shape) for kind, each in tensors.items()}
        self._patterns |= {"months": torch.from_numpy(np.logical_and.reduce([each.months for each in found]))}

    def _regressed(self, training: Pair, name: str, when: When) -> Patterns:
        values = training.fine[name].values
        return regress(values.reshape(len(values), -1), when, relative=name in self.relative)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        month = torch.as_tensor(month_of(coarse.time))
        season = torch.as_tensor(When(np.empty(0), np.empty(0, int), np.empty(0, int), self.by).season)[month]
        series = torch.from_numpy(np.nan_to_num(coarse[_SERIES].values, nan=0.0)).float()[:, None, None]
        parts = []
        for index, name in enumerate(self.domain.outputs):
            weights, offsets, scales = (self._kept[kind][index] for kind in _KINDS[:3])
            part = offsets[month] + weights[season] * scales[month] * series
            parts.append(part.clamp(min=0.0) if name in self.relative else part)
        return torch.stack(parts, dim=1)

    def _known(self, fine: Tensor, coarse: xr.Dataset) -> Tensor:
        fine, series = super()._known(fine, coarse), torch.from_numpy(np.array(coarse[_SERIES].values))
        known = torch.isfinite(series)
        return fine if known.all() else torch.where(known[:, None, None, None], fine, torch.nan)

    def _check_months(self, time: xr.DataArray, source: str) -> None:
        taught = self._kept["months"].numpy()
        strange = np.setdiff1d(month_of(time), np.flatnonzero(taught)) + 1
        if len(strange):
            raise InputError(
                f"{source} has times in month {', '.join(map(str, strange))}, of which nothing was learnt (training "
                f"had {', '.join(map(str, np.flatnonzero(taught) + 1))}); expected months of the training data; leave "
                "the others out with fields.sel(time=fields.time.dt.month.isin([...])), or fit on whole years"
            )

    @property
    def _kept(self) -> Mapping[str, Tensor]:
        if self._patterns is None:
            raise RuntimeError("pattern scaling without patterns")
        return self._patterns

    @property
    def _known_predictor(self) -> Predictor:
        if self._predictor is None:
            raise RuntimeError("pattern scaling without a predictor")
        return self._predictor

    def _units_of(self, name: str) -> str:
        return "1" if name in self.relative else self.domain.inputs.units[name] or "1"

    def _learnt(self) -> State:
        if self._patterns is None:
            return {}, {}
        return {"predictor": dict(vars(self._known_predictor))}, dict(self._patterns)

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self._predictor = Predictor.from_dict(plain["predictor"])
        self._patterns = {kind: tensors[kind] for kind in (*_KINDS, "significant", "months")}

    def _summary(self) -> dict[str, Any]:
        if self._patterns is None:
            return {}
        known = self._known_predictor
        area = torch.as_tensor(self.domain.grid.weights.copy())
        area = area / area.sum()
        patterns = {}
        for index, name in enumerate(self.domain.outputs):
            weights, significant = (self._kept[kind][index].double() for kind in ("weights", "significant"))
            patterns[name] = {
                season: {
                    "mean": float((weights[place] * area).sum()),
                    "significant": float((significant[place] * area).sum()),
                }
                for place, season in enumerate(SEASONS[self.by])
            }
        driven = {"driver": known.driver} if known.driver else {"averaged over years": known.years}
        span = f"{known.span[0]:.3g} to {known.span[1]:.3g} {known.units}".rstrip()
        return {"predictor": known.name, **driven, "training range of the predictor": span, "patterns": patterns}
