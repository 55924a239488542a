"""Analogues: weather that looked like today's has been seen before, and so have its fine fields.

The situation z is a few principal components of the coarse fields in and around the domain. The k training days with
the nearest situations (Euclidean distance, weighted by the variance that each component explains) give today's field:

    analogues                 the fine field of the nearest day; of one of the k nearest for each further member
    nearest-neighbours        the mean of the k nearest, weighted by the inverse of their distance
    constructed-analogues     the linear combination of the k nearest that is nearest to today's situation itself

    constructed: w minimises |z - sum_j w_j z_j|^2 + s |w|^2 with sum_j w_j = 1; fine = sum_j w_j fine_j

Fine fields are taken as they are, or as departures from their coarse value (`start`). A training time is no analogue of
itself, nor are times next to it. Ensembles of `analogues` are fields of nature in every detail, without the weather
between them.

Sources: Zorita and von Storch, J. Climate 12, 1999 (analogues); Hidalgo, Dettinger and Cayan, California Energy
Commission PIER report CEC-500-2007-123, 2008 (constructed analogues).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.predictors import steps_since_epoch
from finegrid.data.splits import Indices
from finegrid.downscalers.base import State
from finegrid.downscalers.features import Features
from finegrid.downscalers.fitting import Fitting, not_fitted
from finegrid.downscalers.regression import Regression, Table

# Times at once in the table of distances.
_AT_ONCE = 512
# Times on either side of a training time that are no analogues of it while candidates are compared.
_NEXT = 5
# Training times by which candidates are compared.
_JUDGED = 300


@dataclass(kw_only=True)
class Analogues(Regression):
    """The fine field of the most similar training day.

    Args:
        neighbours: candidates for the number of similar days that are looked at.
    """

    name: ClassVar[str] = "analogues"
    usual_members: ClassVar[int] = 20
    features: Table = field(default_factory=lambda: {"name": "components", "counts": (10, 25)})
    neighbours: int | Sequence[int] = (10, 30)
    _chosen_neighbours: int = field(default=0, init=False, repr=False)
    _situations: Tensor | None = field(default=None, init=False, repr=False)
    _archive: Tensor | None = field(default=None, init=False, repr=False)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        everything = _with_truth(matched.at(fit_block))
        if self._features is None or not self._chosen_neighbours:
            self._features, self._start, self._chosen_neighbours = self._chosen(everything)
        self._situations = self._situation(self._features, everything.coarse)
        self._archive = self._filled_archive(everything, self._start)

    def _candidates(self) -> tuple[int, ...]:
        counts = (self.neighbours,) if isinstance(self.neighbours, int) else tuple(self.neighbours)
        if not counts or min(counts) < 1:
            raise InputError(f"got neighbours: {self.neighbours}; expected 1 or more; change downscaler.neighbours")
        return counts

    def _chosen(self, matched: Pair) -> tuple[Features, str, int]:
        """Features, start and number of neighbours whose mean field is nearest to the truth on times left out."""
        variants = [each.fit(matched.coarse, self.domain) for each in self._planned().variants()]
        starts, counts = self._starts(), self._candidates()
        if len(variants) * len(starts) * len(counts) == 1:
            return variants[0], starts[0], counts[0]
        steps = steps_since_epoch(matched.coarse.time, self.domain.step_seconds)
        judged = np.unique(np.linspace(0, len(steps) - 1, min(_JUDGED, len(steps))).astype(int))
        near = np.abs(steps[judged][:, None] - steps[None]) <= _NEXT
        scale, found = None, []
        for features in variants:
            situations = self._situation(features, matched.coarse)
            for start in starts:
                archive = self._filled_archive(matched, start)
                if scale is None:
                    scale = archive.flatten(2).var((0, 2)).clamp(min=1e-30)
                for count in counts:
                    index, weights = self._nearest(situations[judged], situations, count, torch.from_numpy(near))
                    guess = _combined(archive, index, weights)
                    error = ((guess - archive[judged]).square().flatten(2).mean((0, 2)) / scale).sum()
                    found.append((float(error), features, start, count))
        return min(found, key=lambda each: each[0])[1:]

    def _filled_archive(self, matched: Pair, start: str) -> Tensor:
        """Training fields (time, output, H, W), missing values as the mean of their cell."""
        values = self._targets(matched, start, shared=True)[:, :, 0]
        mean = torch.nanmean(values.double(), dim=0).nan_to_num(nan=0.0).float()
        filled = torch.where(torch.isfinite(values), values, mean)
        return filled.reshape(len(filled), len(self.domain.outputs), *self.domain.grid.shape)

    def _situation(self, features: Features, coarse: xr.Dataset) -> Tensor:
        """What days are compared by (time, predictor): components with the variance that each explains."""
        seen = features(coarse)
        if seen.local is not None:
            raise InputError(
                f"'{self.name}' compares whole situations and got the features '{features.name}', which differ from "
                "cell to cell; expected components or around; change downscaler.features"
            )
        patterns = features.numbers.get("patterns")
        if patterns is None:
            return seen.common
        deviation = 1.0 / patterns.norm(dim=0)
        count = len(deviation)
        return torch.cat([seen.common[:, :count] * (deviation / deviation.max()), seen.common[:, count:]], dim=1)

    def _nearest(
        self, today: Tensor, archive: Tensor, count: int, barred: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Indices and weights (time, neighbour) of the archive's times for each situation."""
        rows = []
        count = min(count, len(archive))
        for start in range(0, len(today), _AT_ONCE):
            distance = torch.cdist(today[start : start + _AT_ONCE].double(), archive.double())
            if barred is not None:
                distance = distance.masked_fill(barred[start : start + _AT_ONCE], torch.inf)
            rows.append(distance.topk(count, dim=1, largest=False))
        distance, index = torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])
        return index, self._weights(distance, today, archive, index).float()

    def _weights(self, distance: Tensor, today: Tensor, archive: Tensor, index: Tensor) -> Tensor:
        """All on the nearest."""
        weights = torch.zeros_like(distance)
        weights[:, 0] = 1.0
        return weights

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        situations, archive = self._archived
        today = self._situation(self._known_features(), coarse)
        index, weights = self._nearest(today, situations, self._chosen_neighbours)
        return self._field(_combined(archive, index, weights), coarse)

    def _field(self, values: Tensor, coarse: xr.Dataset) -> Tensor:
        return self._placed(values.flatten(1)[:, :, None], coarse, self._start, shared=True)

    @property
    def _archived(self) -> tuple[Tensor, Tensor]:
        if self._situations is None or self._archive is None:
            raise not_fitted(self)
        return self._situations, self._archive

    def _members(self, coarse: xr.Dataset, members: int, seed: int) -> Tensor:
        if members == 1 or self.usual_members == 1:
            return super()._members(coarse, members, seed)
        situations, archive = self._archived
        today, given = self._situation(self._known_features(), coarse), self.conservation.given(coarse)
        index, _ = self._nearest(today, situations, self._chosen_neighbours)
        steps = steps_since_epoch(coarse.time, self.domain.step_seconds) % 2**32
        drawn = [super()._members(coarse, 1, seed)[0]]
        for member in range(1, members):
            draws = [np.random.default_rng([seed, member, int(s)]).integers(index.shape[1]) for s in steps]
            chosen = index.gather(1, torch.as_tensor(draws)[:, None])[:, 0]
            drawn.append(self.conservation.project(self._field(archive[chosen], coarse), given))
        return torch.stack(drawn)

    def _learnt(self) -> State:
        if self._situations is None or self._archive is None:
            return {}, {}
        plain, tensors = super()._learnt()
        more = {"situations": self._situations, "archive": self._archive}
        return {**plain, "neighbours": self._chosen_neighbours}, {**tensors, **more}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super()._remember(plain, tensors)
        self._chosen_neighbours = int(plain["neighbours"])
        self._situations, self._archive = tensors["situations"], tensors["archive"]

    def _summary(self) -> dict[str, Any]:
        return {**super()._summary(), "neighbours": self._chosen_neighbours} if self._chosen_neighbours else {}


