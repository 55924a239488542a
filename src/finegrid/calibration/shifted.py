"""Conformal intervals for cases that look otherwise than those of calibration: weights make up for the difference.

    w(f) = chance of features f among the cases to come / chance among those of calibration
    Q    = weighted quantile of the scores, with the largest weight kept for the next case

The ratio is that of a logistic regression that tells the two apart by predicted value and spread (and their squares),
from predictions alone: no truth of the cases to come is needed. It is cut off at its 99th percentile; where few cases
carry most of the weight, intervals grow, since fewer cases count.

Source: Tibshirani, Barber, Candès and Ramdas, "Conformal prediction under covariate shift", NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import xarray as xr
from sklearn.linear_model import LogisticRegression

from finegrid.calibration.base import Evidence, Learnt, Notes
from finegrid.calibration.cases import Cases, cases, standard
from finegrid.calibration.conformal import Split
from finegrid.calibration.kernel import Array, Pool
from finegrid.conventions import InputError

_MOST, _CUT = 20_000, 0.99


@dataclass(kw_only=True)
class Shifted(Split):
    """Weights for the cases to come, told by `adapt`; until then all weigh the same."""

    seed: int = 0

    name: ClassVar[str] = "shifted"
    guarantee: ClassVar[str] = (
        "marginal for the cases that it was adapted to, where their predictions differ from those of calibration and "
        "the truth given a prediction does not; as good as the ratio of chances is known"
    )

    adapts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.groups:
            raise InputError("got groups for the calibrator 'shifted'; expected none, since weights take their place")

    def adapt(self, ensemble: xr.Dataset) -> Self:
        """Weigh the calibration cases so that they look like these predictions (member, time, y, x)."""
        given = standard(ensemble, "the predictions")
        for name in self.variables:
            if name in given:
                parts = [_features(some).reshape(-1, 2) for some in cases(given, None, name)]
                learnt = self._learnt[name]
                weights = _ratio(learnt["features"], self._some(np.concatenate(parts)))
                pool = Pool.of(learnt["of_case"], weights=weights)
                self._learnt[name] = {**learnt, **pool.arrays(), "weights": weights}
        return self

    @property
    def effective(self) -> dict[str, float]:
        """How many equally weighted calibration cases its weights are worth, by variable."""
        found = {}
        for name in self.variables:
            weights = self._learnt[name].get("weights", np.ones(len(self._learnt[name]["of_case"])))
            found[name] = float(weights.sum() ** 2 / (weights**2).sum())
        return found

    def _evidence(self, some: Cases) -> Evidence:
        return {**super()._evidence(some), "features": np.moveaxis(_features(some), -1, 0)}

    def _learn(self, notes: Notes) -> Learnt:
        error, features = notes.evidence["error"], np.moveaxis(notes.evidence["features"], 0, -1)
        known = np.isfinite(error)
        both = self._some(np.column_stack([error[known], features[known]]))
        return {**self._kept(both[:, 0], _flat(notes, len(both))), "of_case": both[:, 0], "features": both[:, 1:]}

    def _some(self, rows: Array) -> Array:
        kept = rows[np.isfinite(rows).all(axis=1)]
        return kept[np.random.default_rng(self.seed).permutation(len(kept))[:_MOST]]


def _flat(notes: Notes, count: int) -> Notes:
    return Notes({}, np.zeros(count, np.int64), notes.groups, notes.time, notes.members, notes.limits)


def _features(some: Cases) -> Array:
    return np.stack([some.mean, some.deviation], axis=-1)


def _ratio(own: Array, other: Array) -> Array:
    """How much likelier each of the own cases is among the others (case,)."""
    both = np.concatenate([own, other])
    standardised = (both - both.mean(0)) / np.maximum(both.std(0), 1e-9)
    rows = np.column_stack([standardised, standardised**2, standardised.prod(axis=1)])
    is_other = np.arange(len(rows)) >= len(own)
    model = LogisticRegression(max_iter=1000).fit(rows, is_other)
    ratio = np.exp(model.decision_function(rows[: len(own)])) * len(own) / len(other)
    return np.asarray(np.minimum(ratio, np.quantile(ratio, _CUT)))
