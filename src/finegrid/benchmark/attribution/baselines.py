"""Inputs that say nothing, from which departures are attributed.

climate   the mean of the training times in the month of the time
zero      zero in physical units
record    other times of the record, spread evenly; their mean for methods with one baseline
Dataset   the same of other coarse fields
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.benchmark.attribution.inputs import Inputs
from finegrid.conventions import InputError
from finegrid.conventions.components import nearest
from finegrid.data.predictors import frame_indices
from finegrid.downscalers import Downscaler

WORDS = ("climate", "zero", "record")
# Times of a record that stand for it.
_TIMES = 32


class Baseline(Protocol):
    """Vectors of windows."""

    @property
    def words(self) -> str:
        """What it is called."""

    def at(self, time: xr.DataArray, lags: range) -> Tensor:
        """Baselines (baseline, value) of a window of times, which are so many steps away from the time in question."""


@dataclass(frozen=True, eq=False)
class Climate:
    """Monthly means (month, value)."""

    means: Tensor
    words: str = "climate"

    def at(self, time: xr.DataArray, lags: range) -> Tensor:
        months = torch.as_tensor(time.dt.month.values - 1)
        return self.means[months].flatten()[None]


@dataclass(frozen=True, eq=False)
class Constant:
    """The same fields (value,) at all times."""

    vector: Tensor
    words: str

    def at(self, time: xr.DataArray, lags: range) -> Tensor:
        return self.vector.repeat(len(time))[None]


@dataclass(frozen=True, eq=False)
class Sample:
    """Times of a record with their neighbours, spread evenly.

    Attributes:
        vectors: of the record (time, value).
        time: its times.
        words: what it is called.
    """

    vectors: Tensor
    time: xr.DataArray
    words: str

    def at(self, time: xr.DataArray, lags: range) -> Tensor:
        count = len(self.vectors)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _TIMES)).round().astype(int))
        steps = [torch.as_tensor(frame_indices(self.time, lag)[chosen]) for lag in lags]
        return torch.cat([self.vectors[each] for each in steps], dim=1)


def baseline_of(
    wanted: str | xr.Dataset, downscaler: Downscaler, given: xr.Dataset, inputs: Inputs, *, several: bool
) -> Baseline:
    """The baseline that is asked for.

    Args:
        wanted: one of `WORDS`, or coarse fields in the user's names.
        downscaler: which reads them.
        given: what it read of the record.
        inputs: how fields are vectors.
        several: whether the method takes several baselines.

    Raises:
        InputError: on another word, and where the model does not know the climate.
    """
    if isinstance(wanted, xr.Dataset):
        return _of_record(downscaler.read(wanted, source="the baseline"), inputs, "a Dataset", several)
    if wanted == "climate":
        return Climate(_climate(downscaler, inputs))
    if wanted == "zero":
        return Constant(torch.zeros(inputs.size), "zero")
    if wanted == "record":
        return _of_record(given, inputs, "record", several)
    raise InputError(
        f"got the baseline '{wanted}'; expected {', '.join(WORDS)} or a Dataset of coarse fields; change --baseline."
        f"{nearest(wanted, WORDS)}"
    )


def _of_record(fields: xr.Dataset, inputs: Inputs, words: str, several: bool) -> Baseline:
    vectors = inputs.vectors(fields.load())
    if several:
        return Sample(vectors, fields["time"], words)
    return Constant(torch.nanmean(vectors.double(), 0).to(vectors), f"mean of {'the ' * (words == 'record')}{words}")


def knows_climate(downscaler: Downscaler, inputs: Inputs) -> bool:
    """Whether the model knows a monthly mean of every field that it reads."""
    known = downscaler._climatology
    names = [name for part in inputs.parts for name in part.names]
    return known is not None and all(np.isfinite(known.mean[name]).any() for name in names)


def _climate(downscaler: Downscaler, inputs: Inputs) -> Tensor:
    """Means (month, value); of a month that training hardly knew, those of all others."""
    known = downscaler._climatology
    if known is None or not knows_climate(downscaler, inputs):
        raise InputError(
            "got the baseline 'climate' for a model whose training times are too few in each month, or which does not "
            "remember them; expected 20 times or more of a month; use --baseline record"
        )
    means = torch.cat(
        [torch.from_numpy(known.mean[name]).flatten(1) for part in inputs.parts for name in part.names], dim=1
    )
    return torch.where(torch.isfinite(means), means, torch.nanmean(means, 0, keepdim=True))


def fitted(baseline: Tensor, values: Tensor) -> Tensor:
    """Baselines (baseline, value), missing where the vector (value,) is, and like it where they are not known."""
    return torch.where(torch.isfinite(baseline) & torch.isfinite(values), baseline, values)
