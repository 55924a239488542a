"""Per-cell ridge regression on the coarse cells around: the baseline that a network on a short record must beat.

For every coarse cell, the departures of its fine cells from its value are regressed on the coarse fields in a window
of cells around it and on the cycles of the day and the year:

    y(t, i) - x(t, I) = a(i) + sum_j b(i, j) z(t, j),        b minimises |residual|^2 + penalty |b|^2

z are all coarse fields, standardised over time and space, in (2 k + 1)^2 cells around I (at an edge the edge cell
again, around the globe the other side). The half-width k and the penalty are chosen by cross-validation over blocks of
time, pooled over outputs and up to a hundred cells (each in units of its own variance), from the same normal matrices
that the fit needs.

Source: Hoerl and Kennard, Technometrics 12(1), 1970.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from finegrid.backbones.blocks import repeated, shuffle, unshuffle
from finegrid.bridge import Layout, to_features, to_tensor
from finegrid.data.pairs import Pair
from finegrid.data.predictors import useful_cycles
from finegrid.data.splits import Indices, folds
from finegrid.data.transforms import Standardise, fit_transform
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.fitting import Fitting

_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FOLDS = 6
# Coarse cells by which the window and the penalty are chosen; more would not change the choice, only cost time.
_CELLS_JUDGED = 100
# Bytes of window matrices in memory at once.
_CHUNK_BYTES = 256e6


@dataclass(kw_only=True)
class Ridge(Downscaler):
    """Linear regression of each fine cell on its coarse surroundings.

    Args:
        half_widths: candidates for the cells on either side of the own one in the window.
        penalties: candidates for the penalty, on standardised predictors summed over times.
        cycles: phases of time that are predictors; None is those that the record can teach.
    """

    name: ClassVar[str] = "ridge"
    half_widths: Sequence[int] = (1, 2)
    penalties: Sequence[float] = _PENALTIES
    cycles: Sequence[str] | None = None
    _layout: Layout | None = field(default=None, init=False, repr=False)
    _chosen: tuple[int, float] | None = field(default=None, init=False, repr=False)
    _weights: Tensor | None = field(default=None, init=False, repr=False)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        everything = matched.at(fit_block)
        if self._layout is None:
            self._layout = self._planned(everything)
        features = to_features(everything.coarse, self._layout)
        targets = self._departures(everything)
        if self._chosen is None:
            self._chosen = self._cross_validated(features, targets)
        half_width, penalty = self._chosen
        chunks = self._chunks(features, targets, half_width)
        self._weights = torch.cat(
            [_solve(window.mT @ window, window.mT @ target, penalty) for window, target in chunks]
        )

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._layout is None or self._chosen is None or self._weights is None:
            raise RuntimeError("a ridge without weights")
        features = to_features(coarse, self._layout)
        shape, factor = self._layout.coarse_grid.shape, self._layout.factor
        window = self._surroundings(features, self._chosen[0])
        weights = self._weights.float()
        parts = []
        for cells in _cell_chunks(window, weights.shape[1]):
            predictors = self._matrix(window, features, cells).float()
            parts.append((predictors @ weights[cells]).permute(1, 2, 0))
        departures = shuffle(torch.cat(parts, dim=-1).reshape(len(features), -1, *shape), factor)
        values = torch.nan_to_num(to_tensor(coarse, self.domain.outputs), nan=0.0)
        return departures + repeated(values, factor)

    def _planned(self, matched: Pair) -> Layout:
        bare, time = self._bare_layout(), matched.coarse.time
        transforms = {name: fit_transform("standardise", matched.coarse[name].values) for name in bare.inputs}
        kinds = useful_cycles(time) if self.cycles is None else self.cycles
        return bare.with_features(cycles=kinds, transforms=transforms)

    def _departures(self, matched: Pair) -> Tensor:
        """What fine cells have beyond their coarse cell (time, output * fy * fx, h, w), NaN where one is missing."""
        fine = to_tensor(matched.fine, self.domain.outputs)
        departure = fine - repeated(to_tensor(matched.coarse, self.domain.outputs), self.domain.factor)
        return unshuffle(departure, self.domain.factor)

    def _surroundings(self, features: Tensor, half_width: int) -> Tensor:
        """Weather features in the window of every coarse cell (time, predictor, cell)."""
        weather = features[:, : features.shape[1] - 4 * len(self._layout.cycles)] if self._layout else features
        k, periodic = half_width, self.domain.inputs.grid.periodic
        wide = functional.pad(weather, (k, k, 0, 0), mode="circular" if periodic else "replicate")
        tall = functional.pad(wide, (0, 0, k, k), mode="replicate")
        return functional.unfold(tall, 2 * k + 1)

    def _matrix(self, windows: Tensor, features: Tensor, cells: slice) -> Tensor:
        """Predictors of some cells (cell, time, predictor): window, cycles, one."""
        weather = windows[:, :, cells].permute(2, 0, 1)
        count = 4 * len(self._layout.cycles) if self._layout else 0
        phases = features[:, features.shape[1] - count :, 0, 0]
        common = torch.cat([phases, torch.ones(len(features), 1)], dim=1)
        return torch.cat([weather, common.expand(len(weather), -1, -1)], dim=2).double()

    def _chunks(
        self, features: Tensor, targets: Tensor, half_width: int, *, every: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Predictors and targets, (cell, time, predictor) and (cell, time, target), some cells at a time."""
        windows = self._surroundings(features, half_width)[:, :, ::every]
        flat = targets.flatten(2)[:, :, ::every]
        for cells in _cell_chunks(windows, targets.shape[1]):
            yield _completed(self._matrix(windows, features, cells), flat[:, :, cells].permute(2, 0, 1).double())

    def _cross_validated(self, features: Tensor, targets: Tensor) -> tuple[int, float]:
        """Half-width and penalty with the least error on blocks of time that were left out."""
        blocks = folds(len(features), _FOLDS)
        scale = self._error_scale(targets)
        candidates = [(half, penalty) for half in self.half_widths for penalty in self.penalties]
        if len(candidates) == 1 or len(blocks) < 2:
            return candidates[0]
        errors = dict.fromkeys(candidates, 0.0)
        for half in self.half_widths:
            for window, target in self._chunks(features, targets, half, every=_every(targets)):
                for penalty, error in _errors(window, target, blocks, self.penalties, scale).items():
                    errors[half, penalty] += error
        return min(candidates, key=lambda each: errors[each])

    def _error_scale(self, targets: Tensor) -> Tensor:
        """Weight of each target in the pooled error: one over the variance of its variable's departures."""
        fine_cells = math.prod(self.domain.factor)
        count, _, height, width = targets.shape
        split = targets.double().nan_to_num(nan=0.0).reshape(count, -1, fine_cells, height, width)
        weights: Tensor = 1.0 / split.var((0, 2, 3, 4)).clamp(min=1e-30)
        return weights.repeat_interleave(fine_cells)

    def _learnt(self) -> State:
        if self._layout is None or self._chosen is None or self._weights is None:
            return {}, {}
        plain: dict[str, Any] = {"cycles": list(self._layout.cycles), "chosen": list(self._chosen)}
        tensors = {"weights": self._weights.float()}
        for index, name in enumerate(self._layout.inputs):
            for key, number in self._layout.transforms[name].numbers.items():
                tensors[f"inputs/{index}/{key}"] = torch.as_tensor(number)
        return plain, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        bare = self._bare_layout()
        transforms = {
            name: Standardise(**{key: tensors[f"inputs/{index}/{key}"].numpy() for key in ("mean", "deviation")})
            for index, name in enumerate(bare.inputs)
        }
        self._layout = bare.with_features(cycles=plain["cycles"], transforms=transforms)
        self._chosen = int(plain["chosen"][0]), float(plain["chosen"][1])
        self._weights = tensors["weights"].double()

    def _summary(self) -> dict[str, Any]:
        if self._chosen is None:
            return {}
        width = 2 * self._chosen[0] + 1
        return {"window": f"{width} x {width}", "penalty": self._chosen[1]}


