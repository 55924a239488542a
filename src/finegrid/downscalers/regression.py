"""Regressions of fine cells on coarse fields: what they see, what they are to hit, and how that is put back in place.

For every coarse cell I the targets are its fine cells, as departures from the coarse value (`start: coarse`) or as they
are (`start: mean`); where all cells see the same predictors there is one matrix and every fine cell is a target of it.

    y(t, i) - x(t, I)  or  y(t, i)   from   z(t, I)

A regression on departures knows that the coarse field is right about the mean of the cell, which it is where it was
made from the fine one; one on values trusts nothing. Which is better, and which features, cross-validation over blocks
of time decides where several are allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.backbones.blocks import repeated, shuffle, unshuffle
from finegrid.bridge import to_tensor
from finegrid.conventions import InputError
from finegrid.conventions.components import build
from finegrid.data.pairs import Pair
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.features import FEATURES, Features, Prepared
from finegrid.downscalers.fitting import not_fitted
from finegrid.downscalers.plan import part

Table = str | Mapping[str, Any]
STARTS = ("coarse", "mean")
# Bytes of matrices in memory at once.
_CHUNK_BYTES = 256e6
# Coarse cells by which a variant is chosen; more would not change the choice, only cost time.
_CELLS_JUDGED, _LEAST_JUDGED = 100, 12
_USUAL_WIDTH = 80


@dataclass(kw_only=True)
class Regression(Downscaler):
    """What regressions share.

    Args:
        features: what is seen, by name or `{name: ..., **arguments}`.
        start: "coarse" for departures from the coarse value, "mean" for values; several are candidates.
        frames: offsets in time steps of the coarse fields that are seen.
        cycles: phases of time that are seen; None is those that the record can teach.
        reach: degrees around the fine domain within which coarse cells are seen, by features that look around.
    """

    features: Table = "window"
    start: str | Sequence[str] = STARTS
    frames: Sequence[int] = (0,)
    cycles: Sequence[str] | None = None
    reach: float = 10.0
    _features: Features | None = field(default=None, init=False, repr=False)
    _start: str = field(default="", init=False, repr=False)

    clips: ClassVar[bool] = True
    """Whether values beyond the limits of nature are set to these."""

    @property
    def surroundings(self) -> float | None:
        return self.reach if self._planned().looks_around else None

    @property
    def _reach(self) -> int:
        return max((abs(offset) for offset in self.frames), default=0)

    def _planned(self) -> Features:
        """The unfitted features."""
        planned: Features = build(self.features, FEATURES, "features", frames=tuple(self.frames), cycles=self.cycles)
        return planned

    def _starts(self) -> tuple[str, ...]:
        starts = (self.start,) if isinstance(self.start, str) else tuple(self.start)
        if not starts or not set(starts) <= set(STARTS):
            raise InputError(f"got start: {self.start}; expected some of {', '.join(STARTS)}; change downscaler.start")
        return starts

    def _known_features(self) -> Features:
        if self._features is None:
            raise not_fitted(self)
        return self._features

    def _targets(self, matched: Pair, start: str, *, shared: bool) -> Tensor:
        """What is to be hit (time, target, cell), NaN where it is missing; one cell for all where it is shared."""
        fine = to_tensor(matched.fine, self.domain.outputs)
        values = fine if start == "mean" else fine - self._spread(matched.coarse)
        return values.flatten(1)[:, :, None] if shared else unshuffle(values, self.domain.factor).flatten(2)

    def _placed(self, values: Tensor, coarse: xr.Dataset, start: str, *, shared: bool) -> Tensor:
        """Fine fields (time, output, H, W) from answers (time, target, cell), within the limits of nature."""
        shape, factor, count = self.domain.inputs.grid.shape, self.domain.factor, len(self.domain.outputs)
        if shared:
            fine = values.reshape(len(values), count, *self.domain.grid.shape)
        else:
            fine = shuffle(values.reshape(len(values), -1, *shape), factor)
        fine = fine if start == "mean" else fine + self._spread(coarse)
        return self._clipped(fine) if self.clips else fine

    def _spread(self, coarse: xr.Dataset) -> Tensor:
        values = torch.nan_to_num(to_tensor(coarse, self.domain.outputs), nan=0.0)
        return repeated(values, self.domain.factor)

    def _clipped(self, fine: Tensor) -> Tensor:
        limits = map(self.domain.limits, self.domain.outputs)
        low, high = (torch.tensor(each)[:, None, None] for each in zip(*limits, strict=True))
        return torch.minimum(torch.maximum(fine, low), high)

    def _chunks(self, seen: Prepared, targets: Tensor, *, every: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Predictors and targets, (cell, time, predictor) and (cell, time, target), some cells at a time."""
        for cells in cell_chunks(seen, targets.shape[1], every=every):
            yield completed(seen.at(cells).matrix(), targets[:, :, cells].permute(2, 0, 1).double().contiguous())

    def _learnt(self) -> State:
        features = self._known_features()
        plain: dict[str, Any] = {"features": plain_options(features.options), "start": self._start}
        return plain, {f"features/{name}": each for name, each in features.numbers.items()}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        features: Features = build(plain["features"], FEATURES, "features")
        self._features = features.remember(part(tensors, "features/"), self.domain)
        self._start = plain["start"]

    def _summary(self) -> dict[str, Any]:
        if self._features is None:
            return {}
        starts = {"coarse": "departures from the coarse value", "mean": "values"}
        return {**self._features.words(), "regresses": starts[self._start]}


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them: sequences as lists."""
    return {key: list(each) if isinstance(each, tuple) else each for key, each in options.items()}


def judged_every(seen: Prepared) -> int:
    """Stride through the cells that leaves enough of them to choose by; fewer where there are many predictors."""
    enough = np.clip(_CELLS_JUDGED * (_USUAL_WIDTH / seen.width) ** 2, _LEAST_JUDGED, _CELLS_JUDGED)
    return math.ceil(seen.cells / float(enough))


def cell_chunks(seen: Prepared, targets: int, *, every: int = 1, most: float = _CHUNK_BYTES) -> Iterator[slice]:
    """Slices of the cells whose matrices take at most so many bytes together."""
    size = every * max(1, int(most / (8 * seen.times * (seen.width + targets))))
    for start in range(0, seen.cells, size):
        yield slice(start, min(start + size, seen.cells), every)


def completed(predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Predictors and targets without gaps, so that all targets of a cell share one matrix of normal equations.

    A time without any truth in the cell does not count: its row is 0. A target that is missing beside others is the
    mean of its known values.
    """
    known = torch.isfinite(targets)
    if known.all():
        return predictors, targets
    counts = known.any(-1, keepdim=True)
    usual = targets.nanmean(1, keepdim=True).nan_to_num(nan=0.0)
    return predictors * counts, torch.where(known, targets, usual) * counts
