"""Weather regimes: a linear regression for each, weighed by how near the situation is to it.

    y(t, i) = sum_k w_k(t) z(t) b_k(i),      w_k ~ pi_k exp( -|x(t) - m_k|^2 / 2 v_k )

x are a few principal components of the situation, z all predictors. Regimes and regressions are fitted together by
expectation and maximisation: a day belongs to a regime by its situation and by how well the regime's regression
explains its fine field (the error pooled over cells counts as one observation for each of a few independent patterns,
not for each cell). The regression of a regime departs from the one for all days as far as a penalty lets it; with one
regime it is that one, and cross-validation decides how many there are.

Source: exponential weights over components as in `mixtures`; Jordan and Jacobs, Neural Computation 6, 1994 (mixtures
of experts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from finegrid.conventions import InputError
from finegrid.data.pairs import Pair
from finegrid.data.splits import Indices, folds
from finegrid.downscalers.base import State
from finegrid.downscalers.fitting import Fitting
from finegrid.downscalers.regression import Regression, Table, completed
from finegrid.downscalers.solvers import RidgePenalty

_FOLDS, _STEPS = 4, 15
# Components of the situation by which regimes are told apart.
_SITUATION = 5
# Independent patterns in a fine field, for which its error counts.
_PATTERNS = 3.0
# Fine cells by which the number of regimes is chosen and days are told apart.
_TARGETS_JUDGED = 200
_NUMBERS = ("shares", "centres", "variances", "weights")


@dataclass(frozen=True)
class Regimes:
    """Regimes of the situation.

    Attributes:
        shares: how often each holds (regime,).
        centres: its usual situation (regime, component).
        variances: about it (regime, component).
        weights: of its regression (regime, predictor, target).
    """

    shares: Tensor
    centres: Tensor
    variances: Tensor
    weights: Tensor

    def logs(self, x: Tensor) -> Tensor:
        """Log of share times density (time, regime), but for a constant."""
        away = (x[:, None] - self.centres).square() / self.variances
        return torch.log(self.shares) - 0.5 * (away + torch.log(self.variances)).sum(2)

    def __call__(self, x: Tensor, z: Tensor) -> Tensor:
        """Targets (time, target) for situations (time, component) and predictors (time, predictor)."""
        belongs = torch.softmax(self.logs(x), 1)
        return torch.einsum("tk,tkn->tn", belongs, torch.einsum("tp,kpn->tkn", z, self.weights))


@dataclass(kw_only=True)
class RegimeMixture(Regression):
    """A mixture of ridge regressions by weather regime.

    Args:
        regimes: candidates for the number of regimes.
        penalties: candidates for the penalty of the regression for all days.
        departure: how much stronger the penalty on a regime's departure from it is.
        seed: of the first regimes.
    """

    name: ClassVar[str] = "regimes"
    features: Table = field(default_factory=lambda: {"name": "components", "counts": (100,)})
    start: str | Sequence[str] = field(default="mean", init=False)
    frames: Sequence[int] = (-1, 0, 1)
    regimes: int | Sequence[int] = (1, 2, 3, 5)
    penalties: Sequence[float] = (10.0, 30.0, 100.0, 300.0)
    departure: float = 3.0
    seed: int = 0
    _count: int = field(default=0, init=False, repr=False)
    _penalty: float = field(default=0.0, init=False, repr=False)
    _found: Regimes | None = field(default=None, init=False, repr=False)

    def _learn(self, matched: Pair, fit_block: Indices, validate_block: Indices, how: Fitting) -> None:
        everything, self._start = matched.at(fit_block), "mean"
        if self._features is None:
            self._features = self._planned().variants()[0].fit(everything.coarse, self.domain)
        z, y, x = self._seen(everything)
        if not self._count:
            self._penalty, self._count = self._chosen(z, y, x)
        found = self._mixed(z, y, x, self._penalty, self._count)
        # With the precision of a model file, so that a saved model is the same model.
        self._found = Regimes(*(getattr(found, name).float().double() for name in _NUMBERS))

    def _fields(self, coarse: xr.Dataset) -> Tensor:
        if self._found is None:
            raise RuntimeError("regimes that were not fitted")
        z, x = self._situation(coarse)
        return self._placed(self._found(x, z).float()[:, :, None], coarse, "mean", shared=True)

    def _situation(self, coarse: xr.Dataset) -> tuple[Tensor, Tensor]:
        """Predictors (time, predictor) and the components by which regimes are told apart."""
        seen = self._known_features()(coarse)
        if seen.local is not None:
            raise InputError(
                f"'regimes' compares whole situations and got the features '{self._known_features().name}', which "
                "differ from cell to cell; expected components; change downscaler.features"
            )
        return seen.matrix()[0], seen.common[:, :_SITUATION].double()

    def _seen(self, matched: Pair) -> tuple[Tensor, Tensor, Tensor]:
        z, x = self._situation(matched.coarse)
        targets = self._targets(matched, "mean", shared=True)[:, :, 0].double()
        filled, y = completed(z[None], targets[None])
        return filled[0], y[0], x

    def _chosen(self, z: Tensor, y: Tensor, x: Tensor) -> tuple[float, int]:
        """Penalty for one regime, then the number of regimes, with the least error on blocks left out."""
        counts = (self.regimes,) if isinstance(self.regimes, int) else tuple(self.regimes)
        if not counts or min(counts) < 1:
            raise InputError(f"got regimes: {self.regimes}; expected 1 or more; change downscaler.regimes")
        blocks = [torch.as_tensor(each) for each in folds(len(z), _FOLDS)]
        y = (y / y.std(0).clamp(min=1e-9))[:, :: max(1, y.shape[1] // _TARGETS_JUDGED)]
        first = min(map(float, self.penalties), key=lambda each: self._error(z, y, x, each, counts[0], blocks))
        return first, min(counts, key=lambda each: self._error(z, y, x, first, each, blocks))

    def _error(self, z: Tensor, y: Tensor, x: Tensor, penalty: float, count: int, blocks: Sequence[Tensor]) -> float:
        every, total = torch.arange(len(z)), 0.0
        for block in blocks:
            others = every[~torch.isin(every, block)]
            found = self._mixed(z[others], y[others], x[others], penalty, count)
            total += float((found(x[block], z[block]) - y[block]).square().sum())
        return total

    def _mixed(self, z: Tensor, y: Tensor, x: Tensor, penalty: float, count: int) -> Regimes:
        """Regimes by expectation and maximisation, from the nearest of some distant days on."""
        common = RidgePenalty(penalties=(penalty,)).weights(z[None], y[None], penalty)[0]
        rest, scale = y - z @ common, y.std(0).clamp(min=1e-9)
        step = max(1, y.shape[1] // _TARGETS_JUDGED)
        belongs = _first(x, count, self.seed)
        for _ in range(_STEPS if count > 1 else 1):
            found = _maximised(z, rest, x, belongs, common, self.departure * penalty, every=1 if count == 1 else step)
            if count == 1:
                return found
            judged = found.weights - common[:, ::step]
            errors = (rest[:, None, ::step] - torch.einsum("tp,kpn->tkn", z, judged)) / scale[::step]
            variance = (belongs * errors.square().mean(2)).sum() / len(z)
            logs = found.logs(x) - 0.5 * _PATTERNS * errors.square().mean(2) / variance.clamp(min=1e-12)
            new = torch.softmax(logs, 1)
            if (new - belongs).abs().max() < 1e-3:
                break
            belongs = new
        return _maximised(z, rest, x, belongs, common, self.departure * penalty, every=1)

    def _learnt(self) -> State:
        if self._found is None:
            return {}, {}
        plain, tensors = super()._learnt()
        found = {name: getattr(self._found, name) for name in _NUMBERS}
        more = {"penalty": self._penalty, "count": self._count}
        return {**plain, **more}, {**tensors, **{f"regimes/{name}": each.float() for name, each in found.items()}}

    def _remember(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super()._remember(plain, tensors)
        self._penalty, self._count = float(plain["penalty"]), int(plain["count"])
        self._found = Regimes(*(tensors[f"regimes/{name}"].double() for name in _NUMBERS))

    def _summary(self) -> dict[str, Any]:
        return {**super()._summary(), "regimes": self._count, "ridge": self._penalty} if self._count else {}


def _first(x: Tensor, count: int, seed: int) -> Tensor:
    """To which of some distant days each day is nearest (time, regime)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    for _ in range(count - 1):
        away = torch.cdist(x, x[chosen]).amin(1).square()
        chosen.append(int(torch.multinomial(away.clamp(min=1e-12), 1, generator=generator)))
    return torch.nn.functional.one_hot(torch.cdist(x, x[chosen]).argmin(1), count).double()


def _maximised(
    z: Tensor, rest: Tensor, x: Tensor, belongs: Tensor, common: Tensor, penalty: float, *, every: int
) -> Regimes:
    """Regimes for how much each day belongs to each; `rest` is what the regression for all days leaves over."""
    ridge = torch.full((z.shape[1],), penalty, dtype=z.dtype)
    ridge[-1] = penalty / 100.0
    departures = []
    for share in belongs.T if belongs.shape[1] > 1 else []:
        weighted = z * share[:, None]
        departures.append(torch.linalg.solve(weighted.T @ z + torch.diag(ridge), weighted.T @ rest[:, ::every]))
    weights = (
        torch.stack([common[:, ::every] + each for each in departures]) if departures else common[None, :, ::every]
    )
    total = belongs.sum(0).clamp(min=1e-6)
    centres = belongs.T @ x / total[:, None]
    squares = belongs.T @ x.square() / total[:, None] - centres.square()
    return Regimes(total / total.sum(), centres, squares.clamp(min=0.05), weights)
