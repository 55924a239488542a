"""How a linear map is found from predictors and targets, cell by cell, all cells at once.

    least-squares   b = pinv(z) y                        of all that fit equally well the smallest
    ridge           b minimises |y - z b|^2 + s |b|^2
    lasso           b minimises |y - z b|^2 / 2 n + s s_max |b|_1      s_max: the least that leaves nothing
    sketch          b = pinv(S z) S y                    S: m random orthogonal combinations of the n times

The last predictor, the one, is never penalised. Each solver has candidates for its strength s, among which
cross-validation chooses. A sketch of m times helps where there are about as many predictors as times: least squares
then fits noise, and is worst at m = p (the peak of double descent), so that fewer times can be better than all.

Sources: Hoerl and Kennard, Technometrics 12(1), 1970 (ridge); Tibshirani, J. R. Stat. Soc. B 58, 1996 (lasso), by
accelerated proximal steps (Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009); Chen, Zeng, Yang and Sun, Sketched
ridgeless linear regression, arXiv:2302.01088 (sketch).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

# Of the penalty of the one: as good as none, and keeps the matrix regular where all predictors are constant.
_FREE = 1e-9
_STEPS = 120
_TOLERANCE = 1e-4
_POWERS = 30
# Singular values below this part of the largest count as zero.
_SMALLEST = 1e-6


class Solver(ABC):
    """Weights (cell, predictor, target) from predictors (cell, time, predictor) and targets (cell, time, target)."""

    name: ClassVar[str]
    strength: ClassVar[str] = "penalty"
    """What its strength is called."""

    @property
    @abstractmethod
    def strengths(self) -> Sequence[float]:
        """Candidates."""

    @abstractmethod
    def path(self, predictors: Tensor, targets: Tensor, strengths: Sequence[float]) -> Iterator[Tensor]:
        """Weights for each strength, in the same order."""

    def weights(self, predictors: Tensor, targets: Tensor, strength: float) -> Tensor:
        """Weights for one strength."""
        return next(self.path(predictors, targets, (strength,)))


@dataclass(kw_only=True)
class LeastSquares(Solver):
    """Ordinary least squares, the smallest of all best weights.

    Args:
        tolerance: singular values below this part of the largest count as zero.
    """

    name: ClassVar[str] = "least-squares"
    tolerance: float = _SMALLEST

    @property
    def strengths(self) -> Sequence[float]:
        return (0.0,)

    def path(self, predictors: Tensor, targets: Tensor, strengths: Sequence[float]) -> Iterator[Tensor]:
        z, y, completed = _centred(predictors, targets)
        found = completed(_smallest(z, y, self.tolerance))
        return (found for _ in strengths)


@dataclass(kw_only=True)
class RidgePenalty(Solver):
    """Least squares with a penalty on the squares of the weights.

    Args:
        penalties: candidates, on standardised predictors summed over times.
    """

    name: ClassVar[str] = "ridge"
    penalties: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

    @property
    def strengths(self) -> Sequence[float]:
        return self.penalties

    def path(self, predictors: Tensor, targets: Tensor, strengths: Sequence[float]) -> Iterator[Tensor]:
        gram, moments = predictors.mT @ predictors, predictors.mT @ targets
        for penalty in strengths:
            ridge = self.penalties_of(gram.shape[-1], penalty)
            yield torch.cholesky_solve(moments, torch.linalg.cholesky(gram + torch.diag(ridge)))

    @staticmethod
    def penalties_of(width: int, penalty: float) -> Tensor:
        """The penalty of each predictor; next to none of the last one."""
        ridge = torch.full((width,), penalty, dtype=torch.float64)
        ridge[-1] = _FREE
        return ridge


@dataclass(kw_only=True)
class Lasso(Solver):
    """Least squares with a penalty on the sizes of the weights: most are zero, and the rest say what matters.

    Args:
        penalties: candidates, as parts of the penalty that would leave no predictor for the target.
    """

    name: ClassVar[str] = "lasso"
    penalties: Sequence[float] = (0.1, 0.03, 0.01)

    @property
    def strengths(self) -> Sequence[float]:
        return self.penalties

    def path(self, predictors: Tensor, targets: Tensor, strengths: Sequence[float]) -> Iterator[Tensor]:
        z, y, completed = _centred(predictors, targets)
        count = predictors.shape[1]
        gram, moments = (z.mT @ z / count).float(), (z.mT @ y / count).float()
        most = moments.abs().amax(1, keepdim=True)
        step = 1.0 / _largest(gram).clamp(min=1e-12)[:, None, None]
        slopes = torch.zeros_like(moments)
        for part in strengths:
            slopes = _proximal(gram, moments, slopes, step, part * most)
            yield completed(slopes.double())


@dataclass(kw_only=True)
class Sketch(Solver):
    """The smallest best weights for random orthogonal combinations of the times.

    Args:
        sizes: candidates for the part of the times that the sketch keeps.
        seed: of the combinations.
    """

    name: ClassVar[str] = "sketch"
    strength: ClassVar[str] = "part of the times"
    sizes: Sequence[float] = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    seed: int = 0

    @property
    def strengths(self) -> Sequence[float]:
        return self.sizes

    def path(self, predictors: Tensor, targets: Tensor, strengths: Sequence[float]) -> Iterator[Tensor]:
        z, y, completed = _centred(predictors, targets)
        mixed = _mixed(torch.cat([z, y], dim=2), self.seed)
        for part in strengths:
            kept = mixed[:, : max(1, round(part * mixed.shape[1]))]
            yield completed(_smallest(kept[:, :, : z.shape[2]], kept[:, :, z.shape[2] :], _SMALLEST))


SOLVERS: dict[str, type[Solver]] = {each.name: each for each in (LeastSquares, RidgePenalty, Lasso, Sketch)}


def _centred(predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Departures from the means over the times that count, and how slopes become weights with an intercept.

    The last predictor is one at these times and zero at the others.
    """
    one = predictors[:, :, -1:]
    count = one.sum(1, keepdim=True).clamp(min=1.0)
    centre, middle = (predictors[:, :, :-1] * one).sum(1, keepdim=True) / count, targets.sum(1, keepdim=True) / count
    z, y = (predictors[:, :, :-1] - centre) * one, (targets - middle) * one
    return z, y, lambda slopes: torch.cat([slopes, middle - centre @ slopes], dim=1)


