"""A factor for the spread that depends on the weather: in some of it an ensemble is too sure, in some not enough.

    x_m' = mean + s(f) (x_m - mean),      log s(f)^2 = w . tanh(A f + b) + c

f are what is known before the truth is: the predicted value and spread, their means over the domain, the season, the
hour and the place. A and b are random and stay as they are; w and c are such that normal distributions are likeliest,

    minimise  < (y - mean)^2 / (s^2 v) + log s^2 > + alpha |w|^2,      v = (M + 1) / M sigma^2

a convex problem (gamma regression). s stays between two limits.

Source: Qiu et al., "Not all semantics are created equal: contrastive self-supervised learning with automatic
temperature individualization", ICML 2023, and the temperature network that follows it. Departures: the temperature is
the spread, one layer of the network is random, and the likelihood takes the place of the contrastive loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.linear_model import GammaRegressor

from finegrid.calibration.base import Calibrator, Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases
from finegrid.calibration.kernel import Array, Places
from finegrid.calibration.members import quantiles
from finegrid.calibration.spread import ratios, squares
from finegrid.data.predictors import cycles

_LEAST, _MOST = 1e-6, 200_000


@dataclass(kw_only=True)
class SpreadByInput(Calibrator):
    """A small network for the factor.

    Args:
        width: of its random layer.
        alpha: what weights cost.
        least: smallest factor.
        most: largest factor.
        seed: of the random layer, and of the cases where there are too many.
    """

    width: int = 64
    alpha: float = 1e-3
    least: float = 0.1
    most: float = 10.0
    seed: int = 0

    name: ClassVar[str] = "spread-by-input"
    guarantee: ClassVar[str] = "none: right on the average of cases that look alike"
    least_members: ClassVar[int] = 2

    def _evidence(self, some: Cases) -> Evidence:
        return {"features": _features(some), **squares(some)}

    def _learn(self, notes: Notes) -> Learnt:
        ratio = ratios(notes)
        kept = (notes.places >= 0) & np.isfinite(ratio)
        features, ratio = notes.evidence["features"][:, kept].T, ratio[kept]
        chance = np.random.default_rng(self.seed)
        some = chance.permutation(len(ratio))[:_MOST]
        features, ratio = features[some], ratio[some]
        centre, size = features.mean(0), np.maximum(features.std(0), 1e-9)
        turn = chance.standard_normal((features.shape[1], self.width))
        shift = chance.uniform(-2, 2, self.width)
        hidden = np.tanh((features - centre) / size @ turn + shift)
        model = GammaRegressor(alpha=self.alpha, max_iter=1000).fit(hidden, np.maximum(ratio, _LEAST))
        numbers = np.append(model.coef_, model.intercept_)
        return {"centre": centre, "size": size, "turn": turn, "shift": shift, "numbers": numbers}

    def factor(self, some: Cases, learnt: Learnt) -> Array:
        """Of each case (time, y, x)."""
        seen = (np.moveaxis(_features(some), 0, -1) - learnt["centre"]) / learnt["size"]
        hidden = np.tanh(seen @ learnt["turn"] + learnt["shift"])
        logarithm = hidden @ learnt["numbers"][:-1] + learnt["numbers"][-1]
        return np.asarray(np.exp(logarithm / 2).clip(self.least, self.most))

    def _members(self, some: Cases, learnt: Learnt, place: Places) -> Array:
        mean = some.mean
        return np.asarray(mean + self.factor(some, learnt) * (some.members - mean))

    def _quantiles(self, some: Cases, learnt: Learnt, place: Places, levels: Array) -> Array:
        return quantiles(self._members(some, learnt, place), levels)


def _features(some: Cases) -> Array:
    """What is known of each case (feature, time, y, x)."""
    mean, deviation = some.mean, some.deviation
    inner = tuple(range(1, mean.ndim))
    over = [np.broadcast_to(np.nanmean(each, axis=inner, keepdims=True), mean.shape) for each in (mean, deviation)]
    waves = cycles(some.time, ("hour", "day_of_year")).astype(np.float64).T
    of_time = [np.broadcast_to(each.reshape(-1, *[1] * (mean.ndim - 1)), mean.shape) for each in waves]
    of_place = [
        np.broadcast_to(
            np.linspace(-1, 1, size).reshape([-1 if axis == each else 1 for axis in range(mean.ndim)]), mean.shape
        )
        for each, size in enumerate(mean.shape)
        if each
    ]
    return np.stack([mean, deviation, np.sqrt(deviation), *over, *of_time, *of_place])