@dataclass(kw_only=True)
class NearestNeighbours(Analogues):
    """The mean of the most similar training days, nearer ones counting more."""

    name: ClassVar[str] = "nearest-neighbours"
    usual_members: ClassVar[int] = 1

    def _weights(self, distance: Tensor, today: Tensor, archive: Tensor, index: Tensor) -> Tensor:
        inverse = 1.0 / distance.clamp(min=1e-6 * float(distance.mean().clamp(min=1e-12)))
        return inverse / inverse.sum(1, keepdim=True)


@dataclass(kw_only=True)
class ConstructedAnalogues(Analogues):
    """The combination of similar training days that is most like the day itself.

    Args:
        ridge: penalty on the squares of the weights, relative to the usual squared distance of the neighbours.
    """

    name: ClassVar[str] = "constructed-analogues"
    usual_members: ClassVar[int] = 1
    neighbours: int | Sequence[int] = (30, 90)
    ridge: float = 0.1

    def __post_init__(self) -> None:
        if self.ridge <= 0:
            raise InputError(f"got ridge={self.ridge:g}; expected more than 0; set downscaler.ridge, usually to 0.1")

    def _weights(self, distance: Tensor, today: Tensor, archive: Tensor, index: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(today), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            away = archive[index[part]].double() - today[part, None].double()
            product = away @ away.mT
            scale = product.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
            product = product + torch.diag_embed((self.ridge * scale)[:, None].expand(-1, product.shape[1]))
            one = torch.ones(len(product), product.shape[1], 1, dtype=torch.float64)
            solved = torch.linalg.solve(product, one)[:, :, 0]
            parts.append(solved / solved.sum(1, keepdim=True))
        return torch.cat(parts)


def _with_truth(matched: Pair) -> Pair:
    """The times whose fine fields are known in most of the cells that ever are: the others are nobody's analogue."""
    shares = np.stack([np.isfinite(field.values).mean((1, 2)) for field in matched.fine.data_vars.values()])
    kept = (shares >= 0.5 * shares.max(1, keepdims=True)).all(0)
    return matched if kept.all() else matched.at(np.flatnonzero(kept))


def _combined(archive: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Sums of fields of the archive (time, ...) with the weights (time, neighbour)."""
    matrix = torch.zeros(len(index), len(archive), dtype=torch.float32)
    matrix.scatter_add_(1, index, weights.float())
    return (matrix @ archive.flatten(1)).reshape(len(index), *archive.shape[1:])
