"""Do two variables reach their heights together as often as in truth?

    compound-exceedance    P(x > q_x and y > q_y in the members) / P(x > q_x and y > q_y in the truth)

q_x is the 90th percentile of the truth of x over all cells and times, and the members are held against it too, so that
the ratio sees both how high they go and whether they do so at the same place and time. Chances are shares by area; of
independent variables one in a hundred. One is best.

Source: Zscheischler et al. 2018, doi:10.1038/s41558-018-0156-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import xarray as xr

from finegrid.evaluation.metrics.base import parts_of
from finegrid.evaluation.metrics.reading import loaded
from finegrid.evaluation.relations.base import Relation, RelationScore, Together, every

LEVEL = 0.9
"""Chance of the quantile of the truth that is exceeded."""
_NAME = "compound-exceedance"


def _compound(fields: Together) -> Iterator[RelationScore]:
    limits = {name: _quantile(truth) for name, truth in fields.truth.items()}
    for pair in combinations(fields.names, 2):
        predicted, observed = _chances(fields, pair, np.array([limits[name] for name in pair]))
        score = predicted / observed if observed > 0 else np.nan
        note = "" if observed > 0 else "the two are never above their 90th percentiles together in the truth"
        yield RelationScore(_NAME, pair, score, 1.0, predicted, observed, note=note)


def _chances(fields: Together, pair: tuple[str, str], limits: np.ndarray) -> tuple[float, float]:
    """How often both limits are exceeded in the members and in the truth."""
    sums, whole = np.zeros(2), 0.0
    for cases in fields.blocks(*pair):
        members = (cases.prediction > limits.reshape(-1, 1, 1, 1, 1)).all(axis=0).mean(axis=0)
        truth = (cases.truth > limits.reshape(-1, 1, 1, 1)).all(axis=0)
        sums += [(members * cases.weights).sum(), (truth * cases.weights).sum()]
        whole += float(cases.weights.sum())
    predicted, observed = (sums / whole if whole > 0 else sums * np.nan).tolist()
    return predicted, observed


def _quantile(truth: xr.DataArray) -> float:
    step, times = every(truth.size), truth.sizes["time"]
    read = (loaded(truth, part) for part in parts_of(times, truth.size // max(1, times)))
    values = np.concatenate([block[np.isfinite(block)][::step] for block in read])
    return float(np.quantile(values, LEVEL)) if values.size else np.nan


COMPOUND_EXCEEDANCE = Relation(_NAME, "exceeded together, over truth", _compound)