def _smallest(predictors: Tensor, targets: Tensor, tolerance: float) -> Tensor:
    """The smallest of the weights with the least squares, from the smaller of the two products z'z and zz'."""
    z = predictors
    if z.shape[1] >= z.shape[2]:
        return _inverted(z.mT @ z, tolerance) @ (z.mT @ targets)
    return z.mT @ (_inverted(z @ z.mT, tolerance) @ targets)


def _inverted(product: Tensor, tolerance: float) -> Tensor:
    """The pseudo-inverse of a product; `tolerance` is for singular values of its factors."""
    values, vectors = torch.linalg.eigh(product)
    kept = values > tolerance**2 * values[:, -1:].clamp(min=1e-300)
    inverse = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0)
    found: Tensor = vectors @ (inverse[:, :, None] * vectors.mT)
    return found


def _largest(gram: Tensor) -> Tensor:
    """At least the largest eigenvalue of each product (cell,), by powers; a hair above what they reach."""
    vector = torch.ones(*gram.shape[:2], 1, dtype=gram.dtype)
    for _ in range(_POWERS):
        vector = gram @ vector
        size = vector.norm(dim=1, keepdim=True).clamp(min=1e-12)
        vector = vector / size
    found: Tensor = 1.1 * size[:, 0, 0]
    return found


def _proximal(gram: Tensor, moments: Tensor, start: Tensor, step: Tensor, penalty: Tensor) -> Tensor:
    """Accelerated proximal steps to the lasso's weights, from those of a stronger penalty."""
    slopes, ahead, momentum = start, start, 1.0
    for _ in range(_STEPS):
        moved = ahead - step * (gram @ ahead - moments)
        new = torch.sign(moved) * (moved.abs() - step * penalty).clamp(min=0)
        change = new - slopes
        if ((ahead - new) * change).sum() > 0:
            momentum = 1.0  # the momentum has carried too far (O'Donoghue and Candès 2015)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * change
        slopes, momentum = new, following
        if change.abs().max() <= _TOLERANCE * new.abs().max():
            break
    return slopes


def _mixed(rows: Tensor, seed: int) -> Tensor:
    """Random orthogonal combinations of rows (cell, row, column): signs, a cosine transform, a random order.

    The first m of them are a subsampled randomised transform, an orthogonal sketch.
    """
    from scipy.fft import dct

    generator = torch.Generator().manual_seed(seed)
    count = rows.shape[1]
    signs = (torch.randint(0, 2, (count,), generator=generator) * 2 - 1).double()
    turned = torch.from_numpy(dct((rows * signs[:, None]).numpy(), axis=1, norm="ortho"))
    return turned[:, torch.randperm(count, generator=generator)]
