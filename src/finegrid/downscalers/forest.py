"""Boosted trees as plain numbers, so that they can be saved without a pickle and applied without the library.

Every tree is a binary tree of nodes in arrays; a sample goes left where its predictor is at most the threshold, and the
values of the leaves that it reaches add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Samples that go down a tree at once.
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Forest:
    """Trees of one target.

    Attributes:
        start: what is predicted before the first tree.
        predictor: which one a node asks for (tree, node); at a leaf any.
        threshold: the largest value that goes left (tree, node).
        left: the node for smaller values (tree, node); a leaf names itself.
        right: the node for larger values (tree, node).
        value: what a leaf adds (tree, node).
        depth: nodes from the root to the farthest leaf.
    """

    start: float
    predictor: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    depth: int

    @classmethod
    def grown(cls, predictors: NDArray[np.float32], targets: NDArray[np.float32], *, seed: int, **options: Any) -> Self:
        """Trees by scikit-learn's histogram gradient boosting.

        Args:
            predictors: (sample, predictor).
            targets: (sample,).
            seed: of the sampling of columns and rows.
            **options: arguments of `HistGradientBoostingRegressor`.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        model = HistGradientBoostingRegressor(random_state=seed, early_stopping=False, **options)
        model.fit(predictors, targets)
        trees = [stage[0].nodes for stage in model._predictors]
        return cls._of(trees, float(np.asarray(model._baseline_prediction).ravel()[0]))

    @classmethod
    def _of(cls, trees: list[NDArray[Any]], start: float) -> Self:
        size = max(len(nodes) for nodes in trees)
        shape = (len(trees), size)
        own = np.broadcast_to(np.arange(size), shape)
        predictor, left, right = np.zeros(shape, np.int32), own.astype(np.int32), own.astype(np.int32)
        threshold, value = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for index, nodes in enumerate(trees):
            inner = np.flatnonzero(nodes["is_leaf"] == 0)
            predictor[index, inner] = nodes["feature_idx"][inner]
            threshold[index, inner] = _floor(nodes["num_threshold"][inner])
            left[index, inner], right[index, inner] = nodes["left"][inner], nodes["right"][inner]
            value[index, : len(nodes)] = np.where(nodes["is_leaf"], nodes["value"], 0.0)
        depth = max(int(nodes["depth"].max()) for nodes in trees)
        predictors, thresholds = torch.from_numpy(predictor), torch.from_numpy(threshold)
        children = torch.from_numpy(left), torch.from_numpy(right)
        return cls(start, predictors, thresholds, *children, torch.from_numpy(value), depth)

    def __call__(self, predictors: Tensor) -> Tensor:
        """Sum of the trees (sample,) for predictors (sample, predictor)."""
        return torch.cat([self._running(part, lambda total: None) for part in torch.split(predictors, _AT_ONCE)])

    def best_count(self, predictors: Tensor, targets: Tensor) -> int:
        """The number of first trees with the least squared error; 0 where no correction at all has it."""
        errors: list[float] = []
        self._running(predictors, lambda total: errors.append(float((targets - total).square().mean())))
        best = int(np.argmin(errors))
        return best + 1 if errors[best] < float(targets.square().mean()) else 0

    def _running(self, predictors: Tensor, told: Callable[[Tensor], None]) -> Tensor:
        """The sum of all trees; `told` hears it after each."""
        total = torch.full((len(predictors),), self.start, dtype=torch.float32)
        columns, sample = predictors.T.contiguous(), torch.arange(len(predictors))
        for tree in range(len(self.value)):
            asked, threshold = self.predictor[tree].long(), self.threshold[tree]
            children = torch.stack([self.left[tree], self.right[tree]], dim=1).long().flatten()
            node = torch.zeros(len(predictors), dtype=torch.long)
            for _ in range(self.depth):
                node = children[2 * node + (columns[asked[node], sample] > threshold[node])]
            total += self.value[tree][node]
            told(total)
        return total

    def tensors(self) -> dict[str, Tensor]:
        """All of it for a model file."""
        names = ("predictor", "threshold", "left", "right", "value")
        more = {"start": torch.tensor(self.start), "depth": torch.tensor(self.depth)}
        return {**{name: getattr(self, name) for name in names}, **more}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """What `tensors` gave."""
        start, depth = float(tensors["start"]), int(tensors["depth"])
        nodes = {name: tensors[name] for name in ("predictor", "threshold", "left", "right", "value")}
        return cls(start=start, depth=depth, **nodes)


def _floor(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not larger: the same float32 are at most as large as this."""
    single = values.astype(np.float32)
    return np.where(single > values, np.nextafter(single, np.float32(-np.inf)), single)
