"""Gradient-boosted trees: what is not linear in the weather, learnt from all fine cells together.

    y(t, i) = linear(t, i) + s_i sum_k tree_k( z(t, I), place(i), linear(t, i) )

The linear part is a downscaler of its own (`mean`), cross-fitted, as for networks: trees that saw the errors of a fit
on its own training times would learn to correct too little. The trees see components of the situation, the coarse
fields around the cell, the guess itself, and the place: row and column, elevation where it is given, mean and
deviation of the training truth. Errors are in units of their deviation s_i in each cell. How many trees there are is
decided on the last part of the training times; where none helps there is none. Trees are grown by scikit-learn on
histograms (Ke et al., LightGBM, NeurIPS 2017) from a sample of cells and times, and kept, saved and applied as plain
numbers (`forest`).

Source: Friedman, Annals of Statistics 29(5), 2001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finegrid.bridge import to_tensor
from finegrid.data.pairs import Pair
from finegrid.data.predictors import static_fields
from finegrid.data.splits import Indices, holdout
from finegrid.downscalers.base import Downscaler, State
from finegrid.downscalers.features import Prepared
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.forest import Forest
from finegrid.downscalers.nested import first_guesses, nested, unfitted
from finegrid.downscalers.plan import part
from finegrid.downscalers.regression import Regression, Table

_JUDGED_PART = 0.2
# Rows of the table of predictors in memory at once.
_ROWS = 1 << 18


@dataclass(kw_only=True)
class BoostedTrees(Regression):
    """Trees on top of a linear downscaler.

    Args:
        mean: the downscaler whose guess is refined, by name or table.
        trees: most trees of each variable.
        leaves: most leaves of a tree.
        rate: part of each tree's correction that is taken.
        samples: cells and times from which trees are grown, at most.
        seed: of the sample.
    """

    name: ClassVar[str] = "trees"
    features: Table = field(default_factory=lambda: {"name": "components", "counts": (10,), "half_width": 1})
    start: str | Sequence[str] = field(default="mean", init=False)
    mean: Table = "ridge-around"
    trees: int = 100
    leaves: int = 16
    rate: float = 0.1
    samples: int = 60_000
    seed: int = 0
    _mean: Downscaler | None = field(default=None, init=False, repr=False)
    _place: Tensor | None = field(default=None, init=False, repr=False)
    _scale: Tensor | None = field(default=None, init=False, repr=False)
    _forests: dict[str, Forest] = field(default_factory=dict, init=False, repr=False)

    @property
    def surroundings(self) -> float | None:
        mine, theirs = super().surroundings, unfitted(self.mean, self.predictors).surroundings
        known = [each for each in (mine, theirs) if each is not None]
        return max(known, default=None)

    @property
    def _reach(self) -> int:
        return max(super()._reach, unfitted(self.mean, self.predictors)._reach)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        everything, self._start = matched.at(fit_block), "mean"
        self._features = self._planned().variants()[0].fit(everything.coarse, self.domain)
        self._mean = nested(self.mean, self)
        guess = first_guesses(self._mean, everything, how)
        truth = to_tensor(everything.fine, self.domain.outputs)
        self._place = self._placed_facts(truth, how)
        error = truth - guess
        deviation = error.double().square().nanmean(0).sqrt().nan_to_num(nan=1.0).float()
        self._scale = torch.where(deviation > 0, deviation, 1.0)
        seen = self._features(everything.coarse)
        for index, name in enumerate(self.domain.outputs):
            forest = self._grown(seen, guess[:, index], error[:, index] / self._scale[index])
            self._forests |= {} if forest is None else {name: forest}

    def _grown(self, seen: Prepared, guess: Tensor, error: Tensor) -> Forest | None:
        """As many trees as help on the last part of the times, of all times; None where none helps."""
        fitting, judging = holdout(seen.times, _JUDGED_PART)
        options = {"learning_rate": self.rate, "max_leaf_nodes": self.leaves, "min_samples_leaf": 50}
        known = torch.isfinite(error).flatten(1)
        if len(judging):
            rows, targets = self._sampled(seen, guess, error, known, fitting)
            trial = Forest.grown(rows, targets, seed=self.seed, max_iter=self.trees, l2_regularization=1.0, **options)
            rows, targets = self._sampled(seen, guess, error, known, judging)
            count = trial.best_count(torch.from_numpy(rows), torch.from_numpy(targets))
        else:
            count = self.trees // 4
        if count == 0:
            return None
        rows, targets = self._sampled(seen, guess, error, known, np.arange(seen.times))
        return Forest.grown(rows, targets, seed=self.seed, max_iter=count, l2_regularization=1.0, **options)

    def _sampled(
        self, seen: Prepared, guess: Tensor, error: Tensor, known: Tensor, times: Indices
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predictors and targets of some cells at these times."""
        chosen = torch.nonzero(known[torch.as_tensor(times)])
        generator = torch.Generator().manual_seed(self.seed)
        if len(chosen) > self.samples:
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[: self.samples].sort().values]
        time, cell = torch.as_tensor(times)[chosen[:, 0]], chosen[:, 1]
        return self._rows(seen, guess, time, cell).numpy(), error.flatten(1)[time, cell].numpy()

    def _rows(self, seen: Prepared, guess: Tensor, time: Tensor, cell: Tensor) -> Tensor:
        """What trees see (sample, predictor) at times and fine cells."""
        if self._place is None:
            raise RuntimeError("trees without a place")
        width, (fy, fx) = self.domain.grid.shape[1], self.domain.factor
        block = cell // width // fy * self.domain.inputs.grid.shape[1] + cell % width // fx
        local = [] if seen.local is None else [seen.local.permute(0, 2, 1)[time, block]]
        own = guess.flatten(1)[time, cell]
        return torch.cat([*local, seen.common[time], self._place.flatten(1).T[cell], own[:, None]], dim=1)

    def _placed_facts(self, truth: Tensor, how: Fitting) -> Tensor:
        """What distinguishes fine cells (fact, H, W)."""
        rows, columns = self.domain.grid.shape
        facts = [
            torch.linspace(-1, 1, rows)[:, None].expand(rows, columns),
            torch.linspace(-1, 1, columns)[None].expand(rows, columns),
            *torch.nanmean(truth.double(), dim=0).nan_to_num(nan=0.0).float(),
        ]
        if how.static is not None:
            static = static_fields(how.static, self.domain.grid)
            facts += list(to_tensor(static, list(map(str, static.data_vars)))[0])
        return torch.stack(facts)

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._mean is None or self._scale is None:
            raise RuntimeError("trees without a mean")
        guess, seen = self._mean.fields(coarse), self._known_features()(coarse)
        fine = guess.clone()
        cells = torch.arange(self.domain.grid.size)
        step = max(1, _ROWS // len(cells))
        for index, name in enumerate(self.domain.outputs):
            if name not in self._forests:
                continue
            for start in range(0, len(guess), step):
                part_of = slice(start, min(start + step, len(guess)))
                times = torch.arange(part_of.start, part_of.stop).repeat_interleave(len(cells))
                rows = self._rows(seen, guess[:, index], times, cells.repeat(part_of.stop - part_of.start))
                found = self._forests[name](rows).reshape(-1, *self.domain.grid.shape)
                fine[part_of, index] += found * self._scale[index]
        return self._clipped(fine)

    def _learnt(self) -> State:
        if self._mean is None or self._place is None or self._scale is None:
            return {}, {}
        plain, tensors = super()._learnt()
        inner, of_mean = self._mean._learnt()
        tensors |= {"place": self._place, "scale": self._scale}
        tensors |= {f"mean/{name}": each for name, each in of_mean.items()}
        for index, name in enumerate(self.domain.outputs):
            if name in self._forests:
                tensors |= {f"forest/{index}/{key}": each for key, each in self._forests[name].tensors().items()}
        return {**plain, "mean": inner, "forests": list(self._forests)}, tensors

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super()._remember(plain, tensors)
        self._mean = nested(self.mean, self)
        self._mean._remember(plain["mean"], part(tensors, "mean/"))
        self._place, self._scale = tensors["place"], tensors["scale"]
        for index, name in enumerate(self.domain.outputs):
            if name in plain["forests"]:
                self._forests[name] = Forest.from_tensors(part(tensors, f"forest/{index}/"))

    def _summary(self) -> dict[str, Any]:
        counts = {name: len(self._forests[name].value) if name in self._forests else 0 for name in self.domain.outputs}
        return {"trees": counts, **({} if self._mean is None else {"on": self._mean._summary()})}
