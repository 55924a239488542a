"""Attribution by Shapley values of groups of inputs: what a group adds to what is known already, in any order.

With v(S) = f(x on the groups S, b on all others) and G groups,

    phi_i = sum_{S without i} |S|! (G - |S| - 1)! / G!  (v(S + i) - v(S))

Up to `exact` groups all 2^G cases are counted. Beyond, phi solves a weighted least-squares problem whose exact solution
are the Shapley values (kernel SHAP), over a sample of cases z in {0, 1}^G:

    minimise sum_z k(z) (v(z) - v(0) - sum_i z_i phi_i)^2   subject to   sum_i phi_i = v(1) - v(0),
    k(z) = (G - 1) / (C(G, |z|) |z| (G - |z|))

Sizes |z| that fit into the sample whole (1 and G - 1 always do) are counted, the others drawn with their opposites.
Both ways the parts sum to f(x) - f(b) exactly, and those of a linear function are exact; of other functions the parts
of single groups have an error of sampling.

Sources: Shapley, "A value for n-person games", 1953; Lundberg and Lee, "A Unified Approach to Interpreting Model
Predictions", NeurIPS 2017, theorem 2; Covert and Lee, "Improving KernelSHAP", AISTATS 2021 (opposites).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from finegrid.benchmark.attribution.base import Function, values_at
from finegrid.benchmark.attribution.occlusion import Grouped, with_groups


@dataclass(frozen=True, kw_only=True)
class Shapley(Grouped):
    """Shapley values of groups.

    Args:
        samples: cases that are looked at where there are too many; at least two for each group are.
        exact: most groups of which all cases are counted.
        seed: of the sample.
    """

    name: ClassVar[str] = "shapley"
    samples: int = 1024
    exact: int = 12
    seed: int = 0

    def _parts(self, function: Function, inputs: Tensor, baseline: Tensor, numbers: Tensor) -> Tensor:
        count = int(numbers.max()) + 1
        whole = values_at(function, iter([torch.stack([baseline, inputs])]))
        if count == 1:
            return whole[1:] - whole[:1]
        if count <= self.exact:
            cases = subsets(count)
            return counted(with_groups(function, inputs, baseline, numbers, cases, self.batch), cases)
        cases, weights = sampled(count, max(self.samples, 2 * count), self.seed)
        values = with_groups(function, inputs, baseline, numbers, cases, self.batch)
        return solved(cases.double(), weights, values - whole[0], whole[1] - whole[0])


def subsets(count: int) -> Tensor:
    """All subsets of `count` groups (2^count, count); bit i of the row's number says whether i is in it."""
    return (torch.arange(2**count)[:, None] >> torch.arange(count)) % 2 == 1


def counted(values: Tensor, cases: Tensor) -> Tensor:
    """Shapley values (group,) from the values of all subsets in the order of `subsets`."""
    count = cases.shape[1]
    sizes = cases.sum(1)
    weight = torch.tensor([1 / (count * comb(count - 1, size)) for size in range(count)], dtype=torch.float64)
    parts = []
    for group in range(count):
        without = torch.nonzero(~cases[:, group])[:, 0]
        gain = values[without + 2**group] - values[without]
        parts.append((weight[sizes[without]] * gain).sum())
    return torch.stack(parts)


def sampled(count: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cases (case, group) and their weights (case,): whole sizes while they fit, then random ones with opposites."""
    random, masses = np.random.default_rng(seed), _masses(count)
    rows: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    size, left = 1, samples
    while size <= count // 2 and (size == 1 or len(_both(size, count)) * comb(count, size) <= left):
        for each in _both(size, count):
            rows.append(_of_size(count, each))
            weights.append(np.full(len(rows[-1]), masses[each] / len(rows[-1])))
            left -= len(rows[-1])
        size += 1
    rest = np.arange(size, count - size + 1)
    if len(rest) and left >= 2:
        drawn = random.choice(rest, size=left // 2, p=masses[rest] / masses[rest].sum())
        chosen = np.argsort(np.argsort(random.random((len(drawn), count)), axis=1), axis=1) < drawn[:, None]
        rows += [chosen, ~chosen]
        weights.append(np.full(2 * len(drawn), masses[rest].sum() / (2 * len(drawn))))
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(weights))


def solved(cases: Tensor, weights: Tensor, gains: Tensor, change: Tensor) -> Tensor:
    """Parts (group,) with the least weighted squared error whose sum is the change.

    The last part is the change without all others, which leaves an ordinary least-squares problem.
    """
    root = weights.sqrt()[:, None]
    matrix = (cases[:, :-1] - cases[:, -1:]) * root
    right = (gains - cases[:, -1] * change)[:, None] * root
    first = torch.linalg.lstsq(matrix, right, driver="gelsd").solution[:, 0]
    return torch.cat([first, (change - first.sum())[None]])


def _masses(count: int) -> np.ndarray:
    """Kernel weight of all cases of a size together, by size; none for nothing and for everything."""
    sizes = np.arange(count + 1, dtype=np.float64)
    inner = sizes * (count - sizes)
    return np.divide(count - 1, inner, out=np.zeros_like(inner), where=inner > 0)


def _both(size: int, count: int) -> tuple[int, ...]:
    """A size and its opposite, once where they are the same."""
    return (size,) if 2 * size == count else (size, count - size)


def _of_size(count: int, size: int) -> np.ndarray:
    """All cases of a size (case, group)."""
    small = min(size, count - size)
    members = np.array(list(combinations(range(count), small)))
    cases = np.zeros((len(members), count), dtype=bool)
    np.put_along_axis(cases, members, True, axis=1)
    return cases if small == size else ~cases
