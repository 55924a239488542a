"""Mixtures of linear regressions: several laws, of which one holds at a time.

    p(y | z) = sum_k pi_k N(y; z b_k, s_k^2)

fitted by expectation and maximisation. Given examples (z_j, y_j) of one law, the best prediction for a new z weighs the
laws by how well they explain these examples,

    y = sum_k w_k z b_k,      w_k ~ pi_k exp( - sum_j (y_j - z_j b_k)^2 / 2 s_k^2 ) s_k^-n

which is what transformers that learn in context converge to. `finegrid.downscalers.regimes` weighs laws by the
situation instead, because a downscaler has no truth of today.

Source: Pathak et al., Transformers can optimally learn regression mixture models, arXiv:2311.08362, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_STEPS = 200
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class RegressionMixture:
    """Laws of a scalar.

    Attributes:
        shares: how often each law holds (law,).
        weights: of its predictors (law, predictor).
        deviations: of what it leaves over (law,).
    """

    shares: Tensor
    weights: Tensor
    deviations: Tensor

    @classmethod
    def fit(cls, z: Tensor, y: Tensor, laws: int, *, starts: int = 10, seed: int = 0) -> Self:
        """The likeliest of several runs from random starts.

        Args:
            z: groups of examples of one law each (group, example, predictor).
            y: their values (group, example).
            laws: number of laws.
            starts: number of runs.
            seed: of the starts.
        """
        generator = torch.Generator().manual_seed(seed)
        runs = [cls._run(z.double(), y.double(), laws, generator) for _ in range(starts)]
        return max(runs, key=lambda run: run[0])[1]

    @classmethod
    def _run(cls, z: Tensor, y: Tensor, laws: int, generator: torch.Generator) -> tuple[float, Self]:
        found = cls._started(z, y, laws, generator)
        reached = -torch.inf
        for _ in range(_STEPS):
            logs = found._logs(z, y)
            likelihood = float(torch.logsumexp(logs, 1).sum())
            found = cls._maximised(z, y, torch.softmax(logs, 1))
            if likelihood - reached < _TOLERANCE * abs(likelihood):
                break
            reached = likelihood
        return likelihood, found

    @classmethod
    def _started(cls, z: Tensor, y: Tensor, laws: int, generator: torch.Generator) -> Self:
        """Laws from a few groups each, far from those chosen before (as k-means++ does)."""
        chosen = [int(torch.randint(len(z), (1,), generator=generator))]
        weights = [_solved(z[chosen[0]], y[chosen[0]])]
        for _ in range(laws - 1):
            errors = torch.stack([(y - z @ each).square().sum(1) for each in weights]).amin(0)
            chosen.append(int(torch.multinomial(errors.clamp(min=1e-12), 1, generator=generator)))
            weights.append(_solved(z[chosen[-1]], y[chosen[-1]]))
        stacked = torch.stack(weights)
        spread = torch.stack([(y - z @ each).square().mean(1) for each in weights]).amin(0).mean().sqrt()
        return cls(torch.full((laws,), 1 / laws).double(), stacked, spread.clamp(min=1e-6).expand(laws).clone())

    @classmethod
    def _maximised(cls, z: Tensor, y: Tensor, belongs: Tensor) -> Self:
        weights, deviations = [], []
        floor = 1e-6 * float(y.std().clamp(min=1e-12))
        for share in belongs.T:
            each = share[:, None, None] * z
            gram = torch.einsum("gep,geq->pq", each, z) + 1e-9 * torch.eye(z.shape[2], dtype=z.dtype)
            solved = torch.linalg.solve(gram, torch.einsum("gep,ge->p", each, y))
            squares = (share[:, None] * (y - z @ solved).square()).sum() / (share.sum() * y.shape[1]).clamp(min=1e-12)
            weights.append(solved)
            deviations.append(squares.sqrt().clamp(min=floor))
        return cls(belongs.mean(0).clamp(min=1e-12), torch.stack(weights), torch.stack(deviations))

    def posterior(self, z: Tensor, y: Tensor) -> Tensor:
        """How likely each law is given examples (group, example, ...), (group, law)."""
        return torch.softmax(self._logs(z.double(), y.double()), 1)

    def predict(self, z: Tensor, examples: Tensor, values: Tensor) -> Tensor:
        """Values (group,) at z (group, predictor), given examples (group, example, predictor) of the same law."""
        each = z.double() @ self.weights.T
        return (self.posterior(examples, values) * each).sum(1)

    def _logs(self, z: Tensor, y: Tensor) -> Tensor:
        """Log of share times likelihood (group, law), but for a constant."""
        missed = y[:, None] - torch.einsum("gep,kp->gke", z, self.weights)
        own = torch.log(self.shares) - y.shape[1] * torch.log(self.deviations)
        found: Tensor = own - missed.square().sum(2) / (2 * self.deviations.square())
        return found


def _solved(z: Tensor, y: Tensor) -> Tensor:
    gram = z.T @ z + 1e-6 * torch.eye(z.shape[1], dtype=z.dtype)
    solved: Tensor = torch.linalg.solve(gram, z.T @ y)
    return solved