def _every(targets: Tensor) -> int:
    """Stride through the cells that leaves enough of them to choose by."""
    return math.ceil(targets.shape[-2] * targets.shape[-1] / _CELLS_JUDGED)


def _cell_chunks(windows: Tensor, targets: int) -> Iterator[slice]:
    times, predictors, cells = windows.shape
    size = max(1, int(_CHUNK_BYTES / (8 * times * (predictors + targets + 8))))
    for start in range(0, cells, size):
        yield slice(start, min(start + size, cells))


def _completed(window: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Predictors and targets without gaps, so that all fine cells of a coarse cell share one normal matrix.

    A time without any truth in the cell does not count: its row is 0. A target that is missing beside others is the
    mean of its known values.
    """
    known = torch.isfinite(target)
    if known.all():
        return window, target
    counts = known.any(-1, keepdim=True)
    usual = target.nanmean(1, keepdim=True).nan_to_num(nan=0.0)
    return window * counts, torch.where(known, target, usual) * counts


def _solve(gram: Tensor, moments: Tensor, penalty: float) -> Tensor:
    """Weights (cell, predictor, target) of penalised normal equations; the last predictor, the one, is free."""
    ridge = torch.full((gram.shape[-1],), penalty, dtype=gram.dtype)
    ridge[-1] = 1e-9
    return torch.cholesky_solve(moments, torch.linalg.cholesky(gram + torch.diag(ridge)))


def _errors(
    window: Tensor, target: Tensor, blocks: Sequence[Indices], penalties: Sequence[float], scale: Tensor
) -> dict[float, float]:
    """Squared errors on left-out blocks, summed over cells; from the normal matrices alone.

    For weights b from the other blocks, |y - z b|^2 = y'y - 2 b'(z'y) + b'(z'z) b with the products of the block.
    """
    parts = []
    for block in blocks:
        index = torch.as_tensor(block)
        z, y = window[:, index], target[:, index]
        parts.append((z.mT @ z, z.mT @ y, (y**2).sum(1)))
    gram, moments = sum(part[0] for part in parts), sum(part[1] for part in parts)
    errors = dict.fromkeys(penalties, 0.0)
    for z_z, z_y, y_y in parts:
        for penalty in penalties:
            b = _solve(gram - z_z, moments - z_y, penalty)
            squared = y_y - 2 * (b * z_y).sum(1) + (b * (z_z @ b)).sum(1)
            errors[penalty] += float((squared * scale).sum())
    return errors
